"""The caller's half of a run: cuts and encodes the calls, decodes and places the outcomes.

All of that is done in the thread that wants the results (the loop's thread only moves bytes:
10 ns a call), whenever that thread would otherwise wait. A job does not wait itself: whoever
drives it alternates `wanted`/`submit` and `take_in`, and sleeps on its bell in between.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import count
from typing import TYPE_CHECKING, Any

from goliath.actors import desk
from goliath.actors.bell import Bell
from goliath.actors.outcomes import explain, rebuild
from goliath.actors.portal import Portal, PortalClosedError
from goliath.actors.ref import AskableRef
from goliath.actors.signatures import Checker, at
from goliath.actors.surroundings import Surroundings
from goliath.core.batch import JobOptions
from goliath.core.collector import Collector
from goliath.core.commands import Verdict
from goliath.core.ids import JobId
from goliath.errors import DeadlineExceededError, SerializationError
from goliath.record import frozen
from goliath.transport.columns import COLUMNS, encode_columns
from goliath.transport.functions import Function
from goliath.transport.keepsakes import Keepsake
from goliath.transport.message import Origin
from goliath.transport.outcomes import FailureRecord, decode_outcomes, serialization_record
from goliath.transport.payload import Payload
from goliath.transport.rows import ROWS, Row, UnpicklableRowError, encode_rows

if TYPE_CHECKING:
    from goliath.actors.driving import Attendant
    from goliath.actors.logbook import Logbook  # it imports sqlite3, which few runs need
    from goliath.actors.progress import Reporter

job_ids = count(1)

Stretch = tuple[int, list[Any]]
"""The index of the first call, and the outcomes from there on."""


@frozen
class Plan:
    """What is to be run, as the user said it."""

    function: Callable[..., Any]
    static: Mapping[str, Any]
    pickled: Function
    surroundings: Surroundings
    options: JobOptions
    total: int | None
    ordered: bool = True
    return_exceptions: bool = False
    fail_fast: bool = True  # the first failure is raised as soon as it is heard of
    buffersize: int | None = None
    logbook: Logbook | None = None
    reporter: Reporter | None = None

    @property
    def attendants(self) -> tuple[Attendant, ...]:
        """Who is told at every turn how far the run is."""
        return tuple(one for one in (self.logbook, self.reporter) if one is not None)


@frozen
class Raised:
    """In the place of an outcome: what is to be raised when an iterator comes to it."""

    error: BaseException


class Job:
    """One run, from the first item to the last outcome."""

    def __init__(self, plan: Plan, portal: Portal, commander: AskableRef, bell: Bell) -> None:
        self.id = JobId(next(job_ids))
        self._plan = plan
        self._portal = portal
        self._commander = commander
        self._bell = bell
        self._checker = Checker(plan.function, plan.static)
        self._shipped = plan.surroundings.shipped_modules
        self._collector = Collector(ordered=plan.ordered)
        self._logbook = plan.logbook
        self._news: deque[desk.Settled | desk.Failed] = deque()
        self._granted = 0  # parcels the scheduler still wants
        self._calls = 1  # ... of so many calls
        self._taken = 0  # outcomes handed to the driver
        self._exhausted = False
        self._cut_short = False  # there may be more calls in the input, which nobody will pull
        self._over = False
        self._broken: Exception | None = None
        self._expired = False
        self.failed = False  # whether a `Raised` stands among the outcomes

    def open(self) -> None:
        """Have the Commander take it on. From now on it must be driven to its end, or cancelled."""
        plan = self._plan
        job = desk.OpenJob(self.id, self, plan.pickled, plan.surroundings, plan.options, plan.total)
        self._portal.post(desk.open_job, self._commander, job)

    def _post(self, message: Any) -> None:
        try:
            self._portal.post(self._commander.tell, message)
        except PortalClosedError:
            if self._broken is not None:
                raise self._broken from None  # the reason, and not what it has led to
            raise

    # -- what the Commander actor says, in the loop's thread ----------------------------

    def on_demand(self, batches: int, calls: int) -> None:
        """See `desk.Owner.on_demand`."""
        self._granted += batches
        self._calls = calls
        self._bell.ring()

    def on_settled(self, settled: desk.Settled) -> None:
        """See `desk.Owner.on_settled`."""
        self._news.append(settled)
        self._bell.ring()

    def on_failed(self, failed: desk.Failed) -> None:
        """See `desk.Owner.on_failed`."""
        self._news.append(failed)
        self._bell.ring()

    def on_broken(self, error: Exception) -> None:
        """See `desk.Owner.on_broken`."""
        self._broken = self._broken or error
        self._bell.ring()

    # -- feeding, in the driver's thread -------------------------------------------------

    @property
    def granted(self) -> int:
        """How many parcels may be submitted, as far as is known now."""
        return self._granted

    def wanted(self) -> int:
        """How many calls the next parcel should have; 0: none now."""
        if self._exhausted or self._granted <= 0 or self._over:
            return 0
        calls = self._calls
        if self._logbook is not None:
            calls = max(calls, self._logbook.stride)
        if self._plan.buffersize is not None:
            calls = min(calls, self._plan.buffersize - (self._collector.expected - self._taken))
        return max(calls, 0)

    def submit(self, rows: list[Row]) -> None:
        """Send the next calls off.

        Raises:
            TypeError: a row is no call of the function (unless exceptions are returned).
            SerializationError: an argument cannot be pickled (likewise).
            CheckpointError: it cannot be looked up whether they were made before.
        """
        if self._logbook is None:
            self._send_off(rows)
        else:
            self._resume(self._logbook, rows)
        if self._collector.expected == self._plan.total:
            self.exhaust()

    def _resume(self, logbook: Logbook, rows: list[Row]) -> None:
        """Place the results that are known, and send the other calls off: in parcels as large as
        the scheduler wants them, though more rows than that were looked up."""
        calls = self._calls
        for known, unknown in logbook.sift(self._collector.expected, rows):
            if known:
                self._collector.fill(self._collector.expect(len(known)), known)
            for start in range(0, len(unknown), calls):
                self._send_off(unknown[start : start + calls])

    def _send_off(self, rows: list[Row]) -> None:
        while rows:
            bad = self._checker.check(rows[:1])
            # The common case: columns vouch for the keys of all rows, if the first is good.
            payload = None if bad is not None else encode_columns(rows)
            if payload is not None:
                self._send(rows, COLUMNS, payload)
                return
            bad = bad or self._checker.check(rows)
            good = rows if bad is None else rows[: bad[0]]
            sent, error = self._send_good(good, try_columns=bad is not None)
            if error is None and bad is not None:
                error = at(bad[1], self._collector.expected)
            if error is None:
                return
            index = self._collector.expect(1)
            if not self._plan.return_exceptions:
                raise error
            self._collector.fill(index, [error])
            rows = rows[sent + 1 :]

    def _send_good(self, rows: list[Row], *, try_columns: bool) -> tuple[int, Exception | None]:
        """Send rows that fit the function; how many, and why the next one cannot be pickled."""
        if not rows:
            return 0, None
        columns = encode_columns(rows) if try_columns else None
        if columns is not None:
            self._send(rows, COLUMNS, columns)
            return len(rows), None
        try:
            self._send_rows(rows)
        except UnpicklableRowError as exc:
            good = rows[: exc.position]
            if good:
                self._send_rows(good)
            index = self._collector.expected
            error = SerializationError(f"{self._plan.pickled.name}, call {index}: {exc.error}")
            error.__cause__ = exc.__cause__
            return exc.position, error
        return len(rows), None

    def _send_rows(self, rows: list[Row]) -> None:
        beside: list[Keepsake] = []
        payload = encode_rows(rows, self._shipped, beside)
        self._send(rows, ROWS, payload, beside)

    def _send(
        self, rows: list[Row], form: str, payload: Payload, beside: Sequence[Keepsake] = ()
    ) -> None:
        # What was granted are parcels: rows that cannot be sent leave the scheduler waiting for
        # one, and rows that take several parcels are no debt.
        self._granted = max(self._granted - 1, 0)
        first = self._collector.expect(len(rows))
        origin: Origin = [self.id, first, str(self.id), first]
        parcel = desk.Parcel(self.id, first, len(rows), form, payload, origin, deposits=beside)
        self._post(desk.SubmitParcel(parcel))

    def exhaust(self) -> None:
        """Say that there are no more calls."""
        if not self._exhausted:
            self._exhausted = True
            self._post(desk.ExhaustJob(self.id))

    # -- collecting, in the driver's thread ------------------------------------------------

    @property
    def over(self) -> bool:
        """Whether every outcome there will be has been taken in."""
        return self._over or (self._exhausted and self._collector.complete and not self._news)

    @property
    def submitted(self) -> int:
        """How many calls have been taken from the input so far."""
        return self._collector.expected

    @property
    def done(self) -> int:
        """How many outcomes have come."""
        return self._collector.filled

    @property
    def total(self) -> int | None:
        """How many calls there are, as far as that is known."""
        ended = self._exhausted and not self._cut_short
        return self.submitted if ended else self._plan.total

    def take_in(self) -> list[Stretch]:
        """Decode what has arrived; the stretches whose turn it is.

        Raises:
            BaseException: the first failure, unless exceptions are returned.
            LocalError: the Commander has ended.
        """
        while self._news:
            news = self._news.popleft()
            if isinstance(news, desk.Settled):
                self._settle(news)
            else:
                self._fail(news)
        if self._broken is not None and not self.over:
            self._over = True
            raise self._broken
        ready = self._collector.take_ordered() if self._plan.ordered else self._collector.take_any()
        self._taken += sum(len(outcomes) for _, outcomes in ready)
        return ready

    def _settle(self, news: desk.Settled) -> None:
        outcomes, failures = self._decoded(news)
        first = news.parcel + news.lo
        if self._logbook is not None:
            self._write_down(self._logbook, news, failures)
        for place, record in failures.items():
            if news.lo + place not in news.excepted:
                outcomes[place] = self._failure(rebuild(record, news.where, first + place))
        start = 0
        for call in (*sorted(news.excepted), news.hi):
            stop = call - news.lo
            if start < stop:
                part = outcomes[start:stop] if news.excepted else outcomes
                self._collector.fill(first + start, part)
            start = stop + 1

    def _write_down(self, logbook: Logbook, news: desk.Settled, failures: Collection[int]) -> None:
        """Have the results kept. A ref in one would mean nothing to another process."""
        first, calls = news.parcel + news.lo, news.hi - news.lo
        if news.held or len(failures) == calls:
            logbook.failed(first, first + calls)
        else:
            left_out = {call - news.lo for call in news.excepted}
            logbook.finished(first, news.payload, left_out.union(failures))

    @staticmethod
    def _decoded(news: desk.Settled) -> tuple[list[Any], dict[int, FailureRecord]]:
        """The outcomes; what is no list of so many is a failure of them all."""
        calls = news.hi - news.lo
        try:
            outcomes, failures = decode_outcomes(news.payload)
            if len(outcomes) == calls:
                return outcomes, failures
            problem = f"{len(outcomes)} outcomes came for {calls} calls"
        except Exception as exc:  # noqa: BLE001 - whatever a damaged payload may raise
            problem = f"its outcome cannot be read here ({type(exc).__name__}: {exc})"
        record = serialization_record(f"{problem}; run it again")
        return [None] * calls, dict.fromkeys(range(calls), record)

    def _fail(self, news: desk.Failed) -> None:
        first = news.parcel + news.lo
        if self._logbook is not None:
            self._logbook.failed(first, news.parcel + news.hi)
        self._collector.fill(
            first,
            [
                self._failure(self._explain(news, first + place))
                for place in range(news.hi - news.lo)
            ],
        )

    def _explain(self, news: desk.Failed, index: int) -> BaseException:
        if self._expired and news.setback.verdict is Verdict.CANCELLED:
            return DeadlineExceededError(
                f"{news.where.function}, call {index}, had no result when the deadline of its "
                "run passed; it was cancelled"
            )
        return explain(news.setback, news.where, index)

    def _failure(self, error: BaseException) -> BaseException | Raised:
        if self._plan.return_exceptions:
            return error
        if self._plan.fail_fast:
            raise error
        self.failed = True
        return Raised(error)

    # -- ending early ------------------------------------------------------------------

    def cancel(self, *, force: bool = False) -> None:
        """Nobody wants the rest; outcomes that still come are dropped."""
        self._over = True
        if self._logbook is not None:
            self._salvage(self._logbook)
        self._call_off(force=force)

    def _salvage(self, logbook: Logbook) -> None:
        """Have the results kept that came and were not looked at."""
        for news in tuple(self._news):
            if isinstance(news, desk.Settled):
                self._write_down(logbook, news, self._decoded(news)[1])

    def expire(self) -> None:
        """The deadline has passed: what is unfinished will come in as `DeadlineExceededError`."""
        self._expired = True
        self._call_off(force=True)

    def _call_off(self, *, force: bool) -> None:
        self._cut_short = not self._exhausted
        self._exhausted = True
        try:
            self._portal.post(self._commander.tell, desk.CancelJob(self.id, force))
            self._portal.kick()  # this may be the way out of a KeyboardInterrupt in a post
        except PortalClosedError:
            return  # the Commander has ended, and the job with it

    def fail_unsent(self, calls: int) -> None:
        """Fill the slots of calls that were never sent because the deadline has passed; of none at
        the end of the input."""
        self._cut_short = calls > 0
        if not calls:
            return
        first = self._collector.expect(calls)
        name = self._plan.pickled.name
        self._collector.fill(
            first,
            [
                DeadlineExceededError(
                    f"{name}, call {first + place}, was not sent: the deadline of its run "
                    "had passed"
                )
                for place in range(calls)
            ],
        )
