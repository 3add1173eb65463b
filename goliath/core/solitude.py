"""Calls that are to run alone on their node: their worker was killed for want of memory, and what
ran beside them may have taken it.

While such a call waits, nothing else begins, until all that runs has ended and it can begin; and
nothing begins while it runs. That is so as far as it can be:

- Actors live outside the slots, and nobody knows when they end: their calls go on.
- What runs may take hours: a call that is to be alone waits for it no longer than
  ``alone_patience_s``, and begins beside what is left.
- A call that waits for others does not keep them away: others may begin then. Nor does it ever keep
  calls away for which more calls wait than for it, for they may be those that it waits for.
- Another Commander, to whom it leaves nothing, may have one worker, as whenever it is starved.
"""

from __future__ import annotations

from math import inf

from goliath.core.crew import Crew
from goliath.core.policy import NodePolicy
from goliath.core.queues import Queues
from goliath.core.work import Session, Work
from goliath.record import frozen


@frozen
class Solitude:
    """Says what must not begin now."""

    queues: Queues
    crew: Crew
    policy: NodePolicy

    def reigns(self) -> bool:
        """Whether anything is kept from beginning."""
        return bool(self.queues.alone) and bool(self._running() or self._wanted())

    def bars(self, session: Session, work: Work, now: float, *, starved: bool) -> bool:
        """Whether a batch of a session must wait; ``starved`` is whether that gets nothing else."""
        if not self.queues.alone or work.actor:
            return False
        running = self._running()
        if work.alone:
            late = now >= work.since + self.policy.alone_patience_s
            behind = any(work.depth <= other.depth for other in running)
            return behind or (not late and self._anything_runs())
        if starved and all(other.session != session.id for other in self.queues.alone.values()):
            return False
        return any(work.depth <= other.depth for other in running or self._wanted())

    def next_at(self, now: float) -> float:
        """When one of them will have waited for long enough."""
        ends = (work.since + self.policy.alone_patience_s for work in self._wanted())
        return min((at for at in ends if at > now), default=inf)

    def _running(self) -> list[Work]:
        """Those that run, and do not wait for others."""
        return [
            unit.piece.work
            for unit in self.crew.units()
            if unit.piece is not None and unit.piece.work.alone and not unit.waiting
        ]

    def _anything_runs(self) -> bool:
        return any(
            unit.piece is not None and not unit.waiting and not unit.actor
            for unit in self.crew.units()
        )

    def _wanted(self) -> list[Work]:
        """Those that wait, and could begin if there were nothing else."""
        return [
            piece.work
            for session in self.queues.sessions.values()
            for piece in session.queue
            if piece.work.alone and piece.work.environment in session.ready
        ]
