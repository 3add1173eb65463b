"""A node as the Commander sees it, and which node gets the next batch."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import field
from typing import TypeVar

from goliath.core.batch import Batch, JobOptions, offer
from goliath.core.devices import GPU, calls_at_once
from goliath.core.ids import BatchId, JobId, NodeId
from goliath.core.policy import BIG_BYTES, BatchPolicy, Level
from goliath.record import record

CPU = "CPU"  # no resource of a user's is called so
ROUNDING = 1e-9  # a hundred hundredths of a CPU are one

K = TypeVar("K")
Kind = tuple[int, tuple[tuple[str, float], ...]]
"""What tells batches apart that take more than CPUs: their concurrency, and what a call takes."""


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
    scarce: dict[Kind, int] = field(default_factory=dict)  # of those, the ones that take resources
    loners: set[BatchId] = field(default_factory=set)  # that run alone here, and do not wait
    asked: bool = False  # a steal is unanswered
    barren_until: float = 0.0  # it had nothing to give: not to be asked before
    barren_s: float = 0.0  # how long it was left in peace the last time
    draining: bool = False
    level: Level = Level.EASY  # of its want of memory
    spread: int = 0  # batches it has been given of jobs that are to be spread
    actors: dict[JobId, int] = field(default_factory=dict)  # and how many batches of each it holds
    homed: int = 0  # actors it has been given so far: detached ones stay, though nobody calls them
    let: dict[str, float] = field(default_factory=dict)  # of what it has, to those that live here

    def capacity(self, options: JobOptions) -> int:
        """How many calls of a job can run here at once; 0: never."""
        if options.node is not None and options.node != self.id and not options.soft:
            return 0
        if options.cpus == 1.0 and not options.resources:
            return self.slots * options.concurrency
        if self.slots < options.cpus:
            return 0
        room = int(self.slots / options.cpus) if options.cpus else self.slots
        return self._supplied(room, options.resources.items()) * options.concurrency

    def _supplied(self, calls: int, resources: Iterable[tuple[str, float]]) -> int:
        """For how many of so many calls there is enough of everything but CPUs."""
        for name, amount in resources:
            if name == GPU and amount > 0:
                calls = min(calls, calls_at_once(self.resources.get(GPU, 0.0), amount))
            elif amount > 0:
                calls = min(calls, int(offer(self.resources, name) / amount))
        return calls

    @property
    def load(self) -> float:
        """Batches that need, or will need, some of its CPUs; of those that share a worker, each is
        a part of one, and of those that take another resource only as many as there is of it."""
        load: float = len(self.held) - len(self.waiting)
        if self.actors:
            load -= sum(self.actors.values())
        for concurrency, count in self.shared.items():
            load -= count - count / concurrency
        for kind, count in self.scarce.items():
            load -= count / kind[0] - self._at_once(kind, count)
        return load

    def _at_once(self, kind: Kind, count: int) -> float:
        concurrency, resources = kind
        return min(count / concurrency, self._supplied(count, resources))

    def before(self, options: JobOptions) -> float:
        """Batches that stand before those of a job, where it counts for the window.

        Before those that take a resource stand the others that do. These stand before nobody else:
        they may wait for it while a slot is idle, for as long as an actor, or another
        Commander's call, has it; and only the node knows.
        """
        if not options.resources:
            scarce = self.scarce
            return self.load - (sum(self._at_once(*e) for e in scarce.items()) if scarce else 0.0)
        return sum(
            count / concurrency
            for (concurrency, resources), count in self.scarce.items()
            if any(name in options.resources for name, _ in resources)
        )

    def room(self, options: JobOptions, policy: BatchPolicy, batch_s: float | None) -> float:
        """How many more batches of a job it may be given; ``batch_s`` is what one takes, if that is
        known."""
        window = policy.window(self.capacity(options), self.rtt_s, batch_s, options.concurrency)
        return window - self.before(options) * options.concurrency

    def share(self, options: JobOptions) -> float:
        """How full it is for a job that it can run: from 1 on, a call of it would have to wait."""
        if not options.resources:
            return self.load * options.concurrency / self.capacity(options)
        taken = self.before(options) * options.concurrency / self.capacity(options)
        return max(taken, self.load / max(self.slots, 1))

    def has_its_fill(self, options: JobOptions, bytes_max: int) -> bool:
        """Whether it has so many bytes that a batch is kept back which would have to wait there.
        Coroutines are, in any case: they share a slot by the hundred, and none leaves it idle."""
        if self.held_bytes < bytes_max:
            return False
        return self.share(options) >= 1 or options.concurrency > 1

    def houses(self, options: JobOptions) -> bool:
        """Whether another actor could live here beside those of this Commander that do."""
        return all(
            self.let.get(name, 0.0) + amount <= self.has(name) + ROUNDING
            for name, amount in needs(options).items()
        )

    def house(self, job: JobId, options: JobOptions) -> None:
        """An actor lives here from now on."""
        self.actors[job] = 0
        self.homed += 1
        for name, amount in needs(options).items():
            self.let[name] = self.let.get(name, 0.0) + amount

    def unhouse(self, job: JobId, options: JobOptions) -> None:
        """It is gone, or nobody can call it any more."""
        if self.actors.pop(job, None) is not None:
            for name, amount in needs(options).items():
                self.let[name] -= amount

    def has(self, name: str) -> float:
        """How much it offers of a resource, or of `CPU`."""
        return self.slots if name == CPU else offer(self.resources, name)

    def take(self, batch: Batch) -> None:
        """Enter a batch in the books."""
        assert batch.id not in self.held, f"{batch!r} is on {self.id} already"
        self.held[batch.id] = batch
        self.held_bytes += batch.nbytes
        if batch.alone:
            self.loners.add(batch.id)
        if batch.job in self.actors:
            self.actors[batch.job] += 1
            return
        if batch.concurrency > 1:
            _count(self.shared, batch.concurrency, 1)
        if batch.resources:
            _count(self.scarce, _kind(batch), 1)

    def drop(self, batch: Batch) -> None:
        """Strike a batch off the books."""
        if batch.id in self.waiting:
            self.wait(batch, waiting=False)
        del self.held[batch.id]
        self.loners.discard(batch.id)
        self.held_bytes -= batch.nbytes
        if batch.job in self.actors:
            self.actors[batch.job] -= 1
            return
        if batch.concurrency > 1:
            _count(self.shared, batch.concurrency, -1)
        if batch.resources:
            _count(self.scarce, _kind(batch), -1)

    def wait(self, batch: Batch, *, waiting: bool) -> None:
        """A call of a batch waits for others, or no longer."""
        if waiting is not (batch.id in self.waiting) and batch.job not in self.actors:
            (self.waiting.add if waiting else self.waiting.discard)(batch.id)
            if batch.concurrency > 1:
                _count(self.shared, batch.concurrency, -1 if waiting else 1)
            if batch.alone:
                (self.loners.discard if waiting else self.loners.add)(batch.id)


def _kind(batch: Batch) -> Kind:
    """Of a batch that takes more than CPUs."""
    return batch.concurrency, tuple(sorted((batch.resources or {}).items()))


def needs(options: JobOptions) -> dict[str, float]:
    """What a call takes while it runs; an actor, as long as it lives."""
    return {CPU: options.cpus, **options.resources}


def _count(counts: dict[K, int], key: K, change: int) -> None:
    """One more, or one less; what there is none of is not kept."""
    counts[key] = counts.get(key, 0) + change
    if not counts[key]:
        del counts[key]


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
    size, and of several the one that was chosen less often; one that is short of memory only if
    all are. None if none can have it, or those that can have all that they may: where it lives is
    for ever, so it waits for the first that has a place, and that may be one still to come."""
    nodes = _preferred(nodes, options)
    able = [node for node in nodes if not node.draining and node.capacity(options)]

    def crowd(node: NodeView) -> tuple[Level, float, float]:
        size = max(node.slots, 1)
        return node.level, (len(node.actors) + node.load) / size, node.homed / size

    return min((node for node in able if node.houses(options)), key=crowd, default=None)


