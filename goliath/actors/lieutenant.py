"""The Lieutenant: a node actor. It owns the node's mind, the zygote, the workers, the sessions.

Commanders are refs to it as it is to them, over whatever channel; payloads pass through it
unread. Its worker processes are its children under supervision: temporary ones, because
only the mind knows whether a dead one has to be replaced.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, assert_never

from goliath.actors.actor import Actor
from goliath.actors.bulletin import Bulletin
from goliath.actors.cellar import Cellar
from goliath.actors.children import WorkerChild, ZygoteChild
from goliath.actors.cooling import StockCooling
from goliath.actors.employee import Employee
from goliath.actors.guest import Guest
from goliath.actors.memory_watch import MemoryWatch
from goliath.actors.neighbours import soon_in
from goliath.actors.nursery import Nursery
from goliath.actors.occupancy import Measured, Occupancy
from goliath.actors.outfit import outfit
from goliath.actors.postmortem import Report
from goliath.actors.premises import Furnished, Premises, off_loop
from goliath.actors.process import ExitReport
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
from goliath.actors.residence import Residence
from goliath.actors.scrutiny import are_calls, are_deposits, are_strings
from goliath.actors.shelf import Shelf
from goliath.actors.spec import INITIALIZER
from goliath.actors.supervisor import Child, Exit
from goliath.actors.vitals import PROBE_MAX_BYTES, vitals
from goliath.actors.workshop import Workshop
from goliath.core import node_events as nd
from goliath.core.ids import HOUSE, Attempt, BatchId, Serial, SessionId, WorkerId
from goliath.core.node import Node
from goliath.core.observation import Journal
from goliath.core.policy import Level
from goliath.errors import LocalError, ProtocolError, SerializationError, size_text
from goliath.limits import Limit
from goliath.transport import (
    call_messages as call_msg,
    messages as msg,
    worker_messages as worker_msg,
)
from goliath.transport.channel import Channel
from goliath.transport.message import Message
from goliath.transport.payload import Payload

NESTING_MODULES = ("goliath.remote_function", "goliath.refs", "goliath.actors.nested")
"""What every worker imports whose calls make calls: 40 ms, unless it is forked with them."""

_CONSEQUENCES = {
    Level.EASY: "all goes on",
    Level.STRAINED: "no call begins while another one runs",
    Level.FULL: "no call begins while another one runs, no big argument is taken or result kept",
}

_log = logging.getLogger("goliath.lieutenant")


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
        self._arena_bytes = arena_bytes
        self._shares = shares
        self._mind = mind
        self._nursery = nursery
        self._premises = Premises(workshop, self, files_max_bytes)
        self._on_drained = on_drained
        self._cellar = cellar
        self._tidying = False
        self._watch = None if occupancy is None else self._watch_over(occupancy)
        self._level = Level.EASY  # as the log knows it
        self._check = check
        self._journal: Journal[nd.NodeEvent] = Journal()
        self._guests: dict[SessionId, Guest] = {}
        self._workers: dict[WorkerId, Employee] = {}
        self._residence = Residence()
        self._bulletin = Bulletin(mind, self._workers, self._residence, cellar, limits)
        self._joined: dict[str, list[list[str]]] = {}  # the nodes that wait here, by realms
        self._draining = False
        # What the report being handled brought with it.
        self._payload: Payload = b""
        self._refs: list[str] = []
        self._exit: ExitReport | None = None

    def started(self) -> None:
        """See `Actor.started`."""
        self._stock = StockCooling()
        if self._cellar is not None:
            soon = soon_in(asyncio.get_running_loop())
            self._cellar.attend(lambda: soon(self._tidy_cellar))
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
                for session in list(self._guests):
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
        for guest in self._guests.values():
            guest.ref.channel.close()
            guest.unfurnish()

    # -- sessions ----------------------------------------------------------------------

    def _on_session_up(self, session_id: SessionId, channel: Channel, realm: str) -> None:
        guest = Guest(session_id, RemoteRef(session_id, channel), realm)
        # Half of what is left for all, so that there is some for the next.
        taken = sum(g.holding.limit for g in self._guests.values() if g.holding is not None)
        guest.furnish((self._arena_bytes - taken) // 4, self._mind.slots, shares=self._shares)
        self._guests[session_id] = guest
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
            guest.ref.tell(msg.JoinedNodes(joined))

    def _on_nodes_joined(self, realm: str, nodes: list[list[str]]) -> None:
        self._joined[realm] = nodes
        for guest in self._guests.values():
            if guest.realm == realm:
                guest.ref.tell(msg.JoinedNodes(nodes))

    def _on_session_down(self, session_id: SessionId) -> None:
        guest = self._guests.pop(session_id, None)
        if guest is not None:
            guest.unfurnish()
            self.decide(nd.SessionClosed(session_id))
            self._premises.close(session_id)
            self._forget_patron(session_id)
            self._resume_output(session_id)

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

    def _on_session_heard(self, session_id: SessionId, said: Message) -> None:
        guest = self._guests.get(session_id)
        if guest is None:
            return
        try:
            event = self._heard(guest, said)
        except ProtocolError as exc:
            # An honest Commander does not do this: end its session.
            _log.warning("ended a session: its Commander sent %s", exc)
            guest.ref.channel.close()
            self.context.ref.tell(SessionDown(session_id, exc))
            return
        if event is not None:
            self.decide(event)

    def _heard(  # noqa: C901, PLR0912 - one arm a message: a table, not a maze
        self, guest: Guest, said: Message
    ) -> nd.NodeEvent | None:
        """Do as a Commander says, as far as it is not for the mind; what that is to hear."""
        match said:
            case msg.AssignBatch():
                return guest.assign(said, furnished=self._is_furnished(guest, said.environment))
            case msg.CancelBatch(batch, attempt, force):
                return nd.CancelArrived(guest.id, BatchId(batch), Attempt(attempt), force)
            case msg.StealBatches(wanted):
                return nd.StealArrived(guest.id, wanted)
            case worker_msg.DefineFunction():
                guest.define(said)
            case worker_msg.ForgetFunction(digest):
                guest.forget_function(digest)
                for worker in self._workers.values():
                    if worker.session == guest.id:
                        worker.forget_function(digest)
            case msg.DefineEnvironment():
                self._premises.define(guest.id, said)
            case msg.FileData():
                self._premises.receive(guest.id, said)
            case msg.ForgetEnvironment(environment):
                self._premises.forget(guest.id, environment)
            case worker_msg.RefEnded():
                self._on_ref_ended(guest, said)
            case msg.FetchDeposit(key):
                guest.ref.tell(msg.DepositSent(key, guest.kept(key)))
            case msg.KeepPiece():
                return guest.entrust(said)
            case msg.ForgetDeposits() | msg.ForgetPieces():
                return guest.forget(said)
            case msg.DetachActor():
                return guest.detach(said, furnished=self._is_furnished(guest, said.environment))
            case msg.KillResident(environment, restart):
                return nd.ResidentKillArrived(guest.id, environment, restart)
            case msg.AskActors(request):
                actors = self._bulletin.actors(guest.id, said, self.context.now())
                guest.ref.tell(msg.Actors(request, actors))
            case worker_msg.LetGo() | msg.ProposeArena() | msg.ArenaMapped():
                if guest.host is not None:
                    guest.host.hear(said)
            case msg.AskStatus():
                now = self.context.now()
                guest.ref.tell(self._bulletin.status(guest.id, now, draining=self._draining))
            case msg.AskVitals():
                guest.ref.tell(vitals())
            case msg.Probe(request, size):
                if not 0 <= size <= PROBE_MAX_BYTES:
                    raise ProtocolError("an echo of a size that cannot be")
                if not guest.ref.channel.congested:  # one who does not read is not given more
                    guest.ref.tell(msg.Echo(request, os.urandom(size)))
            case _:
                pass  # of a newer Commander: nothing we could act on
        return None

    def _is_furnished(self, guest: Guest, environment: str) -> bool:
        return self._premises.find(guest.id, environment) is not None

    def _on_ref_ended(self, guest: Guest, said: worker_msg.RefEnded) -> None:
        if said.deposit:
            said.payload, said.deposit = guest.kept(said.deposit), 0
        worker = self._workers.get(WorkerId(said.worker))
        if worker is None:
            return
        if guest.id in worker.patrons.values():
            # They may call different things the same.
            said.worker = self._residence.patron(guest.id)
            worker.process.control(said)
        elif worker.session == guest.id:
            worker.process.control(said)

    # -- see `Landlord` -----------------------------------------------------------------

    def answer(self, session: SessionId, message: Message) -> None:
        """Tell a Commander, if it is still there."""
        guest = self._guests.get(session)
        if guest is None:
            return
        try:
            guest.ref.tell(message)
        except SerializationError as exc:
            self._refuse(guest, message, str(exc))

    def _refuse(self, guest: Guest, message: Message, why: str) -> None:
        """What is too big to be sent is no reason to end, but for whom it was."""
        _log.warning("what %s was to be told is too big: %s", guest.id, why)
        if isinstance(message, msg.RangeDone):
            said = msg.RangeReturned(
                message.batch, message.attempt, message.lo, message.hi, "oversized"
            )
            said.report = {"oversized": why, "worker": message.worker}
            guest.ref.tell(said)
        else:
            guest.ref.channel.close()
            self.context.ref.tell(SessionDown(guest.id, SerializationError(why)))

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
        guest = self._guests.get(known.listener)
        if guest is not None:
            guest.ref.tell(msg.Output(stream, known.function, worker, data))
            if guest.ref.channel.congested:
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
            case worker_msg.Progress():
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
            case worker_msg.Waiting(serial, waiting):
                self.decide(nd.WorkerWaits(worker_id, Serial(serial), waiting))
            case worker_msg.Yielded(serial, at):
                self.decide(nd.RestYielded(worker_id, Serial(serial), at))
            case worker_msg.WorkerReady(error):
                self.decide(nd.WorkerStarted(worker_id, error))
            case _ if isinstance(said, call_msg.FromCalls):
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

    def _on_lodger_asks(self, worker: Employee, said: call_msg.FromCalls) -> None:
        """Code in a detached actor asks something of the Commander whose call it belongs to."""
        patron, said.worker = said.worker, worker.child.worker
        session = worker.patrons.get(patron)
        if isinstance(said, call_msg.LeaveActor):
            self.decide(nd.ResidentLeaves(worker.child.worker))
        elif session in self._guests:
            self._pass_on(worker, session, said)
        else:
            worker.process.control(worker_msg.PatronLeft(patron))

    def _pass_on(self, worker: Employee, session: SessionId, said: Message) -> None:
        """To its Commander, and no faster than he takes it."""
        self.answer(session, said)
        guest = self._guests.get(session)
        if guest is not None and guest.ref.channel.congested:
            worker.process.pause_calls()

    def _forget_patron(self, session: SessionId) -> None:
        """A Commander is gone: whoever waits for an answer of his waits in vain."""
        patron = self._residence.leave(session)
        for worker in self._workers.values():
            if patron is not None and worker.patrons.pop(patron, None) is not None:
                worker.process.control(worker_msg.PatronLeft(patron))

    def _on_worker_gone(self, worker: WorkerId, report: ExitReport) -> None:
        self._exit = report
        others = tuple((Serial(page.serial), page.index) for page in report.others)
        serial, index = Serial(report.page.serial), report.page.index
        self.decide(nd.WorkerExited(worker, serial, index, others, unborn=report.pid is None))
        self._exit = None
        known = self._workers.pop(worker, None)
        if known is not None and known.nests:
            for session in (known.session, *known.patrons.values()):
                self.answer(session, call_msg.WorkerLeft(worker))

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
                if session in self._guests:
                    self._guests[session].release(batch, attempt)
            case nd.NodeWakeAt(deadline):
                self.context.wake_at(deadline)
            case nd.Fork():
                self._fork(command)
            case nd.FlushRange(worker, serial):
                self._workers[worker].process.control(worker_msg.Flush(serial))
            case nd.SplitRange(worker, serial, keep):
                self._workers[worker].process.control(worker_msg.Split(serial, keep))
            case nd.InterruptRange(worker, serial, index):
                self._workers[worker].process.control(worker_msg.Interrupt(serial, index))
            case nd.Inspect(worker, serial):
                page = self._workers[worker].page(serial)
                seen = nd.WorkerInspected(worker, serial, page.index, page.started_at)
                self.context.ref.tell(seen)
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
                self._workers[worker].process.control(worker_msg.RefuseWait(serial))
            case nd.ReportSurrendered(session, asked, ranges):
                self.answer(session, msg.Surrendered(asked, [list(r) for r in ranges]))
            case nd.ReportEnvironmentBroken(session, environment, error, successor, raised):
                report = self._exit_report()
                payload = self._payload if raised else b""
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
                shelf = self._guests[session].shelf
                self.context.run(self._spill(session, shelf, key), "spill")
            case nd.AnnouncePressure():
                self._announce_pressure(command)
            case nd.AnnounceDraining():
                for session in self._guests:
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

    def _tidy_cellar(self) -> None:
        if self._cellar is not None and not self._tidying:
            self._tidying = True
            self.context.run(self._tidied(self._cellar), "tidy the cellar")

    async def _tidied(self, cellar: Cellar) -> None:
        try:
            while cellar.is_untidy:  # more may have been let go of meanwhile
                await off_loop(cellar.tidy)
        finally:
            self._tidying = False

    def _watch_over(self, occupancy: Occupancy) -> MemoryWatch:
        def users() -> tuple[list[int], list[int]]:
            arenas = [g.holding.arena.fd for g in self._guests.values() if g.holding is not None]
            return [worker.process.pid or 0 for worker in self._workers.values()], arenas

        return MemoryWatch(occupancy, self._mind, users, lambda seen: self.context.ref.tell(seen))

    def _announce_pressure(self, command: nd.AnnouncePressure) -> None:
        level, now = Level(command.level), Measured(command.used_bytes, command.limit_bytes)
        said = msg.MemoryLevel(level.name.lower(), now.used, now.limit)
        for session in self._guests:
            self.answer(session, said)
        if level is not self._level:  # or somebody has logged in
            self._level = level
            amount = f"{size_text(now.used)} of {size_text(now.limit)}"
            _log.warning("%s of memory are used: %s", amount, _CONSEQUENCES[level])

    def _adopt(self, command: nd.Adopt) -> None:
        lodger = self._guests[command.session].detaching.pop((command.batch, command.attempt))
        lodger.maker = command.session
        self._premises.adopt(command.session, command.environment)
        self._residence.adopt(command.environment, lodger, self.context.now())

    def _fork(self, command: nd.Fork) -> None:
        environment = self._premises.find(command.session, command.environment)
        assert environment is not None, f"{command} names an environment that was forgotten"
        guest = self._guests.get(command.session)
        tenancy = guest.holding.let() if guest is not None and guest.holding else None
        cwd = self._premises.directory(command.session, environment)
        has_devices = bool(self._mind.devices)
        spec = outfit(command, environment, cwd, tenancy, has_devices=has_devices)
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
        worker = Employee(child, command.session, command.environment)
        self._workers[command.worker] = worker
        if self._watch is not None and not self._watch.running:
            self._watch.running = True
            self.context.run(self._watch.keep(), "watch memory")
        if command.session == HOUSE:
            worker.lodger = self._residence[command.environment]
        if environment.message.initializer:
            process.send(
                worker_msg.DefineFunction(INITIALIZER, INITIALIZER, environment.message.payload)
            )

    def _run(self, command: nd.Run) -> None:
        worker = self._workers.get(command.worker)
        if worker is None:
            return  # it could not be started; that it is gone will be heard next
        if command.session == HOUSE:
            lodger = worker.lodger
            assert lodger is not None, f"{command} is the node's own, and of no actor"
            maker, lodger.maker = lodger.maker, HOUSE  # later lives are not printed for him
            worker.hand(command, lodger.function, lodger.making, [], maker, lodger.cargo)
            return
        guest = self._guests[command.session]
        batch = guest.batches[command.batch, command.attempt]
        function, origin = guest.functions.get(batch.function), batch.origin
        if worker.lodger is not None:
            patron = self._residence.patron(guest.id)
            worker.patrons[patron] = guest.id
            function, origin = worker.lodger.function, [*origin[:4], patron]
        assert function is not None, f"{batch} was taken on without its function"
        cargo = guest.shelf.cargo(batch)
        worker.hand(command, function, batch, origin, guest.id, cargo, batch.keep_over)

    def _report_done(self, command: nd.ReportDone) -> None:
        payload = self._payload
        if command.deposits:
            payload = self._guests[command.session].shelf.keep(command.deposits, payload)
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
        return self._exit.to_report() if self._exit is not None else {}

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
