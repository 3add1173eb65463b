"""Websockets as links: the aiohttp objects behind `goliath.transport.connection.Link`.

Only public aiohttp API. Payload never travels as one big message, so the message limit of
both ends is a chunk and its header; the websocket's own compression is off, it would cost more
than it saves (see `compression` for ours).
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from aiohttp import ClientResponse, ClientWebSocketResponse, WSMsgType, web

from goliath.config import TransportConfig
from goliath.errors import ProtocolError
from goliath.transport.compression import is_installed
from goliath.transport.lanes import HEADER_ROOM_BYTES

PATH = "/goliath/v1"
CLOSE_MAX_S = 1.0
CLOSE_UNAUTHENTICATED = 4401
BANNED = 429  # by HTTP, before it is a websocket
REASON_MAX_BYTES = 123  # what a control frame of RFC 6455 has room for, beside the code
_BINARY = WSMsgType.BINARY  # Python 3.11 takes 0.1 µs to find a member in its class


class ClientSocket(ClientWebSocketResponse[Any]):
    """A client websocket that knows its transport, which `transport.abort` needs."""

    def __init__(
        self,
        reader: Any,
        writer: Any,
        protocol: Any,
        response: ClientResponse,
        *args: Any,
        **kw: Any,
    ) -> None:
        super().__init__(reader, writer, protocol, response, *args, **kw)
        assert response.connection is not None, "aiohttp makes websockets of open responses"
        self.transport = response.connection.transport


class WebSocketLink:
    """A websocket of either kind."""

    def __init__(
        self,
        websocket: web.WebSocketResponse[Any] | ClientSocket,
        transport: asyncio.Transport,
        *,
        secure: bool,
    ) -> None:
        self._websocket = websocket
        self._transport = transport
        self._secure = secure
        self.needs_checksum = not secure
        self._closed = asyncio.Event()
        self.compress = False
        ends = [transport.get_extra_info(name) for name in ("sockname", "peername")]
        # The same address at both ends is this very machine's.
        self.within_machine = all(ends) and ends[0][0] == ends[1][0]
        here, there = [f"{end[0]}:{end[1]}" if end else "" for end in ends]
        self.span = f"{here} {there}" if self.within_machine else ""
        self._span_seen_from_there = f"{there} {here}"

    def __repr__(self) -> str:
        return f"<WebSocketLink {'closed' if self._transport.is_closing() else 'open'}>"

    def is_memory(self, span: str) -> bool:
        """Whether the peer, who says that this is his `span`, has the other end of this very
        connection: then what is sent is copied by the kernel, and by nobody else. A tunnel or proxy
        of this machine has ports of its own."""
        return bool(self.span) and span == self._span_seen_from_there

    @property
    def close_code(self) -> int | None:
        """What the other end gave as its reason, once the link has ended."""
        return self._websocket.close_code

    def send_bytes(self, data: bytes) -> Coroutine[Any, Any, None]:
        """Send one message."""
        return self._websocket.send_bytes(data)

    async def receive(self) -> bytes | None:
        """The next message; None when the link has ended."""
        message = await self._websocket.receive()
        if message.type is _BINARY:
            data: bytes = message.data
            return data
        if message.type is WSMsgType.TEXT:
            raise ProtocolError("a text message came, and this protocol has only binary ones")
        return None

    def abort(self) -> None:
        """Break the link now: a heartbeat or a close would wait for a peer that does not read."""
        self._transport.abort()
        self._closed.set()

    async def until_closed(self) -> None:
        """Wait until whoever uses the link has closed or broken it."""
        await self._closed.wait()

    async def close(self, code: int, reason: str = "") -> None:
        """End the link politely, within a second."""
        try:
            async with asyncio.timeout(CLOSE_MAX_S):
                await self._websocket.close(code=code, message=_shortened(reason))
        except (TimeoutError, OSError):
            self._transport.abort()
        except asyncio.CancelledError:
            self._transport.abort()
            raise
        else:
            # Both have said that they end. TLS would say it once more, and wait for the answer.
            self._end()
        finally:
            self._closed.set()

    def _end(self) -> None:
        if self._secure:
            self._transport.abort()
        else:
            self._transport.close()


def _shortened(reason: str) -> bytes:
    """As much of it as fits. It may quote the other end, who says what he likes."""
    return reason.encode(errors="replace")[:REASON_MAX_BYTES].decode(errors="ignore").encode()


def may_compress(config: TransportConfig) -> bool:
    """Whether this end can compress payload, and would."""
    return config.compress_below_bytes_s > 0 and is_installed()


def message_limit(config: TransportConfig) -> int:
    """The biggest websocket message either end may send."""
    return config.chunk_bytes + HEADER_ROOM_BYTES
