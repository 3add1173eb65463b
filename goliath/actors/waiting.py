"""Calls that wait to be sent: in one line, or in one for each concurrency group of an actor."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterator, Mapping
from itertools import chain

from goliath.actors.gathering import Gathering
from goliath.core.placement import ACTOR_WINDOW


class Waiting(deque[Gathering]):
    """In the order in which they were made."""

    def first(self, awaited: Collection[Gathering]) -> Gathering | None:
        """Whose calls are next, unless they wait for their arguments; what was withdrawn is
        dropped."""
        while self:
            if len(self[0]):
                return self[0]
            if self[0] in awaited:
                return None
            self.popleft()
        return None


class WaitingByGroup:
    """A line for each concurrency group. As many calls of each as may run, and as many again, are
    on their way: so a full group holds up no other, and none waits for the way there.

    Args:
        limits: how many calls of each group may run at once.
    """

    def __init__(self, limits: Mapping[str, int]) -> None:
        self._limits = limits
        self._lines = {group: Waiting() for group in limits}
        self._room: dict[str, int] = {}
        self.make_room()

    def __iter__(self) -> Iterator[Gathering]:
        return chain.from_iterable(self._lines.values())

    def __bool__(self) -> bool:
        return any(self._lines.values())

    def __contains__(self, calls: Gathering) -> bool:
        return calls in self._lines[calls.group]

    def append(self, calls: Gathering) -> None:
        """Behind the others of its group."""
        self._lines[calls.group].append(calls)

    def appendleft(self, calls: Gathering) -> None:
        """Before the others of its group."""
        self._lines[calls.group].appendleft(calls)

    def remove(self, calls: Gathering) -> None:
        """It waits no more."""
        self._lines[calls.group].remove(calls)

    def clear(self) -> None:
        """None of them waits any more."""
        for line in self._lines.values():
            line.clear()

    def first(self, awaited: Collection[Gathering]) -> Gathering | None:
        """Whose calls are next, of a group that has room."""
        for group, line in self._lines.items():
            calls = line.first(awaited) if self._room[group] > 0 else None
            if calls is not None:
                return calls
        return None

    def sent(self, group: str, count: int) -> None:
        """So many calls are on their way."""
        self._room[group] -= count

    def ended(self, group: str, count: int) -> None:
        """So many are not any more."""
        self._room[group] += count

    def make_room(self) -> None:
        """None is."""
        self._room = {group: ACTOR_WINDOW * limit for group, limit in self._limits.items()}
