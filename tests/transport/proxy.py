"""A TCP proxy that can cut, swallow, stall, delay, throttle and spoil: the tests' bad network."""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

from tests.transport.spoiling import Frames, Spoiler

CHUNK_BYTES = 64 * 1024
NARROW_BYTES = 4 * 1024  # of a slow link: so much is on its way, and no more is bought in advance
KEPT_BYTES = 32 * 1024  # what the kernel may keep for the proxy: a router's queue, not 6 MiB


@dataclass(eq=False)
class Way:
    """One direction, of all connections: what happens to what goes there.

    Attributes:
        deaf: everything is swallowed.
        latency_s: everything arrives so much later.
        bytes_per_s: no more than that; 0 means as fast as it goes.
        spoiler: what is done to websocket frames.
    """

    deaf: bool = False
    latency_s: float = 0.0
    bytes_per_s: float = 0.0
    spoiler: Spoiler | None = None


@dataclass(eq=False)
class Flow:
    """One connection through the proxy, and what is done to it."""

    near: asyncio.StreamWriter
    far: asyncio.StreamWriter
    swallowed: set[Way] = field(default_factory=set)
    ended: bool = False
    reading: asyncio.Event = field(default_factory=asyncio.Event)


_Going = asyncio.Queue[tuple[float, bytes]]
"""What is on its way, and when it arrives; nothing is the end."""


@dataclass(eq=False)
class Proxy:
    """Forwards to a port of loopback until told otherwise.

    Attributes:
        source: the address that the connections come from, as the Lieutenant sees it.
        refusing: new connections are reset.
        happened: how often what has been done.
    """

    target: int
    port: int = 0
    source: str = "127.0.0.1"
    flows: list[Flow] = field(default_factory=list)
    up: Way = field(default_factory=Way)
    down: Way = field(default_factory=Way)
    passed_bytes: int = 0
    refusing: bool = False
    happened: Counter[str] = field(default_factory=Counter)
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.refusing:
            self.happened["refused"] += 1
            writer.transport.abort()
            return
        try:
            far_reader, far_writer = await self._connect()
        except OSError:
            writer.transport.abort()
            return
        self.happened["connected"] += 1
        flow = Flow(writer, far_writer)
        flow.reading.set()
        self.flows.append(flow)
        with suppress(OSError, asyncio.CancelledError):  # the loop is ending
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._pump(flow, self.up, reader, far_writer))
                tasks.create_task(self._pump(flow, self.down, far_reader, writer))
        flow.ended = True
        for end in (writer, far_writer):
            end.transport.abort()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, KEPT_BYTES)
        sock.setblocking(False)
        try:
            sock.bind((self.source, 0))
            await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", self.target))
        except OSError:
            sock.close()
            raise
        return await asyncio.open_connection(sock=sock)

    async def _pump(
        self, flow: Flow, way: Way, source: asyncio.StreamReader, target: asyncio.StreamWriter
    ) -> None:
        going = _Going(8 if way.bytes_per_s else 64)
        async with asyncio.TaskGroup() as tasks:
            taking = tasks.create_task(self._take_in(flow, way, source, going))
            with suppress(OSError):
                await _let_out(way, going, target)
            # A connection that swallows tells nobody of its end, either.
            if not (way in flow.swallowed or way.deaf):
                target.transport.abort()
            taking.cancel()

    async def _take_in(
        self, flow: Flow, way: Way, source: asyncio.StreamReader, going: _Going
    ) -> None:
        now = asyncio.get_running_loop().time
        frames = Frames(way.spoiler) if way.spoiler is not None else None
        with suppress(OSError):
            while data := await source.read(NARROW_BYTES if way.bytes_per_s else CHUNK_BYTES):
                await flow.reading.wait()
                self.passed_bytes += len(data)
                self._news.set()
                if way in flow.swallowed or way.deaf:
                    self.happened["swallowed"] += 1
                    continue
                for piece in frames.feed(data) if frames is not None else (data,):
                    await going.put((now() + way.latency_s, piece))
        await going.put((now() + way.latency_s, b""))

    async def passed(self, count: int) -> None:
        """Wait until so many bytes have come through."""
        while self.passed_bytes < count:
            self._news.clear()
            await self._news.wait()

    def cut(self) -> None:
        """Reset every connection at both ends."""
        for flow in self._open():
            flow.near.transport.abort()
            flow.far.transport.abort()
            self.happened["cut"] += 1
        self.flows.clear()

    def cut_near(self) -> None:
        """Reset the Commander's end only: the Lieutenant hears nothing of it."""
        for flow in self._open():
            flow.swallowed = {self.up, self.down}
            flow.near.transport.abort()
            self.happened["cut"] += 1

    def cut_far(self) -> None:
        """Reset the Lieutenant's end only: the Commander hears nothing of it."""
        for flow in self._open():
            flow.swallowed = {self.up, self.down}
            flow.far.transport.abort()
            self.happened["cut"] += 1

    def blackhole(self, *ways: Way) -> None:
        """Swallow everything on the present connections (both ways, or these) without a word."""
        for flow in self._open():
            flow.swallowed = set(ways) or {self.up, self.down}
            self.happened["blackhole"] += 1

    def stall(self) -> None:
        """Stop reading the present connections."""
        for flow in self.flows:
            flow.reading.clear()

    def release(self) -> None:
        """Let the pumps of stalled connections end."""
        for flow in self.flows:
            flow.reading.set()

    def _open(self) -> list[Flow]:
        return [flow for flow in self.flows if not flow.ended]


async def _let_out(way: Way, going: _Going, target: asyncio.StreamWriter) -> None:
    now = asyncio.get_running_loop().time
    free_at = 0.0  # a slow link is busy with the piece before
    while True:
        due, data = await going.get()
        if (wait := max(due, free_at) - now()) > 0:
            await asyncio.sleep(wait)
        if not data:
            return
        if way.bytes_per_s:
            free_at = max(now(), free_at) + len(data) / way.bytes_per_s
        target.write(data)
        await target.drain()


@asynccontextmanager
async def proxying(target: int, host: str = "127.0.0.1", port: int = 0) -> AsyncIterator[Proxy]:
    """A proxy in front of a port."""
    proxy = Proxy(target)
    listening = socket.create_server((host, port))
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, KEPT_BYTES)  # for all it accepts
    server = await asyncio.start_server(proxy.serve, sock=listening, limit=CHUNK_BYTES)
    proxy.port = listening.getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        proxy.release()
        proxy.cut()
        await asyncio.sleep(0.01)
