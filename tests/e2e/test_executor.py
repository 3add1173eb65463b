"""`Executor`: what ``concurrent.futures`` promises, on the workers of a Commander."""

from __future__ import annotations

import concurrent.futures
import gc
import itertools
import logging
import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future
from pathlib import Path

import pytest

import goliath
from goliath import Commander, Executor, GoliathError, SerializationError
from tests.e2e.calls import add, fail, fail_if, nap, same, stamp

MANY = 200
"""More calls than are sent ahead of those that hold all workers."""


@goliath.remote
def pid() -> int:
    return os.getpid()


class Gate:
    """Calls that end when it is opened. It is a function of its own: nothing is known of how long
    its calls take, so they are sent one at a time."""

    def __init__(self, path: Path) -> None:
        self._path = path
        name = str(path)

        def hold(value):
            while not os.path.exists(name):
                time.sleep(0.002)
            return value

        self.hold = hold

    def open(self) -> None:
        self._path.touch()

    def __enter__(self) -> Gate:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.open()


@pytest.fixture
def gate(tmp_path: Path, executor: Executor) -> Iterator[Gate]:
    """Opened at the end, before the executor waits for its calls."""
    with Gate(tmp_path / "gate") as gate:
        yield gate


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


# -- submit ----------------------------------------------------------------------------


def test_it_is_an_executor_and_its_futures_are_futures(executor: Executor) -> None:
    assert isinstance(executor, concurrent.futures.Executor)
    future = executor.submit(add, 1, b=2)
    assert isinstance(future, Future)
    assert future.result() == 3
    assert future.result(timeout=0) == 3
    assert (future.done(), future.running(), future.cancelled()) == (True, False, False)
    assert future.exception() is None


def test_keywords_of_a_call_may_have_the_names_of_submit_itself(executor: Executor) -> None:
    assert executor.submit(dict, self=1, fn=2, function=3).result() == {
        "self": 1,
        "fn": 2,
        "function": 3,
    }


def test_many_futures_are_in_flight_at_once(executor: Executor) -> None:
    futures = [executor.submit(add, n, 1) for n in range(2000)]
    assert [future.result() for future in futures] == list(range(1, 2001))


def test_an_exception_arrives_in_its_own_class(executor: Executor) -> None:
    future = executor.submit(fail, 5)
    with pytest.raises(ValueError, match="bad 5"):
        future.result()
    assert isinstance(future.exception(), ValueError)
    assert "in fail" in str(future.exception().__cause__)


def test_a_timeout_of_result_stops_only_the_waiting(executor: Executor, gate: Gate) -> None:
    future = executor.submit(gate.hold, 1)
    with pytest.raises(concurrent.futures.TimeoutError):
        future.result(timeout=0.05)
    with pytest.raises(concurrent.futures.TimeoutError):
        future.exception(timeout=0)
    gate.open()
    assert future.result() == 1


def test_what_cannot_be_pickled_is_an_exception_of_its_future(executor: Executor) -> None:
    lock = threading.Lock()
    assert isinstance(executor.submit(same, lock).exception(), SerializationError)
    error = executor.submit(lambda: lock).exception()
    assert isinstance(error, SerializationError)
    assert "the closure variable lock" in str(error)
    assert executor.submit(same, 1).result() == 1


def test_what_cannot_be_called_is_a_type_error_of_its_future(executor: Executor) -> None:
    assert isinstance(executor.submit(5).exception(), TypeError)  # type: ignore[arg-type]


def test_functions_are_taken_as_they_are_at_each_submit(executor: Executor) -> None:
    class Model:
        def __init__(self):
            self.factor = 1

        def times(self, n):
            return self.factor * n

    model, factor = Model(), 1
    factors = [1]

    def times(n):
        return factor * n

    futures = []
    for factor in (1, 2, 3):
        model.factor = factor
        factors.append(factor)
        futures.append(executor.submit(model.times, 10))
        futures.append(executor.submit(times, 10))
        futures.append(executor.submit(factors.count, 1))
    assert [future.result() for future in futures] == [10, 10, 2, 20, 20, 2, 30, 30, 2]


def test_a_call_within_a_worker_is_made_in_place(executor: Executor) -> None:
    def within():
        from goliath import Executor

        with Executor() as inner:
            future = inner.submit(os.getpid)
            done = future.done()
            failed = inner.submit(divmod, 1, 0).exception()
            squares = list(inner.map(lambda n: n * n, range(3)))
            return done, future.result() == os.getpid(), type(failed), squares, inner._max_workers

    assert executor.submit(within).result() == (True, True, ZeroDivisionError, [0, 1, 4], 1)


