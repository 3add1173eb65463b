"""What the Commander's mind is told, in the past tense."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field

from goliath.core.batch import JobOptions, ParcelId
from goliath.core.ids import Attempt, BatchId, JobId, NodeId
from goliath.record import record


@record
class JobOpened:
    """A user wants calls made; ``total`` is None where the input's length is not known."""

    job: JobId
    options: JobOptions
    total: int | None = None


@record
class ParcelSubmitted:
    """The job's owner has cut and encoded ``count`` calls; ``near``: where how many bytes of what
    they take are kept."""

    job: JobId
    parcel: ParcelId
    count: int
    nbytes: int
    near: Mapping[NodeId, int] | None = None


@record
class JobExhausted:
    """No further parcel of this job will come; it ends when its last call is settled."""

    job: JobId


@record
class JobCancelled:
    """Nobody wants the rest. Every call not settled yet is failed as ``CANCELLED``.

    If it is not its owner who says so, calls that he still submits are failed likewise, until
    he says that there are no more.
    """

    job: JobId
    force: bool = False
    by_owner: bool = True


@record
class CallCancelled:
    """Nobody wants one call. If it is not settled yet, it is failed as ``CANCELLED``."""

    job: JobId
    parcel: ParcelId
    call: int
    force: bool = False


@record
class EnvironmentBroken:
    """A node could not set up what the calls of this environment need."""

    environment: str
    error: str
    gone: bool = False  # it was an actor's, and its process has ended


@record
class NodeJoined:
    """A new session with a Lieutenant."""

    node: NodeId
    slots: int
    resources: Mapping[str, float] = field(default_factory=dict)
    rtt_s: float = 0.0


@record
class NodeDraining:
    """The node takes nothing new."""

    node: NodeId


@record
class NodeLost:
    """The session is gone for good, with whatever was not reported in it."""

    node: NodeId


@record
class NodePressed:
    """A node says how short of memory it is, as a `Level`."""

    node: NodeId
    level: int


@record
class RangeFinished:
    """Calls of a batch have outcomes; those in ``retryable`` raised what the job wants retried."""

    node: NodeId
    batch: BatchId
    attempt: Attempt
    lo: int
    hi: int
    elapsed_s: float
    retryable: tuple[int, ...] = ()


@record
class RangeReturned:
    """Calls of a batch will not be run by this node; ``why`` and ``guilty`` as in the message.

    ``oom``: their worker was killed because the memory was used up.
    """

    node: NodeId
    batch: BatchId
    attempt: Attempt
    lo: int
    hi: int
    why: str
    guilty: int = -1
    oom: bool = False


@record
class BatchWaits:
    """A running call of a batch waits for other calls and has given its CPUs back, or no longer."""

    node: NodeId
    batch: BatchId
    attempt: Attempt
    waiting: bool


@record
class StealAnswered:
    """A victim gave up these ``(batch, attempt, lo, hi)``; fewer than asked is not an error."""

    victim: NodeId
    yielded: tuple[tuple[BatchId, Attempt, int, int], ...]


@record
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
    | NodePressed
    | NodeLost
    | RangeFinished
    | RangeReturned
    | BatchWaits
    | StealAnswered
    | TimerFired
)
