"""Driving a job from its input to its outcomes, in a thread and in coroutines."""

from __future__ import annotations

import asyncio
import gc
import itertools
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from typing import Any

import pytest

from goliath.actors.driving import (
    AsyncRows,
    RowList,
    RowStream,
    adrive,
    drive,
    rows_of,
)
from goliath.actors.job import Job
from goliath.actors.loop_bell import LoopBell
from goliath.actors.options import make_plan
from goliath.errors import DeadlineExceededError, TaskCancelledError
from tests.actors.desks import FakeCommander, job_for
from tests.actors.runtime import on_both_loops


def same(x: Any) -> Any:
    return x


def fail_at_five(x: int) -> int:
    if x == 5:
        raise ValueError("five")
    return x


def numbers(count: int | None = None) -> Iterator[dict[str, int]]:
    for number in itertools.count() if count is None else range(count):
        yield {"x": number}


def driven(
    commander: FakeCommander,
    args: Iterable[Any],
    function: Callable[..., Any] = same,
    *,
    deadline_s: float | None = None,
    on_result: Any = None,
    **options: Any,
) -> Iterator[Any]:
    """The outcomes, one by one."""
    job, bell = job_for(commander, function, args, **options)
    stretches = drive(
        job,
        rows_of(args),
        bell,
        deadline_s=deadline_s,
        on_result=on_result,
        drain=options.get("return_exceptions", False),
    )
    try:
        for _, outcomes in stretches:
            yield from outcomes
    finally:
        stretches.close()


# -- the input -------------------------------------------------------------------------


def test_a_list_is_taken_in_slices_until_it_is_empty():
    rows = rows_of([1, 2, 3])  # type: ignore[list-item]
    assert isinstance(rows, RowList)
    assert [rows.take(2), rows.take(2), rows.take(2)] == [[1, 2], [3], []]


def test_a_fast_stream_gives_what_is_asked_and_a_slow_one_what_it_has():
    rows = rows_of(iter(range(1000)))  # type: ignore[arg-type]
    assert isinstance(rows, RowStream)
    assert len(rows.take(100)) == 100

    def slow() -> Iterator[Any]:
        for number in range(10):
            time.sleep(0.003)
            yield number

    assert RowStream(slow()).take(10) == [0]


def test_what_was_pulled_before_the_input_raised_is_not_lost():
    def broken() -> Iterator[Any]:
        yield from numbers(40)
        raise ValueError("half-way")

    rows = RowStream(broken())
    taken = rows.take(1000)
    assert len(taken) == 40
    for _ in range(2):
        with pytest.raises(ValueError, match="half-way"):
            rows.take(1)


# -- in a thread -----------------------------------------------------------------------


def test_a_run_yields_every_outcome_in_order():
    assert list(driven(FakeCommander(), numbers(100))) == list(range(100))
    assert list(driven(FakeCommander(), [{"x": i} for i in range(100)])) == list(range(100))
    assert list(driven(FakeCommander(), [])) == []
    assert list(driven(FakeCommander(), iter(()))) == []


def test_a_generator_is_pulled_only_as_its_results_are_consumed():
    pulled: list[int] = []

    def endless() -> Iterator[dict[str, int]]:
        for row in numbers():
            pulled.append(row["x"])
            yield row

    results = driven(FakeCommander(calls=1000), endless(), buffersize=10)
    assert list(itertools.islice(results, 100)) == list(range(100))
    assert len(pulled) <= 120
    results.close()  # type: ignore[attr-defined]


def test_a_run_that_was_never_begun_is_never_heard_of():
    commander = FakeCommander()
    job, bell = job_for(commander, same)
    stretches = drive(job, rows_of([]), bell)
    stretches.close()
    del stretches
    gc.collect()
    assert commander.log == []


def test_closing_early_cancels_the_rest():
    commander = FakeCommander(lazy=False)
    results = driven(commander, numbers())
    assert next(results) == 0
    results.close()  # type: ignore[attr-defined]
    assert commander.log[-1] == "cancel"


def test_a_forgotten_iterator_cancels_the_rest():
    commander = FakeCommander()
    results = driven(commander, numbers())
    next(results)
    del results
    gc.collect()
    assert commander.log[-1] == "cancel"


def test_an_interrupt_cancels_by_force():
    def interrupted() -> Iterator[Any]:
        yield {"x": 1}
        raise KeyboardInterrupt

    commander = FakeCommander(lazy=True)
    with pytest.raises(KeyboardInterrupt):
        list(driven(commander, interrupted()))
    assert commander.log[-1] == "cancel by force"


