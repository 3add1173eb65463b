"""A fake worker process: obeys like the real one, runs calls in virtual time, dies as planned."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from math import inf

from goliath.core.ids import Serial, WorkerId
from goliath.core.node_events import (
    NodeEvent,
    RestYielded,
    Run,
    WorkerExited,
    WorkerProgressed,
    WorkerStarted,
    WorkerWaits,
)
from tests.sim.ledger import CallRecord, End, Execution, JobRecord, Ledger, require
from tests.sim.plan import Fate, Setup
from tests.sim.tally import Seen
from tests.sim.world import Host

NOBODY = -1
OOM_SHARE = 0.2
"""How many of those that die do so because the memory is used up."""
STUCK = 0.03
"""How often something that a coroutine calls holds the loop up, so that no other begins."""

Outcomes = list[tuple[int, int]]
"""Which execution made the outcome of which call (its number in the parcel)."""
Deliver = Callable[["FakeProcess", NodeEvent, Outcomes], None]

ENDS = {
    Fate.VALUE: End.VALUE,
    Fate.RAISE: End.RAISED,
    Fate.RAISE_RETRYABLE: End.RAISED_RETRYABLE,
}


@dataclass(slots=True)
class Range:
    """What a `Run` asked for, and how far it is."""

    order: Run
    calls: dict[int, CallRecord]
    at: int  # the call that starts next, or runs
    end: int
    reported: int
    reported_at: float
    outcomes: Outcomes = field(default_factory=list)
    retryable: list[int] = field(default_factory=list)
    deposits: list[tuple[int, int]] = field(default_factory=list)
    asked_to_stop_at: int | None = None
    execution: Execution | None = None
    page: tuple[int, float] = (NOBODY, 0.0)  # the call it runs, and since when


class FakeProcess:
    """One worker."""

    def __init__(
        self,
        host: Host,
        ledger: Ledger,
        worker: WorkerId,
        job: JobRecord,
        deliver: Deliver,
        calls_max: int | None = None,
    ) -> None:
        self.host = host
        self.worker = worker
        self.dead = False
        self.is_actor = job.plan.options.actor or job.plan.detaches
        self.grows = False  # whether anybody wants to know how big it is
        self.outgrown = False  # its node knows that it is too big
        self._calls_max = inf if calls_max is None or self.is_actor else calls_max
        self._calls_run = 0
        self._bytes = 0
        self.doomed = False  # the node has decided to kill it: what it dies of is no matter now
        self._world = host.world
        self._ledger = ledger
        self._job = job
        self._deliver = deliver
        self._ready = False
        self._made = False  # of a detached actor: its ``__init__`` has returned
        self._waiting: list[Range] = []
        self._revoked: set[Serial] = set()
        self._leaving = False
        self._on_their_way: set[Serial] = set()  # ranges
        self._ranges: dict[Serial, Range] = {}  # that run; more than one if they are concurrent
        self._stuck_until = 0.0
        self.goes_on_at = 0.0  # it was stopped until then
        self._begun = 0
        self._ends: dict[Serial, int] = {}
        self._early_splits: list[tuple[Serial, int]] = []
        self._early_interrupts: set[Serial] = set()
        self._forger: Execution | None = None
        self.oom = False  # what it died of, if it was that
        self._last_in = 0.0
        self._last_out = 0.0

    def start(self, dies: bool) -> None:
        """Fork takes a moment; what comes of it depends on the environment."""
        self._world.at(self._world.rng.uniform(0.001, 0.03), self._started, dies)

    def miscarry(self) -> None:
        """There is no room for another process."""
        self.dead = True
        self._world.saw(Seen.UNBORN)
        self._job.deaths_at_start += 1
        self._job.processes_ended += 1
        resident = self._ledger.residents.get(self._job.plan.name)
        if resident is not None:
            resident.processes_ended += 1
            resident.stillbirths += 1
        gone = WorkerExited(self.worker, Serial(0), NOBODY, unborn=True)
        self._world.at(0.0, self._deliver, self, gone, [])

    def page(self, serial: Serial) -> tuple[int, float]:
        """The call it runs of a range, and since when."""
        range_ = self._ranges.get(serial)
        return range_.page if range_ is not None else (NOBODY, 0.0)

    @property
    def busy(self) -> bool:
        """Whether it has anything to run."""
        if self._leaving:
            return bool(self._ranges)
        given = {range_.order.serial for range_ in self._waiting} | self._on_their_way
        return bool(self._ranges or given - self._revoked)

    @property
    def cpus(self) -> float:
        """What a call in it takes."""
        return self._job.plan.options.cpus

    @property
    def executions(self) -> list[Execution]:
        """What runs now."""
        running = [range_.execution for range_ in self._ranges.values()]
        return [execution for execution in running if execution is not None]

    def runs(self, serial: Serial) -> bool:
        """Whether a call of this range runs."""
        return serial in self._ranges and self._ranges[serial].execution is not None

    # -- orders --------------------------------------------------------------------------

    def run(self, order: Run, calls: dict[int, CallRecord]) -> None:
        """Run a range as soon as possible."""
        range_ = Range(order, calls, order.lo, order.hi, order.lo, self._world.now)
        self._on_their_way.add(order.serial)
        self._last_in = max(self._last_in, self._world.now + self._pipe_s())
        self._world.on(self._last_in, self._receive, range_)

    def order(self, obey: Callable[..., None], *args: object) -> None:
        """By the control socket, which may be faster than the other one."""
        self._world.at(self._pipe_s(), self._obey, obey, args)

    def split(self, serial: Serial, keep: int) -> None:
        """Give back what has not started, all but one part in ``keep``."""
        if serial in self._ranges:
            self._give_back(self._ranges[serial], keep)
        elif serial <= self._begun:
            self._tell(RestYielded(self.worker, serial, self._ends[serial]))
        elif keep == 0:
            self._revoked.add(serial)
            self._tell(RestYielded(self.worker, serial, -1))
        else:
            self._early_splits.append((serial, keep))

    def flush(self, serial: Serial) -> None:
        """Report what has finished."""
        for range_ in self._ranges.values():
            if serial in (0, range_.order.serial) and range_.at > range_.reported:
                self._report(range_, final=False)

    def interrupt(self, serial: Serial, index: int) -> None:
        """Make the running call raise, if it is the one that is meant; it may not care."""
        range_ = self._ranges.get(serial)
        if range_ is None:
            if serial > self._begun:
                self._early_interrupts.add(serial)
            return
        if index not in (-1, range_.at):
            return
        range_.asked_to_stop_at = range_.end
        if range_.at >= range_.end:
            return
        range_.end = range_.at + 1
        if range_.execution is not None and not range_.calls[range_.at].plan.swallows:
            self._ledger.ended(range_.execution, End.STOPPED)
            range_.execution = None
            range_.end = range_.at
            self._finish(range_)

    def die(self, end: End, culprit: Execution | None = None) -> None:
        """End now, whatever it was doing."""
        if self.dead:
            return
        self.dead = True
        self._job.processes_ended += 1
        resident = self._ledger.residents.get(self._job.plan.name)
        # By nobody's fault but the node's, if that has killed it without having been told to.
        if resident is not None and (not self.doomed or self._forger or resident.kills):
            resident.processes_ended += 1
            resident.stillbirths += not self._made
        if not self.doomed and self._world.rng.random() < OOM_SHARE:
            self.oom = True
            self._job.ooms += 1
            self._world.saw(Seen.OUT_OF_MEMORY)
        self._world.saw(Seen.WORKER_DEATHS, not self.doomed)
        culprit = culprit or self._forger
        self._ledger.died(self.executions, End.DIED if self._forger else end, culprit)
        if not self._ready:
            self._job.deaths_at_start += 1
        pages = [(serial, range_.page[0]) for serial, range_ in self._ranges.items()]
        for range_ in self._ranges.values():
            range_.execution = None
        first = pages[0] if pages else (Serial(0), NOBODY)
        self._tell(WorkerExited(self.worker, *first, tuple(pages[1:])))

    def stop(self, seconds: float) -> None:
        """SIGSTOP, and SIGCONT after so long. It can be killed meanwhile."""
        self.goes_on_at = max(self.goes_on_at, self._world.now + seconds)
        for execution in self.executions:
            execution.call.held_up = True

    def _asleep(self, do: Callable[..., None], *args: object) -> bool:
        """Whether it is stopped, or its machine sleeps; if so, ``do(*args)`` happens afterwards."""
        if self._world.now >= self.goes_on_at:
            return self.host.machine_asleep(do, *args)
        self._world.on(self.goes_on_at, do, *args)
        return True

    # -- its life ------------------------------------------------------------------------

    def _pipe_s(self) -> float:
        return self._world.rng.choice((0.00005, 0.0002, 0.004))

    def _obey(self, obey: Callable[..., None], args: tuple[object, ...]) -> None:
        if not self.dead and not self._asleep(self._obey, obey, args):
            obey(*args)

    def _started(self, dies: bool) -> None:
        if self.dead or self._asleep(self._started, dies):
            return
        setup = self._job.plan.setup
        if dies or setup is Setup.DIES_AT_START:
            self.die(End.STOPPED)
            return
        broken = setup is Setup.INITIALIZER_RAISES
        self._tell(WorkerStarted(self.worker, "the initializer raised" if broken else ""))
        if not broken:
            self._ready = True
            self._begin_next()

    def _receive(self, range_: Range) -> None:
        if self.dead or self._asleep(self._receive, range_):
            return
        self._on_their_way.discard(range_.order.serial)
        self._waiting.append(range_)
        kinds = {known.order.concurrent for known in (*self._ranges.values(), *self._waiting)}
        require(
            len(kinds) == 1, f"worker {self.worker} was given a range beside one of another kind"
        )
        self._begin_next()

    def _may_begin(self) -> bool:
        if not self._ready or not self._waiting or self._leaving or self.dead:
            return False
        if not self._waiting[0].order.concurrent:
            return not self._ranges
        if self._stuck_until > self._world.now:
            return False
        if self._ranges and self._world.chance(STUCK):
            self._stuck_until = self._world.now + self._world.rng.choice((0.005, 0.3, 3.0))
            self._world.on(self._stuck_until, self._go_on_beginning)
            return False
        return True

    def _go_on_beginning(self) -> None:
        if not self.dead and not self._asleep(self._go_on_beginning):
            self._begin_next()

    def _begin_next(self) -> None:
        while self._may_begin():
            range_ = self._waiting.pop(0)
            serial = range_.order.serial
            if serial in self._revoked:
                self._begun, self._ends[serial] = serial, range_.at
            else:
                self._begin(range_)

    def _begin(self, range_: Range) -> None:
        serial = range_.order.serial
        self._ranges[serial], self._begun = range_, serial
        most = self._job.plan.options.concurrency
        require(len(self._ranges) <= most, f"worker {self.worker} has more than {most} lanes")
        range_.reported_at = self._world.now
        if serial in self._early_interrupts:
            range_.asked_to_stop_at, range_.end = range_.end, range_.at
        for asked, keep in self._early_splits:
            if asked == serial:
                self._give_back(range_, keep)
        self._early_splits = [early for early in self._early_splits if early[0] > serial]
        self._next(range_)

    def _next(self, range_: Range) -> None:
        if range_.at >= range_.end:
            self._finish(range_)
            return
        call = range_.calls[range_.at]
        order = range_.order
        execution = range_.execution = self._ledger.began(
            call, self.host, order.session, order.attempt, self.doomed
        )
        if order.careful:
            range_.page = (range_.at, self.host.now)
        begin, end = call.plan.waits
        if begin < 1:
            self._world.at(call.plan.seconds * begin, self._wait, execution, range_)
        if end < 1:
            self._world.at(call.plan.seconds * end, self._go_on, execution, range_)
        fate = call.plan.fate_of(len(call.executions))
        if fate is not Fate.HANG:
            self._world.at(call.plan.seconds, self._end, execution, range_, fate)

    def _end(self, execution: Execution, range_: Range, fate: Fate) -> None:
        if execution is not range_.execution or self.dead:
            return
        if self._asleep(self._end, execution, range_, fate):
            return
        if fate is Fate.DIE:
            self.die(End.STOPPED if self.doomed else End.DIED, execution)
            return
        if fate is Fate.FORGE:
            self._forger = self._forger or (None if self.doomed else execution)
            serial = Serial(range_.order.serial + 10**6)
            self._tell(WorkerProgressed(self.worker, serial, 0, 10**6, 0.0, final=True))
            return
        self._ledger.ended(execution, ENDS[fate])
        range_.execution = None
        self._calls_run += 1  # one that was interrupted is not counted
        require(self._calls_run <= self._calls_max, f"{self.worker} runs {self._calls_run} calls")
        range_.outcomes.append((range_.at, execution.id))
        if fate is Fate.RAISE_RETRYABLE:
            range_.retryable.append(range_.at)
        elif fate is Fate.VALUE and range_.calls[range_.at].plan.big:
            range_.deposits.append((range_.at, range_.calls[range_.at].plan.big))
        range_.at += 1
        if range_.order.careful and range_.at < range_.end:
            self._report(range_, final=False)
        self._made |= fate is Fate.VALUE
        self._next(range_)

    def _wait(self, execution: Execution, range_: Range) -> None:
        """The call waits for others: let them have what it needs, and what it holds up."""
        if execution is not range_.execution or self.dead:
            return
        if self._asleep(self._wait, execution, range_):
            return
        if range_.at > range_.reported:
            self._report(range_, final=False)
        self._world.saw(Seen.WAITS)
        self._give_back(range_, 1)
        self._tell(WorkerWaits(self.worker, range_.order.serial, waiting=True))

    def _go_on(self, execution: Execution, range_: Range) -> None:
        if execution is not range_.execution or self.dead:
            return
        if not self._asleep(self._go_on, execution, range_):
            self._tell(WorkerWaits(self.worker, range_.order.serial, waiting=False))

    def _finish(self, range_: Range) -> None:
        del self._ranges[range_.order.serial]
        self._ends[range_.order.serial] = range_.end
        self._report(range_, final=True)
        self._begin_next()

    def _give_back(self, range_: Range, keep: int) -> None:
        started = range_.at + (range_.execution is not None)
        rest = range_.end - started
        kept = 0 if keep <= 1 else rest // keep
        range_.end = min(range_.end, started + kept)
        self._tell(RestYielded(self.worker, range_.order.serial, range_.end))

    def _report(self, range_: Range, *, final: bool) -> None:
        now = self._world.now
        stopped = range_.asked_to_stop_at
        progress = WorkerProgressed(
            self.worker,
            range_.order.serial,
            range_.reported,
            range_.at,
            now - range_.reported_at,
            final,
            interrupted=final and stopped is not None and range_.at < stopped,
            dirty=final
            and not self._ranges
            and self._world.chance(0.01)
            and not self._job.plan.options.actor,
            retryable=tuple(range_.retryable),
            deposits=tuple(range_.deposits),
            resident_bytes=self._grown() if final else 0,
        )
        self._leaving = self._leaving or progress.dirty
        outcomes, range_.outcomes = range_.outcomes, []
        range_.retryable, range_.deposits = [], []
        range_.reported, range_.reported_at = range_.at, now
        self._tell(progress, outcomes)

    def _grown(self) -> int:
        if self.grows:
            self._bytes += self._world.rng.choice((0, 0, 1_000_000))
        return self._bytes

    def _tell(self, event: NodeEvent, outcomes: Outcomes | None = None) -> None:
        self._last_out = max(self._last_out, self._world.now + self._pipe_s())
        self._world.on(self._last_out, self._deliver, self, event, outcomes or [])
