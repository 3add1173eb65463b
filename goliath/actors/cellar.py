"""Where a Lieutenant keeps what memory has no room for: one file without a name, read in place.

The file is cut into blocks as an arena is (see `goliath.transport.arena`), which it is to whoever
reads it: a block is a view, and its place on the disk is free again when nobody looks at it any
more. It has one descriptor, however much is in it, and is gone with the process, however that
ends. What is read of it is in the kernel's page cache, which makes room when memory is short.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

from goliath.config import MIB
from goliath.core.allotment import GRAIN
from goliath.machine import is_in_memory
from goliath.transport.arena import Arena, Region, offset_of
from goliath.transport.payload import Piece
from goliath.transport.private_files import make_private_directory

SPILL_MAX_BYTES = 64 * 1024 * MIB
"""Of what is free on a disk no more is used than this, if nobody says."""


class Cellar:
    """See the module's description.

    Args:
        folders: where the file may be, to be made if need be; the first of them that is on a disk
            is taken. What is in a file system that lives in memory would be out of it by name only.
        limit: bytes that it may have; below 0: half of what is free there.

    Attributes:
        limit: bytes that it may have; 0 if there is no such folder, or no disk.
    """

    def __init__(self, folders: Iterable[Path], limit: int = -1) -> None:
        self._folder = next((each for each in folders if _is_on_disk(each)), None)
        self.limit = 0
        if self._folder is not None:
            free = shutil.disk_usage(self._folder).free
            self.limit = limit if limit >= 0 else min(free // 2, SPILL_MAX_BYTES)
            self.limit -= self.limit % GRAIN
        self._region: Region | None = None
        self._lock = threading.Lock()  # nobody closes it while somebody writes
        self._closed = False
        self._on_untidy: Callable[[], None] = lambda: None

    def attend(self, on_untidy: Callable[[], None]) -> None:
        """Have it said when `tidy` has something to do. Only whoever lets go of a block knows that
        nobody looks at it any more, and that may be a thread, after all others have forgotten it.

        Args:
            on_untidy: called, from any thread and from finalizers.
        """
        self._on_untidy = on_untidy

    @property
    def used_bytes(self) -> int:
        """What is looked at, or may be."""
        return self._region.used_bytes if self._region is not None else 0

    @property
    def disk_bytes(self) -> int:
        """What the file has of the disk."""
        if self._region is None or self._closed:
            return 0
        return os.fstat(self._region.arena.fd).st_blocks * 512

    @property
    def is_open(self) -> bool:
        """Whether there is a file."""
        return self._region is not None and not self._closed

    @property
    def is_untidy(self) -> bool:
        """Whether it may have more of the disk than it needs."""
        return self.is_open and self._region is not None and self._region.is_warm

    def store(self, piece: Piece) -> memoryview | None:
        """It on the disk; None if there is no room. Blocking: to be called in a thread."""
        with suppress(OSError), self._lock:  # no file can be made, the disk is full, or broken
            region = self._opened()
            view = region.take(len(piece)) if region is not None else None
            if region is not None and view is not None:
                _write(region.arena.fd, offset_of(view), memoryview(piece))
                return view.toreadonly()
        return None

    def _opened(self) -> Region | None:
        if self._region is None and not self._closed:
            with tempfile.TemporaryFile(dir=self._folder, buffering=0) as file:
                os.truncate(file.fileno(), self.limit)
                arena = Arena.join(os.dup(file.fileno()), [self.limit], trusted=True)
            self._region = arena.region(0)
            self._region.on_given = self._given
        return None if self._closed else self._region

    def _given(self) -> None:
        self._on_untidy()

    def tidy(self) -> None:
        """Give the disk back what nobody looks at behind the last block that somebody does.
        Blocking."""
        with self._lock:
            if self._region is not None and not self._closed:
                self._region.shrink()

    def close(self) -> None:
        """Nothing more is stored. What is looked at stays."""
        with self._lock:
            self._closed = True
            if self._region is not None:
                self._region.close()
                self._region.arena.close()


def _is_on_disk(folder: Path) -> bool:
    try:
        make_private_directory(folder)
        return not is_in_memory(folder)
    except OSError:
        return False


def _write(fd: int, offset: int, data: memoryview) -> None:
    """By a system call, which fails where the disk does; through the mapping it would be a
    signal."""
    while data:
        written = os.pwrite(fd, data, offset)
        data, offset = data[written:], offset + written
