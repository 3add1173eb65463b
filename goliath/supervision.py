"""Supervision: hear of the ends of actors, let them end together, start them again (the words
are Erlang's).

::

    >>> import goliath, threading
    >>> @goliath.remote
    ... class Worker:
    ...     def work(self):
    ...         return "done"
    >>> worker, ended = Worker.remote(), threading.Event()
    >>> monitor = goliath.monitor(worker, lambda end: ended.set())
    >>> goliath.kill(worker)
    >>> ended.wait(10)
    True
    >>> goliath.shutdown()
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, Self

from goliath import runtime
from goliath.actor_class import Actor, ActorClass, kill
from goliath.actors.group import Group
from goliath.actors.handles import ActorHandle, HeldGrip, LocalGrip
from goliath.actors.kin import ActorEnd
from goliath.actors.monitor import Monitor
from goliath.actors.supervisor import Lifetime, Strategy
from goliath.core.policy import RestartIntensity
from goliath.errors import GoliathError, SupervisionError


def monitor(actor: ActorHandle, callback: Callable[[ActorEnd], Any]) -> Monitor:
    """Have ``callback`` called once, when an actor has ended for good; at once if it has already.

    A restart is no end, and neither is the end of the Commander, with which everything ends.
    The callback runs in a thread of its own, in the process that called this: it may make calls and
    wait for them. What it raises is written to stderr. That somebody watches it does not keep an
    actor alive. Set by an actor, a monitor lasts as long as that one's process; set by a task, as
    long as the call.

    Args:
        actor: its handle.
        callback: called with an `ActorEnd`.

    Returns:
        Its ``cancel()`` calls the monitor off.

    Raises:
        TypeError: ``actor`` is no handle, or ``callback`` cannot be called.
        GoliathError: the Commander is closed.
    """
    _check("monitor", actor)
    if not callable(callback):
        raise TypeError(f"goliath.monitor was given a {type(callback).__name__} to call back")
    return Monitor(actor, callback)


def link(one: ActorHandle, other: ActorHandle) -> None:
    """Let two actors die together: if one of them dies, the other is ended, too, for good.

    Its calls then raise `ActorDiedError`, whose message and cause name the first. One that has
    died already takes the other along at once. A normal end does not spread: an actor may leave
    by `exit_actor`, or end because nobody holds a handle of it. Links may form rows and circles; an
    actor that a `Supervisor` looks after is restarted by it when a linked one dies.

    ::

        >>> import goliath
        >>> @goliath.remote
        ... class Half:
        ...     def call(self):
        ...         return 1
        >>> left, right = Half.remote(), Half.remote()
        >>> goliath.link(left, right)
        >>> goliath.kill(left)
        >>> try:
        ...     goliath.get(right.call.remote())
        ... except goliath.ActorDiedError as error:
        ...     print("linked to" in str(error))
        True
        >>> goliath.shutdown()

    Raises:
        TypeError: something is no handle.
        GoliathError: the Commander is closed.
    """
    _check("link", one, other)
    one._grip.link(other._grip, linked=True)


def unlink(one: ActorHandle, other: ActorHandle) -> None:
    """What becomes of one of two actors is nothing to the other any more.

    Raises:
        TypeError: something is no handle.
        GoliathError: the Commander is closed.
    """
    _check("unlink", one, other)
    one._grip.link(other._grip, linked=False)


class Supervisor:
    """Looks after actors: starts them in order, and starts them again when they end.

    Their handles go on working: calls that wait are made by the next instance, and calls that were
    under way raise `ActorUnavailableError`, or are made again if ``max_task_retries`` of the actor
    allows it. It lives in the process of the Commander.

    ::

        >>> import goliath, os
        >>> @goliath.remote(max_task_retries=-1)
        ... class Reader:
        ...     def __init__(self, path):
        ...         self.path = path
        ...     def pid(self):
        ...         return os.getpid()
        >>> with goliath.Supervisor("rest_for_one") as supervisor:
        ...     reader = supervisor.start(Reader, "input.txt", name="reader")
        ...     before = goliath.get(reader.pid.remote())
        ...     goliath.kill(reader)  # for its supervisor, that is a crash like any other
        ...     before != goliath.get(reader.pid.remote())
        True
        >>> goliath.shutdown()

    Args:
        strategy: which children are started again when one is: "one_for_one": this one;
            "one_for_all": all; "rest_for_one": this one, and those that were started after it. The
            others are ended first, the youngest first, and all are started in their old order, each
            when ``__init__`` of the one before has returned.
        max_restarts: more than so many restarts ...
        window_s: ... within so many seconds, and it gives up: all its children are ended, the
            youngest first, and their calls raise `ActorDiedError`, which says why.
        name: what messages call it.

    Attributes:
        children: handles of the actors that have not ended for good, in the order of their start.
        failure: the `SupervisionError` with which it gave up, or None.

    Raises:
        ValueError: an argument makes no sense.
    """

    def __init__(
        self,
        strategy: Literal["one_for_one", "one_for_all", "rest_for_one"] = "one_for_one",
        *,
        max_restarts: int = 3,
        window_s: float = 5.0,
        name: str = "the supervisor",
    ) -> None:
        known = [each.value for each in Strategy]
        if strategy not in known:
            raise ValueError(f"strategy={strategy!r}; it is one of {', '.join(map(repr, known))}")
        if type(max_restarts) is not int or max_restarts < 0:
            raise ValueError(f"max_restarts={max_restarts!r}; it is 0 or a positive integer")
        if not window_s > 0:
            raise ValueError(f"window_s={window_s!r}; it is a positive number of seconds")
        self._strategy = Strategy(strategy)
        self._intensity = RestartIntensity(max_restarts, window_s)
        self._name = name
        self._group: Group | None = None
        self._closed = False
        self._children: list[ActorHandle] = []

    def __repr__(self) -> str:
        return f"<Supervisor {self._strategy.value} of {len(self.children)} actors>"

    @property
    def children(self) -> list[ActorHandle]:
        """See the class."""
        self._children = [child for child in self._children if not _has_ended(child)]
        return list(self._children)

    @property
    def failure(self) -> BaseException | None:
        """See the class."""
        return self._group.failure if self._group is not None else None

    def start(
        self,
        actor_class: ActorClass[...] | type[Actor],
        /,
        *args: Any,
        name: str | None = None,
        restart: Literal["permanent", "transient", "temporary"] = "permanent",
        **kwargs: Any,
    ) -> ActorHandle:
        """Start one more actor. Returns when its ``__init__`` has returned.

        Args:
            actor_class: what `goliath.remote` has made of a class, with options if it needs any;
                its own ``max_restarts`` count for nothing here.
            *args, **kwargs: of ``__init__``.
            name: by which `goliath.get_actor` finds it, while it lives.
            restart: "permanent": it is started again however it ends; "transient": unless it has
                left by itself (``exit_actor``); "temporary": never.

        Returns:
            Its handle. The supervisor has one, too: it does not end when this one is gone.

        Raises:
            ActorDiedError: ``__init__`` failed, its cause says how. This is not tried again.
            SerializationError: the class or an argument cannot be pickled.
            SupervisionError: the supervisor has given up.
            TypeError: that is no class of actors.
            ValueError: ``restart`` makes no sense, there is an actor of that name, or the class is
                to be detached.
            GoliathError: it was closed, or this is not the process of the Commander.
        """
        made = _actor_class(actor_class)
        if restart not in (known := [each.name.lower() for each in Lifetime]):
            raise ValueError(f"restart={restart!r}; it is one of {', '.join(map(repr, known))}")
        if self._closed:
            raise GoliathError(f"{self._name} was closed; make another Supervisor")
        if self.failure is not None:
            raise SupervisionError(str(self.failure)) from self.failure
        if name is not None:
            made = made.options(name=name)
        group = self._group = self._group or runtime.make_group(
            self._name, self._strategy, self._intensity
        )
        if group is None:  # in local mode
            handle = made.remote(*args, **kwargs)
        else:
            handle = made.remote_under(group, Lifetime[restart.upper()], args, kwargs)
            _await_start(handle)
        self._children.append(handle)
        return handle

    def stop(self, child: ActorHandle) -> None:
        """End one of its actors for good, after the calls that were made.

        It has 5 s for them; then it is ended under what it does, and these calls raise
        `ActorDiedError`. Nothing becomes of the others.

        Raises:
            ValueError: it is none of its children, or has ended.
        """
        if child not in self.children:
            raise ValueError(f"{child!r} is no child of {self!r}, or not any more")
        self._children.remove(child)
        if self._group is None:
            kill(child)
        else:
            self._group.finish(_held(child).actor)

    def close(self) -> None:
        """End all its actors, the youngest first, each as `stop` does. Idempotent."""
        self._closed = True
        if self._group is not None:
            self._group.close()
        for child in reversed(self.children):
            kill(child)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


def _actor_class(given: Any) -> ActorClass[...]:
    if isinstance(given, type) and issubclass(given, Actor):
        return given.options()
    if not isinstance(given, ActorClass):
        raise TypeError(
            f"Supervisor.start was given {given!r}; it takes a class with @goliath.remote, and "
            "then the arguments of its __init__"
        )
    return given


def _held(handle: ActorHandle) -> HeldGrip:
    grip = handle._grip
    assert isinstance(grip, HeldGrip), "its actor was made in this process"
    return grip


def _has_ended(handle: ActorHandle) -> bool:
    grip = handle._grip
    return isinstance(grip, HeldGrip | LocalGrip) and grip.ended()


def _await_start(handle: ActorHandle) -> None:
    actor = _held(handle).actor
    try:
        actor.settled.wait()
    except BaseException:  # a KeyboardInterrupt, most likely
        kill(handle)
        raise
    end: ActorEnd | None = actor.kin.end
    if end is not None and end.error is not None:
        raise end.error


def _check(verb: str, *actors: object) -> None:
    for actor in actors:
        if not isinstance(actor, ActorHandle):
            raise TypeError(
                f"goliath.{verb} was given a {type(actor).__name__}; it takes handles of actors, "
                "as .remote() and get_actor() return them"
            )
