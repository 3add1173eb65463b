"""The Lieutenant's end of the socketpair to a worker process: frames without sessions.

Each frame is a ``u64`` (little endian) length of the rest and then a codec frame without checksum.
A socketpair loses nothing, so nothing is acknowledged. The worker runs a user's code,
which may write anything into it: sizes are checked, and nothing is unpickled.

A small frame is read into a buffer that is used again and copied out of it once; the rest
of a big one is read straight into its own memory. The worker's blocking end is `blocking`.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import cast

from goliath.config import KIB, MIB
from goliath.errors import LocalError, ProtocolError
from goliath.transport.channel import Receiver
from goliath.transport.codec import PREFIX, Lender, from_wire, pack_header, to_wire, unpack_frame
from goliath.transport.malloc import room_for
from goliath.transport.message import Message
from goliath.transport.payload import Ground

LENGTH = struct.Struct("<Q")
FRAME_MAX_BYTES = 512 * MIB
BUFFER_BYTES = 256 * KIB  # what a read may bring at once, of small frames
BIG_BYTES = 64 * KIB  # from here on a copy costs more than a second write
CONGESTED_BYTES = MIB  # written and not taken by the worker yet


class PipeChannel(asyncio.BufferedProtocol):
    """A `goliath.transport.channel.Channel` over a stream socket.

    Args:
        frame_max_bytes: a bigger frame from the other end ends the channel.
        congested_bytes: what may wait for the other end before producers should pause.
    """

    def __init__(
        self,
        *,
        frame_max_bytes: int = FRAME_MAX_BYTES,
        congested_bytes: int = CONGESTED_BYTES,
    ) -> None:
        self._frame_max_bytes = frame_max_bytes
        self._congested_bytes = congested_bytes
        self._loop = asyncio.get_running_loop()
        self._receiver: Receiver | None = None
        self._transport: asyncio.Transport | None = None
        self._congested = False
        self._closing = False
        self._error: Exception | None = None
        self._borrows: Lender | None = None
        self._lends: Lender | None = None
        self._buffer = memoryview(bytearray(BUFFER_BYTES))
        self._filled = 0
        self._big: memoryview | None = None
        self._big_filled = 0

    @classmethod
    async def open(
        cls,
        sock: socket.socket,
        *,
        frame_max_bytes: int = FRAME_MAX_BYTES,
        congested_bytes: int = CONGESTED_BYTES,
    ) -> PipeChannel:
        """A channel over a connected socket, which it owns from now on.

        Reading begins with `attach`.
        """
        loop = asyncio.get_running_loop()
        sock.setblocking(False)
        _, protocol = await loop.create_unix_connection(
            lambda: cls(frame_max_bytes=frame_max_bytes, congested_bytes=congested_bytes),
            sock=sock,
        )
        return protocol

    def __repr__(self) -> str:
        return f"<PipeChannel{' closed' if self._transport is None else ''}>"

    # -- the channel -------------------------------------------------------------------

    def attach(self, receiver: Receiver) -> None:
        """Name the receiver, once; messages that wait in the socket arrive from now on."""
        if self._receiver is not None:
            raise LocalError(f"{self!r} has a receiver already")
        self._receiver = receiver
        if self._transport is not None:
            self._transport.resume_reading()
        else:
            self._loop.call_soon(self._announce)

    def send(self, message: Message) -> None:
        """Write a message; never blocks."""
        transport = self._transport
        if transport is None or self._closing or transport.is_closing():
            return
        header, parts = to_wire(message, self._lends)
        head = pack_header(header, checksum=False)
        size = sum(map(len, parts))
        length = LENGTH.pack(len(head) + size)
        if size < BIG_BYTES:
            transport.write(b"".join((length, head, *parts)))
        else:
            transport.write(length + head)
            for part in parts:
                transport.write(part)

    def share(self, lender: Lender, *, lends: bool) -> None:
        """See `Channel.share`."""
        self._borrows = lender
        if lends:
            self._lends = lender

    def gather_in(self, ground: Ground) -> None:
        """See `Channel.gather_in`. Nothing comes in parts."""

    @property
    def congested(self) -> bool:
        """Whether more than the configured bytes wait to be read by the other end."""
        return self._congested

    def close(self) -> None:
        """End the channel after what was sent has left."""
        self._closing = True
        if self._transport is not None:
            self._transport.close()

    # -- for the owner of the process -------------------------------------------------------

    def abort(self) -> None:
        """End the channel now."""
        self._closing = True
        if self._transport is not None:
            self._transport.abort()

    def pause_reading(self) -> None:
        """Leave what the other end sends in the socket, so that it has to wait."""
        if self._transport is not None and not self._closing:
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Read again."""
        if self._transport is not None and not self._closing:
            self._transport.resume_reading()

    # -- what the loop calls ------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The socket is ready."""
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=self._congested_bytes)
        self._transport.pause_reading()

    def pause_writing(self) -> None:
        """The other end does not keep up."""
        self._congested = True

    def resume_writing(self) -> None:
        """It has caught up."""
        self._congested = False
        if self._receiver is not None and not self._closing:
            # Soon, not now: this may be called in the middle of a send.
            self._loop.call_soon(self._tell_writable)

    def connection_lost(self, exc: Exception | None) -> None:
        """The socket is closed, by either end."""
        self._transport = None
        self._congested = False
        if self._error is None and not self._closing and (self._filled or self._big is not None):
            exc = ProtocolError("the other end went away in the middle of a message")
        self._error = self._error or (exc if not self._closing else None)
        if self._receiver is not None:
            self._announce()

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where the next bytes go."""
        if self._big is not None:
            return self._big[self._big_filled :]
        return self._buffer[self._filled :]

    def buffer_updated(self, nbytes: int) -> None:
        """Bytes have arrived there."""
        try:
            if self._big is None:
                self._filled += nbytes
                self._peel()
            else:
                self._big_filled += nbytes
                if self._big_filled == len(self._big):
                    whole, self._big = self._big, None
                    self._take(whole)
        except ProtocolError as exc:
            self._error = exc
            self.abort()

    def eof_received(self) -> bool:
        """The other end has closed; so does this one."""
        return False

    # -- frames -----------------------------------------------------------------------------

    def _peel(self) -> None:
        """Take the whole frames out of the buffer and move the rest to its front."""
        at, buffer = 0, self._buffer
        while self._filled - at >= LENGTH.size:
            (length,) = LENGTH.unpack_from(buffer, at)
            if not PREFIX.size <= length <= self._frame_max_bytes:
                raise ProtocolError(
                    f"a worker announced a frame of {length} bytes; the limit is "
                    f"{self._frame_max_bytes}"
                )
            start = at + LENGTH.size
            end = start + length
            if end > self._filled:
                break
            at = end
            self._take(memoryview(bytes(buffer[start:end])))
        self._keep_rest(at)

    def _keep_rest(self, at: int) -> None:
        rest = self._filled - at
        if rest >= LENGTH.size:
            (length,) = LENGTH.unpack_from(self._buffer, at)
            if LENGTH.size + length > BUFFER_BYTES // 2:
                # It has no room here, or hardly any: its rest is read where it will stay.
                self._big = room_for(length)
                self._big_filled = rest - LENGTH.size
                self._big[: self._big_filled] = self._buffer[at + LENGTH.size : self._filled]
                self._filled = 0
                return
        if at and rest:
            self._buffer[:rest] = bytes(self._buffer[at : self._filled])
        self._filled = rest

    def _take(self, frame: memoryview) -> None:
        header, payload = unpack_frame(frame, checksum=False)
        message = from_wire(header, payload, self._borrows)
        if self._receiver is not None and not self._closing:
            self._receiver.on_message(message)

    def _tell_writable(self) -> None:
        if self._receiver is not None and not self._closing and not self._congested:
            self._receiver.on_writable()

    def _announce(self) -> None:
        if self._receiver is not None:
            self._receiver.on_closed(self._error)
