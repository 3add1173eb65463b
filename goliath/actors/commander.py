"""The Commander: a scheduler actor. It owns the mind that decides and obeys its commands.

It keeps what the mind does not need to know: the encoded parcels, who wants their outcomes,
which node has been told which function, and the refs of the nodes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import field, replace
from itertools import count
from typing import Any, assert_never

from goliath.actors import desk
from goliath.actors.acquaintance import ENVIRONMENTS_KEPT, FUNCTIONS_KEPT, Acquaintance
from goliath.actors.actor import Actor
from goliath.actors.cargo import unpacked
from goliath.actors.cooling import Cooling, StockCooling
from goliath.actors.deposits import (
    DEPOSIT_BYTES,
    Deposit,
    Deposits,
    Taken,
    bytes_to_send,
    nearness,
)
from goliath.actors.deputies import Deputies
from goliath.actors.filesending import Way, send_files
from goliath.actors.glimpse import call_given
from goliath.actors.link import Place
from goliath.actors.neighbours import Guest, soon_in
from goliath.actors.node_info import NodeInfo, RunningCall
from goliath.actors.obituary import obituary
from goliath.actors.outcomes import Setback, Where
from goliath.actors.portal import Poster
from goliath.actors.postmortem import Report
from goliath.actors.ref import AskableRef
from goliath.actors.remoting import Inbound, RemoteRef
from goliath.actors.scrutiny import (
    are_calls,
    are_deposits,
    are_nodes,
    are_numbers,
    are_ranges,
    are_running,
    are_strings,
)
from goliath.actors.shipping import Shipping
from goliath.actors.sightings import Enquiries, Then
from goliath.actors.surroundings import ShippedFile, Surroundings
from goliath.actors.troupe import Troupe
from goliath.core import commands as do, events as ev
from goliath.core.batch import JobOptions
from goliath.core.commands import Command, Verdict
from goliath.core.ids import Attempt, BatchId, JobId, NodeId
from goliath.core.observation import Journal
from goliath.core.policy import Level
from goliath.core.scheduler import Scheduler
from goliath.errors import ProtocolError, SerializationError, TaskCancelledError
from goliath.limits import Limit
from goliath.record import record
from goliath.transport import (
    call_messages as call_msg,
    messages as msg,
    worker_messages as worker_msg,
)
from goliath.transport.keepsakes import Keepsake, recollection
from goliath.transport.message import Message
from goliath.transport.outcomes import encode_outcomes
from goliath.transport.payload import Payload

_STRIKES = frozenset({Verdict.CRASHED, Verdict.TIMED_OUT, Verdict.NODE_DIED, Verdict.FULL})
"""What ends a call that has begun: its owner wants to know with what."""


@record
class _Node:
    id: NodeId
    up: desk.NodeUp
    ref: RemoteRef
    deposits: Deposits
    functions: Acquaintance = field(default_factory=lambda: Acquaintance(FUNCTIONS_KEPT))
    environments: Acquaintance = field(default_factory=lambda: Acquaintance(ENVIRONMENTS_KEPT))
    status: msg.Status | None = None
    limits: list[Limit] = field(default_factory=list)
    heard_at: float = 0.0
    draining: bool = False
    memory: str = "easy"
    way: Way = field(default_factory=Way)
    guest: Guest | None = None  # unless it is embedded


def _described(node: _Node, now: float) -> NodeInfo:
    info = NodeInfo(
        node.id,
        node.up.address,
        node.up.slots,
        alive=True,
        python=node.up.python,
        resources=node.up.resources,
        draining=node.draining,
        limits=node.limits,
        memory=node.memory,
    )
    said = node.status
    if said is None:
        return info
    ago_s = now - node.heard_at
    return replace(
        info,
        busy=said.busy,
        queued=said.queued,
        processes=said.processes,
        used=said.used,
        kept=said.kept,
        memory_used=said.memory.get("used", 0),
        memory_limit=said.memory.get("limit", 0),
        running=[RunningCall(w, pid, name, s + ago_s) for w, pid, name, s in said.running],
        heard_s=ago_s,
    )


class CommanderActor(Actor):
    """See the module's description.

    Args:
        scheduler: the mind.
        addresses: what the Commander was told to use, for `NodeInfo`s of those that are down.
        on_output: called with node, message for whatever workers print.
        on_nodes: called whenever a session begins, fails to or ends, and when nodes join.
        portal: the way into this thread for others.
        troupe: the actors that the user has made.
        on_warning: called with what the user should hear before it becomes an error.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        addresses: Sequence[str],
        *,
        on_output: Callable[[str, msg.Output], None],
        on_nodes: Callable[[desk.NewsOfNodes], None],
        portal: Poster,
        troupe: Troupe | None = None,
        on_warning: Callable[[str], None],
        check: bool = False,
    ) -> None:
        self._deputies = Deputies(self, portal, troupe or Troupe())
        self._portal = portal
        self._shipping = Shipping(self._send_batch)
        self._mind = scheduler
        self._check = check
        self._journal: Journal[ev.Event] = Journal()
        self._jobs: dict[JobId, desk.OpenJob] = {}
        self._parcels: dict[tuple[JobId, int], desk.Parcel] = {}
        self._nodes: dict[NodeId, _Node] = {}
        self._surroundings: dict[str, Surroundings] = {}  # that a node may ask about
        self._troubles: dict[str, str] = dict.fromkeys(addresses, "")
        self._enquiries = Enquiries()
        self._sessions = count(1)
        self._on_output = on_output
        self._on_nodes = on_nodes
        self._on_warning = on_warning
        # What the report being handled brought with it.
        self._payload: Payload = b""
        self._held: Sequence[object] = ()
        self._deposits: dict[int, Deposit] = {}
        self._report: Report | None = None
        self._successor: str | None = None
        self._worker = 0
        self._speaker = ""
        self._broken: Exception | None = None
        self._cooling: Cooling | None = None  # of what is remembered of calls' arguments
        self._on_idle: Callable[[], None] | None = None

    def started(self) -> None:
        """See `Actor.started`."""
        self._stock = StockCooling()

    # -- what it is told ---------------------------------------------------------------

    def receive(self, message: Any) -> Any:  # noqa: C901, PLR0912, PLR0915
        """See `Actor.receive`."""
        match message:  # one arm a message: a table, not a maze
            case desk.NodeHeard(node, said):
                self._on_heard(NodeId(node), said)
            case desk.SubmitParcel(parcel):
                self._parcels[parcel.job, parcel.first] = parcel
                parcel.open_calls = parcel.calls
                nbytes, near = len(parcel.payload), None
                if parcel.deposits:
                    nodes = [node.deposits for node in self._nodes.values()]
                    nbytes += bytes_to_send(parcel.deposits, nodes)
                    near = nearness(parcel.deposits, nodes)
                    if self._cooling is not None:
                        self._cooling.begin()
                self._decide(
                    ev.ParcelSubmitted(parcel.job, parcel.first, parcel.calls, nbytes, near)
                )
            case desk.OpenJob():
                self._jobs[message.job] = message
                self._surroundings[message.surroundings.key] = message.surroundings
                self._decide(ev.JobOpened(message.job, message.options, message.total))
            case desk.ExhaustJob(job):
                self._decide(ev.JobExhausted(job))
            case desk.CancelJob(job, force):
                self._deputies.cancel_job(job, force=force)
                self._decide(ev.JobCancelled(job, force))
            case desk.CancelCall(job, parcel, call, force, recursive):
                if recursive:
                    self._deputies.cancel((job, parcel, call), force=force)
                else:
                    self._deputies.release(job, parcel, (call,))
                self._decide(ev.CallCancelled(job, parcel, call, force))
            case desk.CancelAll():
                for job, opened in list(self._jobs.items()):
                    if not opened.options.actor:  # that lives on, whoever calls
                        self._decide(ev.JobCancelled(job, by_owner=False))
            case desk.NodeUp():
                self._on_up(message)
            case desk.NodeDown(node, _):
                self._on_down(NodeId(node), message)
            case desk.NodeTrouble(address, error):
                self._troubles[address] = str(error)
                self._on_nodes(message)
            case desk.NodeGone(address):
                self._troubles.pop(address, None)
            case desk.NodeWritable(node):
                if node in self._nodes:
                    self._nodes[NodeId(node)].way.writable()
            case desk.FindActors(then, name, namespace):
                self.find_actors(name, namespace, then)
            case desk.KillResident(node, environment, restart):
                self.tell_node(NodeId(node), msg.KillResident(environment, restart))
            case desk.TellWhenIdle(tell):
                self._on_idle = tell
                self._tell_if_idle()
            case desk.BreakDown(error):
                self._broken = error
                self.context.stop()
            case desk.DescribeNodes():
                return self.describe_nodes()
            case _:
                return super().receive(message)
        return None

    def on_timer(self) -> None:
        """See `Actor.on_timer`."""
        self._decide(ev.TimerFired())

    def last_events(self) -> str:
        """See `Actor.last_events`."""
        return self._journal.text()

    def keep_journal(self, error: BaseException) -> str:
        """See `Actor.keep_journal`."""
        from goliath.actors import recording  # both minds: nobody else needs them all

        return recording.keep(self._mind, self._journal, error, checked=self._check)

    def stopping(self) -> None:
        """See `Actor.stopping`: nobody is left waiting for an outcome that cannot come."""
        self._stock.end()
        if self.crash is not None:
            self._broken = obituary("the Commander", self.crash)
        error = self._broken or TaskCancelledError(
            "the Commander was closed before the call had a result"
        )
        for job in self._jobs.values():
            job.owner.on_broken(error)
        self._jobs.clear()
        self._parcels.clear()
        self._enquiries.close()
        if self._cooling is not None:
            self._cooling.end()
        for node in self._nodes.values():
            node.ref.channel.close()
            node.deposits.lose("its Commander was closed")
            if node.guest is not None:
                node.guest.close()

    # -- nodes -------------------------------------------------------------------------

    def _on_up(self, up: desk.NodeUp) -> None:
        node_id = NodeId(f"{up.address}#{next(self._sessions)}")
        me = self.context.ref
        ref = RemoteRef(node_id, up.channel)
        node = _Node(node_id, up, ref, Deposits(node_id, ref.tell, self._portal))
        self._nodes[node_id] = node
        self._troubles.pop(up.address, None)
        up.channel.attach(
            Inbound(
                me,
                heard=lambda message: desk.NodeHeard(node_id, message),
                closed=lambda error: desk.NodeDown(node_id, error),
                writable=lambda: desk.NodeWritable(node_id),
            )
        )
        if not up.embedded:
            node.guest = Guest(up.channel, soon_in(asyncio.get_running_loop()))
            self._cooling = self._cooling or Cooling(recollection)
        self._on_nodes(up)
        self._decide(ev.NodeJoined(node_id, up.slots, up.resources, up.rtt_s))

    def _on_down(self, node_id: NodeId, down: desk.NodeDown) -> None:
        node = self._nodes.pop(node_id, None)
        if node is not None:
            node.way.end()
            if node.guest is not None:
                node.guest.close()
            self._deputies.node_left(node_id)
            self._enquiries.node_left(node_id)
            self._troubles[node.up.address] = str(down.error or "it ended the session")
            self._on_nodes(down)
            self._shipping.take_back_all(node_id)
            node.deposits.lose(
                "the session with it was ended" if down.error is None else "the node was lost"
            )
            self._decide(ev.NodeLost(node_id))

    def _on_heard(self, node_id: NodeId, said: Message) -> None:
        node = self._nodes.get(node_id)
        if node is None:
            return None  # it spoke before it knew that its session was given up
        self._speaker = node_id
        match said:
            case msg.RangeDone():
                return self._on_done(node, said)
            case msg.RangeReturned():
                self._on_returned(node, said)
            case _ if isinstance(said, call_msg.FromCalls):
                try:
                    self._deputies.hear(node_id, said)
                except ProtocolError as exc:
                    return self._accuse(node, str(exc))
            case msg.Output():
                self._on_output(node.up.address, said)
            case _:
                self._on_heard_rarely(node, said)
        return None

    def _on_done(self, node: _Node, said: msg.RangeDone) -> None:
        if said.elapsed_us < 0 or not are_calls(said.retryable, said.lo, said.hi):
            return self._accuse(node, "outcomes of calls that are none of theirs")
        if said.refs and not are_strings(said.refs):
            return self._accuse(node, "refs without their task ids")
        self._payload, self._worker = said.payload, said.worker
        if said.refs:
            self._held = self._deputies.found(node.id, said.worker, said.refs)
        if said.deposits and not self._find_deposits(node, said):
            return self._accuse(node, "big results that it does not have")
        self._decide(
            ev.RangeFinished(
                node.id,
                BatchId(said.batch),
                Attempt(said.attempt),
                said.lo,
                said.hi,
                said.elapsed_us / 1e6,
                tuple(said.retryable),
            )
        )
        self._payload, self._held = b"", ()
        if said.deposits:
            self._deposits = {}
        return None

    def _find_deposits(self, node: _Node, said: msg.RangeDone) -> bool:
        """Take note of the big results of a report; False if it cannot be true."""
        if not are_deposits(said.deposits, said.lo, said.hi, said.payload, keyed=True):
            return False
        along = [size for _, size, key in said.deposits if not key]
        self._payload, pieces = unpacked(said.payload, along)
        for call, size, key in said.deposits:
            if key:
                self._deposits[call] = node.deposits.add(key, size, self._held)
            else:
                self._deposits[call] = node.deposits.add_here(pieces.pop(0) or b"", self._held)
        return True

    def _on_returned(self, node: _Node, said: msg.RangeReturned) -> None:
        if said.why == "adopted":
            return self._on_adopted(node, said)
        if said.guilty != -1 and not said.lo <= said.guilty < said.hi:
            return self._accuse(node, "a call that is to blame for others")
        self._report = said.report
        worker = said.report.get("worker")
        self._worker = worker if isinstance(worker, int) else 0
        self._decide(
            ev.RangeReturned(
                node.id,
                BatchId(said.batch),
                Attempt(said.attempt),
                said.lo,
                said.hi,
                said.why,
                said.guilty,
                bool(said.report.get("oom")),
            )
        )
        self._report = None
        return None

    def _on_adopted(self, node: _Node, said: msg.RangeReturned) -> None:
        """A detached actor is its node's. It is as if a call had returned nothing."""
        if (said.lo, said.hi) != (0, 1):
            return self._accuse(node, "more than one actor adopted at once")
        self._payload, self._worker = encode_outcomes([None], {}, {}), 0
        batch, attempt = BatchId(said.batch), Attempt(said.attempt)
        self._decide(ev.RangeFinished(node.id, batch, attempt, 0, 1, 0.0))
        self._payload = b""
        return None

    def _accuse(self, node: _Node, of: str) -> None:
        """An honest Lieutenant does not say this: end its session."""
        node.ref.channel.close()
        self.context.ref.tell(desk.NodeDown(node.id, ProtocolError(f"it reported {of}")))

    def _on_heard_rarely(  # noqa: C901, PLR0912 - one arm a message: a table, not a maze
        self, node: _Node, said: Message
    ) -> None:
        match said:
            case msg.RangeWaiting(batch, attempt, waiting):
                self._decide(ev.BatchWaits(node.id, BatchId(batch), Attempt(attempt), waiting))
            case msg.Surrendered():
                if not are_ranges(said.ranges):
                    return self._accuse(node, "surrendered ranges that are none")
                self._decide(
                    ev.StealAnswered(
                        node.id,
                        tuple(
                            (BatchId(batch), Attempt(attempt), lo, hi)
                            for batch, attempt, lo, hi in said.ranges
                        ),
                    )
                )
            case call_msg.WorkerLeft(worker):
                self._deputies.worker_left(node.id, worker)
            case msg.NeedFiles(sha256s):
                if not are_strings(sha256s):
                    return self._accuse(node, "files that it needs without their names")
                self.context.run(self._send_files(node, sha256s), "send files")
            case msg.EnvironmentFailed(environment, error, report, successor, payload):
                self._report, self._successor, self._payload = report or None, successor, payload
                gone = bool(report) or successor is not None
                self._decide(ev.EnvironmentBroken(environment, f"on {node.id}: {error}", gone))
                self._report, self._successor, self._payload = None, None, b""
                if not gone and node.environments.discard(environment):
                    # Other jobs may want the same, and then it is tried again.
                    node.ref.tell(msg.ForgetEnvironment(environment))
            case msg.DepositSent():
                if not node.deposits.arrived(said):
                    return self._accuse(node, "a result that nobody has asked for")
            case msg.Actors():
                try:
                    self._enquiries.answered(node.id, said)
                except ProtocolError as exc:
                    return self._accuse(node, str(exc))
            case worker_msg.LetGo() | msg.ArenaGiven():
                if node.guest is not None:
                    node.guest.hear(said)
            case msg.Status():
                try:
                    node.limits = [Limit.from_json(limit) for limit in said.limits]
                except ValueError as exc:
                    return self._accuse(node, str(exc))
                if not are_numbers([*said.kept.values(), *said.memory.values()]):
                    return self._accuse(node, "bytes that are no numbers")
                if not are_running(said.running):
                    return self._accuse(node, "calls that run without what is known of them")
                node.status, node.heard_at = said, self.context.now()
            case msg.Draining():
                self._on_draining(node)
            case msg.MemoryLevel(level):
                if level.upper() not in Level.__members__:
                    return self._accuse(node, "a want of memory of an unknown kind")
                self._decide(ev.NodePressed(node.id, Level[level.upper()]))
                node.memory = level
            case msg.JoinedNodes(nodes):
                if not are_nodes(nodes):
                    return self._accuse(node, "nodes that have joined it, which cannot be")
                via = node.up.address
                places = [Place.of(joined, name, via=via) for joined, name in nodes]
                self._on_nodes(desk.NodesListed(via, places))
            case _:
                pass  # of a newer Lieutenant, or meant for it: nothing we could act on
        return None

    def _on_draining(self, node: _Node) -> None:
        node.draining = True
        self._decide(ev.NodeDraining(node.id))
        node.deposits.drain()
        for order in self._shipping.take_back_all(node.id):
            self._answer_for(order, "unstarted")

    async def _send_files(self, node: _Node, wanted: list[str]) -> None:
        found: dict[str, ShippedFile | None] = dict.fromkeys(wanted)
        # Of jobs that have ended, too: the next one relies on what this node was told for them.
        files = [file for around in self._surroundings.values() for file in around.contents]
        found.update((file.sha256, file) for file in files if file.sha256 in found)
        await send_files(node.ref.channel, found, node.way)

    # -- see `deputies.Office` -----------------------------------------------------------

    def find_job(self, job: JobId) -> desk.OpenJob | None:
        """See `Office.find_job`."""
        return self._jobs.get(job)

    def tell_node(self, node: NodeId, message: Message) -> None:
        """See `Office.tell_node`."""
        if node in self._nodes:
            self._nodes[node].ref.tell(message)

    def me(self) -> AskableRef:
        """See `Office.me`."""
        return self.context.ref

    def later(self, seconds: float, function: Callable[[], None]) -> None:
        """See `Office.later`."""

        async def call() -> None:
            await asyncio.sleep(seconds)
            function()

        self.context.run(call(), "look later")

    def find_actors(self, name: str, namespace: str, then: Then) -> None:
        """See `Office.find_actors`."""
        question = self._enquiries.begin(list(self._nodes), name, namespace, then)
        for node in self._nodes.values():
            node.ref.tell(question)

    def describe_nodes(self) -> list[NodeInfo]:
        """See `Office.describe_nodes`."""
        now = self.context.now()
        infos = [_described(node, now) for node in self._nodes.values()]
        for node in self._nodes.values():
            node.ref.tell(msg.AskStatus())
        # A session that is resumed goes on unseen: attempts that failed before are no news then.
        up = {node.up.address for node in self._nodes.values()}
        infos += [NodeInfo(a, a, error=e) for a, e in self._troubles.items() if a not in up]
        return infos

    # -- decide, then do ---------------------------------------------------------------

    def _decide(self, event: ev.Event) -> None:
        now = self.context.now()
        self._journal.note(now, event)
        commands = self._mind.handle(event, now)
        if self._check:
            self._mind.check()
        for command in commands:
            self._perform(command)

    def _perform(self, command: Command) -> None:  # noqa: C901
        match command:  # one arm a command: a table, not a maze
            case do.Settle():
                self._settle(command)
            case do.Assign():
                self._assign(command)
            case do.Demand(job, batches, calls):
                self._jobs[job].owner.on_demand(batches, calls)
            case do.WakeAt(deadline):
                self.context.wake_at(deadline)
            case do.Fail():
                self._fail(command)
            case do.Steal(victim, wanted):
                self._nodes[victim].ref.tell(msg.StealBatches(wanted))
            case do.CancelOn(node, batch, attempt, force):
                self._cancel_on(node, msg.CancelBatch(batch, attempt, force))
            case do.Warn(job, lacking, left_s):
                self._on_warning(
                    f"{self._jobs[job].function.name} can run on no connected node: {lacking}; "
                    f"its calls fail in {left_s:g} s unless one connects that can"
                )
            case do.JobEnded(job):
                self._end_job(job)
            case do.Abandoned(job_id, verdict, detail):
                setback = Setback(
                    Verdict(verdict),
                    detail,
                    None,
                    self._report,
                    self._speaker,
                    self._successor,
                    self._payload,
                )
                self._jobs[job_id].on_abandoned(setback)
            case _:
                assert_never(command)

    def _cancel_on(self, node: NodeId, order: msg.CancelBatch) -> None:
        waiting = self._shipping.take_back(node, BatchId(order.batch), Attempt(order.attempt))
        if waiting is None:
            self._nodes[node].ref.tell(order)
        else:
            self._answer_for(waiting, "cancelled")

    def _answer_for(self, order: do.Assign, why: str, report: Report | None = None) -> None:
        """Say in the place of a node what it would, had it been sent a batch."""
        said = msg.RangeReturned(order.batch, order.attempt, order.lo, order.hi, why)
        said.report = report or {}
        self.context.ref.tell(desk.NodeHeard(order.node, said))

    def _assign(self, command: do.Assign) -> None:
        parcel = self._parcels[command.job, command.parcel]
        if parcel.deposits or self._shipping:
            in_order = self._jobs[command.job].options.actor
            self._shipping.ship(command, parcel, in_order=in_order)
        else:
            self._send_batch(command, parcel)

    def _send_batch(self, command: do.Assign, parcel: desk.Parcel) -> None:
        try:
            self._send_whole_batch(command, parcel)
        except SerializationError as exc:  # its node would not take it
            self._answer_for(command, "oversized", {"oversized": str(exc)})

    def _send_whole_batch(self, command: do.Assign, parcel: desk.Parcel) -> None:
        node = self._nodes[command.node]
        job = self._jobs[command.job]
        if parcel.deposits:
            self._entrust(node, parcel.deposits)
        deposits, payload = node.deposits.gathered(parcel.deposits, parcel.payload)
        if node.guest is not None:
            payload = node.guest.settled(payload)
        options: JobOptions = job.options
        if not job.resident:
            self._define(node, job)
        if job.detaches is not None:
            node.ref.tell(
                msg.DetachActor(
                    command.batch,
                    command.attempt,
                    job.function.digest,
                    options.environment,
                    parcel.form,
                    dict(job.detaches),
                    deposits,
                    payload,
                )
            )
            return
        node.ref.tell(
            msg.AssignBatch(
                command.batch,
                command.attempt,
                command.lo,
                command.hi,
                job.function.digest,
                options.environment,
                parcel.form,
                command.careful,
                options.timeout_s,
                options.cpus,
                dict(options.resources),
                command.linger_s,
                options.depth,
                options.actor,
                parcel.origin,
                command.concurrency,
                DEPOSIT_BYTES if job.keeps and not node.up.embedded else 0,
                deposits,
                parcel.group,
                options.groups.get(parcel.group, 0),
                job.resident,
                command.alone,
                payload,
            )
        )

    @staticmethod
    def _entrust(node: _Node, taken: Sequence[Taken]) -> None:
        """Give a node to keep what it has not got of this, and is to keep."""
        for each in taken:
            if isinstance(each, Keepsake) and not node.deposits.has(each):
                piece = each.payload()
                if node.guest is not None:
                    piece = node.guest.moved(piece)
                node.deposits.entrust(each, piece)

    @staticmethod
    def _define(node: _Node, job: desk.OpenJob) -> None:
        """Tell a node of what a job needs, if it has not heard of it."""
        if job.function.digest not in node.functions:
            function, payload = job.function, job.function.payload
            if node.guest is not None:
                payload = node.guest.moved(payload)
            node.ref.tell(worker_msg.DefineFunction(function.digest, function.name, payload))
            node.functions.add(function.digest, len(payload))
        if job.surroundings.key not in node.environments:
            node.ref.tell(job.surroundings.message(node.id, embedded=node.up.embedded))
            node.environments.add(job.surroundings.key)

    def _where(self, job: desk.OpenJob, attempt: Attempt, node: str = "") -> Where:
        return Where(job.function.name, node, self._worker, attempt)

    def _settle(self, command: do.Settle) -> None:
        job = self._jobs[command.job]
        where = self._where(job, command.attempt, self._speaker)
        job.owner.on_settled(
            desk.Settled(
                command.parcel,
                command.lo,
                command.hi,
                self._payload,
                command.excepted,
                where,
                self._held,
                self._deposits and self._deposits_of(command),
            )
        )
        self._deputies.release(command.job, command.parcel, range(command.lo, command.hi))
        self._close(command.job, command.parcel, command.hi - command.lo - len(command.excepted))

    def _deposits_of(self, command: do.Settle) -> dict[int, Deposit]:
        """Those of calls that are settled; nobody wants the others."""
        return {
            call: deposit
            for call, deposit in self._deposits.items()
            if command.lo <= call < command.hi and call not in command.excepted
        }

    def _fail(self, command: do.Fail) -> None:
        job = self._jobs.get(command.job)
        if job is None:
            self._parcels.pop((command.job, command.parcel), None)
            return  # a parcel that was on its way when its owner ended its job
        setback = Setback(
            Verdict(command.verdict),
            command.detail,
            job.options.timeout_s,
            self._report,
            call=self._call_given(job, command),
        )
        node = self._speaker if self._report is not None else ""
        where = self._where(job, command.attempt, node)
        job.owner.on_failed(desk.Failed(command.parcel, command.lo, command.hi, setback, where))
        self._close(command.job, command.parcel, command.hi - command.lo)

    def _call_given(self, job: desk.OpenJob, command: do.Fail) -> str:
        """The call that was struck, as text; of an actor's, the first of them."""
        actor = job.options.actor
        if Verdict(command.verdict) not in _STRIKES or not (actor or command.hi - command.lo == 1):
            return ""
        parcel = self._parcels[command.job, command.parcel]
        return call_given(job.function.name, parcel, command.lo, method=actor)

    def _close(self, job: JobId, first: int, calls: int) -> None:
        """So many calls of a parcel are settled; with the last, its arguments are forgotten."""
        parcel = self._parcels[job, first]
        parcel.open_calls -= calls
        if not parcel.open_calls:
            del self._parcels[job, first]

    def _end_job(self, job_id: JobId) -> None:
        job = self._jobs.pop(job_id)
        for key in [key for key in self._parcels if key[0] == job_id]:
            del self._parcels[key]
        self._deputies.job_ended(job_id)
        around = job.surroundings
        used = any(other.surroundings.key == around.key for other in self._jobs.values())
        for node in self._nodes.values():
            if around.private and not used and node.environments.discard(around.key):
                node.ref.tell(msg.ForgetEnvironment(around.key))
        self._forget_surplus()
        job.on_ended()
        self._tell_if_idle()

    def _tell_if_idle(self) -> None:
        if self._on_idle is not None and not self._jobs:
            tell, self._on_idle = self._on_idle, None
            tell()

    def _forget_surplus(self) -> None:
        """What no open job uses is kept for the next one, but not for ever."""
        functions = {job.function.digest for job in self._jobs.values()}
        environments = {job.surroundings.key for job in self._jobs.values()}
        for node in self._nodes.values():
            for digest in node.functions.forget_surplus(functions):
                node.ref.tell(worker_msg.ForgetFunction(digest))
            for key in node.environments.forget_surplus(environments):
                node.ref.tell(msg.ForgetEnvironment(key))
        for key in [key for key in self._surroundings if key not in environments]:
            if not any(key in node.environments for node in self._nodes.values()):
                del self._surroundings[key]
