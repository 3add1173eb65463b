"""The Lieutenant: a node actor. It owns the node's mind, the zygote, the workers, the sessions.

Commanders are refs to it as it is to them, over whatever channel; payloads pass through it
unread. Its worker processes are its children under supervision: temporary ones, because
only the mind knows whether a dead one has to be replaced.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Mapping
from dataclasses import field
from typing import Any, assert_never

from goliath.actors.actor import Actor
from goliath.actors.cellar import Cellar
from goliath.actors.children import WorkerChild, ZygoteChild
from goliath.actors.cooling import StockCooling
from goliath.actors.memory_watch import MemoryWatch
from goliath.actors.neighbours import Host, soon_in
from goliath.actors.nursery import Nursery
from goliath.actors.occupancy import Measured, Occupancy
from goliath.actors.page import NOBODY, PageState
from goliath.actors.postmortem import Report
from goliath.actors.premises import Furnished, Premises, off_loop
from goliath.actors.process import ExitReport, Process
from goliath.actors.reception import (
    Drain,
    EndWork,
    NodesJoined,
    SessionDown,
    SessionHeard,
    SessionUp,
    SessionWritable,
    TokenLimited,
    TokenRevoked,
    WorkerGone,
    WorkerHeard,
)
from goliath.actors.remoting import Inbound, RemoteRef
from goliath.actors.residence import Lodger, Residence
from goliath.actors.scrutiny import (
    are_amounts,
    are_calls,
    are_deposits,
    are_numbers,
    are_strings,
)
from goliath.actors.shelf import Shelf
from goliath.actors.spec import INITIALIZER, WorkerSpec
from goliath.actors.supervisor import Child, Exit
from goliath.actors.tenancy import Holding, Tenancy
from goliath.actors.tenant import Environment
from goliath.actors.vitals import PROBE_MAX_BYTES, vitals
from goliath.actors.workshop import Workshop
from goliath.core import node_events as nd
from goliath.core.batch import CONCURRENCY_MAX
from goliath.core.devices import GPU, is_share
from goliath.core.ids import HOUSE, Attempt, BatchId, Serial, SessionId, WorkerId
from goliath.core.node import Node
from goliath.core.observation import Journal
from goliath.core.policy import BIG_BYTES, Level
from goliath.errors import LocalError, ProtocolError, SerializationError, size_text
from goliath.limits import Limit
from goliath.machine import VISIBLE_DEVICES
from goliath.record import record
from goliath.transport import messages as msg
from goliath.transport.channel import Channel
from goliath.transport.messages import Message, Origin, Payload

THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
SECRET_PREFIX = "GOLIATH_TOKEN"
NESTING_MODULES = ("goliath.remote_function", "goliath.refs", "goliath.actors.nested")
"""What every worker imports whose calls make calls: 40 ms, unless it is forked with them."""

RUNNING_TOLD_MAX = 1024
"""Calls that a node tells of; a worker can have a thousand coroutines."""
NAME_MAX = 200

LINGER_MIN_S = 0.001  # who wants to hear of each call sooner sends it in a batch of its own

_CONSEQUENCES = {
    Level.EASY: "all goes on",
    Level.STRAINED: "no call begins while another one runs",
    Level.FULL: "nor are big arguments taken, or big results kept",
}

_log = logging.getLogger("goliath.lieutenant")


@record
class _Session:
    id: SessionId
    ref: RemoteRef
    realm: str = ""
    functions: dict[str, msg.DefineFunction] = field(default_factory=dict)
    batches: dict[tuple[BatchId, Attempt], msg.AssignBatch] = field(default_factory=dict)
    detaching: dict[tuple[BatchId, Attempt], Lodger] = field(default_factory=dict)
    shelf: Shelf = field(default_factory=Shelf)
    holding: Holding | None = None
    host: Host | None = None


@record
class _Worker:
    child: WorkerChild
    session: SessionId
    environment: str
    known: set[str] = field(default_factory=set)  # functions it has been sent
    # What it ran last, runs, and has ahead: serials, names of functions, and who wants it.
    names: deque[tuple[Serial, str, SessionId]] = field(default_factory=lambda: deque(maxlen=3))
    finished: Serial = Serial(0)
    nests: bool = False  # its calls have asked something of their Commander
    lodger: Lodger | None = None  # the detached actor whose process it is
    patrons: dict[int, SessionId] = field(default_factory=dict)  # who have called it

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
        return self.child.process


class LieutenantActor(Actor):
    """See the module's description.

    Args:
        mind: the node's mind.
        nursery: forks the workers; started and closed by whoever made it.
        workshop: the node's directories.
        on_drained: called when nothing runs any more after `Drain`.
        cellar: where results are kept that memory has no room for, if the mind spills any.
        occupancy: tells how much memory the node has; None: nobody asks.
        arena_bytes: what shared memory may take, for arguments as for results.
        shares: whether the Commander lives in this process, and pickles into that memory itself.
        weighs: whether the mind wants to know how much memory workers have.
        limits: those in force on the node, as whoever asks for its status is told.
        files_max_bytes: what the files of a session may have together; None: no limit.
        check: whether the books are checked after every event (tests).
    """

    def __init__(
        self,
        mind: Node,
        nursery: Nursery,
        workshop: Workshop,
        *,
        on_drained: Callable[[], None] = lambda: None,
        cellar: Cellar | None = None,
        occupancy: Occupancy | None = None,
        arena_bytes: int = 0,
        shares: bool = False,
        weighs: bool = False,
        limits: Iterable[Limit] = (),
        files_max_bytes: int | None = None,
        check: bool = False,
    ) -> None:
        self._weighs = weighs
        self._limits = [limit.to_json() for limit in limits]
        self._arena_bytes = arena_bytes
        self._shares = shares
        self._mind = mind
        self._nursery = nursery
        self._premises = Premises(workshop, self, files_max_bytes)
        self._on_drained = on_drained
        self._cellar = cellar
        self._watch = None if occupancy is None else self._watch_over(occupancy)
        self._level = Level.EASY  # as the log knows it
        self._check = check
        self._journal: Journal[nd.NodeEvent] = Journal()
        self._sessions: dict[SessionId, _Session] = {}
        self._workers: dict[WorkerId, _Worker] = {}
        self._residence = Residence()
        self._joined: dict[str, list[list[str]]] = {}  # the nodes that wait here, by realms
        self._draining = False
        # What the report being handled brought with it.
        self._payload: Payload = b""
        self._refs: list[str] = []
        self._exit: ExitReport | None = None

    def started(self) -> None:
        """See `Actor.started`."""
        self._stock = StockCooling()
        self._zygote = ZygoteChild(
            self._start_zygote, lambda child: self.context.child_exited(child, Exit())
        )
        self.context.adopt(self._zygote)

    def _start_zygote(self) -> None:
        self.context.run(self._nursery.start(), "start the zygote")

    def zygote_died(self) -> None:
        """To be called by the nursery's owner when the zygote has died by itself."""
        self.context.child_exited(self._zygote, Exit(LocalError("the zygote died")))

    # -- what it is told ---------------------------------------------------------------

    def receive(self, message: Any) -> Any:  # noqa: C901, PLR0912
        """See `Actor.receive`."""
        match message:  # one arm a message: a table, not a maze
            case WorkerHeard(worker, said):
                self._on_worker_heard(worker, said)
            case SessionHeard(session, said):
                self._on_session_heard(session, said)
            case WorkerGone(worker, report):
                self._on_worker_gone(worker, report)
            case SessionUp(session, channel, realm):
                self._on_session_up(session, channel, realm)
            case TokenLimited(realm, slots):
                self.decide(nd.RealmLimited(realm, slots))
            case TokenRevoked(realm):
                self.decide(nd.RealmEnded(realm))
                self._premises.forget_realm(realm)
            case SessionDown(session, _):
                self._on_session_down(session)
            case NodesJoined(realm, nodes):
                self._on_nodes_joined(realm, nodes)
            case SessionWritable(session):
                self._resume_output(session)
            case Furnished():
                self._premises.on_furnished(message)
            case nd.WorkerInspected() | nd.DepositSpilled() | nd.MemoryMeasured():
                self.decide(message)
            case Drain():
                self._drain()
            case EndWork():
                for session in list(self._sessions):
                    self.decide(nd.SessionClosed(session))
            case _:
                return super().receive(message)
        return None

    def on_timer(self) -> None:
        """See `Actor.on_timer`."""
        self.decide(nd.NodeTimerFired())

    def on_child_exit(self, child: Child, exit: Exit) -> None:  # noqa: A002 - Erlang's word
        """See `Actor.on_child_exit`. What it said before comes first."""
        if isinstance(child, WorkerChild):
            self.context.ref.tell(WorkerGone(child.worker, exit.detail))

    def last_events(self) -> str:
        """See `Actor.last_events`."""
        return self._journal.text()

    def keep_journal(self, error: BaseException) -> str:
        """See `Actor.keep_journal`."""
        from goliath.actors import recording  # both minds: nobody else needs them all

        return recording.keep(self._mind, self._journal, error, checked=self._check)

    def stopping(self) -> None:
        """See `Actor.stopping`."""
        self._stock.end()
        for session in self._sessions.values():
            session.ref.channel.close()
            self._unfurnish(session)

    # -- sessions ----------------------------------------------------------------------

    def _on_session_up(self, session_id: SessionId, channel: Channel, realm: str) -> None:
        session = _Session(session_id, RemoteRef(session_id, channel), realm)
        self._sessions[session_id] = session
        self._furnish(session)
        channel.attach(
            Inbound(
                self.context.ref,
                heard=lambda message: SessionHeard(session_id, message),
                closed=lambda error: SessionDown(session_id, error),
                writable=lambda: SessionWritable(session_id),
            )
        )
        self._premises.open(session_id, realm)
        self.decide(nd.SessionOpened(session_id, realm))
        if joined := self._joined.get(realm):
            session.ref.tell(msg.JoinedNodes(joined))

    def _on_nodes_joined(self, realm: str, nodes: list[list[str]]) -> None:
        self._joined[realm] = nodes
        for session in self._sessions.values():
            if session.realm == realm:
                session.ref.tell(msg.JoinedNodes(nodes))

    def _furnish(self, session: _Session) -> None:
        """Give it an arena: half of what is left for all, so that there is some for the next."""
        taken = sum(s.holding.limit for s in self._sessions.values() if s.holding is not None)
        session.holding = Holding.make((self._arena_bytes - taken) // 4, self._mind.slots)
        if not self._shares:
            soon = soon_in(asyncio.get_running_loop())
            session.host = Host(session.holding, session.ref.channel, soon)
            if session.holding is not None:
                session.ref.channel.gather_in(session.holding)
        elif session.holding is not None:
            session.holding.share()

    @staticmethod
    def _unfurnish(session: _Session) -> None:
        if session.holding is not None:
            session.holding.close()  # first: what the Commander was lent is not written any more
        if session.host is not None:
            session.host.close()

    def _on_session_down(self, session_id: SessionId) -> None:
        session = self._sessions.pop(session_id, None)
        if session is not None:
            self._unfurnish(session)
            self.decide(nd.SessionClosed(session_id))
            self._premises.close(session_id)
            self._forget_patron(session_id)
            self._resume_output(session_id)
            self._tidy_cellar()

    def _resume_output(self, session: SessionId) -> None:
        """There is room again for what is printed; or nobody who has none."""
        for worker in self._workers.values():
            if worker.session == session or session in worker.patrons.values():
                worker.process.resume_output()
                worker.process.resume_calls()

    def _drain(self) -> None:
        names = self._residence.names()
        if names and not self._draining:
            _log.warning("draining: these detached actors end with it: %s", ", ".join(names))
        self._draining = True
        self.decide(nd.DrainRequested())

    def _on_session_heard(  # noqa: C901, PLR0912, PLR0915 - one arm a message: a table, not a maze
        self, session_id: SessionId, said: Message
    ) -> None:
        session = self._sessions.get(session_id)
        if session is None:
            return
        match said:
            case msg.AssignBatch():
                self._on_assign(session, said)
            case msg.CancelBatch(batch, attempt, force):
                self.decide(nd.CancelArrived(session_id, BatchId(batch), Attempt(attempt), force))
            case msg.StealBatches(wanted):
                self.decide(nd.StealArrived(session_id, wanted))
            case msg.DefineFunction(digest):
                holding = session.holding
                session.functions[digest] = holding.settled_function(said) if holding else said
            case msg.ForgetFunction(digest):
                self._on_forget_function(session, digest)
            case msg.DefineEnvironment():
                try:
                    self._premises.define(session_id, said)
                except ProtocolError as exc:
                    self._accuse(session, str(exc))
            case msg.FileData():
                self._premises.receive(session_id, said)
            case msg.ForgetEnvironment(environment):
                self._premises.forget(session_id, environment)
            case msg.RefEnded():
                self._on_ref_ended(session, said)
            case msg.FetchDeposit(key):
                self._on_fetch_deposit(session, key)
            case msg.ForgetDeposits(keys):
                self._on_forget_deposits(session, keys)
            case msg.KeepPiece() | msg.ForgetPieces():
                self._on_pieces(session, said)
            case msg.DetachActor():
                self._on_detach(session, said)
            case msg.KillResident(environment, restart):
                self.decide(nd.ResidentKillArrived(session_id, environment, restart))
            case msg.AskActors():
                session.ref.tell(msg.Actors(said.request, self._actors(session_id, said)))
            case msg.LetGo() | msg.ProposeArena() | msg.ArenaMapped():
                if session.host is not None:
                    session.host.hear(said)
            case msg.AskStatus():
                busy, queued, processes = self._mind.load()
                slots, used = self._mind.slots, self._mind.used()
                running = self._running(session_id)
                session.ref.tell(
                    msg.Status(
                        busy,
                        slots,
                        queued,
                        processes,
                        self._draining,
                        used,
                        self._limits,
                        running,
                        self._kept(),
                        self._memory(),
                    )
                )
            case msg.AskVitals():
                session.ref.tell(vitals())
            case msg.Probe(request, size):
                self._on_probe(session, request, size)
            case _:
                pass  # of a newer Commander: nothing we could act on

    def _kept(self) -> dict[str, int]:
        """What big results take: of memory by the books, of the disk as it is."""
        disk = self._cellar.disk_bytes if self._cellar is not None else 0
        return {"memory": self._mind.kept_in_memory(), "disk": disk}

    def _memory(self) -> dict[str, int]:
        level, used, limit = self._mind.memory()
        return {"level": int(level), "used": used, "limit": limit}

    def _on_probe(self, session: _Session, request: int, size: int) -> None:
        if not 0 <= size <= PROBE_MAX_BYTES:
            return self._accuse(session, "an echo of a size that cannot be")
        if not session.ref.channel.congested:  # one who does not read is not given more
            session.ref.tell(msg.Echo(request, os.urandom(size)))
        return None

    def _running(self, session: SessionId) -> list[tuple[int, int, str, float]]:
        """What a Commander may know of what runs, the longest first."""
        now = self.context.now()
        pages: dict[tuple[WorkerId, int], float] = {}
        running: list[tuple[float, WorkerId, int, str]] = []
        for worker_id, serial, since in self._mind.running(session):
            worker = self._workers.get(worker_id)
            if worker is None:
                continue  # it could not be started
            if not pages or running[-1][1] != worker_id:
                pages = {
                    (worker_id, page.serial): page.started_at
                    for page in worker.process.pages()
                    if page.index != NOBODY
                }
            began = pages.get((worker_id, serial), since)
            name, pid = worker.name_of(serial)[:NAME_MAX], worker.process.pid or 0
            running.append((max(now - began, 0.0), worker_id, pid, name))
        running.sort(key=lambda each: -each[0])
        return [(worker, pid, name, s) for s, worker, pid, name in running[:RUNNING_TOLD_MAX]]

    def _on_fetch_deposit(self, session: _Session, key: int) -> None:
        found = session.shelf.find(key)
        if found is None:
            return self._accuse(session, "a result to be sent that is not kept")
        return session.ref.tell(msg.DepositSent(key, found))

    def _on_ref_ended(self, session: _Session, said: msg.RefEnded) -> None:
        if said.deposit:
            found = session.shelf.find(said.deposit)
            if found is None:
                return self._accuse(session, "a result for a worker that is not kept")
            said.payload, said.deposit = found, 0
        worker = self._workers.get(WorkerId(said.worker))
        if worker is None:
            return None
        if session.id in worker.patrons.values():
            # They may call different things the same.
            said.worker = self._residence.patron(session.id)
            worker.process.control(said)
        elif worker.session == session.id:
            worker.process.control(said)
        return None

    def _on_forget_deposits(self, session: _Session, keys: list[int]) -> None:
        if not are_numbers(keys):
            return self._accuse(session, "results to be forgotten without their keys")
        return self._forget(session, keys)

    def _on_pieces(self, session: _Session, said: msg.KeepPiece | msg.ForgetPieces) -> None:
        """What batches will take, and what none will any more."""
        if isinstance(said, msg.KeepPiece):
            holding = session.holding
            piece = said.payload if holding is None else holding.moved(said.payload)
            if not session.shelf.entrust(said.key, piece):
                return self._accuse(session, "a piece to be kept under a key that is none")
            self.decide(nd.PieceEntrusted(session.id, said.key, len(piece)))
        elif are_numbers(said.keys) and all(key < msg.LOST for key in said.keys):
            self._forget(session, said.keys)
        else:
            self._accuse(session, "pieces to be forgotten without their keys")
        return None

    def _forget(self, session: _Session, keys: list[int]) -> None:
        session.shelf.forget(keys)
        self._tidy_cellar()
        self.decide(nd.DepositsForgotten(session.id, tuple(keys)))

    def _on_forget_function(self, session: _Session, digest: str) -> None:
        if any(batch.function == digest for batch in session.batches.values()):
            return self._accuse(session, "a function to be forgotten that is in use")
        session.functions.pop(digest, None)
        for worker in self._workers.values():
            if worker.session == session.id and digest in worker.known:
                worker.known.discard(digest)
                worker.process.send(msg.ForgetFunction(digest))
        return None

    def _on_detach(self, session: _Session, said: msg.DetachActor) -> None:
        environment = self._premises.find(session.id, said.environment)
        function = session.functions.get(said.function)
        if function is None or environment is None:
            return self._accuse(session, "an actor of a class or environment never defined")
        try:
            lodger = Lodger.of(function, said)
        except ProtocolError as exc:
            return self._accuse(session, str(exc))
        batch, attempt = BatchId(said.batch), Attempt(said.attempt)
        if (batch, attempt) in session.detaching:
            return self._accuse(session, "a batch sent twice")
        if said.deposits:
            if not session.shelf.take(said):
                return self._accuse(session, "an actor of results that are not kept")
            lodger.cargo = session.shelf.cargo(said)
            session.shelf.release(batch, attempt)
        blueprint = lodger.blueprint
        session.detaching[batch, attempt] = lodger
        self.decide(
            nd.DetachArrived(
                session.id,
                batch,
                attempt,
                said.environment,
                blueprint.name,
                blueprint.namespace,
                blueprint.get_if_exists,
                blueprint.cpus,
                blueprint.resources,
                blueprint.concurrency,
                blueprint.max_restarts,
                blueprint.restart_window_s,
                blueprint.repertoire.groups,
            )
        )
        return None

    def _actors(self, session: SessionId, asked: msg.AskActors) -> list[dict[str, object]]:
        """The detached actors that a Commander has asked for."""
        found = []
        for resident, state, pending, worker in self._mind.residents(session):
            called = (resident.name, resident.namespace)
            if asked.name and called != (asked.name, asked.namespace):
                continue
            lodger = self._residence[resident.environment]
            told = lodger.told(resident, state, pending, self.context.now())
            known = self._workers.get(worker) if worker is not None else None
            found.append({**told, "pid": known.process.pid if known is not None else None})
        return found

    def _on_assign(self, session: _Session, said: msg.AssignBatch) -> None:
        if not said.resident and (
            said.function not in session.functions
            or self._premises.find(session.id, said.environment) is None
        ):
            return self._accuse(session, "a batch of a function or environment never defined")
        batch, attempt = BatchId(said.batch), Attempt(said.attempt)
        if (batch, attempt) in session.batches or not 0 <= said.lo < said.hi:
            return self._accuse(session, "a batch sent twice, or without calls")
        never = said.timeout_s is not None and said.timeout_s <= 0
        if (
            never
            or said.cpus < 0
            or said.linger_s < LINGER_MIN_S
            or not 1 <= said.concurrency <= CONCURRENCY_MAX
            or not 0 <= said.group_limit <= said.concurrency
            or (said.resources and not _are_resources(said.resources))
        ):
            return self._accuse(session, "a batch that asks for what cannot be")
        if said.deposits and not session.shelf.take(said):
            return self._accuse(session, "a batch that takes results which are not kept")
        if session.holding is not None:
            said.payload = session.holding.settled(said.payload)
        session.batches[batch, attempt] = said
        self.decide(
            nd.BatchArrived(
                session.id,
                batch,
                attempt,
                said.lo,
                said.hi,
                said.environment,
                said.careful,
                said.timeout_s,
                said.cpus,
                said.resources,
                said.linger_s,
                said.depth,
                said.actor,
                said.concurrency,
                said.group,
                said.group_limit,
                said.resident,
                said.alone,
                tuple([key for key, _ in said.deposits if key not in (msg.ALONG, msg.LOST)]),
                self._bytes_with(session, said),
            )
        )
        return None

    @staticmethod
    def _bytes_with(session: _Session, said: msg.AssignBatch) -> int:
        """What has come with a batch, and what for its sake before it, if nobody else needs that
        here: pieces that are kept, and its static keywords."""
        nbytes, given = len(said.payload), {}
        if said.deposits:
            nbytes += sum(size for key, size in said.deposits if key == msg.ALONG)
            given = {key: size for key, size in said.deposits if key < msg.LOST}
        if given:
            others = (batch for batch in session.batches.values() if batch is not said)
            shared = {key for batch in others for key, _ in batch.deposits}
            nbytes += sum(size for key, size in given.items() if key not in shared)
        function = session.functions.get(said.function)
        if function is None or len(function.payload) <= BIG_BYTES:
            return nbytes
        users = sum(batch.function == said.function for batch in session.batches.values())
        return nbytes + (len(function.payload) if users == 1 else 0)

    def _accuse(self, session: _Session, of: str) -> None:
        """An honest Commander does not do this: end its session."""
        _log.warning("ended a session: its Commander sent %s", of)
        session.ref.channel.close()
        self.context.ref.tell(SessionDown(session.id, ProtocolError(of)))

    # -- see `Landlord` -----------------------------------------------------------------

    def answer(self, session: SessionId, message: Message) -> None:
        """Tell a Commander, if it is still there."""
        known = self._sessions.get(session)
        if known is None:
            return
        try:
            known.ref.tell(message)
        except SerializationError as exc:
            self._refuse(known, message, str(exc))

    def _refuse(self, session: _Session, message: Message, why: str) -> None:
        """What is too big to be sent is no reason to end, but for whom it was."""
        _log.warning("what %s was to be told is too big: %s", session.id, why)
        if isinstance(message, msg.RangeDone):
            said = msg.RangeReturned(
                message.batch, message.attempt, message.lo, message.hi, "oversized"
            )
            said.report = {"oversized": why, "worker": message.worker}
            session.ref.tell(said)
        else:
            session.ref.channel.close()
            self.context.ref.tell(SessionDown(session.id, SerializationError(why)))

    def run(self, coroutine: Coroutine[Any, Any, None], name: str) -> None:
        """Run something as part of this actor."""
        self.context.run(coroutine, name)

    def announce(self, news: Furnished) -> None:
        """Tell this actor, from within one of its coroutines."""
        self.context.ref.tell(news)

    def kill_workers(self, session: SessionId, environment: str) -> None:
        """Kill those of an environment."""
        for worker in self._workers.values():
            if (worker.session, worker.environment) == (session, environment):
                worker.process.kill()

    # -- workers -----------------------------------------------------------------------

    def on_worker_message(self, worker: WorkerId, message: Message) -> None:
        """See `ProcessEvents.on_worker_message`."""
        self.context.ref.tell(WorkerHeard(worker, message))

    def on_worker_output(self, worker: WorkerId, stream: str, data: bytes) -> None:
        """See `ProcessEvents.on_worker_output`. It is forwarded at once, ahead of results."""
        known = self._workers.get(worker)
        if known is None:
            return
        session = self._sessions.get(known.listener)
        if session is not None:
            session.ref.tell(msg.Output(stream, known.function, worker, data))
            if session.ref.channel.congested:
                known.process.pause_output()
        elif known.lodger is not None:
            name, text = known.lodger.blueprint.name, data.decode(errors="replace").rstrip()
            _log.info("detached actor %s has printed: %s", name, text)

    def on_worker_exit(self, worker: WorkerId, exit: ExitReport) -> None:  # noqa: A002
        """See `ProcessEvents.on_worker_exit`."""
        known = self._workers.get(worker)
        if known is not None:
            self.context.child_exited(known.child, Exit(detail=exit))

    def _on_worker_heard(self, worker_id: WorkerId, said: Message) -> None:
        worker = self._workers.get(worker_id)
        if worker is None:
            return
        match said:
            case msg.Progress():
                if (
                    said.elapsed_us < 0
                    or not are_calls(said.retryable, said.lo, said.hi)
                    or (said.refs and not are_strings(said.refs))
                    or (
                        said.deposits
                        and not are_deposits(said.deposits, said.lo, said.hi, said.payload)
                    )
                ):
                    worker.process.kill()
                    return
                self._payload, self._refs = said.payload, said.refs
                self.decide(
                    nd.WorkerProgressed(
                        worker_id,
                        Serial(said.serial),
                        said.lo,
                        said.hi,
                        said.elapsed_us / 1e6,
                        said.final,
                        said.interrupted,
                        said.dirty,
                        tuple(said.retryable),
                        tuple([(call, size) for call, size in said.deposits]),
                        worker.process.resident_bytes() if self._weighs and said.final else 0,
                    )
                )
                self._payload = b""
                if said.final:
                    worker.finished = Serial(said.serial)
            case msg.Waiting(serial, waiting):
                self.decide(nd.WorkerWaits(worker_id, Serial(serial), waiting))
            case msg.Yielded(serial, at):
                self.decide(nd.RestYielded(worker_id, Serial(serial), at))
            case msg.WorkerReady(error):
                self.decide(nd.WorkerStarted(worker_id, error))
            case _ if isinstance(said, msg.FromCalls):
                # Its Commander asked for whatever it is that runs there: it may ask back.
                worker.nests = True
                self._nursery.preload(NESTING_MODULES)
                if worker.lodger is not None:
                    self._on_lodger_asks(worker, said)
                else:
                    said.worker = worker_id
                    self._pass_on(worker, worker.session, said)
            case _:
                worker.process.kill()  # a worker has nothing else to say

    def _on_lodger_asks(self, worker: _Worker, said: msg.FromCalls) -> None:
        """Code in a detached actor asks something of the Commander whose call it belongs to."""
        patron, said.worker = said.worker, worker.child.worker
        session = worker.patrons.get(patron)
        if isinstance(said, msg.LeaveActor):
            self.decide(nd.ResidentLeaves(worker.child.worker))
        elif session in self._sessions:
            self._pass_on(worker, session, said)
        else:
            worker.process.control(msg.PatronLeft(patron))

    def _pass_on(self, worker: _Worker, session: SessionId, said: Message) -> None:
        """To its Commander, and no faster than he takes it."""
        self.answer(session, said)
        known = self._sessions.get(session)
        if known is not None and known.ref.channel.congested:
            worker.process.pause_calls()

    def _forget_patron(self, session: SessionId) -> None:
        """A Commander is gone: whoever waits for an answer of his waits in vain."""
        patron = self._residence.leave(session)
        for worker in self._workers.values():
            if patron is not None and worker.patrons.pop(patron, None) is not None:
                worker.process.control(msg.PatronLeft(patron))

    def _on_worker_gone(self, worker: WorkerId, report: ExitReport) -> None:
        self._exit = report
        others = tuple((Serial(page.serial), page.index) for page in report.others)
        serial, index = Serial(report.page.serial), report.page.index
        self.decide(nd.WorkerExited(worker, serial, index, others, unborn=report.pid is None))
        self._exit = None
        known = self._workers.pop(worker, None)
        if known is not None and known.nests:
            for session in (known.session, *known.patrons.values()):
                self.answer(session, msg.WorkerLeft(worker))

    # -- decide, then do ---------------------------------------------------------------

    def decide(self, event: nd.NodeEvent) -> None:
        """Tell the mind, and do what it says."""
        now = self.context.now()
        self._journal.note(now, event)
        if self._watch is not None:
            self._watch.stirred = True
        commands = self._mind.handle(event, now)
        if self._check:
            self._mind.check()
        for command in commands:
            self._perform(command)

    def _perform(  # noqa: C901, PLR0912, PLR0915 - one arm a command: a table, not a maze
        self, command: nd.NodeCommand
    ) -> None:
        match command:
            case nd.ReportDone():
                self._report_done(command)
            case nd.Run():
                self._run(command)
            case nd.Release(session, batch, attempt):
                if session in self._sessions:
                    self._sessions[session].batches.pop((batch, attempt), None)
                    self._sessions[session].detaching.pop((batch, attempt), None)
                    self._sessions[session].shelf.release(batch, attempt)
            case nd.NodeWakeAt(deadline):
                self.context.wake_at(deadline)
            case nd.Fork():
                self._fork(command)
            case nd.FlushRange(worker, serial):
                self._workers[worker].process.control(msg.Flush(serial))
            case nd.SplitRange(worker, serial, keep):
                self._workers[worker].process.control(msg.Split(serial, keep))
            case nd.InterruptRange(worker, serial, index):
                self._workers[worker].process.control(msg.Interrupt(serial, index))
            case nd.Inspect(worker, serial):
                self._inspect(worker, serial)
            case nd.Kill(worker):
                if worker in self._workers:
                    self._workers[worker].process.kill()
            case nd.Retire(worker):
                self._workers[worker].process.dismiss()
            case nd.ReportReturned():
                self._report_returned(command)
            case nd.ReportWaiting(session, batch, attempt, waiting):
                self.answer(session, msg.RangeWaiting(batch, attempt, waiting))
            case nd.RefuseWait(worker, serial):
                self._workers[worker].process.control(msg.RefuseWait(serial))
            case nd.ReportSurrendered(session, asked, ranges):
                self.answer(session, msg.Surrendered(asked, [list(r) for r in ranges]))
            case nd.ReportEnvironmentBroken(session, environment, error, successor, raised):
                report, payload = self._exit_report(), self._payload if raised else b""
                failed = msg.EnvironmentFailed(environment, error, report, successor, payload)
                self.answer(session, failed)
            case nd.Adopt():
                self._adopt(command)
            case nd.Succeed(environment, successor):
                self._premises.succeed(environment, successor)
                self._residence.succeed(environment, successor)
            case nd.Evict(environment, error):
                lodger = self._residence.evict(environment)
                _log.info("detached actor %s has ended: %s", lodger.blueprint.name, error)
                self._premises.evict(environment)
            case nd.Spill(session, key):
                shelf = self._sessions[session].shelf
                self.context.run(self._spill(session, shelf, key), "spill")
            case nd.AnnouncePressure():
                self._announce_pressure(command)
            case nd.AnnounceDraining():
                for session in self._sessions:
                    self.answer(session, msg.Draining())
            case nd.Drained():
                self._on_drained()
            case _:
                assert_never(command)

    async def _spill(self, session: SessionId, shelf: Shelf, key: int) -> None:
        piece = shelf.find(key)
        assert piece is not None, f"deposit {key} is to be written, and is not kept"
        assert self._cellar is not None, "the mind spills, and there is no cellar"
        stored = await off_loop(self._cellar.store, piece)
        if stored is not None:
            shelf.replace(key, stored)
        self.context.ref.tell(nd.DepositSpilled(session, key, failed=stored is None))
        self._tidy_cellar()  # nobody may have wanted it any more

    def _watch_over(self, occupancy: Occupancy) -> MemoryWatch:
        def users() -> tuple[list[int], list[int]]:
            arenas = [s.holding.arena.fd for s in self._sessions.values() if s.holding is not None]
            return [worker.process.pid or 0 for worker in self._workers.values()], arenas

        return MemoryWatch(occupancy, self._mind, users, lambda seen: self.context.ref.tell(seen))

    def _announce_pressure(self, command: nd.AnnouncePressure) -> None:
        level, now = Level(command.level), Measured(command.used_bytes, command.limit_bytes)
        said = msg.MemoryLevel(level.name.lower(), now.used, now.limit)
        for session in self._sessions:
            self.answer(session, said)
        if level is not self._level:  # or somebody has logged in
            self._level = level
            amount = f"{size_text(now.used)} of {size_text(now.limit)}"
            _log.warning("%s of memory are used: %s", amount, _CONSEQUENCES[level])

    def _tidy_cellar(self) -> None:
        if self._cellar is not None and self._cellar.is_open:
            self.context.run(_tidied(self._cellar), "tidy the cellar")

    def _adopt(self, command: nd.Adopt) -> None:
        lodger = self._sessions[command.session].detaching.pop((command.batch, command.attempt))
        lodger.maker = command.session
        self._premises.adopt(command.session, command.environment)
        self._residence.adopt(command.environment, lodger, self.context.now())

    def _fork(self, command: nd.Fork) -> None:
        environment = self._premises.find(command.session, command.environment)
        assert environment is not None, f"{command} names an environment that was forgotten"
        session = self._sessions.get(command.session)
        tenancy = session.holding.let() if session is not None and session.holding else None
        spec = self._spec(command, environment, tenancy)
        # A detached actor is limited by itself: all of them are of one session, the house.
        fence = command.environment if command.session == HOUSE else command.session
        try:
            process = self._nursery.fork(command.worker, spec, self, fence, tenancy)
        except OSError as exc:
            if tenancy is not None:
                tenancy.end()
            # Too many open files: the mind waits until there is room, and tries again.
            _log.info("worker %d could not be started: %s", command.worker, exc)
            self.context.ref.tell(WorkerGone(command.worker, ExitReport()))
            return
        child = WorkerChild(command.worker, process)
        self.context.adopt(child)
        worker = self._workers[command.worker] = _Worker(
            child, command.session, command.environment
        )
        if self._watch is not None and not self._watch.running:
            self._watch.running = True
            self.context.run(self._watch.keep(), "watch memory")
        if command.session == HOUSE:
            worker.lodger = self._residence[command.environment]
        if environment.message.initializer:
            process.send(msg.DefineFunction(INITIALIZER, INITIALIZER, environment.message.payload))

    def _spec(
        self, command: nd.Fork, environment: Environment, tenancy: Tenancy | None
    ) -> WorkerSpec:
        said = environment.message
        variables: dict[str, str | None] = {
            name: None for name in os.environ if name.startswith(SECRET_PREFIX)
        }
        for name in THREAD_VARIABLES:
            if name not in os.environ:
                variables[name] = str(said.threads)
        if self._mind.devices:
            variables[VISIBLE_DEVICES] = ""
        packages = environment.packages
        if packages is not None:
            variables["VIRTUAL_ENV"] = str(packages.root)
            path = os.environ.get("PATH", os.defpath)
            variables["PATH"] = f"{packages.root / 'bin'}{os.pathsep}{path}"
        variables.update(said.variables)
        if command.devices:
            variables[VISIBLE_DEVICES] = ",".join(command.devices)
        cwd = self._premises.directory(command.session, environment)
        shipped = [str(environment.directory)] if environment.directory else []
        return WorkerSpec(
            cwd,
            shipped,
            said.sys_path,
            variables,
            said.initializer,
            said.node,
            command.worker,
            command.actor,
            str(environment.library or ""),
            site=list(packages.site) if packages is not None else [],
            arena=[] if tenancy is None else list(tenancy.arena.limits),
            region=0 if tenancy is None else tenancy.region,
        )

    def _run(self, command: nd.Run) -> None:
        worker = self._workers.get(command.worker)
        if worker is None:
            return  # it could not be started; that it is gone will be heard next
        if command.session == HOUSE:
            assert worker.lodger is not None
            lodger = worker.lodger
            maker, lodger.maker = (
                lodger.maker,
                HOUSE,
            )  # what it prints in later lives is not for him
            self._hand(worker, command, lodger.function, lodger.making, [], maker, lodger.cargo)
            return
        session = self._sessions[command.session]
        batch = session.batches[command.batch, command.attempt]
        function, origin = session.functions.get(batch.function), batch.origin
        if worker.lodger is not None:
            patron = self._residence.patron(session.id)
            worker.patrons[patron] = session.id
            function, origin = worker.lodger.function, [*origin[:4], patron]
        assert function is not None, f"{batch} was taken on without its function"
        cargo, keep_over = session.shelf.cargo(batch), batch.keep_over
        self._hand(worker, command, function, batch, origin, session.id, cargo, keep_over)

    @staticmethod
    def _hand(
        worker: _Worker,
        command: nd.Run,
        function: msg.DefineFunction,
        calls: msg.AssignBatch | msg.DetachActor,
        origin: Origin,
        listener: SessionId,
        cargo: tuple[list[int], Payload],
        keep_over: int = 0,
    ) -> None:
        sizes, payload = cargo
        if function.digest not in worker.known:
            worker.known.add(function.digest)
            worker.process.send(function)
        worker.names.append((command.serial, function.name, listener))
        worker.process.send(
            msg.RunRange(
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

    def _inspect(self, worker: WorkerId, serial: Serial) -> None:
        pages = self._workers[worker].process.pages()
        page = next((page for page in pages if page.serial == serial), PageState())
        self.context.ref.tell(nd.WorkerInspected(worker, serial, page.index, page.started_at))

    def _report_done(self, command: nd.ReportDone) -> None:
        payload = self._payload
        if command.deposits:
            payload = self._sessions[command.session].shelf.keep(command.deposits, payload)
        self.answer(
            command.session,
            msg.RangeDone(
                command.batch,
                command.attempt,
                command.lo,
                command.hi,
                round(command.elapsed_s * 1e6),
                command.worker,
                list(command.retryable),
                self._refs,
                [list(deposit) for deposit in command.deposits],
                payload,
            ),
        )

    def _exit_report(self) -> Report:
        """How the worker ended whose exit is being handled."""
        if self._exit is None:
            return {}
        return {
            "pid": self._exit.pid,
            "signal": self._exit.signal,
            "exit_code": self._exit.exit_code,
            "stderr_tail": self._exit.stderr_tail,
            "oom": self._exit.oom,
            "peak": self._exit.peak_bytes,
            "limit": self._exit.limit_bytes,
        }

    def _report_returned(self, command: nd.ReportReturned) -> None:
        report: Report = {}
        if command.why == "full":
            _, used, limit = self._mind.memory()
            report = {"used": used, "limit": limit}
        elif command.worker is not None:
            report = {"worker": command.worker, **self._exit_report()}
        self.answer(
            command.session,
            msg.RangeReturned(
                command.batch,
                command.attempt,
                command.lo,
                command.hi,
                command.why,
                command.guilty,
                report,
            ),
        )


def _are_resources(wanted: Mapping[str, float]) -> bool:
    """Whether a call can ask for so much beside CPUs."""
    return are_amounts(wanted) and is_share(wanted.get(GPU, 0.0))


async def _tidied(cellar: Cellar) -> None:
    """Tidy it, if it needs that once whoever has asked for it is done, and looks at nothing."""
    if cellar.is_untidy:
        await off_loop(cellar.tidy)