def test_a_worker_imports_nothing_for_it(executor: Executor) -> None:
    def loaded():
        import sys

        return [name for name in ("asyncio", "goliath.executor") if name in sys.modules]

    with Executor(workers=1) as own:  # whose worker has not seen another test
        assert own.submit(loaded).result() == []
        assert list(own.map(lambda _: loaded(), range(2), chunksize=2)) == [[], []]


def test_max_workers_is_the_slots_of_the_cluster(executor: Executor) -> None:
    assert executor._max_workers == 2


def test_a_number_of_workers_is_not_taken_for_a_commander(commander: Commander) -> None:
    with pytest.raises(TypeError, match=r"workers=4"):
        Executor(4)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="no Commander"):
        Executor(commander, workers=4)


def test_without_a_commander_it_uses_the_one_that_was_initialized() -> None:
    goliath.init(workers=1)
    try:
        with Executor() as shared, Executor(workers=2) as own:
            assert (shared._max_workers, own._max_workers) == (1, 2)
            assert shared.submit(os.getpid).result() == goliath.get(pid.remote())
        assert goliath.get(pid.remote()), "it is left open"
    finally:
        goliath.shutdown()


# -- callbacks -------------------------------------------------------------------------


def test_callbacks_are_called_with_the_future_before_and_after_its_end(executor: Executor) -> None:
    seen: list[Future[int]] = []
    called = threading.Event()
    future = executor.submit(add, 1, 1)
    future.add_done_callback(seen.append)
    future.add_done_callback(lambda _: called.set())
    assert called.wait(5)
    future.add_done_callback(seen.append)
    assert seen == [future, future]


@pytest.mark.parametrize("error", [ValueError, SystemExit])
def test_a_callback_that_raises_is_logged_and_harms_nobody(
    executor: Executor, caplog: pytest.LogCaptureFixture, error: type[BaseException]
) -> None:
    def grumble(_: Future[int]) -> None:
        raise error("grumble")

    with caplog.at_level(logging.ERROR, "concurrent.futures"):
        future = executor.submit(nap, 0.01)
        future.add_done_callback(grumble)
        assert future.result() == 0.01
        assert executor.submit(add, 1, 1).result() == 2
    assert "exception calling callback" in caplog.text


def test_a_callback_may_submit_and_may_run(executor: Executor, commander: Commander) -> None:
    seen: list[object] = []
    called = threading.Event()

    def go_on(future: Future[float]) -> None:
        seen.append(commander.run(add, [(1, 2)]))
        executor.submit(add, 3, 4).add_done_callback(lambda next_one: done(next_one.result()))

    def done(result: int) -> None:
        seen.append(result)
        called.set()

    executor.submit(nap, 0.01).add_done_callback(go_on)
    assert called.wait(5)
    assert seen == [[3], 7]


# -- cancel ----------------------------------------------------------------------------


def test_a_call_that_was_not_sent_can_be_cancelled(executor: Executor, gate: Gate) -> None:
    futures = [executor.submit(gate.hold, n) for n in range(MANY)]
    last = futures[-1]
    called: list[Future[int]] = []
    last.add_done_callback(called.append)
    assert (last.running(), last.done()) == (False, False)
    assert last.cancel()
    assert last.cancel()
    assert (last.cancelled(), last.done(), last.running()) == (True, True, False)
    assert called == [last]
    with pytest.raises(CancelledError):
        last.result()
    with pytest.raises(CancelledError):
        last.exception()
    gate.open()
    assert [future.result() for future in futures[:-1]] == list(range(MANY - 1))


def test_whoever_waits_hears_of_a_cancel(executor: Executor, gate: Gate) -> None:
    futures = [executor.submit(gate.hold, n) for n in range(MANY)]
    ends = futures[-2:]
    threading.Timer(0.05, lambda: [future.cancel() for future in ends]).start()
    done, pending = concurrent.futures.wait(ends, timeout=5)
    assert (done, pending) == (set(ends), set())
    assert set(concurrent.futures.as_completed(ends, timeout=5)) == set(ends)


def test_a_call_that_was_sent_goes_on(executor: Executor, gate: Gate) -> None:
    future = executor.submit(gate.hold, 1)
    until(future.running)
    assert not future.cancel()
    assert future.running()
    assert (future.cancelled(), future.done()) == (False, False)
    gate.open()
    assert future.result() == 1
    assert not future.cancel()
    assert not future.cancelled()


def test_a_cancelled_call_never_runs_and_any_other_does(executor: Executor, tmp_path: Path) -> None:
    def mark(folder, n):
        time.sleep(0.0005)
        open(os.path.join(folder, str(n)), "w").close()

    futures = [executor.submit(mark, str(tmp_path), n) for n in range(400)]
    said: list[list[bool]] = [[], []]

    def cancel_all(answers: list[bool]) -> None:
        answers += [future.cancel() for future in reversed(futures)]

    threads = [threading.Thread(target=cancel_all, args=(answers,)) for answers in said]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    concurrent.futures.wait(futures)
    assert all(not future.exception() for future in futures if not future.cancelled())
    cancelled = {str(n) for n, future in enumerate(futures) if future.cancelled()}
    assert {str(n) for n in range(400)} - cancelled == set(os.listdir(tmp_path))
    for answers in said:
        answers.reverse()
        assert {str(n) for n, answer in enumerate(answers) if answer} == cancelled


