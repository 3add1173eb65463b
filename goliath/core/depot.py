"""The big results that a node keeps for its Commanders: which, and how much they take.

A *deposit* is one of them. It has a key, and stays until its Commander says that nobody wants it,
or until their session ends. What does not fit, and what is made while the node drains, goes to
the Commander as any other result.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import field
from itertools import count

from goliath.core.ids import SessionId
from goliath.record import record

REFUSED = 0
"""Instead of a key: it is not kept."""


@record
class Depot:
    """The books of it. Who keeps the bytes is told the keys."""

    limit_bytes: int
    closed: bool = False  # the node drains: what it has is to leave before it does
    held_bytes: int = 0
    _sizes: dict[SessionId, dict[int, int]] = field(default_factory=dict)
    _keys: Iterator[int] = field(default_factory=lambda: count(1))

    def __bool__(self) -> bool:
        return self.held_bytes > 0

    def admit(self, session: SessionId, size: int) -> int:
        """The key of a new deposit; `REFUSED` if there is no room for it."""
        if self.closed or self.held_bytes + size > self.limit_bytes:
            return REFUSED
        key = next(self._keys)
        self._sizes.setdefault(session, {})[key] = size
        self.held_bytes += size
        return key

    def forget(self, session: SessionId, keys: Iterable[int]) -> None:
        """Nobody wants these any more."""
        sizes = self._sizes.get(session, {})
        for key in keys:
            self.held_bytes -= sizes.pop(key, 0)

    def leave(self, session: SessionId) -> None:
        """A Commander is gone, and all of its deposits with it."""
        self.held_bytes -= sum(self._sizes.pop(session, {}).values())

    def check(self, sessions: Iterable[SessionId]) -> None:
        """Raise `AssertionError` if the books do not agree with each other."""
        held = sum(sum(sizes.values()) for sizes in self._sizes.values())
        assert self.held_bytes == held <= self.limit_bytes, f"{self.held_bytes} of {held} bytes"
        assert self._sizes.keys() <= set(sessions), f"deposits of {self._sizes.keys()}"
