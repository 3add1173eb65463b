"""Who hears of the end of an actor: those who watch it, and the actors that are linked to it.

The words are Erlang's. Only an end for good is an end: an actor that is made again has not ended.
All of this happens in the loop's thread.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from goliath.transport.exceptions import dump_error, load_error


@dataclass(frozen=True, slots=True)
class ActorEnd:
    """How an actor ended for good, as `goliath.monitor` tells it.

    Attributes:
        actor_id: as in `RuntimeContext.actor_id`, and in messages.
        class_name: of its class.
        name: by which it could be found; empty if it had none.
        error: what its calls raise from now on, an `ActorDiedError`, or an `ActorUnavailableError`
            if it is detached and its node is lost; None for a normal end: it has left by itself
            (``goliath.exit_actor``), or nobody held a handle of it, or its supervisor was closed.
        killed: whether somebody ended it by ``goliath.kill``.
    """

    actor_id: str
    class_name: str
    name: str
    error: Exception | None = None
    killed: bool = False

    def travelling(self) -> tuple[Any, ...]:
        """As data for another process, which may not have the class of an exception."""
        error = None if self.error is None else dump_error(self.error)
        return self.actor_id, self.class_name, self.name, error, self.killed

    @classmethod
    def of(cls, data: tuple[Any, ...]) -> ActorEnd:
        """From what `travelling` returned."""
        actor_id, class_name, name, error, killed = data
        known: Any = None if error is None else load_error(error)
        return cls(actor_id, class_name, name, known, killed)


Watcher = Callable[[ActorEnd], None]
"""Called once; must not block."""


class Kin:
    """Those of one actor.

    Args:
        strike: called when an actor that is linked to this one has died.
        forsaken: called when nobody waits for its end any more.
    """

    def __init__(self, strike: Watcher, forsaken: Callable[[], None] = lambda: None) -> None:
        self.end: ActorEnd | None = None
        self._strike = strike
        self._forsaken = forsaken
        self._watchers: list[Watcher] = []
        self._linked: dict[Kin, None] = {}  # in the order in which they were

    def __bool__(self) -> bool:
        """Whether anybody waits for its end."""
        return bool(self._watchers or self._linked)

    def watch(self, watcher: Watcher) -> None:
        """Have it called when the actor has ended, or now."""
        if self.end is not None:
            watcher(self.end)
        else:
            self._watchers.append(watcher)

    def unwatch(self, watcher: Watcher) -> None:
        """It is not to be called any more."""
        if watcher in self._watchers:
            self._watchers.remove(watcher)
            self._look_for_others()

    def _look_for_others(self) -> None:
        if not self:
            self._forsaken()

    def link(self, other: Kin) -> None:
        """If one of the two dies, or has died, so does the other."""
        for one, beside in ((self, other), (other, self)):
            if beside.end is None:
                one._link_one_way(beside)

    def _link_one_way(self, other: Kin) -> None:
        if self.end is None:
            self._linked[other] = None
        elif self.end.error is not None:
            other._strike(self.end)

    def unlink(self, other: Kin) -> None:
        """What becomes of the one is nothing to the other any more."""
        self._part_from(other)
        other._part_from(self)

    def _part_from(self, other: Kin) -> None:
        if other in self._linked:
            del self._linked[other]
            self._look_for_others()

    def forget(self) -> None:
        """Nobody is to hear anything any more."""
        self._watchers.clear()
        self._linked.clear()

    def ended(self, end: ActorEnd) -> None:
        """The actor has ended: tell everybody."""
        self.end = end
        watchers, self._watchers = self._watchers, []
        linked, self._linked = self._linked, {}
        for watcher in watchers:
            watcher(end)
        for other in linked:
            other._linked.pop(self, None)  # before any of them dies of it, and strikes back
        for other in linked:
            if end.error is not None:
                other._strike(end)
            other._look_for_others()
