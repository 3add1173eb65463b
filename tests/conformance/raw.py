"""Websocket frames made by hand, right and wrong ones, and a connection that says them."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import os
import re
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from tests.conformance.peers import ClosedError, serving_streams
from tests.transport.test_door import UPGRADE

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
HEAD_END = b"\r\n\r\n"
PATIENCE_S = 5.0
ABORTED = -1
"""In the place of a close code: the connection just ended."""


def frame(
    opcode: int,
    payload: bytes = b"",
    *,
    fin: bool = True,
    rsv: int = 0,
    masked: bool = True,
    length: bytes | None = None,
) -> bytes:
    """A frame; ``length`` is what stands in the place of its seven bits and what follows them."""
    first = (fin << 7) | (rsv << 4) | opcode
    if length is None:
        length = length_of(len(payload))
    mask = os.urandom(4) if masked else b""
    head = bytes([first, length[0] | (masked << 7)]) + length[1:] + mask
    return head + (_masked(payload, mask) if masked else payload)


def length_of(size: int) -> bytes:
    """As RFC 6455 writes it, with as few bytes as it takes."""
    if size < 126:
        return bytes([size])
    return b"\x7e" + struct.pack(">H", size) if size < 1 << 16 else long_length(size)


def long_length(size: int) -> bytes:
    """In eight bytes, whatever it is."""
    return b"\x7f" + struct.pack(">Q", size)


def _masked(data: bytes, mask: bytes) -> bytes:
    return bytes(byte ^ mask[place % 4] for place, byte in enumerate(data))


@dataclass(eq=False)
class Raw:
    """One end of a connection, after the upgrade."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    masks: bool  # as a client does
    pongs: list[bytes] = field(default_factory=list)

    def write(self, data: bytes) -> None:
        """Whatever it is."""
        self.writer.write(data)

    def bad(self, opcode: int, payload: bytes = b"", **how: Any) -> bytes:
        """A frame of this end, see `frame`."""
        return frame(opcode, payload, masked=how.pop("masked", self.masks), **how)

    async def send(self, payload: bytes) -> None:
        """A binary message."""
        self.write(self.bad(BINARY, payload))

    async def heard(self) -> tuple[int, bytes]:
        """The next frame that is no control frame, or a close: its opcode and payload."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                opcode, payload = await self._frame()
                if opcode == PONG:
                    self.pongs.append(payload)
                elif opcode != PING:
                    return opcode, payload

    async def receive(self) -> bytes:
        """The next message, which is binary.

        Raises:
            ClosedError: there is none.
        """
        opcode, payload = await self.heard()
        if opcode == CLOSE:
            raise ClosedError(int.from_bytes(payload[:2], "big"), payload[2:].decode())
        assert opcode == BINARY, (opcode, payload)
        return payload

    async def _frame(self) -> tuple[int, bytes]:
        first, second = await self.reader.readexactly(2)
        size = second & 0x7F
        if size == 126:
            (size,) = struct.unpack(">H", await self.reader.readexactly(2))
        elif size == 127:
            (size,) = struct.unpack(">Q", await self.reader.readexactly(8))
        mask = await self.reader.readexactly(4) if second & 0x80 else b""
        payload = await self.reader.readexactly(size)
        assert bool(mask) != self.masks, "a client masks, and a server does not"
        assert first & 0x70 == 0, "no extension was agreed on"
        return first & 0x0F, _masked(payload, mask) if mask else payload

    async def closed(self) -> tuple[int, str]:
        """Code and reason with which the other end closes, once it has ended the connection."""
        code, reason = ABORTED, ""
        with suppress(asyncio.IncompleteReadError, ConnectionResetError):
            while True:
                opcode, payload = await self.heard()
                if opcode == CLOSE:
                    code, reason = int.from_bytes(payload[:2], "big"), payload[2:].decode()
                    with suppress(ConnectionResetError):
                        self.write(self.bad(CLOSE, payload[:2]))
        return code, reason

    def end(self) -> None:
        """Hang up."""
        self.writer.transport.abort()


@asynccontextmanager
async def calling(port: int) -> AsyncIterator[Raw]:
    """A client of a Lieutenant's port."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(UPGRADE + b"Host: 127.0.0.1\r\n\r\n")
    answer = await reader.readuntil(HEAD_END)
    assert answer.startswith(b"HTTP/1.1 101"), answer
    raw = Raw(reader, writer, masks=True)
    try:
        yield raw
    finally:
        raw.end()
        await asyncio.sleep(0)


def accepted(request: bytes) -> bytes:
    """The answer to an upgrade, as RFC 6455 wants it."""
    (key,) = re.findall(rb"Sec-WebSocket-Key: *(\S+)", request, re.I)
    digest = hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + base64.b64encode(digest) + HEAD_END
    )


@asynccontextmanager
async def answering(talk: Callable[[Raw], Awaitable[None]]) -> AsyncIterator[int]:
    """A server of raw connections; its port."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(accepted(await reader.readuntil(HEAD_END)))
        await talk(Raw(reader, writer, masks=False))

    async with serving_streams(handle) as port:
        yield port
