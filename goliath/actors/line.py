"""The Lieutenant's end of a worker's call socket: non-blocking, and one copy of a payload at most.

Sending tries the socket at once, and reading hands a message on from within the loop's
callback: no task and no queue stands between a worker and whoever has its news.
"""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from itertools import islice

from goliath.config import KIB, MIB
from goliath.errors import ProtocolError
from goliath.transport.blocking import FRAME_MAX_BYTES, LENGTH, pack_pipe_frame
from goliath.transport.codec import PREFIX, PREFIX_BYTES, Lender, from_wire, unpack_frame
from goliath.transport.malloc import room_for
from goliath.transport.message import Message
from goliath.transport.payload import Piece

READ_BYTES = 256 * KIB
TURN_BYTES = 512 * KIB  # sent or read at once: while the worker's core takes what this one gives,
# the kernel would go on until all is through, and a gibibyte would stop the loop for a second
_HEADER_MAX_BYTES = 8 * MIB  # of a frame: it is read in the loop, and 65,536 calls need one
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
        frame_max_bytes: of what comes in; who announces more is not listened to any longer.
        lender: what need not be sent because both ends can look at it.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        sock: socket.socket,
        buffer: bytearray,
        on_message: Callable[[Message], None],
        on_end: Callable[[Exception | None], None],
        frame_max_bytes: int = FRAME_MAX_BYTES,
        lender: Lender | None = None,
    ) -> None:
        self._lender = lender
        sock.setblocking(False)
        self._frame_max_bytes = frame_max_bytes
        self._loop = loop
        self._sock = sock
        self._buffer = buffer
        self._on_message = on_message
        self._on_end = on_end
        self._ended = self._closed = False
        self._unsent: deque[memoryview] = deque()
        self._head = b""
        self._frame: memoryview | None = None  # one that did not come in one piece
        self._filled = 0
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
        size = sum(map(len, parts))
        small = size <= TURN_BYTES and len(parts) <= _PIECES_MAX
        sent = self._try(parts if small else _one_turn(parts))
        if sent is not None and sent < size:
            self._queue(parts, sent)
            self._loop.add_writer(self._sock, self._on_writable)

    def _queue(self, parts: list[Piece], sent: int) -> None:
        for part in parts:
            if sent < len(part):
                self._unsent.append(memoryview(part)[sent:])
            sent = max(sent - len(part), 0)

    def _on_writable(self) -> None:
        sent = self._try(_one_turn(self._unsent))
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

    def pause(self) -> None:
        """Stop reading, so that whoever sends has to wait."""
        if not self._ended:
            self._loop.remove_reader(self._sock)

    def resume(self) -> None:
        """Go on reading."""
        if not self._ended:
            self._loop.add_reader(self._sock, self._on_readable)

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
        if length > self._frame_max_bytes:
            raise ProtocolError(
                f"a frame of {length} bytes; {self._frame_max_bytes} is the most that is taken"
            )
        if length <= len(data):
            self._deliver(bytes(data[:length]))
            return data[length:]
        self._check_header(data)
        self._frame = room_for(length)
        self._frame[: len(data)] = data
        self._filled = len(data)
        return data[:0]

    def _read_frame(self) -> bool:
        """Read straight into the frame that is under way."""
        frame = self._frame
        assert frame is not None
        count = self._sock.recv_into(frame[self._filled : self._filled + TURN_BYTES])
        if count == 0:
            self._end(None)
            return False
        self._filled += count
        if self._filled == len(frame):
            self._frame = None
            self._deliver(frame)
        return True

    def _deliver(self, frame: Piece) -> None:
        self._check_header(frame)
        header, payload = unpack_frame(frame, checksum=False)
        self._on_message(from_wire(header, payload, self._lender))

    @staticmethod
    def _check_header(frame: Piece) -> None:
        """Raise `ProtocolError` for one that would keep the loop busy, if it is there already."""
        if len(frame) >= PREFIX_BYTES and PREFIX.unpack_from(frame)[0] > _HEADER_MAX_BYTES:
            raise ProtocolError(f"a header of more than {_HEADER_MAX_BYTES} bytes")

    def _end(self, error: Exception | None) -> None:
        if not self._ended:
            self._ended = True
            self._loop.remove_reader(self._sock)
            self._on_end(error)


def _one_turn(parts: Iterable[Piece]) -> list[memoryview]:
    """What of these is sent in one turn of the loop."""
    pieces, room = [], TURN_BYTES
    for part in islice(parts, _PIECES_MAX):
        pieces.append(memoryview(part)[:room])
        room -= len(part)
        if room <= 0:
            break
    return pieces
