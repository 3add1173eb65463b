"""Nothing runs unsupervised: who hears of a death, and what is done about it.

The words are Erlang's: a *permanent* child is always restarted, a *transient* one only when
it crashed, a *temporary* one never. A supervisor that would have to restart more than
``max_restarts`` children within ``window_s`` gives up and escalates: it crashes itself, and
its own supervisor hears of it. Children are whatever can die: actors of this loop, worker
processes, and actors of the user's.

With a *strategy* other than one for one, a child that is restarted takes others with it: they are
stopped, the youngest first, and when all of them have ended, all are started in their old order,
each when the one before has said that it is up.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import Enum, auto
from typing import Any, Protocol

from goliath.core.policy import RestartIntensity
from goliath.errors import SupervisionError
from goliath.record import frozen


class Lifetime(Enum):
    """Whether a child that ended is started again."""

    PERMANENT = auto()
    TRANSIENT = auto()
    TEMPORARY = auto()


class Strategy(Enum):
    """Which children are restarted when one is."""

    ONE_FOR_ONE = "one_for_one"  # this one
    ONE_FOR_ALL = "one_for_all"  # all
    REST_FOR_ONE = "rest_for_one"  # this one, and those that were started after it


@frozen
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
        """Start it again after it ended. With others to be started after it, it has to say by
        `Supervisor.started` when it is up."""


class Supervisor:
    """The children of one parent, and the rule by which they live."""

    def __init__(
        self,
        parent: str,
        *,
        on_exit: Callable[[Child, Exit], None],
        escalate: Callable[[BaseException], None],
        now: Callable[[], float],
        intensities: Sequence[RestartIntensity] = (),
        strategy: Strategy = Strategy.ONE_FOR_ONE,
    ) -> None:
        """
        Args:
            parent: the name of the owner, for messages.
            on_exit: told of each child that ended for good.
            escalate: told when the restarts are too many.
            now: the time in seconds.
            intensities: how many restarts are bearable, each of them; default 5 within 10 s.
            strategy: which others are restarted with a child.
        """
        self._parent = parent
        self._on_exit = on_exit
        self._escalate = escalate
        self._now = now
        self._intensities = intensities or (RestartIntensity(max_restarts=5, window_s=10.0),)
        self._strategy = strategy
        self._children: list[Child] = []  # in the order in which they were started
        self._stopping: list[Child] = []  # for the sake of another
        self._down: list[Child] = []  # to be started, in this order, when none is being stopped
        self._starting: Child | None = None
        self._closing = False

    def __len__(self) -> int:
        return len(self._children)

    def __contains__(self, child: Child) -> bool:
        return child in self._children

    def adopt(self, child: Child) -> None:
        """Take a child in that has been started."""
        self._children.append(child)

    def exited(self, child: Child, exit: Exit) -> None:  # noqa: A002 - Erlang's word
        """A child has ended: restart it, give up, or let its parent know."""
        if child not in self._children:
            return
        if child in self._stopping:
            self._stopping.remove(child)
            if child.lifetime is Lifetime.TEMPORARY:
                self._drop(child, exit)
            self._start_next()
            return
        wanted = child.lifetime is Lifetime.PERMANENT or (
            child.lifetime is Lifetime.TRANSIENT and exit.error is not None
        )
        if self._closing or not wanted:
            self._drop(child, exit)
        elif (exceeded := self._exceeded()) is None:
            self._restart(child)
        else:
            self.release(child)
            error = SupervisionError(
                f"{self._parent} gave up: {child.name} ended more than {exceeded}, the last time "
                f"with {_in_short(exit.error)}"
            )
            error.__cause__ = exit.error
            self._escalate(error)

    def _exceeded(self) -> RestartIntensity | None:
        """Count one more restart; what it is too much for."""
        now = self._now()
        allowed = [intensity.allows(now) for intensity in self._intensities]
        return None if all(allowed) else self._intensities[allowed.index(False)]

    def _drop(self, child: Child, exit: Exit) -> None:  # noqa: A002 - Erlang's word
        self.release(child)
        self._on_exit(child, exit)

    def release(self, child: Child) -> None:
        """A child is no concern of this supervisor any more."""
        if child in self._children:
            for books in (self._children, self._down, self._stopping):
                if child in books:
                    books.remove(child)
            self._starting = None if self._starting is child else self._starting
            self._start_next()

    # -- strategies ----------------------------------------------------------------------

    def _restart(self, child: Child) -> None:
        if self._strategy is Strategy.ONE_FOR_ONE:
            child.restart()
            return
        others = [each for each in self._beside(child) if each not in self._down]
        again = [each for each in others if each.lifetime is not Lifetime.TEMPORARY]
        again += [child, *self._down]
        self._down = [each for each in self._children if each in again]
        if self._starting is child or self._starting in others:
            self._starting = None
        self._stopping += others
        for other in reversed(others):
            other.stop()
        self._start_next()

    def _beside(self, child: Child) -> list[Child]:
        """Which other children go down with it."""
        place = self._children.index(child)
        after = self._children[place + 1 :]
        return after if self._strategy is Strategy.REST_FOR_ONE else self._children[:place] + after

    def _start_next(self) -> None:
        if self._down and not self._stopping and self._starting is None:
            self._starting = self._down.pop(0)
            self._starting.restart()

    def started(self, child: Child) -> None:
        """A child that was restarted is up."""
        if self._starting is child:
            self._starting = None
            self._start_next()

    # -- the end -------------------------------------------------------------------------

    def retire(self) -> None:
        """Restart nobody any more."""
        self._closing = True
        self._down.clear()
        self._stopping.clear()

    def close(self) -> None:
        """Stop every child, the youngest first; none is restarted any more."""
        self.retire()
        for child in reversed(list(self._children)):
            child.stop()


def _in_short(error: BaseException | None) -> str:
    """Its class and the first line of what it says; the rest is the cause's."""
    said = str(error).partition("\n")[0]
    return f"{type(error).__name__}: {said}" if said else type(error).__name__
