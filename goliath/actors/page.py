"""What a worker is doing, readable without asking it: one page of memory shared with its parent.

A worker that hangs in C code, or is dead, can still be asked which call it was running and
since when. The record stands there twice. The writer writes the first copy before the
second, the reader reads the second before the first: two equal copies are never half of one
record and half of another.
"""

from __future__ import annotations

import mmap
import os
import struct
from dataclasses import dataclass

_RECORD = struct.Struct("<qqd")
_SECOND = 64
_SIZE = mmap.PAGESIZE
_READ_TRIES = 100
NOBODY = -1
"""The index while no call, or an unknown one, is running."""


@dataclass(frozen=True, slots=True)
class PageState:
    """The range a worker is in, the call it runs, and when that call began.

    ``serial`` is 0 between ranges. ``index`` is the number of the call within its batch in
    careful mode, else -1. ``started_at`` is a time of `goliath.clock.BootClock`.
    """

    serial: int = 0
    index: int = NOBODY
    started_at: float = 0.0


class Page:
    """The shared page; the worker writes, the parent reads."""

    __slots__ = ("_map",)

    def __init__(self, fd: int) -> None:
        self._map = mmap.mmap(fd, _SIZE)

    def write(self, serial: int, index: int, started_at: float) -> None:
        """Say what is running now."""
        _RECORD.pack_into(self._map, 0, serial, index, started_at)
        _RECORD.pack_into(self._map, _SECOND, serial, index, started_at)

    def read(self) -> PageState:
        """What was said last. A writer that died in the middle of it is taken at its first copy."""
        for _ in range(_READ_TRIES):
            second = _RECORD.unpack_from(self._map, _SECOND)
            first = _RECORD.unpack_from(self._map, 0)
            if first == second:
                break
        return PageState(*first) if any(first) else PageState()

    def close(self) -> None:
        """Let the memory go."""
        self._map.close()


def create_page_file(tag: str) -> int:
    """A descriptor of fresh shared memory.

    Its name carries the worker's tag: a grandchild that was forked, and not executed, has no
    environment of its own to be told by, but it still maps this file.
    """
    if hasattr(os, "memfd_create"):
        fd = os.memfd_create(page_name(tag), os.MFD_CLOEXEC)
    else:
        import tempfile  # here: it takes 8 ms, and on Linux nobody needs it

        fd, path = tempfile.mkstemp(prefix=page_name(tag))
        os.unlink(path)
    os.truncate(fd, _SIZE)
    return fd


def page_name(tag: str) -> str:
    """The name under which the page of a worker appears in ``/proc/<pid>/maps``."""
    return f"goliath-{tag}"