def test_a_failing_call_is_raised_and_the_rest_cancelled():
    commander = FakeCommander()
    seen = []
    with pytest.raises(ValueError, match="five"):
        seen.extend(driven(commander, numbers(), fail_at_five, fail_fast=False))
    assert seen == [0, 1, 2, 3, 4]
    assert commander.log[-1] == "cancel"


def test_with_return_exceptions_every_call_runs():
    results = list(driven(FakeCommander(), numbers(8), fail_at_five, return_exceptions=True))
    assert results[:5] + results[6:] == [0, 1, 2, 3, 4, 6, 7]
    assert isinstance(results[5], ValueError)


def test_the_input_may_raise_and_what_it_gave_before_is_finished_first():
    def broken() -> Iterator[Any]:
        yield from numbers(50)
        raise ValueError("half-way")

    seen = []
    with pytest.raises(ValueError, match="half-way") as caught:
        seen.extend(driven(FakeCommander(), broken()))
    assert seen == list(range(50))
    assert caught.value.__notes__ == [
        "goliath: raised by the iterable of calls, when call 50 was pulled"
    ]


def test_an_input_that_exits_is_an_input_that_raises():
    def leaving() -> Iterator[Any]:
        yield {"x": 1}
        raise SystemExit(3)

    with pytest.raises(SystemExit):
        list(driven(FakeCommander(), leaving()))


def test_on_result_is_called_in_the_callers_thread_before_an_outcome_is_yielded():
    told: list[tuple[int, Any]] = []
    seen = []
    for value in driven(
        FakeCommander(),
        numbers(10),
        fail_at_five,
        return_exceptions=True,
        on_result=lambda index, value: told.append((index, value)),
    ):
        seen.append(value)
        assert len(told) >= len(seen)
    assert [index for index, _ in told] == list(range(10))
    assert [value for _, value in told] == seen


def test_on_result_that_raises_ends_the_run():
    commander = FakeCommander()

    def on_result(index: int, _: Any) -> None:
        if index == 3:
            raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        list(driven(commander, numbers(), on_result=on_result))
    assert commander.log[-1] == "cancel"


def test_a_commander_that_ends_ends_the_run():
    commander = FakeCommander()

    def closing() -> Iterator[Any]:
        yield from numbers(10)
        commander.end(TaskCancelledError("closed"))
        yield {"x": 10}

    with pytest.raises(TaskCancelledError, match="closed"):
        list(driven(commander, closing()))


# -- deadlines -------------------------------------------------------------------------


def test_a_deadline_cancels_what_is_unfinished_by_force():
    commander = FakeCommander(lazy=True, endless=False)
    with pytest.raises(DeadlineExceededError, match="with 8 calls sent"):
        list(driven(commander, numbers(), deadline_s=0.01))
    assert "cancel by force" in commander.log


def test_a_deadline_is_kept_though_results_keep_coming():
    begin = time.monotonic()
    with pytest.raises(DeadlineExceededError):
        deque(driven(FakeCommander(), numbers(), deadline_s=0.05), maxlen=0)
    assert time.monotonic() - begin < 2


def test_a_deadline_is_kept_though_the_input_is_slow():
    def slow() -> Iterator[Any]:
        for row in numbers(300):
            time.sleep(0.01)
            yield row

    begin = time.monotonic()
    with pytest.raises(DeadlineExceededError):
        list(driven(FakeCommander(), slow(), deadline_s=0.03))
    assert time.monotonic() - begin < 1


def test_with_return_exceptions_the_unfinished_and_the_unsent_say_that_they_were_late():
    commander = FakeCommander(lazy=True, endless=False, batches=1, calls=3)
    results = list(driven(commander, numbers(20_000), deadline_s=0.01, return_exceptions=True))
    assert len(results) == 20_000
    assert {type(error) for error in results} == {DeadlineExceededError}
    assert "call 2, had no result" in str(results[2])
    assert "call 19999, was not sent" in str(results[-1])


def test_unsent_calls_of_an_endless_input_are_failed_as_they_are_consumed():
    results = driven(
        FakeCommander(lazy=True, endless=False),
        numbers(),
        deadline_s=0.01,
        return_exceptions=True,
        buffersize=10,
    )
    late = list(itertools.islice(results, 20_000))
    assert {type(error) for error in late} == {DeadlineExceededError}
    results.close()  # type: ignore[attr-defined]


def test_an_input_that_raises_behind_the_deadline_is_heard_all_the_same():
    def broken() -> Iterator[Any]:
        yield from numbers(10)
        raise ValueError("late, too")

    commander = FakeCommander(lazy=True, endless=False, batches=1, calls=1)
    seen = []
    with pytest.raises(ValueError, match="late, too"):
        seen.extend(driven(commander, broken(), deadline_s=0.01, return_exceptions=True))
    assert len(seen) == 10


