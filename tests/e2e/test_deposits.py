"""Big results stay on the node where they were made, move when they are needed, and are not lost
while their node lives."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

import goliath
from benchmarks import procs
from goliath import Commander, Executor, GetTimeoutError, ObjectLostError
from goliath.testing.processes import kill, until
from goliath.transport import arena
from goliath.transport.keepsakes import IDLE_S
from tests.lieutenants import Lieutenant

KIB, MIB = 1 << 10, 1 << 20
SIZE = 200 * KIB


SENT = {"GOLIATH_ARENA_BYTES": "0"}
"""In the environment of a node that shares no memory, as if it were on another machine: what it is
asked for can be counted on its way."""


@pytest.fixture(scope="module")
def node(private_home: Path) -> Iterator[Lieutenant]:
    with Lieutenant(2, env=SENT) as shared:
        yield shared


@pytest.fixture
def cluster(node: Lieutenant) -> Iterator[Commander]:
    commander = goliath.init(node.address)
    assert commander is not None
    yield commander
    goliath.shutdown()


@pytest.fixture
def pair(lieutenant: Callable[..., Lieutenant]) -> Iterator[tuple[Lieutenant, Lieutenant]]:
    """Two nodes of one worker each, and the runtime connected to both."""
    nodes = lieutenant(1), lieutenant(1)
    goliath.init([node.address for node in nodes])
    until(lambda: len(names(nodes)) == 2, within=30)
    yield nodes
    goliath.shutdown()


def names(nodes: tuple[Lieutenant, ...]) -> list[str]:
    """What the runtime calls these nodes."""
    alive = [known for known in goliath.nodes() if known.alive]
    return [
        known.node_id
        for node in nodes
        for known in alive
        if known.address == f"{node.host}:{node.port}"
    ]


def on(function: Any, node: str, **options: Any) -> Any:
    """The function, on that node only."""
    strategy = goliath.NodeAffinitySchedulingStrategy(node)
    return function.options(scheduling_strategy=strategy, **options)


def passed_bytes(*nodes: Lieutenant) -> int:
    """What this process's connections to the nodes have carried, both ways."""
    return procs.passed_bytes(*[node.port for node in nodes])


@goliath.remote
def block(size: int = SIZE, fill: int = 0) -> bytes:
    return bytes([fill]) * size


@goliath.remote
def step(value: bytes) -> bytes:
    return value[1:] + value[:1]


@goliath.remote
def length(*values: Any) -> int:
    return sum(map(len, values))


@goliath.remote
def place(_value: Any = None) -> str:
    node = goliath.get_runtime_context().node_id
    assert node is not None
    return node


@pytest.mark.usefixtures("cluster")
def test_a_chain_of_calls_does_not_carry_its_values_through_the_commander(node: Lieutenant):
    goliath.get(length.remote(block.remote()))
    before = passed_bytes(node)
    ref = block.remote()
    for _ in range(100):
        ref = step.remote(ref)
    goliath.wait([ref])
    assert passed_bytes(node) - before < 100 * 4 * KIB
    assert goliath.get(ref) == bytes(SIZE)


@pytest.mark.usefixtures("cluster")
@pytest.mark.parametrize("value", ["x" * SIZE, b"x" * SIZE, ["x" * SIZE, 1], {"k": bytes(SIZE)}])
def test_a_value_is_fetched_once_and_then_kept_with_its_ref(value: Any, node: Lieutenant):
    ref = goliath.remote(lambda: value).remote()
    goliath.wait([ref])
    before = passed_bytes(node)
    first = goliath.get(ref)
    assert SIZE < passed_bytes(node) - before < 2 * SIZE
    assert first == value
    assert ref.result() is first
    assert passed_bytes(node) - before < 2 * SIZE


