"""What code that runs in a worker says to its Commander.

The Lieutenant passes these on, in their order, and writes ``worker`` itself. (The process of a
detached actor has the calls of several Commanders: there it is the *patron*, until then: a number
for one of them, which is the last item of the ``origin`` of his ranges.) A ref has the task
id of its call, or one of the same form if it is no call's: whoever makes it chooses it. It is
answered by `RefEnded`.
"""

from __future__ import annotations

from typing import ClassVar

from goliath.record import record
from goliath.transport.message import Lane, Message
from goliath.transport.payload import Piece
from goliath.transport.worker_messages import EndWait, ReportWait


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


@record
class WorkerLeft(Message):
    """A worker process that has said any of this is gone. From the Lieutenant."""

    kind: ClassVar[str] = "worker-left"
    lane: ClassVar[Lane] = Lane.BULK
    worker: int
