"""Time as a value that is handed in: the loop's clock here, a hand-turned one in the tests."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Protocol

_CLOCK = getattr(time, "CLOCK_BOOTTIME", None)


class Clock(Protocol):
    """Tells seconds that only grow; the zero is arbitrary."""

    def now(self) -> float:
        """Seconds since some fixed moment."""


class BootClock:
    """Seconds since boot, *including* time asleep.

    A laptop whose lid was closed for an hour must notice on waking that its
    sessions have expired, before it says anything (DESIGN, "one owner").
    ``time.monotonic`` stands still during sleep on Linux, so it cannot tell.
    """

    def now(self) -> float:
        """Seconds since boot (where the platform has no such clock: monotonic)."""
        if _CLOCK is None:
            return time.monotonic()
        return time.clock_gettime(_CLOCK)


def wall_time() -> float:
    """Seconds since 1970 by this machine's clock, which may be wrong: only to be compared."""
    return datetime.now(UTC).timestamp()