@pytest.mark.usefixtures("cluster")
def test_everything_that_asks_for_a_value_gets_it():
    async def gathered() -> list[bytes]:
        return await asyncio.gather(*[block.remote(SIZE, n) for n in range(4)])

    wanted = [bytes([n]) * SIZE for n in range(4)]
    assert asyncio.run(gathered()) == wanted
    refs = [block.remote(SIZE, n) for n in range(4)]
    assert goliath.get(refs) == wanted
    assert goliath.get([block.remote(SIZE, n) for n in range(4)], timeout=30) == wanted
    assert [block.remote(SIZE, n).future().result(30) for n in range(4)] == wanted
    assert {goliath.get(ref) for ref in goliath.as_completed(refs)} == set(wanted)
    assert goliath.get(block.starmap([(SIZE, n) for n in range(4)])) == wanted
    one, two = block.options(num_returns=2).remote(2), goliath.remote(lambda: (bytes(SIZE), 1))
    assert goliath.get(one) == [0, 0]
    first, second = two.options(num_returns=2).remote()
    assert goliath.get([length.remote(first), second]) == [SIZE, 1]
    assert goliath.get(length.remote(refs[0], refs[0], b"four", *refs[2:])) == 4 * SIZE + 4


def test_an_executor_gives_values_and_has_them_after_it_was_shut_down(cluster: Commander):
    with Executor(cluster) as executor:
        futures = [executor.submit(bytes, SIZE) for _ in range(8)]
    assert [future.result(0) for future in futures] == [bytes(SIZE)] * 8


@pytest.mark.usefixtures("cluster")
def test_one_object_that_is_passed_twice_is_one_object():
    same = goliath.remote(lambda a, b: a is b)
    values = goliath.remote(lambda: ["x" * SIZE]).remote()
    assert goliath.get(same.remote(values, b=values))


@pytest.mark.usefixtures("cluster")
def test_a_call_on_the_node_gets_a_result_without_the_commander(node: Lieutenant):
    @goliath.remote
    def outer() -> int:
        ref = block.remote()
        return len(goliath.get(ref)) + goliath.get(length.remote(ref))

    goliath.get(outer.remote())
    before = passed_bytes(node)
    assert goliath.get(outer.remote()) == 2 * SIZE
    assert passed_bytes(node) - before < 16 * KIB


@pytest.mark.usefixtures("cluster")
def test_refs_in_a_big_value_are_good_wherever_it_is_read():
    @goliath.remote
    def holder() -> Any:
        return [bytes(SIZE), goliath.put("inside"), block.remote(SIZE)]

    @goliath.remote
    def look(value: Any) -> tuple[str, int]:
        return goliath.get(value[1]), len(goliath.get(value[2]))

    ref = holder.remote()
    assert goliath.get(look.remote(ref)) == ("inside", SIZE)
    _, inside, big = goliath.get(ref)
    assert (goliath.get(inside), len(goliath.get(big))) == ("inside", SIZE)


def test_a_dependent_call_runs_where_its_biggest_argument_is(
    pair: tuple[Lieutenant, Lieutenant],
):
    here, there = names(pair)
    big, small = on(block, there).remote(2 * SIZE), on(block, here).remote(SIZE)
    goliath.wait([big, small], num_returns=2)
    assert {goliath.get(place.remote(big)) for _ in range(10)} == {there}
    assert {goliath.get(place.remote(small)) for _ in range(10)} == {here}
    both = goliath.remote(lambda *_: goliath.get_runtime_context().node_id)
    assert {goliath.get(both.remote(small, big)) for _ in range(10)} == {there}


def test_a_value_moves_to_the_node_that_needs_it(pair: tuple[Lieutenant, Lieutenant]):
    here, there = names(pair)
    ref = on(block, here).remote(SIZE, 7)
    assert goliath.get(on(step, there).remote(ref)) == b"\7" * SIZE
    assert goliath.get(on(length, there).remote(ref, ref, b"12")) == 2 * SIZE + 2


def test_calls_that_all_need_one_value_are_still_spread_over_the_nodes(
    pair: tuple[Lieutenant, Lieutenant],
):
    @goliath.remote
    def slow(_value: bytes) -> str | None:
        time.sleep(0.1)
        return goliath.get_runtime_context().node_id

    ref = on(block, names(pair)[0]).remote()
    goliath.wait([ref])
    assert set(goliath.get([slow.remote(ref) for _ in range(10)])) == set(names(pair))


