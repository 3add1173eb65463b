"""How a node is robbed: the newest that waits first, then the un-started rest of what runs."""

from __future__ import annotations

from collections.abc import Iterator
from math import inf

from goliath.core.crew import ANSWER_MAX_S, Crew
from goliath.core.node_events import NodeCommand, ReportSurrendered, RestYielded
from goliath.core.queues import Queues
from goliath.core.work import Piece, Session, StealInProgress, Worker, WorkerState
from goliath.record import frozen


@frozen
class Surrender:
    """Answers every steal exactly once, as soon as the workers it asked have answered or died, or
    have taken too long for that."""

    queues: Queues
    crew: Crew

    def begin(self, session: Session, count: int, now: float) -> Iterator[NodeCommand]:
        """A Commander has better use for ``count`` un-started ranges."""
        steal = StealInProgress(count, [], set(), now + ANSWER_MAX_S)
        for piece in reversed(list(session.queue)):
            if len(steal.ranges) >= count:
                break
            if piece.work.actor:
                continue  # nobody else can run it
            session.queue.remove(piece)
            steal.ranges.append(piece.range)
            yield from self.queues.drop(piece)
        laden = self.crew.revocable(session.id)
        laden += [w for w in self.crew.splittable(session.id) if w.ahead is None]
        for worker in laden[: count - len(steal.ranges)]:
            steal.awaited.add(worker)
            yield worker.revoke(now) if worker.ahead is not None else worker.split(now)
        session.steals.append(steal)
        yield from self._answer(session)

    def on_yielded(self, worker: Worker, event: RestYielded, now: float) -> Iterator[NodeCommand]:
        """A worker says what it can spare: for a steal, or for an idle slot of this node."""
        steal = self._awaiting(worker)
        piece = worker.piece
        if event.serial == worker.ahead_serial:
            worker.revoking = False
        if event.at < 0:
            revoked = self._revoked(worker, event, now)
            if revoked is not None:
                yield from self._pass_on(revoked, steal)
        elif piece is not None and worker.serial == event.serial:
            worker.answered()
            worker.barren = not piece.lo <= event.at < piece.hi
            if not worker.barren:
                rest = self.queues.cut(piece.work, event.at, piece.hi)
                piece.hi = event.at
                yield from self._pass_on(rest, steal)
        yield from self.forget(worker)

    def _revoked(self, worker: Worker, event: RestYielded, now: float) -> Piece | None:
        """The piece that the worker had not begun; it may have been its turn already."""
        if worker.ahead is not None and worker.ahead_serial == event.serial:
            return self.crew.take_ahead(worker)
        if worker.piece is None or worker.serial != event.serial or worker.host is not None:
            return None
        if worker.ahead is not None or worker.ahead_serial != event.serial:
            return None  # nobody has asked that of it: user code can write to its own socket
        piece = self.crew.release(worker, now)
        if worker.state is WorkerState.BUSY:
            worker.move(WorkerState.IDLE, now)
        return piece

    def _pass_on(self, piece: Piece, steal: StealInProgress | None) -> Iterator[NodeCommand]:
        if steal is None or piece.work.cancelled:
            yield from self.queues.requeue(piece)
        else:
            steal.ranges.append(piece.range)
            yield from self.queues.drop(piece)

    def forget(self, worker: Worker) -> Iterator[NodeCommand]:
        """Nothing more is to be expected of this worker."""
        steal = self._awaiting(worker)
        if steal is not None:
            steal.awaited.discard(worker)
            yield from self._answer(self.queues.sessions[worker.session])

    def keep_time(self, now: float) -> tuple[list[NodeCommand], float]:
        """Answer the steals for which some worker has taken too long.

        Returns:
            The answers; and when the next steal will have waited for long enough.
        """
        answers: list[NodeCommand] = []
        next_at = inf
        for session in self.queues.sessions.values():
            for steal in session.steals:
                if steal.answer_at <= now:
                    steal.awaited.clear()
                else:
                    next_at = min(next_at, steal.answer_at)
            if session.steals:
                answers += self._answer(session)
        return answers, next_at

    def _awaiting(self, worker: Worker) -> StealInProgress | None:
        session = self.queues.sessions.get(worker.session)
        steals = session.steals if session is not None else ()
        return next((steal for steal in steals if worker in steal.awaited), None)

    @staticmethod
    def _answer(session: Session) -> Iterator[NodeCommand]:
        for steal in [steal for steal in session.steals if not steal.awaited]:
            session.steals.remove(steal)
            yield ReportSurrendered(session.id, steal.asked, tuple(steal.ranges))
