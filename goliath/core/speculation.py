"""Which calls are made a second time, elsewhere, because they take suspiciously long.

Backup tasks, as in MapReduce: when a slot would stand idle, it may as well run what somebody
else has been running for too long. Whoever is done first has made the call; the scheduler
sees to it that nobody wants the other one any more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import field

from goliath.core.batch import Batch, BatchState
from goliath.core.ids import JobId, NodeId
from goliath.core.job import Job
from goliath.core.placement import ROUNDING, NodeView
from goliath.record import record


@record
class Speculation:
    """Looks for calls that are late while others have nothing to do.

    Args:
        nodes: the scheduler's own.
        wake: asks for another look at some time.
    """

    nodes: Mapping[NodeId, NodeView]
    wake: Callable[[float], None]
    _watched: dict[JobId, Job] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self._watched)

    def watch(self, job: Job) -> None:
        """Calls of this job may be made twice."""
        self._watched[job.id] = job

    def forget(self, job: JobId) -> None:
        """It has ended."""
        self._watched.pop(job, None)

    def late(self, now: float) -> Iterator[tuple[Batch, NodeView]]:
        """What is late, and who could run it, too; the oldest first, and each as soon as the one
        before it is in the books. A copy that is late itself is among them, if it had to be made
        beside its call, and need not be there any more."""
        if not any(_is_idle(node) for node in self.nodes.values()):
            return
        for batch, due in sorted(self._due(), key=lambda each: each[1]):
            node = self._elsewhere(batch)
            if node is None or (batch.twins and node.id == batch.node):
                continue
            if due > now:
                self.wake(due)
                return
            yield batch, node

    def _due(self) -> Iterator[tuple[Batch, float]]:
        """Everything that is on a node and may be late some day; when that is."""
        held: dict[JobId, list[tuple[Batch, NodeView]]] = {job: [] for job in self._watched}
        for node in self.nodes.values():
            for batch in node.held.values():
                # Whoever waits for other calls is not late: they are.
                if batch.job in held and batch.id not in node.waiting:
                    held[batch.job].append((batch, node))
        for job_id, batches in held.items():
            pace = self._watched[job_id].pace
            alone = [(b, n) for b, n in batches if b.state is BatchState.ASSIGNED and not b.twins]
            # What the median of all will be, nobody knows before half of them have finished.
            if pace.finished < max(sum(batch.open_calls() for batch, _ in alone), 1):
                continue
            beside = [(b, n) for b, n in batches if _is_copy_beside_its_call(b)]
            for batch, node in alone + beside:
                if not batch.last_try:
                    yield batch, batch.heard_at + node.rtt_s + pace.late_after(batch.open_calls())

    def _elsewhere(self, batch: Batch) -> NodeView | None:
        """An idle node; its own only where no other could ever run it, and one that is short of
        memory only where all are: it may be so for ever."""
        options = self._watched[batch.job].options
        able = [n for n in self.nodes.values() if not n.draining and n.capacity(options)]
        able = [node for node in able if not node.loners]
        needed = options.cpus / batch.concurrency
        return min(
            (
                node
                for node in [n for n in able if n.id != batch.node] or able
                if node.load + needed <= node.slots + ROUNDING
            ),
            key=lambda node: (node.level, node.load / node.slots),
            default=None,
        )


def _is_copy_beside_its_call(batch: Batch) -> bool:
    """Whether it shares a node with what it is a copy of: what holds up one may hold up both."""
    return batch.state is BatchState.ASSIGNED and any(
        twin.id < batch.id and twin.node == batch.node for twin in batch.twins
    )


def _is_idle(node: NodeView) -> bool:
    return not node.draining and not node.loners and node.load < node.slots
