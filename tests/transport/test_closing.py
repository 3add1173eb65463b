"""How a link is closed: with the right code, and in words that fit."""

from __future__ import annotations

import asyncio

import aiohttp
import pytest
from aiohttp import web

from goliath.errors import ProtocolError
from goliath.transport.websocket import REASON_MAX_BYTES, WebSocketLink
from tests.transport.ends import (
    WHY_NONSENSE,
    Sessions,
    control,
    dialing,
    listening,
    make_dialer,
    nonsense,
)
from tests.transport.test_door import QUICK


@pytest.mark.parametrize("reason", ["a" * 500, "ü" * 100, "🦣" * 40, "a\ud800b", ""])
async def test_a_reason_never_breaks_the_frame_that_it_is_in(reason: str):
    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        websocket = web.WebSocketResponse()
        await websocket.prepare(request)
        await WebSocketLink(websocket, request.transport, secure=False).close(4400, reason)
        return websocket

    server = web.Server(handle)
    listener = await asyncio.get_running_loop().create_server(server, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
    async with aiohttp.ClientSession() as http, http.ws_connect(url) as websocket:
        message = await websocket.receive()
        assert (message.type, message.data) == (aiohttp.WSMsgType.CLOSE, 4400)
        assert len(message.extra.encode()) <= REASON_MAX_BYTES
        assert reason.replace("\ud800", "?").startswith(message.extra)
    listener.close()
    await server.shutdown(1)


@pytest.mark.parametrize("speaker", ["the Commander", "the Lieutenant"])
async def test_nonsense_ends_the_session_of_both_and_a_new_one_begins(
    speaker: str, caplog: pytest.LogCaptureFixture
):
    near, far = Sessions(), Sessions()
    async with (
        listening(far, QUICK) as listener,
        dialing(make_dialer(listener.port, near, QUICK)),
    ):
        here, there = await near.end(), await far.end()
        speaking, hearing = (here, there) if speaker == "the Commander" else (there, here)
        speaking.send(nonsense())
        await hearing.until(lambda: hearing.closed)
        assert isinstance(hearing.closed[0], ProtocolError)
        assert str(hearing.closed[0]) == WHY_NONSENSE
        await speaking.until(lambda: speaking.closed)
        (await near.end(1)).send(control(2))
        assert await (await far.end(1)).received(1) == [control(2)]
    said = f"ended the session of 127.0.0.1: {hearing.closed[0]}"
    assert (said in caplog.text) == (speaker == "the Commander")
