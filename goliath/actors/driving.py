"""Driving a job from its input to its outcomes, in a thread or in a coroutine.

The input is pulled only as the scheduler asks for calls, and never for long at a time: a
generator that is slow must not keep finished results from the user, nor fast workers from the
calls that are there already.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Callable,
    Generator,
    Iterable,
    Iterator,
    Sequence,
)
from itertools import islice
from typing import Any, Protocol

from goliath.actors.bell import ThreadBell
from goliath.actors.job import Job, Raised, Stretch
from goliath.actors.loop_bell import LoopBell
from goliath.errors import DeadlineExceededError
from goliath.transport.rows import Row

SLICE = 32
"""Items pulled between two looks at the clock (a look costs 50 ns)."""

UNSENT = 8192
"""Calls that are failed at a time when the deadline has passed."""

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
        self._error: BaseException | None = None

    def take(self, count: int) -> list[Row]:
        """See `Rows.take`. A slow source gives fewer than asked, but at least one.

        What it raises is raised when everything it gave before has been taken.
        """
        if self._error is not None:
            raise self._error
        rows: list[Row] = []
        start = time.perf_counter()
        step = 1 if self._slow else SLICE
        while len(rows) < count:
            wanted = min(len(rows) + step, count)
            try:
                rows.extend(islice(self._items, wanted - len(rows)))
            except Exception as exc:
                if not rows:
                    raise
                self._error = exc
                break
            if len(rows) < wanted:
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


class Attendant(Protocol):
    """Who is told at every turn how far a run is, in the thread that drives it."""

    def begin(self) -> None:
        """The run begins."""

    def attend(self, done: int, total: int | None) -> float | None:
        """So many of so many calls have outcomes; in how many seconds it wants to be told again,
        None if only when there are more."""

    def end(self, done: int, total: int | None) -> None:
        """The run has ended, for whatever reason."""


def drive(
    job: Job,
    rows: Rows,
    bell: ThreadBell,
    *,
    deadline_s: float | None = None,
    on_result: OnResult | None = None,
    drain: bool = False,
    attendants: Sequence[Attendant] = (),
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
        attendants: who is told how far it is, before the outcomes are yielded.
    """
    until = None if deadline_s is None else time.monotonic() + deadline_s
    trouble: InputError | None = None
    draining = False
    try:
        _begin(job, attendants)
        while True:
            if trouble is None:
                trouble = _feed(job, rows, until)
            stretches = job.take_in()
            _pause(job, attendants)
            yield from _report(job, stretches, on_result)
            if job.over:
                if not draining or trouble is not None:
                    break
                draining, trouble = _fail_more(job, rows)
            elif _late(until):
                until = None
                _expire(job, drain=drain)
                draining = True
            elif trouble is not None or not job.wanted():
                bell.wait(_pause(job, attendants, until))
        if trouble is not None:
            raise trouble.error
    except BaseException as exc:
        job.cancel(force=isinstance(exc, KeyboardInterrupt))
        _dismiss(job, attendants, exc)
        raise
    _dismiss(job, attendants)


def _begin(job: Job, attendants: Sequence[Attendant]) -> None:
    for attendant in attendants:
        attendant.begin()
    job.open()
    _pause(job, attendants)


def _pause(job: Job, attendants: Sequence[Attendant], until: float | None = None) -> float | None:
    """How long nothing need be done, None: for ever. What the attendants have to do is done."""
    pauses = [attendant.attend(job.done, job.total) for attendant in attendants]
    if until is not None:
        pauses.append(until - time.monotonic())
    return min((pause for pause in pauses if pause is not None), default=None)


def _dismiss(job: Job, attendants: Sequence[Attendant], error: BaseException | None = None) -> None:
    """Let each attendant end. What one of them raises does not hide why the run ended."""
    for attendant in attendants:
        try:
            attendant.end(job.done, job.total)
        except Exception as exc:
            if error is None or isinstance(error, GeneratorExit):
                raise
            error.add_note(f"goliath: and when the run ended, {type(exc).__name__}: {exc}")


def _late(until: float | None) -> bool:
    return until is not None and time.monotonic() >= until


def _feed(job: Job, rows: Rows, until: float | None) -> InputError | None:
    """Submit what is asked for now. What is asked for meanwhile has to wait: outcomes come first,
    or workers that are as fast as the input would never let the user see one."""
    for _ in range(job.granted):
        wanted = job.wanted()
        if not wanted or _late(until):
            break
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


