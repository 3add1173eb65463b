"""Memory of this process alone, for big buffers: what is let go of is kept a while, and used again.

Memory that is touched for the first time costs several times a copy: the kernel has to find each
page, and to clear it. So rooms are mapped in huge pages where there are any, and those that nobody
looks at any more are kept *warm*, as the regions of an arena are, if somebody looks after that
(`Stock.attend`). Unlike those they are private: a fork of the user's process has its own.
"""

from __future__ import annotations

import mmap
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from weakref import finalize

from goliath.config import MIB

HUGE_BYTES = 2 * MIB
"""A huge page. In these, new memory is filled at twice the speed, and memory that is warm at five
times (0.7, 1.3 and 3.6 GB/s on a busy machine, 256 MiB at a time)."""

WARM_BYTES = 1024 * MIB
"""What is kept, at most, of memory that nobody uses."""

_FIT = 1.25  # a room may be so many times as big as what it is for, and is all counted


class Stock:
    """See the module's description. Any thread may use it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._spare: list[mmap.mmap] = []  # the one that was used last is last
        self._given: deque[mmap.mmap] = deque()  # by finalizers, which may take no lock
        self._idle = False  # nothing was taken since it was last looked at
        self._attendants: list[Callable[[], None]] = []

    def __repr__(self) -> str:
        return f"<Stock of {len(self._spare) + len(self._given)} rooms>"

    def room_for(self, size: int) -> memoryview:
        """Memory for so many bytes, whatever it contains. Nothing is set aside for it before it is
        written."""
        whole = -(-size // mmap.PAGESIZE) * mmap.PAGESIZE
        found = self._taken(whole) or _mapped(whole)
        import ctypes  # 7 ms, for which nobody waits who has nothing big

        # Whoever looks at it keeps this object alive, and so its finalizer is the end of it.
        room = (ctypes.c_ubyte * whole).from_buffer(found)
        finalize(room, self._give, found).atexit = False
        return memoryview(room).cast("B")[:size]

    def _taken(self, size: int) -> mmap.mmap | None:
        if not self._lock.acquire(blocking=False):
            return None  # a signal handler in the middle of another, or a thread that is as quick
        try:
            self._idle = False
            self._collect()
            for place in reversed(range(len(self._spare))):
                if size <= len(self._spare[place]) <= _FIT * size:
                    return self._spare.pop(place)
            return None
        finally:
            self._lock.release()

    def _give(self, room: mmap.mmap) -> None:
        if self._attendants:
            self._given.append(room)
            self._attendants[0]()

    def _collect(self) -> None:
        while self._given:
            self._spare.append(self._given.popleft())
        kept = 0
        for place in reversed(range(len(self._spare))):
            kept += len(self._spare[place])
            if kept > WARM_BYTES:
                del self._spare[: place + 1]
                return

    # -- for whoever looks after it ------------------------------------------------------

    def attend(self, on_spare: Callable[[], None]) -> None:
        """From now on something is kept, and `cool` will be called.

        Args:
            on_spare: called, from any thread and from finalizers, when there is something.
        """
        self._attendants.append(on_spare)

    def leave(self, on_spare: Callable[[], None]) -> None:
        """Whoever said so does not look after it any more. Without anybody, nothing is kept."""
        with suppress(ValueError):
            self._attendants.remove(on_spare)
        if not self._attendants:
            self._given.clear()
            with self._lock:
                self._spare.clear()

    @property
    def is_warm(self) -> bool:
        """Whether it keeps memory that nobody uses."""
        return bool(self._spare or self._given)

    def cool(self) -> None:
        """See `arena.Region.cool`."""
        with self._lock:
            self._collect()
            if self._idle:
                self._spare.clear()
            self._idle = True


stock = Stock()
"""The one of this process."""


def _mapped(size: int) -> mmap.mmap:
    room = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    huge = size // HUGE_BYTES * HUGE_BYTES  # not behind that: it would be all there at once
    with suppress(AttributeError, OSError, ValueError):
        room.madvise(mmap.MADV_HUGEPAGE, 0, huge)
    return room
