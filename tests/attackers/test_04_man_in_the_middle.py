"""Attacker 4: a man in the middle, who relays what both sides say, and then takes over."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

import pytest

from goliath.errors import AuthenticationError, ConnectionError as NoLieutenant
from goliath.transport.address import Address
from goliath.transport.credentials import Credentials
from goliath.transport.tls import ServerTls, client_tls
from tests.transport.ends import TLS, Sessions, dialing, listening, make_dialer
from tests.transport.gateways import Authority, ending_tls
from tests.transport.proxy import proxying
from tests.transport.test_door import QUICK, over_tls, trouble_of


def own(folder: Path) -> ServerTls:
    return Authority(folder).sign("relay.example.test")


async def test_a_relay_with_a_certificate_of_its_own_is_refused_by_both_sides(tmp_path: Path):
    near, far = Sessions(), Sessions()
    onwards = client_tls(verify=False)
    async with (
        listening(far, QUICK, tls=TLS) as listener,
        ending_tls(listener.port, own(tmp_path), onwards=onwards) as relay,
    ):
        error = await trouble_of(over_tls(relay.port, near), near)
        assert isinstance(error, AuthenticationError)
        assert b'"challenge"' in relay.passed, "the login went through the relay"
        assert near.ends == far.ends == []


async def test_a_relay_that_passes_tls_on_untouched_reads_and_changes_nothing():
    """It is a router then; the proof that it must not be more is that nothing of it is legible."""
    near, far = Sessions(), Sessions()
    async with listening(far, QUICK, tls=TLS) as listener, proxying(listener.port) as router:
        async with dialing(over_tls(router.port, near)):
            await near.end()
        assert near.peers[0].certificate
        assert far.peers[0].session_id == near.peers[0].session_id


async def test_a_relay_cannot_make_a_client_speak_plaintext_off_loopback():
    """What it would have to change is the address, which says ``wss`` for another machine."""
    assert Credentials().scheme_for(Address("192.0.2.1", 8080)) == "wss"
    near = Sessions()
    async with listening(Sessions(), QUICK) as plaintext:
        error = await trouble_of(over_tls(plaintext.port, near), near)
        assert isinstance(error, NoLieutenant)
        assert near.ends == []


@pytest.mark.parametrize("side", ["server", "client"])
async def test_an_older_tls_is_refused_by_both_sides(side: str):
    near, far = Sessions(), Sessions()
    if side == "server":
        old = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        old.load_cert_chain(TLS.cert_file, TLS.key_file)
        old.maximum_version = ssl.TLSVersion.TLSv1_2
        async with listening(far, QUICK) as listener, ending_tls(listener.port, old) as relay:
            error = await trouble_of(over_tls(relay.port, near), near)
            assert isinstance(error, NoLieutenant)
            assert relay.asked == []
        return
    context = client_tls(verify=False)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    async with listening(far, QUICK, tls=TLS) as listener:
        with pytest.raises((ssl.SSLError, ConnectionResetError)):
            await asyncio.open_connection("127.0.0.1", listener.port, ssl=context)
    assert far.ends == []


async def test_a_relay_of_plaintext_from_another_port_is_refused():
    near, far = Sessions(), Sessions()
    async with listening(far, QUICK) as listener, proxying(listener.port) as relay:
        error = await trouble_of(make_dialer(relay.port, near, QUICK), near)
        assert isinstance(error, AuthenticationError)
        assert near.ends == far.ends == []
