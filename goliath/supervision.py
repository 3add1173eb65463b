"""Supervision: hear of the ends of actors, let them end together (the words are Erlang's).

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
from typing import Any

from goliath.actors.handles import ActorHandle
from goliath.actors.kin import ActorEnd
from goliath.actors.monitor import Monitor


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


def _check(verb: str, *actors: object) -> None:
    for actor in actors:
        if not isinstance(actor, ActorHandle):
            raise TypeError(
                f"goliath.{verb} was given a {type(actor).__name__}; it takes handles of actors, "
                "as .remote() and get_actor() return them"
            )
