"""The Commander's mind: events in, commands out. No clock, no loop, no sockets.

Calls come in parcels; the mind cuts batches out of them, gives every batch to one node at
a time, and raises the batch's attempt with each assignment. A report counts only if it
names the current attempt and comes from the node that attempt was sent to; all else is
stale, and dropped in silence. What a report does not cover stays ``open``.

A batch that comes back is not mended: it is closed, and what is left of it becomes new
batches over the same parcel.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import assert_never

from goliath.core.backlog import USUAL, Backlog
from goliath.core.batch import Batch, BatchState, ParcelId, Suspicion
from goliath.core.commands import (
    Abandoned,
    Assign,
    CancelOn,
    Command,
    Fail,
    JobEnded,
    Settle,
    Verdict,
    WakeAt,
    Warn,
)
from goliath.core.events import (
    BatchWaits,
    CallCancelled,
    EnvironmentBroken,
    Event,
    JobCancelled,
    JobExhausted,
    JobOpened,
    NodeDraining,
    NodeJoined,
    NodeLost,
    NodePressed,
    ParcelSubmitted,
    RangeFinished,
    RangeReturned,
    StealAnswered,
    TimerFired,
)
from goliath.core.feasibility import Feasibility
from goliath.core.feeding import Feeding
from goliath.core.ids import Attempt, BatchId, JobId, NodeId
from goliath.core.job import Costs, Job
from goliath.core.placement import NodeView, actor_window, choose_home, choose_node, takers
from goliath.core.policy import (
    BIG_BYTES,
    NODE_LOSSES_MAX,
    OOM_RETRIES,
    BatchPolicy,
    Cost,
    Level,
)
from goliath.core.robbery import Robbery
from goliath.core.speculation import Speculation


@dataclass(slots=True)
class Scheduler:
    """Decides for one Commander. Feed it events; obey its commands in order."""

    policy: BatchPolicy = field(default_factory=BatchPolicy)
    window_bytes: int = 64 * 1024 * 1024
    infeasible_after_s: float = 5.0
    infeasible_warn_s: float = 1.0

    _jobs: dict[JobId, Job] = field(default_factory=dict)
    _batches: dict[BatchId, Batch] = field(default_factory=dict)
    _nodes: dict[NodeId, NodeView] = field(default_factory=dict)
    _backlog: Backlog = field(default_factory=Backlog)
    _costs: Costs = field(default_factory=Costs)
    _feeding: Feeding = field(init=False)
    _robbery: Robbery = field(init=False)
    _feasibility: Feasibility = field(init=False)
    _speculation: Speculation = field(init=False)
    _ids: Iterator[int] = field(default_factory=lambda: count(1))
    _wake_at: float | None = None

    def __post_init__(self) -> None:
        self._feeding = Feeding(self.policy, self._nodes, self._backlog)
        self._robbery = Robbery(self._nodes, self._jobs, self._wake)
        self._speculation = Speculation(self._nodes, self._wake)
        self._feasibility = Feasibility(
            self.infeasible_warn_s,
            self.infeasible_after_s,
            self._nodes,
            self._jobs,
            self._backlog,
            self._wake,
        )

    def made_of(self) -> tuple[BatchPolicy, int, float, float]:
        """Its arguments: another one made of them, and told the same, decides the same."""
        return self.policy, self.window_bytes, self.infeasible_after_s, self.infeasible_warn_s

    def handle(self, event: Event, now: float) -> list[Command]:
        """Take one event in; what is to be done about it, in order."""
        commands = list(self._on(event, now))
        waits = bool(self._backlog)
        if waits:
            commands += self._place(now)
            waits = bool(self._backlog)
        if not waits and len(self._nodes) > 1:
            commands += self._robbery.begin(now)
        if self._speculation:
            for batch, node in self._speculation.late(now):
                if batch.twins:  # a copy in the wrong place: there is a better one when it is gone
                    commands += self._make_obsolete(batch, batch.lo, batch.hi, ())
                else:
                    commands += self._copy(batch, node, now)
        if waits or self._feasibility:
            news, hopeless = self._feasibility.stuck(now)
            left_s = self.infeasible_after_s - self.infeasible_warn_s
            commands += [Warn(job.id, lacking, left_s) for job, lacking in news]
            for job, lacking in hopeless:
                commands += self._abandon(job, Verdict.INFEASIBLE, lacking)
        if self._feeding:
            commands += self._feeding.grant()
        if self._wake_at is not None:
            commands.append(WakeAt(self._wake_at))
        return commands

    def _on(self, event: Event, now: float) -> Iterable[Command]:  # noqa: C901, PLR0912
        match event:  # one arm an event: a table, not a maze
            case RangeFinished():
                return self._on_finished(event, now)
            case ParcelSubmitted():
                return self._on_submitted(event)
            case RangeReturned():
                return self._on_returned(event)
            case BatchWaits():
                return self._on_waits(event)
            case StealAnswered():
                return self._on_steal_answered(event, now)
            case JobOpened():
                return self._on_opened(event)
            case JobExhausted(job):
                return self._on_exhausted(job)
            case JobCancelled():
                return self._on_cancelled(event)
            case CallCancelled():
                return self._on_call_cancelled(event)
            case EnvironmentBroken():
                return self._on_environment_broken(event)
            case NodeJoined():
                return self._on_joined(event)
            case NodeDraining(node):
                return self._on_draining(node)
            case NodePressed(node, level):
                return self._on_pressed(node, level)
            case NodeLost(node):
                return self._on_lost(node)
            case TimerFired():
                self._wake_at = None
                return ()
            case _:
                assert_never(event)

    # -- jobs ------------------------------------------------------------------------

    def _on_opened(self, event: JobOpened) -> Iterator[Command]:
        assert event.job not in self._jobs, f"job {event.job} opened twice"
        # Each actor has a function of its own: a thousand of them would push out all others.
        cost = Cost() if event.options.actor else self._costs.of(event.options.function)
        job = self._jobs[event.job] = Job(event.job, event.options, event.total, cost)
        self._feeding.watch(job)
        self._backlog.prefer(job.id, (job.options.priority, job.options.depth))
        if job.options.speculate:
            self._speculation.watch(job)
        yield from ()

    def _on_submitted(self, event: ParcelSubmitted) -> Sequence[Command]:
        job = self._jobs.get(event.job)
        if job is not None:
            job.granted = max(job.granted - 1, 0)
            self._feeding.watch(job)
        if job is None or job.abandoned is not None:
            why, detail = (job and job.abandoned) or (Verdict.CANCELLED, "")
            return (Fail(event.job, event.parcel, 0, event.count, why, Attempt(0), detail),)
        if job.remaining is not None:
            job.remaining = max(job.remaining - event.count, 0)
        job.nbytes += event.nbytes
        job.calls += event.count
        self._queue(job, event.parcel, (0, event.count), event.nbytes).near = event.near
        return ()

    def _on_exhausted(self, job_id: JobId) -> Iterator[Command]:
        job = self._jobs.get(job_id)
        if job is not None:
            job.exhausted = True
            self._feeding.forget(job_id)
            yield from self._maybe_ended(job)

    def _on_cancelled(self, event: JobCancelled) -> Iterator[Command]:
        job = self._jobs.get(event.job)
        if job is not None:
            yield from self._abandon(job, Verdict.CANCELLED, "", force=event.force)
            if event.by_owner:
                yield from self._on_exhausted(job.id)

    def _on_call_cancelled(self, event: CallCancelled) -> Iterator[Command]:
        job = self._jobs.get(event.job)
        if job is None:
            return
        for batch in self._backlog.of(job.id):
            if batch.parcel == event.parcel and batch.lo <= event.call < batch.hi:
                yield from self._cut_out(job, batch, event.call)
                return
        for node in self._nodes.values():
            for batch in list(node.held.values()):
                if (batch.job, batch.parcel) == (job.id, event.parcel) and batch.wants(event.call):
                    yield from self._cancel_on(batch, event)
                    return

    def _cut_out(self, job: Job, batch: Batch, call: int) -> Iterator[Command]:
        """A call that waits will not run; the others of its batch keep their place."""
        spans = ((batch.lo, call), (call + 1, batch.hi))
        rest = [self._piece(job, batch, lo, hi) for lo, hi in spans if lo < hi]
        for piece in rest:
            piece.robbed_from = batch.robbed_from
        self._backlog.replace(batch, rest)
        yield self._fail(batch, call, call + 1, Verdict.CANCELLED)
        self._finish(batch)
        yield from self._maybe_ended(job)

    def _cancel_on(self, batch: Batch, event: CallCancelled) -> Iterator[Command]:
        """Alone, it is taken off its node. Among others, it is run with them for nobody: only
        their worker knows whether it runs, and they must not be struck in its place."""
        yield self._fail(batch, event.call, event.call + 1, Verdict.CANCELLED)
        for each in (batch, *batch.twins):
            if each.wants(event.call):
                each.unwanted[event.call] = event.force
                yield from self._go_on_with(each)

    def _on_environment_broken(self, event: EnvironmentBroken) -> Iterator[Command]:
        for job in list(self._jobs.values()):
            if job.options.environment == event.environment:
                verdict = Verdict.GONE if event.gone else Verdict.ENVIRONMENT
                yield from self._abandon(job, verdict, event.error)

    def _abandon(
        self, job: Job, verdict: Verdict, detail: str, *, force: bool = False
    ) -> Iterator[Command]:
        """Fail everything of the job that is not settled, and take it off the nodes.

        Its owner is still asked for calls, and each is failed: only he knows how many there are.
        """
        if job.abandoned is not None:
            return
        job.abandoned = (verdict, detail)
        for batch in self._backlog.drop(job.id):
            yield self._fail(batch, batch.lo, batch.hi, verdict, detail)
            self._finish(batch)
        for node in self._nodes.values():
            for batch in list(node.held.values()):
                if batch.job != job.id or batch.state is BatchState.CANCELLING:
                    continue
                for lo, hi in batch.open:
                    yield from self._fail_wanted(batch, lo, hi, verdict, detail)
                batch.move(BatchState.CANCELLING)
                yield CancelOn(node.id, batch.id, batch.attempt, force)
        if job.options.actor:
            yield Abandoned(job.id, verdict, detail)
        yield from self._maybe_ended(job)

    def _maybe_ended(self, job: Job) -> Sequence[Command]:
        if not (job.exhausted and not job.live and job.id in self._jobs):
            return ()
        del self._jobs[job.id]
        self._backlog.prefer(job.id, USUAL)
        self._feasibility.forget(job.id)
        self._speculation.forget(job.id)
        if job.home in self._nodes:
            self._nodes[job.home].unhouse(job.id, job.options)
        return (JobEnded(job.id),)

    # -- reports of nodes --------------------------------------------------------------

    def _current(self, node: NodeId, batch_id: BatchId, attempt: Attempt) -> Batch | None:
        """The batch, if this report is about its live attempt; None if stale."""
        batch = self._batches.get(batch_id)
        if batch is None or batch.node != node or batch.attempt != attempt:
            return None
        return batch

    def _on_finished(self, event: RangeFinished, now: float) -> Iterator[Command]:
        batch = self._current(event.node, event.batch, event.attempt)
        if batch is None or not batch.close(event.lo, event.hi):
            return
        job = self._jobs[batch.job]
        job.cost.learn(event.elapsed_s, event.hi - event.lo)
        if self._speculation:
            job.pace.learn(event.elapsed_s, event.hi - event.lo)
            batch.heard_at = now
        self._robbery.heard(self._nodes[event.node], now)
        if batch.state is not BatchState.CANCELLING:
            unwanted = batch.take_unwanted(event.lo, event.hi)
            retryable = event.retryable
            if unwanted:
                retryable = tuple(call for call in retryable if call not in unwanted)
            again = self._retry_failures(job, batch, retryable) + unwanted
            yield Settle(job.id, batch.parcel, event.lo, event.hi, batch.attempt, again)
            for twin in batch.twins:
                yield from self._make_obsolete(twin, event.lo, event.hi, again)
        yield from self._go_on_with(batch)

    def _make_obsolete(
        self, twin: Batch, lo: int, hi: int, again: tuple[int, ...]
    ) -> Iterator[Command]:
        """Its twin was faster with a range, and nobody wants that of it any more; but for the call
        that failed there and may be made again: that is made here already."""
        left = again if len(twin) == 1 else ()
        for call in range(lo, hi):
            if twin.wants(call) and call not in left:
                twin.unwanted[call] = False
        yield from self._go_on_with(twin)

    def _retry_failures(
        self, job: Job, batch: Batch, retryable: tuple[int, ...]
    ) -> tuple[int, ...]:
        """Queue the calls that raised and have attempts left; which ones those are."""
        if batch.blamed >= job.options.max_retries:
            return ()
        for call in retryable:
            heir = batch.heir(call)
            if heir is not None and len(heir) == 1:
                heir.blamed = batch.blamed + 1
                continue
            piece = self._queue(job, batch.parcel, (call, call + 1), self._share(batch, 1))
            piece.blamed = batch.blamed + 1
            piece.attempt, piece.near = batch.attempt, batch.near
        return retryable

    def _on_returned(self, event: RangeReturned) -> Iterator[Command]:
        batch = self._current(event.node, event.batch, event.attempt)
        if batch is None or not batch.close(event.lo, event.hi):
            return
        job = self._jobs[batch.job]
        if batch.state is not BatchState.CANCELLING:
            match event.why:
                case "timeout":
                    for twin in batch.twins:
                        twin.last_try = True
                    yield from self._fail_wanted(batch, event.lo, event.hi, Verdict.TIMED_OUT)
                case "crashed":
                    yield from self._on_crash(job, batch, event)
                case "cancelled" | "oversized" as why:
                    yield from self._fail_wanted(batch, event.lo, event.hi, Verdict(why))
                case "full":
                    yield from self._on_refused(job, batch, event)
                case "bystander" if not job.options.max_retries:
                    yield from self._fail_wanted(batch, event.lo, event.hi, Verdict.CRASHED)
                case _ if job.options.actor:
                    yield from self._fail_wanted(batch, event.lo, event.hi, Verdict.GONE)
                    why = f"its node {event.node} takes nothing new ({event.why})"
                    yield from self._abandon(job, Verdict.GONE, why)
                case why:
                    self._requeue(job, batch, event.lo, event.hi, begun=why == "bystander")
        yield from self._go_on_with(batch)

    def _on_crash(self, job: Job, batch: Batch, event: RangeReturned) -> Iterator[Command]:
        lo, hi, guilty = event.lo, event.hi, event.guilty
        if job.options.actor:  # whichever it was: all may have begun, and none is made twice
            yield from self._fail_wanted(batch, lo, hi, Verdict.CRASHED, "1")
            return
        if guilty < 0 and not job.options.max_retries:
            yield from self._fail_wanted(batch, lo, hi, Verdict.CRASHED)  # it ran among others
            return
        if guilty < 0:
            # Any of them may have done it. Run the rest one call at a time: if it happens
            # again, it is known who did, and that call answers for this death too.
            # Other parts of the batch may have died in the same worker: each counts it for itself.
            suspicion = Suspicion() if batch.concurrency > 1 else batch.suspicion
            suspicion.deaths += 1
            for piece in self._requeue(job, batch, lo, hi, begun=True):
                piece.careful, piece.concurrency, piece.suspicion = True, 1, suspicion
                piece.alone = event.oom
            return
        for start, end in ((guilty + 1, hi), (lo, guilty)):
            for piece in self._requeue(job, batch, start, end) if start < end else ():
                piece.alone = False
        yield from self._charge(job, batch, guilty, oom=event.oom)

    def _charge(self, job: Job, batch: Batch, guilty: int, *, oom: bool) -> Iterator[Command]:
        """A call has killed its worker: it is made once more, with no other in its worker, and if
        the memory was used up with none on its node; or it was made often enough."""
        blamed = batch.blamed + 1 + batch.suspicion.take()
        retries = min(job.options.max_retries, OOM_RETRIES) if oom else job.options.max_retries
        heir = batch.heir(guilty)
        if heir is not None and len(heir) == 1 and blamed <= retries:
            heir.blamed = blamed  # it runs alone there already
            return
        if heir is not None:
            yield from self._make_obsolete(heir, guilty, guilty + 1, ())
        if blamed > retries:
            yield from self._fail_wanted(batch, guilty, guilty + 1, Verdict.CRASHED, str(blamed))
            return
        for piece in self._requeue(job, batch, guilty, guilty + 1, begun=True):
            piece.blamed = blamed
            piece.careful, piece.concurrency, piece.alone = True, 1, oom
            piece.suspicion = Suspicion()

    def _on_refused(self, job: Job, batch: Batch, event: RangeReturned) -> Iterator[Command]:
        """A node has no memory for what calls take. Others may have; calls of an actor have no
        other node."""
        if job.options.actor or not takers(self._nodes.values(), job.options):
            yield from self._fail_wanted(batch, event.lo, event.hi, Verdict.FULL)
            return
        for piece in self._requeue(job, batch, event.lo, event.hi):
            piece.nbytes = max(piece.nbytes, BIG_BYTES + 1)  # with what is common to its job

    def _on_waits(self, event: BatchWaits) -> Iterator[Command]:
        batch = self._current(event.node, event.batch, event.attempt)
        if batch is not None:
            self._nodes[event.node].wait(batch, waiting=event.waiting)
        yield from ()

    def _on_steal_answered(self, event: StealAnswered, now: float) -> Iterator[Command]:
        victim = self._nodes.get(event.victim)
        if victim is not None:
            self._robbery.answered(victim, now, empty=not event.yielded)
        for batch_id, attempt, lo, hi in event.yielded:
            batch = self._current(event.victim, batch_id, attempt)
            if batch is None or not batch.close(lo, hi):
                continue
            if batch.state is not BatchState.CANCELLING:
                for piece in self._requeue(self._jobs[batch.job], batch, lo, hi):
                    piece.robbed_from = event.victim
            yield from self._go_on_with(batch)

    # -- nodes -------------------------------------------------------------------------

    def _on_joined(self, event: NodeJoined) -> Iterator[Command]:
        assert event.node not in self._nodes, f"{event.node} joined twice"
        node = NodeView(event.node, event.slots, event.resources, event.rtt_s)
        self._nodes[event.node] = node
        for job in self._jobs.values():
            hopeless = job.abandoned is not None and job.abandoned[0] is Verdict.INFEASIBLE
            if hopeless and node.capacity(job.options):
                job.abandoned = None  # what its owner submits from now on can be run
        yield from ()

    def _on_draining(self, node_id: NodeId) -> Iterator[Command]:
        node = self._nodes.get(node_id)
        if node is not None:
            node.draining = True
        yield from ()

    def _on_pressed(self, node_id: NodeId, level: int) -> Iterator[Command]:
        node = self._nodes.get(node_id)
        if node is not None:
            node.level = Level(level)
        yield from ()

    def _on_lost(self, node_id: NodeId) -> Iterator[Command]:
        node = self._nodes.pop(node_id, None)
        if node is None:
            return
        # Newest first, each to the front: the backlog has them in their old order again.
        for batch in reversed(list(node.held.values())):
            job = self._jobs[batch.job]
            batch.node_losses += 1
            for twin in batch.twins:
                twin.node_losses = max(twin.node_losses, batch.node_losses)
            for lo, hi in reversed(batch.open):
                if batch.state is BatchState.CANCELLING:
                    continue
                if job.options.max_retries == 0 or batch.node_losses > NODE_LOSSES_MAX:
                    yield from self._fail_wanted(batch, lo, hi, Verdict.NODE_DIED, node_id)
                else:
                    self._requeue(job, batch, lo, hi, begun=True)
            batch.open.clear()
            self._finish(batch)
            yield from self._maybe_ended(job)
        for actor in [job for job in self._jobs.values() if job.lives_on(node_id)]:
            lost = f"{node_id}, where its process was, is lost"
            yield from self._abandon(actor, Verdict.GONE, lost)

    # -- books -------------------------------------------------------------------------

    def _queue(self, job: Job, parcel: ParcelId, span: tuple[int, int], nbytes: int) -> Batch:
        batch = Batch(BatchId(next(self._ids)), job.id, parcel, *span, nbytes)
        batch.careful, batch.concurrency = job.options.careful, job.options.concurrency
        batch.resources = job.options.resources or None
        self._batches[batch.id] = batch
        self._backlog.push(batch)
        job.live += 1
        return batch

    def _requeue(
        self, job: Job, batch: Batch, lo: int, hi: int, *, begun: bool = False
    ) -> list[Batch]:
        """New batches of what a node did not finish, at the front of their job's queue.

        One, but for calls that nobody wants any more: those are left out. Attempts go on
        counting where calls may have begun.
        """
        pieces = [self._piece(job, batch, *span) for span in batch.take_wanted(lo, hi)]
        for piece in reversed(pieces):
            piece.attempt = batch.attempt if begun else piece.attempt
            self._backlog.push_front(piece)
        return pieces

    def _piece(self, job: Job, batch: Batch, lo: int, hi: int) -> Batch:
        """A new batch of a part of another, which is closed."""
        piece = Batch(
            BatchId(next(self._ids)), job.id, batch.parcel, lo, hi, self._share(batch, hi - lo)
        )
        piece.careful, piece.concurrency = batch.careful, batch.concurrency
        piece.resources, piece.alone = batch.resources, batch.alone
        piece.blamed, piece.node_losses = batch.blamed, batch.node_losses
        piece.suspicion, piece.near = batch.suspicion, batch.near
        piece.last_try = batch.last_try
        self._batches[piece.id] = piece
        job.live += 1
        return piece

    @staticmethod
    def _share(batch: Batch, calls: int) -> int:
        return batch.nbytes * calls // max(len(batch), 1)

    def _fail(self, batch: Batch, lo: int, hi: int, verdict: Verdict, detail: str = "") -> Fail:
        return Fail(batch.job, batch.parcel, lo, hi, verdict, batch.attempt, detail)

    def _fail_wanted(
        self, batch: Batch, lo: int, hi: int, verdict: Verdict, detail: str = ""
    ) -> Iterator[Fail]:
        """Fail a range, but for calls of it that were cancelled, and so failed, before."""
        for start, end in batch.take_wanted(lo, hi):
            yield self._fail(batch, start, end, verdict, detail)

    def _go_on_with(self, batch: Batch) -> Sequence[Command]:
        """Wait for the rest of a batch, unless there is none, or nobody wants any of it."""
        if not batch.open:
            job = self._jobs[batch.job]
            self._finish(batch)
            return self._maybe_ended(job)
        if batch.unwanted and batch.node is not None and batch.is_unwanted():
            force = all(batch.unwanted.values())
            batch.unwanted.clear()
            batch.move(BatchState.CANCELLING)
            return (CancelOn(batch.node, batch.id, batch.attempt, force),)
        return ()

    def _finish(self, batch: Batch) -> None:
        if batch.node is not None and batch.node in self._nodes:
            self._nodes[batch.node].drop(batch)
        batch.move(BatchState.DONE)
        batch.part()
        del self._batches[batch.id]
        self._jobs[batch.job].live -= 1

    # -- decisions ---------------------------------------------------------------------

    def _place(self, now: float) -> Iterator[Command]:
        """Give waiting batches to nodes while any node has room for them."""
        while self._backlog:
            for batch in self._backlog.heads():
                job = self._jobs[batch.job]
                node = self._home(job) if job.options.actor else self._choose(job, batch)
                if node is not None:
                    yield self._assign(self._backlog.pop(job.id), node, now)
                    break
            else:
                return

    def _choose(self, job: Job, batch: Batch) -> NodeView | None:
        return choose_node(
            self._nodes.values(),
            job.options,
            self.policy,
            job.batch_s(self.policy),
            self.window_bytes,
            batch.near,
            batch.nbytes,
        )

    def _home(self, job: Job) -> NodeView | None:
        """The node of an actor, if it can have another batch of it."""
        home = self._nodes.get(job.home) if job.home is not None else None
        if home is None:
            home = choose_home(self._nodes.values(), job.options)
            if home is None:
                return None
            job.home = home.id
            home.house(job.id, job.options)
        return home if home.actors[job.id] < actor_window(job.options) else None

    def _copy(self, batch: Batch, node: NodeView, now: float) -> Iterator[Assign]:
        """Have another node make the calls, too, that are late."""
        batch.heard_at = now  # if the copy comes to nothing, the next one is not made at once
        job = self._jobs[batch.job]
        for lo, hi in batch.wanted():
            copy = self._piece(job, batch, lo, hi)
            copy.attempt = batch.attempt
            batch.copied_to(copy)
            yield self._assign(copy, node, now)

    def _assign(self, batch: Batch, node: NodeView, now: float) -> Assign:
        batch.attempt = Attempt(batch.attempt + 1)
        batch.node = node.id
        batch.assigned_at = batch.heard_at = now
        batch.open = [(batch.lo, batch.hi)]
        batch.move(BatchState.ASSIGNED)
        node.take(batch)
        node.spread += self._jobs[batch.job].options.spread
        if batch.robbed_from is not None:
            self._robbery.judge(batch, node, now)
        return Assign(
            node.id,
            batch.job,
            batch.parcel,
            batch.id,
            batch.attempt,
            batch.lo,
            batch.hi,
            batch.careful,
            self.policy.linger(watched=self._jobs[batch.job].options.watched),
            batch.concurrency,
            batch.alone,
        )

    def _wake(self, at: float) -> None:
        self._wake_at = at if self._wake_at is None else min(self._wake_at, at)

    # -- invariants, for tests and for a paranoid Commander ----------------------------

    def check(self) -> None:
        """Raise `AssertionError` if the books do not agree with each other."""
        waiting = list(self._backlog)
        held = [batch for node in self._nodes.values() for batch in node.held.values()]
        ids = [batch.id for batch in waiting + held]
        assert len(ids) == len(set(ids)), "a batch is in two places"
        assert set(ids) == set(self._batches), "a batch is nowhere, or somewhere unknown"
        for batch in waiting:
            assert batch.state is BatchState.READY, batch
            assert not batch.unwanted, batch
            assert not batch.twins, batch
        for node in self._nodes.values():
            held_bytes = shared = taking = 0
            loners = set()
            for batch in node.held.values():
                held_bytes += batch.nbytes
                if batch.concurrency > 1 and batch.job not in node.actors:
                    shared += batch.id not in node.waiting
                taking += bool(batch.resources) and batch.job not in node.actors
                if batch.alone and batch.id not in node.waiting:
                    loners.add(batch.id)
                assert batch.node == node.id, batch
                assert batch.state in (BatchState.ASSIGNED, BatchState.CANCELLING), batch
                assert batch.open, batch
                if batch.unwanted:
                    assert all(map(batch.has, batch.unwanted)), batch
                    assert not batch.is_unwanted(), batch
                if batch.twins:
                    self._check_twins(batch)
            assert node.held_bytes == held_bytes, node
            assert node.waiting <= node.held.keys(), node
            assert sum(node.shared.values()) == shared, node
            assert sum(node.scarce.values()) == taking, node
            assert node.loners == loners, node
        live_of = Counter(batch.job for batch in self._batches.values())
        for job in self._jobs.values():
            live = live_of[job.id]
            assert job.live == live, f"job {job.id} counts {job.live} batches and has {live}"
            assert live or not job.exhausted, f"job {job.id} is over and was not ended"
            asked = job.granted if not live else job.id in self._feeding
            assert job.exhausted or asked, f"nobody will ask the owner of job {job.id} for more"

    def _check_twins(self, batch: Batch) -> None:
        for twin in batch.twins:
            assert self._batches.get(twin.id) is twin, f"{batch!r} is a twin of {twin!r}, long gone"
            assert batch in twin.twins, f"{twin!r} does not know its twin {batch!r}"
            assert (twin.job, twin.parcel) == (batch.job, batch.parcel), (batch, twin)
        for lo, hi in batch.wanted():
            for call in range(lo, hi):
                wanting = [twin for twin in batch.twins if twin.wants(call)]
                assert len(wanting) < 2, f"call {call} of {batch!r} is copied twice: {wanting}"
