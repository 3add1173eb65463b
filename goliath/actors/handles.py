"""Handles of actors: what can be called, passed on, and dropped.

All handles of an actor in a process share one *grip*. When nobody has a grip any more, in any
process, the actor ends after the calls that were made.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any, Literal, Protocol

from goliath.actors import inside, object_ref, passing, stage
from goliath.actors.checks import STREAMING, checked_count
from goliath.actors.endings import Broken, Made
from goliath.actors.kin import ActorEnd, Kin, Watcher
from goliath.actors.object_ref import ObjectRef
from goliath.actors.ref_generator import MadeHere, ObjectRefGenerator
from goliath.actors.repertoire import Method, Repertoire
from goliath.errors import KILLED, LEFT, ActorDiedError, GoliathError, ObjectLostError


class Grip(Protocol):
    """What holds an actor."""

    @property
    def task_id(self) -> str:
        """The id of the actor. (It is passed on like the refs of calls.)"""

    @property
    def name(self) -> str:
        """Of its class."""

    def call(
        self, method: str, args: tuple[Any, ...], kwargs: dict[str, Any], group: str = ""
    ) -> ObjectRef[Any]:
        """Call a method."""

    def stream(
        self, method: str, args: tuple[Any, ...], kwargs: dict[str, Any], group: str = ""
    ) -> ObjectRefGenerator[Any]:
        """Call a method whose items are wanted one by one."""

    def kill(self, *, no_restart: bool) -> None:
        """End it at once."""

    def watch(self, watcher: Watcher) -> Callable[[], None]:
        """Have it called when the actor has ended for good; how to call that off."""

    def link(self, other: Any, *, linked: bool) -> None:
        """If one of the two dies, so does the other; or (``linked`` false) not any more."""


class ActorHandle:
    """An actor, to be called: ``handle.method.remote(...)`` (the term is Ray's).

    It can be passed to tasks and actors, and returned from them.
    """

    def __init__(self, grip: Grip, repertoire: Repertoire) -> None:
        self._grip = grip
        self._repertoire = repertoire

    def __getattr__(self, name: str) -> ActorMethod:
        method = self._repertoire.methods.get(name)
        if method is None:
            raise AttributeError(f"actor {self._grip.name} has no method {name!r}")
        # Kept, so the next call finds it in a tenth of the time. It has the grip, and not this
        # handle: in a circle, neither would be freed at once, and the actor end, when it should.
        made = self.__dict__[name] = ActorMethod(self._grip, self._repertoire, name, method)
        return made

    def __dir__(self) -> list[str]:
        return sorted({*object.__dir__(self), *self._repertoire.methods})

    def __repr__(self) -> str:
        return f"<ActorHandle {self._grip.task_id} of {self._grip.name}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ActorHandle) and self._grip.task_id == other._grip.task_id

    def __hash__(self) -> int:
        return hash(self._grip.task_id)

    def __copy__(self) -> ActorHandle:
        return self

    def __deepcopy__(self, _memo: object) -> ActorHandle:
        return self

    def __reduce__(self) -> Any:
        grip = self._grip
        passing.collect(grip)
        object_ref.register(grip)
        return _restored, (grip.task_id, grip.name, self._repertoire)


class ActorMethod:
    """A method of an actor, to be called by `remote`."""

    __slots__ = ("_grip", "_method", "_name", "_repertoire")

    def __init__(self, grip: Grip, repertoire: Repertoire, name: str, method: Method) -> None:
        self._grip = grip
        self._repertoire = repertoire
        self._name = name
        self._method = method

    def __repr__(self) -> str:
        return f"<method {self._name} of {ActorHandle(self._grip, self._repertoire)!r}>"

    def __call__(self, *_args: Any, **_kwargs: Any) -> Any:
        raise TypeError(
            f"{self._name} is a method of an actor, in another process; call "
            f"{self._name}.remote(...) and get its result"
        )

    def remote(self, *args: Any, **kwargs: Any) -> Any:
        """Call it. Calls by one handle are begun in the order in which they are made.

        Returns:
            A ref to the result; a list of refs with ``num_returns``; an `ObjectRefGenerator` of
            refs to the items of a generator method.

        Raises:
            SerializationError: an argument cannot be pickled.
            PendingCallsLimitExceeded: as many calls of the actor wait as may.
        """
        method = self._method
        num_returns = method.num_returns
        if num_returns == STREAMING:
            return self._grip.stream(self._name, args, kwargs, method.group)
        ref = self._grip.call(self._name, args, kwargs, method.group)
        return ref if num_returns == 1 else object_ref.split(ref, num_returns)

    def options(
        self,
        *,
        num_returns: int | Literal["streaming"] | None = None,
        concurrency_group: str | None = None,
    ) -> ActorMethod:
        """The same method with other options (see `goliath.method`); None: as it is.

        Raises:
            ValueError: one of them is out of range, or the actor has no such group.
        """
        method = self._method
        if num_returns is not None:
            method = replace(method, num_returns=checked_count(num_returns))
        if concurrency_group is not None:
            self._repertoire.check_group(self._grip.name, concurrency_group)
            method = replace(method, group=concurrency_group)
        return ActorMethod(self._grip, self._repertoire, self._name, method)


class LocalGrip:
    """An actor of local mode: an object in this process."""

    def __init__(self, task_id: str, instance: Any) -> None:
        self.task_id = task_id
        self.name = type(instance).__name__
        self._instance = instance
        self._kin = Kin(self._on_link_died)

    def call(
        self, method: str, args: tuple[Any, ...], kwargs: dict[str, Any], group: str = ""
    ) -> ObjectRef[Any]:
        """See `Grip.call`."""
        gone = self._gone()
        if gone is not None:
            return object_ref.ended(self.name, Broken(gone))
        try:
            return object_ref.made_here(getattr(self._instance, method), args, kwargs, there=True)
        except stage.ActorExit:
            self._kin.ended(ActorEnd(self.task_id, self.name, ""))
            return object_ref.ended(self.name, Made(None))

    def stream(
        self, method: str, args: tuple[Any, ...], kwargs: dict[str, Any], group: str = ""
    ) -> ObjectRefGenerator[Any]:
        """See `Grip.stream`."""

        def begun(*args: Any, **kwargs: Any) -> Any:
            gone = self._gone()
            if gone is not None:
                raise gone
            return getattr(self._instance, method)(*args, **kwargs)

        begun.__qualname__ = f"{self.name}.{method}"
        return ObjectRefGenerator(MadeHere(begun, *object_ref.resolved(args, kwargs), there=True))

    def _gone(self) -> Exception | None:
        """What its callers are told, if it has ended."""
        end = self._kin.end
        if end is None:
            return None
        return end.error or ActorDiedError(f"actor {self.name} has ended: {LEFT}")

    def kill(self, *, no_restart: bool) -> None:
        """See `Grip.kill`."""
        self._die(KILLED, killed=True)

    def watch(self, watcher: Watcher) -> Callable[[], None]:
        """See `Grip.watch`."""
        self._kin.watch(watcher)
        return partial(self._kin.unwatch, watcher)

    def link(self, other: LocalGrip, *, linked: bool) -> None:
        """See `Grip.link`."""
        (self._kin.link if linked else self._kin.unlink)(other._kin)

    def ended(self) -> bool:
        """Whether it has ended for good."""
        return self._kin.end is not None

    def _on_link_died(self, end: ActorEnd) -> None:
        self._die(f"actor {end.class_name}, which it is linked to, has died", end.error)

    def _die(self, why: str, cause: Exception | None = None, *, killed: bool = False) -> None:
        if self._kin.end is None:
            error = ActorDiedError(f"actor {self.name} has died: {why}")
            error.__cause__ = cause
            self._kin.ended(ActorEnd(self.task_id, self.name, "", error, killed))


def _restored(task_id: str, name: str, repertoire: Repertoire) -> ActorHandle:
    if inside.host is not None:
        from goliath.actors import nested  # which is made of handles, and not for everybody

        return ActorHandle(nested.calls().restored_grip(task_id, name), repertoire)
    grip: Any = object_ref.find(task_id)
    if grip is None:
        raise ObjectLostError(
            f"the handle of actor {name} ({task_id}) was read in another process than it was made "
            "in, or after the actor had ended; pass it as an argument, or keep it"
        )
    return ActorHandle(grip, repertoire)


class HeldGrip:
    """The grip in the Commander's own process; with it, the actor ends.

    Args:
        actor: calls its methods, kills it, and is closed when nobody has the grip any more.
    """

    __slots__ = ("__weakref__", "actor", "name", "task_id")

    def __init__(self, actor: Any) -> None:
        self.actor = actor
        self.task_id: str = actor.actor_id
        self.name: str = actor.name

    def __del__(self) -> None:
        with suppress(GoliathError):  # its Commander is closed, and all has ended
            self.actor.close()

    def call(
        self, method: str, args: tuple[Any, ...], kwargs: dict[str, Any], group: str = ""
    ) -> ObjectRef[Any]:
        """See `Grip.call`."""
        ref: ObjectRef[Any] = self.actor.call(method, args, kwargs, group)
        return ref

    def stream(
        self, method: str, args: tuple[Any, ...], kwargs: dict[str, Any], group: str = ""
    ) -> ObjectRefGenerator[Any]:
        """See `Grip.stream`."""
        items: ObjectRefGenerator[Any] = self.actor.stream(method, args, kwargs, group)
        return items

    def kill(self, *, no_restart: bool) -> None:
        """See `Grip.kill`."""
        self.actor.kill(no_restart=no_restart)

    def watch(self, watcher: Watcher) -> Callable[[], None]:
        """See `Grip.watch`."""
        self.actor.watch(watcher)
        return partial(self.actor.unwatch, watcher)

    def link(self, other: HeldGrip, *, linked: bool) -> None:
        """See `Grip.link`."""
        self.actor.link(other.actor, linked=linked)

    def ended(self) -> bool:
        """Whether it has ended for good."""
        return self.actor.kin.end is not None
