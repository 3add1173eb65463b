"""Attacker 5: a fake Lieutenant, whose answers are pickles that would run code. None is read."""

from __future__ import annotations

import asyncio
import os
import pickle
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import orjson
import pytest
from aiohttp import web

from goliath.errors import AuthenticationError, GoliathError, ProtocolError
from goliath.transport.handshake import HANDSHAKE_VERSION
from goliath.transport.keys import Keys, seal
from goliath.transport.protocol import VERSION
from goliath.transport.token import Token
from tests.transport.ends import Sessions, dialing, listening, make_dialer
from tests.transport.test_door import QUICK, trouble_of

found: list[str] = []
watching = False


def watch(event: str, arguments: tuple[object, ...]) -> None:
    if watching and event == "pickle.find_class":
        found.append(str(arguments))


sys.addaudithook(watch)  # for as long as the process lives: there is no way to take one away


class Bomb:
    def __reduce__(self):
        return os.putenv, ("GOLIATH_BOMB", "1")


CHALLENGE = orjson.dumps(
    {"t": "challenge", "v": HANDSHAKE_VERSION, "ns": "00" * 32, "proto": VERSION}
)
BOMB = pickle.dumps(Bomb())
WELCOMES = {
    "a pickle": BOMB,
    "a pickle behind a mac": bytes(32) + BOMB,
    "a welcome under another token": seal(
        Keys.of(Token.make()).server,
        b"server",
        bytes(32),
        {"refused": "", "py": "3.11", "proto": VERSION},
    ),
    "far too much": bytes(100_000),
}


@asynccontextmanager
async def fake(*answers: bytes) -> AsyncIterator[tuple[int, list[bytes]]]:
    """A server that has no token: it answers each message with the next of these, and the last
    with everything that a session would take for results."""
    heard: list[bytes] = []

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        websocket = web.WebSocketResponse(compress=False)
        await websocket.prepare(request)
        for answer in answers:
            message = await websocket.receive()
            if not isinstance(message.data, bytes):
                break
            heard.append(message.data)
            await websocket.send_bytes(answer)
        await websocket.close()
        return websocket

    server = web.Server(handle)
    listener = await asyncio.get_running_loop().create_server(server, "127.0.0.1", 0)
    try:
        yield listener.sockets[0].getsockname()[1], heard
    finally:
        listener.close()
        await server.shutdown(1)


@pytest.fixture
def unread() -> object:
    """The pickles that this process has looked into since: none, or the test fails."""
    global watching
    found.clear()
    watching = True
    yield
    watching = False
    assert found == []


@pytest.mark.parametrize("welcome", WELCOMES.values(), ids=list(WELCOMES))
async def test_nothing_of_a_server_without_the_token_is_unpickled(unread: object, welcome: bytes):
    near = Sessions()
    async with fake(CHALLENGE, welcome) as (port, heard):
        error = await trouble_of(make_dialer(port, near, QUICK), near)
        assert isinstance(error, AuthenticationError | ProtocolError)
        assert len(heard) == 2
        assert near.ends == []


@pytest.mark.parametrize("challenge", [BOMB, b"{}", b'{"t": "welcome"}', b""])
async def test_a_challenge_that_is_none_is_a_typed_error(unread: object, challenge: bytes):
    near = Sessions()
    async with fake(challenge) as (port, heard):
        error = await trouble_of(make_dialer(port, near, QUICK), near)
        assert isinstance(error, GoliathError)
        assert len(heard) == 1, "nothing is proved to it"
        assert near.ends == []


async def test_what_a_fake_one_hears_does_not_let_it_in_elsewhere():
    """The proof is for this conversation: told to the real one, it is worth nothing."""
    near, far = Sessions(), Sessions()
    async with fake(CHALLENGE, b"") as (port, heard):
        await trouble_of(make_dialer(port, near, QUICK), near)
        hello, proof = heard[:2]
    async with listening(far, QUICK) as listener:
        from tests.transport.test_door import speak

        assert await speak(listener.port, hello, proof) == (4401, "authentication failed")
        honest = Sessions()
        async with dialing(make_dialer(listener.port, honest, QUICK)):
            await honest.end()
        assert len(far.ends) == 1
