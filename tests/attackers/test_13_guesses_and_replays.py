"""Attacker 13: brute force and replay. What is sent again proves nothing, and guesses are few."""

from __future__ import annotations

import asyncio
import random
from contextlib import suppress
from dataclasses import replace

import aiohttp
import orjson
import pytest

from goliath.errors import AuthenticationError, GoliathError
from goliath.transport.keys import ca_binding, plain_binding, tls_binding
from goliath.transport.token import Token
from tests.transport.ends import Sessions, listening
from tests.transport.test_door import QUICK, speak, status_of
from tests.transport.test_handshake import TLS, Change, Login, client, same, server

MUTATIONS = 10_000
REPLAYS = 10_000
RELAYS = 10_000
RECORDED = 200  # honest logins that were overheard


def test_ten_thousand_changed_logins_let_nobody_in():
    """Each of one honest login with a few bytes of one of its messages changed."""
    rng = random.Random(13)
    accepted = 0
    for number in range(MUTATIONS):
        place = number % 3

        def change(message: bytes) -> bytes:
            spoilt = bytearray(message)
            while spoilt == message:
                for _ in range(rng.choice((1, 1, 2, 8))):
                    spoilt[rng.randrange(len(spoilt))] ^= 1 << rng.randrange(8)
            return bytes(spoilt)

        changes = [lambda m: m, lambda m: m, lambda m: m]
        changes[place] = change
        login = Login(client(), server())
        with suppress(GoliathError):
            login.run(*changes)
        if login.caller is not None:
            accepted += 1
    assert accepted == 0


def fresh_login(rng: random.Random, near_at: str, far_at: str) -> Login:
    """Both ends of one, who have not said anything yet, and what each knows of the connection."""
    near = client(binding=near_at, nonce=rng.randbytes(32))
    return Login(near, server(binding=far_at, nonce=rng.randbytes(32)))


def run_to_its_end(login: Login, changes: list[Change]) -> Login:
    with suppress(GoliathError):
        login.run(*changes)
    return login


def instead(message: bytes) -> Change:
    return lambda _: message


def test_ten_thousand_replayed_messages_let_nobody_in_and_nobody_believes_them():
    """In the place of one or more messages of a login: those of others that were overheard."""
    rng = random.Random(13)
    overheard = [fresh_login(rng, TLS, TLS).run().messages for _ in range(RECORDED)]
    accepted = believed = 0
    for _ in range(REPLAYS):
        places = rng.sample(range(4), rng.choice((1, 1, 2, 3, 4)))
        source = rng.choice(overheard)
        changes = [same] * 4
        for place in places:
            # Most often all of one login, as it was.
            changes[place] = instead(rng.choice((source, source, rng.choice(overheard)))[place])
        login = run_to_its_end(fresh_login(rng, TLS, TLS), changes)
        accepted += login.caller is not None and min(places) < 3
        believed += login.said is not None
    assert (accepted, believed) == (0, 0)


def any_place(rng: random.Random) -> str:
    """What ends know of a connection, of each kind."""
    port, name = rng.randrange(1024, 65536), rng.choice(("lab", "relay", "lab.example.org"))
    return rng.choice(
        (
            tls_binding(rng.randbytes(8)),
            plain_binding(port, loopback=True),
            plain_binding(port, loopback=False),
            ca_binding(name),
        )
    )


def named_by_the_relay(there: str) -> Change:
    """It says in the hello that the client is where the server is."""
    return lambda hello: orjson.dumps({**orjson.loads(hello), "bind": there})


def test_ten_thousand_relayed_logins_let_nobody_in_and_are_believed_by_nobody():
    """The relay passes on every word, or what another client says at the same time, or lies about
    where the client is. It only cannot be in two places that are one."""
    rng = random.Random(4)
    accepted = believed = 0
    for _ in range(RELAYS):
        here, there = any_place(rng), any_place(rng)
        if here == there:
            continue
        changes = [same] * 4
        if rng.random() < 0.5:
            changes[0] = named_by_the_relay(there)
        if rng.random() < 0.3:
            another = run_to_its_end(fresh_login(rng, here, there), [])
            place = rng.randrange(len(another.messages))
            changes[place] = instead(another.messages[place])
        login = run_to_its_end(fresh_login(rng, here, there), changes)
        accepted += login.caller is not None
        believed += login.said is not None
    assert (accepted, believed) == (0, 0)


def test_the_same_logins_unchanged_and_direct_are_all_let_in():
    """Else the two tests above would prove nothing."""
    rng = random.Random(13)
    for _ in range(RECORDED):
        there = any_place(rng)
        login = run_to_its_end(fresh_login(rng, there, there), [same] * 4)
        assert login.caller is not None
        assert login.said is not None


def test_a_recorded_login_is_worth_nothing_in_any_other():
    near, far = client(), server()
    hello = near.hello()
    proof = near.prove(far.challenge(hello))
    far.verify(proof)
    for nonce in range(1_000):
        fresh = server(nonce=nonce.to_bytes(32, "big"))
        fresh.challenge(hello)
        with pytest.raises(AuthenticationError):
            fresh.verify(proof)


async def test_guesses_are_slow_and_after_ten_the_address_waits():
    config = replace(QUICK, refusal_delay_s=0.05)
    async with listening(Sessions(), config) as listener:
        loop = asyncio.get_running_loop()
        began = loop.time()
        guess = client(Token.make(), f"loopback:{listener.port}")
        for _ in range(config.failures_per_minute_max):
            answer = await speak(listener.port, guess.hello(), bytes(40))
            assert answer == (4401, "authentication failed")
        assert loop.time() - began >= config.failures_per_minute_max * config.refusal_delay_s
        assert await status_of(listener.port) == 429


async def test_a_wrong_token_and_an_unknown_one_are_told_the_same():
    async with listening(Sessions(), QUICK) as listener:
        answers = set()
        for token in (Token.make(), Token(bytes(range(32)))):
            guess = client(token, f"loopback:{listener.port}")
            async with (
                aiohttp.ClientSession() as http,
                http.ws_connect(f"http://127.0.0.1:{listener.port}/goliath/v1") as websocket,
            ):
                await websocket.send_bytes(guess.hello())
                await websocket.receive()
                await websocket.send_bytes(bytes(40))
                last = await websocket.receive()
                answers.add((websocket.close_code, last.extra))
        assert answers == {(4401, "authentication failed")}


@pytest.mark.parametrize("text", ["password", "glt1_", "glt1_" + "A" * 43, "glt1_" + "QUFB" * 10])
def test_what_could_be_guessed_is_no_token(text: str):
    with pytest.raises(AuthenticationError):
        Token.parse(text)
