"""Which slot of the final list an outcome fills.

Outcomes arrive in any order, a stretch at a time; they leave in input order (`take_ordered`)
or as they came (`take_any`). Each slot is filled exactly once: filling one twice is a bug
that must not pass for a result.
"""

from __future__ import annotations

from collections import deque
from typing import Any


class Collector:
    """The outcomes of one job, by the index of their call."""

    def __init__(self, *, ordered: bool) -> None:
        self._ordered = ordered
        self._stretches: dict[int, list[Any]] = {}  # by first index
        self._arrived: deque[tuple[int, list[Any]]] = deque()
        self._next = 0
        self.expected = 0
        self.filled = 0

    @property
    def complete(self) -> bool:
        """Whether nothing that was expected so far is missing."""
        return self.filled == self.expected

    @property
    def missing(self) -> int:
        """How many expected outcomes have not come."""
        return self.expected - self.filled

    def expect(self, calls: int) -> int:
        """Open slots for ``calls`` more calls; the index of the first."""
        first = self.expected
        self.expected += calls
        return first

    def fill(self, first: int, outcomes: list[Any]) -> None:
        """Put outcomes into the slots from ``first`` on."""
        assert 0 <= first <= first + len(outcomes) <= self.expected, (
            f"outcomes {first}..{first + len(outcomes)} of {self.expected} calls"
        )
        assert first >= self._next, f"slot {first} filled twice"
        assert first not in self._stretches, f"slot {first} filled twice"
        self.filled += len(outcomes)
        if self._ordered:
            self._stretches[first] = outcomes
        else:
            self._arrived.append((first, outcomes))

    def take_ordered(self) -> list[tuple[int, list[Any]]]:
        """The stretches that continue what was taken before, in input order."""
        taken = []
        while (outcomes := self._stretches.pop(self._next, None)) is not None:
            taken.append((self._next, outcomes))
            self._next += len(outcomes)
            if not outcomes:
                break
        return taken

    def take_any(self) -> list[tuple[int, list[Any]]]:
        """The stretches that came since the last time, as they came."""
        taken = list(self._arrived)
        self._arrived.clear()
        return taken
