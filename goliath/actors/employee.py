"""A worker process as its Lieutenant knows it: what it was sent, what it runs, and for whom."""

from __future__ import annotations

from collections import deque
from dataclasses import field

from goliath.actors.children import WorkerChild
from goliath.actors.page import NOBODY, PageState
from goliath.actors.process import Process
from goliath.actors.residence import Lodger
from goliath.core import node_events as nd
from goliath.core.ids import HOUSE, Serial, SessionId
from goliath.record import record
from goliath.transport import messages as msg, worker_messages as worker_msg
from goliath.transport.message import Origin
from goliath.transport.payload import Payload


@record
class Employee:
    """See the module's description.

    Attributes:
        known: functions it has been sent.
        names: what it ran last, runs, and has ahead: serials, names of functions, and who wants it.
        finished: the last range that it has answered for.
        nests: whether its calls have asked something of their Commander.
        lodger: the detached actor whose process it is.
        patrons: who have called that.
    """

    child: WorkerChild
    session: SessionId
    environment: str
    known: set[str] = field(default_factory=set)
    names: deque[tuple[Serial, str, SessionId]] = field(default_factory=lambda: deque(maxlen=3))
    finished: Serial = Serial(0)
    nests: bool = False
    lodger: Lodger | None = None
    patrons: dict[int, SessionId] = field(default_factory=dict)

    @property
    def function(self) -> str:
        """The name of what it runs now, or ran last."""
        last = self.names[-1][1] if self.names else ""
        return next((name for serial, name, _ in self.names if serial > self.finished), last)

    def name_of(self, serial: Serial) -> str:
        """What a range of it runs; lanes that it has had for long run what the others do."""
        return next((name for each, name, _ in self.names if each == serial), self.function)

    @property
    def listener(self) -> SessionId:
        """Whom it speaks to: its Commander; that of the running call if it is a detached actor."""
        if self.lodger is None:
            return self.session
        return next((who for serial, _, who in self.names if serial > self.finished), HOUSE)

    @property
    def process(self) -> Process:
        """The worker."""
        return self.child.process

    def page(self, serial: Serial) -> PageState:
        """Where it is in a range."""
        pages = self.process.pages()
        return next((page for page in pages if page.serial == serial), PageState())

    def began(self) -> dict[int, float]:
        """Since when it runs a call of each of its ranges."""
        pages = self.process.pages()
        return {page.serial: page.started_at for page in pages if page.index != NOBODY}

    def forget_function(self, digest: str) -> None:
        """It will not be asked to run this one any more."""
        if digest in self.known:
            self.known.discard(digest)
            self.process.send(worker_msg.ForgetFunction(digest))

    def hand(
        self,
        command: nd.Run,
        function: worker_msg.DefineFunction,
        calls: msg.AssignBatch | msg.DetachActor,
        origin: Origin,
        listener: SessionId,
        cargo: tuple[list[int], Payload],
        keep_over: int = 0,
    ) -> None:
        """Have it run a range of calls.

        Args:
            origin: whose calls they are, for what they call themselves.
            listener: who hears what they print.
            cargo: their payload, and the sizes of what they take beside it.
            keep_over: results of more bytes are kept on the node; 0: none is.
        """
        sizes, payload = cargo
        if function.digest not in self.known:
            self.known.add(function.digest)
            self.process.send(function)
        self.names.append((command.serial, function.name, listener))
        self.process.send(
            worker_msg.RunRange(
                command.serial,
                command.lo,
                command.hi,
                function.digest,
                calls.form,
                command.careful,
                calls.attempt,
                origin,
                command.concurrent,
                keep_over,
                sizes,
                payload,
            )
        )
