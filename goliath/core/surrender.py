"""How a node is robbed: the newest that waits first, then the un-started rest of what runs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from goliath.core.crew import Crew
from goliath.core.node_events import NodeCommand, ReportSurrendered, RestYielded
from goliath.core.queues import Queues
from goliath.core.work import Session, StealInProgress, Worker


@dataclass(frozen=True, slots=True)
class Surrender:
    """Answers every steal exactly once, as soon as the workers it asked have answered or died."""

    queues: Queues
    crew: Crew

    def begin(self, session: Session, count: int) -> Iterator[NodeCommand]:
        """A Commander has better use for ``count`` un-started ranges."""
        steal = StealInProgress(count, [], set())
        while session.queue and len(steal.ranges) < count:
            piece = session.queue.pop()
            steal.ranges.append((piece.work.batch, piece.work.attempt, piece.lo, piece.hi))
            yield from self.queues.drop(piece)
        for worker in self.crew.splittable(session.id)[: count - len(steal.ranges)]:
            steal.awaited.add(worker.id)
            yield worker.split()
        session.steals.append(steal)
        yield from self._answer(session)

    def on_yielded(self, worker: Worker, event: RestYielded) -> Iterator[NodeCommand]:
        """A worker says what it can spare: for a steal, or for an idle slot of this node."""
        steal = self._awaiting(worker)
        piece = worker.piece
        if piece is not None and worker.serial == event.serial:
            worker.split_asked = False
            worker.barren = not piece.lo <= event.at < piece.hi
            if not worker.barren:
                rest = self.queues.cut(piece.work, event.at, piece.hi)
                piece.hi = event.at
                if steal is None or rest.work.cancelled:
                    yield from self.queues.requeue(rest)
                else:
                    steal.ranges.append((rest.work.batch, rest.work.attempt, rest.lo, rest.hi))
                    yield from self.queues.drop(rest)
        yield from self.forget(worker)

    def forget(self, worker: Worker) -> Iterator[NodeCommand]:
        """Nothing more is to be expected of this worker."""
        steal = self._awaiting(worker)
        if steal is not None:
            steal.awaited.discard(worker.id)
            yield from self._answer(self.queues.sessions[worker.session])

    def _awaiting(self, worker: Worker) -> StealInProgress | None:
        session = self.queues.sessions.get(worker.session)
        steals = session.steals if session is not None else ()
        return next((steal for steal in steals if worker.id in steal.awaited), None)

    @staticmethod
    def _answer(session: Session) -> Iterator[NodeCommand]:
        for steal in [steal for steal in session.steals if not steal.awaited]:
            session.steals.remove(steal)
            yield ReportSurrendered(session.id, steal.asked, tuple(steal.ranges))
