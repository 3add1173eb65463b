"""Everything two actors in different places can say to each other: names, fields, and nothing else.

A message is a flat record of JSON-able fields and, last, one opaque ``payload``. Whoever
forwards a message never looks into its payload. The fields are the wire format: they are
described for other implementations in ``docs/protocol.md``.

``lane`` is ``CONTROL`` for what must overtake bulk (a cancel must not queue behind a
gigabyte of arguments). Control may overtake payload, so every control message that names
a batch must make sense even if the batch has not arrived yet.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field
from enum import IntEnum
from typing import ClassVar, Protocol

from goliath.record import record

Piece = bytes | bytearray | memoryview


class Bundle:
    """A payload with big things beside it, each in memory of its own: none is copied to put them
    behind one another.

    Attributes:
        main: what says what they mean.
        pieces: those.
    """

    __slots__ = ("main", "pieces")

    def __init__(self, main: Piece, pieces: Sequence[Piece]) -> None:
        self.main = main
        self.pieces = tuple(pieces)

    def __len__(self) -> int:
        return len(self.main) + sum(map(len, self.pieces))

    def __repr__(self) -> str:
        return f"<Bundle of {len(self.main)} bytes and {len(self.pieces)} pieces>"


Payload = Piece | Bundle


class Ground(Protocol):
    """Where there is memory for what is big and comes in parts."""

    def room_for(self, size: int) -> memoryview:
        """Memory for so many bytes that were announced, to be written from its beginning on."""

    def is_ready(self, room: memoryview, end: int) -> bool:
        """Whether a room can be written up to there; if not, there is no such memory any more."""


def parts_of(payload: Payload) -> tuple[Piece, tuple[Piece, ...]]:
    """The payload without what is beside it, and that."""
    if isinstance(payload, Bundle):
        return payload.main, payload.pieces
    return payload, ()


Origin = list[int | str]
"""What a Commander calls the calls of a parcel: ``[job, parcel, task, number]``. The task id of
call ``i`` is ``task``, a hyphen, and ``number + i``."""


class Lane(IntEnum):
    """Which queue a message waits in. Order is kept within a lane only, and there, too, a small
    `AssignBatch` may pass big ones, if neither is an actor's."""

    CONTROL = 0
    BULK = 1


@record
class Message:
    """Base of all messages."""

    kind: ClassVar[str] = ""
    lane: ClassVar[Lane] = Lane.CONTROL
    bundles: ClassVar[bool] = False  # whether there may be anything beside its payload


# -- whoever shares memory --------------------------------------------------------------


@record
class LetGo(Message):
    """The blocks of an arena that were lent under these numbers are not looked at any more."""

    kind: ClassVar[str] = "let-go"
    numbers: list[int]


@record
class ProposeArena(Message):
    """From the Commander: if you are on this machine, put the arena of our session and the
    ``secret`` into the letterbox of this ``name``. Answered by `ArenaGiven`."""

    kind: ClassVar[str] = "propose-arena"
    boot_id: str
    name: str
    secret: str


@record
class ArenaGiven(Message):
    """It is in the letterbox. ``limits`` are the bytes of its regions; none: it is not."""

    kind: ClassVar[str] = "arena-given"
    limits: list[int]


@record
class ArenaMapped(Message):
    """The Commander has mapped it, and can be lent what is in it."""

    kind: ClassVar[str] = "arena-mapped"


# -- Commander to Lieutenant ---------------------------------------------------------

ALONG, LOST = 0, -1
"""Instead of the key of what a call takes beside its row: it comes along; nobody has it any more.
Keys above are given by the node, those below by the Commander (`KeepPiece`)."""


@record
class DefineFunction(Message):
    """The pickled function with its static keywords: sent once, before its first batch."""

    kind: ClassVar[str] = "function"
    lane: ClassVar[Lane] = Lane.BULK
    digest: str
    name: str
    payload: Piece = b""


@record
class ForgetFunction(Message):
    """No batch of this function will follow, unless it is defined again.

    In the bulk lane, so that it stays between the definitions.
    """

    kind: ClassVar[str] = "forget-function"
    lane: ClassVar[Lane] = Lane.BULK
    digest: str


