"""The Lieutenant's mind: a queue for each Commander, some slots, and the honesty to be robbed.

A node has ``slots`` CPUs to give. Worker processes are cheap (a fork takes a millisecond) and
belong to one session and environment for life; they are started when a batch needs one and
parked when it is done. Who is served next is decided by `fairness`.

A batch stays one *work* here, in as many *pieces* as it was split into: an idle slot takes
the un-started rest of a running piece before it stands still. Each piece is reported under
the batch's own attempt, so the Commander need not know.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import count
from math import inf
from typing import assert_never

from goliath.core.fairness import DeficitRoundRobin
from goliath.core.ids import Serial, SessionId, WorkerId
from goliath.core.node_events import (
    AnnounceDraining,
    BatchArrived,
    CancelArrived,
    Drained,
    DrainRequested,
    EnvironmentBroke,
    EnvironmentForgotten,
    EnvironmentReady,
    FlushRange,
    Fork,
    Inspect,
    InterruptRange,
    Kill,
    NodeCommand,
    NodeEvent,
    NodeTimerFired,
    NodeWakeAt,
    Release,
    ReportDone,
    ReportEnvironmentBroken,
    ReportReturned,
    ReportSurrendered,
    RestYielded,
    Retire,
    Run,
    SessionClosed,
    SessionOpened,
    SplitRange,
    StealArrived,
    WorkerExited,
    WorkerInspected,
    WorkerProgressed,
    WorkerStarted,
)
from goliath.core.policy import RestartIntensity
from goliath.core.work import BatchKey, Piece, Session, StealInProgress, Work, Worker, WorkerState

SPLIT_AFTER_S = 0.004
"""A piece younger than this is not split: the worker needs up to one GIL switch (5 ms) to
answer, and the next batch is usually here sooner."""

TOMBSTONES_MAX = 10_000
"""Cancels that may be remembered because they overtook their batch."""


@dataclass(frozen=True, slots=True)
class NodePolicy:
    """The knobs of `goliath.config.NodeConfig` that decide something."""

    flush_interval_s: float = 0.010
    cancel_grace_s: float = 4.0
    parked_max_s: float = 60.0
    starved_after_s: float = 1.0
    restart_max: int = 5
    restart_window_s: float = 10.0
    tasks_per_worker_max: int | None = None


@dataclass(slots=True)
class Node:
    """Decides for one Lieutenant. Feed it events; obey its commands in order."""

    slots: int
    resources: Mapping[str, float] = field(default_factory=dict)
    policy: NodePolicy = field(default_factory=NodePolicy)

    _sessions: dict[SessionId, Session] = field(default_factory=dict)
    _workers: dict[WorkerId, Worker] = field(default_factory=dict)
    _works: dict[BatchKey, Work] = field(default_factory=dict)
    _tombstones: OrderedDict[BatchKey, None] = field(default_factory=OrderedDict)
    _fair: DeficitRoundRobin = field(default_factory=DeficitRoundRobin)
    _worker_ids: Iterator[int] = field(default_factory=lambda: count(1))
    _serials: Iterator[int] = field(default_factory=lambda: count(1))
    _look_again_at: float = inf
    _draining: bool = False
    _drained: bool = False

    def handle(self, event: NodeEvent, now: float) -> list[NodeCommand]:
        """Take one event in; what is to be done about it, in order."""
        commands = list(self._on(event, now))
        commands += self._start(now)
        commands += self._tend(now)
        if self._draining and not self._drained and not self._running():
            self._drained = True
            commands.append(Drained())
        if self._look_again_at < inf:
            commands.append(NodeWakeAt(self._look_again_at))
        return commands

    def _on(self, event: NodeEvent, now: float) -> Iterator[NodeCommand]:  # noqa: C901, PLR0912
        match event:  # one arm an event: a table, not a maze
            case WorkerProgressed():
                return self._on_progressed(event, now)
            case BatchArrived():
                return self._on_arrived(event, now)
            case CancelArrived():
                return self._on_cancel(event, now)
            case StealArrived():
                return self._on_steal(event)
            case RestYielded():
                return self._on_yielded(event)
            case WorkerStarted():
                return self._on_started(event, now)
            case WorkerInspected():
                return self._on_inspected(event, now)
            case WorkerExited():
                return self._on_exited(event, now)
            case SessionOpened(session):
                return self._on_opened(session)
            case SessionClosed(session):
                return self._on_closed(session, now)
            case EnvironmentReady(session, environment):
                return self._on_environment_ready(session, environment)
            case EnvironmentBroke():
                return self._on_environment_broke(event.session, event.environment, event.error)
            case EnvironmentForgotten(session, environment):
                return self._on_environment_forgotten(session, environment, now)
            case DrainRequested():
                return self._on_drain()
            case NodeTimerFired():
                return iter(())
            case _:
                assert_never(event)

    # -- sessions and their environments -------------------------------------------------

    def _on_opened(self, session: SessionId) -> Iterator[NodeCommand]:
        assert session not in self._sessions, f"session {session} opened twice"
        self._sessions[session] = Session(session)
        self._fair.join(session)
        if self._draining:
            yield AnnounceDraining()

    def _on_closed(self, session_id: SessionId, now: float) -> Iterator[NodeCommand]:
        session = self._sessions.pop(session_id, None)
        if session is None:
            return
        self._fair.leave(session_id)
        for worker in self._workers.values():
            if worker.session == session_id and worker.state is not WorkerState.LEAVING:
                yield self._kill(worker, now)
        for key in [key for key in self._works if key[0] == session_id]:
            del self._works[key]
            yield Release(*key)
        for key in [key for key in self._tombstones if key[0] == session_id]:
            del self._tombstones[key]

    def _on_environment_ready(
        self, session_id: SessionId, environment: str
    ) -> Iterator[NodeCommand]:
        session = self._sessions.get(session_id)
        if session is not None:
            session.ready.add(environment)
        yield from ()

    def _on_environment_broke(
        self, session_id: SessionId, environment: str, error: str
    ) -> Iterator[NodeCommand]:
        session = self._sessions.get(session_id)
        if session is None or environment in session.broken:
            return
        session.broken[environment] = error
        yield ReportEnvironmentBroken(session_id, environment, error)
        for piece in list(session.queue):
            if piece.work.environment == environment:
                session.queue.remove(piece)
                yield from self._return(piece, "environment")

    def _on_environment_forgotten(
        self, session_id: SessionId, environment: str, now: float
    ) -> Iterator[NodeCommand]:
        session = self._sessions.get(session_id)
        if session is None:
            return
        session.ready.discard(environment)
        session.broken.pop(environment, None)
        session.deaths_at_start.pop(environment, None)
        for worker in self._workers.values():
            if (worker.session, worker.environment) == (session_id, environment):
                worker.retire_after = True
                if worker.state is WorkerState.IDLE:
                    yield self._retire(worker, now)

    # -- batches -------------------------------------------------------------------------

    def _on_arrived(self, event: BatchArrived, now: float) -> Iterator[NodeCommand]:
        session = self._sessions.get(event.session)
        if session is None:
            return
        work = Work(
            event.session,
            event.batch,
            event.attempt,
            event.environment,
            event.careful,
            event.timeout_s,
            event.cpus,
            event.resources,
        )
        assert work.key not in self._works, f"{work.key} arrived twice"
        self._works[work.key] = work
        piece = self._piece(work, event.lo, event.hi)
        refusal = self._refusal(session, work)
        if refusal:
            yield from self._return(piece, refusal)
            return
        session.queue.append(piece)
        if session.waiting_since is None:
            session.waiting_since = now

    def _refusal(self, session: Session, work: Work) -> str:
        """Why an arriving batch is not even queued; empty if it is."""
        if self._tombstones.pop(work.key, self) is None:
            return "cancelled"
        if work.environment in session.broken:
            return "environment"
        if self._draining or not self._could_ever_run(work):
            return "unstarted"
        return ""

    def _could_ever_run(self, work: Work) -> bool:
        return work.cpus <= self.slots and all(
            amount <= self.resources.get(name, 0.0) for name, amount in work.resources.items()
        )

    def _on_cancel(self, event: CancelArrived, now: float) -> Iterator[NodeCommand]:
        key = (event.session, event.batch, event.attempt)
        session = self._sessions.get(event.session)
        work = self._works.get(key)
        if session is None:
            return
        if work is None:
            # It overtook its batch, or crossed its last report: remember it, within bounds.
            self._tombstones[key] = None
            if len(self._tombstones) > TOMBSTONES_MAX:
                self._tombstones.popitem(last=False)
            return
        work.cancelled = True
        for piece in [piece for piece in session.queue if piece.work is work]:
            session.queue.remove(piece)
            yield from self._return(piece, "cancelled")
        for worker in self._runners(work):
            if event.force or worker.state is WorkerState.STARTING:
                yield self._kill(worker, now)
            elif worker.kill_at is None:
                worker.kill_at = now + self.policy.cancel_grace_s
                yield InterruptRange(worker.id, worker.serial)

    def _runners(self, work: Work) -> list[Worker]:
        return [
            worker
            for worker in self._workers.values()
            if worker.piece is not None
            and worker.piece.work is work
            and worker.state is not WorkerState.LEAVING
        ]

    def _piece(self, work: Work, lo: int, hi: int) -> Piece:
        work.pieces += 1
        return Piece(work, lo, hi)

    def _drop(self, piece: Piece) -> Iterator[NodeCommand]:
        """One piece less; with the last, the arguments are forgotten."""
        work = piece.work
        work.pieces -= 1
        if not work.pieces and self._works.pop(work.key, None) is not None:
            yield Release(*work.key)

    def _return(
        self, piece: Piece, why: str, guilty: int = -1, worker: WorkerId | None = None
    ) -> Iterator[NodeCommand]:
        """Give a whole piece back to its Commander."""
        work = piece.work
        if work.session in self._sessions and piece.lo < piece.hi:
            yield ReportReturned(*work.key, piece.lo, piece.hi, why, guilty, worker)
        yield from self._drop(piece)

    def _requeue(self, piece: Piece) -> Iterator[NodeCommand]:
        """Put back what did not start here: in front, for it was first."""
        session = self._sessions.get(piece.work.session)
        if session is None or piece.lo >= piece.hi:
            yield from self._drop(piece)
        elif piece.work.cancelled:
            yield from self._return(piece, "cancelled")
        elif self._draining:
            yield from self._return(piece, "unstarted")
        elif piece.work.environment in session.broken:
            yield from self._return(piece, "environment")
        else:
            session.queue.appendleft(piece)

    # -- stealing ------------------------------------------------------------------------

    def _on_steal(self, event: StealArrived) -> Iterator[NodeCommand]:
        session = self._sessions.get(event.session)
        if session is None:
            return
        steal = StealInProgress(event.count, [], set())
        while session.queue and len(steal.ranges) < event.count:
            piece = session.queue.pop()
            steal.ranges.append((piece.work.batch, piece.work.attempt, piece.lo, piece.hi))
            yield from self._drop(piece)
        for worker in self._splittable(event.session)[: event.count - len(steal.ranges)]:
            steal.awaited.add(worker.id)
            yield self._split(worker)
        session.steals.append(steal)
        yield from self._answer_steals(session)

    def _splittable(self, session: SessionId | None = None) -> list[Worker]:
        """Workers with more than the running call to do, the most laden first."""
        found = [
            worker
            for worker in self._workers.values()
            if worker.piece is not None
            and len(worker.piece) > 1
            and worker.state is WorkerState.BUSY
            and not worker.split_asked
            and not worker.barren
            and worker.kill_at is None
            and (session is None or worker.session == session)
        ]
        return sorted(found, key=lambda worker: -worker.rest())

    def _split(self, worker: Worker) -> SplitRange:
        worker.split_asked = True
        return SplitRange(worker.id, worker.serial, 2)

    def _on_yielded(self, event: RestYielded) -> Iterator[NodeCommand]:
        worker = self._workers.get(event.worker)
        if worker is None:
            return
        steal = self._steal_awaiting(worker)
        piece = worker.piece
        if piece is not None and worker.serial == event.serial:
            worker.split_asked = False
            worker.barren = not piece.lo <= event.at < piece.hi
            if not worker.barren:
                rest = self._piece(piece.work, event.at, piece.hi)
                piece.hi = event.at
                if steal is None or rest.work.cancelled:
                    yield from self._requeue(rest)
                else:
                    steal.ranges.append((rest.work.batch, rest.work.attempt, rest.lo, rest.hi))
                    yield from self._drop(rest)
        if steal is not None:
            steal.awaited.discard(worker.id)
            yield from self._answer_steals(self._sessions[worker.session])

    def _steal_awaiting(self, worker: Worker) -> StealInProgress | None:
        session = self._sessions.get(worker.session)
        steals = session.steals if session is not None else ()
        return next((steal for steal in steals if worker.id in steal.awaited), None)

    def _answer_steals(self, session: Session) -> Iterator[NodeCommand]:
        for steal in [steal for steal in session.steals if not steal.awaited]:
            session.steals.remove(steal)
            yield ReportSurrendered(session.id, steal.asked, tuple(steal.ranges))

    # -- workers -------------------------------------------------------------------------

    def _on_started(self, event: WorkerStarted, now: float) -> Iterator[NodeCommand]:
        worker = self._workers.get(event.worker)
        if worker is None or worker.state is not WorkerState.STARTING:
            return
        if event.error:
            yield from self._on_environment_broke(worker.session, worker.environment, event.error)
            yield self._kill(worker, now)
        elif worker.piece is None:
            worker.move(WorkerState.IDLE, now)
        else:
            worker.move(WorkerState.BUSY, now)
            self._begin_timing(worker, now)

    def _begin_timing(self, worker: Worker, now: float) -> None:
        piece = worker.piece
        assert piece is not None
        worker.since = worker.call_since = now
        careful = piece.work.careful
        worker.flush_at = None if careful or len(piece) < 2 else now + self.policy.flush_interval_s
        timeout_s = piece.work.timeout_s
        worker.inspect_at = None if timeout_s is None else now + timeout_s

    def _on_progressed(self, event: WorkerProgressed, now: float) -> Iterator[NodeCommand]:
        worker = self._workers.get(event.worker)
        if worker is None or worker.piece is None:
            return
        piece = worker.piece
        honest = worker.serial == event.serial and piece.lo == event.lo <= event.hi <= piece.hi
        if not honest:
            # User code can write to its own socket. What it says is not believed: the
            # process goes, and its calls count as if it had crashed.
            yield self._kill(worker, now)
            return
        if event.hi > event.lo:
            self._fair.charge(worker.session, event.elapsed_s)
            worker.calls += event.hi - event.lo
            piece.lo = event.hi
            if worker.session in self._sessions:
                yield ReportDone(
                    *piece.work.key,
                    event.lo,
                    event.hi,
                    event.elapsed_s,
                    worker.id,
                    event.retryable,
                )
        worker.retire_after |= event.dirty
        if event.final:
            yield from self._finish(worker, now)
        else:
            worker.call_since = now
            timeout_s = piece.work.timeout_s
            worker.inspect_at = None if timeout_s is None else now + timeout_s

    def _finish(self, worker: Worker, now: float) -> Iterator[NodeCommand]:
        """The worker is done with its piece, or with as much of it as it will do."""
        piece = worker.piece
        assert piece is not None
        self._stop_timing(worker)
        yield from self._requeue(piece)
        if worker.state is WorkerState.LEAVING:
            return
        worker.move(WorkerState.IDLE, now)
        limit = self.policy.tasks_per_worker_max
        if worker.retire_after or (limit is not None and worker.calls >= limit):
            yield self._retire(worker, now)

    def _stop_timing(self, worker: Worker) -> None:
        worker.piece = None
        worker.flush_at = worker.inspect_at = worker.kill_at = None

    def _on_inspected(self, event: WorkerInspected, now: float) -> Iterator[NodeCommand]:
        worker = self._workers.get(event.worker)
        if worker is None or worker.piece is None or worker.state is WorkerState.LEAVING:
            return
        timeout_s = worker.piece.work.timeout_s
        if timeout_s is None:
            return
        if event.serial != worker.serial or event.index != worker.piece.lo:
            worker.inspect_at = now + timeout_s  # between two calls
        elif now >= event.started_at + timeout_s:  # the very sum that the timer was set to
            worker.overdue = event.index
            yield self._kill(worker, now)
        else:
            worker.inspect_at = event.started_at + timeout_s

    def _on_exited(self, event: WorkerExited, now: float) -> Iterator[NodeCommand]:
        worker = self._workers.pop(event.worker, None)
        if worker is None:
            return
        piece = worker.piece
        if piece is not None:
            self._fair.charge(worker.session, now - worker.call_since)
            began = event.serial == worker.serial
            yield from self._settle_death(worker, piece, began, event.index)
        session = self._sessions.get(worker.session)
        if session is None:
            return
        steal = self._steal_awaiting(worker)
        if steal is not None:
            steal.awaited.discard(worker.id)
            yield from self._answer_steals(session)
        if worker.state is WorkerState.STARTING:
            yield from self._count_death_at_start(session, worker, now)

    def _settle_death(
        self, worker: Worker, piece: Piece, began: bool, index: int
    ) -> Iterator[NodeCommand]:
        """Who answers for the death of a worker in the middle of a piece."""
        if piece.work.cancelled:
            yield from self._return(piece, "cancelled")
        elif not began or piece.lo >= piece.hi or (piece.work.careful and index < piece.lo):
            yield from self._requeue(piece)  # it died between two calls: nobody's doing
        elif piece.work.careful or len(piece) == 1:
            rest = self._piece(piece.work, piece.lo + 1, piece.hi)
            piece.hi = piece.lo + 1
            yield from self._return(piece, self._why(worker, piece), piece.lo, worker.id)
            yield from self._requeue(rest)
        else:
            yield from self._return(piece, "crashed", -1, worker.id)

    @staticmethod
    def _why(worker: Worker, piece: Piece) -> str:
        if worker.overdue is None:
            return "crashed"
        # The overdue call may have ended while the kill was on its way; then it struck the next.
        return "timeout" if worker.overdue == piece.lo else "bystander"

    def _count_death_at_start(
        self, session: Session, worker: Worker, now: float
    ) -> Iterator[NodeCommand]:
        deaths = session.deaths_at_start.setdefault(
            worker.environment,
            RestartIntensity(self.policy.restart_max, self.policy.restart_window_s),
        )
        if not deaths.allows(now):
            yield from self._on_environment_broke(
                session.id,
                worker.environment,
                f"{self.policy.restart_max + 1} worker processes died before they were ready, "
                f"within {self.policy.restart_window_s:g} s",
            )

    def _kill(self, worker: Worker, now: float) -> Kill:
        if worker.state is not WorkerState.LEAVING:
            worker.move(WorkerState.LEAVING, now)
        worker.flush_at = worker.inspect_at = worker.kill_at = None
        return Kill(worker.id)

    def _retire(self, worker: Worker, now: float) -> Retire:
        worker.move(WorkerState.LEAVING, now)
        return Retire(worker.id)

    # -- decisions -----------------------------------------------------------------------

    def _running(self) -> list[Piece]:
        """What workers have to do now."""
        return [w.piece for w in self._workers.values() if w.piece is not None]

    def _free(self) -> float:
        """CPUs that no call holds; less than none while a starved session has an extra one."""
        free = float(self.slots)
        for piece in self._running():
            free -= piece.work.cpus
        return free

    def _start(self, now: float) -> Iterator[NodeCommand]:
        """Hand out pieces while there are free slots, to whoever's turn it is."""
        while True:
            queued = [s for s in self._sessions.values() if s.queue]
            if not queued:
                return
            free = self._free()
            waiting = [s.id for s in queued if self._next_piece(s, free, now)]
            if not waiting:
                return
            running_s: dict[SessionId, float] = {}
            if len(waiting) > 1:
                running_s = self._running_seconds(now)
            session = self._sessions[self._fair.pick(waiting, running_s)]
            piece = self._next_piece(session, free, now)
            assert piece is not None
            session.queue.remove(piece)
            session.waiting_since = now if session.queue else None
            yield from self._run(session, piece, now)

    def _running_seconds(self, now: float) -> dict[SessionId, float]:
        running: dict[SessionId, float] = {}
        for worker in self._workers.values():
            if worker.piece is not None:
                elapsed = now - worker.call_since
                running[worker.session] = running.get(worker.session, 0.0) + elapsed
        return running

    def _next_piece(self, session: Session, free: float, now: float) -> Piece | None:
        """The first piece of a session whose directory is ready, if a slot is free for it."""
        for piece in session.queue:
            if piece.work.environment not in session.ready:
                continue
            if piece.work.cpus <= free and self._has_resources(piece.work):
                return piece
            return piece if self._is_starved(session, now) else None
        return None

    def _has_resources(self, work: Work) -> bool:
        for name, amount in work.resources.items():
            used = sum(
                worker.piece.work.resources.get(name, 0.0)
                for worker in self._workers.values()
                if worker.piece is not None
            )
            if used + amount > self.resources.get(name, 0.0):
                return False
        return True

    def _is_starved(self, session: Session, now: float) -> bool:
        """Whether a session may have one worker beyond the slots: a running call cannot be
        preempted, and another Commander's may take hours."""
        return (
            session.waiting_since is not None
            and now - session.waiting_since >= self.policy.starved_after_s
            and len(self._sessions) > 1
            and not any(
                worker.session == session.id and worker.piece is not None
                for worker in self._workers.values()
            )
            and self._has_resources(session.queue[0].work)
        )

    def _run(self, session: Session, piece: Piece, now: float) -> Iterator[NodeCommand]:
        work = piece.work
        worker = next(
            (
                worker
                for worker in self._workers.values()
                if worker.state is WorkerState.IDLE
                and (worker.session, worker.environment) == (session.id, work.environment)
            ),
            None,
        )
        if worker is None:
            worker = Worker(
                WorkerId(next(self._worker_ids)), session.id, work.environment, work.cpus
            )
            worker.since = worker.call_since = now
            self._workers[worker.id] = worker
            yield Fork(worker.id, session.id, work.environment, work.cpus)
        limit = self.policy.tasks_per_worker_max
        if limit is not None and worker.calls + len(piece) > limit:
            cut = piece.lo + max(limit - worker.calls, 1)
            session.queue.appendleft(self._piece(work, cut, piece.hi))
            piece.hi = cut
        worker.piece = piece
        worker.serial = Serial(next(self._serials))
        worker.split_asked = worker.barren = False
        worker.overdue = None
        if worker.state is WorkerState.IDLE:
            worker.move(WorkerState.BUSY, now)
            self._begin_timing(worker, now)
        yield Run(worker.id, worker.serial, *work.key, piece.lo, piece.hi, work.careful)

    def _tend(self, now: float) -> Iterator[NodeCommand]:
        """Do what is due for each worker, and find out when to look again."""
        times: list[float] = []
        for worker in self._workers.values():
            if worker.piece is not None:
                yield from self._keep_time(worker, now)
                times += worker.deadlines()
            elif worker.state is WorkerState.IDLE:
                leaves_at = worker.since + self.policy.parked_max_s
                times.append(leaves_at)
                if leaves_at <= now:
                    yield self._retire(worker, now)
        yield from self._split_for_the_idle(times, now)
        if len(self._sessions) > 1:
            times += [
                session.waiting_since + self.policy.starved_after_s
                for session in self._sessions.values()
                if session.waiting_since is not None
            ]
        # What is due already was done just now, or waits for something else than time.
        self._look_again_at = min([at for at in times if at > now], default=inf)

    def _keep_time(self, worker: Worker, now: float) -> Iterator[NodeCommand]:
        """Flush, look for a call that runs too long, kill what ignores its cancel."""
        if worker.flush_at is not None and worker.flush_at <= now:
            worker.flush_at = now + self.policy.flush_interval_s if worker.rest() > 1 else None
            yield FlushRange(worker.id, worker.serial)
        if worker.inspect_at is not None and worker.inspect_at <= now:
            worker.inspect_at = None
            yield Inspect(worker.id)
        if worker.kill_at is not None and worker.kill_at <= now:
            yield self._kill(worker, now)

    def _split_for_the_idle(self, times: list[float], now: float) -> Iterator[NodeCommand]:
        """While slots are idle and nothing is queued, have running pieces split; when that
        may become worth it for others is added to ``times``."""
        if self._draining or not (laden := self._splittable()):
            return
        free = self._free() - sum(worker.split_asked for worker in self._workers.values())
        for worker in laden:
            assert worker.piece is not None
            if free < worker.piece.work.cpus:
                return
            ripe_at = worker.since + SPLIT_AFTER_S
            times.append(ripe_at)
            if ripe_at <= now:
                free -= 1
                yield self._split(worker)

    def _on_drain(self) -> Iterator[NodeCommand]:
        if self._draining:
            return
        self._draining = True
        yield AnnounceDraining()
        for session in self._sessions.values():
            while session.queue:
                yield from self._return(session.queue.popleft(), "unstarted")

    # -- what others may know, and invariants ---------------------------------------------

    def load(self) -> tuple[float, int, int]:
        """CPUs in use, batches queued, worker processes."""
        queued = sum(len(session.queue) for session in self._sessions.values())
        return self.slots - self._free(), queued, len(self._workers)

    def check(self) -> None:
        """Raise `AssertionError` if the books do not agree with each other."""
        pieces: dict[BatchKey, int] = {}
        queued = [piece for session in self._sessions.values() for piece in session.queue]
        running = self._running()
        for piece in queued + running:
            key = piece.work.key
            pieces[key] = pieces.get(key, 0) + 1
        for key, work in self._works.items():
            assert pieces.get(key, 0) == work.pieces, f"{key} counts {work.pieces} pieces"
        for worker in self._workers.values():
            assert (worker.piece is not None) or worker.state is not WorkerState.BUSY, worker
            assert worker.state is not WorkerState.IDLE or worker.piece is None, worker
        # Each of them may have got one when it was starved, even if the others have left since.
        starved = len({w.session for w in self._workers.values() if w.piece is not None})
        extra = starved * max((piece.work.cpus for piece in running), default=1.0)
        assert self._free() + extra >= 0, "more calls run than there are slots"