def test_calls_of_an_actor_keep_their_order_though_a_value_comes_from_afar(
    pair: tuple[Lieutenant, Lieutenant],
):
    @goliath.remote
    class Diary:
        def __init__(self, first: bytes) -> None:
            self.lengths = [len(first)]

        def note(self, value: bytes) -> bytes:
            self.lengths.append(len(value))
            return value

        def read(self) -> list[int]:
            return self.lengths

    nodes = names(pair)
    refs = [on(block, nodes[n % 2]).remote(SIZE + n) for n in range(8)]
    diary = Diary.remote(refs[0])
    for n, ref in enumerate(refs):
        diary.note.remote(ref)
        diary.note.remote(bytes(n))
    lengths = [SIZE, *(size for n in range(8) for size in (SIZE + n, n))]
    assert goliath.get(diary.read.remote()) == lengths
    assert goliath.get(length.remote(diary.note.remote(refs[1]))) == SIZE + 1


def test_what_was_kept_on_a_node_that_is_killed_is_lost_and_the_error_says_so(
    pair: tuple[Lieutenant, Lieutenant],
):
    here, there = names(pair)
    fetched, lost = on(block, here).remote(), on(block, here).remote()
    goliath.wait([fetched, lost], num_returns=2)
    assert goliath.get(fetched) == bytes(SIZE)
    pair[0].destroy()
    until(lambda: names(pair) == [there], within=20)
    with pytest.raises(ObjectLostError, match=rf"block, call \d+: .* kept on {here} and not fetch"):
        goliath.get(lost)
    with pytest.raises(ObjectLostError, match="kept on"):
        goliath.get(length.remote(lost))
    assert goliath.get(length.remote(fetched)) == SIZE


def test_a_call_that_waits_for_a_value_of_a_node_that_is_killed_fails_with_it(
    pair: tuple[Lieutenant, Lieutenant],
):
    here, there = names(pair)
    ref = on(block, here).remote()
    goliath.wait([ref])
    pair[0].freeze()
    waiting = on(length, there).remote(ref)
    with pytest.raises(GetTimeoutError, match="had not come from"):
        goliath.get(ref, timeout=0.2)
    assert goliath.wait([waiting], timeout=0.2)[0] == []
    pair[0].destroy()
    with pytest.raises(ObjectLostError, match="lost with the node that kept it"):
        goliath.get(waiting, timeout=30)
    with pytest.raises(ObjectLostError, match="kept on"):
        goliath.get(ref, timeout=30)
    assert goliath.get(on(length, there).remote(b"fine")) == 4


def test_a_call_that_waits_for_a_value_can_be_cancelled(pair: tuple[Lieutenant, Lieutenant]):
    here, there = names(pair)
    ref = on(block, here).remote()
    goliath.wait([ref])
    pair[0].freeze()
    waiting = on(length, there).remote(ref)
    assert goliath.wait([waiting], timeout=0.2)[0] == []
    goliath.cancel(waiting)
    with pytest.raises(goliath.TaskCancelledError):
        goliath.get(waiting, timeout=30)
    assert goliath.get(on(length, there).remote(b"fine"), timeout=30) == 4
    pair[0].thaw()
    assert goliath.get(on(length, there).remote(ref), timeout=30) == SIZE


def test_a_node_that_drains_leaves_nothing_behind_that_somebody_may_want(
    pair: tuple[Lieutenant, Lieutenant],
):
    here, there = names(pair)
    refs = [on(block, here).remote(MIB, n) for n in range(40)]
    goliath.wait(refs, num_returns=40)
    kill(pair[0].pid, signal.SIGTERM)
    assert pair[0].process.wait(20) == 0
    until(lambda: names(pair) == [there], within=20)
    assert goliath.get(length.remote(*refs[:3])) == 3 * MIB
    assert goliath.get(refs) == [bytes([n]) * MIB for n in range(40)]


def test_results_that_are_made_while_a_node_drains_come_to_the_commander(
    pair: tuple[Lieutenant, Lieutenant], tmp_path: Path
):
    @goliath.remote
    def slow() -> bytes:
        (tmp_path / "begun").touch()
        until((tmp_path / "drained").exists, 20)
        return bytes(SIZE)

    here, there = names(pair)
    ref = on(slow, here).remote()
    until((tmp_path / "begun").exists, 20)
    kill(pair[0].pid, signal.SIGTERM)
    until(lambda: any(node.draining for node in goliath.nodes()), within=30)
    (tmp_path / "drained").touch()
    assert pair[0].process.wait(20) == 0
    until(lambda: names(pair) == [there], within=20)
    assert goliath.get(ref) == bytes(SIZE)