SMALL_SHARE = 64
"""A batch of at most such a share of the window for bytes is small: twice as much may be on a
node before small ones wait, too."""


def choose_node(
    nodes: Collection[NodeView],
    options: JobOptions,
    policy: BatchPolicy,
    batch_s: float | None,
    bytes_max: int,
    near: Mapping[NodeId, int] | None = None,
    nbytes: int = 0,
) -> NodeView | None:
    """The node with the most room for a batch of this job, by share of its size; None if full.

    Of those that could run it at once, the one that keeps most of what it takes goes first. None is
    waited for: a transfer costs less than a node that has nothing to do. And no slot is left idle
    because of bytes: what runs has its arguments there anyhow, and calls with 100 MiB each would
    otherwise run one after the other on a node of any size. A node that is short of memory is given
    what no other has room for, which may still rob it of that; and one that is full nothing big,
    unless all are.

    Args:
        nodes: all there are.
        options: of the job.
        policy: says how many batches may be on a node.
        batch_s: what a batch of the job takes, as far as is known.
        bytes_max: how much payload may be on a node before it is given batches that have to wait.
        near: which nodes keep how many bytes of what its calls take.
        nbytes: payload of the batch. A small one does not wait for the big ones before it.
    """
    if nbytes <= bytes_max // SMALL_SHARE:
        bytes_max *= 2
    best: NodeView | None = None
    best_load = (Level.EASY, 0.0)
    if options.spread:
        near = None
    for node in _candidates(nodes, options, nbytes):
        if node.draining:
            continue
        if node.loners and not options.depth:  # but what one of them waits for is not kept away
            continue
        capacity = node.capacity(options)
        full = not capacity or node.room(options, policy, batch_s) <= 0
        if full or node.has_its_fill(options, bytes_max):
            continue
        share = node.share(options)
        load = node.spread / capacity if options.spread else share
        if near and share < 1:
            load -= near.get(node.id, 0)
        if best is None or (node.level, load) < best_load:
            best, best_load = node, (node.level, load)
    return best


def _candidates(
    nodes: Collection[NodeView], options: JobOptions, nbytes: int
) -> Collection[NodeView]:
    if nbytes > BIG_BYTES:
        nodes = takers(nodes, options) or nodes  # if all are full, one of them says so
    return nodes if options.node is None else _preferred(nodes, options)


def _preferred(nodes: Collection[NodeView], options: JobOptions) -> Collection[NodeView]:
    """The node that a job asks for, if it can run it there; else all."""
    if options.node is None:
        return nodes
    return [n for n in nodes if n.id == options.node and n.capacity(options)] or nodes


def takers(nodes: Iterable[NodeView], options: JobOptions) -> list[NodeView]:
    """Those that can run calls of a job, and take big arguments now."""
    return [
        node
        for node in nodes
        if node.level is not Level.FULL and not node.draining and node.capacity(options)
    ]
