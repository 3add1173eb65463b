"""What the storm has called: calls that take some milliseconds, and whose values can be checked."""

from __future__ import annotations

import os
import time

NAPS_MS = (2, 14)  # the shortest and the longest call; with 12 slots, 1,500 calls a second


def nap_of(index: int) -> float:
    """Seconds that a call takes, some more and some less."""
    shortest, longest = NAPS_MS
    return (shortest + index * 7919 % (longest - shortest + 1)) / 1000


def value_of(index: int) -> int:
    """What a call returns: nobody else's value."""
    return index * 2654435761 % (1 << 32)


def work(index: int, nap: float) -> int:
    """A call that may be made again."""
    time.sleep(nap)
    return index * 2654435761 % (1 << 32)


def once(index: int, nap: float, journal: str) -> int:
    """A call that may be made once at most: it writes down that it began and that it ended."""
    fd = os.open(journal, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        # One write for a line, to a file open for appending: lines stay whole, whoever writes.
        os.write(fd, f"+{index}\n".encode())
        time.sleep(nap)
        os.write(fd, f"-{index}\n".encode())
    finally:
        os.close(fd)
    return index * 2654435761 % (1 << 32)