def test_a_node_keeps_no_more_than_it_may_and_the_rest_comes_at_once(
    lieutenant: Callable[..., Lieutenant],
):
    node = lieutenant(2, env={"GOLIATH_DEPOT_BYTES": str(MIB), "GOLIATH_SPILL_BYTES": "0", **SENT})
    with Commander([node.address]) as commander:
        refs = [commander.submit(bytes, 300 * KIB) for _ in range(20)]
        goliath.wait(refs, num_returns=20)
        assert passed_bytes(node) > 17 * 300 * KIB
        assert goliath.get(refs) == [bytes(300 * KIB)] * 20


def kept(commander: Commander) -> tuple[int, int]:
    """What the node says that it keeps: bytes in memory, and on disk."""
    said = commander.nodes()[0].kept
    return said.get("memory", -1), said.get("disk", -1)


@pytest.mark.parametrize("env", [{}, SENT], ids=["shared memory", "none"])
def test_what_memory_has_no_room_for_is_on_the_disk_of_the_node_and_as_good_as_before(
    env: dict[str, str], lieutenant: Callable[..., Lieutenant]
):
    node = lieutenant(2, env={"GOLIATH_DEPOT_BYTES": str(4 * MIB), **env})
    with Commander([node.address]) as commander:
        before = passed_bytes(node)
        refs = [commander.submit(spread, n, MIB) for n in range(40)]
        goliath.wait(refs, num_returns=40)
        assert passed_bytes(node) - before < MIB, "none of them was sent"
        until(lambda: 0 <= kept(commander)[0] <= 4 * MIB and kept(commander)[1] >= 36 * MIB, 30)
        takers = [commander.submit(corners, ref) for ref in refs]
        assert goliath.get(takers) == [(n, n, MIB) for n in range(40)]
        assert [corners(value) for value in goliath.get(refs[::7])] == [
            (n, n, MIB) for n in range(0, 40, 7)
        ]
        held = goliath.get(refs[0])
        del refs, takers
        gc.collect()
        until(lambda: kept(commander) == (0, 0), 30)
        assert corners(held) == (0, 0, MIB)


def spread(n: int, size: int) -> Any:
    import numpy as np

    return np.full(size, n, dtype=np.uint8)


def corners(array: Any) -> tuple[int, int, int]:
    return int(array[0]), int(array[-1]), len(array)


def test_a_thousand_that_nobody_holds_any_more_leave_nothing_behind(
    lieutenant: Callable[..., Lieutenant],
):
    node = lieutenant(2, env={"GOLIATH_DEPOT_BYTES": str(64 * MIB)})
    with Commander([node.address]) as commander:
        refs = [commander.submit(spread, n % 256, MIB) for n in range(1000)]
        goliath.wait(refs, num_returns=1000)
        until(lambda: 0 <= kept(commander)[0] <= 64 * MIB, 30)
        assert kept(commander)[1] > 100 * MIB, "but for those that came faster than it writes"
        del refs
        gc.collect()
        until(lambda: kept(commander) == (0, 0), 30)
        puts = [commander.put(spread(n % 256, MIB)) for n in range(1000)]
        takers = [commander.submit(corners, put) for put in puts[::100]]
        assert goliath.get(takers) == [(n % 256, n % 256, MIB) for n in range(0, 1000, 100)]
        assert shared_bytes() >= 1000 * MIB
        del puts, takers
        gc.collect()
        until(lambda: shared_bytes() == 0, 30)
        assert kept(commander) == (0, 0)


def shared_bytes() -> int:
    """What this process has written into memory that others map, and is still looked at."""
    return sum(region.used_bytes for region in arena._regions)


def test_commanders_that_leave_while_results_are_written_leave_nothing_on_the_disk(
    lieutenant: Callable[..., Lieutenant],
):
    node = lieutenant(2, env={"GOLIATH_DEPOT_BYTES": str(4 * MIB)})
    for made in (3, 6, 9, 12, 15):
        with Commander([node.address]) as commander:
            refs = [commander.submit(spread, n, 4 * MIB) for n in range(20)]
            goliath.wait(refs, num_returns=made)
    with Commander([node.address]) as commander:
        until(lambda: kept(commander) == (0, 0), 30)


