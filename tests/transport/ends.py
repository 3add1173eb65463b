"""Channel ends for tests: a receiver that remembers, and a connected pair of every kind."""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from goliath.clock import BootClock
from goliath.config import TransportConfig
from goliath.transport import memory
from goliath.transport.address import Address
from goliath.transport.channel import Channel
from goliath.transport.credentials import Credentials, Token
from goliath.transport.dialer import Dialer
from goliath.transport.handshake import SESSION, Peer
from goliath.transport.listener import Listener
from goliath.transport.message import Message
from goliath.transport.messages import AssignBatch, RangeDone, StealBatches
from goliath.transport.pipe import PipeChannel
from goliath.transport.road import DirectRoad
from goliath.transport.sessions import GrantedSessions
from goliath.transport.tls import ServerTls
from tests.tokens import CERTIFICATE, KEY

TOKEN = Token(bytes(range(32)))
TLS = ServerTls(CERTIFICATE, KEY)
PATIENCE_S = 10.0


def bulk(number: int, payload: bytes = b"") -> RangeDone:
    """A bulk message that can be told apart."""
    return RangeDone(batch=number, attempt=1, lo=0, hi=1, elapsed_us=1, payload=payload)


def assign(number: int, payload: bytes = b"") -> AssignBatch:
    """A message with a field of every type."""
    return AssignBatch(
        batch=number,
        attempt=1,
        lo=0,
        hi=3,
        function="f" * 64,
        environment="e",
        form="columns",
        timeout_s=1.5,
        resources={"gpu": 1.0},
        payload=payload,
    )


def control(number: int) -> StealBatches:
    """A control message that can be told apart."""
    return StealBatches(count=number)


WHY_NONSENSE = "steal.count is a str, not int"


def nonsense() -> StealBatches:
    """A message that no honest end sends."""
    return StealBatches(count="many")  # type: ignore[arg-type]


@dataclass(slots=True, eq=False)
class End:
    """A receiver that remembers everything it is told, and its channel."""

    channel: Channel | None = None
    messages: list[Message] = field(default_factory=list)
    closed: list[Exception | None] = field(default_factory=list)
    writable: int = 0
    on_each: Callable[[Message], None] | None = None
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    @classmethod
    def of(cls, channel: Channel) -> End:
        end = cls(channel)
        channel.attach(end)
        return end

    def send(self, message: Message) -> None:
        assert self.channel is not None
        self.channel.send(message)

    def on_message(self, message: Message) -> None:
        self.messages.append(message)
        if self.on_each is not None:
            self.on_each(message)
        self._news.set()

    def on_closed(self, error: Exception | None) -> None:
        self.closed.append(error)
        self._news.set()

    def on_writable(self) -> None:
        self.writable += 1
        self._news.set()

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait for news that make the condition true."""
        async with asyncio.timeout(PATIENCE_S):
            while not condition():
                self._news.clear()
                await self._news.wait()

    async def received(self, count: int) -> list[Message]:
        await self.until(lambda: len(self.messages) >= count)
        return self.messages

    @property
    def batches(self) -> list[int]:
        return [m.batch for m in self.messages if isinstance(m, RangeDone | AssignBatch)]


@dataclass(slots=True, eq=False)
class Sessions:
    """An ``on_session`` that attaches an `End` to each new session."""

    ends: list[End] = field(default_factory=list)
    peers: list[Peer] = field(default_factory=list)
    troubles: list[Exception] = field(default_factory=list)
    granted: GrantedSessions | None = None
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    def on_session(self, channel: Channel, peer: Peer) -> None:
        self.ends.append(End.of(channel))
        self.peers.append(peer)
        self._news.set()

    def on_trouble(self, error: Exception) -> None:
        self.troubles.append(error)
        self._news.set()

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not condition():
                self._news.clear()
                await self._news.wait()

    async def end(self, number: int = 0) -> End:
        """The ``number``-th session, when it is there."""
        await self.until(lambda: len(self.ends) > number)
        return self.ends[number]

    async def trouble(self) -> Exception:
        """The first trouble, when it is there."""
        await self.until(lambda: self.troubles)
        return self.troubles[0]


def make_dialer(
    port: int, sessions: Sessions, config: TransportConfig | None = None, **options: object
) -> Dialer:
    """A dialer to a loopback port with the token of these tests."""
    config = config or TransportConfig()
    road = DirectRoad(
        options.pop("address", None) or Address("127.0.0.1", port),  # type: ignore[arg-type]
        options.pop("credentials", None) or Credentials(token=TOKEN),  # type: ignore[arg-type]
        config,
        tls=str(options.pop("tls", "auto")),
    )
    return Dialer(
        road,
        config,
        BootClock(),
        random.Random(1),
        on_session=sessions.on_session,
        on_trouble=sessions.on_trouble,
        **options,  # type: ignore[arg-type]
    )


def make_listener(
    sessions: Sessions,
    config: TransportConfig | None = None,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    tokens: Sequence[Token] = (TOKEN,),
    tls: ServerTls | None = None,
    **options: object,
) -> Listener:
    """A Lieutenant's door, and behind it those sessions."""
    config, clock = config or TransportConfig(), BootClock()
    limits = {"limits": options.pop("limits")} if "limits" in options else {}
    sessions.granted = GrantedSessions(config, clock, on_session=sessions.on_session, **limits)  # type: ignore[arg-type]
    hosts = {SESSION: sessions.granted}
    return Listener(host, port, tokens, tls, config, clock, hosts=hosts, **options)  # type: ignore[arg-type]


@asynccontextmanager
async def listening(
    sessions: Sessions, config: TransportConfig | None = None, **options: object
) -> AsyncIterator[Listener]:
    """A listener on a free loopback port."""
    listener = make_listener(sessions, config, **options)  # type: ignore[arg-type]
    await listener.start()
    try:
        yield listener
    finally:
        await listener.close()


@asynccontextmanager
async def dialing(dialer: Dialer) -> AsyncIterator[Dialer]:
    """The dialer at work."""
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(dialer.run())
        try:
            yield dialer
        finally:
            await dialer.close()


# -- a pair of every kind ------------------------------------------------------------------


@asynccontextmanager
async def memory_pair(config: TransportConfig) -> AsyncIterator[tuple[End, End]]:
    left, right = memory.pair(config)
    yield End.of(left), End.of(right)
    left.close()
    await asyncio.sleep(0)


@asynccontextmanager
async def codec_pair(config: TransportConfig) -> AsyncIterator[tuple[End, End]]:
    left, right = memory.pair(config, through_codec=True)
    yield End.of(left), End.of(right)
    left.close()
    await asyncio.sleep(0)


@asynccontextmanager
async def pipe_pair(config: TransportConfig) -> AsyncIterator[tuple[End, End]]:
    channels = [
        await PipeChannel.open(sock, congested_bytes=config.unacked_max_bytes)
        for sock in socket.socketpair()
    ]
    ends = End.of(channels[0]), End.of(channels[1])
    yield ends
    for channel, end in zip(channels, ends, strict=True):
        channel.abort()
        await end.until(lambda end=end: end.closed)


@asynccontextmanager
async def websocket_pair(config: TransportConfig) -> AsyncIterator[tuple[End, End]]:
    near, far = Sessions(), Sessions()
    async with (
        listening(far, config) as listener,
        dialing(make_dialer(listener.port, near, config)),
    ):
        yield await near.end(), await far.end()


PAIRS = {
    "memory": memory_pair,
    "memory through the codec": codec_pair,
    "pipe": pipe_pair,
    "websocket": websocket_pair,
}
