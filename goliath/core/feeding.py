"""How much the owners of jobs are asked for: enough to keep every node's window full."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import field

from goliath.core.backlog import Backlog
from goliath.core.commands import Demand
from goliath.core.ids import JobId, NodeId
from goliath.core.job import Job
from goliath.core.placement import ACTOR_WINDOW, NodeView, actor_window
from goliath.core.policy import BatchPolicy
from goliath.record import record


@record
class Feeding:
    """Which owners may have to be asked for parcels, and for how many.

    ``nodes`` and ``backlog`` are the scheduler's own, and only read here.
    """

    policy: BatchPolicy
    nodes: Mapping[NodeId, NodeView]
    backlog: Backlog
    _fed: dict[JobId, Job] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self._fed)

    def __contains__(self, job: JobId) -> bool:
        return job in self._fed

    def watch(self, job: Job) -> None:
        """Its owner may want to be asked: it is new, or it has submitted something."""
        self._fed[job.id] = job

    def forget(self, job: JobId) -> None:
        """Its owner has nothing more."""
        self._fed.pop(job, None)

    def grant(self) -> Iterator[Demand]:
        """Let owners submit as much as keeps every node's window full, and a little ahead."""
        enough = sum([node.slots for node in self.nodes.values()])
        for job in list(self._fed.values()):
            if job.granted > enough:  # it is not asked anew for each batch that comes back
                wanted = 0
            else:
                slots, room = self._room(job)
                ahead = max(slots // job.options.concurrency, 1)
                wanted = room + ahead - self.backlog.count(job.id) - job.granted
            if wanted > 0:
                job.granted += wanted
                yield Demand(job.id, wanted, self._size(job, slots))
            elif not job.live:
                del self._fed[job.id]  # it has its fill, until it submits something

    def _room(self, job: Job) -> tuple[int, int]:
        """How many calls of a job can run at once, and how many more batches of it be sent."""
        if job.options.actor:
            home = self.nodes.get(job.home) if job.home is not None else None
            if home is None:
                return 1, ACTOR_WINDOW
            held = home.actors.get(job.id, 0)
            return job.options.concurrency, max(actor_window(job.options) - held, 0)
        batch_s = job.batch_s(self.policy)
        slots = room = 0
        for node in self.nodes.values():
            slots += node.capacity(job.options)
            if not node.draining:
                room += max(int(node.room(job.options, self.policy, batch_s)), 0)
        return slots, room

    def _size(self, job: Job, slots: int) -> int:
        if job.abandoned is not None:
            return self.policy.calls_max
        if job.options.batch_size is not None:
            return job.options.batch_size
        return self.policy.size(
            job.cost.per_call_s,
            job.bytes_per_call,
            job.remaining,
            slots,
            watched=job.options.watched,
            before=job.calls,
        )
