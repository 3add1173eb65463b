"""What a worker is doing, readable without asking it: one page of memory shared with its parent.

A worker that hangs in C code, or is dead, can still be asked which call it was running and
since when. The record stands there twice. The writer writes the first copy before the
second, the reader reads the second before the first: two equal copies are never half of one
record and half of another.

A worker that runs coroutines is in several ranges at a time: then each of them has a record of its
own, in a *slot*.
"""

from __future__ import annotations

import mmap
import os
import struct

from goliath.record import frozen

_RECORD = struct.Struct("<qqd")
_SECOND = 64
_SLOT = 128
SLOTS = 1024
_SIZE = SLOTS * _SLOT  # none of it costs memory before it is written
_READ_TRIES = 100
NOBODY = -1
"""The index while no call, or an unknown one, is running."""


@frozen
class PageState:
    """The range a worker is in, the call it runs, and when that call began.

    ``serial`` is 0 between ranges. ``index`` is the number of the call within its batch in
    careful mode, else -1. ``started_at`` is a time of `goliath.clock.BootClock`.
    """

    serial: int = 0
    index: int = NOBODY
    started_at: float = 0.0


_UNUSED = PageState(0, 0, 0.0)  # where nobody ever wrote: between ranges the index is below 0


class Page:
    """The shared page; the worker writes, the parent reads."""

    __slots__ = ("_map",)

    def __init__(self, fd: int) -> None:
        self._map = mmap.mmap(fd, _SIZE)

    def write(self, serial: int, index: int, started_at: float, slot: int = 0) -> None:
        """Say what is running now."""
        place = slot * _SLOT
        _RECORD.pack_into(self._map, place, serial, index, started_at)
        _RECORD.pack_into(self._map, place + _SECOND, serial, index, started_at)

    def read(self, slot: int = 0) -> PageState:
        """What was said last. A writer that died in the middle of it is taken at its first copy."""
        place = slot * _SLOT
        for _ in range(_READ_TRIES):
            second = _RECORD.unpack_from(self._map, place + _SECOND)
            first = _RECORD.unpack_from(self._map, place)
            if first == second:
                break
        return PageState(*first)

    def read_all(self) -> list[PageState]:
        """Of every range that is running. Slots are used from the first on."""
        running = []
        for slot in range(SLOTS):
            state = self.read(slot)
            if state == _UNUSED:
                break
            if state.serial:
                running.append(state)
        return running

    def close(self) -> None:
        """Let the memory go."""
        self._map.close()


def create_page_file(tag: str) -> int:
    """A descriptor of fresh shared memory.

    Its name carries the worker's tag: a grandchild that was forked, and not executed, has no
    environment of its own to be told by, but it still maps this file.
    """
    try:
        fd = os.memfd_create(page_name(tag), os.MFD_CLOEXEC)
    except (AttributeError, OSError):  # not on Linux; or forbidden, by a filter
        return _page_in_a_file(tag)
    os.truncate(fd, _SIZE)
    return fd


def _page_in_a_file(tag: str) -> int:
    import tempfile  # here: it takes 8 ms, and where there are memfds nobody needs it

    fd, path = tempfile.mkstemp(prefix=f"{page_name(tag)}.")
    try:
        os.unlink(path)
        os.posix_fallocate(fd, 0, _SIZE)  # to touch what a full disk has not would be a SIGBUS
    except OSError:
        os.close(fd)
        raise
    return fd


def page_name(tag: str) -> str:
    """The name under which the page of a worker appears in ``/proc/<pid>/maps``."""
    return f"goliath-page-{tag}"
