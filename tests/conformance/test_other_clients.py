"""Our listener, and clients that are made of other websocket libraries."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from goliath.config import TransportConfig
from goliath.transport.websocket import message_limit
from tests.conformance.peers import CLIENTS, SIZES, Calling, Commander, Conversation
from tests.transport.ends import (
    WHY_NONSENSE,
    End,
    Sessions,
    assign,
    bulk,
    control,
    listening,
    nonsense,
)
from tests.transport.test_door import QUICK


@pytest.fixture(params=list(CLIENTS))
def calling(request: pytest.FixtureRequest) -> Calling:
    return CLIENTS[request.param]


@asynccontextmanager
async def talking(calling: Calling) -> AsyncIterator[tuple[Conversation, End]]:
    """A client that has logged in, and the other end of its session."""
    far = Sessions()
    async with listening(far, QUICK) as listener, calling(listener.port) as peer:
        yield await Commander(listener.port).log_in(peer), await far.end()


async def test_messages_of_all_sizes_pass_both_ways(calling: Calling):
    async with talking(calling) as (near, far):
        sent = [bulk(n, bytes([n]) * size) for n, size in enumerate(SIZES)]
        await near.say(*sent, assign(99))
        assert await far.received(len(sent) + 1) == [*sent, assign(99)]
        for message in sent:
            far.send(message)
        assert await near.hear_all(len(sent)) == sent


async def test_a_message_may_come_in_fragments(calling: Calling):
    async with talking(calling) as (near, far):
        await near.say_in_fragments(bulk(1, bytes(1000)))
        assert await far.received(1) == [bulk(1, bytes(1000))]


@pytest.mark.parametrize("data", [b"", b"a", bytes(range(125))])
async def test_a_ping_is_answered_with_what_is_in_it(calling: Calling, data: bytes):
    async with talking(calling) as (near, _):
        async with asyncio.timeout(5):
            assert await near.peer.ping(data) == data


async def test_compression_is_not_agreed_on(calling: Calling):
    async with talking(calling) as (near, _):
        assert not near.peer.compressed


async def test_the_goodbye_of_a_client_is_answered_by_1000(calling: Calling):
    async with talking(calling) as (near, far):
        await near.leave()
        assert await near.closed() == (1000, "")
        await far.until(lambda: far.closed)
        assert far.closed == [None]


async def test_the_listener_says_goodbye_and_closes_in_good_order(calling: Calling):
    far = Sessions()
    async with listening(far, QUICK) as listener, calling(listener.port) as peer:
        near = await Commander(listener.port).log_in(peer)
        await far.end()
        closing = asyncio.get_running_loop().create_task(listener.close())
        frame = await near.peer.receive()
        assert b'"t":"bye"' in frame
        await near.peer.close(1000)
        await closing


@pytest.mark.parametrize("code", [1000, 1001, 1011, 3000, 4999])
async def test_a_client_that_closes_without_a_goodbye_may_come_back(calling: Calling, code: int):
    far = Sessions()
    async with listening(far, QUICK) as listener:
        commander = Commander(listener.port)
        async with calling(listener.port) as peer:
            near = await commander.log_in(peer)
            await near.say(control(1))
            await (await far.end()).received(1)
            await near.peer.close(code)
        (await far.end()).send(bulk(2))  # there is no link: it waits
        async with calling(listener.port) as peer:
            near = await commander.log_in(peer)
            assert near.resumed
            assert await near.hear() == bulk(2)
        assert len(far.ends) == 1


async def test_text_is_answered_by_4409_and_the_session_goes_on(calling: Calling):
    far = Sessions()
    async with listening(far, QUICK) as listener:
        commander = Commander(listener.port)
        async with calling(listener.port) as peer:
            near = await commander.log_in(peer)
            await near.peer.send_text("hello")
            code, reason = await near.closed()
            assert code == 4409
            assert "a text message came" in reason
        async with calling(listener.port) as peer:
            near = await commander.log_in(peer)
            await near.say(control(1))
            assert await (await far.end()).received(1) == [control(1)]


async def test_a_message_that_is_too_big_is_answered_by_1009(calling: Calling):
    async with talking(calling) as (near, _):
        await near.peer.send(bytes(message_limit(TransportConfig()) + 1))
        assert (await near.closed())[0] == 1009


async def test_nonsense_is_answered_by_4400_in_words(calling: Calling):
    async with talking(calling) as (near, far):
        await near.say(nonsense())
        assert await near.closed() == (4400, WHY_NONSENSE)
        await far.until(lambda: far.closed)
