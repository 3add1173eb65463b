"""What ``goliath doctor`` finds on the way to a Lieutenant: a test for each thing that can be
wrong, with real sockets."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from goliath.core.diagnosis import Check, Diagnosis, Grade
from goliath.examination import examine
from goliath.transport.address import Address
from goliath.transport.credentials import Credentials, Token
from goliath.transport.keys import fingerprint_of, tls_binding
from goliath.transport.logins import Login, SavedLogins
from goliath.transport.validity import valid_until
from goliath.transport.versions import Versions
from tests.transport.ends import TLS, TOKEN, End, Sessions, listening
from tests.transport.gateways import Authority, connecting
from tests.transport.test_door import QUICK as QUICKER

pytestmark = pytest.mark.slow

QUICK = replace(QUICKER, handshake_max_s=5.0)  # a step may take its time on a busy machine

OURS = Credentials(token=TOKEN)
TIMEOUT_S = 20.0  # of a step that is taken, on a machine that is busy with other things
SHORT_S = 0.4  # of one that leads nowhere
PATIENT = replace(QUICK, handshake_max_s=TIMEOUT_S)


@pytest.fixture(autouse=True)
def no_login_is_kept(private_home: Path) -> Iterator[None]:
    yield
    (private_home / "home/.local/state/goliath/logins.json").unlink(missing_ok=True)


async def examined(
    port: int, credentials: Credentials = OURS, host: str = "127.0.0.1", **options: Any
) -> Diagnosis:
    address = options.pop("address", None) or Address(host, port, options.pop("scheme", "ws"))
    return await asyncio.to_thread(
        examine, address, credentials, **{"timeout_s": TIMEOUT_S, **options}
    )


def failure(found: Diagnosis) -> Check:
    """The last check, the only one that failed."""
    assert [check for check in found.checks if check.grade is Grade.FAILURE] == found.checks[-1:]
    assert found.checks[-1].advice
    assert not found.usable
    return found.checks[-1]


def names(found: Diagnosis) -> list[str]:
    return [check.name for check in found.checks]


class Leaving(Sessions):
    """Ends each session at the first question."""

    def on_session(self, channel: Any, peer: Any) -> None:
        self.ends.append(End.of(channel))
        self.ends[-1].on_each = lambda _: channel.close()


@asynccontextmanager
async def answering(said: bytes, **options: Any) -> AsyncIterator[int]:
    """The port of a program that says this to whoever says something, and hangs up."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(4096)
        writer.write(said)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, **options)
    async with server:
        yield server.sockets[0].getsockname()[1]
    await asyncio.sleep(0.01)  # closed transports tell so a turn later


# -- the way there ---------------------------------------------------------------------------


async def test_a_name_that_does_not_resolve():
    found = await examined(1, host="no-such-host.invalid")
    assert names(found) == ["name"]
    assert "'no-such-host.invalid' does not resolve" in failure(found).said


async def test_a_port_at_which_nobody_listens(free_port: int):
    found = await examined(free_port)
    assert names(found) == ["name", "connect"]
    check = failure(found)
    assert check.said == "127.0.0.1: Connection refused"
    assert "goliath lieutenant" in check.advice
    assert found.verdict() == (
        f"127.0.0.1:{free_port} cannot be used: 127.0.0.1: Connection refused"
    )


async def test_a_machine_that_swallows_what_is_sent():
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        port = full.getsockname()[1]
        # There is room for one that waits to be accepted; those after it get no answer at all.
        waiting = [socket.socket() for _ in range(3)]
        try:
            for sock in waiting:
                sock.setblocking(False)
                sock.connect_ex(("127.0.0.1", port))
            found = await examined(port, timeout_s=SHORT_S)
        finally:
            for sock in waiting:
                sock.close()
    check = failure(found)
    assert (check.name, check.said) == ("connect", "127.0.0.1: no answer within 0.4 s")
    assert "firewall" in check.advice


async def test_the_address_that_answers_is_used_though_another_one_does_not(
    monkeypatch: pytest.MonkeyPatch,
):
    def both(host: str, port: int, *_: Any, **__: Any) -> list[Any]:
        return [
            (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("::1", port, 0, 0)),
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port)),
        ]

    async with answering(b"") as port:
        with monkeypatch.context() as patched:
            patched.setattr("goliath.transport.probing.socket.getaddrinfo", both)
            found = await examined(port)
    grades = [(check.name, check.grade) for check in found.checks[:3]]
    assert grades == [("name", Grade.OK), ("connect", Grade.WARNING), ("connect", Grade.OK)]


# -- TLS -------------------------------------------------------------------------------------


async def test_a_program_that_speaks_no_tls():
    async with answering(b"SSH-2.0-OpenSSH_9.9\r\n") as port:
        found = await examined(port, scheme="wss")
    check = failure(found)
    assert check.name == "tls"
    assert "it does not speak TLS 1.3" in check.said
    assert "--insecure-plaintext" in check.advice


