"""What a Lieutenant's mind keeps books on: batches in pieces, workers, sessions."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from enum import IntEnum, auto
from math import inf

from goliath.core.devices import Grant
from goliath.core.ids import HOUSE, Attempt, BatchId, Serial, SessionId, WorkerId
from goliath.core.node_events import SplitRange
from goliath.core.policy import RestartIntensity
from goliath.record import record

BatchKey = tuple[SessionId, BatchId, Attempt]


@dataclass(slots=True, eq=False)
class Work:
    """A batch as it arrived: what all its pieces have in common."""

    key: BatchKey  # the name of this assignment
    session: SessionId
    environment: str
    careful: bool
    timeout_s: float | None
    cpus: float
    resources: Mapping[str, float]
    linger_s: float
    depth: int
    actor: bool
    concurrency: int
    group: str
    group_limit: int  # 0: as many as there may be
    resident: bool = False  # of a detached actor, whose process belongs to the node
    alone: bool = False  # no other call is to run on the node at the same time
    deposits: tuple[int, ...] = ()  # of those that the node keeps, what its calls take
    since: float = 0.0  # when it arrived
    pieces: int = 0
    waiting: int = 0  # pieces whose running call waits for others
    cancelled: bool = False

    @property
    def home(self) -> SessionId:
        """The session to which the process belongs that runs it."""
        return HOUSE if self.resident else self.session

    def takes_slots(self) -> float:
        """What a worker that runs it takes of the quota of its Commander's token."""
        return self.cpus if self.actor else max(1.0, self.cpus)


@dataclass(slots=True, eq=False)
class Piece:
    """Calls ``lo <= i < hi`` of a batch that one worker runs, or will."""

    work: Work
    lo: int
    hi: int

    def __len__(self) -> int:
        return self.hi - self.lo

    @property
    def range(self) -> tuple[BatchId, Attempt, int, int]:
        """What its Commander calls it."""
        _, batch, attempt = self.work.key
        return batch, attempt, self.lo, self.hi


class WorkerState(IntEnum):
    """Where a worker process is in its life. (An int, because it hashes at C speed.)"""

    STARTING = auto()  # forked; may have a piece to run already
    IDLE = auto()
    BUSY = auto()
    LEAVING = auto()  # told to go, or killed; its exit is awaited


WORKER_MOVES: Mapping[WorkerState, frozenset[WorkerState]] = {
    WorkerState.STARTING: frozenset({WorkerState.BUSY, WorkerState.IDLE, WorkerState.LEAVING}),
    WorkerState.IDLE: frozenset({WorkerState.BUSY, WorkerState.LEAVING}),
    WorkerState.BUSY: frozenset({WorkerState.IDLE, WorkerState.LEAVING}),
    WorkerState.LEAVING: frozenset(),
}


