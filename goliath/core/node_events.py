"""What the Lieutenant's mind is told, and what it wants done."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field

from goliath.core.ids import Attempt, BatchId, Serial, SessionId, WorkerId
from goliath.record import record

Environment = str

# -- events ----------------------------------------------------------------------------


@record
class SessionOpened:
    """A Commander has logged in, by the token of this ``realm``."""

    session: SessionId
    realm: str = ""


@record
class RealmLimited:
    """The holders of a token may have so many calls run at once; None: as many as there are
    slots."""

    realm: str
    slots: int | None


@record
class RealmEnded:
    """A token was revoked: its detached actors end, and all work of its sessions, which are told
    goodbye after that."""

    realm: str


@record
class SessionClosed:
    """A Commander has left, or was not heard from for too long."""

    session: SessionId


@record
class EnvironmentReady:
    """The directory of a job is filled."""

    session: SessionId
    environment: Environment


@record
class EnvironmentBroke:
    """The directory of a job cannot be filled."""

    session: SessionId
    environment: Environment
    error: str


@record
class EnvironmentForgotten:
    """The job is over; its workers may go."""

    session: SessionId
    environment: Environment


@record
class BatchArrived:
    """A Commander wants calls ``lo <= i < hi`` of a batch run; ``resident``: by the detached actor
    whose life has this environment; ``alone``: with no other call beside them, if possible;
    ``deposits``: they take these results, which the node keeps; ``nbytes`` are those of what has
    come with them."""

    session: SessionId
    batch: BatchId
    attempt: Attempt
    lo: int
    hi: int
    environment: Environment
    careful: bool = False
    timeout_s: float | None = None
    cpus: float = 1.0
    resources: Mapping[str, float] = field(default_factory=dict)
    linger_s: float = 0.010
    depth: int = 0
    actor: bool = False
    concurrency: int = 1
    group: str = ""
    group_limit: int = 0
    resident: bool = False
    alone: bool = False
    deposits: tuple[int, ...] = ()
    nbytes: int = 0


@record
class DetachArrived:
    """A Commander wants the node to take on a detached actor: its environment, and its making.

    ``groups`` are the limits of its concurrency groups, if it has any. ``restart_window_s`` are the
    seconds within which more than ``max_restarts`` are too many; None: all its life.
    """

    session: SessionId
    batch: BatchId
    attempt: Attempt
    environment: Environment
    name: str
    namespace: str = ""
    get_if_exists: bool = False
    cpus: float = 0.0
    resources: Mapping[str, float] = field(default_factory=dict)
    concurrency: int = 1
    max_restarts: int = 0
    restart_window_s: float | None = None
    groups: Mapping[str, int] = field(default_factory=dict)


@record
class ResidentKillArrived:
    """A Commander wants a detached actor to end, or (``restart``) only its process."""

    session: SessionId
    environment: Environment
    restart: bool


@record
class ResidentLeaves:
    """The detached actor in this process will leave after the call at hand, by its own wish."""

    worker: WorkerId


@record
class CancelArrived:
    """A Commander no longer wants a batch; it may not even have arrived yet."""

    session: SessionId
    batch: BatchId
    attempt: Attempt
    force: bool = False


@record
class StealArrived:
    """A Commander has better use for ``count`` un-started ranges."""

    session: SessionId
    count: int


@record
class WorkerStarted:
    """A forked process stands ready; or ``error`` says why its initializer failed."""

    worker: WorkerId
    error: str = ""


@record
class WorkerProgressed:
    """Calls ``lo <= i < hi`` ran; fields as in the message `Progress`. ``deposits`` are the calls
    with big results, and how big they are; ``resident_bytes`` is the memory of the process, 0 if
    nobody asks for it."""

    worker: WorkerId
    serial: Serial
    lo: int
    hi: int
    elapsed_s: float
    final: bool
    interrupted: bool = False
    dirty: bool = False
    retryable: tuple[int, ...] = ()
    deposits: tuple[tuple[int, int], ...] = ()
    resident_bytes: int = 0


@record
class RestYielded:
    """The answer to `SplitRange`: from call ``at`` on nothing was run, nor will be.

    Below 0: the worker had not begun the range and will not.
    """

    worker: WorkerId
    serial: Serial
    at: int


@record
class WorkerWaits:
    """The call that a worker runs waits for other calls, or (``waiting`` false) goes on.

    The worker has said by a `RestYielded` before what of its piece it will not start.
    """

    worker: WorkerId
    serial: Serial
    waiting: bool


@record
class WorkerInspected:
    """The answer to `Inspect`: which call of the range the page says is running, since when;
    below 0: none."""

    worker: WorkerId
    serial: Serial
    index: int
    started_at: float


@record
class WorkerExited:
    """The process is gone. ``serial, index`` are the last that its page says it began; ``others``
    are those that it ran at the same time. ``unborn``: there was no room for another process."""

    worker: WorkerId
    serial: Serial
    index: int
    others: tuple[tuple[Serial, int], ...] = ()
    unborn: bool = False


@record
class DepositsForgotten:
    """A Commander does not want these any more, or has them."""

    session: SessionId
    keys: tuple[int, ...]


@record
class PieceEntrusted:
    """A Commander has given the node something to keep that calls will take."""

    session: SessionId
    key: int
    size: int


@record
class DepositSpilled:
    """What `Spill` has asked for is done; or ``failed``, and it is in memory as before."""

    session: SessionId
    key: int
    failed: bool = False


@record
class MemoryMeasured:
    """The node has so much of the memory that it could have."""

    used_bytes: int
    limit_bytes: int


@record
class DrainRequested:
    """Finish what runs, take nothing new."""


@record
class NodeTimerFired:
    """The moment asked for by `NodeWakeAt` has come (or an earlier one)."""


NodeEvent = (
    SessionOpened
    | RealmLimited
    | RealmEnded
    | SessionClosed
    | EnvironmentReady
    | EnvironmentBroke
    | EnvironmentForgotten
    | BatchArrived
    | DetachArrived
    | ResidentKillArrived
    | ResidentLeaves
    | CancelArrived
    | StealArrived
    | WorkerStarted
    | WorkerProgressed
    | RestYielded
    | WorkerWaits
    | WorkerInspected
    | WorkerExited
    | PieceEntrusted
    | DepositsForgotten
    | DepositSpilled
    | MemoryMeasured
    | DrainRequested
    | NodeTimerFired
)

# -- commands --------------------------------------------------------------------------


@record
class Fork:
    """Start a worker process for a session's environment, which may use these devices only."""

    worker: WorkerId
    session: SessionId
    environment: Environment
    cpus: float
    devices: tuple[str, ...] = ()
    actor: bool = False


