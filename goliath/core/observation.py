"""What a mind was told, kept for the day it breaks: a journal that can be printed and replayed."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from typing import Generic, Protocol, TypeVar

KEPT = 256
WHOLE = 10_000
"""Events, from the first one on, that are kept so that all of them can be replayed: two or three
megabytes. A mind has no other memory than what it was told, so a part of them replays nothing."""

Event = TypeVar("Event")
Command = TypeVar("Command")
Told = TypeVar("Told", contravariant=True)
Commanded = TypeVar("Commanded", covariant=True)


class Mind(Protocol[Told, Commanded]):
    """What decides: a `Scheduler` or a `Node`."""

    def handle(self, event: Told, now: float) -> Iterable[Commanded]:
        """Take one event in; what is to be done about it."""

    def check(self) -> None:
        """Raise `AssertionError` if its books do not agree with each other."""


class Journal(Generic[Event]):
    """The events of a mind, with their times: all, or the last if they are many.

    Appending costs 80 ns.
    """

    def __init__(self, kept: int = KEPT, whole: int = WHOLE) -> None:
        self._entries: deque[tuple[float, Event]] = deque()
        self._kept = kept
        self._most = whole
        self.whole = True

    def note(self, now: float, event: Event) -> None:
        """Remember one event."""
        self._entries.append((now, event))
        if len(self._entries) > self._most:
            self._entries = deque(self._entries, maxlen=self._kept)
            self.whole = False

    def __iter__(self) -> Iterator[tuple[float, Event]]:
        return iter(self._entries)

    def text(self) -> str:
        """The last events, one a line, the oldest first."""
        last = list(self._entries)[-self._kept :]
        return "\n".join(f"{now:.6f} {event!r}" for now, event in last)


def replay(
    mind: Mind[Event, Command], entries: Iterable[tuple[float, Event]], *, check: bool
) -> Iterator[tuple[float, Event, list[Command] | Exception]]:
    """Tell a fresh mind what another one was told: each event, with what it commands.

    The last one is followed by what the mind raises, if it does.
    """
    for now, event in entries:
        try:
            commands = list(mind.handle(event, now))
            if check:
                mind.check()
        except Exception as exc:  # noqa: BLE001 - that is what is looked for
            yield now, event, exc
            return
        yield now, event, commands
