"""What user code may do in a worker: every odd call is an outcome, and the next call is clean."""

from __future__ import annotations

import asyncio
import io
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from goliath.actors.page import PageState
from goliath.actors.process import Process
from goliath.actors.spec import INITIALIZER, WorkerSpec
from goliath.transport.columns import encode_columns
from goliath.transport.functions import dump_initializer
from goliath.transport.worker_messages import (
    DefineFunction,
    Flush,
    Interrupt,
    Progress,
    Split,
    WorkerReady,
    Yielded,
)
from tests.actors.workshop import Outcomes, Workshop, workshop

pytestmark = pytest.mark.slow


class TwoArgumentsError(Exception):
    def __init__(self, one: int, two: int) -> None:
        super().__init__(f"{one} and {two}")


class SilentError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


def raise_one(x: int) -> int:
    """Each call raises another kind of thing; odd ones do not."""
    if x % 2:
        return x
    raise [
        ValueError("bad value"),
        StopIteration(5),
        SystemExit(3),
        KeyboardInterrupt(),
        GeneratorExit(),
        asyncio.CancelledError(),
        TwoArgumentsError(1, 2),
        SilentError(),
        OSError(2, "no such thing"),
        RuntimeError(threading.Lock()),
    ][x // 2]


async def test_each_kind_of_exception_is_the_outcome_of_its_own_call_only() -> None:
    async with workshop() as shop:
        process = await shop.fork()
        outcomes = await shop.run(process, raise_one, [{"x": x} for x in range(20)])
        assert sorted(outcomes.values) == list(range(20))
        assert {i: v for i, v in outcomes.values.items() if i % 2} == {
            i: i for i in range(1, 20, 2)
        }
        kinds = [outcomes.failures[i]["type"].rpartition(".")[2] for i in range(0, 20, 2)]
        assert kinds == [
            "ValueError",
            "StopIteration",
            "SystemExit",
            "KeyboardInterrupt",
            "GeneratorExit",
            "CancelledError",
            "TwoArgumentsError",
            "SilentError",
            "FileNotFoundError",
            "RuntimeError",
        ]
        travels = [outcomes.failures[i]["pickle"] is not None for i in range(0, 20, 2)]
        assert travels[0]
        assert travels[8]
        assert not any(travels[1:7])
        assert not travels[9]
        first = outcomes.failures[0]
        assert first["message"] == "bad value"
        assert first["call"] == "raise_one(x=0)"
        assert "raise_one" in first["traceback"]
        assert "goliath" not in first["traceback"].replace(str(Path(__file__)), "")


async def test_the_worker_survives_them_all() -> None:
    async with workshop() as shop:
        process = await shop.fork()
        await shop.run(process, raise_one, [{"x": 4}])
        assert (await shop.run(process, raise_one, [{"x": 1}])).values == {0: 1}


async def test_a_binding_error_reads_as_pythons_own() -> None:
    def foo(bar: int, baz: int) -> int:
        return bar + baz

    async with workshop() as shop:
        process = await shop.fork()
        missing = await shop.run(process, foo, [{"bar": 1}])
        assert missing.failures[0]["message"].endswith(
            "foo() missing 1 required positional argument: 'baz'"
        )
        unknown = await shop.run(process, foo, [{"bar": 1, "bax": 2}])
        assert "got an unexpected keyword argument 'bax'" in unknown.failures[0]["message"]


async def test_results_are_what_they_were_when_their_call_returned() -> None:
    def growing(x: int) -> list[int]:
        growing.kept.append(x)  # type: ignore[attr-defined]
        return growing.kept  # type: ignore[attr-defined]

    growing.kept = []  # type: ignore[attr-defined]
    async with workshop() as shop:
        process = await shop.fork()
        outcomes = await shop.run(process, growing, [{"x": x} for x in range(4)])
        assert outcomes.values == {0: [0], 1: [0, 1], 2: [0, 1, 2], 3: [0, 1, 2, 3]}


async def test_results_that_cannot_cross_name_the_part_to_blame() -> None:
    def odd(x: int) -> Any:
        if x == 0:
            return {"fine": 1, "held": [threading.Lock()]}
        if x == 1:
            return (i for i in range(3))
        return [x]

    async with workshop() as shop:
        process = await shop.fork()
        outcomes = await shop.run(process, odd, [{"x": x} for x in range(3)])
        assert [outcomes.failures[i]["kind"] for i in (0, 1)] == ["serialization"] * 2
        assert "['held'][0]" in outcomes.failures[0]["message"]
        assert "return list(...)" in outcomes.failures[1]["message"]
        assert outcomes.values[2] == [2]


class Fragile:
    def __init__(self, n: int) -> None:
        self.n = n

    def __setstate__(self, state: dict[str, int]) -> None:
        if state["n"] == 1 and "goliath.actors.worker" in sys.modules:
            raise ValueError("not in this house")
        self.__dict__.update(state)


async def test_an_argument_that_cannot_be_rebuilt_fails_its_own_call_only() -> None:
    async with workshop() as shop:
        process = await shop.fork()
        rows = [{"x": Fragile(n)} for n in range(3)]
        outcomes = await shop.run(process, lambda x: x.n, rows)
        assert outcomes.values == {0: 0, 1: None, 2: 2}
        assert "not in this house" in outcomes.failures[1]["message"]
        assert outcomes.failures[1]["kind"] == "serialization"


async def test_a_function_that_cannot_be_rebuilt_fails_every_call_and_says_how_to_help() -> None:
    async with workshop() as shop:
        process = await shop.fork()
        process.send(DefineFunction("broken", "foo", b"\x80\x05cno_such_module\nfoo\n."))
        shop._known.add((process.worker, "broken"))
        form, payload = "columns", encode_columns([{"x": 1}, {"x": 2}])
        from goliath.transport.worker_messages import RunRange

        process.send(RunRange(9, 0, 2, "broken", form, payload=payload or b""))
        outcomes = await shop.gather(process, 9)
        assert [outcomes.failures[i]["kind"] for i in (0, 1)] == ["serialization"] * 2
        assert "no_such_module" in outcomes.failures[0]["message"]


async def test_static_keywords_are_common_to_all_calls() -> None:
    def scale(x: int, factor: int, model: list[int]) -> int:
        model.append(x)
        return x * factor + len(model) * 0

    async with workshop() as shop:
        process = await shop.fork()
        static = {"factor": 3, "model": []}
        rows = [{"x": x} for x in range(3)]
        outcomes = await shop.run(process, scale, rows, static=static)
        assert outcomes.values == {0: 0, 1: 3, 2: 6}


@pytest.mark.parametrize(
    ("function", "rows", "expected"),
    [
        (lambda *a, **k: (a, k), [(1, 2), (3, 4)], {0: ((1, 2), {}), 1: ((3, 4), {})}),
        (lambda **k: str(k), [{"class": 1, "a b": 2}], {0: "{'class': 1, 'a b': 2}"}),
        (lambda: 5, [{}, {}, {}], {0: 5, 1: 5, 2: 5}),
        (lambda a, b: a - b, [{"b": 1, "a": 5}], {0: 4}),
        (lambda b, *, a: a - b, [{"b": 1, "a": 5}], {0: 4}),
        (lambda x: x, [{"x": [1]}, {"x": 2}], {0: [1], 1: 2}),
        (max, [(1, 2), (5, 3)], {0: 2, 1: 5}),
        (dict, [{"a": 1}], {0: {"a": 1}}),
        (lambda a, b=7: a + b, [{"a": 1}, {"a": 2, "b": 0}], {0: 8, 1: 2}),
    ],
    ids=["positional", "odd names", "none", "order", "keyword-only", "rows", "builtin", "class",
         "default"],
)  # fmt: skip
async def test_every_shape_of_call_works(function: Any, rows: Any, expected: Any) -> None:
    async with workshop() as shop:
        process = await shop.fork()
        assert (await shop.run(process, function, rows)).values == expected
        assert (await shop.run(process, function, rows, careful=True)).values == expected


async def test_coroutine_functions_run_and_leave_no_task() -> None:
    async def slow(x: int) -> Any:
        loop = asyncio.get_running_loop()
        slow.left = loop.create_task(asyncio.sleep(60))  # type: ignore[attr-defined]
        await asyncio.sleep(0)
        if x == 1:
            raise asyncio.CancelledError("by itself")
        return [x] if x == 2 else x

    async with workshop() as shop:
        process = await shop.fork()
        outcomes = await shop.run(process, slow, [{"x": x} for x in range(4)])
        assert outcomes.values == {0: 0, 1: None, 2: [2], 3: 3}
        assert outcomes.failures[1]["type"].endswith("CancelledError")
        assert not outcomes.final.dirty


async def test_the_retryable_calls_are_named() -> None:
    async with workshop() as shop:
        process = await shop.fork()
        outcomes = await shop.run(
            process, raise_one, [{"x": x} for x in (0, 1, 16, 0)], retry_on=(ValueError,)
        )
        assert outcomes.final.retryable == [0, 3]


async def test_careful_mode_sends_each_result_before_the_next_call_starts() -> None:
    async with workshop() as shop:
        process = await shop.fork()
        outcomes = await shop.run(process, lambda x: x, [(x,) for x in range(4)], careful=True)
        assert [(part.lo, part.hi, part.final) for part in outcomes.parts] == [
            (0, 1, False),
            (1, 2, False),
            (2, 3, False),
            (3, 4, True),
        ]


# -- orders ---------------------------------------------------------------------------


def spin(x: int) -> int:
    """About 20 µs of work that holds the GIL."""
    for _ in range(x):
        pass
    return x


async def test_a_running_range_can_be_split_at_any_moment_and_no_call_is_lost_or_doubled() -> None:
    async with workshop() as shop:
        process = await shop.fork()
        rows = [{"x": 200 + i % 7} for i in range(3000)]
        for delay in range(12):
            serial = shop.start(process, spin, rows)
            await asyncio.sleep(delay * 0.0007)
            for keep in (2, 3, 2, 1)[delay % 2 :]:
                process.control(Split(serial, keep))
                process.control(Flush(serial))
            outcomes, at = await gather_split(shop, process, serial, 4 - delay % 2)
            assert sorted(outcomes.values) == list(range(at))
            assert outcomes.final.hi == at
            assert outcomes.values == {i: rows[i]["x"] for i in range(at)}


async def gather_split(
    shop: Workshop, process: Process, serial: int, splits: int
) -> tuple[Outcomes, int]:
    """The outcomes, and the first call that was given back, once every split has its answer."""
    outcomes = await shop.gather(process, serial)
    while len(outcomes.yielded) < splits:
        message = await shop.next(process)
        assert isinstance(message, Yielded)
        assert message.serial == serial
        outcomes.yielded.append(message.at)
    return outcomes, min(min(outcomes.yielded), 3000)


async def test_splitting_rows_and_calls_that_raise_is_exact_too() -> None:
    def sour(x: Any) -> Any:
        for _ in range(100):
            pass
        if x[0] % 3 == 0:
            raise ValueError(x)
        return [x]

    async with workshop() as shop:
        process = await shop.fork()
        rows = [{"x": [i]} for i in range(2000)]
        for delay in range(6):
            serial = shop.start(process, sour, rows)
            await asyncio.sleep(delay * 0.003)
            process.control(Flush(serial))
            process.control(Split(serial, 1))
            outcomes, at = await gather_split(shop, process, serial, 1)
            at = min(at, 2000)
            assert sorted(outcomes.values) == list(range(at))
            assert sorted(outcomes.failures) == list(range(0, at, 3))


async def test_splitting_keeps_its_part_of_what_has_not_started() -> None:
    def wait(x: int) -> int:
        if x == 0:
            time.sleep(0.2)
        return x

    async with workshop() as shop:
        process = await shop.fork()
        serial = shop.start(process, wait, [{"x": x} for x in range(9)], careful=True)
        await asyncio.to_thread(_until_running, process)
        process.control(Split(serial, 2))
        outcomes = await shop.gather(process, serial)
        assert outcomes.yielded == [5]
        assert sorted(outcomes.values) == [0, 1, 2, 3, 4]


def _until_running(process: Process) -> None:
    from goliath.testing.processes import until

    until(lambda: [page.index for page in process.pages()] == [0], 5)


async def test_a_split_for_a_range_that_is_over_gives_nothing_back() -> None:
    async with workshop() as shop:
        process = await shop.fork()
        serial = shop.start(process, lambda x: x, [{"x": 1}])
        await shop.gather(process, serial)
        process.control(Split(serial, 2))
        assert await shop.next(process) == Yielded(serial, 1)


async def test_a_split_that_overtakes_its_range_is_answered_when_the_range_begins() -> None:
    async with workshop() as shop:
        process = await shop.fork()
        process.control(Split(1, 1))
        await asyncio.sleep(0.05)
        serial = shop.start(process, lambda x: x, [{"x": 1}, {"x": 2}])
        outcomes = await shop.gather(process, serial)
        assert (outcomes.yielded, outcomes.values) == ([0], {})
        assert (outcomes.final.lo, outcomes.final.hi) == (0, 0)


async def test_a_flush_reports_what_has_finished() -> None:
    def late(x: int) -> int:
        if x == 3:
            time.sleep(0.3)
        return x

    async with workshop() as shop:
        process = await shop.fork()
        serial = shop.start(process, late, [{"x": x} for x in range(5)])
        await asyncio.sleep(0.1)
        process.control(Flush(serial))
        process.control(Flush(serial))
        outcomes = await shop.gather(process, serial)
        assert [(part.lo, part.hi, part.final) for part in outcomes.parts] == [
            (0, 3, False),
            (3, 5, True),
        ]


@pytest.mark.parametrize("careful", [False, True])
async def test_an_interrupt_stops_a_sleeping_call_and_the_rest_of_its_range(careful: bool) -> None:
    def nap(x: int) -> int:
        if x == 2:
            time.sleep(30)
        return x

    async with workshop() as shop:
        process = await shop.fork()
        rows = [{"x": x} for x in range(5)]
        serial = shop.start(process, nap, rows, careful=careful)
        await asyncio.sleep(0.1)
        start = time.monotonic()
        process.control(Interrupt(serial))
        outcomes = await shop.gather(process, serial)
        assert time.monotonic() - start < 1
        assert outcomes.values == {0: 0, 1: 1}
        assert outcomes.final.interrupted
        again = await shop.run(process, lambda x: x, rows)
        assert sorted(again.values) == list(range(5))
        assert not again.final.interrupted


async def test_an_interrupt_that_is_swallowed_still_ends_the_range() -> None:
    def stubborn(x: int) -> str:
        try:
            time.sleep(0.2)
        except KeyboardInterrupt:
            return "swallowed"
        return "finished"

    async with workshop() as shop:
        process = await shop.fork()
        serial = shop.start(process, stubborn, [{"x": x} for x in range(5)])
        await asyncio.sleep(0.1)
        process.control(Interrupt(serial))
        outcomes = await shop.gather(process, serial)
        assert outcomes.values == {0: "swallowed"}
        assert outcomes.final.interrupted


async def test_an_interrupt_never_hits_another_range() -> None:
    async with workshop() as shop:
        process = await shop.fork()
        rows = [{"x": 50}] * 20
        for turn in range(100):
            serial = shop.start(process, spin, rows)
            follower = shop.start(process, spin, rows)
            if turn % 2:
                await asyncio.sleep(0.0001 * (turn % 10))
            process.control(Interrupt(serial))
            first = await shop.gather(process, serial)
            assert first.final.interrupted == (len(first.values) < 20)
            second = await shop.gather(process, follower)
            assert len(second.values) == 20
            assert not second.failures
            assert not second.final.interrupted


async def test_an_interrupt_reaches_a_coroutine() -> None:
    async def nap() -> None:
        await asyncio.sleep(30)

    async with workshop() as shop:
        process = await shop.fork()
        serial = shop.start(process, nap, [{}])
        await asyncio.sleep(0.3)
        process.control(Interrupt(serial))
        outcomes = await shop.gather(process, serial)
        assert outcomes.final.interrupted
        assert (await shop.run(process, lambda: 1, [{}])).values == {0: 1}


# -- the house is clean again ------------------------------------------------------------


def mess(x: str) -> Any:
    """Each call disturbs something; ``look`` tells what it finds."""
    match x:
        case "chdir":
            os.chdir("/")
        case "close":
            os.close(1)
            os.close(2)
        case "swap":
            os.dup2(2, 1)
        case "stdout":
            sys.stdout = None  # type: ignore[assignment]
        case "shut":
            sys.stdout.close()
        case "signal":
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            signal.signal(signal.SIGTERM, lambda *_: None)
            signal.alarm(60)
        case "thread":
            threading.Thread(target=time.sleep, args=(60,)).start()
        case "brief thread":
            threading.Thread(target=time.sleep, args=(0.001,)).start()
        case "daemon":
            threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
    return None


def look_around() -> Any:
    print("seen")
    return [
        os.getcwd(),
        signal.getsignal(signal.SIGTERM) == signal.SIG_DFL,
        callable(signal.getsignal(signal.SIGINT)),
        signal.getitimer(signal.ITIMER_REAL)[0],
    ]


@pytest.mark.parametrize("what", ["chdir", "close", "swap", "stdout", "shut", "signal"])
async def test_what_a_call_disturbs_is_put_right_for_the_next(what: str, tmp_path: Path) -> None:
    async with workshop() as shop:
        process = await shop.fork(WorkerSpec(cwd=str(tmp_path)))
        first = await shop.run(process, mess, [{"x": what}])
        assert not first.final.dirty
        clean = await shop.run(process, look_around, [{}])
        assert clean.values == {0: [str(tmp_path), True, True, 0.0]}
        assert shop.owner.output[process.worker, "stdout"].endswith(b"seen\n")


async def test_a_function_that_left_a_mess_is_cleaned_up_after_call_by_call(tmp_path: Path) -> None:
    def wander(x: int) -> str:
        here = os.getcwd()
        os.chdir("/")
        return here

    async with workshop() as shop:
        process = await shop.fork(WorkerSpec(cwd=str(tmp_path)))
        await shop.run(process, wander, [{"x": 0}])
        outcomes = await shop.run(process, wander, [{"x": x} for x in range(3)])
        assert set(outcomes.values.values()) == {str(tmp_path)}


@pytest.mark.parametrize(
    ("what", "dirty"), [("thread", True), ("brief thread", False), ("daemon", False)]
)
async def test_a_thread_left_running_asks_for_another_worker(what: str, dirty: bool) -> None:
    async with workshop() as shop:
        process = await shop.fork()
        outcomes = await shop.run(process, mess, [{"x": what}])
        assert outcomes.final.dirty is dirty


async def test_nobody_waits_for_the_tidying(tmp_path: Path) -> None:
    permit = tmp_path / "permit"

    def hinder(path: str) -> int:
        look, deadline = os.getcwd, time.monotonic() + 30

        def hindered() -> str:
            while not os.path.exists(path) and time.monotonic() < deadline:
                time.sleep(0.001)
            return look()

        os.getcwd = hindered
        return 1

    async with workshop() as shop:
        process = await shop.fork()
        outcomes = await shop.run(process, hinder, [{"path": str(permit)}])
        assert (outcomes.values, permit.exists()) == ({0: 1}, False)
        permit.touch()
        assert (await shop.run(process, lambda: 2, [{}])).values == {0: 2}


async def test_a_worker_that_lost_its_directory_begins_nothing_more(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()

    def burn_down() -> int:
        os.rmdir(os.getcwd())
        return 1

    async with workshop() as shop:
        process = await shop.fork(WorkerSpec(cwd=str(home)))
        first = shop.start(process, burn_down, [{}])
        shop.start(process, look_around, [{}])
        outcomes = await shop.gather(process, first)
        assert (outcomes.values, outcomes.final.dirty) == ({0: 1}, False)
        report = await shop.owner.exit_of(process)
        assert report.page == PageState()
        assert shop.owner.inboxes[process.worker].empty()


async def test_what_was_written_to_a_stream_that_was_replaced_comes_before_the_result() -> None:
    def replace(x: int) -> int:
        print("half a line", end="")
        sys.stdout = io.StringIO()
        return x

    async with workshop() as shop:
        process = await shop.fork()
        await shop.run(process, replace, [{"x": 1}])
        assert shop.owner.log[-2][1:] == ("stdout", b"half a line")
        assert isinstance(shop.owner.log[-1][2], Progress)


async def test_a_stream_of_the_users_that_cannot_be_flushed_disturbs_nobody() -> None:
    class Odd:
        def flush(self) -> None:
            raise RuntimeError("not today")

    def replace(x: int) -> int:
        sys.stdout = Odd()  # type: ignore[assignment]
        return x

    async with workshop() as shop:
        process = await shop.fork()
        assert (await shop.run(process, replace, [{"x": 1}, {"x": 2}])).values == {0: 1, 1: 2}


# -- what it finds around it -----------------------------------------------------------------


async def test_a_worker_finds_its_directory_modules_and_variables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "json.py").write_text("raise ImportError('shadowed')")
    (tmp_path / "orjson.py").write_text("mine = True")
    (tmp_path / "shipped_module.py").write_text("class Thing: pass\ndef make(): return Thing()")
    monkeypatch.setenv("GOES_AWAY", "1")
    monkeypatch.setenv("GOLIATH_TOKEN", "secret")

    def look() -> Any:
        import json
        import re

        import shipped_module  # type: ignore[import-not-found]

        place = [sys.path.index(os.getcwd())]
        place += [i for i, entry in enumerate(sys.path) if "site-packages" in entry][:1]
        environ = sorted(
            name for name in os.environ if re.match("GOES_AWAY|COMES|GOLIATH_TOKEN", name)
        )
        return [json.dumps([1]), environ, place == sorted(place), shipped_module.make() is not None]

    async with workshop() as shop:
        spec = WorkerSpec(
            cwd=str(tmp_path),
            sys_path=[str(tmp_path)],
            variables={"GOES_AWAY": None, "COMES": "1"},
        )
        process = await shop.fork(spec)
        outcomes = await shop.run(process, look, [{}])
        assert outcomes.values == {0: ["[1]", ["COMES"], True, True]}, outcomes.failures


async def test_modules_come_first_and_packages_before_those_that_are_installed(
    tmp_path: Path,
) -> None:
    for name in ("library", "files", "packages", "added"):
        (tmp_path / name).mkdir()
    (tmp_path / "packages" / "added.pth").write_text(f"{tmp_path / 'added'}\n")
    spec = WorkerSpec(
        sys_path=[str(tmp_path / "files")],
        library=str(tmp_path / "library"),
        site=[str(tmp_path / "packages")],
    )
    async with workshop() as shop:
        outcomes = await shop.run(await shop.fork(spec), lambda: sys.path, [{}])
    path = outcomes.values[0]
    ours = [Path(entry).name for entry in path if entry.startswith(str(tmp_path))]
    assert ours == ["library", "files", "packages", "added"]
    standard = path.index(os.path.dirname(os.__file__))
    installed = next(place for place, entry in enumerate(path) if "site-packages" in entry)
    assert path.index(spec.library) == 0
    assert standard < path.index(spec.sys_path[0]) < path.index(str(tmp_path / "added")) < installed


async def test_an_embedded_worker_has_the_users_own_path() -> None:
    async with workshop() as shop:
        process = await shop.fork(WorkerSpec(sys_path_exact=[*sys.path, "/mine"]))
        outcomes = await shop.run(process, lambda: sys.path, [{}])
        assert outcomes.values == {0: [*sys.path, "/mine"]}


async def test_a_worker_stays_light_and_knows_what_it_is() -> None:
    def loaded() -> Any:
        heavy = {"aiohttp", "uvloop", "asyncio", "psutil", "multiprocessing", "logging"}
        main = sys.modules["__main__"]
        return [
            sorted(heavy & set(sys.modules)),
            bool(os.environ["GOLIATH_WORKER_TAG"]),
            (main.__name__, getattr(main, "__file__", None), main.__spec__),
            os.getpgid(0) == os.getpid(),
        ]

    async with workshop() as shop:
        process = await shop.fork()
        heavy, tagged, main, leads = (await shop.run(process, loaded, [{}])).values[0]
        assert set(heavy) <= {"logging"}
        assert tagged
        assert main == ("__main__", None, None)
        assert leads


async def test_the_initializer_runs_once_before_the_first_call() -> None:
    def initialize(word: str) -> None:
        sys.modules["__main__"].greeting = word  # type: ignore[attr-defined]
        print("initialized")

    async with workshop() as shop:
        process = await shop.fork(WorkerSpec(has_initializer=True), ready=False)
        payload = dump_initializer(initialize, ("hello",))
        process.send(DefineFunction(INITIALIZER, "initialize", payload))
        assert await shop.next(process) == WorkerReady()
        greet = await shop.run(process, lambda: sys.modules["__main__"].greeting, [{}] * 2)
        assert greet.values == {0: "hello", 1: "hello"}
        assert shop.owner.output[process.worker, "stdout"] == b"initialized\n"


async def test_an_initializer_that_fails_is_told_and_ends_the_worker() -> None:
    def fail() -> None:
        raise SystemExit("no licence")

    async with workshop() as shop:
        process = await shop.fork(WorkerSpec(has_initializer=True), ready=False)
        payload = dump_initializer(fail, ())
        process.send(DefineFunction(INITIALIZER, "fail", payload))
        message = await shop.next(process)
        assert isinstance(message, WorkerReady)
        assert "SystemExit: no licence" in message.error
        assert (await shop.owner.exit_of(process)).exit_code == 1


async def test_a_directory_that_is_not_there_is_told_in_the_last_words() -> None:
    async with workshop() as shop:
        process = await shop.fork(WorkerSpec(cwd="/no/such/place"), ready=False)
        report = await shop.owner.exit_of(process)
        assert report.exit_code == os.EX_SOFTWARE
        assert "/no/such/place" in report.stderr_tail


async def test_workers_do_not_share_their_random_numbers() -> None:
    def draw() -> float:
        import random

        return random.random()  # noqa: TID251

    async with workshop() as shop:
        processes = [await shop.fork() for _ in range(2)]
        drawn = [(await shop.run(process, draw, [{}])).values[0] for process in processes]
        assert drawn[0] != drawn[1]


async def test_big_results_are_sent_before_they_pile_up() -> None:
    async with workshop() as shop:
        process = await shop.fork()
        outcomes = await shop.run(process, lambda x: [b"x" * 8_000_000], [(n,) for n in range(9)])
        assert len(outcomes.parts) > 1
        assert [len(value[0]) for value in outcomes.values.values()] == [8_000_000] * 9
        assert isinstance(outcomes.final, Progress)
