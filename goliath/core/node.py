"""The Lieutenant's mind: a queue for each Commander, some slots, and the honesty to be robbed.

A node has ``slots`` CPUs to give. Worker processes are cheap (a fork takes a millisecond) and
belong to one session and environment for life; they are started when a batch needs one and
parked when it is done. Who is served next is decided by `fairness`.

A batch stays one *work* here, in as many *pieces* as it was split into: an idle slot takes
the un-started rest of a running piece before it stands still. Each piece is reported under
the batch's own attempt, so the Commander need not know.

Detached actors belong to no Commander: see `residency`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import InitVar, dataclass, field
from math import inf
from typing import assert_never

from goliath.core import deaths
from goliath.core.crew import Crew
from goliath.core.depot import Depot
from goliath.core.devices import GPU
from goliath.core.fairness import DeficitRoundRobin
from goliath.core.ids import HOUSE, Serial, SessionId, WorkerId
from goliath.core.node_events import (
    AnnounceDraining,
    AnnouncePressure,
    BatchArrived,
    CancelArrived,
    DepositsForgotten,
    DepositSpilled,
    DetachArrived,
    Drained,
    DrainRequested,
    EnvironmentBroke,
    EnvironmentForgotten,
    EnvironmentReady,
    Fork,
    InterruptRange,
    MemoryMeasured,
    NodeCommand,
    NodeEvent,
    NodeTimerFired,
    NodeWakeAt,
    PieceEntrusted,
    RealmEnded,
    RealmLimited,
    RefuseWait,
    ReportDone,
    ReportEnvironmentBroken,
    ReportWaiting,
    ResidentKillArrived,
    ResidentLeaves,
    RestYielded,
    Run,
    SessionClosed,
    SessionOpened,
    Spill,
    StealArrived,
    WorkerExited,
    WorkerInspected,
    WorkerProgressed,
    WorkerStarted,
    WorkerWaits,
)
from goliath.core.policy import Level, NodePolicy, RestartIntensity
from goliath.core.pressure import Pressure
from goliath.core.queues import Queues
from goliath.core.quotas import Quotas
from goliath.core.residency import Residency
from goliath.core.residents import Resident
from goliath.core.solitude import Solitude
from goliath.core.surrender import Surrender
from goliath.core.work import Piece, Session, Work, Worker, WorkerState

__all__ = ["Node", "NodePolicy"]


@dataclass(slots=True)
class Node:
    """Decides for one Lieutenant. Feed it events; obey its commands in order."""

    slots: int
    resources: Mapping[str, float] = field(default_factory=dict)
    policy: InitVar[NodePolicy | None] = None
    devices: Sequence[str] = ()  # GPUs, in the order in which they are given out

    _policy: NodePolicy = field(init=False)
    _crew: Crew = field(init=False)
    _queues: Queues = field(default_factory=Queues)
    _surrender: Surrender = field(init=False)
    _depot: Depot = field(init=False)
    _residency: Residency = field(init=False)
    _quotas: Quotas = field(init=False)
    _solitude: Solitude = field(init=False)
    _pressure: Pressure = field(init=False)
    _fair: DeficitRoundRobin = field(default_factory=DeficitRoundRobin)
    _drained: bool = False
    _crowded_until: float = -inf  # no other process is started before
    _wake_at: float = inf  # an earlier wish is not repeated

    def __post_init__(self, policy: NodePolicy | None) -> None:
        self._policy = policy or NodePolicy()
        resources = {**self.resources, GPU: len(self.devices)}
        self._crew = Crew(self.slots, resources, self._policy, self.devices)
        self._surrender = Surrender(self._queues, self._crew)
        self._depot = Depot(self._policy.depot_bytes, self._policy.spill_bytes)
        self._residency = Residency(self._queues, self._crew, self._fair, self._policy)
        self._quotas = Quotas(self._queues, self._crew, self._residency.residents)
        self._solitude = Solitude(self._queues, self._crew, self._policy)
        self._pressure = Pressure(self._crew, self._policy)

    def made_of(self) -> tuple[int, Mapping[str, float], NodePolicy, Sequence[str]]:
        """Its arguments: another one made of them, and told the same, decides the same."""
        return self.slots, self.resources, self._policy, self.devices

    def handle(self, event: NodeEvent, now: float) -> list[NodeCommand]:
        """Take one event in; what is to be done about it, in order."""
        commands = list(self._on(event, now))
        if self._queues.waiting():
            commands += self._start(now)
        strained = self._pressure.level is not Level.EASY
        if strained:
            commands += self._ease(now)
        if self._depot.due or self._depot.is_crammed:
            commands += self._spill(now)
        draining = self._queues.draining
        exhausted = self._quotas.exhausted()
        lonely = self._queues.alone and self._solitude.reigns()
        share = not (draining or strained or lonely)
        due, deadline = self._crew.keep_time(now, share=share, exhausted=exhausted)
        commands += due
        late, answer_at = self._surrender.keep_time(now)
        commands += late
        deadline = min(deadline, answer_at)
        if draining and not (self._drained or self._depot or self._crew.runs_anything()):
            self._drained = True
            commands.append(Drained())
        if len(self._queues.sessions) > 1:
            deadline = min(deadline, self._next_starving(now))
        if self._crowded_until > now and self._queues.waiting():
            deadline = min(deadline, self._crowded_until)
        if strained and self._queues.waiting():
            deadline = min(deadline, self._pressure.next_at(now))
        if self._queues.alone:
            deadline = min(deadline, self._solitude.next_at(now))
        if deadline < self._wake_at:
            self._wake_at = deadline
            commands.append(NodeWakeAt(deadline))
        return commands

    def _on(self, event: NodeEvent, now: float) -> Iterable[NodeCommand]:  # noqa: C901, PLR0912
        match event:  # one arm an event: a table, not a maze
            case WorkerProgressed():
                return self._on_progressed(event, now)
            case BatchArrived():
                return self._on_arrived(event, now)
            case CancelArrived():
                return self._on_cancel(event, now)
            case StealArrived():
                return self._on_steal(event, now)
            case RestYielded():
                return self._on_yielded(event, now)
            case WorkerStarted():
                return self._on_started(event, now)
            case WorkerWaits():
                return self._on_waits(event, now)
            case WorkerInspected():
                return self._on_inspected(event, now)
            case WorkerExited():
                return self._on_exited(event, now)
            case DepositsForgotten(session, keys):
                self._depot.forget(session, keys)
                return ()
            case PieceEntrusted(session, key, size):
                if session in self._queues.sessions:  # nor sent away meanwhile
                    self._depot.entrust(session, key, size)
                return ()
            case DepositSpilled(session, key, failed):
                self._depot.written(session, key, now, failed=failed)
                return ()
            case MemoryMeasured(used, limit):
                return self._on_measured(used, limit, now)
            case DetachArrived() | ResidentKillArrived():
                return self._on_residents(event, now)
            case ResidentLeaves(worker):
                return self._on_leaves(worker)
            case SessionOpened(session, realm):
                return self._on_opened(session, realm)
            case SessionClosed(session):
                return self._on_closed(session, now)
            case RealmLimited(realm, slots):
                self._quotas.limit(realm, slots)
                return ()
            case RealmEnded(realm):
                self._quotas.limit(realm, None)
                return self._on_realm_ended(realm, now)
            case EnvironmentReady(session, environment):
                return self._on_environment_ready(session, environment)
            case EnvironmentBroke():
                return self._on_environment_broke(event.session, event.environment, event.error)
            case EnvironmentForgotten(session, environment):
                return self._on_environment_forgotten(session, environment, now)
            case DrainRequested():
                return self._on_drain()
            case NodeTimerFired():
                self._wake_at = inf
                return ()
            case _:
                assert_never(event)

    # -- sessions and their environments -------------------------------------------------

    def _on_opened(self, session: SessionId, realm: str) -> Iterator[NodeCommand]:
        assert session not in self._queues.sessions, f"session {session} opened twice"
        self._queues.sessions[session] = Session(session, realm)
        self._fair.join(session)
        if self._queues.draining:
            yield AnnounceDraining()
        if self._pressure.level is not Level.EASY:
            yield self._announced_pressure()

    def _on_closed(self, session_id: SessionId, now: float) -> Iterator[NodeCommand]:
        if self._queues.sessions.pop(session_id, None) is None:
            return
        self._fair.leave(session_id)
        self._depot.leave(session_id)
        for worker in self._crew.workers.values():
            if worker.session == session_id and worker.state is not WorkerState.LEAVING:
                yield self._crew.kill(worker, now)
        yield from self._residency.leave(session_id)
        yield from self._queues.close(session_id)

    def _on_realm_ended(self, realm: str, now: float) -> Iterator[NodeCommand]:
        """Its sessions end here before their Commanders hear the goodbye, and give the calls to
        other nodes at once: no call may have two owners."""
        yield from self._residency.end_all(realm, now)
        for session in list(self._queues.sessions.values()):
            if session.realm == realm and session.id != HOUSE:
                yield from self._on_closed(session.id, now)

    def _on_environment_ready(
        self, session_id: SessionId, environment: str
    ) -> Iterator[NodeCommand]:
        session = self._queues.sessions.get(session_id)
        if session is not None:
            session.ready.add(environment)
            yield from self._residency.environment_ready(session, environment)

    def _on_environment_broke(
        self, session_id: SessionId, environment: str, error: str
    ) -> Iterator[NodeCommand]:
        session = self._queues.sessions.get(session_id)
        if session is None or environment in session.broken:
            return
        session.broken[environment] = error
        yield ReportEnvironmentBroken(session_id, environment, error)
        yield from self._queues.break_environment(session, environment)
        yield from self._residency.environment_broken(session, environment)

    def _on_environment_forgotten(
        self, session_id: SessionId, environment: str, now: float
    ) -> Iterator[NodeCommand]:
        session = self._queues.sessions.get(session_id)
        if session is None:
            return
        session.ready.discard(environment)
        session.broken.pop(environment, None)
        session.deaths_at_start.pop(environment, None)
        for worker in self._crew.workers.values():
            if (worker.session, worker.environment) == (session_id, environment):
                worker.retire_after = worker.closed = True
                if worker.state is WorkerState.IDLE:
                    yield self._crew.retire(worker, now)

    # -- batches -------------------------------------------------------------------------

    def _on_arrived(self, event: BatchArrived, now: float) -> Iterator[NodeCommand]:
        session = self._queues.sessions.get(event.session)
        if session is None:
            return
        work = Work(
            (event.session, event.batch, event.attempt),
            event.session,
            event.environment,
            event.careful,
            event.timeout_s,
            event.cpus,
            event.resources,
            event.linger_s,
            event.depth,
            event.actor,
            event.concurrency,
            event.group,
            event.group_limit,
            alone=event.alone,
            deposits=event.deposits,
            since=now,
        )
        self._depot.use(event.session, event.deposits)
        if event.resident and not self._residency.admit(session, work):
            yield from self._residency.turn_away(session, event)
            return
        self._queues.open(work)
        piece = self._queues.cut(work, event.lo, event.hi)
        refusal = self._queues.refusal(session, work) or self._lacks_room(work, event.nbytes)
        if refusal or not self._crew.could_ever_run(work):
            yield from self._queues.give_back(piece, refusal or "unstarted")
            return
        self._queues.enqueue(session, piece)
        if session.waiting_since is None:
            session.waiting_since = now
        if work.alone:
            for worker in self._crew.revocable():
                yield worker.revoke(now)

    def _lacks_room(self, work: Work, nbytes: int) -> str:
        """Why a batch is refused for want of memory, if it is. The making of an actor waits: its
        Commander has chosen the node for all of its calls."""
        makes = work.actor and self._crew.host(work.home, work.environment) is None
        return "full" if self._pressure.refuses(nbytes) and not makes else ""

    def _on_cancel(self, event: CancelArrived, now: float) -> Iterator[NodeCommand]:
        key = (event.session, event.batch, event.attempt)
        session = self._queues.sessions.get(event.session)
        work = self._queues.works.get(key)
        if session is None:
            return
        if work is None:
            self._queues.bury(key)
            yield from self._residency.cancel(key)
            return
        yield from self._queues.cancel(session, work)
        for worker in self._crew.revocable(session.id):
            if worker.ahead is not None and worker.ahead.work is work:
                yield worker.revoke(now)
        for worker in self._crew.running(work):
            if worker.state is WorkerState.LEAVING:
                continue  # with another lane of it, just now
            alone = worker.host is None or len(worker.host.lanes) == 1
            # Whoever calls a detached actor has no right to the process: others call it, too.
            force = event.force and not work.resident
            if force or (worker.state is WorkerState.STARTING and alone):
                yield self._crew.kill(worker, now)
            elif worker.kill_at == inf:
                if not worker.actor:  # one call of it is not worth all that it has become
                    worker.kill_at = now + self._policy.cancel_grace_s
                yield InterruptRange(worker.id, worker.serial)

    def _on_steal(self, event: StealArrived, now: float) -> Iterator[NodeCommand]:
        session = self._queues.sessions.get(event.session)
        if session is not None:
            yield from self._surrender.begin(session, event.count, now)

    def _on_yielded(self, event: RestYielded, now: float) -> Iterator[NodeCommand]:
        worker = self._crew.workers.get(event.worker)
        if worker is not None:
            unit = worker.lanes.get(event.serial, worker)
            yield from self._surrender.on_yielded(unit, event, now)

    # -- detached actors -----------------------------------------------------------------

    def _on_residents(
        self, event: DetachArrived | ResidentKillArrived, now: float
    ) -> Iterator[NodeCommand]:
        session = self._queues.sessions.get(event.session)
        if session is None:
            return
        if isinstance(event, DetachArrived):
            yield from self._residency.arrive(session, event)
        else:
            yield from self._residency.kill(session, event, now)

    def _on_leaves(self, worker_id: WorkerId) -> Iterator[NodeCommand]:
        worker = self._crew.workers.get(worker_id)
        if worker is not None:
            self._residency.leaves(worker)
        yield from ()

    # -- workers -------------------------------------------------------------------------

    def _on_started(self, event: WorkerStarted, now: float) -> Iterator[NodeCommand]:
        worker = self._crew.workers.get(event.worker)
        if worker is None or worker.state is not WorkerState.STARTING:
            return
        if event.error and worker.session == HOUSE:
            yield from self._residency.failed_to_start(worker, event.error, now)
        elif event.error:
            yield from self._on_environment_broke(worker.session, worker.environment, event.error)
            yield self._crew.kill(worker, now)
        elif worker.work is None:
            worker.move(WorkerState.IDLE, now)
        else:
            for each in {worker, *worker.units}:
                each.move(WorkerState.BUSY, now)
            for unit in worker.units:
                self._crew.begin_timing(unit, now)

    def _on_progressed(self, event: WorkerProgressed, now: float) -> Iterator[NodeCommand]:
        host = self._crew.workers.get(event.worker)
        if host is None or (host.piece is None and not host.lanes):
            return
        worker = host.lanes.get(event.serial, host)
        piece = worker.piece
        lo, hi = (piece.lo, piece.hi) if piece is not None else (-1, -1)
        honest = worker.serial == event.serial and lo == event.lo <= event.hi <= hi
        if not honest:
            # User code can write to its own socket. What it says is not believed: the
            # process goes, and its calls count as if it had crashed.
            yield self._crew.kill(worker, now)
            return
        assert piece is not None
        session = piece.work.session
        if event.hi > event.lo:
            self._fair.charge(session, event.elapsed_s / (len(host.lanes) or 1))
            host.calls += event.hi - event.lo
            piece.lo = event.hi
            if worker.overdue is not None and worker.host is not None:
                # It ended after all, before it was interrupted: what follows it is not.
                worker.overdue = None
                worker.kill_at = worker.kill_at if piece.work.cancelled else inf
            if session in self._queues.sessions and session != HOUSE:
                yield ReportDone(
                    *piece.work.key,
                    event.lo,
                    event.hi,
                    event.elapsed_s,
                    worker.id,
                    event.retryable,
                    self._admit(event, session, now) if event.deposits else (),
                )
        host.retire_after |= event.dirty
        if self._crew.has_outgrown(host, event.resident_bytes):
            host.retire_after = host.closed = True  # lanes that it has may end
        if event.final:
            yield from self._free(worker, now, dirty=event.dirty)
            if session == HOUSE and event.hi > event.lo:
                yield from self._residency.made(host, now, raised=bool(event.retryable))
            elif host.session == HOUSE:
                yield from self._residency.called(host, now)
        else:
            self._crew.time_call(worker, now)

    def _admit(
        self, event: WorkerProgressed, session: SessionId, now: float
    ) -> tuple[tuple[int, int, int], ...]:
        """Which big results are kept, and under which keys."""
        return tuple(
            (call, size, self._depot.admit(session, size, now, self._deposits_in_use))
            for call, size in event.deposits
        )

    def _deposits_in_use(self) -> set[tuple[SessionId, int]]:
        """Those that calls take which are here."""
        works = self._queues.works.values()
        return {(work.session, key) for work in works for key in work.deposits}

    def _go_on(self, worker: Worker, now: float, *, dirty: bool) -> Iterator[NodeCommand]:
        """The worker goes on with what was ahead; a dirty one leaves it, and leaves."""
        if dirty:
            yield from self._queues.requeue(self._crew.take_ahead(worker))
            yield self._crew.kill(worker, now)
            return
        self._crew.promote(worker, now)
        assert worker.piece is not None
        if worker.piece.work.cancelled:
            worker.kill_at = now + self._policy.cancel_grace_s
            yield InterruptRange(worker.id, worker.serial)

    def _free(self, worker: Worker, now: float, *, dirty: bool) -> Iterator[NodeCommand]:
        """The worker is done with its piece, or with as much of it as it will do."""
        if worker.waiting:
            yield from self._stop_waiting(worker)
        if worker.host is not None:
            yield from self._free_lane(worker, worker.host, now, dirty=dirty)
            return
        yield from self._queues.requeue(self._crew.release(worker, now))
        if worker.state is WorkerState.LEAVING:
            return
        if worker.ahead is not None:
            yield from self._go_on(worker, now, dirty=dirty)
        else:
            yield from self._park(worker, now)

    def _park(self, worker: Worker, now: float) -> Sequence[NodeCommand]:
        worker.move(WorkerState.IDLE, now)
        return (self._crew.retire(worker, now),) if self._crew.is_worn(worker) else ()

    def _free_lane(
        self, lane: Worker, host: Worker, now: float, *, dirty: bool
    ) -> Iterator[NodeCommand]:
        """A lane is done, and gone; with the last of them, its host has nothing to do."""
        piece = self._crew.release(lane, now)
        lane.answered()
        yield from self._surrender.forget(lane)
        stopped = lane.overdue == piece.lo < piece.hi and not piece.work.cancelled
        if stopped:
            yield from self._queues.give_back_first(piece, "timeout", piece.lo, lane.id)
        else:
            yield from self._queues.requeue(piece)
        if host.state is WorkerState.LEAVING:
            return
        if dirty and host.lanes:
            yield self._crew.kill(host, now)  # it leaves, and has not begun them
        elif not host.lanes:
            yield from self._park(host, now)

    def _on_waits(self, event: WorkerWaits, now: float) -> Iterator[NodeCommand]:
        """A call that waits needs no CPU; what is ahead of its worker must not wait with it."""
        worker = self._find(event.worker, event.serial)
        if worker is None:
            return
        if worker.state is not WorkerState.BUSY:
            return
        if not event.waiting:
            yield from self._stop_waiting(worker)
            return
        if worker.ahead is not None and not worker.revoking:
            yield worker.revoke(now)
        if worker.waiting or worker.piece is None:
            return
        host = worker.host or worker
        waits = any(unit.waiting for unit in host.units)
        if not waits and self._crew.count_waiting() >= self._policy.waiting_max:
            yield RefuseWait(worker.id, worker.serial)
            return
        worker.waiting = host.has_waited = True
        work = worker.piece.work
        work.waiting += 1
        if work.waiting == 1 and work.session in self._queues.sessions:
            yield ReportWaiting(*work.key, True)

    def _stop_waiting(self, worker: Worker) -> Iterator[NodeCommand]:
        if not worker.waiting or worker.piece is None:
            return
        worker.waiting = False
        work = worker.piece.work
        work.waiting -= 1
        if not work.waiting and work.session in self._queues.sessions:
            yield ReportWaiting(*work.key, False)

    def _find(self, worker_id: WorkerId, serial: Serial) -> Worker | None:
        """Whatever runs the range with this serial."""
        host = self._crew.workers.get(worker_id)
        worker = host.lanes.get(serial, host) if host is not None else None
        running = worker is not None and worker.piece is not None and worker.serial == serial
        return worker if running else None

    def _on_inspected(self, event: WorkerInspected, now: float) -> Iterator[NodeCommand]:
        worker = self._find(event.worker, event.serial)
        if worker is None or worker.piece is None or worker.state is WorkerState.LEAVING:
            return
        timeout_s = worker.piece.work.timeout_s
        if timeout_s is None:
            return
        if event.index != worker.piece.lo:
            worker.inspect_at = now + timeout_s  # between two calls
        elif now >= event.started_at + timeout_s:  # the very sum that the timer was set to
            worker.overdue = event.index
            if worker.host is None:
                yield self._crew.kill(worker, now)
            else:  # it may end without those beside it
                worker.kill_at = min(worker.kill_at, now + self._policy.timeout_grace_s)
                yield InterruptRange(worker.id, worker.serial, event.index)
        else:
            worker.inspect_at = event.started_at + timeout_s

    def _on_exited(self, event: WorkerExited, now: float) -> Iterator[NodeCommand]:
        worker = self._crew.bury(event.worker)
        if worker is None:
            return
        for unit in worker.units:
            yield from self._stop_waiting(unit)
            if unit.piece is not None:
                session_id = unit.piece.work.session
                self._fair.charge(session_id, (now - unit.call_since) / len(worker.units))
        begun = {event.serial: event.index, **dict(event.others)}
        unborn = event.unborn and worker.session != HOUSE
        yield from deaths.settle(self._queues, worker, begun, unborn=unborn)
        if worker.ahead is not None:
            yield from self._queues.requeue(self._crew.take_ahead(worker))
        for unit in worker.units:
            yield from self._surrender.forget(unit)
        session = self._queues.sessions.get(worker.session)
        self._crowded_until = now + self._policy.crowded_s if unborn else -inf
        if unborn and self._crew.workers:
            yield from self._make_room(now)  # and wait: sooner or later one of them will go
        elif worker.session == HOUSE:
            yield from self._residency.died(worker, now)
        elif worker.actor:
            # What it had become is gone: nothing more may be run as if it were still there.
            yield from self._on_environment_broke(
                worker.session, worker.environment, "the process of the actor has ended"
            )
        elif session is not None and worker.state is WorkerState.STARTING:
            yield from self._count_death_at_start(session, worker, now)

    def _make_room(self, now: float) -> Iterator[NodeCommand]:
        """Let one worker go that has nothing to do: what waits is not for its environment."""
        for worker in self._crew.workers.values():
            if worker.state is WorkerState.IDLE and not worker.actor:
                yield self._crew.retire(worker, now)
                return

    def _count_death_at_start(
        self, session: Session, worker: Worker, now: float
    ) -> Iterator[NodeCommand]:
        deaths = session.deaths_at_start.setdefault(
            worker.environment,
            RestartIntensity(self._policy.restart_max, self._policy.restart_window_s),
        )
        if not deaths.allows(now):
            yield from self._on_environment_broke(
                session.id,
                worker.environment,
                f"{self._policy.restart_max + 1} worker processes died before they were ready, "
                f"within {self._policy.restart_window_s:g} s",
            )

    # -- decisions -----------------------------------------------------------------------

    def _start(self, now: float) -> Iterator[NodeCommand]:
        """Hand out pieces while there are free slots, to whoever's turn it is."""
        while True:
            free = self.slots - self._crew.occupied()
            waiting: dict[SessionId, Piece] = {}
            for session in self._queues.sessions.values():
                piece = self._next_piece(session, free, now) if session.queue else None
                if piece is not None:
                    waiting[session.id] = piece
            if not waiting:
                yield from self._plan_ahead()
                return
            running_s = self._crew.running_seconds(now) if len(waiting) > 1 else {}
            chosen = self._fair.pick(waiting, running_s)
            session, piece = self._queues.sessions[chosen], waiting[chosen]
            session.queue.remove(piece)
            session.waiting_since = now if session.queue else None
            yield from self._run(session, piece, now)
            if not self._queues.waiting():
                return

    def _plan_ahead(self) -> Iterator[NodeCommand]:
        """Put what waits into the sockets of workers that will soon ask for it.

        Only while one Commander waits: what is ahead has had its turn.
        """
        queued = [session for session in self._queues.sessions.values() if session.queue]
        if len(queued) != 1 or self._queues.draining or self._solitude.reigns():
            return
        if self._pressure.level is not Level.EASY:
            return
        (session,) = queued
        for worker in self._crew.free_to_plan(session.id):
            piece = session.queue[0] if session.queue else None
            if piece is None or not self._may_follow(worker, piece):
                return
            session.queue.popleft()
            self._crew.hand_ahead(worker, piece)
            key = piece.work.key
            yield Run(worker.id, worker.ahead_serial, *key, piece.lo, piece.hi, False)

    @staticmethod
    def _may_follow(worker: Worker, piece: Piece) -> bool:
        """Whether a worker may begin a piece without anybody taking note of the moment."""
        work = piece.work
        return (
            not work.careful
            and work.timeout_s is None
            and not work.resources
            and work.concurrency == 1
            and work.environment == worker.environment
            and worker.piece is not None
            and work.cpus == worker.piece.work.cpus
        )

    def _next_piece(self, session: Session, free: float, now: float) -> Piece | None:
        """The first piece of a session whose directory is ready and whose resources are free, if
        a slot is free for it. Who waits for a resource holds up only those who want it too."""
        awaited: set[str] = set()
        full = False
        strained = self._pressure.holds_back(now)
        for piece in session.queue:
            work = piece.work
            visits = work.home != session.id
            ready = work.environment in session.ready or self._awaits_calls(session, work)
            if not ready or (self._queues.alone and self._is_barred(session, work, now)):
                continue
            if work.actor:
                host = self._crew.host(work.home, work.environment)
                if host is not None and self._crew.has_lane_for(host, work):
                    return piece
                if host is not None or visits:
                    continue  # it runs something: its calls wait for it, and hold up nobody
            elif not (full or strained) and work.concurrency > 1 and self._host_for(work):
                return piece
            if strained or (full and not work.actor) or not self._quotas.admits(work):
                full = full or not work.actor
                continue
            if work.resources and (
                awaited.intersection(work.resources) or not self._crew.has_resources(work)
            ):
                awaited.update(work.resources)
                continue
            if self._has_place(session, work, free, now):
                return piece
            full = full or not work.actor
        return None

    def _is_barred(self, session: Session, work: Work, now: float) -> bool:
        """Whether it has to wait because another call is to run alone, or it itself."""
        return self._solitude.bars(session, work, now, starved=self._is_starved(session, now))

    def _awaits_calls(self, session: Session, work: Work) -> bool:
        """Whether the detached actor that it is for is there, and needs no directory of its own."""
        return work.home != session.id and self._residency.receives(work.environment)

    def _host_for(self, work: Work) -> Worker | None:
        return self._crew.host_for(work, another=self._quotas.admits(work))

    def _has_place(self, session: Session, work: Work, free: float, now: float) -> bool:
        """Whether there is a slot for it, and a process, or room for one."""
        if work.cpus > free and (work.actor or not self._is_starved(session, now)):
            return False
        if now >= self._crowded_until:
            return True
        alone = work.actor or work.resources.get(GPU)
        return not alone and self._crew.idle(session.id, work.environment) is not None

    def _is_starved(self, session: Session, now: float) -> bool:
        """Whether a session may have one worker beyond the slots: a running call cannot be
        preempted, and another Commander's may take hours."""
        return (
            session.waiting_since is not None
            and now >= session.waiting_since + self._policy.starved_after_s
            and len(self._queues.sessions) > 1
            and not self._crew.serves(session.id)
        )

    def _run(self, session: Session, piece: Piece, now: float) -> Iterator[NodeCommand]:
        work = piece.work
        concurrent = work.concurrency > 1
        worker: Worker | None = None
        if work.actor:
            worker = self._crew.host(work.home, work.environment)
        elif concurrent:
            worker = self._host_for(work)
        # A GPU not in one that has run other calls: it may know for good that there is none.
        if worker is None and not work.actor and not work.resources.get(GPU):
            worker = self._crew.idle(session.id, work.environment)
        if worker is None:
            worker = self._crew.hire(session.id, work, now)
            self._pressure.began(piece, now)
            devices = tuple(worker.devices)
            yield Fork(worker.id, session.id, work.environment, work.cpus, devices, work.actor)
        limit = self._crew.calls_left(worker)
        if limit is not None and len(piece) > limit:
            self._queues.enqueue_first(session, self._queues.cut(work, piece.lo + limit, piece.hi))
            piece.hi = piece.lo + limit
        if concurrent:
            worker = self._crew.join(worker, piece, now)
        else:
            self._crew.hand(worker, piece, now)
        if not work.actor:
            self._pressure.began(piece, now)
        careful = work.careful
        yield Run(worker.id, worker.serial, *work.key, piece.lo, piece.hi, careful, concurrent)

    # -- memory --------------------------------------------------------------------------

    def _on_measured(self, used: int, limit: int, now: float) -> Iterator[NodeCommand]:
        if self._pressure.measured(used, limit, now):
            self._depot.full = self._pressure.level is Level.FULL
            yield self._announced_pressure()

    def _announced_pressure(self) -> AnnouncePressure:
        said = self._pressure
        return AnnouncePressure(said.level, said.used_bytes, said.limit_bytes)

    def _ease(self, now: float) -> Iterator[NodeCommand]:
        """Free what nobody uses: workers with nothing to do, which keep what they have freed, and
        deposits that can go to the disk."""
        for worker in self._crew.workers.values():
            if worker.state is WorkerState.IDLE and not worker.actor:
                yield self._crew.retire(worker, now)
        self._depot.relieve(now, self._deposits_in_use)

    def _spill(self, now: float) -> list[NodeCommand]:
        """What is kept and to be written now."""
        self._depot.make_room(now, self._deposits_in_use)
        return [Spill(*each) for each in self._depot.take_due()]

    def _next_starving(self, now: float) -> float:
        """When the first session will have waited for so long that it may oversubscribe."""
        waiting = (s.waiting_since for s in self._queues.sessions.values())
        ends = (since + self._policy.starved_after_s for since in waiting if since is not None)
        # What is due already waits for something else.
        return min((at for at in ends if at > now), default=inf)

    def _on_drain(self) -> Iterator[NodeCommand]:
        if not self._queues.draining:
            self._depot.closed = True
            yield AnnounceDraining()
            yield from self._queues.drain()
            yield from self._residency.drain()

    # -- what others may know, and invariants ---------------------------------------------

    def load(self) -> tuple[float, int, int]:
        """CPUs in use, batches queued, worker processes."""
        queued = sum(len(session.queue) for session in self._queues.sessions.values())
        return self._crew.occupied(), queued, len(self._crew.workers)

    def used(self) -> dict[str, float]:
        """What is taken of each resource beside CPUs."""
        return {name: self._crew.used(name) for name in self.resources}

    def kept_in_memory(self) -> int:
        """Bytes of what is kept for Commanders, and in memory."""
        return self._depot.memory_bytes + self._depot.writing_bytes

    @property
    def is_busy(self) -> bool:
        """Whether any call is under way."""
        return self._crew.runs_anything()

    def memory(self) -> tuple[Level, int, int]:
        """How short of it the node is; how much was used when it was measured last, and of how
        much."""
        return self._pressure.level, self._pressure.used_bytes, self._pressure.limit_bytes

    def running(self, session_id: SessionId) -> list[tuple[WorkerId, Serial, float]]:
        """What runs for the holders of a session's token: in which worker, as which range, and
        since when its call runs, as far as is known."""
        session = self._queues.sessions.get(session_id)
        return [
            (worker.id, unit.serial, unit.call_since)
            for worker in self._crew.workers.values()
            if session is not None and self._quotas.realm_of(worker) == session.realm
            for unit in worker.units
            if unit.piece is not None
        ]

    def residents(self, session_id: SessionId) -> list[tuple[Resident, str, int, WorkerId | None]]:
        """The detached actors that a session may call: each with its state, the calls of it that
        are here, and its process."""
        session = self._queues.sessions.get(session_id)
        return [
            (
                resident,
                self._residency.state_of(resident),
                self._residency.pending(resident),
                host.id if (host := self._crew.host(HOUSE, resident.environment)) else None,
            )
            for resident in self._residency.residents
            if session is not None and resident.realm == session.realm
        ]

    def check(self) -> None:
        """Raise `AssertionError` if the books do not agree with each other."""
        units = self._crew.units()
        held = [piece for w in units for piece in (w.piece, w.ahead) if piece is not None]
        self._queues.check(held)
        self._crew.check()
        self._depot.check(self._queues.sessions)
        self._residency.check()
        self._quotas.check()
