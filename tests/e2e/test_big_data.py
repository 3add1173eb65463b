"""Big arrays: what calls see of them, for how long, and what is left when nobody looks any more."""

from __future__ import annotations

import gc
import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

import goliath
from benchmarks import procs
from goliath import Commander, WorkerCrashedError, remote
from goliath.actors import neighbours
from goliath.actors.tenancy import Holding
from goliath.machine import file_system_of
from goliath.testing.processes import until
from goliath.transport import arena, keepsakes
from tests.length import LONG
from tests.lieutenants import Lieutenant

MIB, GIB = 1 << 20, 1 << 30


def numbers(seed: int, size: int = MIB) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).integers(0, 256, size, dtype=np.uint8)


@pytest.fixture
def commander() -> Iterator[Commander]:
    with Commander(workers=2) as commander:
        yield commander


def holding(commander: Commander) -> Holding:
    """The arena of an embedded node."""
    embedded = commander._cluster._embedded
    assert embedded is not None
    (session,) = embedded._actor._guests.values()
    assert session.holding is not None
    return session.holding


def used(commander: Commander) -> int:
    gc.collect()
    return holding(commander)._region.used_bytes


def test_a_call_reads_an_array_where_it_is_and_cannot_write_it(commander: Commander):
    def look(array: Any) -> tuple[bool, int]:
        return array.flags.writeable, int(array.sum())

    for size in (10, MIB):
        array = numbers(1, size)
        (got,) = commander.run(look, [{"array": array}])
        assert got == (False, int(array.sum()))


def test_whoever_wants_to_write_has_a_copy(commander: Commander):
    def change(array: Any) -> Any:
        try:
            array[0] = 1
        except ValueError:
            array = array.copy()
            array[0] = 1
        return array

    array = np.zeros(MIB)
    (got,) = commander.run(change, [{"array": array}])
    assert (got[0], array[0], got.flags.writeable) == (1.0, 0.0, False)


def test_a_result_stays_as_it_is_as_long_as_somebody_looks_at_it(commander: Commander):
    def made(seed: int) -> Any:
        return np.random.default_rng(seed).integers(0, 256, 1 << 20, dtype=np.uint8)

    dice, held = random.Random(3), {}
    for turn in range(6):
        seeds = [100 * turn + n for n in range(12)]
        for seed, array in zip(
            seeds, commander.run(made, [{"seed": s} for s in seeds]), strict=True
        ):
            held[seed] = array[dice.randrange(1000) :: 7]  # a part, whose whole is dropped
        for seed in dice.sample(sorted(held), 6):
            del held[seed]
    for seed, part in held.items():
        whole = numbers(seed)
        assert any(np.array_equal(part, whole[start::7]) for start in range(1000)), seed


def test_what_an_actor_keeps_of_its_arguments_is_not_used_again():
    runtime = goliath.init(workers=1)
    assert runtime is not None
    try:
        keeper = Keeper.remote()
        for turn in range(5):
            for seed in range(10 * turn, 10 * turn + 10):
                keeper.keep.remote(seed, numbers(seed))
            for seed in range(10 * turn, 10 * turn + 6):
                keeper.drop.remote(seed)
            assert goliath.get(keeper.wrong.remote()) == []
    finally:
        goliath.shutdown()


@remote
class Keeper:
    def __init__(self) -> None:
        self.kept: dict[int, Any] = {}

    def keep(self, seed: int, array: Any) -> None:
        self.kept[seed] = array[5:]

    def drop(self, seed: int) -> None:
        del self.kept[seed]

    def wrong(self) -> list[int]:
        return [s for s, part in self.kept.items() if not np.array_equal(part, numbers(s)[5:])]


def test_what_calls_keep_of_their_arguments_is_not_used_again(commander: Commander):
    def keep(seed: int, array: Any) -> list[int]:
        import builtins

        kept = builtins.__dict__.setdefault("kept", {})
        if array is not None:
            kept[seed] = array[5:]
        if len(kept) > 8:
            del kept[min(kept)]
        whole = {
            n: np.random.default_rng(n).integers(0, 256, 1 << 20, dtype=np.uint8) for n in kept
        }
        return [n for n, part in kept.items() if not np.array_equal(part, whole[n][5:])]

    for turn in range(4):
        rows = [{"seed": 50 * turn + n, "array": numbers(50 * turn + n)} for n in range(10)]
        assert commander.run(keep, rows) == [[]] * 10
    assert used(commander) >= 8 * MIB, "they are kept"


