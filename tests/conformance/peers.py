"""Websocket ends of other makes, `websockets` and `wsproto`, behind one face, and what Goliath's
ends say to each other over them."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Protocol

import websockets
from websockets.asyncio.client import connect
from websockets.asyncio.connection import Connection
from websockets.asyncio.server import ServerConnection, serve
from wsproto import ConnectionType, WSConnection, events
from wsproto.connection import ConnectionState
from wsproto.extensions import PerMessageDeflate

from goliath.config import KIB, TransportConfig
from goliath.transport.handshake import ClientHandshake, ServerHandshake, Ticket
from goliath.transport.keys import Keyring, plain_binding
from goliath.transport.message import Message
from goliath.transport.protocol import SessionOver, SessionProtocol, Side
from goliath.transport.serialization import own_versions
from goliath.transport.token import Token
from goliath.transport.websocket import PATH
from tests.transport.ends import TOKEN

PATIENCE_S = 5.0
SIZES = (0, 1, 125, 126, 65_535, 65_536, 100 * KIB, 500 * KIB)
"""Of payloads: around those at which a frame's length takes more bytes, and above a chunk."""
NOW = 0.0  # of sessions: the peers have no timers


class ClosedError(Exception):
    """The other end has closed the websocket; with its code and reason."""

    def __init__(self, code: int | None, reason: str | None) -> None:
        super().__init__(code, reason)
        self.code, self.reason = code, reason or ""


class Peer(Protocol):
    """One end of a websocket."""

    compressed: bool

    async def send(self, *pieces: bytes) -> None:
        """A binary message, in so many fragments."""

    async def send_text(self, text: str) -> None:
        """A text message."""

    async def receive(self) -> bytes:
        """The next message.

        Raises:
            ClosedError: there is none.
        """

    async def ping(self, data: bytes) -> bytes:
        """What is answered to a ping."""

    async def close(self, code: int) -> None:
        """Close it, and wait for the answer."""


# -- websockets ----------------------------------------------------------------------------


class WebsocketsPeer:
    """Over a connection of `websockets`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.compressed = bool(connection.protocol.extensions)

    async def send(self, *pieces: bytes) -> None:
        await self._connection.send(pieces[0] if len(pieces) == 1 else pieces)

    async def send_text(self, text: str) -> None:
        await self._connection.send(text)

    async def receive(self) -> bytes:
        try:
            message = await self._connection.recv()
        except websockets.ConnectionClosed:
            raise ClosedError(self._connection.close_code, self._connection.close_reason) from None
        assert isinstance(message, bytes)
        return message

    async def ping(self, data: bytes) -> bytes:
        await (await self._connection.ping(data))  # it compares the answer itself
        return data

    async def close(self, code: int) -> None:
        await self._connection.close(code)


@asynccontextmanager
async def calling_by_websockets(port: int) -> AsyncIterator[Peer]:
    """A client that would like to compress."""
    url = f"ws://127.0.0.1:{port}{PATH}"
    async with connect(url, proxy=None, compression="deflate") as connection:
        yield WebsocketsPeer(connection)


@asynccontextmanager
async def serving_by_websockets(talk: Callable[[Peer], Awaitable[None]]) -> AsyncIterator[int]:
    """A server that would compress; its port."""

    async def handle(connection: ServerConnection) -> None:
        assert connection.request is not None
        assert connection.request.path == PATH
        await talk(WebsocketsPeer(connection))

    async with serve(handle, "127.0.0.1", 0, compression="deflate") as server:
        yield next(iter(server.sockets)).getsockname()[1]


# -- wsproto -------------------------------------------------------------------------------


@dataclass(eq=False)
class WsprotoPeer:
    """Over a stream, with the bytes that `wsproto` makes."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    connection: WSConnection
    compressed: bool = False
    path: str = ""
    _events: list[events.Event] = field(default_factory=list)
    _message: bytes = b""

    def _say(self, event: events.Event) -> None:
        self.writer.write(self.connection.send(event))

    async def next(self) -> events.Event:
        """The next event but pings, which are answered."""
        while True:
            while not self._events:
                data = await self.reader.read(64 * 1024)
                self.connection.receive_data(data or None)
                self._events += self.connection.events()
            event = self._events.pop(0)
            if isinstance(event, events.Ping):
                self._say(event.response())
            else:
                return event

    async def send(self, *pieces: bytes) -> None:
        for place, piece in enumerate(pieces, 1):
            last = place == len(pieces)
            self._say(events.BytesMessage(data=piece, message_finished=last))
        await self.writer.drain()

    async def send_text(self, text: str) -> None:
        self._say(events.TextMessage(data=text))

    async def receive(self) -> bytes:
        while True:
            event = await self.next()
            if isinstance(event, events.CloseConnection):
                if event.code != CLOSE_ABNORMAL:
                    self._say(event.response())
                raise ClosedError(event.code, event.reason)
            if isinstance(event, events.BytesMessage):
                self._message += bytes(event.data)
                if event.message_finished:
                    message, self._message = self._message, b""
                    return message

    async def ping(self, data: bytes) -> bytes:
        self._say(events.Ping(payload=data))
        while not isinstance(event := await self.next(), events.Pong):
            continue
        return bytes(event.payload)

    async def close(self, code: int) -> None:
        self._say(events.CloseConnection(code=code))
        while not isinstance(await self.next(), events.CloseConnection):
            continue


