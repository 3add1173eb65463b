"""Two channel ends in one loop: how a Commander talks to the Lieutenant embedded beside it.

Messages pass by reference, and at once where nothing stands before them: a turn of the loop
takes 10 µs, and a call would need two. What an end sends while it is being told something, or is
told while it sends, waits for a later turn, so that no receiver is ever called inside its own call.
``through_codec`` makes a pair for tests, on which only what the wire allows can pass.
"""

from __future__ import annotations

import asyncio
from collections import deque

from goliath.config import TransportConfig
from goliath.errors import LocalError
from goliath.transport.channel import Receiver
from goliath.transport.codec import Lender, from_wire, pack_header, to_wire, unpack_frame
from goliath.transport.message import Message
from goliath.transport.payload import Ground


def pair(
    config: TransportConfig, *, through_codec: bool = False
) -> tuple[MemoryChannel, MemoryChannel]:
    """The two ends."""
    left = MemoryChannel(config.unacked_max_bytes, through_codec=through_codec)
    right = MemoryChannel(config.unacked_max_bytes, through_codec=through_codec)
    left.join(right)
    right.join(left)
    return left, right


class MemoryChannel:
    """One end of a `pair`."""

    def __init__(self, capacity_bytes: int, *, through_codec: bool) -> None:
        self._capacity_bytes = capacity_bytes
        self._through_codec = through_codec
        self._loop = asyncio.get_running_loop()
        self._receiver: Receiver | None = None
        self._peer: MemoryChannel | None = None
        self._inbox: deque[Message] = deque()
        self._inbox_bytes = 0
        self._woken = False
        self._engaged = False  # sending or being told something
        self._closed = False
        self._peer_closed = False
        self._congested = False
        self._told = False

    def __repr__(self) -> str:
        return f"<MemoryChannel {len(self._inbox)} waiting{' closed' if self._closed else ''}>"

    def join(self, peer: MemoryChannel) -> None:
        """Name the other end."""
        self._peer = peer

    # -- the channel -------------------------------------------------------------------

    def attach(self, receiver: Receiver) -> None:
        """Name the receiver, once. What comes before waits for it."""
        if self._receiver is not None:
            raise LocalError(f"{self!r} has a receiver already")
        self._receiver = receiver
        if self._inbox or self._closed or self._peer_closed:
            self._wake()

    def send(self, message: Message) -> None:
        """Hand a message to the other end, soon."""
        if self._closed or self._peer_closed:
            return
        peer = self._peer or self._other_end()
        if self._through_codec:
            message = _round_trip(message)
        if peer._receiver is not None and not (self._engaged or peer._engaged or peer._woken):
            self._engaged = True
            peer._tell(peer._receiver, message)
            self._engaged = False
        else:
            peer._put(message)
            if peer._inbox_bytes > self._capacity_bytes:
                self._congested = True

    def share(self, lender: Lender, *, lends: bool) -> None:
        """See `Channel.share`. What passes by reference need not be lent."""

    def gather_in(self, ground: Ground) -> None:
        """See `Channel.gather_in`. Nothing comes in parts."""

    @property
    def congested(self) -> bool:
        """Whether the other end has more than the configured bytes to read."""
        return self._congested

    def close(self) -> None:
        """End both ends; what was sent still arrives, what was not read here does not."""
        if self._closed:
            return
        self._closed = True
        self._inbox.clear()
        self._wake()
        peer = self._other_end()
        peer._peer_closed = True
        peer._wake()

    # -- delivery ------------------------------------------------------------------------

    def _other_end(self) -> MemoryChannel:
        if self._peer is None:
            raise LocalError("a MemoryChannel is made by pair()")
        return self._peer

    def _put(self, message: Message) -> None:
        self._inbox.append(message)
        self._inbox_bytes += _size(message)
        self._wake()

    def _wake(self) -> None:
        if not self._woken:
            self._woken = True
            self._loop.call_soon(self._deliver)

    def _deliver(self) -> None:
        """Everything that came before this turn; what its reading causes is for the next."""
        self._woken = False
        if self._receiver is None:
            return
        self._drain(self._receiver)
        if self._closed or (self._peer_closed and not self._inbox):
            self._end(self._receiver)

    def _drain(self, receiver: Receiver) -> None:
        for _ in range(len(self._inbox)):
            if not self._inbox:
                return  # closed by the message before
            message = self._inbox.popleft()
            self._inbox_bytes -= _size(message)
            self._tell(receiver, message)
        self._other_end()._relieve(self._inbox_bytes)

    def _tell(self, receiver: Receiver, message: Message) -> None:
        self._engaged = True
        try:
            receiver.on_message(message)
        except Exception as exc:  # noqa: BLE001 - no fault of the sender, nor of the next message
            context = {"message": f"{receiver!r} failed on {message!r}", "exception": exc}
            self._loop.call_exception_handler(context)
        finally:
            self._engaged = False

    def _relieve(self, waiting_bytes: int) -> None:
        if self._congested and waiting_bytes <= self._capacity_bytes // 2:
            self._congested = False
            self._loop.call_soon(self._tell_writable)

    def _tell_writable(self) -> None:
        if self._receiver is not None and not (self._closed or self._peer_closed):
            self._receiver.on_writable()

    def _end(self, receiver: Receiver) -> None:
        self._closed = True
        if not self._told:
            self._told = True
            receiver.on_closed(None)


def _size(message: Message) -> int:
    return len(getattr(message, "payload", b""))


def _round_trip(message: Message) -> Message:
    header, parts = to_wire(message)
    payload = b"".join(parts)
    frame = pack_header(header, payload, checksum=True) + payload
    received, view = unpack_frame(frame, checksum=True)
    return from_wire(received, view)