def test_a_worker_that_is_killed_leaves_nothing_taken(commander: Commander):
    def keep_and_die(array: Any) -> None:
        import builtins

        builtins.__dict__.setdefault("kept", []).append(array)
        os.kill(os.getpid(), signal.SIGKILL)

    with pytest.raises(WorkerCrashedError):
        commander.run(keep_and_die, [{"array": numbers(1)}], max_retries=0)
    until(lambda: used(commander) == 0, 10.0, "the dead look at nothing")
    assert commander.run(np.sum, [(numbers(2),)]) == [int(numbers(2).sum())]


def test_results_outlive_the_worker_that_made_them(commander: Commander):
    def made(seed: int) -> Any:
        return os.getpid(), np.random.default_rng(seed).integers(0, 256, 1 << 20, dtype=np.uint8)

    ((pid, array),) = commander.run(made, [{"seed": 7}])
    os.kill(pid, signal.SIGKILL)
    others = commander.run(made, [{"seed": n} for n in range(20, 40)])
    assert np.array_equal(array, numbers(7))
    assert all(np.array_equal(other, numbers(n)) for n, (_, other) in enumerate(others, 20))


def test_results_outlive_their_commander():
    with Commander(workers=1) as commander:
        (array,) = commander.run(np.full, [(MIB, 3.0)])
    assert (array == 3.0).all()


