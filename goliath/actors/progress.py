"""How far a run is, told to whoever asked: in a line on stderr, to a callable, to a bar.

It is told at most ten times a second, and never by a call: a million of them cost nothing more.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any, Protocol

EVERY_S = 0.1
"""Between two reports, where they are seen at once."""

LINE_EVERY_S = 10.0
"""Between two lines in a log, which stay there."""


class Bar(Protocol):
    """What takes steps, as the bars of tqdm do."""

    def update(self, n: int) -> object:
        """So many calls more have finished."""


Progress = bool | Callable[[int, int | None], object] | Bar
"""What ``progress=`` may be."""


class Reporter:
    """Attends a run, and tells of it.

    Args:
        tell: called with the number of finished calls, and that of all, or None.
        every_s: seconds between two reports.
        last: called when the run has ended; default: ``tell``, if that has anything new to say.
    """

    def __init__(
        self,
        tell: Callable[[int, int | None], object],
        every_s: float = EVERY_S,
        last: Callable[[int, int | None], object] | None = None,
    ) -> None:
        self._tell = tell
        self._every_s = every_s
        self._last = last
        self._told: tuple[int, int | None] | None = None
        self._told_at = 0.0

    def begin(self) -> None:
        """See `Attendant.begin`."""

    def attend(self, done: int, total: int | None) -> float | None:
        """See `Attendant.attend`."""
        if (done, total) == self._told:
            return None
        now = time.monotonic()
        left = self._told_at + self._every_s - now
        if self._told is not None and left > 0:
            return left
        self._told, self._told_at = (done, total), now
        self._tell(done, total)
        return None

    def end(self, done: int, total: int | None) -> None:
        """See `Attendant.end`."""
        if self._last is not None:
            self._last(done, total)
        elif (done, total) != self._told:
            self._tell(done, total)


class _Line:
    """A line on stderr, written again and again if that is a terminal."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._stream = sys.stderr
        self._begun = time.monotonic()
        self.alive = self._stream.isatty()
        self._width = 0
        self._is_done = False

    def tell(self, done: int, total: int | None, *, over: bool = False) -> None:
        """Show how far it is; or was, when it was ``over``."""
        elapsed_s = time.monotonic() - self._begun
        text = f"goliath: {self._name} {_described(done, total, elapsed_s, over=over)}"
        self._is_done = done == total
        if self.alive:
            self._stream.write(f"\r{text.ljust(self._width)}")
            self._width = len(text)
        else:
            self._stream.write(f"{text}\n")
        self._stream.flush()

    def end(self, done: int, total: int | None) -> None:
        """Leave the line as it is from now on."""
        if not self._is_done:
            self.tell(done, total, over=True)
        if self.alive:
            self._stream.write("\n")
            self._stream.flush()


def _described(done: int, total: int | None, elapsed_s: float, *, over: bool) -> str:
    rate = done / elapsed_s if elapsed_s > 0 else 0.0
    parts = [f"{done}" if total is None else f"{done}/{total}"]
    if done == total:
        return f"{parts[0]}, done in {_duration(elapsed_s)}"
    if total is not None:
        parts[0] += f" ({100 * done // total} %)"
    if over:
        return f"{parts[0]}, stopped after {_duration(elapsed_s)}"
    if done:
        parts.append(f"{rate:.3g}/s" if rate < 100 else f"{rate:.0f}/s")
        if total is not None:
            parts.append(f"{_duration((total - done) / rate)} left")
    return ", ".join(parts)


def _duration(seconds: float) -> str:
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def reporter_for(progress: Any, name: str) -> Reporter | None:
    """Who reports as ``progress=`` says; None if nobody is to.

    Raises:
        TypeError: it is none of what it may be.
    """
    if progress is None or progress is False:
        return None
    if progress is True:
        line = _Line(name)
        return Reporter(line.tell, EVERY_S if line.alive else LINE_EVERY_S, line.end)
    if callable(progress):
        return Reporter(progress)
    if callable(getattr(progress, "update", None)):
        return Reporter(_Steps(progress).tell)
    raise TypeError(
        f"progress={progress!r}; it is True, a callable progress(done, total), or a bar with an "
        "update(n) such as tqdm's"
    )


class _Steps:
    """Tells a bar, which wants differences."""

    def __init__(self, bar: Bar) -> None:
        self._bar = bar
        self._done = 0

    def tell(self, done: int, _total: int | None) -> None:
        """See `Reporter`."""
        if done > self._done:
            self._bar.update(done - self._done)
            self._done = done
