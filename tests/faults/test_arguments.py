"""Calls whose arguments or results cannot travel, never end, or are too many for the memory."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from goliath import (
    ActorDiedError,
    Commander,
    SerializationError,
    TaskError,
    get,
    init,
    remote,
    shutdown,
)
from goliath.testing.processes import look
from tests.e2e.calls import same
from tests.faults import promises
from tests.faults.promises import MIB, Journal, Peaks
from tests.lieutenants import Lieutenant

BIG_BYTES = int(os.environ.get("GOLIATH_TEST_BIG_MIB", "96")) * MIB
"""Of one argument, or result. 2048 is the size of the row; that takes minutes and 8 GiB."""
TINY_CALLS = int(os.environ.get("GOLIATH_TEST_TINY_CALLS", "300000"))
as_long_as_it_takes = pytest.mark.timeout(60 + BIG_BYTES // (8 * MIB) + TINY_CALLS // 10_000)


class TwoArgumentsError(Exception):
    """Does not survive pickling: the arguments are not what ``__init__`` wants."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(f"{code}: {text}")


def unpicklable_argument(n: int) -> Any:
    return threading.Lock() if n == 1 else n


def misbehave(kind: str) -> Any:
    """What a call does that its caller cannot be given as it is."""
    if kind == "result":
        return {"broken": [threading.Lock()]}
    if kind == "exception":
        error = ValueError("with a lock")
        error.lock = threading.Lock()  # type: ignore[attr-defined]
        raise error
    if kind == "two arguments":
        raise TwoArgumentsError(5, "five")
    raise {
        "StopIteration": StopIteration,
        "SystemExit": SystemExit,
        "KeyboardInterrupt": KeyboardInterrupt,
    }[kind]("why")


@pytest.mark.parametrize(
    ("kind", "error", "words"),
    [
        ("result", SerializationError, ["broken", "lock"]),
        ("exception", TaskError, ["ValueError", "with a lock"]),
        ("two arguments", TaskError, ["TwoArgumentsError", "5: five"]),
        ("StopIteration", TaskError, ["StopIteration", "why"]),
        ("SystemExit", TaskError, ["SystemExit", "why"]),
        ("KeyboardInterrupt", TaskError, ["KeyboardInterrupt", "why"]),
    ],
)
def test_unpicklable_result_or_exception_is_a_typed_error_for_that_index_only(
    cmdr: Commander, journal: Journal, kind: str, error: type, words: list[str]
):
    def work(n: int, path: str) -> Any:
        token = promises.begin(path, n)
        if n == 3:
            return misbehave(kind)
        return promises.end(path, n, token)

    calls = [(n, journal.path) for n in range(10)]
    outcomes = cmdr.run(work, calls, return_exceptions=True, batch_size=10)
    assert journal.unfinished() == {3: 1}
    promises.every_call_has_one_outcome(outcomes, 10)
    promises.values_are_true(outcomes, journal)
    promises.executed_at_most(journal, 1)
    assert type(outcomes[3]) is error
    for word in words:
        assert word in str(outcomes[3])
    # No worker has died of it, and no loop.
    assert all(look(line.pid) for line in journal.lines())
    with pytest.raises(error):
        next(cmdr.imap(work, [(3, journal.path)]))
    with pytest.raises(error):
        cmdr.submit(work, 3, journal.path).result()


def test_unpicklable_argument_is_a_typed_error_for_that_index_only(
    cmdr: Commander, journal: Journal
):
    def work(n: int, path: str, extra: Any) -> Any:
        return promises.execute(path, n)

    calls = [(n, journal.path, unpicklable_argument(n)) for n in range(3)]
    outcomes = cmdr.run(work, calls, return_exceptions=True)
    promises.every_call_has_one_outcome(outcomes, 3)
    promises.values_are_true(outcomes, journal)
    assert type(outcomes[1]) is SerializationError
    assert "argument [2], a lock" in str(outcomes[1])
    assert journal.executions() == {0: 1, 2: 1}


def test_actor_init_raises_is_an_actor_died_error_with_its_cause_on_every_pending_call(
    node: Lieutenant, journal: Journal
):
    class Stillborn:
        def __init__(self, path: str) -> None:
            promises.begin(path, 0)
            raise ValueError("not this time")

        def ask(self) -> int:
            return 1

    init(node.address)
    try:
        actor = remote(max_restarts=-1)(Stillborn).remote(journal.path)
        for ref in [actor.ask.remote() for _ in range(20)]:
            with pytest.raises(ActorDiedError) as caught:
                get(ref, timeout=10)
            assert isinstance(caught.value.__cause__, ValueError)
            assert "not this time" in str(caught.value)
    finally:
        shutdown()
    assert journal.unfinished()[0] == 1  # and was not made again


