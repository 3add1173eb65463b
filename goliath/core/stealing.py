"""Who is robbed for whom: a count to ask of a victim, never names.

Only the victim knows what has not started. It gives up its newest queued batches first, and
then the un-started rest of a running one.
"""

from __future__ import annotations

from collections.abc import Sequence

from goliath.core.ids import NodeId
from goliath.record import frozen

WORTH_S = 0.005
"""Work that will be over, or has been running, for less than this is left alone: giving up
the rest of a running batch takes the victim's worker up to one GIL switch (5 ms)."""


@frozen
class Load:
    """What a steal is decided on.

    ``calls`` are those that may not have begun, ``rest_s`` is the estimated worker time not
    yet reported, of all.
    """

    node: NodeId
    slots: int
    held: int
    calls: int
    rest_s: float
    may_be_asked: bool


def plan_steals(loads: Sequence[Load]) -> dict[NodeId, int]:
    """How many ranges to ask of whom, so that every idle slot gets something to do.

    A node's own idle slots are its own business: it splits what runs beside them.
    """
    free = {load.node: max(load.slots - load.held, 0) for load in loads}
    hungry = sum(free.values())
    plan: dict[NodeId, int] = {}
    for load in sorted(loads, key=lambda load: -load.rest_s / max(load.slots, 1)):
        wanted = hungry - free[load.node]
        if wanted > 0 and load.may_be_asked and load.calls > 0:
            spare = load.held - load.slots if load.held > load.slots else load.held
            plan[load.node] = min(wanted, max(spare, 1))
            hungry -= plan[load.node]
    return plan
