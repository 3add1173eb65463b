"""Batches that wait for a node: the highest rank first, fair between jobs of the same one,
first in first out within a job."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator

from goliath.core.batch import Batch
from goliath.core.ids import JobId

Rank = tuple[int, int]
"""Priority, and how many calls wait for it in a row: what ends soonest the waiting of others
goes first, so that no more calls are begun than are needed."""

USUAL: Rank = (0, 0)


class Backlog:
    """A queue per job, served in turn: a job of a million calls does not hold up one of three."""

    def __init__(self) -> None:
        self._queues: OrderedDict[JobId, deque[Batch]] = OrderedDict()
        self._ranks: dict[JobId, Rank] = {}  # of those that are not the lowest

    def __bool__(self) -> bool:
        return bool(self._queues)

    def __iter__(self) -> Iterator[Batch]:
        for queue in self._queues.values():
            yield from queue

    def count(self, job: JobId) -> int:
        """How many batches of this job wait."""
        queue = self._queues.get(job)
        return len(queue) if queue else 0

    def push(self, batch: Batch) -> None:
        """Queue a batch behind the others of its job."""
        self._queues.setdefault(batch.job, deque()).append(batch)

    def push_front(self, batch: Batch) -> None:
        """Queue a batch that was on a node already before the others of its job."""
        self._queues.setdefault(batch.job, deque()).appendleft(batch)

    def heads(self) -> Iterator[Batch]:
        """The first batch of each job, in the order of the jobs' turns; void after a `pop`."""
        jobs: Iterable[JobId] = self._queues
        if self._ranks:
            jobs = sorted(jobs, key=lambda job: self._ranks.get(job, USUAL), reverse=True)
        for job in jobs:
            yield self._queues[job][0]

    def prefer(self, job: JobId, rank: Rank) -> None:
        """Let a job go before those of lower rank."""
        if rank == USUAL:
            self._ranks.pop(job, None)
        else:
            self._ranks[job] = rank

    def pop(self, job: JobId) -> Batch:
        """Take the first batch of a job, which has had its turn now."""
        queue = self._queues[job]
        batch = queue.popleft()
        if queue:
            self._queues.move_to_end(job)
        else:
            del self._queues[job]
        return batch

    def of(self, job: JobId) -> list[Batch]:
        """The batches of one job."""
        return list(self._queues.get(job, ()))

    def replace(self, batch: Batch, pieces: list[Batch]) -> None:
        """Put what is left of a batch into its place."""
        queue = self._queues[batch.job]
        place = queue.index(batch)
        del queue[place]
        for piece in reversed(pieces):
            queue.insert(place, piece)
        if not queue:
            del self._queues[batch.job]

    def drop(self, job: JobId) -> list[Batch]:
        """Take out every batch of a job."""
        return list(self._queues.pop(job, ()))
