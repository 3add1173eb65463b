"""A node as the Commander sees it, and which node gets the next batch."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import field

from goliath.core.batch import Batch, JobOptions
from goliath.core.devices import GPU, calls_at_once
from goliath.core.ids import BatchId, JobId, NodeId
from goliath.core.policy import BatchPolicy
from goliath.record import record


@record
class NodeView:
    """What is known of one session: its size, and the batches it holds."""

    id: NodeId
    slots: int
    resources: Mapping[str, float]
    rtt_s: float
    held: dict[BatchId, Batch] = field(default_factory=dict)
    held_bytes: int = 0
    waiting: set[BatchId] = field(default_factory=set)  # of those, with calls that wait for others
    shared: dict[int, int] = field(default_factory=dict)  # of the others, by their concurrency
    asked: bool = False  # a steal is unanswered
    barren_until: float = 0.0  # it had nothing to give: not to be asked before
    barren_s: float = 0.0  # how long it was left in peace the last time
    draining: bool = False
    spread: int = 0  # batches it has been given of jobs that are to be spread
    actors: dict[JobId, int] = field(default_factory=dict)  # and how many batches of each it holds
    homed: int = 0  # actors it has been given so far: detached ones stay, though nobody calls them

    def capacity(self, options: JobOptions) -> int:
        """How many calls of a job can run here at once; 0: never."""
        if options.node is not None and options.node != self.id and not options.soft:
            return 0
        if options.cpus == 1.0 and not options.resources:
            return self.slots * options.concurrency
        if self.slots < options.cpus:
            return 0
        room = int(self.slots / options.cpus) if options.cpus else self.slots
        for name, amount in options.resources.items():
            if name == GPU and amount > 0:
                room = min(room, calls_at_once(self.resources.get(GPU, 0.0), amount))
            elif amount > 0:
                room = min(room, int(self.resources.get(name, 0.0) / amount))
        return room * options.concurrency

    @property
    def load(self) -> float:
        """Batches that need, or will need, some of its CPUs; of those that share a worker, each is
        a part of one."""
        load: float = len(self.held) - len(self.waiting)
        if self.actors:
            load -= sum(self.actors.values())
        for concurrency, count in self.shared.items():
            load -= count - count / concurrency
        return load

    def take(self, batch: Batch) -> None:
        """Enter a batch in the books."""
        assert batch.id not in self.held, f"{batch!r} is on {self.id} already"
        self.held[batch.id] = batch
        self.held_bytes += batch.nbytes
        if batch.job in self.actors:
            self.actors[batch.job] += 1
        else:
            self._share(batch, 1)

    def drop(self, batch: Batch) -> None:
        """Strike a batch off the books."""
        self.wait(batch, waiting=False)
        del self.held[batch.id]
        self.held_bytes -= batch.nbytes
        if batch.job in self.actors:
            self.actors[batch.job] -= 1
            return
        self._share(batch, -1)

    def wait(self, batch: Batch, *, waiting: bool) -> None:
        """A call of a batch waits for others, or no longer."""
        if waiting is not (batch.id in self.waiting) and batch.job not in self.actors:
            (self.waiting.add if waiting else self.waiting.discard)(batch.id)
            self._share(batch, -1 if waiting else 1)

    def _share(self, batch: Batch, change: int) -> None:
        if batch.concurrency > 1:
            count = self.shared.get(batch.concurrency, 0) + change
            if count:
                self.shared[batch.concurrency] = count
            else:
                del self.shared[batch.concurrency]


ACTOR_WINDOW = 2
"""Batches of an actor that may be on its node, for each that can run at once: one that runs, and
one that waits for it."""

GROUPS_WINDOW = 3
"""The same where groups must not hold up each other: and one that was cancelled, and still runs."""


def actor_window(options: JobOptions) -> int:
    """Batches of an actor that may be on its node."""
    return (GROUPS_WINDOW if options.groups else ACTOR_WINDOW) * options.concurrency


def choose_home(nodes: Collection[NodeView], options: JobOptions) -> NodeView | None:
    """The node for a new actor: the one with the fewest actors and the most room, by share of its
    size, and of several the one that was chosen less often; None if none can have it."""
    if options.node is not None:
        nodes = [n for n in nodes if n.id == options.node and n.capacity(options)] or nodes
    able = [node for node in nodes if not node.draining and node.capacity(options)]

    def crowd(node: NodeView) -> tuple[float, float]:
        size = max(node.slots, 1)
        return (len(node.actors) + node.load) / size, node.homed / size

    return min(able, key=crowd, default=None)


def choose_node(
    nodes: Collection[NodeView],
    options: JobOptions,
    policy: BatchPolicy,
    batch_s: float | None,
    bytes_max: int,
    near: Mapping[NodeId, int] | None = None,
) -> NodeView | None:
    """The node with the most room for a batch of this job, by share of its size; None if full.

    Of those that could run it at once, the one that keeps most of what it takes goes first. None is
    waited for: a transfer costs less than a node that has nothing to do.

    Args:
        nodes: all there are.
        options: of the job.
        policy: says how many batches may be on a node.
        batch_s: what a batch of the job takes, as far as is known.
        bytes_max: how much payload may be on a node.
        near: which nodes keep how many bytes of what its calls take.
    """
    best: NodeView | None = None
    best_load = 0.0
    if options.spread:
        near = None
    if options.node is not None:
        preferred = [node for node in nodes if node.id == options.node and node.capacity(options)]
        nodes = preferred or nodes
    for node in nodes:
        if node.draining or node.held_bytes >= bytes_max:
            continue
        capacity = node.capacity(options)
        held = node.load * options.concurrency  # in calls that can run at once, as the capacity
        window = policy.window(capacity, node.rtt_s, batch_s, options.concurrency)
        if not capacity or held >= window:
            continue
        load = (node.spread if options.spread else held) / capacity
        if near and held < capacity:
            load -= near.get(node.id, 0)
        if best is None or load < best_load:
            best, best_load = node, load
    return best
