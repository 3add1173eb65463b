"""The truth about every call: who ran it, how that ended, and whether its outcome is just."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import Enum, auto

from goliath.core import residency
from goliath.core.commands import Verdict
from goliath.core.policy import NODE_LOSSES_MAX, OOM_RETRIES
from tests.sim.plan import CallPlan, Fate, JobPlan, Setup
from tests.sim.residents import ResidentPlan, ResidentRecord
from tests.sim.tally import Seen
from tests.sim.world import Host, World

LONG_SLEEP_S = 10.0
"""A node that slept so long may have been given up before it could know: the only excuse for
two owners of one call (session_lost_s less session_kill_s, less what a kill takes)."""

EARLY_S = 0.01
"""A call that dies so shortly before its time is up looks, from outside, as if it ran on."""

AT_ONCE_MAX = 3
"""Executions of a call that may be copied: it, its copy, and one that is being stopped, or goes on
for nobody beside other calls, because it came to be known that its twin had killed a worker."""


SMALL_CALL_BYTES = 8
"""No batch of such calls is big."""

ADOPTED = -1
"""In the place of an execution: of the call by which a detached actor was made, its node's word."""


class Violation(AssertionError):  # noqa: N818 - a verdict on the minds, not an error of the world
    """A promise was broken."""


class End(Enum):
    """How an execution ended."""

    VALUE = auto()
    RAISED = auto()
    RAISED_RETRYABLE = auto()
    DIED = auto()
    STRUCK = auto()  # its worker died beneath it, and others ran there: by nothing that it did
    STOPPED = auto()  # by the node, or with it


@dataclass(slots=True)
class Execution:
    """One run of one call, as it really was."""

    id: int
    call: CallRecord
    host: Host
    session: str
    attempt: int
    began: float
    slept_before_s: float = 0.0
    ended: float = 0.0
    end: End | None = None

    @property
    def lasted_s(self) -> float:
        """By the clock of its node."""
        return (self.ended - self.began) * self.host.rate


@dataclass(slots=True)
class CallRecord:
    """A call and all that happened to it."""

    job: JobRecord
    index: int
    plan: CallPlan
    executions: list[Execution] = field(default_factory=list)
    outcome: object = None
    cancelled: bool = False  # it alone, before it had an outcome
    held_up: bool = False  # its worker was stopped while it ran
    sent: bool = False  # to any node
    copies: int = 0  # that were made because it was late
    group: str = ""

    def __repr__(self) -> str:
        return f"{self.job.plan.name}[{self.index}]"

    def count(self, *ends: End) -> int:
        """How many executions ended so."""
        return sum(execution.end in ends for execution in self.executions)


@dataclass(slots=True)
class JobRecord:
    """A job, from outside."""

    plan: JobPlan
    calls: list[CallRecord] = field(default_factory=list)
    cancelled: bool = False
    losses: int = 0  # of nodes, for its Commander, since the job began
    ended: int = 0
    deaths: int = 0  # of workers that ran its calls
    ooms: int = 0  # of its workers, for memory
    deaths_at_start: int = 0
    processes_ended: int = 0
    drains: int = 0  # of nodes, for its Commander, since the job began


def require(condition: bool, what: str) -> None:
    """Raise `Violation` unless the promise was kept."""
    if not condition:
        raise Violation(what)


