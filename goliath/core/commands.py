"""What the Commander's mind wants done, in the imperative."""

from __future__ import annotations

from enum import StrEnum

from goliath.core.batch import ParcelId
from goliath.core.ids import Attempt, BatchId, JobId, NodeId
from goliath.record import record


class Verdict(StrEnum):
    """Why a call ends without an outcome of its own."""

    CANCELLED = "cancelled"
    TIMED_OUT = "timed out"
    CRASHED = "crashed"
    NODE_DIED = "node died"
    ENVIRONMENT = "environment"
    INFEASIBLE = "infeasible"
    OVERSIZED = "oversized"  # its arguments, or its result, are too big to be sent
    FULL = "full"  # no node has the memory for what its arguments take
    GONE = "gone"  # it never began: the process that it was for has ended


@record
class Assign:
    """Send calls of a parcel to a node."""

    node: NodeId
    job: JobId
    parcel: ParcelId
    batch: BatchId
    attempt: Attempt
    lo: int
    hi: int
    careful: bool
    linger_s: float
    concurrency: int = 1
    alone: bool = False


@record
class Steal:
    """Ask a node to give up un-started work."""

    victim: NodeId
    count: int


@record
class CancelOn:
    """Tell a node that nobody wants a batch any more."""

    node: NodeId
    batch: BatchId
    attempt: Attempt
    force: bool


@record
class Settle:
    """The outcomes just reported for ``lo <= i < hi`` count, but for the calls in ``excepted``."""

    job: JobId
    parcel: ParcelId
    lo: int
    hi: int
    attempt: Attempt
    excepted: tuple[int, ...] = ()


@record
class Fail:
    """Calls ``lo <= i < hi`` of a parcel end without an outcome of their own."""

    job: JobId
    parcel: ParcelId
    lo: int
    hi: int
    verdict: Verdict
    attempt: Attempt
    detail: str = ""


@record
class Demand:
    """The job's owner may submit ``batches`` more parcels, of ``calls`` calls each."""

    job: JobId
    batches: int
    calls: int


@record
class Warn:
    """Tell the user that no node can run calls of a job, and that they fail in so many seconds."""

    job: JobId
    lacking: str
    left_s: float


@record
class Abandoned:
    """The process of an actor is gone, or cannot be had; every call of the job is failed."""

    job: JobId
    verdict: Verdict
    detail: str


@record
class JobEnded:
    """Every call of the job is settled and nothing of it is on any node."""

    job: JobId


@record
class WakeAt:
    """Send `TimerFired` at this time; replaces an earlier wish."""

    deadline: float


Command = Assign | Steal | CancelOn | Settle | Fail | Demand | Warn | Abandoned | JobEnded | WakeAt
