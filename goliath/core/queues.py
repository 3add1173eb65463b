"""The batches on a node, in pieces: what waits for a worker, what goes back, what is forgotten."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import field

from goliath.core.ids import HOUSE, SessionId, WorkerId
from goliath.core.node_events import NodeCommand, Release, ReportReturned
from goliath.core.work import BatchKey, Piece, Session, Work
from goliath.record import record

TOMBSTONES_MAX = 10_000
"""Cancels that may be remembered because they overtook their batch."""


@record
class Queues:
    """A queue for each session, and the books of every batch in them or on a worker."""

    sessions: dict[SessionId, Session] = field(default_factory=dict)
    works: dict[BatchKey, Work] = field(default_factory=dict)
    alone: dict[BatchKey, Work] = field(default_factory=dict)  # those that are to run alone
    tombstones: OrderedDict[BatchKey, None] = field(default_factory=OrderedDict)
    draining: bool = False

    def waiting(self) -> bool:
        """Whether any piece waits for a worker."""
        for session in self.sessions.values():  # noqa: SIM110 - a generator, for every event
            if session.queue:
                return True
        return False

    def open(self, work: Work) -> None:
        """A batch has arrived."""
        assert work.key not in self.works, f"{work.key} arrived twice"
        self.works[work.key] = work
        if work.alone:
            self.alone[work.key] = work

    def bury(self, key: BatchKey) -> None:
        """Remember, within bounds, a cancel that overtook its batch, or crossed its last report."""
        self.tombstones[key] = None
        if len(self.tombstones) > TOMBSTONES_MAX:
            self.tombstones.popitem(last=False)

    def refusal(self, session: Session, work: Work) -> str:
        """Why an arriving batch is not even queued; empty if it is."""
        if self.tombstones.pop(work.key, self) is None:
            return "cancelled"
        if work.environment in session.broken:
            return "environment"
        return "unstarted" if self.draining else ""

    @staticmethod
    def cut(work: Work, lo: int, hi: int) -> Piece:
        """A piece of a batch."""
        work.pieces += 1
        return Piece(work, lo, hi)

    def drop(self, piece: Piece) -> Sequence[NodeCommand]:
        """One piece less; with the last, the arguments are forgotten."""
        work = piece.work
        work.pieces -= 1
        if work.pieces or self.works.pop(work.key, None) is None:
            return ()
        self.alone.pop(work.key, None)
        return (Release(*work.key),)

    def give_back(
        self, piece: Piece, why: str, guilty: int = -1, worker: WorkerId | None = None
    ) -> Iterator[NodeCommand]:
        """Give a whole piece back to its Commander."""
        work = piece.work
        if work.session in self.sessions and work.session != HOUSE and piece.lo < piece.hi:
            yield ReportReturned(*work.key, piece.lo, piece.hi, why, guilty, worker)
        yield from self.drop(piece)

    def give_back_first(
        self, piece: Piece, why: str, guilty: int, worker: WorkerId
    ) -> Iterator[NodeCommand]:
        """Give the first call of a piece back to its Commander; the others are to be run."""
        rest = self.cut(piece.work, piece.lo + 1, piece.hi)
        piece.hi = piece.lo + 1
        yield from self.give_back(piece, why, guilty, worker)
        yield from self.requeue(rest)

    @staticmethod
    def enqueue(session: Session, piece: Piece) -> None:
        """Queue a piece behind those that wait for as many others, or for more."""
        queue, depth = session.queue, piece.work.depth
        if not queue or queue[-1].work.depth >= depth:
            queue.append(piece)
            return
        queue.insert(_first_below(queue, depth), piece)

    @staticmethod
    def enqueue_first(session: Session, piece: Piece) -> None:
        """Queue a piece that was taken out before, in front of its like."""
        queue, depth = session.queue, piece.work.depth
        if not queue or queue[0].work.depth <= depth:
            queue.appendleft(piece)
            return
        queue.insert(_first_below(queue, depth + 1), piece)

    def requeue(self, piece: Piece) -> Iterable[NodeCommand]:
        """Put back what did not start here: in front, for it was first."""
        if piece.lo >= piece.hi:
            return self.drop(piece)
        session = self.sessions.get(piece.work.session)
        if session is None:
            return self.drop(piece)
        if piece.work.cancelled:
            return self.give_back(piece, "cancelled")
        if self.draining:
            return self.give_back(piece, "unstarted")
        if piece.work.environment in session.broken:
            return self.give_back(piece, "environment")
        self.enqueue_first(session, piece)
        return ()

    def cancel(self, session: Session, work: Work) -> Iterator[NodeCommand]:
        """Return what of a batch has not started; nobody wants the rest either."""
        work.cancelled = True
        for piece in [piece for piece in session.queue if piece.work is work]:
            session.queue.remove(piece)
            yield from self.give_back(piece, "cancelled")

    def break_environment(self, session: Session, environment: str) -> Iterator[NodeCommand]:
        """Return what waits for an environment that cannot be had."""
        for piece in list(session.queue):
            if piece.work.environment == environment:
                session.queue.remove(piece)
                yield from self.give_back(piece, "environment")

    def drain(self) -> Iterator[NodeCommand]:
        """Return everything that waits, now and later."""
        self.draining = True
        for session in self.sessions.values():
            while session.queue:
                yield from self.give_back(session.queue.popleft(), "unstarted")

    def close(self, session: SessionId) -> Iterator[NodeCommand]:
        """Forget everything of a session."""
        for key in [key for key in self.works if key[0] == session]:
            del self.works[key]
            self.alone.pop(key, None)
            yield Release(*key)
        for key in [key for key in self.tombstones if key[0] == session]:
            del self.tombstones[key]

    def check(self, running: list[Piece]) -> None:
        """Raise `AssertionError` if the books do not agree with each other."""
        pieces: dict[BatchKey, int] = {}
        queued = [piece for session in self.sessions.values() for piece in session.queue]
        for piece in queued + running:
            pieces[piece.work.key] = pieces.get(piece.work.key, 0) + 1
        for key, work in self.works.items():
            assert pieces.get(key, 0) == work.pieces, f"{key} counts {work.pieces} pieces"
        assert self.alone == {key: work for key, work in self.works.items() if work.alone}
        for session in self.sessions.values():
            depths = [piece.work.depth for piece in session.queue]
            assert depths == sorted(depths, reverse=True), f"{session.id} has {depths} waiting"


def _first_below(queue: deque[Piece], depth: int) -> int:
    """Where the first piece stands for which fewer than ``depth`` calls wait; else the end."""
    places = (place for place, piece in enumerate(queue) if piece.work.depth < depth)
    return next(places, len(queue))