# -- wait, as_completed ----------------------------------------------------------------


def test_wait_returns_at_the_first_end_or_the_first_exception(
    executor: Executor, gate: Gate
) -> None:
    held = executor.submit(gate.hold, 1)
    first = executor.submit(add, 1, 1)
    done, pending = concurrent.futures.wait(
        [held, first], return_when=concurrent.futures.FIRST_COMPLETED
    )
    assert (done, pending) == ({first}, {held})
    bad = executor.submit(fail, 1)
    done, pending = concurrent.futures.wait(
        [held, bad], return_when=concurrent.futures.FIRST_EXCEPTION
    )
    assert (done, pending) == ({bad}, {held})
    done, pending = concurrent.futures.wait([held, bad], timeout=0.01)
    assert (done, pending) == ({bad}, {held})
    gate.open()
    assert concurrent.futures.wait([held, bad]).not_done == set()


def test_as_completed_yields_futures_as_they_end(executor: Executor, gate: Gate) -> None:
    held, quick = executor.submit(gate.hold, "held"), executor.submit(same, "quick")
    ended = concurrent.futures.as_completed([held, quick])
    assert next(ended).result() == "quick"
    with pytest.raises(concurrent.futures.TimeoutError):
        list(concurrent.futures.as_completed([held], timeout=0.01))
    gate.open()
    assert next(ended).result() == "held"


# -- map -------------------------------------------------------------------------------


@pytest.mark.parametrize("chunksize", [1, 3, 100])
@pytest.mark.parametrize("buffersize", [None, 1, 4])
def test_map_gives_results_in_order(
    executor: Executor, chunksize: int, buffersize: int | None
) -> None:
    results = executor.map(pow, range(10), itertools.count(2), chunksize=chunksize)
    assert list(results) == list(map(pow, range(10), range(2, 12)))
    with_buffer = executor.map(add, range(10), [1] * 10, chunksize=chunksize, buffersize=buffersize)
    assert list(with_buffer) == list(range(1, 11))
    assert list(executor.map(add, [], [], chunksize=chunksize, buffersize=buffersize)) == []


def test_map_begins_before_it_is_asked_for_results(executor: Executor, tmp_path: Path) -> None:
    executor.map(stamp, [str(tmp_path)] * 3, "abc")
    until(lambda: sorted(os.listdir(tmp_path)) == ["a", "b", "c"])


def test_map_raises_what_a_call_raised_in_its_place(executor: Executor) -> None:
    results = executor.map(fail_if, range(5), [2] * 5)
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(ValueError, match="bad 2"):
        next(results)
    assert list(results) == []


def test_a_chunk_fails_as_one(executor: Executor) -> None:
    results = executor.map(fail_if, range(6), [3] * 6, chunksize=2)
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(ValueError, match="bad 3") as caught:
        next(results)
    assert "fail_if" in "".join(caught.value.__notes__)


def test_an_error_of_the_input_is_raised_by_map_itself(executor: Executor) -> None:
    def numbers() -> Iterator[int]:
        yield 1
        raise KeyError("input")

    with pytest.raises(KeyError, match="input"):
        executor.map(same, numbers())


def test_closing_the_iterator_of_map_cancels_what_was_not_sent(
    executor: Executor, gate: Gate, tmp_path: Path
) -> None:
    hold = gate.hold

    def leave_a_mark(folder, n):
        if n:
            hold(n)
        return stamp(folder, str(n))

    folder = tmp_path / "marks"
    folder.mkdir()
    results = executor.map(leave_a_mark, [str(folder)] * MANY, range(MANY))
    assert next(results) == "0"
    results.close()  # type: ignore[attr-defined]  # as in the standard library, it has one
    assert list(results) == []
    gate.open()
    executor.shutdown()
    assert "0" in os.listdir(folder)
    assert str(MANY - 1) not in os.listdir(folder)


def test_the_time_of_map_counts_from_the_call(executor: Executor, gate: Gate) -> None:
    results = executor.map(gate.hold, range(MANY), timeout=0.1)
    with pytest.raises(concurrent.futures.TimeoutError):
        next(results)
    assert list(results) == []
    gate.open()
    assert list(executor.map(same, [1], timeout=30)) == [1]


