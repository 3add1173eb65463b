"""Which stretches of a piece of memory are taken: first fit, at the lowest place there is.

Low, because what was used before is warm: the first touch of memory costs ten times a copy.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from dataclasses import field

from goliath.record import record

GRAIN = 4096
"""Stretches begin at multiples of this, and nothing smaller is given: it is a page."""


@record
class Allotment:
    """The books of it: no byte belongs to two."""

    limit: int
    used: int = 0
    _taken: dict[int, int] = field(default_factory=dict)  # where each begins and ends
    _free: list[tuple[int, int]] = field(default_factory=list)  # below `top`, in order
    top: int = 0  # nothing is taken from here on

    def take(self, size: int) -> int | None:
        """Where a stretch of so many bytes begins; None if there is no room for it."""
        size = max(-(-size // GRAIN), 1) * GRAIN
        at = self._find(size)
        if at is not None:
            self._taken[at] = at + size
            self.used += size
        return at

    def _find(self, size: int) -> int | None:
        for place, (start, end) in enumerate(self._free):
            if end - start >= size:
                if end - start == size:
                    del self._free[place]
                else:
                    self._free[place] = (start + size, end)
                return start
        if self.limit - self.top < size:
            return None
        at, self.top = self.top, self.top + size
        return at

    def give(self, at: int) -> None:
        """A stretch is free again."""
        end = self._taken.pop(at)
        self.used -= end - at
        place = bisect_left(self._free, (at, end))
        if place < len(self._free) and self._free[place][0] == end:
            end = self._free.pop(place)[1]
        if place and self._free[place - 1][1] == at:
            at = self._free.pop(place - 1)[0]
        if end == self.top:
            self.top = at
        else:
            insort(self._free, (at, end))

    def end_of(self, at: int) -> int:
        """Where a stretch ends that was taken."""
        return self._taken[at]

    def check(self) -> None:
        """Raise `AssertionError` if the books do not agree with each other."""
        stretches = sorted([*self._taken.items(), *self._free])
        borders = [border for stretch in stretches for border in stretch]
        assert borders == sorted(borders), f"stretches overlap: {stretches}"
        assert sum(end - start for start, end in stretches) == self.top <= self.limit, stretches
        assert self.used == sum(end - at for at, end in self._taken.items()), self.used
