"""A Lieutenant's door from outside: who is let in, who is not, and what they are told."""

from __future__ import annotations

import asyncio
import errno
import re
import socket
from contextlib import suppress
from dataclasses import replace
from typing import Any

import aiohttp
import pytest

from goliath.config import KIB, TransportConfig
from goliath.errors import (
    AuthenticationError,
    ConnectionError as NoLieutenant,
    VersionMismatchError,
)
from goliath.transport.address import Address
from goliath.transport.credentials import Credentials, Token
from goliath.transport.host import Stay
from goliath.transport.keys import Keys
from goliath.transport.listener import Listener
from goliath.transport.serialization import own_versions
from tests.transport.ends import (
    TLS,
    TOKEN,
    Sessions,
    control,
    dialing,
    listening,
    make_dialer,
    make_listener,
)
from tests.transport.proxy import proxying
from tests.transport.test_handshake import client

pytestmark = pytest.mark.slow

QUICK = TransportConfig(
    handshake_max_s=0.4, refusal_delay_s=0.02, reconnect_min_s=0.01, reconnect_max_s=0.05
)


async def trouble_of(dialer, sessions: Sessions) -> Exception:
    async with dialing(dialer):
        return await sessions.trouble()


async def test_both_ends_learn_who_the_other_is():
    near, far = Sessions(), Sessions()
    async with (
        listening(far, limits=lambda kid: {"slots": 3, "name": "lab"}) as listener,
        dialing(make_dialer(listener.port, near)),
    ):
        await near.end()
        await far.end()
        here, there = near.peers[0], far.peers[0]
        limits = {"slots": 3, "name": "lab", "session_kill_s": 60.0}
        assert here.limits == {**limits, "message_max_bytes": TransportConfig().message_max_bytes}
        assert here.session_id == there.session_id
        assert here.incarnation == there.incarnation
        assert here.server_id == there.server_id
        assert here.client_id == there.client_id
        assert here.python == there.python == own_versions().python
        assert here.address == f"127.0.0.1:{listener.port}"


async def test_a_wrong_token_is_refused_in_words_and_slowly():
    near, far = Sessions(), Sessions()
    async with listening(far) as listener:
        loop = asyncio.get_running_loop()
        began = loop.time()
        dialer = make_dialer(listener.port, near, credentials=Credentials(token=Token.make()))
        error = await trouble_of(dialer, near)
        assert loop.time() - began >= 0.25
        assert isinstance(error, AuthenticationError)
        assert str(error) == (
            f"the Lieutenant at 127.0.0.1:{listener.port} refused the token; give the one in its "
            "token file with token=, token_file= or GOLIATH_TOKEN_FILE, and if the way there is "
            "an `ssh -L` tunnel or a container's port map, use the same port number at both ends"
        )
        assert far.ends == near.ends == []


async def test_a_tunnel_that_changes_the_port_is_refused():
    near, far = Sessions(), Sessions()
    async with listening(far, QUICK) as listener, proxying(listener.port) as proxy:
        error = await trouble_of(make_dialer(proxy.port, near, QUICK), near)
        assert isinstance(error, AuthenticationError)
        assert "ssh -L" in str(error)


async def test_no_lieutenant_is_said_so_and_tried_again_until_there_is_one(free_port: int):
    near, far = Sessions(), Sessions()
    async with dialing(make_dialer(free_port, near, QUICK)):
        error = await near.trouble()
        assert isinstance(error, NoLieutenant)
        assert isinstance(error, OSError)
        assert str(error) == (
            f"no lieutenant at 127.0.0.1:{free_port}: Connection refused; is it running there?"
        )
        listener = make_listener(far, QUICK, port=free_port)
        await listener.start()
        (await near.end()).send(control(1))
        assert await (await far.end()).received(1) == [control(1)]
        await listener.close()