@record
class DefineEnvironment(Message):
    """What the workers of a job need around them: sent once, before its first batch.

    ``files`` are ``[path, mode, sha256, size]`` with POSIX paths relative to the job's own
    directory; without files the directory is ``cwd`` (same machine only) or a fresh one.
    ``node`` is what the Commander calls the node. ``modules`` are records like those of files: what
    can be imported, and is not in the directory. ``requirements`` are packages to be installed, as
    pip has them. The payload is the pickled initializer, or nothing.
    """

    kind: ClassVar[str] = "environment"
    lane: ClassVar[Lane] = Lane.BULK
    environment: str
    files: list[list[str | int]]
    variables: dict[str, str]
    threads: int = 1
    cwd: str = ""
    sys_path: list[str] = field(default_factory=list)
    initializer: bool = False
    node: str = ""
    modules: list[list[str | int]] = field(default_factory=list)
    requirements: list[str] = field(default_factory=list)
    payload: Piece = b""


@record
class FileData(Message):
    """One piece of one file a node asked for, in order; the last has ``offset + len == size``."""

    kind: ClassVar[str] = "file"
    lane: ClassVar[Lane] = Lane.BULK
    sha256: str
    offset: int
    size: int
    payload: Piece = b""


@record
class ForgetEnvironment(Message):
    """The job is over: its workers and its directory may go.

    In the bulk lane, because it must not overtake the environment it ends.
    """

    kind: ClassVar[str] = "forget"
    lane: ClassVar[Lane] = Lane.BULK
    environment: str


@record
class AssignBatch(Message):
    """Run calls ``lo <= i < hi`` of a batch. ``form`` tells the worker how to read the payload.

    A finished call is reported ``linger_s`` seconds later at the latest, with others. ``depth``
    tells how many calls wait for these, in a row: of what is queued, the deepest goes first.
    The calls of an ``actor`` run one after the other, in the one process of their environment;
    with it, the environment is gone.
    ``origin`` is handed to the worker, and comes back with what the calls ask for. With a
    ``concurrency`` above 1 the function is a coroutine function: as many batches that agree in it,
    and in what they take of the node, may run in one worker at the same time; of an actor's that
    are of one ``group``, no more than ``group_limit`` of them (0: all).

    A result whose pickle has more than ``keep_over`` bytes stays on the node, if that is not 0.
    ``deposits`` are results that the calls take, ``[key, size]``: one that is kept on the node, or,
    with key 0, one that comes along, its pickle behind the calls in the payload, or, with key -1,
    one that is lost. Keys below that are those of pieces that the node was given (`KeepPiece`).

    The worker of calls that are to run ``alone`` was killed for want of memory: no other call is to
    run on the node at the same time, as far as that can be.

    The calls of a ``resident`` are for a detached actor: ``environment`` is that of its present
    life, and its function, and what it takes of the node, are known there.
    """

    bundles: ClassVar[bool] = True
    kind: ClassVar[str] = "assign"
    lane: ClassVar[Lane] = Lane.BULK
    batch: int
    attempt: int
    lo: int
    hi: int
    function: str
    environment: str
    form: str
    careful: bool = False
    timeout_s: float | None = None
    cpus: float = 1.0
    resources: dict[str, float] = field(default_factory=dict)
    linger_s: float = 0.010
    depth: int = 0
    actor: bool = False
    origin: list[int | str] = field(default_factory=list)
    concurrency: int = 1
    keep_over: int = 0
    deposits: list[list[int]] = field(default_factory=list)
    group: str = ""
    group_limit: int = 0
    resident: bool = False
    alone: bool = False
    payload: Payload = b""


@record
class DetachActor(Message):
    """Take an actor on: it belongs to the node from then on, not to this session.

    It is a batch of one call, its ``__init__``, which the node makes itself. Answered at once, by
    `RangeReturned`: ``"adopted"``; or, after an `EnvironmentFailed` that says why,
    ``"environment"``. The environment was defined before, is called after the actor and its first
    life (``ID.1``), and goes over to the node. ``spec`` is what handles of it are made of.
    ``deposits`` are as in `AssignBatch`; the node keeps them for the other lives.
    """

    bundles: ClassVar[bool] = True
    kind: ClassVar[str] = "detach"
    lane: ClassVar[Lane] = Lane.BULK
    batch: int
    attempt: int
    function: str
    environment: str
    form: str
    spec: dict[str, object]
    deposits: list[list[int]] = field(default_factory=list)
    payload: Payload = b""


