"""The Lieutenant's own certificate: made once, kept privately, by whatever can make one."""

from __future__ import annotations

import ssl
import sys
from pathlib import Path

import pytest

from goliath.errors import AuthenticationError
from goliath.transport.certificate import own_certificate
from goliath.transport.tls import ServerTls
from tests.transport.ends import Sessions, control, dialing, listening
from tests.transport.test_door import over_tls

MAKERS = ["the package", "the program"]


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    return {"XDG_STATE_HOME": str(tmp_path / "state")}


@pytest.fixture
def made_by(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param != "the package":
        # As if it were not installed: that is what an entry of None means to an import.
        monkeypatch.setitem(sys.modules, "cryptography", None)
    if request.param != "the program":
        monkeypatch.setenv("PATH", "")


@pytest.mark.parametrize("made_by", MAKERS, indirect=True)
def test_the_first_start_makes_one_and_the_next_ones_find_it(
    made_by: None, environ: dict[str, str]
):
    path = own_certificate(environ)
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert list(path.parent.iterdir()) == [path]
    before = path.read_bytes()
    assert own_certificate(environ) == path
    assert path.read_bytes() == before
    assert len(ServerTls(path, path).certificate()) > 100


@pytest.mark.parametrize("made_by", MAKERS, indirect=True)
def test_tls_is_content_with_it_and_with_no_other(
    made_by: None, environ: dict[str, str], tmp_path: Path
):
    path = own_certificate(environ)
    own = ServerTls(path, path)
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.load_verify_locations(cadata=own.certificate())
    shake_hands(client, own.context())
    other = own_certificate({"XDG_STATE_HOME": str(tmp_path / "other")})
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(client, ServerTls(other, other).context())


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


@pytest.mark.parametrize("made_by", ["nothing"], indirect=True)
def test_where_nothing_can_make_one_it_is_said_what_can(made_by: None, environ: dict[str, str]):
    with pytest.raises(AuthenticationError) as refusal:
        own_certificate(environ)
    for remedy in ("goliath[tls]", "openssl", "--tls-cert"):
        assert remedy in str(refusal.value)


@pytest.mark.parametrize("made_by", ["the program"], indirect=True)
def test_a_program_that_fails_is_quoted(
    made_by: None, environ: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    program = tmp_path / "openssl"
    program.write_text("#!/bin/sh\necho no entropy today >&2\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(AuthenticationError, match="no entropy today"):
        own_certificate(environ)
    assert list((tmp_path / "state" / "goliath").iterdir()) == []


def test_one_that_others_can_read_is_refused_with_the_remedy(environ: dict[str, str]):
    path = own_certificate(environ)
    path.chmod(0o644)
    with pytest.raises(AuthenticationError, match=f"run `chmod 600 {path}`"):
        own_certificate(environ)


def test_without_a_state_directory_it_is_in_the_home(tmp_path: Path):
    path = own_certificate({"HOME": str(tmp_path)})
    assert path.parent == tmp_path / ".local" / "state" / "goliath"


async def test_a_listener_with_it_is_reached_without_any_authority(environ: dict[str, str]):
    near, far = Sessions(), Sessions()
    path = own_certificate(environ)
    async with (
        listening(far, tls=ServerTls(path, path)) as listener,
        dialing(over_tls(listener.port, near)),
    ):
        (await near.end()).send(control(1))
        assert await (await far.end()).received(1) == [control(1)]