def test_what_neither_memory_nor_disk_has_room_for_comes_at_once(
    lieutenant: Callable[..., Lieutenant],
):
    few = {"GOLIATH_DEPOT_BYTES": str(4 * MIB), "GOLIATH_SPILL_BYTES": str(8 * MIB)}
    node = lieutenant(2, env={**few, **SENT})
    with Commander([node.address]) as commander:
        before = passed_bytes(node)
        refs = [commander.submit(spread, n, MIB) for n in range(40)]
        goliath.wait(refs, num_returns=40)
        assert passed_bytes(node) - before > 27 * MIB
        memory, disk = kept(commander)
        assert memory <= 4 * MIB + 64 * MIB
        assert disk <= 8 * MIB
        assert [corners(value)[0] for value in goliath.get(refs)] == list(range(40))


def test_what_a_killed_worker_has_made_is_spilled_and_a_drained_node_hands_it_over(
    lieutenant: Callable[..., Lieutenant],
):
    node = lieutenant(1, env={"GOLIATH_DEPOT_BYTES": str(MIB)})
    with Commander([node.address]) as commander:
        refs = [commander.submit(spread, n, MIB - KIB) for n in range(8)]
        goliath.wait(refs, num_returns=8)
        kill(commander.submit(os.getpid).result())
        until(lambda: kept(commander)[1] >= 6 * MIB, 30)
        node.terminate()
        until(lambda: node.process.poll() is not None, 20)
        assert [corners(value)[0] for value in goliath.get(refs)] == list(range(8))


def test_values_that_were_put_are_spilled_as_well_and_calls_find_them(
    lieutenant: Callable[..., Lieutenant],
):
    node = lieutenant(1, env={"GOLIATH_DEPOT_BYTES": str(6 * MIB), **SENT})
    with Commander([node.address]) as commander:
        puts = [commander.put(spread(n, 4 * MIB)) for n in range(5)]

        def found() -> list[tuple[int, int, int]]:
            return goliath.get([commander.submit(corners, put) for put in puts])

        there = found()
        assert there == [corners(spread(n, 4 * MIB)) for n in range(5)]
        until(lambda: kept(commander)[0] <= 6 * MIB and kept(commander)[1] >= 16 * MIB, 10)
        before = passed_bytes(node)
        assert found() == there
        assert passed_bytes(node) - before < MIB, "they were sent once"
        puts.clear()
        gc.collect()
        until(lambda: kept(commander) == (0, 0), IDLE_S + 20, "it has forgotten what was equal")


def test_a_node_forgets_what_nobody_holds_any_more(lieutenant: Callable[..., Lieutenant]):
    node = lieutenant(2, env={"GOLIATH_DEPOT_BYTES": str(MIB), **SENT})
    with Commander([node.address]) as commander:
        for _ in range(3):
            refs = [commander.submit(bytes, 300 * KIB) for _ in range(3)]
            goliath.wait(refs, num_returns=3)
            del refs
            gc.collect()
            assert commander.submit(len, b"four").result() == 4  # it is told after that
        assert passed_bytes(node) < 300 * KIB


@pytest.mark.usefixtures("cluster")
def test_the_memory_of_the_node_returns_to_where_it_was(node: Lieutenant):
    def resident() -> float:
        return psutil.Process(node.pid).memory_info().rss / MIB

    def make_and_drop() -> None:
        for _ in range(4):
            refs = [block.remote(MIB) for _ in range(50)]
            goliath.wait(refs, num_returns=50)
            goliath.get(length.remote(*refs))

    make_and_drop()
    before = resident()
    make_and_drop()
    make_and_drop()
    assert resident() - before < 100, "200 results of 1 MiB were made twice"


