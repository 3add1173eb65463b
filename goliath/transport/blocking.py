"""The worker's end of a pipe: blocking sockets, no loop, one reused buffer.

A frame on a pipe is ``u64 length of the rest`` (little endian) and then a frame of `codec`
without checksum. Any thread that waits on an event loop would add 40 to 80 µs to each call,
so the thread that runs the user's code reads its socket itself.
"""

from __future__ import annotations

import mmap
import socket
import struct

from goliath.transport.codec import (
    Lender,
    from_wire,
    oversize,
    pack_header,
    to_wire,
    unpack_frame,
)
from goliath.transport.message import Message
from goliath.transport.payload import Piece
from goliath.transport.vigil import Vigil

LENGTH = struct.Struct("<Q")
FRAME_MAX_BYTES = 1 << 40
_USUAL_BYTES = 1 << 20
_KEPT_BYTES = 1 << 24  # a bigger buffer is let go, or one huge frame would cost memory for ever


def pack_pipe_frame(message: Message, lender: Lender | None = None) -> list[Piece]:
    """Everything before the payload, and the payload with what is beside it (not copied).

    Raises:
        OverflowError: the payload does not fit a frame.
    """
    header, parts = to_wire(message, lender)
    head = pack_header(header, checksum=False)
    total = len(head) + (len(parts[0]) if len(parts) == 1 else sum(map(len, parts)))
    if total > FRAME_MAX_BYTES:
        raise OverflowError(f"a {message.kind} message of {total} bytes; 1 TiB is the limit")
    return [LENGTH.pack(total) + head, *parts]


class BlockingPipe:
    """Messages over a blocking stream socket. One thread receives, one at a time sends.

    Args:
        sock: the socket.
        send_max_bytes: bigger messages are refused, as the other end would.
        lender: what need not be sent because both ends can look at it.
    """

    __slots__ = (
        "_begin",
        "_end",
        "_lender",
        "_send_max",
        "_sock",
        "_timeout",
        "_view",
        "_vigil",
    )

    def __init__(
        self,
        sock: socket.socket,
        send_max_bytes: int = FRAME_MAX_BYTES,
        lender: Lender | None = None,
    ) -> None:
        self._sock = sock
        self._send_max = send_max_bytes
        self._lender = lender
        # Anonymous memory costs nothing until it is touched; a bytearray is zeroed at once.
        self._view = memoryview(_memory(_USUAL_BYTES))
        self._begin = self._end = 0
        self._timeout: float | None = None
        self._vigil = Vigil(sock.fileno())
        sock.settimeout(None)

    def close(self) -> None:
        """Close the socket; nothing can be received or sent any more."""
        self._sock.close()

    def finish(self) -> None:
        """Tell the other end that nothing more comes from here."""
        self._sock.shutdown(socket.SHUT_WR)

    def receive(self, timeout: float | None = None) -> Message | None:
        """The next message; None when the other end has closed.

        The payload is a view of the reused buffer: it is good until the next `receive`. What is
        beside it, or was lent, stays as long as it is looked at.

        Raises:
            TimeoutError: ``timeout`` seconds passed; what has arrived so far is kept.
        """
        if timeout != self._timeout:
            self._sock.settimeout(timeout)
            self._timeout = timeout
        return self._receive(0)

    def receive_soon(self) -> Message | None:
        """`receive`, by a thread that stays awake as long as messages come in close succession."""
        if self._begin == self._end:
            self._vigil.keep()
        return self.receive()

    def receive_now(self) -> Message | None:
        """`receive`, where nothing may block: if the next message is not there yet, it raises.

        Raises:
            BlockingIOError: what has arrived of it is kept.
        """
        return self._receive(socket.MSG_DONTWAIT)

    def fileno(self) -> int:
        """Of the socket."""
        return self._sock.fileno()

    def _receive(self, flags: int) -> Message | None:
        wanted = LENGTH.size
        while True:
            start = self._begin + LENGTH.size
            if start <= self._end:
                (length,) = LENGTH.unpack_from(self._view, self._begin)
                wanted = LENGTH.size + length
                if self._begin + wanted <= self._end:
                    break
            if not self._read(wanted, flags):
                return None
        self._begin = start + length
        header, payload = unpack_frame(self._view[start : self._begin], checksum=False)
        return from_wire(header, payload, self._lender, copied=True)

    def send(self, message: Message) -> None:
        """Write a message; blocks while the other end does not read (that is the back-pressure).

        Raises:
            OSError: the other end is gone.
            SerializationError: it is bigger than the other end takes.
        """
        parts = pack_pipe_frame(message, self._lender)
        size = sum(map(len, parts))
        if size > self._send_max:
            raise oversize(message.kind, size, self._send_max)
        sent = self._sock.sendmsg(parts)
        for part in parts:
            if sent < len(part):
                self._sock.sendall(memoryview(part)[sent:])
            sent = max(sent - len(part), 0)

    def _read(self, wanted: int, flags: int) -> bool:
        """Read what is there, with room for ``wanted`` bytes of this frame; False at the end."""
        if self._begin == self._end:
            self._begin = self._end = 0
            if len(self._view) > _KEPT_BYTES:
                self._move_to(_memory(_USUAL_BYTES))
        if self._begin + wanted > len(self._view):
            self._move_to(
                self._view if wanted <= len(self._view) else _memory(wanted + _USUAL_BYTES)
            )
        room = self._view[self._end :] if self._end else self._view
        count = self._sock.recv_into(room, 0, flags)
        self._end += count
        return count > 0

    def _move_to(self, buffer: mmap.mmap | memoryview) -> None:
        """Bring the unread bytes to the front of ``buffer`` and use it from now on."""
        view = memoryview(buffer)
        unread = self._end - self._begin
        view[:unread] = bytes(self._view[self._begin : self._end])
        self._view, self._begin, self._end = view, 0, unread


def _memory(size: int) -> mmap.mmap:
    return mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
