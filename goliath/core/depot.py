"""What a node keeps for its Commanders that is big: which, where, and how much it takes.

A *deposit* is a result of theirs. It has a key, and stays until its Commander says that nobody
wants it, or until their session ends. So does a piece that a Commander has *entrusted* to the node
because calls take it: under a key of the Commander's, who has it still. For what memory has no
room any more, the least recently used ones are *spilled*: written to disk, from where they are
read as long as they are wanted. A result that does not fit there either, or is made while the node
drains, goes to the Commander as any other does; what was entrusted is kept in any case.

What is being written is in memory until it is there. So memory may have `WRITING_BYTES` more than
its limit, and what was the last to be begun; until that is written, nothing more is taken that
would have to be written first.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import field
from itertools import count
from math import inf

from goliath.core.ids import SessionId
from goliath.record import record

REFUSED = 0
"""Instead of a key: it is not kept."""

WRITING_BYTES = 64 * 1024 * 1024
"""Nothing more is begun to be written while so much is: as much as may be on its way to a
Commander, which is where results go that are made faster than they can be written."""

RETRY_S = 10.0
"""Nothing is written for so long after something could not be: others may free the disk."""

Place = tuple[SessionId, int]
"""Whose, and under which key: a Commander calls what it entrusts as it likes."""

Used = Callable[[], Collection[Place]]
"""Says what calls take that are on the node: to write that would free nothing."""


@record
class Depot:
    """The books of it. Who keeps the bytes is told the keys.

    Attributes:
        limit_bytes: what deposits in memory may take; with 0 nothing is kept at all.
        spill_bytes: what those on disk may take; with 0 nothing is spilled.
        closed: the node drains: what it has is to leave before it does.
        full: the memory of the node is used up: nothing more is kept.
        held_bytes: of all that is kept, wherever it is.
        entrusted_bytes: of those pieces: nobody else would miss them.
        memory_bytes: of those that are in memory and will stay there.
        writing_bytes: of those that are being written, some of which nobody may want any more.
        spilled_bytes: of those on disk.
        due: what is to be written now, until that is taken.
        is_crammed: there is more in memory than there may be: it was entrusted, or could not be
            written and came back.
    """

    limit_bytes: int
    spill_bytes: int = 0
    closed: bool = False
    full: bool = False
    held_bytes: int = 0
    entrusted_bytes: int = 0
    memory_bytes: int = 0
    writing_bytes: int = 0
    spilled_bytes: int = 0
    _sizes: dict[SessionId, dict[int, int]] = field(default_factory=dict)
    _resting: dict[Place, None] = field(default_factory=dict)  # the least recently used first
    _writing: dict[Place, int] = field(default_factory=dict)
    _spilled: set[Place] = field(default_factory=set)
    due: list[Place] = field(default_factory=list)
    is_crammed: bool = False
    _keys: Iterator[int] = field(default_factory=lambda: count(1))
    _spill_from: float = -inf  # something could not be written: not before

    def __bool__(self) -> bool:
        return self.held_bytes > self.entrusted_bytes

    def admit(self, session: SessionId, size: int, now: float = 0.0, used: Used = tuple) -> int:
        """The key of a new deposit; `REFUSED` if there is no room for it."""
        if self.closed or self.full or not self.limit_bytes:
            return REFUSED
        excess = self.memory_bytes + size - self.limit_bytes
        others = self._others(excess, size, now, used) if excess > 0 else []
        if others is None:
            return REFUSED
        key = next(self._keys)
        self._enter((session, key), size)
        if excess > 0:
            for each in others or [(session, key)]:
                self._write(each)
        return key

    def entrust(self, session: SessionId, key: int, size: int) -> None:
        """Keep a piece that calls will take. Whether something is to be written for it, `make_room`
        says."""
        self._enter((session, key), size)
        self.entrusted_bytes += size
        self.is_crammed = self.memory_bytes > self.limit_bytes

    def make_room(self, now: float, used: Used) -> None:
        """If there is more in memory than there may be, write what can be."""
        excess = self.memory_bytes - self.limit_bytes
        if excess > 0 and self._may_write(now):
            for each in self._oldest(excess, used):
                self._write(each)

    def _enter(self, place: Place, size: int) -> None:
        session, key = place
        self._sizes.setdefault(session, {})[key] = size
        self._resting[place] = None
        self.held_bytes += size
        self.memory_bytes += size

    def _others(self, excess: int, size: int, now: float, used: Used) -> list[Place] | None:
        """What is to be written before a new one has room; nothing if it is to be written itself,
        and None if neither can be."""
        if not self._may_write(now):
            return None
        others = self._oldest(excess, used) if size <= self.limit_bytes else []
        if sum(map(self._size_of, others)) >= excess:
            return others
        return [] if excess <= size <= self._disk_left() else None

    def relieve(self, now: float, used: Used) -> None:
        """The memory of the node is short: write what nobody uses, some at a time."""
        if not self.closed and not self.writing_bytes and self._may_write(now):
            for place in self._oldest(min(self.memory_bytes, WRITING_BYTES), used):
                self._write(place)

    def _may_write(self, now: float) -> bool:
        return now >= self._spill_from and self.writing_bytes < WRITING_BYTES

    def _disk_left(self) -> int:
        return self.spill_bytes - self.spilled_bytes - self.writing_bytes

    def _size_of(self, place: Place) -> int:
        session, key = place
        return self._sizes[session][key]

    def _oldest(self, wanted: int, used: Used) -> list[Place]:
        """Those least recently used that are so big together, as far as the disk has room."""
        chosen: list[Place] = []
        left = self._disk_left()
        busy = used() if left > 0 and self._resting else ()
        for place in self._resting if left > 0 else ():
            if wanted <= 0:
                break
            size = self._size_of(place)
            if size <= left and place not in busy:
                chosen.append(place)
                wanted -= size
                left -= size
        return chosen

    def _write(self, place: Place) -> None:
        size = self._size_of(place)
        del self._resting[place]
        self.memory_bytes -= size
        self.writing_bytes += size
        self._writing[place] = size
        self.is_crammed = self.is_crammed and self.memory_bytes > self.limit_bytes
        self.due.append(place)

    def take_due(self) -> list[Place]:
        """What is to be written now: whose, and which."""
        due, self.due = self.due, []
        return due

    def written(self, session: SessionId, key: int, now: float, *, failed: bool) -> None:
        """One was written; or could not be, and is still in memory."""
        place = session, key
        size = self._writing.pop(place)
        self.writing_bytes -= size
        if failed:
            self._spill_from = now + RETRY_S
        if key not in self._sizes.get(session, ()):
            return  # nobody wants it any more
        if failed:
            self._resting[place] = None
            self.memory_bytes += size
            self.is_crammed = self.memory_bytes > self.limit_bytes
        else:
            self._spilled.add(place)
            self.spilled_bytes += size

    def use(self, session: SessionId, keys: Iterable[int]) -> None:
        """A call of that Commander's has come that takes these."""
        for key in keys:
            place = session, key
            if place in self._resting:
                del self._resting[place]
                self._resting[place] = None

    def forget(self, session: SessionId, keys: Iterable[int]) -> None:
        """Nobody wants these any more."""
        sizes = self._sizes.get(session, {})
        for key in keys:
            size, place = sizes.pop(key, 0), (session, key)
            self.held_bytes -= size
            self.entrusted_bytes -= size * (key < REFUSED)
            if place in self._spilled:
                self._spilled.discard(place)
                self.spilled_bytes -= size
            elif place in self._resting:
                del self._resting[place]
                self.memory_bytes -= size
        self.is_crammed = self.is_crammed and self.memory_bytes > self.limit_bytes

    def leave(self, session: SessionId) -> None:
        """A Commander is gone, and all of its deposits with it."""
        self.forget(session, list(self._sizes.get(session, ())))
        self._sizes.pop(session, None)

    def check(self, sessions: Iterable[SessionId]) -> None:
        """Raise `AssertionError` if the books do not agree with each other."""
        by_session = self._sizes.items()
        sizes = {(whose, key): size for whose, each in by_session for key, size in each.items()}
        assert self.held_bytes == sum(sizes.values()), f"{self.held_bytes} of {sizes}"
        assert self._sizes.keys() <= set(sessions), f"deposits of {self._sizes.keys()}"
        entrusted = sum(size for (_, key), size in sizes.items() if key < REFUSED)
        assert self.entrusted_bytes == entrusted, f"{self.entrusted_bytes} of {sizes}"
        wanted = [place for place in self._writing if place in sizes]
        places = sorted([*self._resting, *wanted, *self._spilled])
        assert places == sorted(sizes), f"{sizes.keys()} are in {places}"
        assert self.memory_bytes == sum(map(self._size_of, self._resting)), self.memory_bytes
        assert self.writing_bytes == sum(self._writing.values())
        assert self.spilled_bytes == sum(sizes[place] for place in self._spilled), (
            self.spilled_bytes
        )
        assert self.memory_bytes <= self.limit_bytes or self.is_crammed, f"{self.memory_bytes} kept"
        assert self.spilled_bytes + self.writing_bytes <= self.spill_bytes
