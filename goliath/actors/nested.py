"""Calls that a call makes: by its worker's Commander, over the session that is there already.

A ref in a worker has a task id and asks its Commander for the rest: what has become of the
call is sent when somebody wants to know, and what nobody in this process holds any more is
given up. All of that goes through the worker's Lieutenant, which reads none of it.
"""

from __future__ import annotations

import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping, MutableMapping
from contextlib import suppress
from itertools import count
from os import urandom
from types import FrameType
from typing import Any
from weakref import WeakValueDictionary

from goliath.actors import inside, passing
from goliath.actors.bell import ThreadBell
from goliath.actors.blueprint import Blueprint, name_taken
from goliath.actors.endings import Broken, Delivered, Outcome, Stored
from goliath.actors.failures import EVERYTHING
from goliath.actors.gathering import Gathering, Waiter
from goliath.actors.kin import ActorEnd, Watcher
from goliath.actors.object_ref import ObjectRef, made_here, resolved
from goliath.actors.ref_generator import MadeHere, ObjectRefGenerator
from goliath.actors.repertoire import Repertoire
from goliath.actors.stage import BEGIN, STREAMED
from goliath.actors.task import Task
from goliath.core.batch import JobOptions
from goliath.errors import GoliathError, ObjectLostError
from goliath.transport import call_messages as call_msg, worker_messages as worker_msg
from goliath.transport.functions import Function
from goliath.transport.message import Message
from goliath.transport.pickled import freeze, pickle_of
from goliath.transport.rows import encode_single

FUNCTIONS_KEPT = 256
"""Tasks whose function the Commander has been told of; the oldest is told again."""

GONE = (
    "the Commander that this came from, with a call of its own, has ended, and with it all that it "
    "held; a detached actor keeps values, not refs (see goliath.get), and finds other actors again "
    "by goliath.get_actor"
)

_NOBODY = (0, inside.NO_CALL, 0)
"""In the place of the call that makes one, for a Commander who does not know it."""

ANSWER_MAX_S = 60.0
"""For what the Commander can answer at once."""

USUAL = JobOptions()
TRAVELLING = (
    "max_retries",
    "timeout_s",
    "cpus",
    "resources",
    "retry_exceptions",
    "priority",
    "spread",
    "node",
    "soft",
    "concurrency",
)
"""The fields of `JobOptions` that the maker of a call chooses."""


class _Result(Gathering):
    """One call, or one value, that the Commander knows by its task id.

    It does not keep its ref alive: with the ref, it goes, and is given up.
    """

    __slots__ = ("_nested",)

    def __init__(self, nested: NestedCalls, name: str, task_id: str) -> None:
        task, _, number = task_id.rpartition("-")
        super().__init__(name, task, int(number), None, nested)
        self.refs: MutableMapping[int, ObjectRef[Any]] = WeakValueDictionary()
        self._nested = nested

    def __del__(self) -> None:
        self._nested.drop(self.task_id)

    @property
    def task_id(self) -> str:
        """Of its only ref."""
        return f"{self.job}-{self.first}"

    def expect(self, index: int) -> None:
        """See `Gathering.expect`."""
        if self.refs:
            self._nested.want(self)

    def when_done(self, ref: ObjectRef[Any], waiter: Waiter) -> None:
        """See `Gathering.when_done`."""
        self.expect(0)
        super().when_done(ref, waiter)


class _Items:
    """The items of a streaming call that was made here; see `ref_generator.Items`."""

    def __init__(self, nested: NestedCalls, call: ObjectRef[int]) -> None:
        self._nested = nested
        self.call = call

    def want(self, index: int) -> ObjectRef[Any]:
        """See `Items.want`."""
        return self._nested.awaited(f"{self.call.task_id}.item-{index}", self.call.name)

    def cancel(self, *, force: bool, recursive: bool) -> bool:
        """See `Items.cancel`."""
        return self.call.cancel(force=force, recursive=recursive)