def test_what_is_put_and_dropped_leaves_nothing(commander: Commander):
    commander.run(len, [("warm",)])
    value = np.ones(MIB // 8)
    for _ in range(10):
        refs = [commander.put(value) for _ in range(100)]
        assert used(commander) >= 100 * MIB
        del refs
    assert used(commander) == 0


def test_what_was_put_is_there_once_however_many_calls_take_it(commander: Commander):
    ref = commander.put(np.ones(MIB))  # before there is a node: it moves when it is needed
    assert [r.result() for r in [commander.submit(np.sum, ref) for _ in range(20)]] == [MIB] * 20
    until(lambda: 8 * MIB <= used(commander) < 9 * MIB, 10.0, "one of it is there")
    del ref
    until(lambda: used(commander) == 0, 10.0, "nobody has it any more")


def test_static_arrays_are_there_once(commander: Commander):
    def scaled(factor: int, table: Any) -> float:
        return float(factor * table.sum())

    table = np.ones(MIB)
    rows = [{"factor": n} for n in range(20)]
    want = [float(n * MIB) for n in range(20)]
    assert commander.run(scaled, rows, static={"table": table}) == want
    assert used(commander) < 2 * table.nbytes


def made(seed: int) -> Any:
    return numbers(seed)


@pytest.fixture
def neighbour(node: Lieutenant) -> Iterator[Commander]:
    """A Commander with a Lieutenant that is another process of this machine."""
    with Commander([node.address]) as commander:
        commander.run(len, [("warm",)])
        until(lambda: len(arena._regions) == 1, 10.0, "the arena is shared")
        yield commander


def test_on_one_machine_no_array_goes_through_the_session(neighbour: Commander, node: Lieutenant):
    before = procs.passed_bytes(node.port)
    arrays = [numbers(n, 4 * MIB) for n in range(10)]
    back = neighbour.run(np.sort, [(array,) for array in arrays])
    assert all(np.array_equal(np.sort(a), b) for a, b in zip(arrays, back, strict=True))
    assert neighbour.submit(made, 3).result().sum() == numbers(3).sum(), "nor what a node keeps"
    assert procs.passed_bytes(node.port) - before < MIB
    del back
    until(lambda: arena._regions[0].used_bytes == 0, 10.0, "and nothing is left of them")


def test_on_one_machine_nothing_is_remembered(neighbour: Commander):
    neighbour.submit(first_of, numbers(1, 4 * MIB)).result()
    assert not keepsakes.recollection.is_warm


@pytest.mark.skipif(not LONG, reason="it takes 9 GiB, and some of the memory's time")
@pytest.mark.timeout(300)
def test_on_one_machine_an_argument_may_have_four_gibibytes(neighbour: Commander, node: Lieutenant):
    if psutil.virtual_memory().available < 12 * GIB:
        pytest.skip("there are not 12 GiB of memory left")
    size = 4 * GIB + 5  # no number of four bytes says how many
    array = np.zeros(size, dtype=np.uint8)
    array[-1] = 7

    def look(array: Any) -> tuple[int, bool, int, int]:
        return array.nbytes, array.flags.writeable, int(array[-1]), int(array[:: 1 << 20].sum())

    before = procs.passed_bytes(node.port)
    assert neighbour.run(look, [{"array": array}]) == [(size, False, 7, 0)]
    assert procs.passed_bytes(node.port) - before < MIB
    until(lambda: arena._regions[0].used_bytes == 0, 10.0, "nothing is left of it")


def test_on_one_machine_a_result_outlives_its_node(neighbour: Commander, node: Lieutenant):
    dice, held = random.Random(5), {}
    for turn in range(4):
        seeds = [10 * turn + n for n in range(10)]
        held |= dict(zip(seeds, neighbour.run(made, [{"seed": s} for s in seeds]), strict=True))
        for seed in dice.sample(sorted(held), 5):
            del held[seed]
    node.kill()
    until(lambda: not arena._regions, 10.0, "the session is over")
    assert all(np.array_equal(array, numbers(seed)) for seed, array in held.items())


def test_two_nodes_of_one_machine_have_an_arena_each(lieutenant: Callable[..., Lieutenant]):
    nodes = [lieutenant(1), lieutenant(1)]
    with Commander([node.address for node in nodes]) as commander:
        commander.run(len, [("warm",)] * 4)
        until(lambda: len(arena._regions) == 2, 10.0, "both are shared")
        before = procs.passed_bytes(*(node.port for node in nodes))
        arrays = [numbers(n, 4 * MIB) for n in range(12)]
        got = commander.run(np.sum, [(array,) for array in arrays])
        assert got == [array.sum() for array in arrays]
        assert procs.passed_bytes(*(node.port for node in nodes)) - before < MIB
    assert arena._regions == []


def test_a_node_that_shares_nothing_is_sent_all(lieutenant: Callable[..., Lieutenant]):
    node = lieutenant(1, env={"GOLIATH_ARENA_BYTES": "0"})
    with Commander([node.address]) as commander:
        arrays = [numbers(n, 4 * MIB) for n in range(4)]
        back = commander.run(np.flip, [(array,) for array in arrays])
        assert all(np.array_equal(a[::-1], b) for a, b in zip(arrays, back, strict=True))
        ref = commander.put(arrays[0])
        assert commander.submit(np.sum, ref).result() == arrays[0].sum()
    assert arena._regions == []


def first_of(array: Any, n: int = 0) -> tuple[int, int]:
    return n, int(array[n])


@pytest.fixture
def apart(lieutenant: Callable[..., Lieutenant], monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A Commander and its node, which might be on two machines: they share nothing."""
    monkeypatch.setattr(neighbours, "boot_id", lambda: "")
    node = lieutenant(2)
    with Commander([node.address]) as commander:
        commander.run(len, [("warm",)] * 4)

        def passed(work: Callable[[], Any]) -> int:
            before = procs.passed_bytes(node.port)
            work()
            return procs.passed_bytes(node.port) - before

        yield commander, passed


def test_equal_arguments_are_sent_to_a_node_once(apart: Any):
    commander, passed = apart
    array = numbers(1, 4 * MIB)
    want = [(n, int(array[n])) for n in range(32)]
    rows = [{"array": array, "n": n} for n in range(32)]

    def run() -> None:
        assert commander.run(first_of, rows) == want

    def submit() -> None:
        refs = [commander.submit(first_of, array.copy(), n) for n in range(32)]
        assert [ref.result() for ref in refs] == want

    assert 4 * MIB <= passed(run) < 5 * MIB
    assert passed(run) < MIB
    assert passed(submit) < MIB, "equal ones are not the same object"


def test_an_argument_that_was_written_between_two_calls_is_another_one(apart: Any):
    commander, passed = apart
    array = numbers(1, 4 * MIB)

    def call(value: int) -> Callable[[], None]:
        def work() -> None:
            array[7] = value
            assert commander.submit(first_of, array, 7).result() == (7, value)

        return work

    assert passed(call(5)) > 4 * MIB
    assert passed(call(6)) > 4 * MIB
    assert passed(call(5)) < MIB, "as it was before"


def test_a_value_that_was_put_is_sent_to_a_node_once(apart: Any):
    commander, passed = apart
    ref, other = commander.put(numbers(1, 4 * MIB)), commander.put(7)

    def work() -> None:
        for _ in range(8):
            assert commander.submit(first_of, ref, other).result()[0] == 7

    assert 4 * MIB <= passed(work) < 5 * MIB
    assert passed(work) < MIB


def test_actors_are_sent_equal_arguments_once(apart: Any):
    commander, passed = apart
    goliath.init(commander.nodes()[0].address)
    try:
        keeper, array = Keeper.remote(), numbers(7, 4 * MIB)

        def keep() -> None:
            goliath.get([keeper.keep.remote(n, array) for n in range(8)])

        assert 4 * MIB <= passed(keep) < 5 * MIB
    finally:
        goliath.shutdown()


def test_the_workers_of_a_node_look_at_one_copy_of_what_all_calls_take(apart: Any):
    commander, _ = apart

    def look(array: Any) -> tuple[int, bool, int]:
        time.sleep(0.05)
        block: Any = array
        while not hasattr(block, "arena"):
            block = block.obj if isinstance(block, memoryview) else block.base
        return os.getpid(), array.flags.writeable, block.offset

    looks = commander.run(look, [{"array": numbers(1, 4 * MIB)}] * 16)
    assert len({pid for pid, _, _ in looks}) == 2
    assert len({place for _, _, place in looks}) == 1
    assert not any(writeable for _, writeable, _ in looks)


def test_a_call_that_is_made_again_on_another_node_takes_along_what_the_first_one_had(
    lieutenant: Callable[..., Lieutenant], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(neighbours, "boot_id", lambda: "")
    nodes = [lieutenant(1), lieutenant(1)]
    array = numbers(1, 4 * MIB)

    def look(array: Any) -> int:
        time.sleep(0.3)
        return int(array.sum())

    with Commander([node.address for node in nodes]) as commander:
        commander.run(len, [("warm",)] * 4)
        refs = [commander.submit(look, array) for _ in range(8)]
        refs[0].result()
        nodes[0].kill()
        assert {ref.result() for ref in refs} == {int(array.sum())}


def test_a_node_forgets_what_no_call_has_taken_for_a_while(
    apart: Any, monkeypatch: pytest.MonkeyPatch
):
    commander, passed = apart
    array = numbers(1, 4 * MIB)

    def call() -> None:
        commander.submit(first_of, array).result()

    assert passed(call) > 4 * MIB
    assert passed(call) < MIB
    later = time.monotonic() + keepsakes.IDLE_S
    monkeypatch.setattr(keepsakes.recollection, "_clock", lambda: later + 1)
    keepsakes.recollection.cool()
    gc.collect()
    assert not keepsakes.recollection.is_warm
    assert passed(call) > 4 * MIB, "it is a new one"


WITHOUT_MEMFDS = """
import os, sys

def refused(*_):
    raise PermissionError(1, "Operation not permitted")

os.memfd_create = refused
from goliath.lieutenant import main
sys.exit(main(sys.argv[1:]))
"""


def test_a_commander_that_was_closed_remembers_nothing_of_its_calls(apart: Any):
    commander, _ = apart
    commander.submit(first_of, numbers(1, 4 * MIB)).result()
    assert keepsakes.recollection.is_warm
    commander.close()
    assert not keepsakes.recollection.is_warm
    assert not keepsakes.recollection.wants(4 * MIB)


def test_where_memfds_are_forbidden_calls_look_at_their_arguments_in_a_file(
    lieutenant: Callable[..., Lieutenant],
):
    kind = file_system_of(Path(os.environ["XDG_RUNTIME_DIR"]))
    if kind not in ("tmpfs", "ext4", "xfs"):
        pytest.skip(f"what is set aside may not be there on {kind or 'this file system'}")

    def look(array: Any, n: int) -> Any:
        refused = 0
        for name in os.listdir("/proc/self/fd"):
            path = f"/proc/self/fd/{name}"
            if os.path.exists(path) and "goliath-arena" in os.readlink(path):
                try:
                    os.ftruncate(int(name), 0)
                except OSError:
                    refused += 1
        return is_mapped(array.ctypes.data), array.flags.writeable, refused, array[n:].copy()

    node = lieutenant(2, launcher=("-c", WITHOUT_MEMFDS))
    with Commander([node.address]) as commander:
        array = numbers(1, 4 * MIB)
        for n, (mapped, writeable, refused, rest) in enumerate(
            commander.run(look, [{"array": array, "n": n} for n in range(20)])
        ):
            assert (mapped, writeable, refused) == (True, False, 1)
            assert np.array_equal(rest, array[n:])
        assert arena._regions == [], "the Commander has no part in it"


@pytest.mark.parametrize("limit", ["0", str(4 * MIB)])
def test_without_room_in_shared_memory_all_goes_another_way(
    limit: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("GOLIATH_ARENA_BYTES", limit)
    with Commander(workers=2) as commander:
        arrays = [numbers(n, 2 * MIB) for n in range(8)]
        back = commander.run(np.flip, [(array,) for array in arrays])
        for array, got in zip(arrays, back, strict=True):
            assert np.array_equal(got[::-1], array)
            assert not got.flags.writeable
        ref = commander.put(arrays[0])
        assert commander.submit(np.sum, ref).result() == arrays[0].sum()


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_bytes_and_views_arrive_as_what_they_are(commander: Commander, kind: Any):
    def turned(data: Any) -> Any:
        return type(data).__name__, data[::-1] if type(data) is not memoryview else data[
            ::-1
        ].tobytes()

    data = numbers(5, 3 * MIB).tobytes()
    assert commander.run(turned, [{"data": kind(data)}]) == [(kind.__name__, data[::-1])]


def is_mapped(address: int) -> bool:
    """Whether there is an arena in this process at that address."""
    with open("/proc/self/maps") as maps:
        ranges = [line.split()[0].split("-") for line in maps if "goliath-arena" in line]
    return any(int(start, 16) <= address < int(end, 16) for start, end in ranges)


def looks_at_frame(frame: Any) -> tuple[bool, bool, str]:
    """Whether two columns, one of numbers and one of texts, are in an arena; and what becomes of
    who writes there."""
    numbers, texts = frame["a"].to_numpy(), frame["c"].array.__arrow_array__()
    if hasattr(texts, "chunk"):
        texts = texts.chunk(0)
    try:
        frame.loc[0, "a"] = 7
        refused = ""
    except ValueError as exc:
        refused = str(exc)
    return is_mapped(numbers.ctypes.data), is_mapped(texts.buffers()[2].address), refused


READ_IN_PLACE = (True, True, "assignment destination is read-only")


def test_data_frames_are_looked_at_where_they_are_in_both_directions(commander: Commander):
    import pandas

    def look(frame: Any) -> Any:
        return looks_at_frame(frame), frame.assign(b=frame.a / 3)

    frame = pandas.DataFrame({"a": np.arange(200_000), "c": [f"text {n}" for n in range(200_000)]})
    ((there, back),) = commander.run(look, [{"frame": frame}])
    assert there == READ_IN_PLACE
    pandas.testing.assert_frame_equal(back, frame.assign(b=frame.a / 3))
    assert looks_at_frame(back) == READ_IN_PLACE
    own = back.copy()
    own.loc[0, "a"] = 7
    assert (own.a[0], back.a[0], frame.a[0]) == (7, 0, 0)


def looks_at_table(table: Any) -> list[tuple[bool, bool]]:
    """Of each buffer of a table, whether it is in an arena, and whether it may be written."""
    buffers = [b for column in table.columns for b in column.chunk(0).buffers() if b is not None]
    return [(is_mapped(buffer.address), buffer.is_mutable) for buffer in buffers]


def test_arrow_tables_are_looked_at_where_they_are_in_both_directions(commander: Commander):
    import pyarrow

    def look(table: Any) -> Any:
        return looks_at_table(table), table.append_column("twice", table["a"])

    table = pyarrow.table(
        {"a": np.arange(200_000), "c": [f"text {n}" for n in range(200_000)]},
    )
    ((there, back),) = commander.run(look, [{"table": table}])
    assert there == [(True, False)] * 3
    assert back.equals(table.append_column("twice", table["a"]))
    assert looks_at_table(back) == [(True, False)] * 4


@pytest.fixture(scope="module")
def polars(private_home: Path) -> Any:
    """Its threads keep descriptors for as long as the process lives: they begin before the test."""
    import polars

    polars.DataFrame({"a": [1]}).with_columns(b=1)
    return polars


def test_polars_frames_go_and_come_back(commander: Commander, polars: Any):
    def change(frame: Any) -> Any:
        return frame.with_columns(b=frame["a"] / 3)  # they never change in place

    frame = polars.DataFrame(
        {"a": np.arange(200_000), "c": [f"text {n}" for n in range(200_000)]},
    )
    (got,) = commander.run(change, [{"frame": frame}])
    assert got.equals(frame.with_columns(b=frame["a"] / 3))


def test_frames_and_tables_go_to_another_process_of_the_machine(
    lieutenant: Callable[..., Lieutenant], polars: Any
):
    import pandas
    import pyarrow

    def back(*values: Any) -> Any:
        return values

    columns = {"a": np.arange(500_000), "b": np.arange(500_000) / 3}
    frame, table = pandas.DataFrame(columns), pyarrow.table(columns)
    other = polars.DataFrame(columns)
    node = lieutenant(1)
    with Commander([node.address]) as commander:
        commander.run(len, [("warm",)])
        until(lambda: len(arena._regions) == 1, 10.0, "the arena is shared")
        before = procs.passed_bytes(node.port)
        ((got, same, equal),) = commander.run(back, [(frame, table, other)])
        pandas.testing.assert_frame_equal(got, frame)
        assert same.equals(table)
        assert equal.equals(other)
        assert procs.passed_bytes(node.port) - before < MIB


@remote
def total(array: Any) -> int:
    return int(array.sum())


def test_coroutines_take_arrays_too(commander: Commander):
    async def waiting(array: Any) -> int:
        import asyncio

        await asyncio.sleep(0)
        return int(array.sum())

    array = numbers(9)
    assert commander.run(waiting, [{"array": array}] * 5) == [int(array.sum())] * 5


def test_calls_of_calls_take_arrays_too():
    @remote
    def outer(array: Any) -> tuple[int, int]:
        ref = goliath.put(array)
        return goliath.get(total.remote(array)), goliath.get(total.remote(ref))

    goliath.init(workers=2)
    try:
        array = numbers(9)
        assert goliath.get(outer.remote(array)) == (array.sum(), array.sum())
    finally:
        goliath.shutdown()


def test_a_call_that_is_cancelled_while_it_returns_arrays_leaves_no_half_written_books():
    goliath.init(workers=1)
    try:
        for delay in range(6):
            ref = endless.remote()
            until(ref.sent, 10.0, "it runs")
            ref.cancel()
            with pytest.raises(goliath.TaskCancelledError):
                goliath.get(ref)
            assert goliath.get(total.remote(numbers(delay))) == numbers(delay).sum()
            assert (goliath.get(filled.remote()) == 5).all()
    finally:
        goliath.shutdown()


@remote
def filled() -> Any:
    return np.full(MIB, 5.0)


@remote
def endless() -> None:
    from goliath.transport.arena import room_for

    while True:
        room_for(100_000)


def test_what_comes_from_another_machine_is_read_where_it_was_put(
    monkeypatch: pytest.MonkeyPatch, lieutenant: Callable[..., Lieutenant]
):
    monkeypatch.setattr(neighbours, "boot_id", lambda: "")  # it is on none that could be this one

    def look(array: Any) -> tuple[int, bool, Any]:
        return int(array.sum()), array.flags.aligned and not array.flags.writeable, array

    node, kept = lieutenant(1), []
    arrays = [numbers(seed, 20 * MIB).view("u4") for seed in range(4)]
    with Commander([node.address]) as far:
        for array in arrays:  # into memory that is cold, and into what the ones before have left
            total, as_it_should_be, back = far.submit(look, array).result()
            assert (total, as_it_should_be) == (int(array.sum()), True)
            assert back.flags.aligned
            assert not back.flags.writeable
            kept.append(back)
    assert all(map(np.array_equal, kept, arrays))


def test_calls_that_take_more_than_a_window_of_bytes_run_beside_each_other(tmp_path: Path):
    def meet(_: Any, own: str, other: str) -> bool:
        import time
        from pathlib import Path

        Path(own).touch()
        until = time.monotonic() + 30
        while not Path(other).exists():
            if time.monotonic() > until:
                return False
            time.sleep(0.005)
        return True

    a, b = str(tmp_path / "a"), str(tmp_path / "b")
    with Commander(workers=2) as commander:
        big = commander.put(np.zeros(80 * MIB, dtype="u1"))
        refs = [commander.submit(meet, big, a, b), commander.submit(meet, big, b, a)]
        assert [ref.result() for ref in refs] == [True, True]
