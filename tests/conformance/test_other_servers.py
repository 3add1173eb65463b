"""Our dialer, and servers that are made of other websocket libraries."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from goliath.config import TransportConfig
from goliath.errors import AuthenticationError
from goliath.transport.websocket import message_limit
from tests.conformance.peers import (
    SERVERS,
    SIZES,
    ClosedError,
    Conversation,
    Lieutenant,
    Peer,
    Serving,
)
from tests.transport.ends import (
    WHY_NONSENSE,
    Sessions,
    assign,
    bulk,
    control,
    dialing,
    make_dialer,
    nonsense,
)
from tests.transport.test_door import QUICK


@pytest.fixture(params=list(SERVERS))
def serving(request: pytest.FixtureRequest) -> Serving:
    return SERVERS[request.param]


@dataclass(eq=False)
class Desk:
    """What the test and the handlers of a server share: the conversations, one a connection."""

    lieutenant: Lieutenant = field(default_factory=Lieutenant)
    port: int = 0
    begun: asyncio.Queue[Conversation] = field(default_factory=asyncio.Queue)
    over: asyncio.Event = field(default_factory=asyncio.Event)

    async def talk(self, peer: Peer) -> None:
        """Let it in, and leave the rest to the test, until that is over."""
        try:
            self.begun.put_nowait(await self.lieutenant.let_in(peer, self.port))
            await self.over.wait()
        except ClosedError:
            pass

    async def next(self) -> Conversation:
        """The next conversation that has begun."""
        async with asyncio.timeout(5):
            return await self.begun.get()


@asynccontextmanager
async def at_a_desk(serving: Serving) -> AsyncIterator[tuple[Desk, Sessions]]:
    """A server with a desk, and our dialer, which calls it."""
    desk, near = Desk(), Sessions()
    async with serving(desk.talk) as desk.port:
        try:
            async with dialing(make_dialer(desk.port, near, QUICK)):
                yield desk, near
                desk.over.set()
        finally:
            desk.over.set()


async def test_messages_of_all_sizes_pass_both_ways(serving: Serving):
    async with at_a_desk(serving) as (desk, near):
        far, here = await desk.next(), await near.end()
        sent = [bulk(n, bytes([n]) * size) for n, size in enumerate(SIZES)]
        for message in (*sent, assign(99)):
            here.send(message)
        assert await far.hear_all(len(sent) + 1) == [*sent, assign(99)]
        await far.say(*sent)
        assert await here.received(len(sent)) == sent


async def test_a_message_may_come_in_fragments(serving: Serving):
    async with at_a_desk(serving) as (desk, near):
        far, here = await desk.next(), await near.end()
        await far.say_in_fragments(bulk(1, bytes(1000)))
        assert await here.received(1) == [bulk(1, bytes(1000))]


@pytest.mark.parametrize("data", [b"", b"a", bytes(range(125))])
async def test_a_ping_is_answered_with_what_is_in_it(serving: Serving, data: bytes):
    async with at_a_desk(serving) as (desk, _):
        far = await desk.next()
        async with asyncio.timeout(5):
            assert await far.peer.ping(data) == data


async def test_compression_is_not_asked_for(serving: Serving):
    async with at_a_desk(serving) as (desk, _):
        assert not (await desk.next()).peer.compressed


async def test_the_dialer_says_goodbye_and_closes_in_good_order(serving: Serving):
    desk, near = Desk(), Sessions()
    async with serving(desk.talk) as desk.port:
        dialer = make_dialer(desk.port, near, QUICK)
        async with dialing(dialer):
            far = await desk.next()
            await near.end()
            closing = asyncio.get_running_loop().create_task(dialer.close())
            assert b'"t":"bye"' in await far.peer.receive()
            await far.peer.close(1000)
            await closing
        desk.over.set()


@pytest.mark.parametrize("code", [1000, 1001, 1011, 3000, 4409])
async def test_the_dialer_comes_back_to_a_server_that_has_closed(serving: Serving, code: int):
    async with at_a_desk(serving) as (desk, near):
        far, here = await desk.next(), await near.end()
        await far.peer.close(code)
        here.send(bulk(1))
        far = await desk.next()
        assert far.resumed
        assert await far.hear() == bulk(1)
        assert len(near.ends) == 1


async def closes_with(
    serving: Serving, break_a_rule: Callable[[Conversation], Awaitable[None]]
) -> tuple[int | None, str]:
    """How the dialer closes when the server has broken a rule; it must come back then."""
    async with at_a_desk(serving) as (desk, near):
        far, here = await desk.next(), await near.end()
        await break_a_rule(far)
        closed = await far.closed()
        far = await desk.next()
        here.send(control(1))
        if far.resumed:
            assert await far.hear() == control(1)
        return closed


async def test_text_is_answered_by_4409(serving: Serving):
    code, reason = await closes_with(serving, lambda far: far.peer.send_text("hello"))
    assert code == 4409
    assert "a text message came" in reason


async def test_a_message_that_is_too_big_is_answered_by_1009(serving: Serving):
    size = message_limit(TransportConfig()) + 1
    code, _ = await closes_with(serving, lambda far: far.peer.send(bytes(size)))
    assert code == 1009


async def test_nonsense_is_answered_by_4400_in_words(serving: Serving):
    closed = await closes_with(serving, lambda far: far.say(nonsense()))
    assert closed == (4400, WHY_NONSENSE)


async def test_4401_at_the_login_is_a_refusal_of_the_token(serving: Serving):
    async def refuse(peer: Peer) -> None:
        await peer.receive()
        await peer.close(4401)

    near = Sessions()
    async with serving(refuse) as port, dialing(make_dialer(port, near, QUICK)):
        assert isinstance(await near.trouble(), AuthenticationError)
    assert near.ends == []
