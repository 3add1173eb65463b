"""A fake Lieutenant: the real mind, fake worker processes, sessions that survive their links."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING, Any

import orjson

from goliath.core import node_events as ev
from goliath.core.crew import ANSWER_MAX_S
from goliath.core.devices import GPU
from goliath.core.ids import HOUSE, Attempt, BatchId, SessionId, WorkerId
from goliath.core.node import Node, NodePolicy
from goliath.core.observation import Journal
from goliath.core.policy import Level
from goliath.transport import messages as msg
from goliath.transport.handshake import KILLS_AFTER
from goliath.transport.message import Message
from goliath.transport.protocol import Side
from tests.sim.endpoint import CONFIG, Endpoint
from tests.sim.ledger import CallRecord, End, JobRecord, Ledger, Violation, require
from tests.sim.link import CLIENT, SERVER, Frame, Link, Route
from tests.sim.plan import Setup
from tests.sim.process import FakeProcess, Outcomes
from tests.sim.tally import Seen
from tests.sim.world import Host, World

if TYPE_CHECKING:
    from goliath.core.work import BatchKey

CANCELLED_WITHIN_S = 5.1  # the promise is 5 s of the node's hearing of it; the rest is the pipe
ANSWERED_WITHIN_S = 1.05 * ANSWER_MAX_S + 0.01  # a steal, by a slow clock, whatever a worker does
DEAD_WITHIN_S = 1.0
UNBORN = 0.05  # how often there is no room for another process, where any die at their start
KILLED_WITHIN_S = 0.03
LEFT_WITHIN_S = 1.0  # after a goodbye that the network does not take
PAUSED_PERCENT, REFUSED_PERCENT = 80, 95  # of memory, unless the policy says otherwise
RESTART_S = 2.0  # after it drained, whoever runs it starts it again


class Lieutenant(Host):
    """One node. It may crash, and come back as another."""

    def __init__(
        self,
        world: World,
        name: str,
        slots: int,
        resources: dict[str, float],
        devices: tuple[str, ...],
        ledger: Ledger,
        deaths_at_start: float,
        depot_bytes: int,
        calls_max: int | None = None,
        bytes_max: int | None = None,
        spill_bytes: int = 0,
    ) -> None:
        super().__init__(world, name)
        self.slots, self.devices = slots, devices
        self.resources = {**resources, GPU: float(len(devices))}
        self._policy = NodePolicy(
            depot_bytes=depot_bytes,
            tasks_per_worker_max=calls_max,
            bytes_per_worker_max=bytes_max,
            spill_bytes=spill_bytes,
        )
        self._calls_max, self._bytes_max = calls_max, bytes_max
        self.node = Node(slots, self.resources, self._policy, devices)
        self.processes: dict[WorkerId, FakeProcess] = {}
        self.up = False
        self.journal: Journal[ev.NodeEvent] = Journal()
        self.incarnation = 0
        self.lease_s = CONFIG.session_kill_s
        self.realms = ("",)  # who have a token here
        self.revoked: set[str] = set()
        self.drain_max_s: float | None = None  # then it ends, whatever runs
        self._exits = False
        self._realms: dict[SessionId, str] = {}
        self._dismissed: set[SessionId] = set()  # are told goodbye, and nothing else
        self._quotas: dict[str, int] = {}
        self._ledger = ledger
        self._deaths_at_start = deaths_at_start
        self._memory_used = 0  # percent
        self._level = Level.EASY
        self._strained_since = 0.0
        self._begun_last: tuple[int, float] = (-1, 0.0)  # while it was: which range, and when
        self._forked: set[WorkerId] = set()  # because of the event at hand
        self._disk = Random(f"disk of {name} of {world.seed}")
        self._sessions: dict[SessionId, Endpoint] = {}
        self._arguments: dict[BatchKey, tuple[str, int]] = {}
        self._events: deque[ev.NodeEvent] = deque()
        self._outcomes: Outcomes = []
        self._oom = False
        self._shelf: dict[tuple[SessionId, int], bytes] = {}  # big results, by session and key
        self._writing: dict[tuple[SessionId, int], int] = {}  # of those to disk, and how big
        self._on_disk: set[tuple[SessionId, int]] = set()
        self._unspilled = False  # one could not be written: what it was to make room for is there
        self._stolen, self._answered = Counter[SessionId](), Counter[SessionId]()
        self._busy = False
        self._wake_at = 0.0

    # -- coming and going ----------------------------------------------------------------

    def boot(self) -> None:
        """Start with empty books."""
        if self.up:
            return
        self.world.note(self.name, "boots")
        self.incarnation += 1
        self.up = True
        self.node = Node(self.slots, self.resources, self._policy, self.devices)
        self.journal = Journal()
        self._exits = False
        self._wake_at = 0.0
        self._quotas = {}
        self._level = Level.EASY
        if self.world.chance(0.2):
            self.world.at(0.001, self._limit, self.incarnation, 3)
        if self._memory_used:
            self.tell(ev.MemoryMeasured(self._memory_used, 100))

    def _limit(self, incarnation: int, changes: int) -> None:
        """The owner of the node changes his mind about how much a token's holders may use."""
        if incarnation != self.incarnation or not self.up:
            return
        if self.asleep(self._limit, incarnation, changes):
            return
        slots = self.world.rng.randint(1, self.slots) if changes else None
        rng, realms = self.world.rng, self.realms
        realm = realms[0] if len(realms) == 1 else rng.choice(realms)
        if realm not in self.revoked:
            self._set_quota(realm, slots)
        if changes:
            self.world.at(self.world.rng.uniform(0.01, 10.0), self._limit, incarnation, changes - 1)

    def squeeze(self, percent: int) -> None:
        """So much of the memory that it could have is used from now on."""
        if self.asleep(self.squeeze, percent):
            return
        self._memory_used = percent
        if self.up:
            self.tell(ev.MemoryMeasured(percent, 100))

    def _set_quota(self, realm: str, slots: int | None) -> None:
        if slots is None:
            self._quotas.pop(realm, None)
        else:
            self._quotas[realm] = slots
            self.world.saw(Seen.QUOTAS)
        self.tell(ev.RealmLimited(realm, slots))

    def revoke(self, realm: str, until: float) -> None:
        """A token is taken out of the file, as `Gatehouse` and `Listener` do, and put back later;
        a host that sleeps does both when it wakes, one after the other."""
        if self.asleep(self.revoke, realm, until):
            return
        self.revoked.add(realm)
        self.world.on(max(until, self.world.now), self._accept, realm)
        self.world.note(self.name, f"revokes the token of {realm!r}")
        self.world.saw(Seen.REVOCATIONS)
        if not self.up:
            return
        for record in self._ledger.residents.values():
            lives_here = record.home == (self.name, self.incarnation)
            record.revocations += lives_here and record.realm == realm
        self._quotas.pop(realm, None)
        self.tell(ev.RealmEnded(realm))
        for session in [each for each in self._sessions if self._realms[each] == realm]:
            end = self._sessions[session]
            self._dismissed.add(session)
            self.world.saw(Seen.REVOKED_SESSIONS)
            self.world.at(DEAD_WITHIN_S, self._must_be_dead, session, self.slept_s)
            # The kill is a call of the kernel, and behind it when the goodbye is written.
            self.world.at(KILLED_WITHIN_S, end.leave)
            self.world.at(LEFT_WITHIN_S, end.end)

    def _accept(self, realm: str) -> None:
        """Its holders have a token again."""
        if not self.asleep(self._accept, realm):
            self.revoked.discard(realm)

    def crash(self) -> None:
        """``kill -9``: its workers go with it."""
        if not self.up:
            return
        self.world.note(self.name, "crashes")
        self.world.saw(Seen.NODE_CRASHES)
        self.up = False
        self.awake_at = self.machine_awake_at = self.world.now
        for process in self.processes.values():
            process.die(End.STOPPED)
        self.processes = {}
        self._arguments.clear()
        self._shelf.clear()
        self._writing.clear()
        self._on_disk.clear()
        self._unspilled = False
        self._events.clear()
        sessions, self._sessions = self._sessions, {}
        for end in sessions.values():
            end.over = True
            if end.link is not None:
                end.link.cut(by=1)

    def drain(self) -> None:
        """SIGTERM."""
        if self.up and not self.asleep(self.drain):
            self.world.saw(Seen.DRAINS)
            self.tell(ev.DrainRequested())
            if self.drain_max_s is not None:
                self.world.at(self.drain_max_s, self._end_now, self.incarnation)

    def _end_now(self, incarnation: int) -> None:
        """It has been drained for too long, or a second SIGTERM comes."""
        if incarnation != self.incarnation or not self.up or self._exits:
            return
        if self.asleep(self._end_now, incarnation):
            return
        self.world.note(self.name, "ends now")
        self.world.saw(Seen.CUT_DRAINS)
        self._exits = True
        for session in list(self._sessions):
            self.tell(ev.SessionClosed(session))
        for end in self._sessions.values():
            self.world.at(KILLED_WITHIN_S, end.leave)
        self.world.at(LEFT_WITHIN_S, self._exit, incarnation)

    # -- the door ------------------------------------------------------------------------

    def on_frame(self, link: Link, frame: Frame) -> None:
        """A step of a login."""
        if not self.up or self.asleep(self.on_frame, link, frame):
            return
        assert isinstance(frame, tuple)
        if frame[0] == "hello":
            link.send(CLIENT, ("challenge",))
        else:
            _, route, wanted, client_seen = frame
            assert isinstance(route, Route)
            self._admit(link, route, wanted, client_seen)

    def on_cut(self, link: Link) -> None:
        """A link went before its login was done."""

    def _admit(self, link: Link, route: Route, wanted: Any, client_seen: Any) -> None:
        if route.realm in self.revoked:
            link.cut(by=SERVER)
            return
        limits = {KILLS_AFTER: self.lease_s}
        end = self._sessions.get(wanted) if wanted else None
        if end is not None and end.attach(link, client_seen, self.now):
            link.send(CLIENT, ("welcome", end.name, end.protocol.seen, limits))
            return
        number = self.world.rng.getrandbits(32)
        session = SessionId(f"{self.name}.{self.incarnation}.{number:08x}")
        config = replace(CONFIG, session_kill_s=self.lease_s)
        end = Endpoint(self, Side.LIEUTENANT, session, route, self, config)
        self._sessions[session] = end
        self._realms[session] = route.realm
        link.send(CLIENT, ("welcome", session, 0, limits))
        end.attach(link, 0, self.now)
        self.tell(ev.SessionOpened(session, route.realm))

    # -- sessions ------------------------------------------------------------------------

    def on_message(self, end: Endpoint, message: Message) -> None:  # noqa: C901 - a table
        """A Commander wants something."""
        session = SessionId(end.name)
        match message:
            case msg.AssignBatch(batch=batch, attempt=attempt):
                key = (session, BatchId(batch), Attempt(attempt))
                job, first = orjson.loads(bytes(message.payload))
                self._arguments[key] = (job, first)
                self.tell(
                    ev.BatchArrived(
                        *key,
                        message.lo,
                        message.hi,
                        message.environment,
                        message.careful,
                        message.timeout_s,
                        message.cpus,
                        message.resources,
                        message.linger_s,
                        message.depth,
                        message.actor,
                        message.concurrency,
                        message.group,
                        message.group_limit,
                        message.resident,
                        message.alone,
                        nbytes=(message.hi - message.lo) * self._ledger.jobs[job].plan.call_bytes,
                    )
                )
            case msg.DetachActor():
                self._on_detach(session, message)
            case msg.KillResident(environment, restart):
                self.tell(ev.ResidentKillArrived(session, environment, restart))
            case msg.CancelBatch(batch=batch, attempt=attempt, force=force):
                self._watch_cancelled(session, attempt, batch)
                self.tell(ev.CancelArrived(session, BatchId(batch), Attempt(attempt), force))
            case msg.StealBatches(count=count):
                self._watch_steal(session)
                self.tell(ev.StealArrived(session, count))
            case msg.DefineEnvironment(environment=environment):
                delay = self.world.rng.choice((0.0, 0.01, 0.5))
                self.world.at(delay, self._set_up, end, session, environment)
            case msg.ForgetEnvironment(environment=environment):
                self.tell(ev.EnvironmentForgotten(session, environment))
            case msg.FetchDeposit(key):
                require((session, key) in self._shelf, f"{self.name} does not keep {key}")
                end.send(msg.DepositSent(key, self._shelf[session, key]))
            case msg.KeepPiece(key, piece):
                self._shelf[session, key] = bytes(piece)
                self.tell(ev.PieceEntrusted(session, key, len(piece)))
            case msg.ForgetDeposits(keys) | msg.ForgetPieces(keys):
                for key in keys:
                    require((session, key) in self._shelf, f"{self.name} forgets {key} twice")
                    del self._shelf[session, key]
                    self._on_disk.discard((session, key))
                self.tell(ev.DepositsForgotten(session, tuple(keys)))
            case _:
                raise AssertionError(f"{self.name} was told {message!r}")

    def _on_detach(self, session: SessionId, said: msg.DetachActor) -> None:
        batch, attempt = BatchId(said.batch), Attempt(said.attempt)
        self._arguments[session, batch, attempt] = (said.environment, 0)
        plan = self._ledger.residents[self._job_of(said.environment).plan.name].plan
        options = plan.request.options
        self.tell(
            ev.DetachArrived(
                session,
                batch,
                attempt,
                said.environment,
                plan.called,
                "",
                plan.get_if_exists,
                options.cpus,
                options.resources,
                options.concurrency,
                plan.max_restarts,
                groups=options.groups,
            )
        )

    def _job_of(self, environment: str) -> JobRecord:
        """Whose it is; of a detached actor that of any life."""
        name = environment.removeprefix("env-")
        return self._ledger.jobs[name if name in self._ledger.jobs else name.rpartition(".")[0]]

    def on_link_lost(self, end: Endpoint) -> None:
        """The Commander will come back, or not."""

    def on_over(self, end: Endpoint) -> None:
        """A session has ended; with it, all its work."""
        session = SessionId(end.name)
        if self._sessions.pop(session, None) is None:
            return
        self.world.note(self.name, f"closes {session}")
        self._shelf = {key: kept for key, kept in self._shelf.items() if key[0] != session}
        self._on_disk = {key for key in self._on_disk if key[0] != session}
        self.tell(ev.SessionClosed(session))
        self.world.at(DEAD_WITHIN_S, self._must_be_dead, session, self.slept_s)

    def _must_be_dead(self, session: SessionId, slept_s: float) -> None:
        for process in self.processes.values():
            for running in process.executions:
                require(
                    running.session != session or self.slept_s > slept_s,
                    f"{running} goes on {DEAD_WITHIN_S} s after its session was closed",
                )

    def _set_up(self, end: Endpoint, session: SessionId, environment: str) -> None:
        if end.over or self.asleep(self._set_up, end, session, environment):
            return
        job = self._job_of(environment)
        if job.plan.setup is Setup.NO_FILES:
            self.tell(ev.EnvironmentBroke(session, environment, "disk full"))
        else:
            self.tell(ev.EnvironmentReady(session, environment))

    def _watch_cancelled(self, session: SessionId, attempt: int, batch: int) -> None:
        before = (self.incarnation, self.slept_s)
        self.world.at(CANCELLED_WITHIN_S, self._must_be_over, session, attempt, batch, before)

    def _must_be_over(
        self, session: SessionId, attempt: int, batch: int, before: tuple[int, float]
    ) -> None:
        if (self.incarnation, self.slept_s) != before:
            return
        for worker in self.node._crew.units():
            process = self.processes.get(worker.id)
            if worker.piece is None or process is None or not process.runs(worker.serial):
                continue
            if worker.piece.work.key != (session, batch, attempt):
                continue
            hears_at = process.goes_on_at + CANCELLED_WITHIN_S
            if process.is_actor and hears_at > self.world.now:
                # It cannot be interrupted before, and for one of its calls nobody kills it.
                self.world.on(hears_at, self._must_be_over, session, attempt, batch, before)
                continue
            raise Violation(f"{worker.piece} was cancelled {CANCELLED_WITHIN_S} s ago and runs")

    def _watch_steal(self, session: SessionId) -> None:
        self._stolen[session] += 1
        before = (self.incarnation, self.slept_s)
        deadline = self.world.now + ANSWERED_WITHIN_S
        self.world.on(deadline, self._must_be_answered, session, self._stolen[session], before)

    def _must_be_answered(self, session: SessionId, steals: int, before: tuple[int, float]) -> None:
        # Who was dismissed, or left by a node that ends, hears of everything that he had there.
        waits = session in self._sessions and session not in self._dismissed and not self._exits
        if (self.incarnation, self.slept_s) == before and waits:
            answered = self._answered[session]
            require(answered >= steals, f"steal {steals} of {session} waits for its answer")

    # -- the mind ------------------------------------------------------------------------

    def from_process(self, process: FakeProcess, event: ev.NodeEvent, outcomes: Outcomes) -> None:
        """A worker says something, or is no more."""
        if self.processes.get(process.worker) is not process:
            return
        if self.asleep(self.from_process, process, event, outcomes):
            return
        if isinstance(event, ev.WorkerExited):
            del self.processes[process.worker]
        if isinstance(event, ev.WorkerProgressed) and self._bytes_max is not None:
            process.outgrown |= event.resident_bytes > self._bytes_max and not process.is_actor
        self._outcomes, self._oom = outcomes, process.oom
        self.tell(event)
        self._outcomes, self._oom = [], False

    def tell(self, event: ev.NodeEvent) -> None:
        """Tell the mind, and do as it says."""
        self._events.append(event)
        if self._busy:
            return
        self._busy = True
        while self._events:
            event = self._events.popleft()
            self.world.count_step()
            self.journal.note(self.now, event)
            if self.world.trace is not None:
                self.world.note(self.name, event)
            self._forked.clear()
            for command in self.node.handle(event, self.now):
                self._perform(command)
            self.node.check()
            if self._shelf:
                self._check_depot()
            if self._quotas:
                self.world.saw(Seen.QUOTA_WAITS, self._quota_holds_up())
        self._busy = False

    def _perform(self, command: ev.NodeCommand) -> None:  # noqa: C901, PLR0912, PLR0915 - a table
        if self.world.trace is not None:
            self.world.note(self.name, f"    {command!r}")
        match command:
            case ev.ReportDone():
                self._report_done(command)
            case ev.Run(worker=worker):
                process = self.processes[worker]
                calls = self._calls(command)
                require(
                    not process.outgrown, f"{process.worker} is too big, and is given {command}"
                )
                self._check_quota(command, process)
                self.world.saw(Seen.COROUTINES, command.concurrent and process.busy)
                self._check_solitude(command)
                self._check_pressure(command)
                process.run(command, calls)
            case ev.NodeWakeAt(deadline):
                self._wake(deadline)
            case ev.ReportReturned():
                self.world.saw(Seen.REFUSED, command.why == "full")
                self._say(
                    command.session,
                    msg.RangeReturned(
                        command.batch,
                        command.attempt,
                        command.lo,
                        command.hi,
                        command.why,
                        command.guilty,
                        {"oom": self._oom and command.why == "crashed"},
                    ),
                )
            case ev.ReportWaiting(session, batch, attempt, waiting):
                self._say(session, msg.RangeWaiting(batch, attempt, waiting))
            case ev.RefuseWait():
                raise AssertionError("so many calls never wait here")
            case ev.ReportSurrendered(session, asked, ranges):
                self._answered[session] += 1
                self._count_stolen(session, ranges)
                self._say(session, msg.Surrendered(asked, [list(r) for r in ranges]))
            case ev.Fork(worker, _, environment):
                self._forked.add(worker)
                self._fork(worker, environment)
            case ev.SplitRange(worker, serial, keep):
                self.world.saw(Seen.SPLITS, keep > 0)
                self._order(worker, "split", serial, keep)
            case ev.FlushRange(worker, serial):
                self._order(worker, "flush", serial)
            case ev.InterruptRange(worker, serial, index):
                self._order(worker, "interrupt", serial, index)
            case ev.Inspect(worker, serial):
                page = self.processes[worker].page(serial)
                self._events.append(ev.WorkerInspected(worker, serial, *page))
            case ev.Kill(worker) | ev.Retire(worker):
                self.processes[worker].doomed = True
                delay = self.world.rng.choice((0.0005, KILLED_WITHIN_S))
                self.world.at(delay, self.processes[worker].die, End.STOPPED)
            case ev.ReportEnvironmentBroken(session, environment, error, successor):
                self._say(session, msg.EnvironmentFailed(environment, error, {}, successor))
            case ev.Adopt(session, batch, attempt, environment):
                del self._arguments[session, batch, attempt]
                record = self._ledger.residents[self._job_of(environment).plan.name]
                require(record.home is None, f"{environment} was adopted twice")
                record.home = (self.name, self.incarnation)
                record.realm = self._realms[session]
                self.world.saw(Seen.DETACHED)
            case ev.Succeed(environment, successor):
                require(environment != successor, f"{environment} succeeds itself")
            case ev.Evict(environment, why):
                name = self._job_of(environment).plan.name
                self._ledger.evicted(name, why, draining=self.node._queues.draining)
            case ev.Release(session, batch, attempt):
                if session != HOUSE:
                    del self._arguments[session, batch, attempt]
            case ev.Spill(session, key):
                self._spill(session, key)
            case ev.AnnouncePressure(level, used, limit):
                self._watch_pressure(Level(level))
                for end in self._sessions.values():
                    end.send(msg.MemoryLevel(Level(level).name.lower(), used, limit))
            case ev.AnnounceDraining():
                for end in self._sessions.values():
                    end.send(msg.Draining())
            case ev.Drained():
                if self._exits:
                    return  # it does not wait for that any more
                self._exits = True
                results = [place for place in self._shelf if place[1] > 0]
                require(not results, f"{self.name} leaves with {results}")
                for end in self._sessions.values():
                    end.leave()
                self.world.at(1.0, self._exit, self.incarnation)

    def _count_stolen(
        self, session: SessionId, ranges: tuple[tuple[BatchId, Attempt, int, int], ...]
    ) -> None:
        running = [unit.piece for unit in self.node._crew.units() if unit.piece is not None]
        ends = {(piece.work.key, piece.hi) for piece in running}
        rests = sum(((session, batch, attempt), lo) in ends for batch, attempt, lo, _ in ranges)
        self.world.saw(Seen.STOLEN_RUNNING, rests)
        self.world.saw(Seen.STOLEN_WAITING, len(ranges) - rests)

    def _quota_holds_up(self) -> bool:
        """Whether calls wait although slots are free, since their token's part is used up."""
        sessions = self.node._queues.sessions
        waiting = any(sessions[each].queue for each in self.node._quotas.exhausted())
        return waiting and self.node.load()[0] < self.slots

    def _check_quota(self, order: ev.Run, process: FakeProcess) -> None:
        """One more process may be given work only while the quota of its token's holders has room,
        or if they have nothing else. What was given before a quota was lowered may end."""
        if not self._quotas or process.is_actor:
            return
        worker = self.node._crew.workers[order.worker]
        before = any(serial < order.serial for serial in worker.lanes)
        if before or order.serial == worker.ahead_serial:
            return  # it counts already
        realm = self._realm_of(process)
        quota = self._quotas.get(realm)
        if quota is None:
            return
        held = sum(
            max(1.0, each.cpus)
            for each in self.processes.values()
            if each.busy
            and not each.doomed
            and not each.is_actor
            and self._realm_of(each) == realm
            and not any(unit.waiting for unit in self.node._crew.workers[each.worker].units)
        )
        require(
            not held or held + max(1.0, process.cpus) <= quota,
            f"{self.name} runs calls that take {held} for the holders of {realm!r}, who may use "
            f"{quota}, and gives worker {process.worker} to another one",
        )

    def _realm_of(self, process: FakeProcess) -> str:
        return self._realms[self.node._crew.workers[process.worker].session]

    def _report_done(self, command: ev.ReportDone) -> None:
        outcomes = dict(self._outcomes)
        for call, size, key in command.deposits:
            if key:
                value = orjson.dumps(outcomes[call]).ljust(size)
                self._shelf[command.session, key] = value
        self._say(
            command.session,
            msg.RangeDone(
                command.batch,
                command.attempt,
                command.lo,
                command.hi,
                int(command.elapsed_s * 1e6),
                command.worker,
                list(command.retryable),
                deposits=[list(deposit) for deposit in command.deposits],
                payload=orjson.dumps(self._outcomes),
            ),
        )

    def _spill(self, session: SessionId, key: int) -> None:
        """Write a result to disk, which takes a while, or cannot be done."""
        place = (session, key)
        require(place in self._shelf, f"{self.name} is to write {key}, which it does not keep")
        require(place not in self._writing, f"{self.name} is to write {key} twice at once")
        require(place not in self._on_disk, f"{self.name} is to write {key}, which is on disk")
        self._writing[place] = len(self._shelf[place])
        delay_s, failed = self._disk.choice((0.0, 0.01, 1.0)), self._disk.random() < 0.1
        self.world.at(delay_s, self._spilled, place, failed, self.incarnation)

    def _spilled(self, place: tuple[SessionId, int], failed: bool, incarnation: int) -> None:
        if incarnation != self.incarnation or not self.up:
            return
        if self.asleep(self._spilled, place, failed, incarnation):
            return
        del self._writing[place]
        self._unspilled |= failed
        self.world.saw(Seen.UNSPILLED if failed else Seen.SPILLS)
        if place in self._shelf and not failed:
            self._on_disk.add(place)
        self.tell(ev.DepositSpilled(*place, failed))

    def _check_depot(self) -> None:
        """Neither memory nor disk have more than they may; of memory, results do not: what a
        Commander entrusts is kept in any case."""
        places = self._on_disk | self._writing.keys()
        resting = [place for place in self._shelf if place not in places]
        kept = sum(len(self._shelf[place]) for place in resting if place[1] > 0)
        limit = self._policy.depot_bytes
        require(kept <= limit or self._unspilled, f"{self.name} keeps {kept} bytes in memory")
        written = sum(len(self._shelf[place]) for place in self._on_disk)
        written += sum(self._writing.values())
        require(written <= self._policy.spill_bytes, f"{self.name} keeps {written} bytes on disk")

    def _watch_pressure(self, level: Level) -> None:
        if level is not Level.EASY and self._level is Level.EASY:
            self._strained_since, self._begun_last = self.now, (-1, 0.0)
            self.world.saw(Seen.STRAINS)
        self._level = level
        self._ledger.memory_was_full |= level is Level.FULL

    def _check_pressure(self, order: ev.Run) -> None:
        """While memory is short, nothing begins beside what runs, but for calls of living actors,
        and now and then one that has waited for long."""
        level, used, _ = self.node.memory()
        least = (used > PAUSED_PERCENT) + (used > REFUSED_PERCENT)
        require(level >= least, f"{self.name} is {level!r} at {used} %")
        worker = self.node._crew.workers[order.worker]
        if level is Level.EASY or (worker.actor and worker.id not in self._forked):
            return
        require(order.serial != worker.ahead_serial, f"{order} is put ahead for want of memory")
        last, begun_at = self._begun_last
        patience_s = self._policy.strain_patience_s
        running = [
            unit
            for unit in self.node._crew.units()
            if unit.piece is not None and not unit.waiting and unit.serial != order.serial
        ]
        if any(not unit.actor or unit.serial == last for unit in running):
            late = self.now >= self._strained_since + patience_s
            again = self.now >= begun_at + patience_s
            lingers = any(unit.serial == last for unit in running)
            require(late and (again or not lingers), f"{order} begins beside {running}")
        self._forked.discard(order.worker)  # what its actor runs besides is run by a living one
        self._begun_last = (order.serial, self.now)
        self.world.saw(Seen.STRAINED_BEGINS)

    def _check_solitude(self, order: ev.Run) -> None:
        """A call that is to run alone begins beside no other of its Commander, or after a long
        wait; and beside it begins only what it may wait for."""
        work = self.node._queues.works.get((order.session, order.batch, order.attempt))
        if work is None or work.actor:
            return
        late = self.now >= work.since + self._policy.alone_patience_s
        for unit in self.node._crew.units():
            if unit.piece is None or unit.waiting or unit.actor or unit.serial == order.serial:
                continue
            other = unit.piece.work
            if other.session != work.session:
                continue  # it may have been starved
            require(not work.alone or late, f"{order} beside {unit.piece}")
            require(not other.alone or work.depth > other.depth, f"{order} beside {unit.piece}")

    def _say(self, session: SessionId, message: Message) -> None:
        self._sessions[session].send(message)

    def _calls(self, order: ev.Run) -> dict[int, CallRecord]:
        if order.session == HOUSE:
            environment = self.node._crew.workers[order.worker].environment
            return {0: self._ledger.making(self._job_of(environment).plan.name)}
        job, first = self._arguments[order.session, order.batch, order.attempt]
        calls = self._ledger.jobs[job].calls
        return {i: calls[first + i] for i in range(order.lo, order.hi)}

    def _fork(self, worker: WorkerId, environment: str) -> None:
        job = self._job_of(environment)
        process = FakeProcess(self, self._ledger, worker, job, self.from_process, self._calls_max)
        process.grows = self._bytes_max is not None
        self.processes[worker] = process
        if self._deaths_at_start and self.world.chance(UNBORN):
            process.miscarry()
            return
        process.start(dies=self.world.chance(self._deaths_at_start))

    def _order(self, worker: WorkerId, name: str, *args: object) -> None:
        process = self.processes[worker]
        obey: Callable[..., None] = getattr(process, name)
        process.order(obey, *args)

    def _exit(self, incarnation: int) -> None:
        if self.incarnation == incarnation:
            self.crash()
            self.world.at(RESTART_S, self.boot)

    def _wake(self, deadline: float) -> None:
        if deadline == self._wake_at:
            return
        self._wake_at = deadline
        self.on(deadline, self._fire, deadline, self.incarnation)

    def _fire(self, deadline: float, incarnation: int) -> None:
        if (deadline, incarnation) != (self._wake_at, self.incarnation) or not self.up:
            return
        if not self.asleep(self._fire, deadline, incarnation):
            self._wake_at = 0.0
            self.tell(ev.NodeTimerFired())
