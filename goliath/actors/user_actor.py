"""An actor of the user's, as its Commander has it: the calls that wait for it, and its lives.

Each life is a job of its own, in an environment of its own, with one process. Calls wait here, in
the order in which they were made, and two batches of them at most are on their way: so
a death costs no more than what was being done, and the next life goes on with the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from goliath.actors import desk, object_ref, passing
from goliath.actors.bell import ThreadBell
from goliath.actors.blueprint import Blueprint
from goliath.actors.dependencies import Dependencies, LaidOut, laid_out
from goliath.actors.endings import Broken, NoValueError, Outcome
from goliath.actors.gathering import Gathering
from goliath.actors.job import job_ids
from goliath.actors.kin import ActorEnd, Kin, Watcher
from goliath.actors.object_ref import ObjectRef
from goliath.actors.outcomes import Setback, Where, explain
from goliath.actors.portal import PortalClosedError, Poster
from goliath.actors.postmortem import Death
from goliath.actors.ref import AskableRef
from goliath.actors.ref_generator import ObjectRefGenerator
from goliath.actors.repertoire import DEFAULT_GROUP
from goliath.actors.stage import LIFE_VARIABLE, STREAMED
from goliath.actors.streams import Stream
from goliath.actors.submission import Sent, Submission
from goliath.actors.supervisor import Exit, Lifetime, Supervisor
from goliath.actors.surroundings import Surroundings
from goliath.actors.tries import Tries
from goliath.actors.waiting import WaitingByGroup
from goliath.clock import BootClock
from goliath.config import ActorConfig
from goliath.core.batch import JobOptions
from goliath.core.commands import Verdict
from goliath.core.ids import JobId
from goliath.core.policy import RestartIntensity
from goliath.errors import (
    KILLED,
    LEFT,
    ActorDiedError,
    ActorUnavailableError,
    LocalError,
    PendingCallsLimitExceeded,
)
from goliath.transport.functions import Function
from goliath.transport.payload import Piece
from goliath.transport.rows import FarRow

if TYPE_CHECKING:
    from goliath.actors.group import Group

ANOTHER = "Make another one"

_STRIKES = frozenset({Verdict.CRASHED, Verdict.NODE_DIED, Verdict.GONE})


class UserActor(Submission):
    """See the module's description. It is a child under a supervisor, like any actor: under one of
    its own, or under that of a group, which takes it in when it has been made.

    Args:
        actor_id: its name in messages, and in other processes.
        blueprint: what it is made of.
        creation: the arguments of its ``__init__``: a row that begins with `stage.BEGIN`.
        held: the refs in them.
        surroundings: what its process finds around it.
        portal: the way into the loop's thread.
        commander: whose actor it is.
        on_end: called once, in the loop's thread, when it will never be called again.
        group: whose supervisor it is under; None: it has its own, with ``max_restarts``.
        lifetime: what that one does when it ends.

    Attributes:
        around: what its maker found around it, and what its own calls begin finds.
        kin: who hears of its end; belongs to the loop's thread.
        settled: rung when it is known whether it could be made.
    """

    IN_ORDER = True

    def __init__(
        self,
        actor_id: str,
        blueprint: Blueprint,
        creation: LaidOut | None,
        held: list[Any],
        surroundings: Surroundings,
        portal: Poster,
        commander: AskableRef,
        on_end: Callable[[UserActor], None],
        group: Group | None = None,
        lifetime: Lifetime = Lifetime.TRANSIENT,
    ) -> None:
        self.actor_id = actor_id
        self.blueprint = blueprint
        self.around = surroundings
        self._on_end = on_end
        self._creation: Piece | FarRow | None = None
        self._creating: ObjectRef[Any] | None = None
        self._lives = 0
        self._struck: list[desk.Failed] = []
        self._tries = Tries(blueprint.max_task_retries)
        self._pending = 0
        self._leaving = self._killed = self._down = self._dead = False
        self._blow: BaseException | None = None  # what was done to this life, by somebody's wish
        self._last: BaseException | None = None  # what the life before has died of
        self.lifetime = lifetime
        self.kin = Kin(self.on_link_died, self._on_forsaken)
        self.settled = ThreadBell()
        self._in_group = group is not None
        self._supervisor = self._own_supervisor() if group is None else group.supervisor
        self._taken_in = group is None  # by the supervisor
        around = self._fresh_surroundings()
        groups = blueprint.repertoire.groups
        self._groups = WaitingByGroup(groups) if groups else None
        options = self._options(around.key)
        super().__init__(blueprint.function, around, options, portal, commander, self._groups)
        self._task = actor_id.replace("-", "_")
        if creation is not None:
            self._begin_life(creation, held)

    def __repr__(self) -> str:
        return f"<actor {self.actor_id} of {self.name}>"

    @property
    def name(self) -> str:
        """Of its class."""
        return self.blueprint.function.name

    def _own_supervisor(self) -> Supervisor:
        wish = self.blueprint
        config = ActorConfig.from_environ()
        supervisor = Supervisor(
            "its supervisor",
            on_exit=lambda _child, exit: self.end(exit.error),  # noqa: A006 - Erlang's word
            escalate=self._on_given_up,
            now=BootClock().now,
            intensities=(
                RestartIntensity.of_actor(wish.max_restarts, wish.restart_window_s),
                RestartIntensity(config.actor_restarts_max, config.actor_restart_window_s),
            ),
        )
        supervisor.adopt(self)
        return supervisor

    def queue_of(self, group: str) -> tuple[str, int]:
        """In which queue a call of a group waits now, by name, and how many slots that has."""
        if self._creating is not None:
            return self.actor_id, 1
        if self._groups is None:
            return self.actor_id, self.blueprint.concurrency
        return f"{self.actor_id} {group}", self.blueprint.repertoire.groups[group]

    def group_of(self, task_id: str) -> str:
        """Of a call that is on its way."""
        task, _, number = task_id.rpartition("-")
        for sent in self._sent.values():
            first = sent.calls.first + sent.offset
            if sent.calls.job == task and first <= int(number) < first + sent.size:
                return sent.calls.group
        return DEFAULT_GROUP

    def _fresh_surroundings(self) -> Surroundings:
        self._lives += 1
        around = self.around
        variables = {**around.variables, LIFE_VARIABLE: str(self._lives)}
        return replace(
            around, key=f"{self.actor_id}.{self._lives}", variables=variables, private=True
        )

    def _options(self, environment: str) -> JobOptions:
        return self.blueprint.options(environment)

    def _new_job(
        self, function: Function, surroundings: Surroundings, options: JobOptions
    ) -> desk.OpenJob:
        job = self.id
        return desk.OpenJob(
            job,
            self,
            function,
            surroundings,
            options,
            keeps=True,
            on_abandoned=self._on_abandoned,
            on_ended=lambda: self._on_job_ended(job),
        )

    # -- in the callers' threads ---------------------------------------------------------

    def call(
        self, method: str, args: tuple[Any, ...], kwargs: dict[str, Any], group: str = ""
    ) -> ObjectRef[Any]:
        """Call a method.

        Raises:
            SerializationError: an argument cannot be pickled.
            PendingCallsLimitExceeded: as many calls wait as may.
        """
        if self._groups is None:
            if self.blueprint.max_pending_calls < 0:
                ref = self.submit((method, *args), kwargs)
            else:
                ref = self._counted(lambda: self.submit((method, *args), kwargs))
            return self._late(f"{self._task}.late-0") if ref is None else ref
        with passing.Collected() as held:
            row = laid_out((method, *args), kwargs, self.shipped)
        return self.call_as(self._next_task_id(), row, held, group)

    def call_as(
        self, task_id: str, row: LaidOut, held: list[Any], group: str = ""
    ) -> ObjectRef[Any]:
        """Make a call that is laid out already, for a worker, too."""
        ref = self._counted(lambda: self.submit_as(task_id, row, held, group))
        return ref or self._late(task_id)

    def stream(
        self, method: str, args: tuple[Any, ...], kwargs: dict[str, Any], group: str = ""
    ) -> ObjectRefGenerator[Any]:
        """Call a method whose items are wanted one by one; errors as of `call`."""
        with passing.Collected() as held:
            row = laid_out((STREAMED + method, *args), kwargs, self.shipped)
        task_id = self._next_task_id()
        # Before the call is made: its first item may come before this thread goes on.
        stream = Stream(self._name, task_id, self._portal)
        stream.follow(self.call_as(task_id, row, held, group))
        return ObjectRefGenerator(stream)

    def _next_task_id(self) -> str:
        with self._lock:
            self._open = None  # what is made next has the next numbers
            self._made += 1
            return f"{self._task}-{self._made - 1}"

    def _counted(self, make: Callable[[], ObjectRef[Any] | None]) -> ObjectRef[Any] | None:
        limit = self.blueprint.max_pending_calls
        if limit >= 0:
            self._count_one(limit)
        ref = make()
        if limit >= 0 and ref is not None:
            ref.when_done(self._count_off)
        return ref

    def _late(self, task_id: str) -> ObjectRef[Any]:
        """A call of an actor that its supervisor is ending, though there are handles of it."""
        ends = ActorDiedError(f"actor {self.name} ({self.actor_id}) was ended by its supervisor")
        return object_ref.ended(self.name, self._broken or Broken(ends), task_id)

    def _count_one(self, limit: int) -> None:
        with self._lock:
            if limit <= self._pending:
                raise PendingCallsLimitExceeded(
                    f"{limit} calls of actor {self.name} wait already (max_pending_calls); wait "
                    "for some of them before you make more"
                )
            self._pending += 1

    def _count_off(self) -> None:
        with self._lock:
            self._pending -= 1

    def kill(self, *, no_restart: bool) -> None:
        """End it at once; what is under way ends with it."""
        with suppress(PortalClosedError):
            self._portal.post(self._kill, no_restart)

    def watch(self, watcher: Watcher) -> None:
        """Have it called, in the loop's thread, when the actor has ended for good, or has already.

        Raises:
            PortalClosedError: its Commander is closed.
        """
        self._portal.post(self.kin.watch, watcher)

    def unwatch(self, watcher: Watcher) -> None:
        """It is not to be called any more."""
        with suppress(PortalClosedError):
            self._portal.post(self.kin.unwatch, watcher)

    def _on_forsaken(self) -> None:
        """Nobody waits for its end any more: its job may have been open for that."""
        with self._lock, suppress(PortalClosedError):
            if self._closed:
                self._kick()

    def link(self, other: UserActor, *, linked: bool) -> None:
        """If one of the two dies, so does the other; or (``linked`` false) not any more.

        Raises:
            PortalClosedError: their Commander is closed.
        """
        self._portal.post(self.kin.link if linked else self.kin.unlink, other.kin)

    # -- its lives, in the loop's thread -----------------------------------------------------

    def _begin_life(self, creation: LaidOut, held: list[Any]) -> None:
        with self._lock:
            calls = Gathering(self._name, f"{self._task}.life", self._lives, None, self)
            if isinstance(creation, Dependencies):
                creating = self._creating = self._submit_later(creation, held, calls)
                if creating is not None and creating.done():  # what it needs had failed before
                    self._portal.post(self._on_created, creating)
                return
            index = calls.reserve()
            self._creating = ObjectRef(calls, index)
            calls.put(index, creation)
            calls.hold(index, held)
            self._waiting.appendleft(calls)
            self._kick()

    def _take(self) -> tuple[Gathering, int, Sequence[Any]] | None:
        """See `Submission`."""
        with self._lock:
            taken = super()._take()
            if taken is not None and self._creation is None:
                self._creation = taken[2][0]
            if taken is not None and self._groups is not None:
                self._groups.sent(taken[0].group, len(taken[2]))
            return taken

    def _next_calls(self) -> Gathering | None:
        """Nothing goes before the instance is there, or when its end is decided: the job of this
        life takes no more, and would lose it."""
        if self._down or self._blow is not None:
            return None
        creating = self._creating
        if creating is None:
            return super()._next_calls()
        return creating._calls if len(creating._calls) else None

    def on_settled(self, settled: desk.Settled) -> None:
        """See `desk.Owner.on_settled`."""
        if settled.parcel not in self._sent:
            return  # it was given up
        super().on_settled(settled)
        if self._groups:
            self._pump()  # there is room in one of them
        if self._creating is not None and self._creating.done():
            self._on_created(self._creating)
        elif self._closed:
            self._pump()

    def _still_asks(self) -> bool:
        """See `Submission`: what has become of calls that its process died under is known only when
        it is known what becomes of the actor, and that is told to an open job."""
        return bool(self._sent)

    def _on_created(self, creating: ObjectRef[Any]) -> None:
        outcome, number = creating.ending()
        try:
            outcome.frozen(number)
        except NoValueError:
            self._last = raised(outcome.value, number)
            if self._in_group and self in self._supervisor:
                self._down = True
                self._supervisor.exited(self, Exit(self._last))
            else:
                self._die(self._last)
            return
        self._creating = self._last = None
        self._on_made()

    def _on_made(self) -> None:
        """The instance is there."""
        if not self._taken_in:
            self._taken_in = True
            self._supervisor.adopt(self)
        self._supervisor.started(self)
        self.settled.ring()
        self._pump()

    def _on_known(self, calls: Gathering, index: int, dependencies: Dependencies) -> None:
        """See `Submission`; an ``__init__`` without its arguments is the end."""
        super()._on_known(calls, index, dependencies)
        creating = self._creating
        if creating is not None and creating._calls is calls and creating.done():
            with suppress(PortalClosedError):
                self._portal.post(self._on_created, creating)

    def on_failed(self, failed: desk.Failed) -> None:
        """See `desk.Owner.on_failed`. What becomes of them is known when it is known what becomes
        of the actor."""
        if failed.parcel not in self._sent:
            return
        if failed.setback.verdict in _STRIKES or self._blow is not None:
            self._struck.append(failed)
        else:
            super().on_failed(failed)
            if self._groups or self._closed:
                self._pump()

    def _on_abandoned(self, setback: Setback) -> None:
        """The process has ended, or there will be none."""
        if self._dead or self._down:
            return
        self._down = True
        error = self._last = self._blow or self._cause(setback)
        if self not in self._supervisor:
            self.end(error)  # not taken in yet, or released
        elif self._leaving:
            self._supervisor.exited(self, Exit())
        elif self._in_group or self._blow is not None or setback.verdict is Verdict.GONE:
            self._supervisor.exited(self, Exit(error))
        else:
            self.end(error)  # there will be none, however often it is tried

    def _cause(self, setback: Setback) -> BaseException:
        for struck in self._struck:
            if struck.begun:
                return explain(struck.setback, struck.where, struck.lo)
        if setback.report is not None:
            who = f"actor {self.name} ({self.actor_id})"
            return Death(who, setback.node, 0, setback.report).error()
        return explain(setback, Where(self.name), 0)

    def stop(self) -> None:
        """See `Child.stop`: its supervisor ends this life for the sake of another child."""
        self._strike(ActorDiedError("its supervisor ended it, as a child beside it had ended"))

    def _strike(self, blow: BaseException) -> None:
        """End this life: it is as if its process had died."""
        if not (self._dead or self._down):
            self._blow = blow
            self._commander.tell(desk.CancelJob(self.id, force=True))

    def restart(self) -> None:
        """See `Child.restart`: another life, that goes on with the calls that wait."""
        self._next_job()

    def _next_job(self) -> None:
        """The calls that wait, and those that had not begun, go on in another job."""
        before, self.id = self.id, JobId(next(job_ids))
        self._commander.tell(desk.ExhaustJob(before))
        self._blow = None
        self._leaving = self._killed = self._down = False
        with self._lock:
            self._granted, self._calls_wanted, self._open = 0, 1, None
            self._exhausted = False
        self._sort_struck()
        if self._groups is not None:
            self._groups.make_room()
        around = self._fresh_surroundings()
        job = self._new_job(self.blueprint.function, around, self._options(around.key))
        self._begin_again()
        desk.open_job(self._commander, job)

    def _begin_again(self) -> None:
        """Have it made in this life, too. If it died before its arguments were known, what makes it
        waits, as any call does."""
        if self._creation is not None:
            self._begin_life(self._creation, [])

    def _sort_struck(self) -> None:
        """What was on its way: sent again if it had not begun, or may be made twice."""
        struck, self._struck = self._struck, []
        known = {each.parcel for each in struck}
        for parcel, sent in self._sent.items():
            if parcel not in known:  # the scheduler will fail it, but has not seen it yet
                gone = Setback(Verdict.GONE)
                struck.append(desk.Failed(parcel, 0, sent.size, gone, Where(self.name)))
        for each in sorted(struck, key=lambda each: (each.parcel, each.lo), reverse=True):
            sent = self._sent[each.parcel]
            if self._creating is not None and sent.calls is self._creating._calls:
                del self._sent[each.parcel]
                continue
            for lo, hi, again in reversed(self._tries.spans(each, sent)):
                if again:
                    self._send_again(sent, each.parcel, lo, hi)
                else:
                    self._settle(each.parcel, lo, hi, Broken(self._unavailable()))

    def _unavailable(self) -> ActorUnavailableError:
        error = ActorUnavailableError(
            f"actor {self.name} ({self.actor_id}) died under this call and is being restarted; "
            "the call may have been executed. Call again if it may be made twice, or give the "
            "actor max_task_retries"
        )
        error.__cause__ = self._last
        return error

    def _settle(self, parcel: int, lo: int, hi: int, outcome: Outcome) -> None:
        if lo >= hi:
            return
        sent = self._sent[parcel]
        self._tries.forget(sent, lo, hi)
        if self._groups is not None:
            self._groups.ended(sent.calls.group, hi - lo)
        super()._settle(parcel, lo, hi, outcome)

    def _send_again(self, sent: Sent, parcel: int, lo: int, hi: int) -> None:
        assert sent.rows is not None, "what is sent in order is kept until it has ended"
        with self._lock:
            sent.calls.put_back(sent.offset + lo, sent.rows[lo:hi])
            if sent.calls not in self._waiting:
                self._waiting.appendleft(sent.calls)
            sent.open_calls -= hi - lo
            if not sent.open_calls:
                del self._sent[parcel]

    def _kill(self, no_restart: bool) -> None:
        if self._dead:
            return
        self._killed = True
        if no_restart and not self._in_group:
            self._die(None, KILLED)
        else:
            self._strike(ActorDiedError(KILLED))

    def on_link_died(self, end: ActorEnd) -> None:
        """See `Kin`. Posted, because there may be a long row of them."""
        with suppress(PortalClosedError):
            self._portal.post(self._die_of_link, end)

    def _die_of_link(self, end: ActorEnd) -> None:
        who = f"actor {end.class_name} ({end.actor_id})"
        why = f"{who}, which it is linked to, has died"
        if self._in_group:
            blow = ActorDiedError(why)
            blow.__cause__ = end.error
            self._strike(blow)
        else:
            self._die(end.error, why)

    def leaves(self) -> None:
        """It has said so itself: its end is no crash."""
        self._leaving = True

    def _on_given_up(self, error: BaseException) -> None:
        """Its own supervisor will not make it again."""
        if self.blueprint.max_restarts:
            self._die(self._last, str(error))
        else:
            self.end(self._last)

    def end(self, error: BaseException | None) -> None:
        """It has ended, and is not made again."""
        if self._leaving:
            self._die(None, LEFT, well=True)
        elif self._in_group:
            self._die(error)
        else:
            self._die(error, advice=f"{ANOTHER}; with max_restarts it would have been made again")

    def _die(
        self,
        cause: BaseException | None,
        why: str = "",
        advice: str = ANOTHER,
        *,
        well: bool = False,
    ) -> None:
        """It will never be called again: everybody who waits for it is told."""
        if self._dead:
            return
        reason = why or (str(cause).partition("\n")[0] if cause is not None else "it has ended")
        text = f"actor {self.name} ({self.actor_id}) has died: {reason}. {advice}"
        begun = ActorDiedError(text, maybe_executed=True)
        rest = ActorDiedError(text)
        begun.__cause__ = rest.__cause__ = cause
        self._end_with(begun, rest, None if well else rest)

    def _end_with(self, begun: Exception, rest: Exception, error: Exception | None) -> None:
        """Calls end with these, from now on, those that may have been begun with the first; whoever
        watches is told of the last."""
        self._dead = True
        for each in self._struck:
            if each.parcel in self._sent:
                outcome = Broken(begun if each.begun else rest)
                self._settle(each.parcel, each.lo, each.hi, outcome)
        self._struck.clear()
        for sent in self._sent.values():  # nobody will know of these whether they had begun
            sent.calls.settle(sent.offset, sent.offset + sent.size, Broken(begun))
        self._sent.clear()
        self._commander.tell(desk.CancelJob(self.id, force=True))
        self._end(rest, error)

    def _on_job_ended(self, job: JobId) -> None:
        """All calls of a life are settled, and none will come: either that was the last life, or
        another has begun."""
        if job == self.id and not (self._dead or self._down):
            self._dead = True
            self._end(ActorDiedError(f"actor {self.name} ({self.actor_id}) has ended"), None)

    def _end(self, rest: Exception, error: Exception | None) -> None:
        super().on_broken(rest)
        self._supervisor.release(self)
        self._on_end(self)
        name = self.blueprint.name
        self.kin.ended(ActorEnd(self.actor_id, self.name, name, error, self._killed))
        self.settled.ring()

    def finish(self) -> None:
        """Take no more calls, and end after those that were made."""
        if self._down:
            self._die(self._last, "its supervisor was closed before it was made again")
        else:
            self.close()

    def expire(self, patience_s: float) -> None:
        """It was to `finish`, and has not."""
        why = f"its supervisor was closed, and a call of it had not ended {patience_s:g} s later"
        self._die(None, why)

    def abandon(self, error: BaseException) -> None:
        """The supervisor of its group has given up."""
        self._die(error, str(error))

    def on_broken(self, error: Exception) -> None:
        """See `desk.Owner.on_broken`. A Commander that was closed has ended everything, and nobody
        is left to do anything about it: that is no news to those who watch."""
        self._dead = True
        if not isinstance(error, LocalError):
            self.kin.forget()
        self._end(error, error)


def raised(value: Callable[[int], Any], number: int) -> BaseException:
    """What the outcome of a call without a value raises."""
    try:
        value(number)
    except BaseException as exc:  # noqa: BLE001 - a user's __init__ may raise anything
        return exc
    raise AssertionError("it has a value and does not give it")
