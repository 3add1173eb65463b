"""A fake Commander: the real scheduler and collectors, owners who submit, sessions with nodes."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from math import inf
from random import Random

import orjson

from goliath.actors.deposits import Deposit, Deposits, nearness
from goliath.core import commands as cmd, events as ev
from goliath.core.batch import ParcelId
from goliath.core.collector import Collector
from goliath.core.ids import Attempt, BatchId, JobId, NodeId, SessionId
from goliath.core.observation import Journal
from goliath.core.policy import ON_THE_WAY_MAX, Level
from goliath.core.scheduler import Scheduler
from goliath.transport import messages as msg
from goliath.transport.keepsakes import Keepsake
from goliath.transport.message import Message
from tests.sim.ledger import ADOPTED, CallRecord, JobRecord, Ledger, Violation, require
from tests.sim.lieutenant import Lieutenant
from tests.sim.link import Route
from tests.sim.peer import Peer
from tests.sim.plan import CallCancel, JobPlan
from tests.sim.tally import Seen
from tests.sim.world import Host, World

STEALS_PER_SECOND_MAX = 60.0
PARCELS_AHEAD = 40
"""More unsettled parcels than this, beyond four for a slot, are not bounded any more."""

ENTRUSTED = 0.3
"""How often there is something to be kept for calls that is as big as a result just kept."""

VISITS_TRIED = 12
"""How often a Commander looks for a detached actor, once a second."""


@dataclass(slots=True)
class Job:
    """One job, as its owner sees it."""

    id: JobId
    record: JobRecord
    collector: Collector
    submitted: int = 0
    firsts: dict[ParcelId, int] = field(default_factory=dict)
    unsettled: dict[ParcelId, int] = field(default_factory=dict)
    demands: deque[tuple[int, int]] = field(default_factory=deque)
    submitting: bool = False
    over: bool = False


class Commander(Host):
    """One client."""

    def __init__(self, world: World, name: str, ledger: Ledger, realm: str) -> None:
        super().__init__(world, name)
        self.realm = realm  # whose token it has
        self.scheduler = Scheduler()
        self.jobs: dict[JobId, Job] = {}
        self.peers: list[Peer] = []
        self.journal: Journal[ev.Event] = Journal()
        self._ledger = ledger
        self._nodes: dict[NodeId, Peer] = {}
        self._defined: set[tuple[NodeId, str]] = set()
        self._events: deque[ev.Event] = deque()
        self._outcomes: dict[int, int] = {}
        self._deposits: dict[NodeId, Deposits] = {}
        self._arrived: dict[int, Deposit] = {}  # with the report at hand
        self._held: list[Deposit] = []
        self._whims = Random(f"whims of {name} of {world.seed}")
        self._busy = False
        self._wake_at = 0.0
        self._parcels = 0
        self._most_slots = self._most_nodes = 0
        self._hunger: list[float] = []

    def connect(self, lieutenant: Lieutenant, route: Route) -> None:
        """Know a Lieutenant."""
        peer = Peer(self, lieutenant, route, self)
        self.peers.append(peer)
        peer.dial()

    def die(self) -> None:
        """``kill -9``: nobody will say goodbye for it."""
        self.world.note(self.name, "dies")
        self.world.saw(Seen.COMMANDER_DEATHS)
        self.awake_at = self.machine_awake_at = inf
        for peer in self.peers:
            if peer.end is not None:
                peer.end.cut()
        for job in self.jobs.values():
            job.record.cancelled = True
            job.record.ended = job.record.ended or 1

    # -- detached actors -----------------------------------------------------------------

    def _find(self, name: str) -> tuple[NodeId, str] | None:
        """Where one lives, as its node would answer."""
        for node, peer in self._nodes.items():
            for resident, *_ in peer.lieutenant.node.residents(SessionId(peer._session_name)):
                if resident.id == f"env-{name}":
                    return node, resident.environment
        return None

    def visit(self, plan: JobPlan, tries: int = VISITS_TRIED) -> None:
        """Call one, as soon as it is found; it may never be."""
        if self.asleep(self.visit, plan, tries):
            return
        seen = self._find(plan.resident)
        if seen is not None:
            node, environment = seen
            plan.options = replace(plan.options, environment=environment, node=node)
            self.open(plan)
        elif tries:
            self.world.at(1.0, self.visit, plan, tries - 1)

    def kill_resident(self, name: str, restart: bool) -> None:
        """``goliath.kill``."""
        seen = None if self.asleep(self.kill_resident, name, restart) else self._find(name)
        if seen is not None:
            self._ledger.residents[name].kills += 1
            self._say(seen[0], msg.KillResident(seen[1], restart))

    # -- the owners of jobs --------------------------------------------------------------

    def open(self, plan: JobPlan) -> None:
        """``run()``."""
        if self.asleep(self.open, plan):
            return
        record = self._ledger.open(plan)
        self.world.saw(Seen.ACTORS, plan.options.actor)
        job = Job(JobId(len(self.jobs) + 1), record, Collector(ordered=plan.ordered))
        self.jobs[job.id] = job
        total = len(plan.calls) if plan.total_known else None
        self.tell(ev.JobOpened(job.id, plan.options, total))
        if not plan.calls:
            self.tell(ev.JobExhausted(job.id))
        if plan.cancel_s is not None:
            self.world.at(plan.cancel_s, self._cancel, job)
        for cancel in plan.call_cancels:
            self.world.at(cancel.after_s, self._cancel_call, job, cancel)

    def _cancel(self, job: Job) -> None:
        if not job.over and not self.asleep(self._cancel, job):
            job.record.cancelled = True
            self.world.saw(Seen.JOB_CANCELS)
            self.tell(ev.JobCancelled(job.id, job.record.plan.force))

    def _cancel_call(self, job: Job, cancel: CallCancel) -> None:
        """``ObjectRef.cancel()``; one that was not submitted yet is none of the mind's business."""
        if self.asleep(self._cancel_call, job, cancel) or cancel.index >= job.submitted:
            return
        first, parcel = max((f, p) for p, f in job.firsts.items() if f <= cancel.index)
        call = job.record.calls[cancel.index]
        self.world.saw(Seen.CALL_CANCELS, call.outcome is None)
        call.cancelled |= call.outcome is None
        self.tell(ev.CallCancelled(job.id, parcel, cancel.index - first, cancel.force))
        require(call.outcome is not None, f"{call} was cancelled, and goes on")

    def _submit_next(self, job: Job) -> None:
        job.submitting = bool(job.demands) and not job.over and not self._cut_all(job)
        if job.submitting:
            self.world.at(job.record.plan.submit_s, self._submit, job)

    @staticmethod
    def _cut_all(job: Job) -> bool:
        return job.submitted >= len(job.record.calls)

    def _submit(self, job: Job) -> None:
        if job.over or self.asleep(self._submit, job):
            return
        batches, calls = job.demands.popleft()
        if batches > 1:
            job.demands.appendleft((batches - 1, calls))
        count = min(calls, len(job.record.calls) - job.submitted)
        require(count > 0, f"{calls} calls a parcel were demanded")
        self._parcels += 1
        job.firsts[self._parcels] = job.collector.expect(count)
        job.unsettled[self._parcels] = count
        job.submitted += count
        for call in job.record.calls[job.submitted - count : job.submitted]:
            call.group = _group_of(job, self._parcels)
        nbytes = count * job.record.plan.call_bytes
        near = nearness(self._held) if self._held and self.world.chance(0.5) else None
        self.tell(ev.ParcelSubmitted(job.id, self._parcels, count, nbytes, near))
        if self._cut_all(job):
            self.tell(ev.JobExhausted(job.id))
        self._submit_next(job)

    # -- nodes -----------------------------------------------------------------------------

    def on_joined(self, peer: Peer) -> None:
        """A session is made."""
        self._nodes[peer.node] = peer
        tell = partial(self._say, peer.node)
        self._deposits[peer.node] = Deposits(peer.node, tell, self)
        slots = sum(peer.lieutenant.slots for peer in self._nodes.values())
        self._most_slots = max(self._most_slots, slots)
        self._most_nodes = max(self._most_nodes, len(self._nodes))
        node = peer.lieutenant
        self.tell(ev.NodeJoined(peer.node, node.slots, node.resources, peer.rtt_s))

    def on_lost(self, peer: Peer, node: NodeId) -> None:
        """A session is gone."""
        del self._nodes[node]
        self._deposits.pop(node).lose("the node was lost")
        for job in self.jobs.values():
            if not job.over:
                job.record.losses += 1
        self.tell(ev.NodeLost(node))

    def on_message(self, peer: Peer, message: Message) -> None:
        """A node reports."""
        deposits = self._deposits[peer.node]
        if isinstance(message, msg.DepositSent):
            require(deposits.arrived(message), f"{message} was not asked for")
            return
        event = self._translate(peer.node, message)
        if isinstance(message, msg.RangeDone):
            kept = [(call, size, key) for call, size, key in message.deposits if key]
            self._arrived = {call: deposits.add(key, size) for call, size, key in kept}
            self.world.saw(Seen.DEPOSITS, len(kept))
            for _, size, _ in kept:
                self._entrust(deposits, size)
        self.tell(event)
        self._outcomes = {}
        self._arrived = {}
        if isinstance(event, ev.NodeDraining):
            deposits.drain()

    # -- see `portal.Poster` -----------------------------------------------------------------

    def post(self, function: Callable[..., object], *args: object) -> None:
        """See `Poster.post`."""
        self.world.at(0.0, self._posted, function, *args)

    def _posted(self, function: Callable[..., object], *args: object) -> None:
        if not self.asleep(self._posted, function, *args):
            function(*args)

    def inside(self) -> bool:
        """See `Poster.inside`."""
        return True

    def _translate(self, node: NodeId, message: Message) -> ev.Event:
        match message:
            case msg.RangeDone():
                self._outcomes = dict(orjson.loads(bytes(message.payload)))
                return ev.RangeFinished(
                    node,
                    BatchId(message.batch),
                    Attempt(message.attempt),
                    message.lo,
                    message.hi,
                    message.elapsed_us / 1e6,
                    tuple(message.retryable),
                )
            case msg.RangeReturned(why="adopted"):
                self._outcomes = {0: ADOPTED}
                batch, attempt = BatchId(message.batch), Attempt(message.attempt)
                return ev.RangeFinished(node, batch, attempt, message.lo, message.hi, 0.0)
            case msg.RangeReturned():
                return ev.RangeReturned(
                    node,
                    BatchId(message.batch),
                    Attempt(message.attempt),
                    message.lo,
                    message.hi,
                    message.why,
                    message.guilty,
                    bool(message.report.get("oom")),
                )
            case msg.RangeWaiting(batch, attempt, waiting):
                return ev.BatchWaits(node, BatchId(batch), Attempt(attempt), waiting)
            case msg.Surrendered(ranges=ranges):
                yielded = tuple((BatchId(b), Attempt(a), lo, hi) for b, a, lo, hi in ranges)
                return ev.StealAnswered(node, yielded)
            case msg.EnvironmentFailed(environment, error, successor=successor):
                gone = "actor" in error or successor is not None
                return ev.EnvironmentBroken(environment, error, gone)
            case msg.MemoryLevel(level):
                return ev.NodePressed(node, Level[level.upper()])
            case msg.Draining():
                for job in self.jobs.values():
                    job.record.drains += not job.over
                return ev.NodeDraining(node)
            case _:
                raise AssertionError(f"{self.name} was told {message!r}")

    # -- the mind --------------------------------------------------------------------------

    def tell(self, event: ev.Event) -> None:
        """Tell the mind, and do as it says."""
        self._events.append(event)
        if self._busy:
            return
        self._busy = True
        while self._events:
            event = self._events.popleft()
            self.world.count_step()
            self.journal.note(self.now, event)
            if self.world.trace is not None:
                self.world.note(self.name, event)
            for command in self.scheduler.handle(event, self.now):
                self._perform(command)
            self.scheduler.check()
        self._busy = False

    def _perform(self, command: cmd.Command) -> None:  # noqa: C901 - a table
        if self.world.trace is not None:
            self.world.note(self.name, f"    {command!r}")
        match command:
            case cmd.Assign():
                self._assign(command)
            case cmd.Settle():
                self._settle(command)
            case cmd.Fail():
                self._fail(command)
            case cmd.Demand(job_id, batches, calls):
                self._demanded(self.jobs[job_id], batches, calls)
            case cmd.WakeAt(deadline):
                self._wake(deadline)
            case cmd.Steal(victim, count):
                self._steal(victim, count)
            case cmd.CancelOn(node, batch, attempt, force):
                self._say(node, msg.CancelBatch(batch, attempt, force))
            case cmd.Warn(job_id):
                require(job_id in self.jobs, f"a warning of job {job_id}, which is none")
            case cmd.Abandoned():
                pass  # its calls are failed, each
            case cmd.JobEnded(job_id):
                self._ended(self.jobs[job_id])

    def _assign(self, command: cmd.Assign) -> None:
        job = self.jobs[command.job]
        first = job.firsts[command.parcel]
        twins = self.scheduler._batches[command.batch].twins
        self.world.saw(Seen.COPIES, bool(twins) * (command.hi - command.lo))
        for call in job.record.calls[first + command.lo : first + command.hi]:
            self._ledger.sent(call)
            call.copies += bool(twins)
        plan, options = job.record.plan, job.record.plan.options
        if not plan.resident and (command.node, options.environment) not in self._defined:
            self._defined.add((command.node, options.environment))
            self._say(command.node, msg.DefineEnvironment(options.environment, [], {}))
        if plan.detaches:
            batch, attempt, environment = command.batch, command.attempt, options.environment
            self._say(
                command.node,
                msg.DetachActor(batch, attempt, options.function, environment, "columns", {}),
            )
            return
        payload = orjson.dumps([job.record.plan.name, first])
        self._say(
            command.node,
            msg.AssignBatch(
                command.batch,
                command.attempt,
                command.lo,
                command.hi,
                options.function,
                options.environment,
                "columns",
                command.careful,
                options.timeout_s,
                options.cpus,
                dict(options.resources),
                command.linger_s,
                options.depth,
                options.actor,
                concurrency=command.concurrency,
                group=_group_of(job, command.parcel),
                group_limit=options.groups.get(_group_of(job, command.parcel), 0),
                resident=bool(plan.resident),
                alone=command.alone,
                payload=payload,
            ),
        )

    def _settle(self, command: cmd.Settle) -> None:
        job = self.jobs[command.job]
        first = job.firsts[command.parcel]
        if command.parcel not in job.unsettled:
            raise Violation(f"{command} names a parcel that is forgotten")
        lo = command.lo
        for hi in (*sorted(command.excepted), command.hi):
            ids = [self._outcomes[call] for call in range(lo, hi)]
            for call, execution in zip(range(lo, hi), ids, strict=True):
                record = job.record.calls[first + call]
                self._ledger.settled(record, command.attempt, execution)
                if call in self._arrived:
                    self._hold(self._arrived[call], record, execution)
            self._fill(job, command.parcel, lo, list(ids))
            lo = hi + 1

    def _hold(self, deposit: Deposit, call: CallRecord, execution: int) -> None:
        """Keep a result for a while, and perhaps look at it."""
        self._held.append(deposit)
        self.world.at(call.plan.wanted_s, self._drop, deposit)
        if self.world.chance(0.5):
            look = partial(self._look, deposit, call, execution)
            self.world.at(call.plan.wanted_s / 2, deposit.when_known, look)

    def _look(self, deposit: Deposit, call: CallRecord, execution: int) -> None:
        if deposit.lost:
            require(deposit.node not in self._nodes, f"the result of {call} is lost")
        else:
            found = orjson.loads(bytes(deposit.payload()))
            require(found == execution, f"the result of {call} is that of execution {found}")

    def _drop(self, deposit: Deposit) -> None:
        self._held.remove(deposit)

    def _entrust(self, deposits: Deposits, size: int) -> None:
        """Now and then, have a node keep something as big that calls might take, for a while."""
        if self._whims.random() < ENTRUSTED:
            keepsake = Keepsake(bytes(size))
            deposits.entrust(keepsake, keepsake.payload())
            self.world.at(self._whims.choice((0.0, 0.1, 5.0)), lambda _: None, keepsake)
            self.world.saw(Seen.ENTRUSTED)

    def _fail(self, command: cmd.Fail) -> None:
        job = self.jobs[command.job]
        first = job.firsts[command.parcel]
        for call in range(command.lo, command.hi):
            self._ledger.failed(job.record.calls[first + call], command.verdict)
        outcomes: list[object] = [command.verdict] * (command.hi - command.lo)
        self._fill(job, command.parcel, command.lo, outcomes)

    def _fill(self, job: Job, parcel: ParcelId, lo: int, outcomes: list[object]) -> None:
        if not outcomes:
            return
        job.collector.fill(job.firsts[parcel] + lo, outcomes)
        job.unsettled[parcel] -= len(outcomes)
        if not job.unsettled[parcel]:
            del job.unsettled[parcel]

    def _demanded(self, job: Job, batches: int, calls: int) -> None:
        require(batches > 0 and calls > 0, f"{batches} parcels of {calls} calls were demanded")
        job.demands.append((batches, calls))
        ahead = len(job.unsettled) + sum(count for count, _ in job.demands)
        limit = PARCELS_AHEAD + 8 * self._most_slots * job.record.plan.options.concurrency
        limit += ON_THE_WAY_MAX * self._most_nodes
        require(ahead <= limit, f"job {job.id} may hold {ahead} parcels; {limit} were enough")
        if not job.submitting:
            self._submit_next(job)

    def _steal(self, victim: NodeId, count: int) -> None:
        require(count > 0, f"{count} ranges were to be stolen from {victim}")
        self.world.saw(Seen.STEALS)
        now = self.now
        self._hunger = [at for at in self._hunger if at > now - 1.0] + [now]
        limit = STEALS_PER_SECOND_MAX * max(len(self._nodes), 1)
        require(len(self._hunger) <= limit, f"{len(self._hunger)} steals within a second")
        self._say(victim, msg.StealBatches(count))

    def _say(self, node: NodeId, message: Message) -> None:
        end = self._nodes[node].end
        assert end is not None
        end.send(message)

    def _ended(self, job: Job) -> None:
        job.over = True
        job.demands.clear()
        self._ledger.job_ended(job.record)
        require(job.collector.complete, f"job {job.id} ended, {job.collector.missing} are missing")
        require(not job.unsettled, f"job {job.id} ended and holds {job.unsettled}")
        self._verify_list(job)
        environment = job.record.plan.options.environment
        for node in self._nodes:
            if (node, environment) in self._defined:
                self._say(node, msg.ForgetEnvironment(environment))

    @staticmethod
    def _verify_list(job: Job) -> None:
        ordered = job.record.plan.ordered
        taken = job.collector.take_ordered() if ordered else job.collector.take_any()
        outcomes = {first + i: o for first, each in taken for i, o in enumerate(each)}
        calls = job.record.calls[: job.submitted]
        require(
            [outcomes.get(call.index) for call in calls] == [call.outcome for call in calls],
            f"the list of job {job.id} is not what was settled",
        )

    def _wake(self, deadline: float) -> None:
        if deadline != self._wake_at:
            self._wake_at = deadline
            self.on(deadline, self._fire, deadline)

    def _fire(self, deadline: float) -> None:
        if deadline == self._wake_at and not self.asleep(self._fire, deadline):
            self._wake_at = 0.0
            self.tell(ev.TimerFired())


def _group_of(job: Job, parcel: ParcelId) -> str:
    groups = list(job.record.plan.options.groups) or [""]
    return groups[parcel % len(groups)]
