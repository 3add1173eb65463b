"""Attacker 7: one bad Lieutenant of many, which would use what it is told on the others."""

from __future__ import annotations

from goliath.errors import AuthenticationError
from goliath.transport.address import Address
from goliath.transport.credentials import Credentials
from goliath.transport.token import Token
from tests.attackers.test_05_a_fake_lieutenant import CHALLENGE, fake
from tests.transport.ends import TOKEN, Sessions, dialing, listening, make_dialer
from tests.transport.test_door import QUICK, trouble_of

OTHER = Token(bytes(range(1, 33)))


async def test_each_lieutenant_is_proved_its_own_token_and_hears_of_no_other():
    near, far, elsewhere = Sessions(), Sessions(), Sessions()
    async with listening(far, QUICK) as honest, fake(CHALLENGE, b"") as (bad_port, heard):
        credentials = Credentials(
            token={f"127.0.0.1:{honest.port}": TOKEN, f"127.0.0.1:{bad_port}": OTHER}
        )
        async with dialing(make_dialer(honest.port, near, QUICK, credentials=credentials)):
            await near.end()
        await trouble_of(
            make_dialer(bad_port, elsewhere, QUICK, credentials=credentials), elsewhere
        )
        for token in (TOKEN, OTHER):
            for secret in (token.reveal().encode(), token.secret, token.secret.hex().encode()):
                assert not any(secret in message for message in heard)


async def test_the_token_of_one_opens_no_other():
    near, far = Sessions(), Sessions()
    async with listening(far, QUICK) as honest:  # it knows TOKEN
        stolen = Credentials(token=OTHER)
        error = await trouble_of(make_dialer(honest.port, near, QUICK, credentials=stolen), near)
        assert isinstance(error, AuthenticationError)
        assert far.ends == []


def test_a_lieutenant_that_no_token_was_named_for_gets_that_of_no_other():
    credentials = Credentials(token={"lab1:8080": TOKEN}, environ={"XDG_STATE_HOME": "/nowhere"})
    assert credentials.token_for(Address("lab1", 8080)) == TOKEN
    for other in (Address("lab2", 8080), Address("lab1", 8081)):
        try:
            found = credentials.token_for(other)
        except AuthenticationError:
            continue
        raise AssertionError(f"{other} would be proved {found!r}")
