"""Does in the Commander's process what calls in workers ask for: more calls, their results.

A worker names things by task ids. What it holds is held here for it, until it says that it
does not any more, or is gone. All of this lives in the loop's thread.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Protocol
from weakref import ReferenceType, WeakValueDictionary, finalize, ref as weak

import orjson

from goliath.actors import desk, object_ref, streams
from goliath.actors.blueprint import Blueprint
from goliath.actors.deputy import Caller, Deputy, Held
from goliath.actors.endings import Broken, Kept, Outcome, Stored, packed
from goliath.actors.gathering import Gathering
from goliath.actors.handles import HeldGrip
from goliath.actors.inside import NO_CALL
from goliath.actors.kin import ActorEnd
from goliath.actors.object_ref import ObjectRef, register
from goliath.actors.portal import PortalClosedError, Poster
from goliath.actors.ref import AskableRef
from goliath.actors.requests import (
    checked_group,
    checked_id,
    checked_ids,
    options_of,
    row_of,
)
from goliath.actors.sightings import Sighting, Then
from goliath.actors.streams import Stream
from goliath.actors.submission import Submission
from goliath.actors.surroundings import Surroundings, surroundings
from goliath.actors.troupe import Troupe
from goliath.actors.user_actor import UserActor
from goliath.actors.waits import LongWait, Waits
from goliath.core.batch import JobOptions
from goliath.core.ids import JobId, NodeId
from goliath.errors import (
    ActorDiedError,
    GoliathError,
    ObjectLostError,
    ProtocolError,
    TaskCancelledError,
)
from goliath.record import frozen
from goliath.transport import call_messages as call_msg, worker_messages as worker_msg
from goliath.transport.exceptions import dump_error
from goliath.transport.functions import Function
from goliath.transport.message import Message
from goliath.transport.pickled import Pickled

DEPTH_MAX = 1000
"""Calls that may wait for one another in a row (as many frames as Python allows, too)."""


class Office(Protocol):
    """The Commander actor, as far as a deputy needs it."""

    def find_job(self, job: JobId) -> desk.OpenJob | None:
        """A job that is open."""

    def tell_node(self, node: NodeId, message: Message) -> None:
        """Tell a Lieutenant, if it is still there."""

    def find_actors(self, name: str, namespace: str, then: Then) -> None:
        """Ask all nodes for detached actors of that name."""

    def describe_nodes(self) -> Any:
        """What is known of every Lieutenant (`NodeInfo`s)."""

    def me(self) -> AskableRef:
        """The actor's own ref."""

    def later(self, seconds: float, function: Callable[[], None]) -> None:
        """Have it called in so many seconds."""


@frozen
class _NoActor:
    """In the place of an actor that could not be made."""

    task_id: str
    why: str


