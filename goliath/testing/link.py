"""What stands between the Commanders of a test and one Lieutenant, and can be cut: a TCP proxy.

The login is bound to the port (`loopback:<port>`), so that nobody can relay it from another one.
The proxy has the same port, at another address of the loopback interface; there, the
Lieutenant's runtime file is found by Commanders as well.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from contextlib import suppress
from dataclasses import dataclass

from goliath.actors.portal import Portal

LINK_HOST = "127.0.0.2"
READ_BYTES = 256 * 1024
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER of no time: an RST instead of a FIN


@dataclass(eq=False, slots=True)
class _Flow:
    """One connection, both halves of it."""

    near: asyncio.StreamWriter
    far: asyncio.StreamWriter
    swallowed: bool = False

    def reset(self) -> None:
        for writer in (self.near, self.far):
            if not writer.is_closing():  # else uvloop's socket has no descriptor any more
                sock = writer.get_extra_info("socket")
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            writer.transport.abort()


class Link:
    """Passes everything on, until it is told otherwise. Its methods may be called in any thread.

    Args:
        portal: in whose loop it lives.
        port: of the Lieutenant, at 127.0.0.1, and its own.
    """

    def __init__(self, portal: Portal, port: int) -> None:
        self._portal = portal
        self._port = port
        self._flows: list[_Flow] = []
        self._idle = asyncio.Event()
        self._server = portal.call(self._listen())

    @property
    def address(self) -> tuple[str, int]:
        """Where Commanders find the Lieutenant behind it."""
        return (LINK_HOST, self._port)

    def connections(self) -> int:
        """How many connections it passes on."""
        return self._portal.call(self._count())

    def cut(self) -> int:
        """Reset its connections at both ends; how many."""
        return self._portal.call(self._cut())

    def swallow(self) -> int:
        """Pass nothing on any more on its present connections, both ways, without a word to either
        end; how many. New ones are passed on."""
        return self._portal.call(self._swallow())

    def close(self) -> None:
        """Listen no more, and cut what there is."""
        self._portal.call(self._close())

    async def _listen(self) -> asyncio.Server:
        return await asyncio.start_server(
            self._serve, LINK_HOST, self._port, reuse_address=True, limit=READ_BYTES
        )

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection(
                "127.0.0.1", self._port, limit=READ_BYTES
            )
        except OSError:  # the Lieutenant is not there
            writer.transport.abort()
            return
        flow = _Flow(writer, far_writer)
        self._flows.append(flow)
        try:
            async with asyncio.TaskGroup() as pumps:
                pumps.create_task(self._pump(flow, reader, far_writer))
                pumps.create_task(self._pump(flow, far_reader, writer))
        finally:
            for end in (writer, far_writer):
                end.transport.abort()
            self._flows.remove(flow)
            if not self._flows:
                self._idle.set()

    @staticmethod
    async def _pump(
        flow: _Flow, source: asyncio.StreamReader, target: asyncio.StreamWriter
    ) -> None:
        with suppress(OSError):
            while data := await source.read(READ_BYTES):
                if not flow.swallowed:
                    target.write(data)
                    await target.drain()
        if not flow.swallowed:
            target.transport.abort()

    def _passing(self) -> list[_Flow]:
        return [flow for flow in self._flows if not flow.swallowed]

    async def _count(self) -> int:
        return len(self._passing())

    async def _cut(self) -> int:
        cut = self._passing()
        for flow in self._flows:
            flow.reset()
        return len(cut)

    async def _swallow(self) -> int:
        swallowed = self._passing()
        for flow in swallowed:
            flow.swallowed = True
        return len(swallowed)

    async def _close(self) -> None:
        self._server.close()
        await self._cut()
        while self._flows:
            self._idle.clear()
            await self._idle.wait()  # their handlers end, now that both ends are closed