@pytest.mark.parametrize("deadline_s", [float("inf"), 1e300])
def test_a_deadline_may_be_as_far_off_as_one_likes(deadline_s: float):
    commander = FakeCommander(lazy=True)

    def late() -> Iterator[Any]:
        yield {"x": 1}
        commander.lazy = False
        yield {"x": 2}

    def run_soon() -> None:
        commander.run_all()

    import threading

    timer = threading.Timer(0.02, run_soon)
    timer.start()
    assert list(driven(commander, [{"x": 1}], deadline_s=deadline_s)) == [1]
    timer.join()


# -- in coroutines ---------------------------------------------------------------------


def asynchronous(
    commander: FakeCommander, args: Any, *, deadline_s: float | None = None, **options: Any
) -> Any:
    bell = LoopBell()
    plan = make_plan(same, args, (), **options)
    job = Job(plan, commander.portal, commander, bell)  # type: ignore[arg-type]
    return adrive(
        job,
        AsyncRows(args),
        bell,
        deadline_s=deadline_s,
        drain=options.get("return_exceptions", False),
    )


async def collected(stretches: Any, into: list[Any] | None = None) -> list[Any]:
    seen = [] if into is None else into
    async for _, outcomes in stretches:
        seen += outcomes
    return seen


async def anumbers(count: int | None = None) -> AsyncIterator[dict[str, int]]:
    for row in numbers(count):
        yield row


@on_both_loops
async def test_a_coroutine_drives_inputs_of_either_kind():
    for args in (numbers(50), anumbers(50), [{"x": i} for i in range(50)]):
        assert await collected(asynchronous(FakeCommander(), args)) == list(range(50))


@on_both_loops
async def test_others_have_their_turn_however_fast_the_input_is():
    ticks = 0
    done = False

    async def tick() -> None:
        nonlocal ticks
        while not done:
            ticks += 1
            await asyncio.sleep(0)

    async with asyncio.TaskGroup() as group:
        group.create_task(tick())
        await collected(asynchronous(FakeCommander(calls=1), numbers(200)))
        done = True
    assert ticks >= 200


@on_both_loops
async def test_an_async_input_may_raise_and_loses_nothing():
    async def broken() -> AsyncIterator[Any]:
        async for row in anumbers(10):
            yield row
        raise ValueError("half-way")

    seen: list[Any] = []
    with pytest.raises(ValueError, match="half-way") as caught:
        await collected(asynchronous(FakeCommander(), broken()), seen)
    assert seen == list(range(10))
    assert "when call 10 was pulled" in caught.value.__notes__[0]


@on_both_loops
async def test_a_timeout_error_of_the_input_is_its_own():
    async def broken() -> AsyncIterator[Any]:
        yield {"x": 1}
        raise TimeoutError("the database")

    with pytest.raises(TimeoutError, match="the database"):
        await collected(asynchronous(FakeCommander(), broken(), deadline_s=60))


@on_both_loops
async def test_a_deadline_interrupts_an_async_input_that_waits():
    async def stuck() -> AsyncIterator[Any]:
        yield {"x": 1}
        await asyncio.Event().wait()

    begin = time.monotonic()
    with pytest.raises(DeadlineExceededError):
        await collected(asynchronous(FakeCommander(), stuck(), deadline_s=0.02))
    assert time.monotonic() - begin < 2


@on_both_loops
async def test_a_deadline_that_a_loop_rounds_down_does_not_pass_for_the_end_of_the_input():
    async def stuck() -> AsyncIterator[Any]:
        yield {"x": 1}
        await asyncio.Event().wait()

    until = time.monotonic() + 0.0204  # uvloop fires after 20 ms
    assert await AsyncRows(stuck()).take(5, until) == [{"x": 1}]
    assert time.monotonic() >= until, "who asks for more now would be told that there is no more"


@on_both_loops
async def test_with_return_exceptions_a_deadline_fails_the_unsent_of_an_async_input():
    commander = FakeCommander(lazy=True, endless=False, batches=1, calls=3)
    results = await collected(
        asynchronous(commander, anumbers(10), deadline_s=0.01, return_exceptions=True)
    )
    assert [type(error) for error in results] == [DeadlineExceededError] * 10


@on_both_loops
async def test_a_cancelled_coroutine_cancels_its_run():
    commander = FakeCommander(lazy=True, endless=False)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await collected(asynchronous(commander, numbers()))
    assert commander.log[-1] == "cancel"