@record
class KillResident(Message):
    """End a detached actor; with ``restart`` only its process, as if that had died.

    In the bulk lane, so that it cannot overtake the actor, nor what asks for it afterwards.
    """

    kind: ClassVar[str] = "kill-resident"
    lane: ClassVar[Lane] = Lane.BULK
    environment: str
    restart: bool = False


@record
class AskActors(Message):
    """Which detached actors are there, or is there one of this ``name``? Answered by `Actors`."""

    kind: ClassVar[str] = "ask-actors"
    lane: ClassVar[Lane] = Lane.BULK
    request: int
    name: str = ""
    namespace: str = ""


@record
class CancelBatch(Message):
    """Do not run the batch, or stop running it. Answered by `RangeReturned` or its results."""

    kind: ClassVar[str] = "cancel"
    batch: int
    attempt: int
    force: bool = False


@record
class StealBatches(Message):
    """Give up to ``count`` ranges that have not started. Always answered by `Surrendered`."""

    kind: ClassVar[str] = "steal"
    count: int


@record
class FetchDeposit(Message):
    """Send a result that is kept on the node. Answered by `DepositSent`, and it is kept on."""

    kind: ClassVar[str] = "fetch-deposit"
    key: int


@record
class ForgetDeposits(Message):
    """Nobody wants these results (any more).

    In the bulk lane, so that it does not overtake a batch that takes one of them.
    """

    kind: ClassVar[str] = "forget-deposits"
    lane: ClassVar[Lane] = Lane.BULK
    keys: list[int]


@record
class KeepPiece(Message):
    """Keep this: batches will take it, by its key (below -1, and never used again).

    In the bulk lane, where no batch that takes it passes it.
    """

    kind: ClassVar[str] = "keep"
    lane: ClassVar[Lane] = Lane.BULK
    key: int
    payload: Piece = b""


@record
class ForgetPieces(Message):
    """No batch will take these (any more).

    In the bulk lane, so that it does not overtake a batch that takes one of them.
    """

    kind: ClassVar[str] = "forget-pieces"
    lane: ClassVar[Lane] = Lane.BULK
    keys: list[int]


@record
class AskStatus(Message):
    """How are you? Answered by `Status`."""

    kind: ClassVar[str] = "ask-status"


@record
class AskVitals(Message):
    """What are you, and what time is it there? Answered by `Vitals`."""

    kind: ClassVar[str] = "ask-vitals"


@record
class Probe(Message):
    """How long does it take, and how much comes through? Answered by an `Echo` with ``size`` bytes,
    a mebibyte at most; not at all while too much waits for whoever asks."""

    kind: ClassVar[str] = "probe"
    lane: ClassVar[Lane] = Lane.BULK
    request: int
    size: int = 0
    payload: Payload = b""


# -- Lieutenant to Commander ---------------------------------------------------------


@record
class NeedFiles(Message):
    """The node lacks these contents (SHA-256, hexadecimal) and cannot start without them."""

    kind: ClassVar[str] = "need"
    sha256s: list[str]


@record
class EnvironmentFailed(Message):
    """The environment could not be set up; batches that wait for it come back unstarted.

    Or it was an actor's, and its process is gone: ``report`` is then as in `RangeReturned`.
    If the actor was detached, ``successor`` is the environment in which it lives on; empty: it has
    ended. The payload is then the outcome of its ``__init__``, if that has raised.
    """

    bundles: ClassVar[bool] = True
    kind: ClassVar[str] = "environment-failed"
    lane: ClassVar[Lane] = Lane.BULK
    environment: str
    error: str
    report: dict[str, str | int | float | bool | None] = field(default_factory=dict)
    successor: str | None = None
    payload: Payload = b""


