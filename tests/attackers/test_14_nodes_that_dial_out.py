"""Attackers 14: around nodes that dial out. A stranger before a Commander's door, a fake door, one
in between, somebody with another token."""

from __future__ import annotations

import asyncio

import pytest

from goliath import Commander
from goliath.errors import AuthenticationError, ProtocolError
from goliath.transport.handshake import ClientHandshake, ServerHandshake
from goliath.transport.keys import Keyring, joined_binding, plain_binding
from goliath.transport.lobby import ANSWER, JOIN, RELAY
from goliath.transport.proof import call_on
from goliath.transport.serialization import own_versions
from goliath.transport.token import Token
from tests.attackers.test_05_a_fake_lieutenant import CHALLENGE, WELCOMES, fake
from tests.transport.ends import TOKEN, Sessions, dialing
from tests.transport.proxy import proxying
from tests.transport.test_door import speak, status_of
from tests.transport.test_joining import (
    CLOCK,
    FAST,
    HASTY,
    KID,
    OTHER,
    commander,
    hosting,
    joining,
    relayed,
    way,
)


async def test_a_stranger_before_a_commanders_door_is_told_nothing():
    with Commander(listen="127.0.0.1:0", workers=1) as cmdr:
        await asyncio.to_thread(cmdr.connect)
        assert cmdr.listening is not None
        port = cmdr.listening[1]
        assert await speak(port, b"{}") == (4401, "authentication failed")
        assert await status_of(port, "/") == 404
        assert await status_of(port, Origin="http://localhost") == 403
        for wish in ((JOIN, "x"), (ANSWER, "x"), (RELAY, "x")):
            async with way(port, Token.make()) as road:
                with pytest.raises(AuthenticationError, match="refused the token"):
                    await call_on(road, road.token, wish, "0" * 16, FAST, CLOCK)
        assert len(await asyncio.to_thread(cmdr.nodes)) == 1


@pytest.mark.parametrize("welcome", WELCOMES.values(), ids=list(WELCOMES))
async def test_a_fake_door_is_not_joined(welcome: bytes):
    async with fake(CHALLENGE, welcome) as (port, heard), joining(way(port)) as node:
        assert node.ended is not None
        done, _ = await asyncio.wait({node.ended}, timeout=1.0)
        errors = [task.result() for task in done] or node.troubles
        assert errors
        assert isinstance(errors[0], AuthenticationError | ProtocolError)
        assert node.joined == 0
        assert node.sessions.ends == []
        assert TOKEN.secret not in b"".join(heard)


async def test_one_in_between_on_another_port_gets_no_node():
    async with hosting() as host, proxying(host.port) as relay, joining(way(relay.port)) as node:
        assert node.ended is not None
        error = await asyncio.wait_for(asyncio.shield(node.ended), 10)
        assert isinstance(error, AuthenticationError)
        assert host.lists == []


async def test_with_another_token_the_random_name_of_a_node_is_of_no_use():
    near = Sessions()
    async with hosting(HASTY, tokens=(TOKEN, OTHER)) as host, joining(way(host.port)) as far:
        node = await host.node()
        async with dialing(commander(relayed(host.port, node, OTHER), near)):
            assert str(await near.trouble()) == (
                f"lab/1 cannot be reached through 127.0.0.1:{host.port}: it has not joined, or has "
                "left"
            )
        assert far.sessions.ends == []
        # Nor can he take its place: for his own token only.
        async with way(host.port, OTHER) as road:
            line = await call_on(road, road.token, (JOIN, "lab"), node.id, FAST, CLOCK)
            await host.until(lambda: host.lists[-1][0].kid != KID)
            assert (far.joined, far.troubles) == (1, [])
            await line.close(1000)


@pytest.mark.parametrize(
    "binding", [joined_binding("0" * 16), plain_binding(8080, loopback=True)], ids=str
)
def test_a_login_for_another_node_or_for_the_door_is_none_for_this_one(binding: str):
    versions = own_versions()
    near = ClientHandshake(TOKEN, binding, nonce=bytes(32), client_id="c", versions=versions)
    keyring, mine = Keyring([TOKEN], Token.make()), joined_binding("1" * 16)
    far = ServerHandshake(keyring, (mine,), nonce=bytes(32), versions=versions)
    proof = near.prove(far.challenge(near.hello()))
    with pytest.raises(AuthenticationError):
        far.verify(proof)
