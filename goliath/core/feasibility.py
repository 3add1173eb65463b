"""Jobs that no connected node could ever run, and how long they may wait for one that can."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from goliath.core.backlog import Backlog
from goliath.core.ids import JobId, NodeId
from goliath.core.job import Job
from goliath.core.placement import NodeView


@dataclass(slots=True)
class Feasibility:
    """Who is stuck, and since when.

    Args:
        patience_s: how long a job may wait for a node that is big enough.
        nodes, jobs, backlog: the scheduler's own, only read here.
        wake: asks for another look at some time.
    """

    patience_s: float
    nodes: Mapping[NodeId, NodeView]
    jobs: Mapping[JobId, Job]
    backlog: Backlog
    wake: Callable[[float], None]
    _stuck_since: dict[JobId, float] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self._stuck_since)

    def forget(self, job: JobId) -> None:
        """A job has ended."""
        self._stuck_since.pop(job, None)

    def hopeless(self, now: float) -> list[Job]:
        """Those that have waited long enough."""
        found = []
        for job in self.jobs.values():
            waits = self.nodes and self.backlog.count(job.id)
            if not waits or any(node.capacity(job.options) for node in self.nodes.values()):
                self._stuck_since.pop(job.id, None)
                continue
            patience_ends = self._stuck_since.setdefault(job.id, now) + self.patience_s
            if now >= patience_ends:
                found.append(job)
            else:
                self.wake(patience_ends)
        return found

    def what_lacks(self, job: Job) -> str:
        """What it asks for, and what there is."""
        wanted: dict[str, float | str] = {"num_cpus": job.options.cpus, **job.options.resources}
        if job.options.node is not None:
            wanted["node"] = job.options.node
        offers = [
            {"node": node.id, "num_cpus": node.slots, **node.resources}
            for node in self.nodes.values()
        ]
        return f"a call needs {wanted}, and the nodes offer {offers}"