@record
class RangeDone(Message):
    """Calls ``lo <= i < hi`` ran; the payload has their outcomes.

    ``retryable`` are the calls among them whose exception the job wants retried: their
    outcomes count only if no attempt is left. ``refs`` are the task ids of refs in the outcomes.
    ``deposits`` are big results, ``[call, size, key]``, in whose place is None: the node keeps them
    under their keys, or, where the key is 0, their pickles are behind the outcomes in the payload.
    """

    bundles: ClassVar[bool] = True
    kind: ClassVar[str] = "done"
    lane: ClassVar[Lane] = Lane.BULK
    batch: int
    attempt: int
    lo: int
    hi: int
    elapsed_us: int
    worker: int = 0
    retryable: list[int] = field(default_factory=list)
    refs: list[str] = field(default_factory=list)
    deposits: list[list[int]] = field(default_factory=list)
    payload: Payload = b""


@record
class DepositSent(Message):
    """The answer to `FetchDeposit`: the pickle of the result."""

    kind: ClassVar[str] = "deposit"
    lane: ClassVar[Lane] = Lane.BULK
    key: int
    payload: Piece = b""


@record
class RangeReturned(Message):
    """Calls that this node will not run (any more), and why.

    ``why`` is ``"cancelled"``, ``"timeout"`` (one call, it was killed), ``"crashed"`` (its
    worker died; ``guilty`` is the call that was running, -1 if it may be any of them),
    ``"unstarted"`` (never began, nobody's fault), ``"bystander"`` (begun when its worker was killed
    because another call, before or beside it, ran too long or was cancelled), ``"environment"``,
    ``"oversized"`` (what they returned is too big for a message; ``report`` says ``oversized``, how
    big), ``"full"`` (what they take is big, and the memory of the node used up; ``report`` says
    ``used`` and ``limit``, in bytes), or ``"adopted"`` (it was to make a detached actor, which is
    the node's now).
    Else ``report`` describes a death: ``pid, signal, exit_code, stderr_tail, oom, worker``,
    and in bytes ``peak`` (its memory at most) and ``limit`` (what it could have had).
    """

    kind: ClassVar[str] = "returned"
    lane: ClassVar[Lane] = Lane.BULK
    batch: int
    attempt: int
    lo: int
    hi: int
    why: str
    guilty: int = -1
    report: dict[str, str | int | float | bool | None] = field(default_factory=dict)


@record
class RangeWaiting(Message):
    """A running call of the batch waits for other calls, so that its CPUs are free, or no longer.

    In the bulk lane, so that it stays among the reports of its batch.
    """

    kind: ClassVar[str] = "waiting"
    lane: ClassVar[Lane] = Lane.BULK
    batch: int
    attempt: int
    waiting: bool


@record
class Surrendered(Message):
    """The answer to `StealBatches`: ``[batch, attempt, lo, hi]`` of what was given up.

    In the bulk lane, so that it cannot overtake results of the same batch.
    """

    kind: ClassVar[str] = "surrendered"
    lane: ClassVar[Lane] = Lane.BULK
    asked: int
    ranges: list[list[int]]


@record
class Output(Message):
    """Text a worker printed. ``stream`` is ``"stdout"`` or ``"stderr"``; the payload is UTF-8.

    In the bulk lane, so that what a call printed arrives before its result.
    """

    kind: ClassVar[str] = "output"
    lane: ClassVar[Lane] = Lane.BULK
    stream: str
    function: str
    worker: int
    payload: Piece = b""


@record
class Status(Message):
    """A node about itself. ``busy`` and ``slots`` count CPUs, ``queued`` batches of everyone;
    ``used`` is what is taken of its other resources, by name; ``limits`` are those in force there:
    of each ``name, amount, unit, enforced_by, why`` (see `goliath.limits`); ``running`` has
    ``worker, pid, function, seconds`` of each call that runs for whoever has the asker's token;
    ``kept`` are bytes of big results, of everyone, in ``memory`` and on ``disk``; ``memory`` are
    the ``used`` and the ``limit`` of a `MemoryLevel`, and ``level`` its number."""

    kind: ClassVar[str] = "status"
    busy: float
    slots: int
    queued: int
    processes: int
    draining: bool = False
    used: dict[str, float] = field(default_factory=dict)
    limits: list[dict[str, object]] = field(default_factory=list)
    running: list[tuple[int, int, str, float]] = field(default_factory=list)
    kept: dict[str, int] = field(default_factory=dict)
    memory: dict[str, int] = field(default_factory=dict)