@record
class Run:
    """Hand a worker calls ``lo <= i < hi`` of a batch; ``concurrent``: beside others."""

    worker: WorkerId
    serial: Serial
    session: SessionId
    batch: BatchId
    attempt: Attempt
    lo: int
    hi: int
    careful: bool
    concurrent: bool = False


@record
class InterruptRange:
    """Make the worker's running call raise; with an ``index``, only if it is that one."""

    worker: WorkerId
    serial: Serial
    index: int = -1


@record
class SplitRange:
    """Have the worker give back the un-started rest but for one part in ``keep``; with 0
    the whole range if it has not begun it, else all of the rest."""

    worker: WorkerId
    serial: Serial
    keep: int


@record
class FlushRange:
    """Have the worker report what has finished; with serial 0 of all its lanes."""

    worker: WorkerId
    serial: Serial


@record
class Inspect:
    """Look at the worker's page for a range, and say so with `WorkerInspected`."""

    worker: WorkerId
    serial: Serial


@record
class Kill:
    """End the worker process and everything it started, now."""

    worker: WorkerId


@record
class Retire:
    """Let an idle worker process leave."""

    worker: WorkerId


@record
class ReportDone:
    """Forward the outcomes that came with the event at hand.

    ``deposits`` are ``(call, size, key)``: keep those that have a key, and forward the others.
    """

    session: SessionId
    batch: BatchId
    attempt: Attempt
    lo: int
    hi: int
    elapsed_s: float
    worker: WorkerId
    retryable: tuple[int, ...] = ()
    deposits: tuple[tuple[int, int, int], ...] = ()


@record
class ReportReturned:
    """Tell the Commander that calls will not be run here, and why."""

    session: SessionId
    batch: BatchId
    attempt: Attempt
    lo: int
    hi: int
    why: str
    guilty: int = -1
    worker: WorkerId | None = None


@record
class ReportWaiting:
    """Tell the Commander that the CPUs of a batch's running call are free, or no longer."""

    session: SessionId
    batch: BatchId
    attempt: Attempt
    waiting: bool


@record
class RefuseWait:
    """Have the call that waits raise instead: too many do."""

    worker: WorkerId
    serial: Serial


@record
class ReportSurrendered:
    """Answer a steal."""

    session: SessionId
    asked: int
    ranges: tuple[tuple[BatchId, Attempt, int, int], ...]


@record
class ReportEnvironmentBroken:
    """Tell the Commander that an environment cannot be had here, or no longer.

    ``successor`` is for that of a detached actor: the environment of its next life, or nothing.
    ``raised``: what came with the event at hand is the outcome of its ``__init__``.
    """

    session: SessionId
    environment: Environment
    error: str
    successor: Environment | None = None
    raised: bool = False


@record
class Adopt:
    """The detached actor that a batch was to make is the node's now, with its environment."""

    session: SessionId
    batch: BatchId
    attempt: Attempt
    environment: Environment


@record
class Succeed:
    """A detached actor begins another life: its environment is called otherwise from now on."""

    environment: Environment
    successor: Environment


@record
class Evict:
    """A detached actor has ended: nothing of it is needed any more."""

    environment: Environment
    error: str


@record
class Release:
    """Nothing of the batch is left here: its arguments may be forgotten."""

    session: SessionId
    batch: BatchId
    attempt: Attempt


@record
class Spill:
    """Write what is kept to disk, and say so with `DepositSpilled`."""

    session: SessionId
    key: int


@record
class AnnouncePressure:
    """Tell every Commander, and the log, how short of memory the node is."""

    level: int
    used_bytes: int
    limit_bytes: int


@record
class AnnounceDraining:
    """Tell every Commander to send nothing more."""


@record
class Drained:
    """Nothing runs any more and nothing will, and nothing is kept: the Lieutenant may go."""


@record
class NodeWakeAt:
    """Send `NodeTimerFired` at this time; replaces an earlier wish."""

    deadline: float


NodeCommand = (
    Fork
    | Run
    | InterruptRange
    | SplitRange
    | FlushRange
    | Inspect
    | Kill
    | Retire
    | ReportDone
    | ReportReturned
    | ReportWaiting
    | RefuseWait
    | ReportSurrendered
    | ReportEnvironmentBroken
    | Adopt
    | Succeed
    | Evict
    | Release
    | Spill
    | AnnouncePressure
    | AnnounceDraining
    | Drained
    | NodeWakeAt
)
