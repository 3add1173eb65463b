"""Driving a job from its input to its outcomes, in a thread or in a coroutine.

The input is pulled only as the scheduler asks for calls, and never for long at a time: a
generator that is slow must not keep finished results from the user, nor fast workers from the
calls that are there already.
"""

from __future__ import annotations

import time
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    Callable,
    Generator,
    Iterable,
    Iterator,
)
from itertools import islice
from typing import Any, Protocol

from goliath.actors.bell import LoopBell, ThreadBell
from goliath.actors.job import Job, Raised, Stretch
from goliath.errors import DeadlineExceededError
from goliath.transport.serialization import Row

SLICE = 32
"""Items pulled between two looks at the clock (a look costs 50 ns)."""

PULL_MAX_S = 0.002
"""A parcel that took so long to pull goes off with what it has."""

OnResult = Callable[[int, Any], None]


class Rows(Protocol):
    """The user's input, as far as it has been pulled."""

    def take(self, count: int) -> list[Row]:
        """Up to ``count`` further items; an empty list means the end."""


class RowList:
    """Input that is there already."""

    def __init__(self, items: list[Row]) -> None:
        self._items = items
        self._next = 0

    def take(self, count: int) -> list[Row]:
        """See `Rows.take`."""
        rows = self._items[self._next : self._next + count]
        self._next += len(rows)
        return rows


class RowStream:
    """Input that is made while it is pulled."""

    def __init__(self, items: Iterable[Row]) -> None:
        self._items = iter(items)
        self._slow = True

    def take(self, count: int) -> list[Row]:
        """See `Rows.take`. A slow source gives fewer than asked, but at least one."""
        rows: list[Row] = []
        start = time.perf_counter()
        step = 1 if self._slow else SLICE
        while len(rows) < count:
            piece = list(islice(self._items, min(step, count - len(rows))))
            rows += piece
            if len(piece) < step:
                break
            self._slow = time.perf_counter() - start > PULL_MAX_S
            if self._slow:
                break
            step = min(step * 2, SLICE)
        return rows


def rows_of(items: Iterable[Row]) -> Rows:
    """The input as `Rows`."""
    return RowList(items) if type(items) is list else RowStream(items)


class InputError(Exception):
    """Carries what the user's own iterable raised past the code that pulls from it."""

    def __init__(self, error: BaseException, index: int) -> None:
        super().__init__(error)
        error.add_note(f"goliath: raised by the iterable of calls, when call {index} was pulled")
        self.error = error


def drive(
    job: Job,
    rows: Rows,
    bell: ThreadBell,
    *,
    deadline_s: float | None = None,
    on_result: OnResult | None = None,
    drain: bool = False,
) -> Generator[Stretch, None, None]:
    """Feed a job and yield its stretches, in the calling thread.

    When the generator is closed early, or anything is raised, the job is cancelled.

    Args:
        job: the job.
        rows: its input.
        bell: the one that the job rings.
        deadline_s: seconds until the rest is given up.
        on_result: called with index and outcome before they are yielded.
        drain: whether unsent items, too, are failed when the deadline passes.
    """
    until = None if deadline_s is None else time.monotonic() + deadline_s
    trouble: InputError | None = None
    try:
        while True:
            while (wanted := job.wanted()) and trouble is None:
                trouble = _feed(job, rows, wanted)
            yield from _report(job, job.take_in(), on_result)
            if job.over:
                break
            if job.wanted() and trouble is None:
                continue
            left = None if until is None else until - time.monotonic()
            if not bell.wait(left):
                until = None
                _expire(job, rows, drain=drain)
        if trouble is not None:
            raise trouble.error
    except BaseException as exc:
        job.cancel(force=isinstance(exc, KeyboardInterrupt))
        raise


def _feed(job: Job, rows: Rows, wanted: int) -> InputError | None:
    try:
        taken = rows.take(wanted)
    except BaseException as exc:
        job.exhaust()
        if isinstance(exc, KeyboardInterrupt):
            raise
        return InputError(exc, job.submitted)
    if taken:
        job.submit(taken)
    else:
        job.exhaust()
    return None


def _expire(job: Job, rows: Rows, *, drain: bool) -> None:
    job.expire()
    if not drain:
        raise DeadlineExceededError(
            f"the deadline of the run passed with {job.submitted} calls sent and not all of them "
            "finished; the rest was cancelled"
        )
    while taken := rows.take(8192):
        job.fail_unsent(len(taken))


def _report(job: Job, stretches: list[Stretch], on_result: OnResult | None) -> Iterator[Stretch]:
    """Hand the outcomes on, up to the first that is to be raised."""
    for first, outcomes in stretches:
        error = _first_raised(outcomes) if job.failed else None
        if on_result is not None:
            for place, outcome in enumerate(outcomes):
                on_result(first + place, outcome)
        yield first, outcomes
        if error is not None:
            if on_result is not None:
                on_result(first + len(outcomes), error)
            raise error


def _first_raised(outcomes: list[Any]) -> BaseException | None:
    """The first exception that is not to be returned; it and what follows are taken away."""
    for place, outcome in enumerate(outcomes):
        if type(outcome) is Raised:
            del outcomes[place:]
            return outcome.error
    return None


class AsyncRows:
    """Input of either kind, pulled from a coroutine."""

    def __init__(self, items: Iterable[Row] | AsyncIterable[Row]) -> None:
        self._rows = None if isinstance(items, AsyncIterable) else rows_of(items)
        self._items = aiter(items) if isinstance(items, AsyncIterable) else None

    async def take(self, count: int) -> list[Row]:
        """See `Rows.take`."""
        if self._rows is not None:
            return self._rows.take(count)
        assert self._items is not None
        rows: list[Row] = []
        start = time.perf_counter()
        while len(rows) < count:
            try:
                rows.append(await anext(self._items))
            except StopAsyncIteration:
                break
            if time.perf_counter() - start > PULL_MAX_S:
                break
        return rows


async def adrive(
    job: Job,
    rows: AsyncRows,
    bell: LoopBell,
    *,
    deadline_s: float | None = None,
    on_result: OnResult | None = None,
    drain: bool = False,
) -> AsyncGenerator[Stretch, None]:
    """`drive` for a coroutine of any running loop."""
    until = None if deadline_s is None else time.monotonic() + deadline_s
    trouble: InputError | None = None
    try:
        while True:
            while (wanted := job.wanted()) and trouble is None:
                trouble = await _afeed(job, rows, wanted)
            for stretch in _report(job, job.take_in(), on_result):
                yield stretch
            if job.over:
                break
            if job.wanted() and trouble is None:
                continue
            left = None if until is None else until - time.monotonic()
            if not await bell.wait(left):
                until = None
                await _aexpire(job, rows, drain=drain)
        if trouble is not None:
            raise trouble.error
    except BaseException as exc:
        job.cancel(force=isinstance(exc, KeyboardInterrupt))
        raise


async def _afeed(job: Job, rows: AsyncRows, wanted: int) -> InputError | None:
    try:
        taken = await rows.take(wanted)
    except Exception as exc:  # noqa: BLE001 - the user's generator; raised when all is in
        job.exhaust()
        return InputError(exc, job.submitted)
    if taken:
        job.submit(taken)
    else:
        job.exhaust()
    return None


async def _aexpire(job: Job, rows: AsyncRows, *, drain: bool) -> None:
    job.expire()
    if not drain:
        raise DeadlineExceededError(
            f"the deadline of the run passed with {job.submitted} calls sent and not all of them "
            "finished; the rest was cancelled"
        )
    while taken := await rows.take(8192):
        job.fail_unsent(len(taken))
