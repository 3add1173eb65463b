"""What a worker prints: read without blocking, cut at line ends, its last words remembered."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable

from goliath.config import KIB

PIECE_MAX_BYTES = 64 * KIB
_READS_AT_ONCE = 32  # a worker that prints for ever must not hold the loop


class OutputPipe:
    """The reading end of a worker's stdout or stderr, which it owns.

    Args:
        loop: the running loop.
        fd: the reading end of a pipe.
        on_text: called with whole lines where possible, with at most 64 KiB at a time.
        tail_bytes: how much of the end to remember.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        fd: int,
        on_text: Callable[[bytes], None],
        tail_bytes: int = 0,
    ) -> None:
        os.set_blocking(fd, False)
        self._loop = loop
        self._fd = fd
        self._on_text = on_text
        self._tail_bytes = tail_bytes
        self._paused = self._closed = False
        self._line = b""
        self.tail = b""
        loop.add_reader(fd, self._on_readable)

    @property
    def unfinished(self) -> bool:
        """Whether the beginning of a line waits for its end."""
        return bool(self._line)

    def pause(self) -> None:
        """Read no more: the pipe fills, and the worker waits in its print."""
        if not self._paused and not self._closed:
            self._paused = True
            self._loop.remove_reader(self._fd)

    def resume(self) -> None:
        """Read on."""
        if self._paused and not self._closed:
            self._paused = False
            self._loop.add_reader(self._fd, self._on_readable)

    def drain(self, *, even_paused: bool = False) -> None:
        """Hand on everything that is there now, an unfinished line too."""
        if self._closed or (self._paused and not even_paused):
            return
        for _ in range(_READS_AT_ONCE):
            if not self._read():
                break
        if self._line:
            text, self._line = self._line, b""
            self._on_text(text)

    def close(self) -> None:
        """Hand on the rest and let the pipe go."""
        if not self._closed:
            self.drain(even_paused=True)
            self._shut()

    def _on_readable(self) -> None:
        self._read()

    def _read(self) -> bool:
        """Read once; whether there may be more."""
        try:
            data = os.read(self._fd, PIECE_MAX_BYTES)
        except BlockingIOError:
            return False
        except OSError:
            data = b""
        if not data:
            self._shut()
            return False
        if self._tail_bytes:
            self.tail = (self.tail + data)[-self._tail_bytes :]
        self._hand_on(self._line + data)
        return not self._closed

    def _hand_on(self, data: bytes) -> None:
        while cut := _cut(data):
            self._on_text(data[:cut])
            data = data[cut:]
        self._line = data

    def _shut(self) -> None:
        if not self._closed:
            self._closed = True
            if not self._paused:
                self._loop.remove_reader(self._fd)
            os.close(self._fd)
            if self._line:
                text, self._line = self._line, b""
                self._on_text(text)


def _cut(data: bytes) -> int:
    """How much of ``data`` to hand on: whole lines, or what is too long to be kept."""
    lines = data.rfind(b"\n", 0, PIECE_MAX_BYTES) + 1
    if lines or len(data) < PIECE_MAX_BYTES:
        return lines
    for cut in range(PIECE_MAX_BYTES, PIECE_MAX_BYTES - 4, -1):
        if cut == len(data) or data[cut] & 0xC0 != 0x80:  # where a character of UTF-8 begins
            return cut
    return PIECE_MAX_BYTES
