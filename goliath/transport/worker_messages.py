"""What a Lieutenant and a worker process say to each other.

These, and no others, are loaded where nothing but workers are made.
"""

from __future__ import annotations

from dataclasses import field
from typing import ClassVar

from goliath.record import record
from goliath.transport.message import Lane, Message
from goliath.transport.payload import Payload, Piece


@record
class LetGo(Message):
    """The blocks of an arena that were lent under these numbers are not looked at any more."""

    kind: ClassVar[str] = "let-go"
    numbers: list[int]


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