@record
class Vitals(Message):
    """The machine and the libraries of a node: ``packages`` are versions by name, ``time_s`` is its
    clock's (since 1970), memory is in bytes."""

    kind: ClassVar[str] = "vitals"
    python: str
    platform: str
    packages: dict[str, str]
    time_s: float
    memory: int
    memory_free: int


@record
class Echo(Message):
    """The answer to a `Probe`."""

    kind: ClassVar[str] = "echo"
    lane: ClassVar[Lane] = Lane.BULK
    request: int
    payload: Payload = b""


@record
class Actors(Message):
    """The answer to `AskActors`: of each ``environment, class, digest, spec, pid, state, pending,
    age_s``. ``spec`` is what it was detached with, ``digest`` names its function."""

    kind: ClassVar[str] = "actors"
    lane: ClassVar[Lane] = Lane.BULK
    request: int
    actors: list[dict[str, object]]


@record
class JoinedNodes(Message):
    """The nodes that have joined this one and wait here for Commanders with this token: ``[id,
    name]`` of each. Said at the beginning, if there are any, and whenever one comes or goes."""

    kind: ClassVar[str] = "joined-nodes"
    nodes: list[list[str]]


@record
class Draining(Message):
    """The node finishes what it runs and takes nothing new; the queue comes back unstarted."""

    kind: ClassVar[str] = "draining"


@record
class MemoryLevel(Message):
    """How short of memory the node is: ``"easy"``, ``"strained"`` (it begins nothing new while
    anything runs) or ``"full"`` (nor does it take what is big); and of how many bytes that it could
    have how many are used."""

    kind: ClassVar[str] = "memory-level"
    level: str
    used: int
    limit: int


# -- Lieutenant to worker process ------------------------------------------------------


@record
class RunRange(Message):
    """Run calls ``lo <= i < hi`` of the payload, on the worker's main thread; ``concurrent``: in
    its event loop, one after another, beside other such ranges.

    ``deposits`` are the sizes of results that the calls take, whose pickles are behind the calls in
    the payload; one that is lost has a size below 0. ``keep_over`` is as in `AssignBatch`.
    """

    bundles: ClassVar[bool] = True
    kind: ClassVar[str] = "run"
    lane: ClassVar[Lane] = Lane.BULK
    serial: int
    lo: int
    hi: int
    function: str
    form: str
    careful: bool = False
    attempt: int = 1
    origin: list[int | str] = field(default_factory=list)
    concurrent: bool = False
    keep_over: int = 0
    deposits: list[int] = field(default_factory=list)
    payload: Payload = b""


@record
class Interrupt(Message):
    """Stop the range with this serial, if it is one that runs. With an ``index``, only if it is
    that call of a concurrent range that runs."""

    kind: ClassVar[str] = "interrupt"
    serial: int
    index: int = -1


@record
class Split(Message):
    """Give back the un-started rest of the running range, all but ``1/keep`` of it.

    With ``keep == 0`` a range that waits in the socket is not begun at all.
    """

    kind: ClassVar[str] = "split"
    serial: int
    keep: int = 2


@record
class RefuseWait(Message):
    """The running call must not wait for others: too many calls of the node do. It raises."""

    kind: ClassVar[str] = "refuse-wait"
    serial: int


@record
class PatronLeft(Message):
    """A Commander whose calls the detached actor here has run is gone, with all that it held."""

    kind: ClassVar[str] = "patron-left"
    patron: int


@record
class Flush(Message):
    """Report the calls of the running range that have finished; with serial 0 of all that run."""

    kind: ClassVar[str] = "flush"
    serial: int


# -- worker process to Lieutenant --------------------------------------------------------


@record
class WorkerReady(Message):
    """The worker stands in its directory, its initializer has run; or ``error`` says why not."""

    kind: ClassVar[str] = "ready"
    error: str = ""


@record
class Progress(Message):
    """Calls ``lo <= i < hi`` of a range ran. ``final`` frees the worker.

    A final progress whose ``hi`` is below what was asked means that the rest was not run:
    split away before, or interrupted (``interrupted``). ``dirty`` asks to be replaced.
    ``deposits`` are big results, ``[call, size]``, whose pickles are behind the outcomes.
    """

    bundles: ClassVar[bool] = True
    kind: ClassVar[str] = "progress"
    lane: ClassVar[Lane] = Lane.BULK
    serial: int
    lo: int
    hi: int
    elapsed_us: int
    final: bool
    interrupted: bool = False
    dirty: bool = False
    retryable: list[int] = field(default_factory=list)
    refs: list[str] = field(default_factory=list)
    deposits: list[list[int]] = field(default_factory=list)
    payload: Payload = b""


