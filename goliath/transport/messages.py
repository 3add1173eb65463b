"""What a Commander and a Lieutenant say to each other.

Calls and what they are made of go in their turn, in the bulk lane; what is to overtake them, in
the other (see `goliath.transport.message`).
"""

from __future__ import annotations

from dataclasses import field
from typing import ClassVar

from goliath.record import record
from goliath.transport.message import Lane, Message
from goliath.transport.payload import Payload, Piece


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


ALONG, LOST = 0, -1
"""Instead of the key of what a call takes beside its row: it comes along; nobody has it any more.
Keys above are given by the node, those below by the Commander (`KeepPiece`)."""


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
