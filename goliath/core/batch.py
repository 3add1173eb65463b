"""A batch: a run of calls of one function, as the Commander's mind keeps it.

The calls of a batch are part of a *parcel*: the encoded chunk they were cut in. A batch that
is split, robbed or retried in part leaves new batches over the same parcel, so nothing is
ever encoded twice, and a call's number within the parcel never changes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum, auto

from goliath.core.ids import Attempt, BatchId, JobId, NodeId, Span
from goliath.record import frozen, record

ParcelId = int
"""Which encoded chunk of its job; chosen by whoever submits it, unique in the Commander."""


MEMORY = "memory"
"""The resource that is counted in bytes: a reservation, which nobody enforces (as in Ray)."""


ACTORS = "actors"
"""The resource of which each actor takes one, as long as it lives."""

MANY = 1e9
"""As good as any number."""


def offer(resources: Mapping[str, float], name: str) -> float:
    """How much of a resource a node has: of actors any number, if it does not say how many."""
    return resources.get(name, MANY if name == ACTORS else 0.0)


CONCURRENCY_MAX = 1000
"""Calls that may run in one worker at the same time: so many have a place on its page."""


class BatchState(IntEnum):
    """Where a batch is in its life. (An int, because it hashes at C speed.)"""

    READY = auto()  # in the backlog
    ASSIGNED = auto()  # on a node, which will report it call by call
    CANCELLING = auto()  # nobody wants it any more, but it still takes room on its node
    DONE = auto()


MOVES: Mapping[BatchState, frozenset[BatchState]] = {
    BatchState.READY: frozenset({BatchState.ASSIGNED, BatchState.DONE}),
    BatchState.ASSIGNED: frozenset({BatchState.CANCELLING, BatchState.DONE}),
    BatchState.CANCELLING: frozenset({BatchState.DONE}),
    BatchState.DONE: frozenset(),
}


@frozen
class JobOptions:
    """What the calls of a job have in common, as far as it decides where and how they run."""

    function: str = ""  # its digest: what a call costs is remembered by it
    environment: str = ""
    max_retries: int = 3
    timeout_s: float | None = None
    cpus: float = 1.0
    resources: Mapping[str, float] = field(default_factory=dict)
    batch_size: int | None = None  # None: adaptive
    retry_exceptions: bool = False
    watched: bool = True  # whether somebody takes the outcomes as they come
    priority: int = 0  # of jobs that wait, the highest goes first ...
    depth: int = 0  # ... and of those the deepest: how many calls wait for this one, in a row
    spread: bool = False  # over all nodes evenly, rather than to where most room is
    node: NodeId | None = None  # only there ...
    soft: bool = False  # ... or elsewhere, if it is not there or too small
    actor: bool = False  # in their order, each once, in one process that is there for them alone
    concurrency: int = 1  # how many may run at once in one worker: of a coroutine function
    groups: Mapping[str, int] = field(default_factory=dict)  # of an actor's: how many of each
    speculate: bool = False  # whether calls that are late may be made twice: they are idempotent

    @property
    def careful(self) -> bool:
        """Whether every call must be known by name when its worker dies."""
        return not self.actor and (self.max_retries == 0 or self.timeout_s is not None)


@record
class Suspicion:
    """Deaths that nobody could be blamed for yet, shared by all that is left of the batch.

    The first call that is caught is charged for these too; the others never are.
    """

    deaths: int = 0

    def take(self) -> int:
        """All of it; nothing is left for the next."""
        deaths, self.deaths = self.deaths, 0
        return deaths


@dataclass(slots=True, repr=False)
class Batch:
    """Calls ``lo <= i < hi`` of a parcel, and what happened to them so far.

    ``open`` are the spans not yet reported by the node that has the batch, and ``unwanted`` the
    calls in them that nobody wants from there any more, with or without force: they were cancelled
    or, if it has ``twins``, made elsewhere. Twins have some of the same calls: a batch that
    was late, and its copies. A call that is wanted is so in one batch, or in two that are twins.
    """

    id: BatchId
    job: JobId
    parcel: ParcelId
    lo: int
    hi: int
    nbytes: int
    careful: bool = False
    alone: bool = False  # with no other call on its node: it may be what used up the memory
    concurrency: int = 1  # as its job's; 1 once it has to run alone, to be caught
    resources: Mapping[str, float] | None = None  # as its job's, if that has any
    blamed: int = 0  # executions of its one call that killed their worker, or raised to be retried
    node_losses: int = 0
    suspicion: Suspicion = field(default_factory=Suspicion)
    state: BatchState = BatchState.READY
    attempt: Attempt = Attempt(0)  # noqa: RUF009 - an int
    node: NodeId | None = None
    robbed_from: NodeId | None = None  # which node gave it up
    assigned_at: float = 0.0
    heard_at: float = 0.0  # when it was assigned, last reported on, or copied
    open: list[Span] = field(default_factory=list)
    unwanted: dict[int, bool] = field(default_factory=dict)
    near: Mapping[NodeId, int] | None = None  # where how many bytes of what its calls take are kept
    twins: tuple[Batch, ...] = field(default=(), compare=False)
    last_try: bool = False  # a twin has taken too long: if this does, too, there is no third

    def __len__(self) -> int:
        return self.hi - self.lo

    def __repr__(self) -> str:
        where = f" to {self.node} attempt {self.attempt}" if self.node else ""
        return f"<Batch {self.id} {self.state.name}{where} [{self.lo}:{self.hi}] open {self.open}>"

    def move(self, to: BatchState) -> None:
        """Change state; an illegal change is a bug in the mind."""
        assert to in MOVES[self.state], f"{self!r} cannot become {to.name}"
        self.state = to

    def close(self, lo: int, hi: int) -> bool:
        """Take ``lo <= i < hi`` out of ``open``; False (and no change) if it is not all in it."""
        for place, (start, end) in enumerate(self.open):
            if start <= lo and hi <= end and lo < hi:
                self.open[place : place + 1] = [
                    span for span in ((start, lo), (hi, end)) if span[0] < span[1]
                ]
                return True
        return False

    def has(self, call: int) -> bool:
        """Whether a call is in it and not reported."""
        return any(start <= call < end for start, end in self.open)

    def wants(self, call: int) -> bool:
        """Whether a call is to come from this node, for all that is known."""
        return self.state is BatchState.ASSIGNED and call not in self.unwanted and self.has(call)

    def wanted(self) -> list[Span]:
        """What is to come from this node."""
        return [
            span
            for lo, hi in self.open
            for span in _without(lo, hi, sorted(c for c in self.unwanted if lo <= c < hi))
        ]

    def heir(self, call: int) -> Batch | None:
        """The twin from which a call is to come, too."""
        return next((twin for twin in self.twins if twin.wants(call)), None)

    def copied_to(self, copy: Batch) -> None:
        """Another batch has some of its calls from now on."""
        self.twins += (copy,)
        copy.twins += (self,)

    def part(self) -> None:
        """It is done: its twins have its calls for themselves."""
        for twin in self.twins:
            twin.twins = tuple(other for other in twin.twins if other is not self)
        self.twins = ()

    def open_calls(self) -> int:
        """How many calls have not been reported."""
        return sum(end - start for start, end in self.open)

    def is_unwanted(self) -> bool:
        """Whether nobody wants any of the calls that have not been reported."""
        return len(self.unwanted) == self.open_calls()

    def take_unwanted(self, lo: int, hi: int) -> tuple[int, ...]:
        """The calls of a range that nobody wants, in order; they are forgotten with it."""
        if not self.unwanted:
            return ()
        taken = tuple(sorted(call for call in self.unwanted if lo <= call < hi))
        for call in taken:
            del self.unwanted[call]
        return taken

    def take_wanted(self, lo: int, hi: int) -> list[Span]:
        """What is left of a range without the calls that nobody wants, which are forgotten, and
        those that a twin answers for."""
        taken = self.take_unwanted(lo, hi)
        if self.twins:
            left = [call for call in range(lo, hi) if self.heir(call) is not None]
            taken = tuple(sorted((*taken, *left)))
        return _without(lo, hi, taken)


def _without(lo: int, hi: int, calls: Sequence[int]) -> list[Span]:
    """A range without some of its calls, which are in their order."""
    spans = []
    for call in calls:
        spans.append((lo, call))
        lo = call + 1
    return [span for span in (*spans, (lo, hi)) if span[0] < span[1]]