@dataclass(slots=True, eq=False)
class Worker:
    """One worker process. It belongs to one session and one environment for life.

    While it runs calls of coroutine functions, it is the host of *lanes*: each has a piece and is a
    worker in everything that concerns its piece, but not a process; the host has no piece then.
    """

    id: WorkerId
    session: SessionId
    environment: str
    cpus: float
    state: WorkerState = WorkerState.STARTING
    piece: Piece | None = None
    serial: Serial = Serial(0)  # noqa: RUF009 - an int
    since: float = 0.0  # of this state, or of the running piece
    call_since: float = 0.0  # when the running call began, as far as is known
    flush_at: float = inf
    inspect_at: float = inf
    kill_at: float = inf
    split_asked: bool = False  # of a host: one of its lanes was
    barren: bool = False  # asked, and nothing of its piece was un-started
    overdue: int | None = None  # the call that it is being killed for: it ran too long
    calls: int = 0
    pace_s: float = inf  # what its last piece took
    ahead: Piece | None = None  # in its socket already: it begins this without asking
    ahead_serial: Serial = Serial(0)  # noqa: RUF009 - an int
    revoking: bool = False  # asked to give back what is ahead
    asked_at: float = -inf  # when it was last asked to give something back
    retire_after: bool = False  # leave when the piece is done
    waiting: bool = False  # its call waits for others, and its CPUs are given back
    has_waited: bool = False  # since it was last handed a piece
    # An actor's: what it takes it has as long as it lives, whatever it runs.
    actor: bool = False
    resources: Mapping[str, float] = field(default_factory=dict)
    # Until the process is gone: it may hold on to them.
    devices: Grant = field(default_factory=dict)
    host: Worker | None = None  # whose lane this is
    lanes: dict[Serial, Worker] = field(default_factory=dict)
    groups: dict[str, int] = field(default_factory=dict)  # how many of its lanes are of each
    closed: bool = False  # takes no further lanes

    @property
    def units(self) -> Collection[Worker]:
        """Whatever can have a piece: its lanes if there are any, else itself."""
        return self.lanes.values() if self.lanes else (self,)

    @property
    def work(self) -> Work | None:
        """What it runs; of its lanes the oldest, which is like the others."""
        for unit in self.units:
            return unit.piece.work if unit.piece is not None else None
        return None

    def move(self, to: WorkerState, now: float) -> None:
        """Change state; an illegal change is a bug in the mind."""
        assert to in WORKER_MOVES[self.state], f"worker {self.id}: {self.state.name} to {to.name}"
        self.state = to
        self.since = now

    def revoke(self, now: float) -> SplitRange:
        """Have it give back what is ahead; all of it, unless it has begun."""
        self.revoking = True
        self.asked_at = now
        return SplitRange(self.id, self.ahead_serial, 0)

    def split(self, now: float) -> SplitRange:
        """Ask for half of what it has not started."""
        self.split_asked = True
        self.asked_at = now
        if self.host is not None:
            self.host.split_asked = True
            self.host.asked_at = now
        return SplitRange(self.id, self.serial, 2)

    def takes_cpus(self) -> float:
        """The CPUs it has now: lanes no more than one call, and nothing while any of them waits."""
        if self.actor:
            return self.cpus
        if not self.lanes:  # asked of every worker for every event
            return 0.0 if self.piece is None or self.waiting else self.piece.work.cpus
        if self.work is None or any(lane.waiting for lane in self.lanes.values()):
            return 0.0
        return self.work.cpus

    def takes_slots(self) -> float:
        """What it takes of the quota of its Commander's token."""
        if self.actor:
            return self.cpus
        work = self.work
        if work is None or any(unit.waiting for unit in self.units):
            return 0.0
        return work.takes_slots()

    def takes(self, resource: str) -> float:
        """How much of another resource it has now."""
        if self.actor:
            return self.resources.get(resource, 0.0)
        return self.work.resources.get(resource, 0.0) if self.work is not None else 0.0

    def is_laden(self) -> bool:
        """Whether it has what another worker could run."""
        if self.actor:
            return False
        piece = self.piece
        if self.ahead is not None or (piece is not None and piece.hi - piece.lo > 1):
            return True
        return bool(self.lanes) and any(lane.rest() > 1 for lane in self.lanes.values())

    def answered(self) -> None:
        """It has said what it can spare, or will not any more."""
        if self.host is not None and self.split_asked:
            self.host.split_asked = False
        self.split_asked = False

    def rest(self) -> int:
        """How many calls of its piece are not reported yet."""
        return self.piece.hi - self.piece.lo if self.piece is not None else 0


@record
class StealInProgress:
    """A steal that waits for workers to say what they can spare."""

    asked: int
    ranges: list[tuple[BatchId, Attempt, int, int]]
    awaited: set[Worker]
    answer_at: float  # whoever has said nothing by then is not waited for


@record
class Session:
    """One Commander's part of this node."""

    id: SessionId
    realm: str = ""  # which token it has proved: it sees the detached actors of that one only
    queue: deque[Piece] = field(default_factory=deque)
    ready: set[str] = field(default_factory=set)  # environments whose directory is filled
    broken: dict[str, str] = field(default_factory=dict)
    deaths_at_start: dict[str, RestartIntensity] = field(default_factory=dict)
    waiting_since: float | None = None  # has queued work and nothing running
    steals: list[StealInProgress] = field(default_factory=list)
