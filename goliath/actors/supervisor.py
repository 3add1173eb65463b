"""Nothing runs unsupervised: who hears of a death, and what is done about it.

The words are Erlang's: a *permanent* child is always restarted, a *transient* one only when
it crashed, a *temporary* one never. A supervisor that would have to restart more than
``max_restarts`` children within ``window_s`` gives up and escalates: it crashes itself, and
its own supervisor hears of it. Children are whatever can die: actors of this loop, and worker
processes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, Protocol

from goliath.core.policy import RestartIntensity
from goliath.errors import GoliathError


class Lifetime(Enum):
    """Whether a child that ended is started again."""

    PERMANENT = auto()
    TRANSIENT = auto()
    TEMPORARY = auto()


@dataclass(frozen=True, slots=True)
class Exit:
    """How a child ended: ``error`` is None for a normal end; ``detail`` is the child's own
    account (a process gives its exit report)."""

    error: BaseException | None = None
    detail: Any = None


class Child(Protocol):
    """Anything a supervisor can have under it."""

    @property
    def name(self) -> str:
        """What messages and logs call it."""

    @property
    def lifetime(self) -> Lifetime:
        """Whether it is started again when it ends."""

    def stop(self) -> None:
        """End it, as gently as it can be done without waiting."""

    def restart(self) -> None:
        """Start it again after it ended."""


class SupervisionError(GoliathError):
    """A supervisor gave up on its children."""


class Supervisor:
    """The children of one parent, and the rule by which they live."""

    def __init__(
        self,
        parent: str,
        *,
        on_exit: Callable[[Child, Exit], None],
        escalate: Callable[[BaseException], None],
        now: Callable[[], float],
        intensity: RestartIntensity | None = None,
    ) -> None:
        """
        Args:
            parent: the name of the owner, for messages.
            on_exit: told of each child that ended for good.
            escalate: told when the restarts are too many.
            now: the time in seconds.
            intensity: how many restarts are bearable; default 5 within 10 s.
        """
        self._parent = parent
        self._on_exit = on_exit
        self._escalate = escalate
        self._now = now
        self._intensity = intensity or RestartIntensity(max_restarts=5, window_s=10.0)
        self._children: list[Child] = []
        self._closing = False

    def __len__(self) -> int:
        return len(self._children)

    def adopt(self, child: Child) -> None:
        """Take a child in that has been started."""
        self._children.append(child)

    def exited(self, child: Child, exit: Exit) -> None:  # noqa: A002 - Erlang's word
        """A child has ended: restart it, give up, or let its parent know."""
        if child not in self._children:
            return
        wanted = child.lifetime is Lifetime.PERMANENT or (
            child.lifetime is Lifetime.TRANSIENT and exit.error is not None
        )
        if self._closing or not wanted:
            self._children.remove(child)
            self._on_exit(child, exit)
        elif self._intensity.allows(self._now()):
            child.restart()
        else:
            self._children.remove(child)
            error = SupervisionError(
                f"{self._parent} gave up: {child.name} ended more than "
                f"{self._intensity.max_restarts} times within {self._intensity.window_s:g} s, "
                f"the last time with {exit.error!r}"
            )
            error.__cause__ = exit.error
            self._escalate(error)

    def close(self) -> None:
        """Stop every child, the youngest first; none is restarted any more."""
        self._closing = True
        for child in reversed(list(self._children)):
            child.stop()