class NestedCalls:
    """The maker of such calls in a worker; any thread may use it.

    There is one for each Commander whose calls the worker runs: one, but in the process of a
    detached actor, which may have many *patrons*. What one of them has given ends with him.
    """

    def __init__(self, host: inside.Host, patron: int = 0) -> None:
        self._host = host
        self._patron = patron
        self._gone = False
        self._token = f"w{urandom(6).hex()}"
        self._numbers = count()
        self._functions: dict[Task, Function] = {}
        self._tasks: dict[Any, Task] = {}
        self._refs: WeakValueDictionary[str, ObjectRef[Any]] = WeakValueDictionary()
        self._grips: WeakValueDictionary[str, NestedGrip] = WeakValueDictionary()
        self._wanted: dict[str, _Result] = {}  # what is asked for is waited for
        self._dropped: deque[str] = deque()

    # -- what code in the worker wants ---------------------------------------------------

    def submit(
        self, task: Task, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> ObjectRef[Any]:
        """Make a call of a task.

        What a module does when it is imported is done in place: it must not send itself round
        in circles, through workers that import it.

        Raises:
            SerializationError: the function or an argument cannot be pickled.
        """
        call = self._maker()
        if call is None or _importing():
            return made_here(task.function, args, kwargs)
        return self._submit(call, task, args, kwargs)

    def stream(
        self, task: Task, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> ObjectRefGenerator[Any]:
        """The same with a call whose items are wanted one by one."""
        call = self._maker()
        if call is None or _importing():
            return ObjectRefGenerator(MadeHere(task.function, *resolved(args, kwargs)))
        return ObjectRefGenerator(_Items(self, self._submit(call, task, args, kwargs)))

    def _submit(
        self,
        call: inside.RunningCall,
        task: Task,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
    ) -> ObjectRef[Any]:
        function = self._known(task)
        options = _travelling(task.options(function.digest, ""))
        return self._send(
            call,
            function.name,
            function.digest,
            "",
            options,
            args,
            kwargs,
            streaming=task.streaming,
        )

    def _send(
        self,
        call: inside.RunningCall,
        name: str,
        digest: str,
        actor: str,
        options: dict[str, object],
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        *,
        streaming: bool = False,
        group: str = "",
    ) -> ObjectRef[Any]:
        with passing.Collected() as held:
            arguments, payload = _laid_out(args, kwargs)
        ref = self._new(name)
        # By a handle that another patron has given: his Commander knows nothing of this call.
        caller = (call.job, call.parcel, call.index) if call.patron == self._patron else _NOBODY
        self.tell(
            call_msg.NestedCall(
                0,
                ref.task_id,
                *caller,
                digest,
                actor,
                options,
                arguments,
                [ref.task_id for ref in held],
                streaming,
                group,
                payload,
            )
        )
        return ref

    def call_actor(
        self,
        grip: NestedGrip,
        method: str,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        group: str,
        *,
        streaming: bool = False,
    ) -> ObjectRef[Any]:
        """Call a method of an actor."""
        call = self._running_call(grip.name)
        cued = (STREAMED + method if streaming else method, *args)
        return self._send(
            call, grip.name, "", grip.task_id, {}, cued, kwargs, streaming=streaming, group=group
        )

    def stream_actor(
        self,
        grip: NestedGrip,
        method: str,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        group: str,
    ) -> ObjectRefGenerator[Any]:
        """The same with a method whose items are wanted one by one."""
        call = self.call_actor(grip, method, args, kwargs, group, streaming=True)
        return ObjectRefGenerator(_Items(self, call))

    def make_actor(
        self,
        cls: type,
        pickle: Callable[[str], Blueprint],
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
    ) -> NestedGrip:
        """Make an actor; ``pickle`` makes its blueprint, given its id."""
        call = self._running_call(cls.__name__)
        actor_id = f"{self._token}-{next(self._numbers)}"
        with passing.Collected() as held:
            blueprint = pickle(actor_id)
        function = blueprint.function
        self._tell_of(function, held)
        with passing.Collected() as held:
            arguments, payload = _laid_out((BEGIN, *args), kwargs)
        grip = self._grips[actor_id] = NestedGrip(self, actor_id, function.name)
        self.tell(
            call_msg.NestedActor(
                0,
                actor_id,
                call.job,
                call.parcel,
                call.index,
                function.digest,
                blueprint.travelling(),
                arguments,
                [ref.task_id for ref in held],
                payload,
            )
        )
        return self._taken_on(grip, blueprint) if blueprint.detached else grip

    def _taken_on(self, grip: NestedGrip, blueprint: Blueprint) -> NestedGrip:
        """The grip of a detached actor, when its node has it: nobody finds one before."""
        found = self.find_actor(blueprint.name, blueprint.namespace)
        if found is None or found[0] is grip:
            return grip  # or it has ended already, as its calls will tell
        if blueprint.get_if_exists:
            return found[0]
        raise name_taken(blueprint.name)

    def find_actor(self, name: str, namespace: str) -> tuple[NestedGrip, Repertoire] | None:
        """The actor of that name, and what it can do; None if there is none."""
        ref = self._new("get_actor")
        self.tell(call_msg.FindActor(0, ref.task_id, name, namespace))
        found = self._answer(ref)
        if found is None:
            return None
        task_id, class_name, repertoire = found
        return self.restored_grip(task_id, class_name), repertoire

    def watch(self, actor_id: str, watcher: Watcher) -> Callable[[], None]:
        """Have it called, in the worker's side thread, when an actor has ended for good; how to
        call that off."""
        ref = self._new("monitor")

        def tell() -> None:
            with suppress(ObjectLostError):  # its Commander has gone: that is no end to be told of
                watcher(ActorEnd.of(ref.result()))

        def call_off() -> None:
            ref.stop_waiting(tell)
            self.forget(ref.task_id)

        self.tell(call_msg.WatchActor(0, ref.task_id, actor_id))
        ref.when_done(tell)
        return call_off

    def leave_actor(self) -> None:
        """The actor that runs here ends with the call at hand."""
        self.tell(call_msg.LeaveActor(0, self._running_call("exit_actor").job))
        self._host.leave_soon()

    def _running_call(self, what: str) -> inside.RunningCall:
        call = self._maker()
        if call is None:
            raise GoliathError(f"{what}: no call runs in this worker, so nobody could answer")
        return call

    def _maker(self) -> inside.RunningCall | None:
        """Who makes a call that is made now; a thread of an actor may make some at any time."""
        return self._host.running_call() or self._host.between_calls()

    def submit_function(
        self, function: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> ObjectRef[Any]:
        """Make a call of a function without options."""
        try:
            task = self._tasks.get(function)
        except TypeError:  # it has no hash, so it cannot be kept
            return self.submit(Task(function), args, kwargs)
        if task is None:
            task = self._tasks[function] = Task(function)
            if len(self._tasks) > FUNCTIONS_KEPT:
                del self._tasks[next(iter(self._tasks))]
        return self.submit(task, args, kwargs)

    def put(self, value: Any) -> ObjectRef[Any]:
        """Keep a copy of a value at the Commander.

        Raises:
            SerializationError: it cannot be pickled.
        """
        with passing.Collected() as held:
            frozen = freeze("value", value, EVERYTHING)
        ref = self._new("put", Stored(frozen, held))
        payload = pickle_of(frozen)
        self.tell(call_msg.StoreValue(0, ref.task_id, [ref.task_id for ref in held], payload))
        return ref

    def nodes(self) -> Any:
        """What the Commander knows of its Lieutenants (`NodeInfo`s)."""
        ref = self._new("nodes")
        self.tell(call_msg.AskNodes(0, ref.task_id))
        return self._answer(ref)

    @staticmethod
    def _answer(ref: ObjectRef[Any]) -> Any:
        bell = ThreadBell()  # not a call, so it may be waited for in a loop, too
        ref.when_done(bell.ring)
        bell.wait(ANSWER_MAX_S)
        return ref.result(timeout=0)

    def _new(self, name: str, outcome: Outcome | None = None) -> ObjectRef[Any]:
        return self._named(f"{self._token}-{next(self._numbers)}", name, outcome)

    def _named(self, task_id: str, name: str, outcome: Outcome | None = None) -> ObjectRef[Any]:
        result = _Result(self, name, task_id)
        ref = self._refs[task_id] = ObjectRef[Any](result, 0, outcome)
        return ref

    def awaited(self, task_id: str, name: str) -> ObjectRef[Any]:
        """The ref of something that is made known when it is awaited."""
        ref = self._named(task_id, name)
        ref._calls.expect(0)
        return ref

    def asked(self, task_id: str) -> ObjectRef[Any]:
        """The ref of something that what is told next asks for."""
        ref = self._named(task_id, task_id)
        assert isinstance(ref._calls, _Result)
        self._wanted[task_id] = ref._calls
        return ref

    def forget(self, task_id: str) -> None:
        """Nobody waits for that any more, though it was asked for."""
        self._wanted.pop(task_id, None)

    def _known(self, task: Task) -> Function:
        """The task's function, after the Commander was told of it."""
        function = self._functions.get(task)
        if function is None:
            with passing.Collected() as held:
                function = task.pickled(EVERYTHING)
            self._tell_of(function, held)
            self._functions[task] = function
            if len(self._functions) > FUNCTIONS_KEPT:
                del self._functions[next(iter(self._functions))]
        return function

    def _tell_of(self, function: Function, held: Iterable[ObjectRef[Any]]) -> None:
        """Tell the Commander of a function, and of the refs that it keeps."""
        refs = [ref.task_id for ref in held]
        self.tell(
            call_msg.NestedFunction(0, function.digest, function.name, refs, function.payload)
        )

    # -- see `Canceller` -----------------------------------------------------------------

    def cancel(self, calls: Gathering, index: int, *, force: bool, recursive: bool) -> bool:
        """See `Canceller.cancel`."""
        self.tell(call_msg.CancelRef(0, f"{calls.job}-{calls.first}", force, recursive))
        return False

    def withdraw(self, calls: Gathering, index: int) -> bool:
        """See `Canceller.withdraw`: it is the Commander's already."""
        return False

    def waits(self, calls: Gathering, index: int) -> bool:
        """See `Canceller.waits`."""
        return False

    # -- what is said, and heard ---------------------------------------------------------

    def tell(self, message: call_msg.FromCalls) -> None:
        """Tell the Commander, after what nobody holds any more.

        Raises:
            ObjectLostError: it has gone.
        """
        if self._gone:
            raise ObjectLostError(GONE)
        self.give_up_dropped()
        self._say(message)

    def _say(self, message: call_msg.FromCalls) -> None:
        message.worker = self._patron  # the Lieutenant writes the worker
        self._host.tell(message)

    def want(self, result: _Result) -> None:
        """Have it said what becomes of a call, once."""
        if self._gone:
            result.settle(0, 1, Broken(ObjectLostError(GONE)))
        elif result.task_id not in self._wanted:
            self._wanted[result.task_id] = result
            self.tell(call_msg.AwaitRefs(0, [result.task_id]))

    def drop(self, task_id: str) -> None:
        """Nobody in this process holds it any more. From a finalizer: it only notes it."""
        self._dropped.append(task_id)

    def give_up_dropped(self) -> None:
        """Tell the Commander what nobody in this process holds any more."""
        refs = []
        with suppress(IndexError):  # until there are none: another thread may take some, too
            while True:
                refs.append(self._dropped.popleft())
        if refs and not self._gone:
            self._say(call_msg.DropRefs(0, refs))

    def restored(self, task_id: str, name: str) -> ObjectRef[Any]:
        """The ref that was in a value which has come here."""
        ref = self._refs.get(task_id)
        if ref is None:
            self._hold(task_id)
            ref = self._named(task_id, name)
        return ref

    def _hold(self, task_id: str) -> None:
        if not self._gone:  # whoever asks for it will be told
            self.tell(call_msg.HoldRefs(0, [task_id]))

    def restored_grip(self, task_id: str, name: str) -> NestedGrip:
        """The grip of an actor whose handle has come here."""
        grip = self._grips.get(task_id)
        if grip is None:
            self._hold(task_id)
            grip = self._grips[task_id] = NestedGrip(self, task_id, name)
        return grip

    def on_ended(self, message: worker_msg.RefEnded) -> None:
        """In the worker's side thread: what has become of something."""
        result = self._wanted.pop(message.ref, None)
        if result is not None:
            outcome = Delivered(bytes(message.payload), failed=message.failed)
            result.settle(0, 1, outcome)

    def on_gone(self) -> None:
        """In the worker's side thread: the Commander is gone, and nothing will be answered."""
        self._gone = True
        while self._wanted:
            _, result = self._wanted.popitem()
            result.settle(0, 1, Broken(ObjectLostError(GONE)))


class NestedGrip:
    """The grip that a worker has of an actor (see `handles.Grip`)."""

    __slots__ = ("__weakref__", "_nested", "name", "task_id")

    def __init__(self, nested: NestedCalls, task_id: str, name: str) -> None:
        self._nested = nested
        self.task_id = task_id
        self.name = name

    def __del__(self) -> None:
        self._nested.drop(self.task_id)

    def call(
        self, method: str, args: tuple[Any, ...], kwargs: dict[str, Any], group: str = ""
    ) -> ObjectRef[Any]:
        """See `Grip.call`."""
        return self._nested.call_actor(self, method, args, kwargs, group)

    def stream(
        self, method: str, args: tuple[Any, ...], kwargs: dict[str, Any], group: str = ""
    ) -> ObjectRefGenerator[Any]:
        """See `Grip.stream`."""
        return self._nested.stream_actor(self, method, args, kwargs, group)

    def kill(self, *, no_restart: bool) -> None:
        """See `Grip.kill`."""
        self._nested.tell(call_msg.KillActor(0, self.task_id, no_restart))

    def watch(self, watcher: Watcher) -> Callable[[], None]:
        """See `Grip.watch`."""
        return self._nested.watch(self.task_id, watcher)

    def link(self, other: NestedGrip, *, linked: bool) -> None:
        """See `Grip.link`."""
        self._nested.tell(call_msg.LinkActors(0, self.task_id, other.task_id, linked))


def _laid_out(
    args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> tuple[list[list[str | int]], bytes]:
    """Arguments as a `NestedCall` has them."""
    named = [*(("", value) for value in args), *kwargs.items()]
    if not any(type(value) is ObjectRef for _, value in named):
        return [], bytes(encode_single(args, dict(kwargs), EVERYTHING))
    arguments: list[list[str | int]] = []
    pieces = []
    for place, (name, value) in enumerate(named):
        if type(value) is ObjectRef and isinstance(value._calls, _Result):
            arguments.append([name, value.task_id])
            continue
        value = value.result() if isinstance(value, ObjectRef) else value
        frozen = freeze(name or f"argument {place}", value, EVERYTHING)
        pieces.append(pickle_of(frozen))
        arguments.append([name, len(pieces[-1])])
    return arguments, b"".join(pieces)


def _travelling(options: JobOptions) -> dict[str, object]:
    chosen = {name: getattr(options, name) for name in TRAVELLING}
    return {name: value for name, value in chosen.items() if value != getattr(USUAL, name)}


def _importing() -> bool:
    """Whether this is done because a module is being imported."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if frame.f_code.co_filename == "<frozen importlib._bootstrap>":
            return True
        frame = frame.f_back
    return False


_calls: dict[int, NestedCalls] = {}  # by patron
_making = threading.Lock()


def calls() -> NestedCalls:
    """The maker of nested calls in this worker, for the Commander of the call that runs here.

    Raises:
        GoliathError: this process is no worker.
    """
    host = inside.host
    if host is None:
        raise GoliathError("this process is no worker, and has no Commander around it")
    maker = host.running_call() or host.between_calls()
    return _calls_for(host, maker.patron if maker is not None else 0)


def _calls_for(host: inside.Host, patron: int) -> NestedCalls:
    with _making:  # of two, one would hear what the other has asked for
        if patron not in _calls:
            _calls[patron] = NestedCalls(host, patron)
            inside.on_told, inside.after_report = _on_told, _after_report
        return _calls[patron]


def _on_told(message: Message) -> None:
    if isinstance(message, worker_msg.RefEnded):
        made = _calls.get(message.worker) or _calls.get(0)
        if made is not None:
            made.on_ended(message)
    elif isinstance(message, worker_msg.PatronLeft):
        with _making:
            made = _calls.pop(message.patron, None)
        if made is not None:
            made.on_gone()


def _after_report() -> None:
    for made in list(_calls.values()):
        made.give_up_dropped()
