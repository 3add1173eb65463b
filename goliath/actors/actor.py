"""What an actor is: one object, one message at a time, and a context to act through."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, Protocol

from goliath.actors.ref import ActorRef, AskableRef
from goliath.actors.supervisor import Child, Exit, Lifetime


class Context(Protocol):
    """What the runtime offers to the actor it runs."""

    @property
    def ref(self) -> AskableRef:
        """The actor's own ref."""

    def now(self) -> float:
        """The time, by the clock of the system."""

    def wake_at(self, deadline: float) -> None:
        """Have `Actor.on_timer` called at this time; replaces an earlier, later wish."""

    def spawn(self, factory: Callable[[], Actor], name: str, lifetime: Lifetime) -> ActorRef:
        """Start a child actor under this actor's supervision."""

    def adopt(self, child: Child) -> None:
        """Take a child that is no local actor (a process) under supervision."""

    def child_exited(self, child: Child, exit: Exit) -> None:  # noqa: A002 - Erlang's word
        """To be called when an adopted child has ended."""

    def run(self, coroutine: Coroutine[Any, Any, None], name: str) -> None:
        """Run a coroutine as part of this actor: it ends with it, and its crash is a crash
        of the actor."""

    def stop(self) -> None:
        """End this actor after the message at hand."""


class Actor:
    """Base of all actors. Its methods are called in the loop's thread, never two at once."""

    context: Context
    """Set by the runtime before `started`."""

    crash: BaseException | None = None
    """What ends it, if it is not well; set by the runtime before `stopping`."""

    def started(self) -> None:
        """Called once, before the first message."""

    def receive(self, message: Any) -> Any:
        """Handle one message; what is returned answers a question. Must not block."""
        raise TypeError(f"{type(self).__name__} was told {message!r}, which it does not know")

    def on_timer(self) -> None:
        """The time asked for with `Context.wake_at` has come."""

    def on_child_exit(self, child: Child, exit: Exit) -> None:  # noqa: A002 - Erlang's word
        """A child has ended and its lifetime does not ask for a restart."""

    def last_events(self) -> str:
        """What it was told last, one event a line, for whoever wonders why it crashed."""
        return ""

    def keep_journal(self, error: BaseException) -> str:
        """Put by what it was told, after it has crashed; a sentence that says where."""
        return ""

    def stopping(self) -> None:
        """Called once, after the last message; a place to let go of things."""
