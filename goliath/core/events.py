"""What the Commander's mind is told, in the past tense."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from goliath.core.batch import JobOptions, ParcelId
from goliath.core.ids import Attempt, BatchId, JobId, NodeId


@dataclass(slots=True)
class JobOpened:
    """A user wants calls made; ``total`` is None where the input's length is not known."""

    job: JobId
    options: JobOptions
    total: int | None = None


@dataclass(slots=True)
class ParcelSubmitted:
    """The job's owner has cut and encoded ``count`` calls; ``near``: where how many bytes of what
    they take are kept."""

    job: JobId
    parcel: ParcelId
    count: int
    nbytes: int
    near: Mapping[NodeId, int] | None = None


@dataclass(slots=True)
class JobExhausted:
    """No further parcel of this job will come; it ends when its last call is settled."""

    job: JobId


@dataclass(slots=True)
class JobCancelled:
    """Nobody wants the rest. Every call not settled yet is failed as ``CANCELLED``.

    If it is not its owner who says so, calls that he still submits are failed likewise, until
    he says that there are no more.
    """

    job: JobId
    force: bool = False
    by_owner: bool = True


@dataclass(slots=True)
class CallCancelled:
    """Nobody wants one call. If it is not settled yet, it is failed as ``CANCELLED``."""

    job: JobId
    parcel: ParcelId
    call: int
    force: bool = False


@dataclass(slots=True)
class EnvironmentBroken:
    """A node could not set up what the calls of this environment need."""

    environment: str
    error: str
    gone: bool = False  # it was an actor's, and its process has ended


@dataclass(slots=True)
class NodeJoined:
    """A new session with a Lieutenant."""

    node: NodeId
    slots: int
    resources: Mapping[str, float] = field(default_factory=dict)
    rtt_s: float = 0.0


@dataclass(slots=True)
class NodeDraining:
    """The node takes nothing new."""

    node: NodeId


@dataclass(slots=True)
class NodeLost:
    """The session is gone for good, with whatever was not reported in it."""

    node: NodeId


@dataclass(slots=True)
class RangeFinished:
    """Calls of a batch have outcomes; those in ``retryable`` raised what the job wants retried."""

    node: NodeId
    batch: BatchId
    attempt: Attempt
    lo: int
    hi: int
    elapsed_s: float
    retryable: tuple[int, ...] = ()


@dataclass(slots=True)
class RangeReturned:
    """Calls of a batch will not be run by this node; ``why`` and ``guilty`` as in the message."""

    node: NodeId
    batch: BatchId
    attempt: Attempt
    lo: int
    hi: int
    why: str
    guilty: int = -1


@dataclass(slots=True)
class BatchWaits:
    """A running call of a batch waits for other calls and has given its CPUs back, or no longer."""

    node: NodeId
    batch: BatchId
    attempt: Attempt
    waiting: bool


@dataclass(slots=True)
class StealAnswered:
    """A victim gave up these ``(batch, attempt, lo, hi)``; fewer than asked is not an error."""

    victim: NodeId
    yielded: tuple[tuple[BatchId, Attempt, int, int], ...]


@dataclass(slots=True)
class TimerFired:
    """The moment asked for by `WakeAt` has come (or an earlier one)."""


Event = (
    JobOpened
    | ParcelSubmitted
    | JobExhausted
    | JobCancelled
    | CallCancelled
    | EnvironmentBroken
    | NodeJoined
    | NodeDraining
    | NodeLost
    | RangeFinished
    | RangeReturned
    | BatchWaits
    | StealAnswered
    | TimerFired
)
