"""A certificate made from nothing: OpenSSL must be content with it."""

from __future__ import annotations

import ssl
import tempfile
from pathlib import Path

import pytest

from goliath.transport.certificate import (
    FIELD,
    GENERATOR,
    ORDER,
    Point,
    SelfSigned,
    multiply,
)
from tests.transport.ends import Sessions, control, dialing, listening
from tests.transport.test_door import over_tls


def test_multiples_of_the_generator_are_those_of_the_standard():
    assert multiply(2, GENERATOR) == Point(
        0x7CF27B188D034F7E8A52380304B51AC3C08969E277F21B35A60B48FC47669978,
        0x07775510DB8ED040293D9AC69F7430DBBA7DADE63CE982299E04B79D227873D1,
    )
    assert multiply(112233445566778899, GENERATOR) == Point(
        0x339150844EC15234807FE862A86BE77977DBFB3AE3D96F4C22795513AEAAB82F,
        0xB1C14DDFDC8EC1B2583F51E85A5EB3A155840F2034730E9B5ADA38B674336A21,
    )
    assert multiply(ORDER - 1, GENERATOR) == Point(GENERATOR.x, FIELD - GENERATOR.y)


def test_openssl_accepts_the_signature_and_no_other():
    own = SelfSigned("lab")
    client, server = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), own.context()
    client.check_hostname = False
    client.load_verify_locations(cadata=own.certificate())
    shake_hands(client, server)
    stranger = SelfSigned("lab")
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(client, stranger.context())


def shake_hands(client: ssl.SSLContext, server: ssl.SSLContext) -> None:
    """A whole TLS handshake in memory."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    near = client.wrap_bio(to_client, to_server)
    far = server.wrap_bio(to_server, to_client, server_side=True)
    for _ in range(3):
        for end in (near, far):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
    assert near.version() == "TLSv1.3"


def test_every_certificate_is_another_and_none_stays_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    one, two = SelfSigned(), SelfSigned()
    one.context()
    assert one.certificate() != two.certificate()
    assert list(tmp_path.iterdir()) == []
    assert "key" not in repr(one)


async def test_a_listener_that_has_no_certificate_of_its_own_is_reached_over_tls():
    near, far = Sessions(), Sessions()
    async with (
        listening(far, tls=SelfSigned()) as listener,
        dialing(over_tls(listener.port, near)),
    ):
        (await near.end()).send(control(1))
        assert await (await far.end()).received(1) == [control(1)]
