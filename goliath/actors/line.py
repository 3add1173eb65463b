"""The Lieutenant's end of a worker's call socket: non-blocking, and one copy of a payload at most.

Sending tries the socket at once, and reading hands a message on from within the loop's
callback: no task and no queue stands between a worker and whoever has its news.
"""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from collections.abc import Callable, Sequence

from goliath.config import KIB, MIB
from goliath.errors import ProtocolError
from goliath.transport.blocking import LENGTH, pack_pipe_frame
from goliath.transport.codec import Lender, from_wire, unpack_frame
from goliath.transport.messages import Message, Piece

READ_BYTES = 256 * KIB
_FRAME_START_BYTES = 16 * MIB  # set aside for a bigger frame before it has arrived
_READS_AT_END = 1024
_PIECES_MAX = 64  # of one sendmsg; the kernel's own limit is 1024


class Line:
    """Messages over one non-blocking stream socket, which it owns.

    Args:
        loop: the running loop.
        sock: connected; made non-blocking here.
        buffer: to read into; lines of one loop may share it, it is empty between callbacks.
        on_message: called for each message, from the loop or from `drain`.
        on_end: called once when nothing more can come; with the error if there was one.
        lender: what need not be sent because both ends can look at it.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        sock: socket.socket,
        buffer: bytearray,
        on_message: Callable[[Message], None],
        on_end: Callable[[Exception | None], None],
        lender: Lender | None = None,
    ) -> None:
        self._lender = lender
        sock.setblocking(False)
        self._loop = loop
        self._sock = sock
        self._buffer = buffer
        self._on_message = on_message
        self._on_end = on_end
        self._ended = self._closed = False
        self._unsent: deque[memoryview] = deque()
        self._head = b""
        self._frame: bytearray | None = None  # one that did not come in one piece
        self._length = self._filled = 0
        loop.add_reader(sock, self._on_readable)

    # -- out ----------------------------------------------------------------------------

    @property
    def unsent_bytes(self) -> int:
        """What waits because the worker does not read."""
        return sum(map(len, self._unsent))

    def send(self, message: Message) -> None:
        """Send a message, or queue what the socket does not take. Never blocks, never raises."""
        if self._closed:
            return
        parts = pack_pipe_frame(message, self._lender)
        if self._unsent:
            self._queue(parts, 0)
            return
        first = parts if len(parts) <= _PIECES_MAX else parts[:_PIECES_MAX]
        sent = self._try(first)
        if sent is not None and (parts is not first or sent < sum(map(len, parts))):
            self._queue(parts, sent)
            self._loop.add_writer(self._sock, self._on_writable)

    def _queue(self, parts: list[Piece], sent: int) -> None:
        for part in parts:
            if sent < len(part):
                self._unsent.append(memoryview(part)[sent:])
            sent = max(sent - len(part), 0)

    def _on_writable(self) -> None:
        pieces = [self._unsent[place] for place in range(min(len(self._unsent), _PIECES_MAX))]
        sent = self._try(pieces)
        if sent is None:
            self._unsent.clear()  # nobody will ever read it; `on_end` says so
        while sent:
            piece = self._unsent.popleft()
            if sent < len(piece):
                self._unsent.appendleft(piece[sent:])
                break
            sent -= len(piece)
        if not self._unsent:
            self._loop.remove_writer(self._sock)

    def _try(self, pieces: Sequence[Piece]) -> int | None:
        try:
            return self._sock.sendmsg(pieces)
        except BlockingIOError:
            return 0
        except OSError:
            return None  # the reading side will hear of it

    def finish(self) -> None:
        """Tell the worker that nothing more comes; what it still has to say is read."""
        if not self._closed:
            try:
                self._sock.shutdown(socket.SHUT_WR)
            except OSError:
                return  # it is gone already

    # -- in -----------------------------------------------------------------------------

    def drain(self) -> None:
        """Read what a dead worker has left in the socket, now."""
        for _ in range(_READS_AT_END):
            if self._ended or not self._read():
                return

    def close(self) -> None:
        """Let the socket go. `on_end` is not called any more."""
        if not self._closed:
            self._closed = self._ended = True
            self._loop.remove_reader(self._sock)
            self._loop.remove_writer(self._sock)
            self._unsent.clear()
            self._sock.close()

    def _on_readable(self) -> None:
        self._read()

    def _read(self) -> bool:
        """Read once; whether there may be more."""
        try:
            return self._read_frame() if self._frame is not None else self._read_some()
        except BlockingIOError:
            return False
        except (OSError, ProtocolError) as exc:
            self._end(exc)
            return False

    def _read_some(self) -> bool:
        count = self._sock.recv_into(self._buffer)
        if count == 0:
            self._end(None)
            return False
        data = memoryview(self._buffer)[:count]
        while len(data) and not self._ended:
            data = self._peel(data)
        return True

    def _peel(self, data: memoryview) -> memoryview:
        """Take one frame, or the beginning of one, off ``data``."""
        if self._head or len(data) < LENGTH.size:
            missing = LENGTH.size - len(self._head)
            self._head += data[:missing]
            data = data[missing:]
            if len(self._head) < LENGTH.size:
                return data
            (length,) = LENGTH.unpack(self._head)
            self._head = b""
        else:
            (length,) = LENGTH.unpack_from(data)
            data = data[LENGTH.size :]
        if length <= len(data):
            self._deliver(bytes(data[:length]))
            return data[length:]
        self._frame = bytearray(min(length, _FRAME_START_BYTES))
        self._frame[: len(data)] = data
        self._length, self._filled = length, len(data)
        return data[:0]

    def _read_frame(self) -> bool:
        """Read straight into the frame that is under way."""
        frame = self._frame
        assert frame is not None
        if self._filled == len(frame):
            # Grown only as bytes arrive: a worker must not cost memory by announcing 4 GiB.
            frame.extend(bytes(min(len(frame), self._length - len(frame))))
        with memoryview(frame) as view, view[self._filled :] as rest:
            count = self._sock.recv_into(rest)
        if count == 0:
            self._end(None)
            return False
        self._filled += count
        if self._filled == self._length:
            self._frame = None
            self._deliver(frame)
        return True

    def _deliver(self, frame: Piece) -> None:
        header, payload = unpack_frame(frame, checksum=False)
        self._on_message(from_wire(header, payload, self._lender))

    def _end(self, error: Exception | None) -> None:
        if not self._ended:
            self._ended = True
            self._loop.remove_reader(self._sock)
            self._on_end(error)
