"""A range of calls being run: by the main thread, while the control thread may cut and read it.

**What keeps the two threads apart.** The main thread takes no lock between calls. It appends
to ``values`` last, after anything else about that call stands in ``boxed`` or ``failures``; so
whatever lies below ``len(values)`` is finished, may be reported, and never changes again.

**How a running range is cut.** The loop consumes one list. The control thread deletes the
tail of that list, and then asks the iterator how far it has come: the loop may have gone on
in between, and then it has started more than was meant to be left to it, so the later
of the two is the truth. From then on the iterator cannot pass it. An iterator that is used up
does not tell its place any more, but then every call that began has been appended.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any, Protocol

from goliath.actors import results
from goliath.actors.calls import Callee, Calls, ColumnCalls, Function, RowCalls
from goliath.actors.cargo import packed, unpacked
from goliath.actors.coroutines import GENERATORS, CoroutineRunner, must_be_awaited
from goliath.actors.failures import CallInterrupted, RefusedError, failure_record
from goliath.actors.loops import Loop
from goliath.transport.arena import WORTH_BYTES, settled_anywhere
from goliath.transport.columns import COLUMNS
from goliath.transport.outcomes import (
    FailureRecord,
    encode_outcomes,
    is_long,
    serialization_record,
    set_apart,
)
from goliath.transport.payload import Payload, Piece
from goliath.transport.serialization import SCALARS
from goliath.transport.worker_messages import Progress, RunRange


class EachCall(Protocol):
    """What has to be done around every single call, where that is asked for."""

    def before(self) -> None:
        """The next call is about to start."""

    def after(self) -> None:
        """It has ended, and its outcome stands in the range."""

    def goes_on(self) -> bool:
        """Whether the same has to be done around the calls that are left."""


class Region:
    """Whether the main thread is inside user code, and of which range: only there may an
    interrupt strike."""

    __slots__ = ("serial",)

    def __init__(self) -> None:
        self.serial = 0


class Range:
    """Calls ``lo <= i < end``; ``end`` comes down when the rest is given back."""

    __slots__ = (
        "_calls",
        "_interrupted_before",
        "_keep_over",
        "_reported",
        "_reported_at",
        "_retryable",
        "_waiting_bytes",
        "boxed",
        "end",
        "failures",
        "held",
        "lo",
        "serial",
        "values",
    )

    def __init__(self, message: RunRange) -> None:
        self.serial = message.serial
        self.lo = message.lo
        self.end = message.hi
        self.values: list[Any] = []
        self.boxed: dict[int, Piece] = {}
        self.failures: dict[int, FailureRecord] = {}
        self.held: dict[int, list[Any]] = {}  # the refs in a result, until it has been reported
        self._keep_over = message.keep_over
        self._retryable: set[int] = set()
        self._calls: Calls | None = None
        self._interrupted_before: int | None = None
        self._waiting_bytes = 0
        self._reported = 0
        self.begin()

    def begin(self) -> None:
        """Its time begins."""
        self._reported_at = time.perf_counter()

    def __repr__(self) -> str:
        return f"<Range {self.serial} [{self.lo}, {self.end}) finished {len(self.values)}>"

    @property
    def stopped(self) -> bool:
        """Whether it was interrupted."""
        return self._interrupted_before is not None

    @property
    def next_index(self) -> int:
        """The number of the call that starts next, or runs now."""
        return self.lo + len(self.values)

    @property
    def exhausted(self) -> bool:
        """Whether no call is left to be started."""
        return self.next_index >= self.end

    # -- by either thread, with the worker's lock held ---------------------------------

    def open(self, message: RunRange, callee: Callee) -> Calls:
        """Read the calls, those that are left of them."""
        calls: Calls
        if message.form == COLUMNS:
            calls = ColumnCalls(message.payload, self.lo, self.end, callee)
        elif not message.deposits:
            calls = RowCalls(message.payload, self.lo, self.end)
        else:
            rows, beside = unpacked(message.payload, message.deposits)
            calls = RowCalls(rows, self.lo, self.end, beside)
        self._calls = calls
        return calls

    def interrupt(self) -> None:
        """Start no further call."""
        if self._interrupted_before is None:
            self._interrupted_before = self.end
        self.give_back(keep=1)

    def give_back(self, keep: int) -> int:
        """Cut off what has not started, all but one part in ``keep`` (1: all of it).

        The last one is given: whoever asks has nothing to do, and this worker is busy.

        Returns:
            The number of the first call that will not be run here.
        """
        started = self._started()
        rest = self.end - self.lo - started
        kept = 0 if keep <= 1 else rest // keep
        self._cut(started + kept)
        return self.end

    def _cut(self, count: int) -> None:
        if self._calls is not None:
            del self._calls.column[count:]
            count = max(count, self._started())
        self.end = min(self.end, self.lo + count)

    def _started(self) -> int:
        if self._calls is None:
            return 0
        state = self._calls.iterator.__reduce__()
        return int(state[2]) if len(state) == 3 else len(self.values)

    def progress(self, *, final: bool, dirty: bool = False) -> Progress | None:
        """The finished calls that were not reported yet; None if that says nothing."""
        first, last = self._reported, len(self.values)
        if first == last and not final:
            return None
        now = time.perf_counter()
        elapsed, self._reported, self._reported_at = now - self._reported_at, last, now
        boxed_bytes, self._waiting_bytes = self._waiting_bytes, 0
        # A range that is over and was never reported goes as it is: its list is not copied.
        values = self.values if final and not first else self.values[first:last]
        boxed = _taken(self.boxed, first, last) if self.boxed else {}
        failures = _taken(self.failures, first, last) if self.failures else {}
        over, deposits = self._keep_over, []
        apart = None
        if over > 0 and (over < boxed_bytes or (values and is_long(values[0], over))):
            apart = set_apart(values, boxed, over)
        payload: Payload = encode_outcomes(values, boxed, failures)
        if not apart and 0 < over < len(payload):
            apart = set_apart(values, boxed, over)  # a long string behind others: not counted
            payload = encode_outcomes(values, boxed, failures) if apart else payload
        if apart:
            deposits = [[self.lo + first + place, len(apart[place])] for place in apart]
            payload = packed(payload, apart.values())
        if len(payload) > results.OUTCOMES_MAX_BYTES:
            payload, deposits = _too_large(last - first, len(payload)), []
        elif len(payload) > WORTH_BYTES:
            payload = settled_anywhere(payload)
        # By position: with keywords it takes 0.9 µs instead of 0.4.
        return Progress(
            self.serial,
            self.lo + first,
            self.lo + last,
            int(elapsed * 1e6),
            final,
            final and self.lo + last < (self._interrupted_before or 0),
            dirty,
            self._take_retryable(last) if self._retryable else [],
            self._take_held(last) if self.held else [],
            deposits,
            payload,
        )

    def _take_held(self, last: int) -> list[str]:
        places = [place for place in self.held if place < last]
        return [ref.task_id for place in places for ref in self.held.pop(place)]

    def _take_retryable(self, last: int) -> list[int]:
        retryable = sorted(place for place in list(self._retryable) if place < last)
        self._retryable.difference_update(retryable)
        return [self.lo + place for place in retryable]

    # -- by the main thread --------------------------------------------------------------

    def box(self, value: Any) -> None:
        """Pickle a result that is not a plain scalar, before anyone can change it."""
        if isinstance(value, GENERATORS):
            raise RefusedError(
                f"the function returned a {type(value).__name__}, and a generator cannot leave "
                "its process; return list(...) of it, or have each item sent when it is made: "
                'goliath.remote(num_returns="streaming")'
            )
        place = len(self.values)
        pickled, refs = results.pickled_result(value)
        if refs:
            self.held[place] = refs
        self.boxed[place] = pickled
        self._waiting_bytes += len(pickled)
        self.values.append(None)

    def fail(
        self, exc: BaseException, name: str, retry_on: tuple[type[BaseException], ...]
    ) -> None:
        """The call at hand raised."""
        place = len(self.values)
        text = self._calls.text(name, place) if self._calls else f"{name}(…)"
        self.failures[place] = failure_record(exc, text)
        if retry_on and isinstance(exc, retry_on):
            self._retryable.add(place)
        self.values.append(None)

    def forget_unfinished(self) -> None:
        """Drop what an interrupt left of the call it struck."""
        place = len(self.values)
        self.boxed.pop(place, None)
        self.failures.pop(place, None)
        self.held.pop(place, None)
        self._retryable.discard(place)

    @property
    def must_spill(self) -> bool:
        """Whether more pickled results wait than a worker should hold."""
        return self._waiting_bytes > results.SPILL_BYTES


def _too_large(count: int, size: int) -> Payload:
    """Instead of outcomes that do not fit a frame: that they do not."""
    record = serialization_record(results.size_complaint(size))
    return encode_outcomes([None] * count, {}, dict.fromkeys(range(count), record))


def _taken(box: dict[int, Any], first: int, last: int) -> dict[int, Any]:
    """Move the entries below ``last`` out, numbered from ``first``."""
    return {place - first: box.pop(place) for place in list(box) if place < last}


class Execution:
    """Runs ranges on the main thread, each to its end or to an interrupt.

    ``lock`` is held while calls are read; whoever cuts a range holds it too.
    """

    __slots__ = ("_coroutines", "_range", "_region", "_spill", "lock")

    def __init__(
        self,
        region: Region,
        coroutines: CoroutineRunner,
        lock: threading.Lock,
        spill: Callable[[], None],
    ) -> None:
        self._region = region
        self._coroutines = coroutines
        self.lock = lock
        self._spill = spill
        self._range: Range | None = None

    def run(
        self, range_: Range, message: RunRange, function: Function, each: EachCall | None
    ) -> None:
        """Run what is left of a range; never raises on account of user code.

        Args:
            range_: what is to be run.
            message: has the calls.
            function: what they call.
            each: what is done around each call, if anything is.
        """
        region, serial = self._region, range_.serial
        self._range = range_
        try:
            region.serial = serial
            callee = function.callee or function.load()
            region.serial = 0
            with self.lock:
                calls = range_.open(message, callee)
            arguments = (callee.call, range_.values.append, self._box, *calls.sources)
            region.serial = serial
            again = each is None or self._run_each(range_, calls.one, arguments, function, each)
            while again:
                again = self._guarded(calls.whole, arguments, function)
            region.serial = 0
        except CallInterrupted:
            # Raised once, and only while the region was set: from here on nothing strikes.
            region.serial = 0
            range_.forget_unfinished()
        self._range = None  # its results may be big, and the next one may never come

    def _run_each(
        self,
        range_: Range,
        one: Loop,
        arguments: tuple[Any, ...],
        function: Function,
        each: EachCall,
    ) -> bool:
        """Run calls one by one; whether that is no longer necessary for the rest."""
        region = self._region
        while not range_.exhausted:
            region.serial = 0
            each.before()
            region.serial = range_.serial
            self._guarded(one, arguments, function)
            region.serial = 0
            each.after()
            if not each.goes_on():
                region.serial = range_.serial
                return True
        return False

    def _guarded(self, loop: Loop, arguments: tuple[Any, ...], function: Function) -> bool:
        """Whether the loop must be entered again."""
        try:
            return loop(*arguments)
        except CallInterrupted:
            raise
        except BaseException as exc:  # noqa: BLE001 - a call may raise anything, SystemExit too
            assert self._range is not None
            assert function.callee is not None
            self._range.fail(exc, function.name, function.callee.retry_on)
            return True

    def _box(self, value: Any) -> None:
        range_ = self._range
        assert range_ is not None
        if must_be_awaited(value):
            value = self._coroutines.run(value)
        if type(value) in SCALARS:
            range_.values.append(value)
            return
        range_.box(value)
        if range_.must_spill:
            region = self._region
            region.serial = 0
            self._spill()
            region.serial = range_.serial