def test_a_buffer_bounds_what_map_pulls(executor: Executor) -> None:
    pulled: list[int] = []

    def numbers() -> Iterator[int]:
        for n in itertools.count():
            pulled.append(n)
            yield n

    results = executor.map(same, numbers(), buffersize=3)
    assert pulled == [0, 1, 2]
    assert [next(results), next(results)] == [0, 1]
    assert pulled == [0, 1, 2, 3, 4]
    results.close()  # type: ignore[attr-defined]  # as in the standard library, it has one


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"chunksize": 0}, ValueError, "chunksize must be >= 1"),
        ({"buffersize": 0}, ValueError, "buffersize must be None or > 0"),
        ({"buffersize": 1.5}, TypeError, "buffersize must be an integer or None"),
    ],
)
def test_map_refuses_sizes_in_the_words_of_the_standard_library(
    executor: Executor, options: dict[str, object], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        executor.map(same, [1], **options)  # type: ignore[arg-type]


# -- shutdown --------------------------------------------------------------------------


def test_a_shutdown_waits_for_all_calls_and_leaves_the_commander_open(
    commander: Commander,
) -> None:
    executor = Executor(commander)
    futures = [executor.submit(nap, 0.05) for _ in range(4)]
    executor.shutdown()
    assert all(future.done() for future in futures)
    executor.shutdown()
    assert commander.submit(add, 1, 1).result() == 2
    assert executor._max_workers == 1


def test_nothing_can_be_submitted_after_a_shutdown(commander: Commander) -> None:
    for used in (True, False):
        executor = Executor(commander)
        if used:
            executor.submit(add, 1, 1)
        executor.shutdown()
        with pytest.raises(RuntimeError, match="cannot schedule new futures after shutdown"):
            executor.submit(add, 1, 1)
        with pytest.raises(RuntimeError, match="cannot schedule new futures after shutdown"):
            executor.map(abs, [1])


def test_a_shutdown_may_be_waited_for_by_nobody(commander: Commander, tmp_path: Path) -> None:
    with Gate(tmp_path / "gate") as gate:
        executor = Executor(commander)
        future = executor.submit(gate.hold, 1)
        executor.shutdown(wait=False)
        assert not future.done()
    assert future.result() == 1


def test_a_shutdown_can_cancel_what_was_not_sent(commander: Commander, tmp_path: Path) -> None:
    with Gate(tmp_path / "gate") as gate:
        executor = Executor(commander)
        futures = [executor.submit(gate.hold, n) for n in range(MANY)]
        until(futures[0].running)
        executor.shutdown(wait=False, cancel_futures=True)
        assert futures[-1].cancelled()
        assert not futures[0].cancelled()
    executor.shutdown()
    assert all(future.done() for future in futures)
    assert [f.result() for f in futures if not f.cancelled()] == [
        n for n, future in enumerate(futures) if not future.cancelled()
    ]


def test_a_callback_may_shut_down(commander: Commander) -> None:
    executor = Executor(commander)
    called = threading.Event()

    def end(_: Future[float]) -> None:
        executor.shutdown()
        called.set()

    executor.submit(nap, 0.01).add_done_callback(end)
    assert called.wait(5)
    executor.shutdown()


def test_an_executor_without_a_commander_has_one_of_its_own_and_closes_it() -> None:
    with Executor(workers=3) as executor:
        assert executor._max_workers == 3
        future = executor.submit(add, 1, 1)
    assert future.result() == 2
    with pytest.raises(GoliathError, match="is closed"):
        executor._commander.submit(add, 1, 1)


def test_a_dropped_executor_ends_when_its_calls_have(tmp_path: Path) -> None:
    results = Executor(workers=1).map(add, range(20), [1] * 20)
    gc.collect()
    assert list(results) == list(range(1, 21))


def test_the_end_of_the_commander_is_the_end_of_its_futures(tmp_path: Path) -> None:
    with Gate(tmp_path / "gate") as gate, Commander(workers=1) as commander:
        executor = Executor(commander)
        futures = [executor.submit(gate.hold, n) for n in range(MANY)]
        commander.close()
        assert all(isinstance(future.exception(30), GoliathError) for future in futures)
        with pytest.raises(GoliathError, match="is closed"):
            executor.submit(add, 1, 1)
        executor.shutdown()


def test_the_exit_of_the_interpreter_waits_for_what_was_submitted(
    script: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    run = script(
        "import time\n"
        "from goliath import Executor\n"
        "def sleep_and_print():\n"
        "    time.sleep(0.3)\n"
        "    print('apple')\n"
        "executor = Executor(workers=1)\n"
        "future = executor.submit(sleep_and_print)\n"
        "def late(_):\n"
        "    try:\n"
        "        executor.submit(abs, 1)\n"
        "    except RuntimeError as exc:\n"
        "        print(exc)\n"
        "future.add_done_callback(late)\n"
    )
    assert (run.returncode, run.stderr) == (0, "")
    assert run.stdout.count("apple") == 1
    assert "cannot schedule new futures after interpreter shutdown" in run.stdout