CLOSE_ABNORMAL = 1006


@asynccontextmanager
async def calling_by_wsproto(port: int) -> AsyncIterator[Peer]:
    """A client that would like to compress."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    peer = WsprotoPeer(reader, writer, WSConnection(ConnectionType.CLIENT))
    offer = events.Request(host=f"127.0.0.1:{port}", target=PATH, extensions=[PerMessageDeflate()])
    try:
        writer.write(peer.connection.send(offer))
        accepted = await peer.next()
        assert isinstance(accepted, events.AcceptConnection), accepted
        peer.compressed = bool(accepted.extensions)
        yield peer
        if peer.connection.state is ConnectionState.OPEN:
            async with asyncio.timeout(PATIENCE_S):
                await peer.close(1000)
    finally:
        writer.close()
        await asyncio.sleep(0)


@asynccontextmanager
async def serving_by_wsproto(talk: Callable[[Peer], Awaitable[None]]) -> AsyncIterator[int]:
    """A server that would compress; its port."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = WsprotoPeer(reader, writer, WSConnection(ConnectionType.SERVER))
        try:
            request = await peer.next()
            assert isinstance(request, events.Request), request
            assert request.target == PATH
            answer = events.AcceptConnection(extensions=[PerMessageDeflate()])
            peer.compressed = bool(request.extensions)
            writer.write(peer.connection.send(answer))
            await talk(peer)
        finally:
            writer.close()

    async with serving_streams(handle) as port:
        yield port