class Deputies:
    """One for each worker that has asked for something.

    Args:
        office: the Commander actor.
        portal: the way into this thread, for others.
        troupe: the Commander's actors.
    """

    def __init__(self, office: Office, portal: Poster, troupe: Troupe) -> None:
        self._troupe = troupe
        self._office = office
        self._portal = portal
        self._deputies: dict[tuple[NodeId, int], Deputy] = {}
        self._submissions: dict[tuple[JobId, bytes], Submission] = {}
        self._waits = Waits(office.later, self._refuse)
        self._children: dict[Caller, list[ReferenceType[ObjectRef[Any]]]] = {}

    # -- what workers say ----------------------------------------------------------------

    def hear(self, node: NodeId, said: call_msg.FromCalls) -> None:  # noqa: C901, PLR0912
        """A worker asks for something.

        Raises:
            ProtocolError: no honest worker says that.
        """
        deputy = self._deputies.setdefault((node, said.worker), Deputy())
        match said:  # one arm a message: a table, not a maze
            case call_msg.NestedCall():
                self._call(node, deputy, said)
            case call_msg.ItemMade():
                self._item_made(node, deputy, said)
            case call_msg.AwaitRefs(worker, refs):
                for task_id in checked_ids(refs):
                    self._await(node, worker, task_id, deputy.want(task_id))
            case worker_msg.ReportWait():
                self._note_wait(node, deputy, said)
            case worker_msg.EndWait(worker, wait):
                self._waits.end((node, worker, wait))
            case call_msg.DropRefs(_, refs):
                for task_id in checked_ids(refs):
                    deputy.drop(task_id)
            case call_msg.HoldRefs(_, refs):
                for ref in self._found(deputy, refs):
                    deputy.keep(ref)
            case call_msg.NestedFunction(_, digest, name, refs, payload):
                function = Function(digest, name, bytes(payload))
                deputy.functions[digest] = function, self._found(deputy, refs)
            case call_msg.StoreValue(_, task_id, refs, payload):
                stored = Stored(Pickled(payload), self._found(deputy, refs))
                self._keep(deputy, object_ref.ended("put", stored, checked_id(task_id)))
            case call_msg.CancelRef(_, task_id, force, recursive):
                wanted = deputy.find_ref(task_id)
                if wanted is not None:
                    wanted.cancel(force=force, recursive=recursive)
            case call_msg.NestedActor():
                self._make_actor(deputy, said)
            case call_msg.FindActor():
                self._find_actor(deputy, said)
            case call_msg.KillActor(_, actor_id, no_restart):
                grip = deputy.find(actor_id)
                if isinstance(grip, HeldGrip):
                    grip.kill(no_restart=no_restart)
            case call_msg.WatchActor():
                self._watch(deputy, said)
            case call_msg.LinkActors():
                self._link(deputy, said)
            case call_msg.LeaveActor(_, job):
                self._leave(JobId(job))
            case call_msg.AskNodes(_, task_id):
                stored = Stored(Pickled.of(self._office.describe_nodes()))
                self._keep(deputy, object_ref.ended("nodes", stored, checked_id(task_id)))

    def found(self, node: NodeId, worker: int, task_ids: list[str]) -> list[ObjectRef[Any]]:
        """The refs in what a worker has returned."""
        deputy = self._deputies.get((node, worker), Deputy())
        return self._found(deputy, task_ids)

    def worker_left(self, node: NodeId, worker: int) -> None:
        """It holds nothing any more, and what its last call began is of no use."""
        self._waits.worker_left(node, worker)
        deputy = self._deputies.pop((node, worker), None)
        if deputy is not None:
            for caller in deputy.callers:
                self.cancel(caller)

    def node_left(self, node: NodeId) -> None:
        """All its workers are gone."""
        for _, worker in [key for key in self._deputies if key[0] == node]:
            self.worker_left(node, worker)

    @staticmethod
    def _found(deputy: Deputy, task_ids: list[str]) -> list[ObjectRef[Any]]:
        found = [deputy.find(task_id) for task_id in checked_ids(task_ids)]
        return [ref for ref in found if ref is not None]

    @staticmethod
    def _keep(deputy: Deputy, ref: ObjectRef[Any]) -> None:
        deputy.keep(ref)
        register(ref)

    # -- calls ---------------------------------------------------------------------------

    def _call(self, node: NodeId, deputy: Deputy, said: call_msg.NestedCall) -> None:
        parent = self._office.find_job(JobId(said.job))
        caller = (JobId(said.job), said.parcel, said.call)
        try:
            ref = self._submit(deputy, said, parent)
        except GoliathError as exc:
            ref = object_ref.ended(said.function, Broken(exc), checked_id(said.ref))
        else:
            self._note_child(deputy, caller, ref)
        self._keep(deputy, ref)
        if said.streaming:
            stream = deputy.streams[said.ref] = Stream(ref.name, said.ref, self._portal)
            stream.follow(ref)

    def _note_child(self, deputy: Deputy, caller: Caller, ref: ObjectRef[Any]) -> None:
        if caller[1] != NO_CALL:  # else no call will end that it belongs to
            deputy.callers.add(caller)
            self._children.setdefault(caller, []).append(weak(ref))

    def _make_actor(self, deputy: Deputy, said: call_msg.NestedActor) -> None:
        parent = self._office.find_job(JobId(said.job))
        function, _ = deputy.functions.get(said.function, (None, None))
        checked_id(said.ref)
        if parent is None or function is None:
            raise ProtocolError("an actor of a class or a call that nobody knows")
        try:
            blueprint = Blueprint.of(function, said.spec)
        except TypeError as exc:
            raise ProtocolError(f"an actor of {said.spec!r}") from exc
        try:
            grip: Held = self._troupe.make(
                said.ref,
                blueprint,
                row_of(said, deputy.find_ref),
                self._found(deputy, said.refs),
                _around(parent),
                self._portal,
                self._office.me(),
            )
        except (ValueError, GoliathError) as exc:
            grip = _NoActor(said.ref, str(exc))
        deputy.keep(grip)

    def _note_wait(self, node: NodeId, deputy: Deputy, said: worker_msg.ReportWait) -> None:
        job = self._office.find_job(JobId(said.job))
        refs = [deputy.find_ref(task_id) for task_id in checked_ids(said.refs)]
        known = tuple(ref for ref in refs if ref is not None)
        if job is None or len(known) < len(refs):
            return  # whoever is not known may end at any time
        owner = job.owner if isinstance(job.owner, UserActor) else None
        group = "" if owner is None else owner.group_of(checked_id(said.call))
        stack = bytes(said.payload).decode(errors="replace")
        wait = LongWait(said.call, job.function.name, owner, group, known, said.enough, stack)
        self._waits.begin((node, said.worker, said.wait), wait)

    def _refuse(self, node: NodeId, worker: int, call: str, error: GoliathError) -> None:
        self._office.tell_node(node, worker_msg.RefEnded(worker, call, True, 0, dump_error(error)))

    def _find_actor(self, deputy: Deputy, said: call_msg.FindActor) -> None:
        """One of this Commander's, or else a detached one, of which only its node knows."""
        calls = Gathering.of_one("get_actor", checked_id(said.ref))
        ref: ObjectRef[Any] = ObjectRef(calls, index := calls.reserve())
        self._keep(deputy, ref)

        def tell(grip: HeldGrip | None) -> None:
            known = grip and (grip.task_id, grip.name, grip.actor.blueprint.repertoire)
            calls.settle(index, index + 1, Stored(Pickled.of(known), [grip] if grip else []))

        def on_seen(seen: Sequence[Sighting]) -> None:
            office, portal = self._office, self._portal
            grips = [self._troupe.visit(s, surroundings(), portal, office.me()) for s in seen[:1]]
            tell(grips[0] if grips else None)

        def ask() -> None:
            self._office.find_actors(said.name, said.namespace, on_seen)

        def ask_soon() -> None:
            with suppress(PortalClosedError):  # then nobody waits for it any more
                self._portal.post(ask)

        arriving = self._troupe.arriving(said.name, said.namespace)
        known = self._troupe.find(said.name, said.namespace)
        if known is not None:
            tell(known)
        elif arriving is not None:  # whoever makes one waits like this for its node
            arriving.when_decided(ask_soon)
        else:
            ask()

    @staticmethod
    def _actor(deputy: Deputy, actor_id: str) -> UserActor:
        grip = deputy.find(actor_id)
        if isinstance(grip, _NoActor):
            raise ActorDiedError(f"actor {actor_id} could not be made: {grip.why}")
        if not isinstance(grip, HeldGrip) or not isinstance(grip.actor, UserActor):
            raise ActorDiedError(f"actor {actor_id} has ended: nobody held a handle of it")
        return grip.actor

    def _watch(self, deputy: Deputy, said: call_msg.WatchActor) -> None:
        """The record of an end is a value that is there when the actor has ended. It is the
        worker's alone: when it is dropped, nobody watches."""
        calls = Gathering.of_one("monitor", checked_id(said.ref))
        calls.refs = WeakValueDictionary()
        ref = ObjectRef[Any](calls, 0)
        self._keep(deputy, ref)

        def tell(end: ActorEnd) -> None:
            calls.settle(0, 1, Stored(Pickled.of(end.travelling())))

        try:
            kin = self._actor(deputy, said.actor).kin
        except ActorDiedError as exc:
            tell(ActorEnd(said.actor, "", "", exc))
        else:
            finalize(ref, kin.unwatch, tell).atexit = False
            kin.watch(tell)

    def _link(self, deputy: Deputy, said: call_msg.LinkActors) -> None:
        pair: list[UserActor] = []
        lost = None
        for actor_id in (said.one, said.other):
            try:
                pair.append(self._actor(deputy, actor_id))
            except ActorDiedError as exc:
                lost = ActorEnd(actor_id, "", "", exc)
        if len(pair) == 2:
            pair[0].link(pair[1], linked=said.linked)
        elif lost is not None and said.linked:
            for actor in pair:
                actor.on_link_died(lost)

    def _leave(self, job: JobId) -> None:
        known = self._office.find_job(job)
        if known is not None and isinstance(known.owner, UserActor):
            known.owner.leaves()

    def _submit(
        self, deputy: Deputy, said: call_msg.NestedCall, parent: desk.OpenJob | None
    ) -> ObjectRef[Any]:
        if said.actor:
            held = self._found(deputy, said.refs)
            actor = self._actor(deputy, said.actor)
            row, groups = row_of(said, deputy.find_ref), actor.blueprint.repertoire.groups
            return actor.call_as(checked_id(said.ref), row, held, checked_group(said, groups))
        function, _ = deputy.functions.get(said.function, (None, None))
        if parent is None or function is None:
            raise GoliathError(
                "the call that has made this call had ended before; wait for it in the call itself"
            )
        options = options_of(said, parent.options, _around(parent).key)
        if options.depth > DEPTH_MAX:
            raise GoliathError(
                f"{function.name}: {DEPTH_MAX} calls wait for one another in a row already; make "
                "the recursion end earlier"
            )
        row = row_of(said, deputy.find_ref)
        held = self._found(deputy, said.refs)
        while True:  # one that was just closed takes no more: a new one does
            submission = self._submission(parent, function, options)
            ref = submission.submit_as(checked_id(said.ref), row, held)
            if ref is not None:
                return ref
            self._submissions = {
                key: kept for key, kept in self._submissions.items() if kept is not submission
            }

    def _submission(
        self, parent: desk.OpenJob, function: Function, options: JobOptions
    ) -> Submission:
        key = parent.job, orjson.dumps(options, default=str)
        submission = self._submissions.get(key)
        if submission is None:
            submission = self._submissions[key] = Submission(
                function, _around(parent), options, self._portal, self._office.me()
            )
        return submission

    def job_ended(self, job: JobId) -> None:
        """What its calls have begun ends by itself."""
        for key in [key for key in self._submissions if key[0] == job]:
            self._submissions.pop(key).close()

    # -- trees ---------------------------------------------------------------------------

    def cancel(self, caller: Caller, *, force: bool = False) -> None:
        """Call off what a call has made, and what that has made."""
        for child in self._children.pop(caller, ()):
            ref = child()
            if ref is not None:
                ref.cancel(force=force)

    def cancel_job(self, job: JobId, *, force: bool = False) -> None:
        """The same for all calls of a job."""
        for caller in [caller for caller in self._children if caller[0] == job]:
            self.cancel(caller, force=force)

    def release(self, job: JobId, parcel: int, calls: Iterable[int]) -> None:
        """Calls have ended well: what they have made goes on, for whoever holds its refs."""
        if self._children:
            for call in calls:
                self._children.pop((job, parcel, call), None)

    # -- streams -------------------------------------------------------------------------

    def _item_made(self, node: NodeId, deputy: Deputy, said: call_msg.ItemMade) -> None:
        stream = streams.find(said.task)
        known: Outcome = Stored(None)
        if stream is None or stream.over:
            # It was called off, and goes on: an actor is not killed for that.
            stream = None
            known = Broken(TaskCancelledError(f"nobody can take items of {said.task} any more"))
        tell = None
        if said.awaited:
            ref = object_ref.ended(said.task, known, checked_id(f"{said.task}.wanted-{said.index}"))
            tell = partial(self._answer_from_anywhere, node, said.worker, ref)
        if stream is not None:
            item = Stored(Pickled(said.payload), self._found(deputy, said.refs))
            stream.add(said.index, item, tell)
        elif tell is not None:
            tell()

    # -- answers -------------------------------------------------------------------------

    def _await(self, node: NodeId, worker: int, task_id: str, ref: ObjectRef[Any] | None) -> None:
        if ref is None:
            lost = ObjectLostError(f"the result of {task_id} was freed: nobody held its ref")
            ref = object_ref.ended(task_id, Broken(lost), checked_id(task_id))
        if ref.done():
            self._answer(node, worker, ref)
        else:
            ref.when_done(partial(self._answer_from_anywhere, node, worker, ref))

    def _answer_from_anywhere(self, node: NodeId, worker: int, ref: ObjectRef[Any]) -> None:
        if self._portal.inside():
            self._answer(node, worker, ref)
        else:
            self._portal.post(self._answer, node, worker, ref)

    def _answer(self, node: NodeId, worker: int, ref: ObjectRef[Any]) -> None:
        outcome, number = ref.ending()
        if type(outcome) is Kept:
            deposit = outcome.deposit
            if deposit.is_on(node):  # it need not come here
                self._office.tell_node(
                    node, worker_msg.RefEnded(worker, ref.task_id, False, deposit.key)
                )
                return
            if not deposit.known:
                deposit.when_known(partial(self._answer_from_anywhere, node, worker, ref))
                return
        failed, payload = packed(outcome, number)
        self._office.tell_node(node, worker_msg.RefEnded(worker, ref.task_id, failed, 0, payload))


def _around(parent: desk.OpenJob) -> Surroundings:
    """Of what a call makes. The process of an actor is for its own calls only: what those have
    begun would run there between them, else."""
    owner = parent.owner
    return owner.around if isinstance(owner, UserActor) else parent.surroundings
