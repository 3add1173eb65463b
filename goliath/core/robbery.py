"""When nodes are asked to give work up, and when they are left in peace.

`stealing` says how much to ask of whom; this keeps the books for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from math import ceil

from goliath.core.batch import Batch, BatchState
from goliath.core.commands import Steal
from goliath.core.ids import JobId, NodeId
from goliath.core.job import Job
from goliath.core.placement import ROUNDING, NodeView
from goliath.core.policy import Level
from goliath.core.stealing import WORTH_S, Load, plan_steals
from goliath.record import record

BARREN_S = 0.010
"""A victim that had nothing to give is left in peace for so long, then for twice as long ..."""

BARREN_MAX_S = 1.0
"""... up to this; or until it reports something, for then it may have begun another batch."""


@record
class Robbery:
    """Asks busy nodes for work while others have nothing to do and nothing waits.

    Args:
        nodes, jobs: the scheduler's own.
        wake: asks for another look at some time.
    """

    nodes: Mapping[NodeId, NodeView]
    jobs: Mapping[JobId, Job]
    wake: Callable[[float], None]

    def begin(self, now: float) -> Iterator[Steal]:
        """Whom to ask now, for how much."""
        if all(node.load >= node.slots for node in self.nodes.values()):
            return
        nodes = [node for node in self.nodes.values() if not node.draining]
        best = min((node.level for node in nodes), default=Level.EASY)
        loads = [self._load(node, now, best) for node in nodes]
        for victim, wanted in plan_steals(loads).items():
            self.nodes[victim].asked = True
            yield Steal(victim, wanted)

    def _load(self, node: NodeView, now: float, best: Level) -> Load:
        calls, rest_s, oldest = 0, 0.0, now
        cpus = float(node.slots)
        for batch in node.held.values():
            if batch.job in node.actors:
                continue
            job = self.jobs[batch.job]
            waits = batch.id in node.waiting
            needed = job.options.cpus / batch.concurrency
            begun = (
                waits or needed <= cpus + ROUNDING
            )  # the oldest first: one call of it is running
            if begun and not waits:
                cpus -= needed
            if batch.state is BatchState.ASSIGNED:
                # What others have, too, need not be given to anybody else.
                calls += 0 if batch.twins else batch.open_calls() - begun
                rest_s += batch.open_calls() * (job.cost.per_call_s or WORTH_S)
                oldest = min(oldest, batch.assigned_at)
        ripe = max(node.barren_until, oldest + WORTH_S if rest_s < WORTH_S else 0.0)
        if calls and not node.asked and ripe > now:
            self.wake(ripe)
        may_be_asked = not node.asked and ripe <= now
        held = ceil(node.load - ROUNDING)
        spare = node.slots
        if node.level:  # it begins nothing beside what runs, and is the last choice for anything
            spare = 1 if node.level is best is Level.STRAINED and not node.held else 0
        if node.loners:  # its free slots stay so
            spare = 0
        held = max(held, node.slots - spare)
        return Load(node.id, node.slots, held, calls, rest_s, may_be_asked)

    def answered(self, victim: NodeView, now: float, *, empty: bool) -> None:
        """A node has given what it could spare."""
        victim.asked = False
        if empty:
            self._leave_in_peace(victim, now)

    @staticmethod
    def heard(node: NodeView, now: float) -> None:
        """A node has reported something, so it may have begun another batch."""
        node.barren_until = min(node.barren_until, now + BARREN_S)

    def judge(self, batch: Batch, taker: NodeView, now: float) -> None:
        """Whether it was of any use: what only its victim can run comes back to it."""
        victim = self.nodes.get(batch.robbed_from) if batch.robbed_from is not None else None
        if victim is taker:
            self._leave_in_peace(victim, now)
        elif victim is not None:
            victim.barren_s = 0.0

    @staticmethod
    def _leave_in_peace(victim: NodeView, now: float) -> None:
        victim.barren_s = min(max(BARREN_S, 2 * victim.barren_s), BARREN_MAX_S)
        victim.barren_until = now + victim.barren_s