@asynccontextmanager
async def serving_streams(
    handle: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
) -> AsyncIterator[int]:
    """A server of streams, all of whose handlers have ended when it has; its port."""
    busy: set[asyncio.Task[None]] = set()
    failures: list[BaseException] = []

    async def guarded(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        busy.add(task)
        try:
            await handle(reader, writer)
        except (OSError, asyncio.IncompleteReadError, ClosedError, asyncio.CancelledError):
            pass  # the other end has hung up, or the test is over
        except Exception as exc:  # noqa: BLE001 - it is raised below
            failures.append(exc)
        finally:
            writer.transport.abort()
            busy.discard(task)

    server = await asyncio.start_server(guarded, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in busy:
            task.cancel()
        await asyncio.gather(*busy)
        await asyncio.sleep(0.01)  # closed transports tell so a turn later
    assert not failures, failures


Calling = Callable[[int], AbstractAsyncContextManager[Peer]]
Serving = Callable[[Callable[[Peer], Awaitable[None]]], AbstractAsyncContextManager[int]]

CLIENTS: dict[str, Calling] = {
    "websockets": calling_by_websockets,
    "wsproto": calling_by_wsproto,
}
SERVERS: dict[str, Serving] = {
    "websockets": serving_by_websockets,
    "wsproto": serving_by_wsproto,
}


# -- what is said over them ----------------------------------------------------------------


@dataclass(eq=False)
class Conversation:
    """A session over such a peer, after its login."""

    peer: Peer
    session: SessionProtocol
    ticket: Ticket
    resumed: bool = False

    async def say(self, *messages: Message) -> None:
        """Send messages."""
        for message in messages:
            self.session.send(message)
        await self.flush()

    async def flush(self) -> None:
        """Send what there is to be sent."""
        while (frame := self.session.next_frame(NOW)) is not None:
            await self.peer.send(frame)

    async def say_in_fragments(self, message: Message) -> None:
        """Send one, in fragments of the websocket: an empty one, too."""
        self.session.send(message)
        frame = self.session.next_frame(NOW)
        assert frame is not None
        await self.peer.send(frame[:1], b"", frame[1:700], frame[700:])

    async def leave(self) -> None:
        """Say goodbye."""
        self.session.leave()
        with suppress(SessionOver):
            await self.flush()

    async def hear(self) -> Message:
        """The next message."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                message = self.session.receive_frame(await self.peer.receive(), NOW)
                if message is not None:
                    return message

    async def hear_all(self, count: int) -> Sequence[Message]:
        """So many messages."""
        return [await self.hear() for _ in range(count)]

    async def closed(self) -> tuple[int | None, str]:
        """Code and reason with which the other end closes."""
        async with asyncio.timeout(PATIENCE_S):
            try:
                while True:
                    await self.peer.receive()
            except ClosedError as end:
                return end.code, end.reason


def _linked(session: SessionProtocol, seen: int) -> SessionProtocol:
    session.link_made(seen, proved_at=NOW, now=NOW, checksum=True)
    return session


@dataclass(slots=True)
class Commander:
    """Who logs in at a port, again and again."""

    port: int
    client_id: str = field(default_factory=lambda: os.urandom(8).hex())
    last: Conversation | None = None

    async def log_in(self, peer: Peer) -> Conversation:
        """Begin a session, or go on with the last one."""
        session = self.last.session if self.last else None
        handshake = ClientHandshake(
            TOKEN,
            plain_binding(self.port, loopback=True),
            nonce=os.urandom(32),
            client_id=self.client_id,
            versions=own_versions(),
            ticket=self.last.ticket if self.last else None,
            seen=session.seen if session else 0,
        )
        await peer.send(handshake.hello())
        await peer.send(handshake.prove(await peer.receive()))
        welcome = handshake.finish(await peer.receive())
        if session is None:
            session = SessionProtocol(Side.COMMANDER, "a peer", TransportConfig(), NOW)
        else:
            session.link_lost()
        ticket = Ticket(welcome.session_id, welcome.incarnation)
        linked = _linked(session, welcome.seen)
        self.last = Conversation(peer, linked, ticket, welcome.resumed)
        await self.last.flush()
        return self.last


@dataclass(slots=True)
class Lieutenant:
    """Who lets in whoever has the token, and has one session."""

    last: Conversation | None = None
    logins: int = 0

    async def let_in(self, peer: Peer, port: int) -> Conversation:
        """Begin a session, or go on with the last one.

        Raises:
            AuthenticationError: the client did not prove itself.
        """
        keyring = Keyring([TOKEN], decoy=Token.make())
        handshake = ServerHandshake(
            keyring,
            (plain_binding(port, loopback=True),),
            nonce=os.urandom(32),
            versions=own_versions(),
        )
        await peer.send(handshake.challenge(await peer.receive()))
        caller = handshake.verify(await peer.receive())
        resumes = self.last is not None and caller.ticket == self.last.ticket
        if resumes and self.last is not None:
            session, ticket = self.last.session, self.last.ticket
            session.link_lost()
        else:
            session = SessionProtocol(Side.LIEUTENANT, "a peer", TransportConfig(), NOW)
            ticket = Ticket(os.urandom(8).hex(), 1)
        welcome = handshake.welcome(
            server_id="peer",
            incarnation=ticket.incarnation,
            session_id=ticket.session_id,
            resumed=resumes,
            seen=session.seen,
            limits={"slots": 1},
        )
        await peer.send(welcome)
        self.logins += 1
        self.last = Conversation(peer, _linked(session, caller.seen), ticket, resumes)
        await self.last.flush()
        return self.last
