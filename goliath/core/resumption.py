"""Which calls of a run were finished before, and what is to be written down, when.

The ``checkpoint`` of a run as a mind: it is told the keys of the calls as they are pulled and the
results as they come, and neither reads nor writes anything. Equal calls of one run are told
apart by counting: the third ``f(1)`` is the third again when the run is made anew, wherever it
stands then.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import groupby
from typing import NamedTuple

STRIDE_MAX = 256
"""Calls that are looked up at a time where one after the other has been found: a look into the
file costs 30 µs, and 2 more a call. What is pulled beyond the last that is known goes off at once,
wanted or not, so it must not be much."""

DELAY_S = 0.1
"""A result is written so long after it came: few of them make a commit worth its 0.1 ms."""

HELD_MAX = 4 * 2**20
"""Bytes of results that are written at once, delay or not."""

Key = bytes


class Entry(NamedTuple):
    """A finished call: where it stood in the run, its arguments for people, its pickle."""

    key: Key
    place: int
    text: str
    value: bytes


class Span(NamedTuple):
    """Calls ``lo`` to ``hi`` of those that were pulled together: known from before, or not."""

    lo: int
    hi: int
    known: bool


class Resumption:
    """The calls of one run.

    Args:
        delay_s: how long a result may wait to be written.
    """

    def __init__(self, delay_s: float = DELAY_S) -> None:
        self._delay_s = delay_s
        self._away: dict[int, tuple[Key, str]] = {}  # calls to be made, by index
        self._unwritten: list[Entry] = []
        self._held = 0  # bytes of them
        self._since = 0.0  # when the oldest of them came
        self.stride = 1
        self.known = 0

    def number(self, keys: Sequence[Key | None], before: Mapping[Key, int]) -> list[Key | None]:
        """A key of its own for each call, equal ones told apart by their number.

        Args:
            keys: of the calls that were pulled now; None for one that has no key.
            before: how many calls of these keys the run had until now.
        """
        times = Counter(before)
        numbered: list[Key | None] = []
        for key in keys:
            if key is None:
                numbered.append(None)
                continue
            number = times[key]
            times[key] = number + 1
            numbered.append(key + b"%d" % number if number else key)
        return numbered

    def sift(self, keys: Sequence[Key | None], known: Collection[Key]) -> list[Span]:
        """Which of these calls are known, in their order; how many to look up next follows it."""
        spans = []
        lo = 0
        for is_known, group in groupby(key in known for key in keys):
            hi = lo + len(list(group))
            spans.append(Span(lo, hi, is_known))
            lo = hi
        if len(spans) == 1 and spans[0].known:
            self.stride = min(self.stride * 2, STRIDE_MAX)
        else:
            self.stride = 1
        self.known += sum(span.hi - span.lo for span in spans if span.known)
        return spans

    def send(self, index: int, key: Key | None, text: str) -> None:
        """Call ``index`` is made; what comes of it will be written, if it has a key."""
        if key is not None:
            self._away[index] = key, text

    def finish(self, results: Iterable[tuple[int, bytes]], now: float) -> None:
        """Results have come, with the indexes of their calls."""
        if not self._unwritten:
            self._since = now
        for index, value in results:
            sent = self._away.pop(index, None)
            if sent is not None:
                self._unwritten.append(Entry(sent[0], index, sent[1], value))
                self._held += len(value)

    def fail(self, lo: int, hi: int) -> None:
        """Those of calls ``lo`` to ``hi`` that have no result will have none: a rerun makes them
        again."""
        for index in range(lo, hi):
            self._away.pop(index, None)

    def due_in(self, now: float) -> float | None:
        """Seconds until something is to be written, None if there is nothing."""
        if not self._unwritten:
            return None
        if self._held >= HELD_MAX:
            return 0.0
        return max(self._delay_s - (now - self._since), 0.0)

    def unwritten(self) -> list[Entry]:
        """What came and is not `written`."""
        return self._unwritten

    def written(self) -> None:
        """All that was `unwritten` is safe."""
        self._unwritten = []
        self._held = 0
