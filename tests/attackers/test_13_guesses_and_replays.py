"""Attacker 13: brute force and replay. What is sent again proves nothing, and guesses are few."""

from __future__ import annotations

import asyncio
import random
from contextlib import suppress
from dataclasses import replace

import aiohttp
import pytest

from goliath.errors import AuthenticationError, GoliathError
from goliath.transport.token import Token
from tests.transport.ends import Sessions, listening
from tests.transport.test_door import QUICK, speak, status_of
from tests.transport.test_handshake import Login, client, server

MUTATIONS = 10_000


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