async def test_whoever_takes_the_connection_and_says_nothing_is_not_waited_for():
    near, gone = Sessions(), asyncio.Event()

    async def say_nothing(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await gone.wait()
        writer.close()

    async with await asyncio.start_server(say_nothing, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        config = replace(QUICK, connect_timeout_s=0.1)
        error = await trouble_of(make_dialer(port, near, config), near)
        gone.set()
    assert str(error) == f"no lieutenant at 127.0.0.1:{port}: no answer within 0.1 s"


async def test_nobody_says_more_than_the_limit_before_the_login():
    near = Sessions()
    async with listening(Sessions(), replace(QUICK, handshake_message_max_bytes=64)) as listener:
        error = await trouble_of(make_dialer(listener.port, near, QUICK), near)
    assert isinstance(error, AuthenticationError)
    async with listening(Sessions(), QUICK) as listener:
        near = Sessions()
        config = replace(QUICK, handshake_message_max_bytes=64)
        error = await trouble_of(make_dialer(listener.port, near, config), near)
    assert "bytes during the login" in str(error)


async def test_a_name_that_does_not_resolve_is_said_so(monkeypatch: pytest.MonkeyPatch):
    near = Sessions()
    address = Address("no-such-host.invalid", 1)
    error = await trouble_of(make_dialer(1, near, QUICK, address=address), near)
    assert isinstance(error, NoLieutenant)
    assert "the name 'no-such-host.invalid' does not resolve" in str(error)
    await asyncio.get_running_loop().shutdown_default_executor()


async def test_another_python_is_refused_with_both_versions():
    near, far = Sessions(), Sessions()
    old = replace(own_versions(), python="3.9")
    async with listening(far, QUICK, versions=old) as listener:
        error = await trouble_of(make_dialer(listener.port, near, QUICK), near)
        assert isinstance(error, VersionMismatchError)
        assert "Python 3.9" in str(error)
        assert own_versions().python in str(error)
        assert far.ends == []


async def test_sessions_know_which_token_was_proved():
    near, other, far = Sessions(), Sessions(), Sessions()
    another = Token(bytes(range(1, 33)))
    listener = make_listener(far, QUICK, tokens=[TOKEN, another])
    await listener.start()
    credentials = Credentials(token=another)
    async with (
        dialing(make_dialer(listener.port, near, QUICK)),
        dialing(make_dialer(listener.port, other, QUICK, credentials=credentials)),
    ):
        await near.end()
        await other.end()
        await far.end(1)
        assert {peer.kid for peer in far.peers} == {Keys.of(TOKEN).kid, Keys.of(another).kid}
    await listener.close()


async def test_a_draining_listener_takes_no_new_session_and_keeps_the_old():
    near, late, far = Sessions(), Sessions(), Sessions()
    async with (
        listening(far, QUICK) as listener,
        dialing(make_dialer(listener.port, near, QUICK)),
    ):
        here, there = await near.end(), await far.end()
        await listener.stop_accepting()
        error = await trouble_of(make_dialer(listener.port, late, QUICK), late)
        assert "takes no new session: it is draining" in str(error)
        here.send(control(1))
        assert await there.received(1) == [control(1)]


async def test_a_taken_port_is_an_os_error():
    async with listening(Sessions()) as listener:
        second = make_listener(Sessions(), QUICK, port=listener.port)
        with pytest.raises(OSError, match="in use") as refusal:
            await second.start()
        assert refusal.value.errno == errno.EADDRINUSE


async def test_a_token_that_is_revoked_while_its_holder_is_let_in_ends_his_session_at_once():
    near, far = Sessions(), Sessions()
    async with listening(far, QUICK) as listener:
        assert far.granted is not None
        admit = far.granted.admit

        async def revoked_meanwhile(*args: Any) -> Stay | None:
            await listener._accept([Token.make()])
            return await admit(*args)

        far.granted.admit = revoked_meanwhile  # type: ignore[method-assign]
        async with dialing(make_dialer(listener.port, near, QUICK)):
            here, there = await near.end(), await far.end()
            await here.until(lambda: here.closed)
            await there.until(lambda: there.closed)
            assert here.closed == there.closed == [None], "with a goodbye: nothing is waited for"
            assert isinstance(await near.trouble(), AuthenticationError)
        assert len(far.ends) == 1


# -- TLS -------------------------------------------------------------------------------


def over_tls(port: int, sessions: Sessions, **options: object):
    address = Address("127.0.0.1", port, "wss")
    return make_dialer(port, sessions, QUICK, address=address, **options)


async def test_a_self_signed_certificate_needs_no_authority():
    near, far = Sessions(), Sessions()
    async with (
        listening(far, tls=TLS) as listener,
        dialing(over_tls(listener.port, near)),
    ):
        (await near.end()).send(control(1))
        assert await (await far.end()).received(1) == [control(1)]


async def test_a_proof_under_another_certificate_is_refused():
    near, far = Sessions(), Sessions()
    async with listening(far, tls=TLS) as listener:
        # As the Lieutenant sees it: the client has proved itself to another certificate.
        listener._certificate = b"another"
        error = await trouble_of(over_tls(listener.port, near), near)
        assert isinstance(error, AuthenticationError)
        assert "ssh -L" not in str(error)


async def test_an_authority_that_does_not_know_the_certificate_is_listened_to():
    near = Sessions()
    async with listening(Sessions(), tls=TLS) as listener:
        error = await trouble_of(over_tls(listener.port, near, tls="ca"), near)
        assert isinstance(error, NoLieutenant)
        assert "certificate is not trusted" in str(error)


async def test_tls_to_a_plaintext_port_is_explained():
    near = Sessions()
    async with listening(Sessions()) as listener:
        error = await trouble_of(over_tls(listener.port, near), near)
        assert f"it does not speak TLS; use ws://127.0.0.1:{listener.port}" in str(error)


async def test_plaintext_to_a_tls_port_is_explained():
    near = Sessions()
    async with listening(Sessions(), tls=TLS) as listener:
        error = await trouble_of(make_dialer(listener.port, near, QUICK), near)
        assert f"wss://127.0.0.1:{listener.port}" in str(error)


# -- strangers ---------------------------------------------------------------------------


async def status_of(port: int, path: str = "/goliath/v1", **headers: str) -> int:
    async with aiohttp.ClientSession() as http:
        try:
            async with http.ws_connect(f"http://127.0.0.1:{port}{path}", headers=headers):
                return 101
        except aiohttp.WSServerHandshakeError as refusal:
            return refusal.status


async def raw(port: int, data: bytes, patience_s: float = 5.0) -> bytes:
    """What comes back until the other end hangs up."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(data)
    try:
        async with asyncio.timeout(patience_s):
            with suppress(ConnectionResetError):
                return await reader.read()
            return b""
    finally:
        writer.close()


UPGRADE = (
    b"GET /goliath/v1 HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n"
)


async def test_a_prefix_may_stand_before_the_path():
    near, far = Sessions(), Sessions()
    async with listening(far, prefix="/lab/") as listener:
        assert await status_of(listener.port) == 101
        assert await status_of(listener.port, "/other/goliath/v1") == 404
        address = Address("127.0.0.1", listener.port, prefix="/lab")
        async with dialing(make_dialer(0, near, address=address)):
            await near.end()


async def test_a_plain_request_is_refused():
    async with listening(Sessions()) as listener:
        answer = await raw(listener.port, b"GET /goliath/v1 HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 426")


async def test_whoever_says_nothing_or_little_is_dropped_after_the_deadline():
    async with listening(Sessions(), QUICK) as listener, asyncio.TaskGroup() as tasks:
        for data in (b"", b"GET /goliath/v1 HTT", UPGRADE, UPGRADE + b"Host: localhost\r\n\r\n"):
            tasks.create_task(raw(listener.port, data, patience_s=3.0))


async def test_a_flood_of_strangers_does_not_keep_an_honest_client_out():
    near, far = Sessions(), Sessions()
    config = replace(QUICK, handshake_max_s=30.0)
    async with listening(far, config) as listener:
        strangers = [await asyncio.open_connection("127.0.0.1", listener.port) for _ in range(30)]
        async with dialing(make_dialer(listener.port, near, config)):
            await near.end()
        for _, writer in strangers:
            writer.close()


async def speak(port: int, *messages: bytes) -> tuple[int | None, str]:
    """Say something before the login; the code and the text it is refused with."""
    async with (
        aiohttp.ClientSession() as http,
        http.ws_connect(f"http://127.0.0.1:{port}/goliath/v1") as websocket,
    ):
        for message in messages:
            await websocket.send_bytes(message)
        while (message := await websocket.receive()).type is aiohttp.WSMsgType.BINARY:
            continue
        return websocket.close_code, str(message.extra)


@pytest.mark.parametrize(
    "messages",
    [[b"{}"], [b"x" * 1025], [b"\x00" * 10_000], [b""], [b'{"t": "hello"}', b"x"]],
    ids=["empty", "too long", "much too long", "nothing", "half"],
)
async def test_nonsense_before_the_login_is_refused_with_the_same_words(messages: list[bytes]):
    async with listening(Sessions(), QUICK) as listener:
        assert await speak(listener.port, *messages) == (4401, "authentication failed")


async def test_text_before_the_login_is_refused_too():
    async with (
        listening(Sessions(), QUICK) as listener,
        aiohttp.ClientSession() as http,
        http.ws_connect(f"http://127.0.0.1:{listener.port}/goliath/v1") as websocket,
    ):
        await websocket.send_str("hello")
        await websocket.receive()
        assert websocket.close_code == 4401


async def test_an_address_that_fails_too_often_has_to_wait():
    config = replace(QUICK, failures_per_minute_max=3)
    async with listening(Sessions(), config) as listener:
        for _ in range(3):
            await speak(listener.port, b"{}")
        assert await status_of(listener.port) == 429
        near = Sessions()
        error = await trouble_of(make_dialer(listener.port, near, QUICK), near)
        assert isinstance(error, NoLieutenant)
        assert re.search(r"it lets nobody from here in for another (5\d|60) s", str(error))
        assert "those of others who share it" in str(error)


def url_of(listener: Listener) -> str:
    return f"http://127.0.0.1:{listener.port}/goliath/v1"


@pytest.mark.parametrize("said", [[], [b"hello"]], ids=["nothing", "a hello"])
@pytest.mark.parametrize("leaves", [True, False], ids=["leaves", "falls silent"])
async def test_whoever_does_not_finish_a_login_has_guessed_nothing_and_has_nobody_banned(
    said: list[bytes], leaves: bool
):
    """An honest one with a bad line, or one who shares his address."""
    async with (
        listening(Sessions(), replace(QUICK, failures_per_minute_max=1)) as listener,
        aiohttp.ClientSession() as http,
    ):
        async with http.ws_connect(url_of(listener)) as websocket:
            for _ in said:
                await websocket.send_bytes(client(binding=f"loopback:{listener.port}").hello())
                assert b"challenge" in (await websocket.receive()).data
            while not (leaves or websocket.closed):
                await websocket.receive()
        await listener._quiet.wait()
        async with dialing(make_dialer(listener.port, near := Sessions(), QUICK)):
            await near.end()
    assert near.troubles == []


async def test_whoever_has_to_make_room_has_guessed_nothing_and_has_nobody_banned():
    config = replace(
        QUICK, handshake_max_s=30.0, failures_per_minute_max=1, unauthenticated_per_address_max=1
    )
    async with (
        listening(Sessions(), config) as listener,
        aiohttp.ClientSession() as http,
        http.ws_connect(url_of(listener)) as websocket,
        dialing(make_dialer(listener.port, near := Sessions(), QUICK)),
    ):
        await near.end()
        await websocket.receive()
        assert websocket.closed
        assert not any("lets nobody from here in" in str(trouble) for trouble in near.troubles)


async def test_sockets_send_at_once_queue_little_and_give_up_on_the_dead():
    near, far = Sessions(), Sessions()
    config = TransportConfig(tcp_user_timeout_s=7.5)
    async with (
        listening(far, config) as listener,
        dialing(make_dialer(listener.port, near, config)),
    ):
        await near.end()
        await far.end()
        for end in (near.ends[0], far.ends[0]):
            sock = end.channel._sender.link._transport.get_extra_info("socket")
            options = {
                name: sock.getsockopt(socket.IPPROTO_TCP, getattr(socket, name))
                for name in ("TCP_NODELAY", "TCP_USER_TIMEOUT", "TCP_NOTSENT_LOWAT")
            }
            assert options == {
                "TCP_NODELAY": 1,
                "TCP_USER_TIMEOUT": 7500,
                "TCP_NOTSENT_LOWAT": 256 * KIB,
            }


async def test_whoever_does_not_finish_the_tls_handshake_is_dropped_too():
    async with listening(Sessions(), QUICK, tls=TLS) as listener:
        await raw(listener.port, b"\x16\x03\x01", patience_s=3.0)
