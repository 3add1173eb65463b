"""Saved logins: found by their address, private, and the certificates in them are believed."""

from __future__ import annotations

from pathlib import Path

import pytest

from goliath.errors import AuthenticationError
from goliath.transport.address import Address
from goliath.transport.certificate import own_certificate
from goliath.transport.credentials import Credentials, RuntimeFile
from goliath.transport.logins import Login, SavedLogins
from goliath.transport.tls import ServerTls
from goliath.transport.token import Token
from tests.transport.ends import TLS, TOKEN, Sessions, dialing, listening
from tests.transport.test_door import over_tls, trouble_of

OTHER = Token(bytes(range(1, 33)))
LAB = Address("Lab.example.org", 8080)


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    return {"XDG_STATE_HOME": str(tmp_path / "state"), "XDG_RUNTIME_DIR": str(tmp_path / "run")}


def test_a_login_is_found_by_its_address_and_path(environ: dict[str, str]):
    logins = SavedLogins(environ=environ)
    prefixed = Address("lab.example.org", 8080, "wss", "/one")
    assert logins.find(LAB) is None
    logins.save(LAB, Login(TOKEN, "sha256:ab"))
    logins.save(prefixed, Login(OTHER))
    assert logins.path.stat().st_mode & 0o777 == 0o600
    assert logins.find(Address("lab.example.org", 8080, "wss")) == Login(TOKEN, "sha256:ab")
    assert logins.find(prefixed) == Login(OTHER)
    assert Credentials(environ=environ).token_for(prefixed) == OTHER
    assert Credentials(environ=environ).pin_for(LAB) == "sha256:ab"
    assert [logins.remove(LAB), logins.remove(LAB), logins.find(LAB)] == [True, False, None]


def test_a_file_of_logins_that_is_open_or_spoilt_is_refused(environ: dict[str, str]):
    logins = SavedLogins(environ=environ)
    logins.save(LAB, Login(TOKEN))
    logins.path.chmod(0o604)
    with pytest.raises(AuthenticationError, match="chmod 600"):
        logins.find(LAB)
    logins.path.chmod(0o600)
    for text in ("{", "[]", '{"lab.example.org:8080": 5}'):
        logins.path.write_text(text)
        with pytest.raises(AuthenticationError, match="delete it, and log in again"):
            logins.find(LAB)


def test_what_a_running_lieutenant_has_left_goes_before_a_login(environ: dict[str, str]):
    here = Address("127.0.0.1", 8080)
    SavedLogins(environ=environ).save(here, Login(OTHER))
    assert Credentials(environ=environ).token_for(here) == OTHER
    RuntimeFile(8080, environ=environ).write(TOKEN, scheme="ws", host="127.0.0.1", port=8080)
    assert Credentials(environ=environ).token_for(here) == TOKEN


def test_a_login_tells_nothing():
    assert TOKEN.reveal() not in repr(Login(TOKEN, "sha256:ab"))


async def test_another_certificate_than_the_pinned_one_is_refused_before_any_proof(
    environ: dict[str, str],
):
    """Even of somebody who has the token: it may have been stolen."""
    near, far = Sessions(), Sessions()
    path = own_certificate(environ)
    logins = SavedLogins(environ=environ)
    async with listening(far, tls=TLS) as listener:
        address = Address("127.0.0.1", listener.port)
        first = over_tls(listener.port, near)
        async with dialing(first):
            await near.end()
        logins.save(address, Login(TOKEN, near.peers[0].certificate))
        again = Sessions()
        credentials = Credentials(environ=environ)
        async with dialing(over_tls(listener.port, again, credentials=credentials)):
            await again.end()
        assert near.peers[0].certificate == again.peers[0].certificate != ""
    changed, robbed = Sessions(), Sessions()
    async with listening(changed, tls=ServerTls(path, path)) as listener:
        address = Address("127.0.0.1", listener.port)
        logins.save(address, Login(TOKEN, near.peers[0].certificate))
        error = await trouble_of(
            over_tls(listener.port, robbed, credentials=Credentials(environ=environ)), robbed
        )
        assert isinstance(error, AuthenticationError)
        assert f"goliath logout 127.0.0.1:{listener.port}" in str(error)
        assert near.peers[0].certificate in str(error)
        assert changed.ends == robbed.ends == []