def test_argument_generator_raises_half_way_and_what_was_submitted_finishes(
    cmdr: Commander, journal: Journal
):
    def calls() -> Iterator[tuple[str, int]]:
        for n in range(50):
            yield journal.path, n
        raise LookupError("the input ends here")

    with pytest.raises(LookupError, match="the input ends here") as caught:
        cmdr.run(promises.execute, calls())
    assert "50" in "\n".join(caught.value.__notes__)
    promises.executed_at_most(journal, 1)
    assert cmdr.run(same, [(1,)]) == [1]


# -- memory is bounded -------------------------------------------------------------------


def size_of(value: bytes) -> int:
    return len(value)


@as_long_as_it_takes
def test_a_big_argument_costs_each_side_a_few_times_its_size_and_then_nothing(lieutenant: Any):
    own = lieutenant(1)
    with Commander([own.address]) as commander:
        commander.run(size_of, [(b"",)])
        peaks = Peaks(commander=os.getpid(), node=own.pid)
        assert commander.run(size_of, [(bytes(BIG_BYTES),)]) == [BIG_BYTES]
        peaks.stay_below({"commander": 5 * BIG_BYTES, "node": 4 * BIG_BYTES})


@as_long_as_it_takes
def test_a_big_result_comes_back_and_of_a_remote_function_stays_until_it_is_asked_for(
    node: Lieutenant,
):
    with Commander([node.address]) as commander:
        (result,) = commander.run(bytes, [(BIG_BYTES,)])
        assert len(result) == BIG_BYTES
        del result
        assert len(commander.submit(bytes, BIG_BYTES).result()) == BIG_BYTES


def test_what_is_over_the_limit_of_its_node_is_a_typed_error_for_that_call_only(
    lieutenant: Any, journal: Journal
):
    limit = 4 * MIB
    # Without an arena, as on another machine: what is lent is not sent.
    env = {"GOLIATH_MESSAGE_MAX_BYTES": str(limit), "GOLIATH_ARENA_BYTES": "0"}
    own = lieutenant(1, env=env)
    with Commander([own.address]) as commander:
        commander.run(promises.execute, [(journal.path, 0)])
        sizes = [(limit // 2,), (2 * limit,), (7,)]
        results = commander.run(bytes, sizes, return_exceptions=True, batch_size=1)
        assert [type(each) for each in results] == [bytes, SerializationError, bytes]
        for word in ("bytes, call 1:", "8388620 bytes", "GOLIATH_MESSAGE_MAX_BYTES"):
            assert word in str(results[1])
        given = [(bytes(size),) for (size,) in sizes]
        results = commander.run(size_of, given, return_exceptions=True, batch_size=1)
        assert [type(each) for each in results] == [int, SerializationError, int]
        assert "GOLIATH_MESSAGE_MAX_BYTES" in str(results[1])
        function = eval("lambda n, big=bytes(8 * 2**20): len(big) + n")
        for _ in range(2):
            with pytest.raises(SerializationError, match="GOLIATH_MESSAGE_MAX_BYTES"):
                commander.submit(function, 1).result()
        assert own.process.poll() is None
        commander.run(promises.execute, [(journal.path, 1)])
        assert len({line.pid for line in journal.lines()}) == 1, "another worker: another session"


@as_long_as_it_takes
def test_many_tiny_calls_need_memory_for_their_results_only(lieutenant: Any):
    own = lieutenant(2)
    with Commander([own.address]) as commander:
        commander.run(same, [(0,)])
        peaks = Peaks(commander=os.getpid(), node=own.pid)
        total = sum(commander.imap(same, ((n,) for n in range(TINY_CALLS)), buffersize=20_000))
        assert total == TINY_CALLS * (TINY_CALLS - 1) // 2
        peaks.stay_below(64 * MIB)


def test_a_consumer_that_sleeps_holds_up_the_input_and_bounds_the_memory(lieutenant: Any):
    own = lieutenant(2)
    pulled = 0

    def calls() -> Iterator[tuple[int]]:
        nonlocal pulled
        for n in range(1_000_000):
            pulled += 1
            yield (n,)

    def swell(n: int) -> bytes:
        return bytes(100_000)

    with Commander([own.address]) as commander:
        commander.run(same, [(0,)])
        peaks = Peaks(commander=os.getpid(), node=own.pid)
        results = commander.imap(swell, calls(), buffersize=100)
        next(results)
        time.sleep(1)  # this is the fault: nobody takes what is there
        assert pulled <= 101
        peaks.stay_below(64 * MIB)
        results.close()