async def test_a_program_that_takes_the_connection_and_does_not_answer_to_tls():
    async def ignore(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async with await asyncio.start_server(ignore, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        found = await examined(port, scheme="wss", timeout_s=SHORT_S)
        await asyncio.sleep(0.01)
    assert "does not answer to TLS" in failure(found).said


@pytest.mark.parametrize("reset", [True, False], ids=["by a reset", "in good order"])
async def test_a_door_that_hangs_up_before_any_tls(reset: bool):
    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not reset:  # with something unread the kernel resets it
            await reader.read(4096)
        writer.close()

    async with await asyncio.start_server(hang_up, "127.0.0.1", 0) as server:
        found = await examined(server.sockets[0].getsockname()[1], scheme="wss")
        await asyncio.sleep(0.01)
    assert failure(found).said == "it hung up before any TLS 1.3 was spoken"
    assert "too many are at its door" in failure(found).advice


async def test_an_older_tls():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(TLS.cert_file, TLS.key_file)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    async with answering(b"", ssl=context) as port:
        found = await examined(port, scheme="wss")
    assert "TLS 1.3" in failure(found).said


async def test_a_certificate_that_no_authority_vouches_for_where_one_has_to():
    async with listening(Sessions(), PATIENT, tls=TLS) as listener:
        found = await examined(listener.port, scheme="wss", tls="ca")
    check = failure(found)
    assert "its certificate is not trusted" in check.said
    assert "SSL_CERT_FILE" in check.advice
    assert "leave --tls ca out" in check.advice


async def test_a_certificate_of_an_authority_that_ends_soon(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    authority = Authority(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
    async with listening(Sessions(), PATIENT, tls=authority.sign("localhost")) as listener:
        found = await examined(listener.port, host="localhost", scheme="wss", tls="ca")
    check = next(check for check in found.checks if check.name == "tls")
    assert check.grade is Grade.WARNING
    assert "for 1 more days" in check.said
    assert check.value["days_left"] == pytest.approx(1.0, abs=0.1)


@pytest.mark.parametrize("changed", [False, True], ids=["the same", "another one"])
async def test_a_certificate_is_compared_with_that_of_the_login(changed: bool, tmp_path: Path):
    shown = fingerprint_of(tls_binding(TLS.certificate()))
    pinned = "sha256:" + "0" * 64 if changed else shown
    async with listening(Leaving(), PATIENT, tls=TLS) as listener:
        address = Address("127.0.0.1", listener.port, "wss")
        SavedLogins().save(address, Login(TOKEN, pinned))
        found = await examined(0, address=address)
    if changed:
        check = failure(found)
        assert names(found) == ["name", "connect", "tls"]
        assert check.said == f"it shows {shown}, and at `goliath login` it was {pinned}"
        assert "another machine may be listening" in check.advice
    else:
        check = next(check for check in found.checks if check.name == "tls")
        assert check.said.endswith("as at the login")
        assert "token" in names(found)


def test_the_last_day_of_a_certificate_is_read_as_others_read_it(tmp_path: Path):
    from cryptography import x509

    made = Authority(tmp_path).sign("localhost")
    for tls in (TLS, made):
        der = tls.certificate()
        assert valid_until(der) == x509.load_der_x509_certificate(der).not_valid_after_utc
        for nonsense in (b"", der[:40], b"\x30\x82", bytes(100), der[4:]):
            with pytest.raises(ValueError):  # noqa: PT011 - of whatever text
                valid_until(nonsense)


async def test_a_proxy_on_the_way_is_named_and_asked(monkeypatch: pytest.MonkeyPatch):
    async with (
        listening(Leaving(), PATIENT, tls=TLS) as listener,
        connecting(listener.port) as proxy,
    ):
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy.port}")
        found = await examined(8080, host="lab.example.test", scheme="wss")
    assert names(found)[:5] == ["name", "connect", "proxy", "tls", "websocket"]
    assert proxy.asked[0] == "CONNECT lab.example.test:8080 HTTP/1.1"


async def test_a_proxy_that_refuses(monkeypatch: pytest.MonkeyPatch):
    async with connecting(1, refuse=True) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy.port}")
        found = await examined(8080, host="lab.example.test", scheme="wss")
    check = failure(found)
    assert check.name == "proxy"
    assert "it answered 'HTTP/1.1 403 Forbidden' to CONNECT lab.example.test:8080" in check.said
    assert "NO_PROXY" in check.advice


# -- who is there ----------------------------------------------------------------------------


async def test_a_web_server():
    async with answering(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n") as port:
        found = await examined(port)
    check = failure(found)
    assert check.name == "websocket"
    assert "it answered HTTP 404; something else listens on that port" in check.said


async def test_a_program_that_speaks_no_http():
    async with answering(b"220 mail.example.org ESMTP\r\n") as port:
        found = await examined(port)
    assert failure(found).name == "websocket"


async def test_a_program_that_says_nothing():
    async def ignore(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async with await asyncio.start_server(ignore, "127.0.0.1", 0) as server:
        found = await examined(server.sockets[0].getsockname()[1], timeout_s=SHORT_S)
        await asyncio.sleep(0.01)
    check = failure(found)
    assert (check.name, check.said.partition(": ")[2]) == ("websocket", "no answer within 0.4 s")
    assert "its process is stopped" in check.advice


async def test_a_lieutenant_that_wants_tls():
    async with listening(Sessions(), PATIENT, tls=TLS) as listener:
        found = await examined(listener.port)
    assert f"does it want wss://127.0.0.1:{listener.port}?" in failure(found).said


# -- the token ---------------------------------------------------------------------------------


async def test_no_token():
    async with listening(Sessions(), PATIENT) as listener:
        found = await examined(listener.port, Credentials(environ={}))
    check = failure(found)
    assert names(found) == ["name", "connect", "tls", "websocket", "token"]
    assert "no token for 127.0.0.1" in check.said
    assert "goliath login" in check.advice
    assert "revoked" not in check.advice, "nobody has refused anything"


async def test_a_token_file_that_is_not_there(tmp_path: Path):
    async with listening(Sessions(), PATIENT) as listener:
        credentials = Credentials(token_file=tmp_path / "nowhere")
        found = await examined(listener.port, credentials)
    assert failure(found).said.endswith("nowhere cannot be read: No such file or directory")
    assert "revoked" not in failure(found).advice


async def test_a_wrong_token_and_then_too_many_of_them():
    config = replace(PATIENT, failures_per_minute_max=1)
    async with listening(Sessions(), config) as listener:
        wrong = Credentials(token=Token.make())
        first = await examined(listener.port, wrong)
        second = await examined(listener.port, wrong)
    assert failure(first).name == "token"
    assert "refused the token" in failure(first).said
    assert "revoked" in failure(first).advice
    assert first.verdict().endswith(f"127.0.0.1:{listener.port} refused the token")
    assert failure(second).name == "token"
    assert "too many logins from this network address" in failure(second).said
    assert "wait, and then" in failure(second).advice


async def test_a_lieutenant_that_has_no_descriptor_left():
    busy = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n"
    async with answering(busy) as port:
        check = failure(await examined(port))
    assert check.name == "websocket"
    assert "is busy, and takes no connections" in check.said
    assert "try again later" in check.advice


async def test_a_lieutenant_that_drains():
    async with listening(Sessions(), PATIENT) as listener:
        await listener.stop_accepting()
        found = await examined(listener.port)
    check = failure(found)
    assert check.name == "login"
    assert "it is draining" in check.said


# -- the other end -------------------------------------------------------------------------------


async def test_another_minor_version_of_python():
    async with listening(Sessions(), PATIENT, versions=Versions("3.99", "3.1")) as listener:
        found = await examined(listener.port)
    check = failure(found)
    assert check.name == "versions"
    assert "the Lieutenant runs Python 3.99" in check.said


@pytest.mark.parametrize("name", ["SESSION_VERSION", "HANDSHAKE_VERSION"])
async def test_another_version_of_a_protocol(name: str, monkeypatch: pytest.MonkeyPatch):
    from goliath.transport import handshake

    class Another(handshake.ServerHandshake):
        """Of a release to come."""

        def challenge(self, hello: bytes) -> bytes:
            said = super().challenge(hello)
            for key in (b'"v":1', b'"proto":1'):
                said = said.replace(key, key[:-1] + b"9") if name[0] == "H" else said
            self._th = handshake.transcript(hello, said, self.binding)
            return said

        def _sealed(self, **body: Any) -> bytes:
            with monkeypatch.context() as patched:
                patched.setattr(handshake, "SESSION_VERSION", 9)
                return super()._sealed(**body)

    monkeypatch.setattr("goliath.transport.porter.ServerHandshake", Another)
    async with listening(Sessions(), PATIENT) as listener:
        found = await examined(listener.port)
    check = failure(found)
    assert check.name == "versions"
    assert "install the same release of Goliath at both ends" in check.said


async def test_a_lieutenant_that_does_not_know_the_questions():
    async with listening(Sessions(), PATIENT) as listener:
        found = await examined(listener.port, timeout_s=2.0)
    check = failure(found)
    assert names(found) == ["name", "connect", "tls", "websocket", "token", "session"]
    assert check.said == "no answer within 2 s"
    assert found.limits[0]["name"] == "session_kill_s"


async def test_a_lieutenant_that_ends_the_session():
    async with listening(Leaving(), PATIENT) as listener:
        found = await examined(listener.port)
    check = failure(found)
    assert check.name == "session"
    assert "has ended the session" in check.said


async def test_encryption_that_is_missing_where_others_can_read_is_a_warning(
    monkeypatch: pytest.MonkeyPatch,
):
    def loopback(host: str, port: int, *_: Any, **__: Any) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

    async with answering(b"") as port:
        with monkeypatch.context() as patched:
            patched.setattr("goliath.transport.probing.socket.getaddrinfo", loopback)
            found = await examined(port, host="lab.example.test")
    check = next(check for check in found.checks if check.name == "tls")
    assert check.grade is Grade.WARNING
    assert "whoever is on the way can read" in check.said