class Ledger:
    """Keeps every promise's record; raises as soon as one is broken."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.jobs: dict[str, JobRecord] = {}
        self.residents: dict[str, ResidentRecord] = {}  # by the job that makes them
        self._executions: list[Execution] = []
        self.memory_was_full = False  # of some node

    def open(self, plan: JobPlan) -> JobRecord:
        """A job is submitted."""
        job = JobRecord(plan)
        job.calls = [CallRecord(job, i, call) for i, call in enumerate(plan.calls)]
        self.jobs[plan.name] = job
        return job

    # -- detached actors ---------------------------------------------------------------

    def expect(self, plan: ResidentPlan) -> None:
        """Somebody will want to make one."""
        self.residents[plan.request.name] = ResidentRecord(plan)

    def making(self, name: str) -> CallRecord:
        """Its ``__init__``, in its next life: no job of anybody's, and run once."""
        record = self.residents[name]
        record.lives += 1
        self._world.saw(Seen.RESTARTS, record.lives > 1)
        plan = replace(record.plan.request, name=f"{name}/{record.lives}", resident=name)
        call = CallRecord(JobRecord(plan), 0, record.plan.making(record.lives))
        call.sent = True
        return call

    def evicted(self, name: str, why: str, *, draining: bool) -> None:
        """A node says that it has ended, and why."""
        record = self.residents[name]
        record.evicted = True
        just = {
            residency.KILLED: record.kills > 0,
            residency.RAISED: record.raised,
            residency.REVOKED: record.revocations > 0,
            residency.ENDED: record.may_have_ended() or draining,
        }
        require(just.get(why, False), f"resident {name} has ended ({why}) without reason: {record}")

    def _begin_in_resident(self, call: CallRecord) -> None:
        record = self.residents.get(call.job.plan.resident)
        if record is not None:
            options = record.plan.request.options
            record.running[call.group] += 1
            count, of_group = record.running.total(), record.running[call.group]
            limit = options.groups.get(call.group, options.concurrency)
            if count > options.concurrency or of_group > limit:
                raise Violation(f"{call} is one of {record.running} calls of {record}")

    def _end_in_resident(self, execution: Execution) -> None:
        record = self.residents.get(execution.call.job.plan.resident)
        if record is not None:
            record.running[execution.call.group] -= 1
            making = "/" in execution.call.job.plan.name
            record.raised |= making and execution.end is End.RAISED_RETRYABLE

    # -- executions --------------------------------------------------------------------

    @staticmethod
    def sent(call: CallRecord) -> None:
        """A Commander gives it to a node."""
        require(call.outcome is None, f"{call} ended as {call.outcome!r}, and is sent to a node")
        call.sent = True

    def began(
        self, call: CallRecord, host: Host, session: str, attempt: int, doomed: bool
    ) -> Execution:
        """A worker starts a call; a doomed one may do so until the kill arrives."""
        require(call.sent, f"{call} was never sent to a node, and runs")
        options = call.job.plan.options
        for other in call.executions if not options.speculate else ():
            if other.end is None:
                excused = (
                    other.host.slept_s - other.slept_before_s >= LONG_SLEEP_S
                    or host.slept_s >= LONG_SLEEP_S
                )
                require(
                    excused and other.session != session,
                    f"{call} runs twice: in session {other.session} since {other.began:.3f}, "
                    f"and now in {session}",
                )
        if options.speculate:
            self._check_copies(call, host)
        if options.groups:
            self._check_order(call, host, options.groups[call.group])
        elif options.actor and options.concurrency == 1:
            self._check_order(call, host, 1)
        require(
            options.max_retries > 0 or not call.executions, f"{call} may run once, and runs again"
        )
        self._begin_in_resident(call)
        self._world.saw(Seen.RETRIES, bool(call.executions))
        execution = Execution(len(self._executions), call, host, session, attempt, self._world.now)
        # Its node woke, gave it up and killed it: what it begins until then, it began too late.
        execution.slept_before_s = 0.0 if doomed else host.slept_s
        self._executions.append(execution)
        call.executions.append(execution)
        return execution

    @staticmethod
    def _check_copies(call: CallRecord, host: Host) -> None:
        """Of a call that may be copied no more run than there can be a reason for."""
        running = [each for each in call.executions if each.end is None]
        asleep = any(max(each.host.slept_s, host.slept_s) >= LONG_SLEEP_S for each in running)
        require(
            asleep or len(running) < min(1 + 2 * call.copies, AT_ONCE_MAX),
            f"{call} was copied {call.copies} times, and runs already: {running}",
        )

    @staticmethod
    def _check_order(call: CallRecord, host: Host, limit: int) -> None:
        """Calls of an actor, or of a group of it, begin in their order, so many at a time."""
        beside = 0
        for other in call.job.calls:
            if other.group != call.group:
                continue
            for execution in other.executions:
                asleep = max(host.slept_s, execution.host.slept_s) >= LONG_SLEEP_S
                beside += not asleep and execution.end is None
            if other.index > call.index and other.executions:
                raise Violation(f"{call} of an actor begins after {other}")
        require(beside < limit, f"{call} of an actor begins, and {beside} before it are not done")

    def ended(self, execution: Execution, end: End) -> None:
        """A worker is done with a call, or the call with its worker."""
        execution.end, execution.ended = end, self._world.now
        self._end_in_resident(execution)
        call, job = execution.call, execution.call.job
        blamed = call.count(End.DIED, End.RAISED_RETRYABLE)
        foreign = job.deaths - call.count(End.DIED)
        require(
            blamed <= job.plan.options.max_retries + 1 + job.losses + foreign + call.copies,
            f"{call} was allowed to fail {blamed} times",
        )

    def died(self, executions: list[Execution], end: End, culprit: Execution | None) -> None:
        """A worker is dead; of those that it ran, ``culprit`` has killed it."""
        if end is End.DIED and executions:
            (culprit or executions[0]).call.job.deaths += 1
        for execution in executions:
            struck = end is End.DIED and len(executions) > 1 and execution is not culprit
            self.ended(execution, End.STRUCK if struck else end)

    # -- outcomes ----------------------------------------------------------------------

    def settled(self, call: CallRecord, attempt: int, execution_id: int) -> None:
        """The outcome of an execution stands in the result."""
        if execution_id == ADOPTED:
            require(call.job.plan.detaches, f"{call} was settled as if it had made an actor")
            self._settle_once(call, execution_id)
            return
        execution = self._executions[execution_id]
        self._settle_once(call, execution_id)
        require(execution.call is call, f"{call} got the outcome of {execution.call}")
        require(
            execution.end in (End.VALUE, End.RAISED, End.RAISED_RETRYABLE),
            f"{call} was settled by an execution that {execution.end}",
        )
        require(
            execution.attempt == attempt,
            f"{call} was settled for attempt {attempt} by attempt {execution.attempt}",
        )
        if execution.end is End.RAISED_RETRYABLE:
            failures = call.count(End.DIED, End.RAISED_RETRYABLE)
            needed = call.job.plan.options.max_retries + 1
            require(
                failures + call.job.deaths >= needed, f"{call} had {needed - failures} tries left"
            )

    def failed(self, call: CallRecord, verdict: Verdict) -> None:
        """A call ends without an outcome of its own."""
        self._settle_once(call, verdict)
        self._world.saw(Seen.TIMEOUTS, verdict is Verdict.TIMED_OUT)
        require(self._is_just(call, verdict), f"{call} ended as {verdict!r} without reason")

    @staticmethod
    def _settle_once(call: CallRecord, outcome: object) -> None:
        require(call.outcome is None, f"{call} was settled twice: {call.outcome}, then {outcome}")
        require(not call.job.ended, f"{call} was settled after its job had ended")
        call.outcome = outcome

    def _is_just_of_resident(self, job: JobRecord, verdict: Verdict) -> bool:
        """Whether calls of a detached actor, or its making, may have come to this."""
        record = self.residents[job.plan.resident or job.plan.name]
        struck = record.processes_ended + record.kills + record.raised + record.revocations
        around = job.losses + job.drains
        called = [other.plan.called for other in self.residents.values()]
        taken = job.plan.detaches and called.count(record.plan.called) > 1
        match verdict:
            case Verdict.CRASHED:
                return struck > 0
            case Verdict.FULL:
                return self.memory_was_full
            case Verdict.GONE:
                return struck + around > 0 or taken
            case _:
                return verdict in (Verdict.NODE_DIED, Verdict.INFEASIBLE) and around > 0

    def _is_just(  # noqa: C901, PLR0912 - a table
        self, call: CallRecord, verdict: Verdict
    ) -> bool:
        job, options = call.job, call.job.plan.options
        if (job.plan.resident or job.plan.detaches) and verdict is not Verdict.CANCELLED:
            return self._is_just_of_resident(job, verdict)
        match verdict:
            case Verdict.CANCELLED:
                return job.cancelled or call.cancelled
            case Verdict.FULL:
                return self.memory_was_full and job.plan.call_bytes > SMALL_CALL_BYTES
            case Verdict.TIMED_OUT:
                limit = options.timeout_s
                return limit is not None and any(
                    e.end in (End.STOPPED, End.DIED, End.STRUCK)
                    and (e.lasted_s >= limit - EARLY_S or e.host.slept_s > limit)
                    for e in call.executions
                )
            case Verdict.CRASHED if options.actor:
                return job.processes_ended > 0
            case Verdict.GONE:
                return options.actor and job.processes_ended + job.losses + job.drains > 0
            case Verdict.CRASHED:
                if options.max_retries == 0 and options.timeout_s is not None:
                    # Its neighbour's time was up, and it had begun when the kill struck.
                    return call.count(End.DIED, End.STOPPED, End.STRUCK) > 0
                if options.max_retries == 0 and options.concurrency > 1:
                    return call.count(End.DIED, End.STOPPED, End.STRUCK) > 0
                retries = options.max_retries
                if job.ooms:
                    retries = min(retries, OOM_RETRIES)
                return call.count(End.DIED) > 0 and job.deaths > retries
            case Verdict.NODE_DIED:
                return job.losses > (0 if options.max_retries == 0 else NODE_LOSSES_MAX)
            case Verdict.ENVIRONMENT:
                return job.plan.setup is not Setup.FINE or job.deaths_at_start > 0
            case Verdict.INFEASIBLE:
                return bool(options.resources) or options.cpus > 1

    def job_ended(self, job: JobRecord) -> None:
        """The Commander says that it is over."""
        job.ended += 1
        require(job.ended == 1, f"job {job.plan.name} ended twice")
        for call in job.calls:
            require(
                call.outcome is not None or job.cancelled or self._abandoned(job),
                f"{job.plan.name} ended, and {call} has no outcome",
            )

    def _abandoned(self, job: JobRecord) -> bool:
        given_up = (Verdict.ENVIRONMENT, Verdict.INFEASIBLE, Verdict.GONE)
        resident = self.residents.get(job.plan.resident)
        ends = job.processes_ended
        if resident is not None:
            ends = resident.processes_ended + resident.kills + resident.revocations
        given = any(call.outcome in given_up for call in job.calls)
        return given or (job.plan.options.actor and ends > 0)

    def verify_good_calls(self) -> None:
        """Calls that had every reason to end well did."""
        for job in self.jobs.values():
            if job.losses or job.cancelled or self._abandoned(job):
                continue
            limit = job.plan.options.timeout_s
            for call in job.calls:
                if call.cancelled:
                    continue
                innocent = call.plan.fate is Fate.VALUE and not call.count(End.DIED)
                quick = limit is None or call.plan.seconds < limit / 2
                shared = limit is not None or job.plan.options.concurrency > 1
                bystander = shared and not job.plan.options.max_retries
                # It was over its time, though it had little to do: nobody ran it.
                stopped = call.held_up and call.outcome is Verdict.TIMED_OUT
                refused = call.outcome is Verdict.FULL  # for which there was a reason
                if innocent and quick and not bystander and not stopped and not refused:
                    require(isinstance(call.outcome, int), f"{call} ended as {call.outcome!r}")