def _expire(job: Job, *, drain: bool) -> None:
    job.expire()
    if not drain:
        raise DeadlineExceededError(
            f"the deadline of the run passed with {job.submitted} calls sent and not all of them "
            "finished; the rest was cancelled"
        )


def _fail_more(job: Job, rows: Rows) -> tuple[bool, InputError | None]:
    """Fail some calls that were not sent in time; whether there may be more."""
    try:
        taken = rows.take(UNSENT)
    except Exception as exc:  # noqa: BLE001 - the user's generator; raised when all is in
        return False, InputError(exc, job.submitted)
    job.fail_unsent(len(taken))
    return bool(taken), None


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
        self._error: Exception | None = None

    async def take(self, count: int, until: float | None = None) -> list[Row] | None:
        """See `Rows.take`. None: the time was up before there was an item."""
        if self._items is None:
            assert self._rows is not None
            return self._rows.take(count)
        rows: list[Row] = []
        left = None if until is None else max(until - time.monotonic(), 0.0)
        try:
            async with asyncio.timeout(left) as limit:
                await self._pull(self._items, rows, count)
        except TimeoutError as exc:
            if not limit.expired():
                self._error = exc
            else:
                assert until is not None
                # Loops round their timers: not a moment too early, or the input, which was
                # ended with this, would look as if it had come to its end in time.
                await asyncio.sleep(max(until - time.monotonic(), 0.0) + 0.002)
                if not rows:
                    return None
        except Exception as exc:  # noqa: BLE001 - it is raised when what came before it is taken
            self._error = exc
        if self._error is not None and not rows:
            raise self._error
        return rows

    async def _pull(self, items: AsyncIterator[Row], rows: list[Row], count: int) -> None:
        if self._error is not None:
            return
        start = time.perf_counter()
        while len(rows) < count:
            try:
                rows.append(await anext(items))
            except StopAsyncIteration:
                return
            if time.perf_counter() - start > PULL_MAX_S:
                return


async def adrive(
    job: Job,
    rows: AsyncRows,
    bell: LoopBell,
    *,
    deadline_s: float | None = None,
    on_result: OnResult | None = None,
    drain: bool = False,
    attendants: Sequence[Attendant] = (),
) -> AsyncGenerator[Stretch, None]:
    """`drive` for a coroutine of any running loop."""
    until = None if deadline_s is None else time.monotonic() + deadline_s
    trouble: InputError | None = None
    draining = False
    try:
        _begin(job, attendants)
        while True:
            if trouble is None:
                trouble = await _afeed(job, rows, until)
            stretches = job.take_in()
            _pause(job, attendants)
            for stretch in _report(job, stretches, on_result):
                yield stretch
            if job.over:
                if not draining or trouble is not None:
                    break
                draining, trouble = await _afail_more(job, rows)
            elif _late(until):
                until = None
                _expire(job, drain=drain)
                draining = True
            elif trouble is not None or not job.wanted():
                await bell.wait(_pause(job, attendants, until))
        if trouble is not None:
            raise trouble.error
    except BaseException as exc:
        job.cancel(force=isinstance(exc, KeyboardInterrupt))
        _dismiss(job, attendants, exc)
        raise
    _dismiss(job, attendants)


async def _afeed(job: Job, rows: AsyncRows, until: float | None) -> InputError | None:
    for _ in range(job.granted):
        wanted = job.wanted()
        if not wanted or _late(until):
            break
        try:
            taken = await rows.take(wanted, until)
        except Exception as exc:  # noqa: BLE001 - the user's generator; raised when all is in
            job.exhaust()
            return InputError(exc, job.submitted)
        if taken:
            job.submit(taken)
        elif taken is not None:
            job.exhaust()
        await asyncio.sleep(0)  # others have their turn, however fast the input is
    return None


async def _afail_more(job: Job, rows: AsyncRows) -> tuple[bool, InputError | None]:
    try:
        taken = await rows.take(UNSENT) or []
    except Exception as exc:  # noqa: BLE001 - the user's generator; raised when all is in
        return False, InputError(exc, job.submitted)
    job.fail_unsent(len(taken))
    return bool(taken), None
