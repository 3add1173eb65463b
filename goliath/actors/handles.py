"""Handles of actors: what can be called, passed on, and dropped.

All handles of an actor in a process share one *grip*. When nobody has a grip any more, in any
process, the actor ends after the calls that were made.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Protocol

from goliath.actors import inside, object_ref, passing, stage
from goliath.actors.endings import Broken, Made
from goliath.actors.gathering import Gathering
from goliath.actors.object_ref import ObjectRef
from goliath.errors import ActorDiedError, GoliathError, ObjectLostError


class Grip(Protocol):
    """What holds an actor."""

    @property
    def task_id(self) -> str:
        """The id of the actor. (It is passed on like the refs of calls.)"""

    @property
    def name(self) -> str:
        """Of its class."""

    def call(self, method: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> ObjectRef[Any]:
        """Call a method."""

    def kill(self, *, no_restart: bool) -> None:
        """End it at once."""


class ActorHandle:
    """An actor, to be called: ``handle.method.remote(...)`` (the term is Ray's).

    It can be passed to tasks and actors, and returned from them.
    """

    __slots__ = ("__weakref__", "_grip", "_methods")

    def __init__(self, grip: Grip, methods: Mapping[str, int]) -> None:
        self._grip = grip
        self._methods = methods

    def __getattr__(self, name: str) -> ActorMethod:
        count = self._methods.get(name)
        if count is None:
            raise AttributeError(f"actor {self._grip.name} has no method {name!r}")
        return ActorMethod(self, name, count)

    def __dir__(self) -> list[str]:
        return sorted({*object.__dir__(self), *self._methods})

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
        return _restored, (grip.task_id, grip.name, dict(self._methods))


class ActorMethod:
    """A method of an actor, to be called by `remote`."""

    __slots__ = ("_handle", "_name", "_num_returns")

    def __init__(self, handle: ActorHandle, name: str, num_returns: int) -> None:
        self._handle = handle
        self._name = name
        self._num_returns = num_returns

    def __repr__(self) -> str:
        return f"<method {self._name} of {self._handle!r}>"

    def __call__(self, *_args: Any, **_kwargs: Any) -> Any:
        raise TypeError(
            f"{self._name} is a method of an actor, in another process; call "
            f"{self._name}.remote(...) and get its result"
        )

    def remote(self, *args: Any, **kwargs: Any) -> Any:
        """Call it. Calls by one handle are begun in the order in which they are made.

        Returns:
            A ref to the result; a list of refs with ``num_returns``.

        Raises:
            SerializationError: an argument cannot be pickled.
            PendingCallsLimitExceeded: as many calls of the actor wait as may.
        """
        ref = self._handle._grip.call(self._name, args, kwargs)
        return ref if self._num_returns == 1 else object_ref.split(ref, self._num_returns)

    def options(self, *, num_returns: int = 1) -> ActorMethod:
        """The same method with other options."""
        return ActorMethod(self._handle, self._name, num_returns)


class LocalGrip:
    """An actor of local mode: an object in this process."""

    def __init__(self, task_id: str, instance: Any) -> None:
        self.task_id = task_id
        self.name = type(instance).__name__
        self._instance = instance
        self._died = ""

    def call(self, method: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> ObjectRef[Any]:
        """See `Grip.call`."""
        if self._died:
            error = ActorDiedError(f"actor {self.name} has died: {self._died}")
            return ObjectRef(Gathering(self.name, "here", 0), 0, Broken(error))
        try:
            return object_ref.made_here(getattr(self._instance, method), args, kwargs)
        except stage.ActorExit:
            self._died = "it has left (exit_actor)"
            return ObjectRef(Gathering(self.name, "here", 0), 0, Made(None))

    def kill(self, *, no_restart: bool) -> None:
        """See `Grip.kill`."""
        self._died = "it was killed (goliath.kill)"


def _restored(task_id: str, name: str, methods: dict[str, int]) -> ActorHandle:
    if inside.host is not None:
        from goliath.actors import nested  # which is made of handles, and not for everybody

        return ActorHandle(nested.calls().restored_grip(task_id, name), methods)
    grip: Any = object_ref.find(task_id)
    if grip is None:
        raise ObjectLostError(
            f"the handle of actor {name} ({task_id}) was read in another process than it was made "
            "in, or after the actor had ended; pass it as an argument, or keep it"
        )
    return ActorHandle(grip, methods)


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

    def call(self, method: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> ObjectRef[Any]:
        """See `Grip.call`."""
        ref: ObjectRef[Any] = self.actor.call(method, args, kwargs)
        return ref

    def kill(self, *, no_restart: bool) -> None:
        """See `Grip.kill`."""
        self.actor.kill(no_restart=no_restart)
