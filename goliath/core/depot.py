"""The big results that a node keeps for its Commanders: which, where, and how much they take.

A *deposit* is one of them. It has a key, and stays until its Commander says that nobody wants it,
or until their session ends. For what memory has no room any more, the least recently used ones
are *spilled*: written to disk, from where they are read as long as they are wanted. What does not
fit there either, and what is made while the node drains, goes to the Commander as any other
result.

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

Used = Callable[[], Collection[int]]
"""Says which deposits calls take that are on the node: to write those would free nothing."""


@record
class Depot:
    """The books of it. Who keeps the bytes is told the keys.

    Attributes:
        limit_bytes: what deposits in memory may take; with 0 nothing is kept at all.
        spill_bytes: what those on disk may take; with 0 nothing is spilled.
        closed: the node drains: what it has is to leave before it does.
        full: the memory of the node is used up: nothing more is kept.
        held_bytes: of all deposits, wherever they are.
        memory_bytes: of those that are in memory and will stay there.
        writing_bytes: of those that are being written, some of which nobody may want any more.
        spilled_bytes: of those on disk.
    """

    limit_bytes: int
    spill_bytes: int = 0
    closed: bool = False
    full: bool = False
    held_bytes: int = 0
    memory_bytes: int = 0
    writing_bytes: int = 0
    spilled_bytes: int = 0
    _sizes: dict[SessionId, dict[int, int]] = field(default_factory=dict)
    _resting: dict[int, SessionId] = field(default_factory=dict)  # the least recently used first
    _writing: dict[int, tuple[SessionId, int]] = field(default_factory=dict)
    _spilled: set[int] = field(default_factory=set)
    _due: list[tuple[SessionId, int]] = field(default_factory=list)
    _keys: Iterator[int] = field(default_factory=lambda: count(1))
    _spill_from: float = -inf  # something could not be written: not before
    _crammed: bool = False  # what could not be written came back to memory

    def __bool__(self) -> bool:
        return self.held_bytes > 0

    def admit(self, session: SessionId, size: int, now: float = 0.0, used: Used = tuple) -> int:
        """The key of a new deposit; `REFUSED` if there is no room for it."""
        if self.closed or self.full or not self.limit_bytes:
            return REFUSED
        excess = self.memory_bytes + size - self.limit_bytes
        others = self._others(excess, size, now, used) if excess > 0 else []
        if others is None:
            return REFUSED
        key = next(self._keys)
        self._sizes.setdefault(session, {})[key] = size
        self._resting[key] = session
        self.held_bytes += size
        self.memory_bytes += size
        if excess > 0:
            for each in others or [key]:
                self._write(each)
        return key

    def _others(self, excess: int, size: int, now: float, used: Used) -> list[int] | None:
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
            for key in self._oldest(min(self.memory_bytes, WRITING_BYTES), used):
                self._write(key)

    def _may_write(self, now: float) -> bool:
        return now >= self._spill_from and self.writing_bytes < WRITING_BYTES

    def _disk_left(self) -> int:
        return self.spill_bytes - self.spilled_bytes - self.writing_bytes

    def _size_of(self, key: int) -> int:
        return self._sizes[self._resting[key]][key]

    def _oldest(self, wanted: int, used: Used) -> list[int]:
        """Those least recently used that are so big together, as far as the disk has room."""
        chosen: list[int] = []
        left = self._disk_left()
        busy = used() if left > 0 and self._resting else ()
        for key in self._resting if left > 0 else ():
            if wanted <= 0:
                break
            size = self._size_of(key)
            if size <= left and key not in busy:
                chosen.append(key)
                wanted -= size
                left -= size
        return chosen

    def _write(self, key: int) -> None:
        session, size = self._resting[key], self._size_of(key)
        del self._resting[key]
        self.memory_bytes -= size
        self.writing_bytes += size
        self._writing[key] = session, size
        self._crammed = self._crammed and self.memory_bytes > self.limit_bytes
        self._due.append((session, key))

    def take_due(self) -> list[tuple[SessionId, int]]:
        """What is to be written now: whose, and which."""
        due, self._due = self._due, []
        return due

    def written(self, key: int, now: float, *, failed: bool) -> None:
        """One was written; or could not be, and is still in memory."""
        session, size = self._writing.pop(key)
        self.writing_bytes -= size
        if failed:
            self._spill_from = now + RETRY_S
        if key not in self._sizes.get(session, ()):
            return  # nobody wants it any more
        if failed:
            self._resting[key] = session
            self.memory_bytes += size
            self._crammed = self.memory_bytes > self.limit_bytes
        else:
            self._spilled.add(key)
            self.spilled_bytes += size

    def use(self, keys: Iterable[int]) -> None:
        """A call has come that takes these."""
        for key in keys:
            session = self._resting.pop(key, None)
            if session is not None:
                self._resting[key] = session

    def forget(self, session: SessionId, keys: Iterable[int]) -> None:
        """Nobody wants these any more."""
        sizes = self._sizes.get(session, {})
        for key in keys:
            size = sizes.pop(key, 0)
            self.held_bytes -= size
            if key in self._spilled and size:
                self._spilled.discard(key)
                self.spilled_bytes -= size
            elif self._resting.get(key) == session:
                del self._resting[key]
                self.memory_bytes -= size
        self._crammed = self._crammed and self.memory_bytes > self.limit_bytes

    def leave(self, session: SessionId) -> None:
        """A Commander is gone, and all of its deposits with it."""
        self.forget(session, list(self._sizes.get(session, ())))
        self._sizes.pop(session, None)

    def check(self, sessions: Iterable[SessionId]) -> None:
        """Raise `AssertionError` if the books do not agree with each other."""
        sizes = {key: size for each in self._sizes.values() for key, size in each.items()}
        assert self.held_bytes == sum(sizes.values()), f"{self.held_bytes} of {sizes}"
        assert self._sizes.keys() <= set(sessions), f"deposits of {self._sizes.keys()}"
        wanted = [key for key in self._writing if key in sizes]
        places = sorted([*self._resting, *wanted, *self._spilled])
        assert places == sorted(sizes), f"{sizes.keys()} are in {places}"
        assert self.memory_bytes == sum(map(self._size_of, self._resting)), self.memory_bytes
        assert self.writing_bytes == sum(size for _, size in self._writing.values())
        assert self.spilled_bytes == sum(sizes[key] for key in self._spilled), self.spilled_bytes
        assert self.memory_bytes <= self.limit_bytes or self._crammed, f"{self.memory_bytes} kept"
        assert self.spilled_bytes + self.writing_bytes <= self.spill_bytes