@record
class Yielded(Message):
    """The answer to `Split`: calls from ``at`` on will not be run here (``at == hi``: none;
    below 0: the range had not begun, and will not)."""

    kind: ClassVar[str] = "yielded"
    lane: ClassVar[Lane] = Lane.BULK
    serial: int
    at: int


@record
class Waiting(Message):
    """The running call waits for other calls, or (``waiting`` false) goes on.

    What the range had not started was given back by `Yielded` before.
    """

    kind: ClassVar[str] = "worker-waiting"
    lane: ClassVar[Lane] = Lane.BULK
    serial: int
    waiting: bool


# -- code that runs in a worker, to its Commander ----------------------------------------
#
# The Lieutenant passes these on, in their order, and writes ``worker`` itself. (The process of a
# detached actor has the calls of several Commanders: there it is the *patron*, until then: a number
# for one of them, which is the last item of the ``origin`` of his ranges.) A ref has the task
# id of its call, or one of the same form if it is no call's: whoever makes it chooses it.


@record
class NestedFunction(Message):
    """A pickled function that calls of this worker will name by its digest.

    ``refs`` are those that are pickled in it.
    """

    kind: ClassVar[str] = "nested-function"
    lane: ClassVar[Lane] = Lane.BULK
    worker: int
    digest: str
    name: str
    refs: list[str]
    payload: Piece = b""


@record
class NestedCall(Message):
    """Make a call, with ``ref`` as its task id. ``job, parcel, call`` say which call asks for it.

    Either of a ``function``, or of an ``actor``, whose method is the first argument, in one of its
    concurrency groups.

    ``options`` are the fields of the scheduler's options for it that are not the usual ones.
    Without ``arguments`` the payload is the row; else they are ``[name, ref]`` for a result that
    it takes and ``[name, bytes]`` for a pickled value, whose bytes are next in the payload; the
    name of a positional one is empty. ``refs`` are those that are pickled in values. The items of
    a ``streaming`` call are refs, too, with the task id of the call, ``.item-`` and their number:
    each is made known when it is first awaited.
    """

    kind: ClassVar[str] = "nested-call"
    lane: ClassVar[Lane] = Lane.BULK
    worker: int
    ref: str
    job: int
    parcel: int
    call: int
    function: str
    actor: str
    options: dict[str, object]
    arguments: list[list[str | int]]
    refs: list[str]
    streaming: bool = False
    group: str = ""
    payload: Piece = b""


@record
class ItemMade(Message):
    """The running call ``task`` has made its next item, a pickled value with refs in it.

    ``awaited``: a `RefEnded` is to say when somebody wants the item. Its ref is called by the
    task id of the call, ``.wanted-`` and the number of the item.
    """

    kind: ClassVar[str] = "item"
    lane: ClassVar[Lane] = Lane.BULK
    worker: int
    task: str
    index: int
    awaited: bool
    refs: list[str]
    payload: Piece = b""


@record
class StoreValue(Message):
    """Keep a pickled value, with refs in it, to be given to calls."""

    kind: ClassVar[str] = "store"
    lane: ClassVar[Lane] = Lane.BULK
    worker: int
    ref: str
    refs: list[str]
    payload: Piece = b""


@record
class AwaitRefs(Message):
    """Say what becomes of these, each by a `RefEnded`."""

    kind: ClassVar[str] = "await"
    lane: ClassVar[Lane] = Lane.BULK
    worker: int
    refs: list[str]


@record
class ReportWait(Message):
    """The call ``call`` of a job has been waiting for a while until ``enough`` of these have ended,
    and will however long it takes. The payload says where, as text. Over with an `EndWait`."""

    kind: ClassVar[str] = "report-wait"
    lane: ClassVar[Lane] = Lane.BULK
    worker: int
    wait: int
    job: int
    call: str
    refs: list[str]
    enough: int
    payload: Piece = b""


@record
class EndWait(Message):
    """A wait that was reported is over."""

    kind: ClassVar[str] = "end-wait"
    lane: ClassVar[Lane] = Lane.BULK
    worker: int
    wait: int


