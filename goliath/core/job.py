"""A job as the Commander's mind keeps it, and what calls of its function cost."""

from __future__ import annotations

from dataclasses import field

from goliath.core.batch import JobOptions
from goliath.core.commands import Verdict
from goliath.core.ids import JobId, NodeId
from goliath.core.policy import BatchPolicy, Cost, Pace
from goliath.record import record

COSTS_KEPT = 1024
"""Functions whose cost is remembered after their job; the oldest is forgotten first."""


@record
class Job:
    """One owner's calls of one function."""

    id: JobId
    options: JobOptions
    remaining: int | None  # calls not submitted yet, where the total is known
    cost: Cost
    granted: int = 0  # parcels it may submit and has not
    live: int = 0  # batches in the backlog or on a node
    home: NodeId | None = None  # where the process of an actor is
    exhausted: bool = False
    abandoned: tuple[Verdict, str] | None = None  # why nothing of it is wanted any more
    nbytes: float = 0.0
    calls: int = 0
    pace: Pace = field(default_factory=Pace)  # learned only while any job speculates

    @property
    def bytes_per_call(self) -> float:
        """Payload of one call, on average."""
        return self.nbytes / self.calls if self.calls else 0.0

    def lives_on(self, node: NodeId) -> bool:
        """Whether it is an actor that has its home there, or can have it nowhere else."""
        options = self.options
        return options.actor and (self.home == node or (options.node == node and not options.soft))

    def batch_s(self, policy: BatchPolicy) -> float | None:
        """What a batch of it takes, as far as is known."""
        per_call = self.cost.per_call_s
        if per_call is None:
            return None
        return policy.target(per_call, watched=self.options.watched)


@record
class Costs:
    """What is known of functions, by their digests."""

    _known: dict[str, Cost] = field(default_factory=dict)

    def of(self, function: str) -> Cost:
        """The cost of one function, to be learned."""
        cost = self._known.get(function)
        if cost is None:
            if len(self._known) >= COSTS_KEPT:
                del self._known[next(iter(self._known))]
            cost = self._known[function] = Cost()
        return cost