def test_what_was_not_fetched_from_a_commander_that_is_closed_is_lost(node: Lieutenant):
    with Commander([node.address]) as commander:
        ref, fetched = commander.submit(bytes, SIZE), commander.submit(bytes, SIZE)
        goliath.wait([ref, fetched], num_returns=2)
        fetched.result()
    with pytest.raises(ObjectLostError, match="not fetched before the session with it was ended"):
        ref.result()
    assert fetched.result() == bytes(SIZE)


def test_an_embedded_node_hands_its_results_over():
    with Commander(workers=1) as commander:
        ref = commander.submit(bytes, SIZE)
        goliath.wait([ref])
    assert ref.result() == bytes(SIZE)


@pytest.mark.usefixtures("cluster")
@pytest.mark.parametrize("size", [1, SIZE])
def test_refs_in_a_value_are_good_for_a_call_that_takes_it_when_nobody_else_holds_it(
    size: int, tmp_path: Path
):
    @goliath.remote
    def holder() -> Any:
        return [goliath.put("inside"), bytes(size)]

    @goliath.remote
    def wait_for(path: Path) -> None:
        until(path.exists, 20)

    ref = holder.remote()
    goliath.wait([ref])
    busy = [wait_for.remote(tmp_path / "go") for _ in range(2)]
    inside = goliath.remote(lambda value: goliath.get(value[0])).remote(ref)
    del ref
    gc.collect()
    (tmp_path / "go").touch()
    assert goliath.get(inside) == "inside"
    goliath.get(busy)


@pytest.mark.usefixtures("cluster")
def test_a_result_outlives_the_worker_that_made_it():
    @goliath.remote(max_retries=0)
    def last_words(value: bytes) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    ref = block.remote(SIZE, 5)
    goliath.wait([ref])
    with pytest.raises(goliath.WorkerCrashedError):
        goliath.get([last_words.remote(ref) for _ in range(4)])
    assert goliath.get(length.remote(ref)) == SIZE
    assert goliath.get(ref) == b"\5" * SIZE


@pytest.mark.usefixtures("cluster")
def test_a_call_that_is_tried_again_finds_its_argument_again(tmp_path: Path):
    @goliath.remote(max_retries=2)
    def die_twice(value: bytes) -> int:
        with (tmp_path / "died").open("a") as file:
            file.write("x")
        if (tmp_path / "died").stat().st_size < 3:
            os.kill(os.getpid(), signal.SIGKILL)
        return len(value)

    assert goliath.get(die_twice.remote(block.remote())) == SIZE


@pytest.mark.usefixtures("cluster")
def test_coroutines_take_and_make_big_values_beside_each_other():
    @goliath.remote
    async def turned(value: bytes) -> bytes:
        await asyncio.sleep(0.01)
        return value[1:] + value[:1]

    refs = [block.remote(SIZE, n) for n in range(10)]
    for _ in range(3):
        refs = [turned.remote(ref) for ref in refs]
    assert goliath.get(refs) == [bytes([n]) * SIZE for n in range(10)]


@pytest.mark.usefixtures("cluster")
def test_a_generator_takes_a_big_value():
    @goliath.remote(num_returns="streaming")
    def halves(value: bytes) -> Iterator[bytes]:
        yield value[: len(value) // 2]
        yield value[len(value) // 2 :]

    assert [len(goliath.get(ref)) for ref in halves.remote(block.remote())] == [SIZE // 2] * 2


@pytest.mark.usefixtures("cluster")
def test_an_actor_that_is_restarted_is_made_of_the_same_big_value_again():
    @goliath.remote(max_restarts=1, max_task_retries=1)
    class Holder:
        def __init__(self, value: bytes) -> None:
            self.size = len(value)

        def pid(self) -> int:
            return os.getpid()

        def read(self) -> int:
            return self.size

    holder = Holder.remote(block.remote())
    pid = goliath.get(holder.pid.remote())
    kill(pid)
    assert goliath.get(holder.read.remote()) == SIZE
    assert goliath.get(holder.pid.remote()) != pid


@pytest.mark.usefixtures("cluster")
def test_a_big_result_that_a_failed_call_was_to_take_is_still_good():
    ref = block.remote()
    failing = goliath.remote(lambda _value: 1 // 0).remote(ref)
    with pytest.raises(ZeroDivisionError):
        goliath.get(length.remote(failing))
    assert goliath.get(length.remote(ref)) == SIZE