@record
class HoldRefs(Message):
    """The worker has got these, in a value: keep what they stand for."""

    kind: ClassVar[str] = "hold"
    lane: ClassVar[Lane] = Lane.BULK
    worker: int
    refs: list[str]


@record
class DropRefs(Message):
    """The worker does not have these any more, each as often as it is named."""

    kind: ClassVar[str] = "drop"
    lane: ClassVar[Lane] = Lane.BULK
    worker: int
    refs: list[str]


@record
class CancelRef(Message):
    """Call a call off; ``recursive``: with the calls it has made."""

    kind: ClassVar[str] = "cancel-ref"
    lane: ClassVar[Lane] = Lane.BULK
    worker: int
    ref: str
    force: bool
    recursive: bool


@record
class NestedActor(Message):
    """Make an actor, with ``ref`` as its id; the rest is as in a `NestedCall` of its ``__init__``.

    ``spec`` is what `deputies` makes an actor of.
    """

    kind: ClassVar[str] = "nested-actor"
    lane: ClassVar[Lane] = Lane.BULK
    worker: int
    ref: str
    job: int
    parcel: int
    call: int
    function: str
    spec: dict[str, object]
    arguments: list[list[str | int]]
    refs: list[str]
    payload: Piece = b""


@record
class FindActor(Message):
    """Which actor has this name? Answered by a `RefEnded` with what a handle is made of."""

    kind: ClassVar[str] = "find-actor"
    lane: ClassVar[Lane] = Lane.BULK
    worker: int
    ref: str
    name: str
    namespace: str


@record
class KillActor(Message):
    """End an actor at once."""

    kind: ClassVar[str] = "kill-actor"
    lane: ClassVar[Lane] = Lane.BULK
    worker: int
    actor: str
    no_restart: bool


@record
class WatchActor(Message):
    """Say by a `RefEnded` of ``ref`` how an actor has ended, when it has for good."""

    kind: ClassVar[str] = "watch-actor"
    lane: ClassVar[Lane] = Lane.BULK
    worker: int
    ref: str
    actor: str


@record
class LinkActors(Message):
    """When one of these two dies, so does the other; or (``linked`` false) not any more."""

    kind: ClassVar[str] = "link-actors"
    lane: ClassVar[Lane] = Lane.BULK
    worker: int
    one: str
    other: str
    linked: bool


@record
class LeaveActor(Message):
    """The actor whose job this is ends by its own wish, with the call that it runs."""

    kind: ClassVar[str] = "leave-actor"
    lane: ClassVar[Lane] = Lane.BULK
    worker: int
    job: int


@record
class AskNodes(Message):
    """What nodes are there? Answered by a `RefEnded`."""

    kind: ClassVar[str] = "ask-nodes"
    lane: ClassVar[Lane] = Lane.BULK
    worker: int
    ref: str


FromCalls = (
    NestedFunction
    | NestedCall
    | ItemMade
    | StoreValue
    | AwaitRefs
    | ReportWait
    | EndWait
    | HoldRefs
    | DropRefs
    | CancelRef
    | NestedActor
    | FindActor
    | KillActor
    | WatchActor
    | LinkActors
    | LeaveActor
    | AskNodes
)

# -- and back ----------------------------------------------------------------------------


@record
class RefEnded(Message):
    """The pickled value that a ref stands for, or why there is none.

    With a ``deposit``, the value is kept on the node of the worker, under that key: its Lieutenant
    puts it into the payload. (In the process of a detached actor, ``worker`` is the patron who says
    so.)
    """

    kind: ClassVar[str] = "ref-ended"
    lane: ClassVar[Lane] = Lane.BULK
    worker: int
    ref: str
    failed: bool
    deposit: int = 0
    payload: Piece = b""


@record
class WorkerLeft(Message):
    """A worker process that has said any of this is gone. From the Lieutenant."""

    kind: ClassVar[str] = "worker-left"
    lane: ClassVar[Lane] = Lane.BULK
    worker: int


def _all_kinds() -> dict[str, type[Message]]:
    return {cls.kind: cls for cls in Message.__subclasses__()}


MESSAGES = _all_kinds()
"""Every message by the ``kind`` it has on the wire."""
