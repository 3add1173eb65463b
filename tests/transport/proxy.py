"""A TCP proxy that can cut, swallow and stall: the bad network of these tests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field


@dataclass(eq=False)
class Flow:
    """One connection through the proxy, and what is done to it."""

    near: asyncio.StreamWriter
    far: asyncio.StreamWriter
    swallowing: bool = False
    reading: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass(eq=False)
class Proxy:
    """Forwards to a port of loopback until told otherwise."""

    target: int
    port: int = 0
    flows: list[Flow] = field(default_factory=list)
    passed_bytes: int = 0
    refusing: bool = False
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.refusing:
            writer.transport.abort()
            return
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            writer.transport.abort()
            return
        flow = Flow(writer, far_writer)
        flow.reading.set()
        self.flows.append(flow)
        with suppress(OSError):
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._pump(flow, reader, far_writer))
                tasks.create_task(self._pump(flow, far_reader, writer))
        for end in (writer, far_writer):
            end.transport.abort()

    async def _pump(
        self, flow: Flow, source: asyncio.StreamReader, target: asyncio.StreamWriter
    ) -> None:
        with suppress(OSError):
            while data := await source.read(64 * 1024):
                await flow.reading.wait()
                self.passed_bytes += len(data)
                self._news.set()
                if not flow.swallowing:
                    target.write(data)
                    await target.drain()
        if not flow.swallowing:
            target.transport.abort()

    async def passed(self, count: int) -> None:
        """Wait until so many bytes have come through."""
        while self.passed_bytes < count:
            self._news.clear()
            await self._news.wait()

    def cut(self) -> None:
        """Reset every connection at both ends."""
        for flow in self.flows:
            flow.near.transport.abort()
            flow.far.transport.abort()
        self.flows.clear()

    def cut_near(self) -> None:
        """Reset the Commander's end only: the Lieutenant hears nothing of it."""
        for flow in self.flows:
            flow.swallowing = True
            flow.near.transport.abort()

    def blackhole(self) -> None:
        """Swallow everything on the present connections, both ways, without a word."""
        for flow in self.flows:
            flow.swallowing = True

    def stall(self) -> None:
        """Stop reading the present connections."""
        for flow in self.flows:
            flow.reading.clear()

    def release(self) -> None:
        """Let the pumps of stalled connections end."""
        for flow in self.flows:
            flow.reading.set()


@asynccontextmanager
async def proxying(target: int) -> AsyncIterator[Proxy]:
    """A proxy in front of a port."""
    proxy = Proxy(target)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        proxy.release()
        proxy.cut()
        await asyncio.sleep(0.01)
