"""Attacker 9: anyone, before a login. What he can take of a node is little, and it comes back."""

from __future__ import annotations

import asyncio
import os
import resource
import socket
import struct
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace

import aiohttp
import pytest

from goliath.config import KIB, TransportConfig
from goliath.machine import resident_bytes
from goliath.transport.listener import Listener
from goliath.transport.serialization import own_versions
from tests.transport.ends import TLS, Sessions, control, dialing, listening, make_dialer
from tests.transport.test_door import QUICK, UPGRADE, over_tls, raw
from tests.transport.test_handshake import client

CROWD = 1_000
MIB = 1 << 20
SERVED_MAX_S = 3.0  # a stranger who says nothing has to make room after one
HOST = b"Host: localhost\r\n"
FIRST_LINE = b"GET /goliath/v1 HTTP/1.1\r\n"


@contextmanager
def many_descriptors() -> Iterator[None]:
    """Enough of them for both ends of all connections: they are in one process here."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 4 * CROWD)), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def crowd(stack: ExitStack, port: int, size: int) -> list[socket.socket]:
    """So many connections, from 200 addresses of the loopback interface."""
    found = []
    for number in range(size):
        sock = stack.enter_context(socket.socket())
        sock.bind((f"127.0.1.{1 + number % 200}", 0))
        sock.setblocking(False)
        with suppress(BlockingIOError):
            sock.connect(("127.0.0.1", port))
        found.append(sock)
    return found


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 - a listener tells nobody who comes and goes
            await asyncio.sleep(0.01)


async def talk(socks: list[socket.socket], said: bytes) -> None:
    """Have all say it, if they are still listened to."""
    for number, sock in enumerate(socks):
        with suppress(OSError):
            sock.send(said)
        if number % 20 == 0:
            await asyncio.sleep(0)


def held(listener: Listener) -> int:
    """How many strangers it has with it."""
    return len(listener._guard.strangers())


async def served(listener: Listener, *, tls: bool = False) -> float:
    """How long an honest client takes until it has a session."""
    near, loop = Sessions(), asyncio.get_running_loop()
    began = loop.time()
    port = listener.port
    async with dialing(over_tls(port, near) if tls else make_dialer(port, near, QUICK)):
        await near.end()
        return loop.time() - began


@pytest.mark.parametrize("said", [b"", UPGRADE, FIRST_LINE], ids=["idle", "no end", "a line"])
async def test_a_thousand_connections_that_say_little_keep_nobody_out(said: bytes):
    far = Sessions()
    with many_descriptors(), ExitStack() as stack:
        async with (
            listening(far, TransportConfig()) as listener,
            dialing(make_dialer(listener.port, near := Sessions(), QUICK)),
        ):
            here, there = await near.end(), await far.end()
            await talk(crowd(stack, listener.port, CROWD), said)
            assert await served(listener) < SERVED_MAX_S
            assert held(listener) <= 64
            here.send(control(1))  # and who is in does not notice
            assert await there.received(1) == [control(1)]


async def test_headers_that_come_byte_by_byte_are_not_waited_for():
    async with listening(Sessions(), QUICK) as listener:
        reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
        loop = asyncio.get_running_loop()
        began = loop.time()
        with suppress(OSError):
            while not reader.at_eof() and loop.time() - began < 10:
                writer.write(b"X")
                await writer.drain()
                with suppress(TimeoutError):
                    await asyncio.wait_for(reader.read(1), 0.05)
        assert loop.time() - began < QUICK.handshake_max_s + 1.5
        writer.close()


async def test_half_a_tls_handshake_is_counted_and_does_not_last():
    with many_descriptors(), ExitStack() as stack:
        async with listening(Sessions(), TransportConfig(), tls=TLS) as listener:
            socks = crowd(stack, listener.port, 300)
            await talk(socks, b"\x16\x03\x01\x02\x00\x01\x00")
            assert await served(listener, tls=True) < SERVED_MAX_S
            assert 0 < held(listener) <= 64
        # And when time is up nobody is left, without anybody's help.
        async with listening(Sessions(), QUICK, tls=TLS) as listener:
            socks = crowd(stack, listener.port, 20)
            await talk(socks, b"\x16\x03\x01")
            await until(lambda: not held(listener))


async def test_nobody_says_more_than_a_little_whatever_it_is():
    async with listening(Sessions(), QUICK) as listener:
        before = resident_bytes(os.getpid())
        for said in (
            FIRST_LINE + b"X: " + b"a" * MIB,
            FIRST_LINE + b"".join(b"X-%d: %s\r\n" % (n, b"b" * 4000) for n in range(100)),
            UPGRADE + HOST + b"\r\n" + frame(b"c" * 100_000),
            (UPGRADE + HOST + b"\r\n") * 500,
            UPGRADE + HOST + b"\r\n" + frame(b"", opcode=9) * 10_000,
        ):
            assert len(await raw(listener.port, said)) < 4 * KIB
        assert resident_bytes(os.getpid()) - before < 8 * MIB


async def test_a_message_within_a_chunk_but_over_the_limit_is_cut_before_it_is_there():
    async with (
        listening(Sessions(), QUICK) as listener,
        aiohttp.ClientSession() as http,
        http.ws_connect(f"http://127.0.0.1:{listener.port}/goliath/v1") as websocket,
    ):
        with suppress(OSError):
            await websocket.send_bytes(bytes(QUICK.unauthenticated_max_bytes))
        assert (await websocket.receive()).type in (
            aiohttp.WSMsgType.CLOSED,
            aiohttp.WSMsgType.CLOSING,
            aiohttp.WSMsgType.ERROR,
        )
        assert websocket.close_code in (1006, None)


def frame(data: bytes, *, opcode: int = 2, compressed: bool = False) -> bytes:
    """A frame of a websocket client, masked with zeros."""
    first = 0x80 | (0x40 if compressed else 0) | opcode
    if len(data) < 126:
        head = struct.pack("!BB", first, 0x80 | len(data))
    elif len(data) < 1 << 16:
        head = struct.pack("!BBH", first, 0x80 | 126, len(data))
    else:
        head = struct.pack("!BBQ", first, 0x80 | 127, len(data))
    return head + bytes(4) + data


async def test_a_zip_bomb_is_neither_agreed_to_nor_unpacked():
    deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
    bomb = deflate.compress(bytes(8 * MIB)) + deflate.flush(zlib.Z_SYNC_FLUSH)
    offer = UPGRADE + HOST + b"Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n"
    assert len(bomb) + len(offer) < QUICK.unauthenticated_max_bytes
    async with listening(Sessions(), QUICK) as listener:
        before = resident_bytes(os.getpid())
        answer = await raw(listener.port, offer + frame(bomb[:-4], compressed=True))
        assert answer.startswith(b"HTTP/1.1 101")
        assert b"permessage-deflate" not in answer.lower()
        assert resident_bytes(os.getpid()) - before < 4 * MIB


async def test_whoever_logs_in_and_then_says_nothing_is_given_up():
    far = Sessions()
    config = replace(
        QUICK, handshake_max_s=10, ping_interval_s=0.05, silence_max_s=0.3, session_kill_s=0.6
    )
    async with (
        listening(far, config) as listener,
        aiohttp.ClientSession() as http,
        http.ws_connect(f"http://127.0.0.1:{listener.port}/goliath/v1") as websocket,
    ):
        near = client(binding=f"loopback:{listener.port}", versions=own_versions())
        await websocket.send_bytes(near.hello())
        challenge = await websocket.receive()
        await websocket.send_bytes(near.prove(challenge.data))
        there = await far.end()
        await there.until(lambda: there.closed)
        (error,) = there.closed
        assert error is not None


async def test_strangers_do_not_get_the_last_descriptors():
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    opened = [os.open(os.devnull, os.O_RDONLY)]
    config = replace(QUICK, descriptor_reserve=30)
    try:
        async with listening(Sessions(), config) as listener:
            resource.setrlimit(resource.RLIMIT_NOFILE, (400, limit[1]))
            while opened[-1] < 400 - 35:
                opened.append(os.open(os.devnull, os.O_RDONLY))
            socks = []
            with ExitStack() as stack:
                socks = crowd(stack, listener.port, 4)
                await until(lambda: held(listener) + refused(socks) >= 4)
                assert refused(socks) >= 1, "they have taken the reserve"
                os.close(os.dup(0))  # there are some left
            for fd in opened:
                os.close(fd)
            opened = []
            assert await served(listener) < SERVED_MAX_S
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limit)
        for fd in opened:
            os.close(fd)


def refused(socks: list[socket.socket]) -> int:
    """To how many the other end has hung up."""
    count = 0
    for sock in socks:
        with suppress(BlockingIOError):
            try:
                count += not sock.recv(1, socket.MSG_PEEK)
            except OSError as exc:
                if isinstance(exc, BlockingIOError):
                    raise
                count += 1
    return count


async def test_without_any_descriptor_left_the_loop_does_not_spin_and_the_next_one_is_served():
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    loop = asyncio.get_running_loop()
    async with listening(Sessions(), QUICK) as listener:
        sock = socket.socket()
        opened = [os.open(os.devnull, os.O_RDONLY)]
        resource.setrlimit(resource.RLIMIT_NOFILE, (opened[0] + 8, limit[1]))
        try:
            with suppress(OSError):
                while True:
                    opened.append(os.open(os.devnull, os.O_RDONLY))
            sock.setblocking(False)
            await loop.sock_connect(sock, ("127.0.0.1", listener.port))
            await loop.sock_sendall(sock, b"GET / HTTP/1.1\r\n\r\n")
            began, used = loop.time(), time.process_time()
            await until(lambda: loop.time() - began > 0.2)
            assert time.process_time() - used < 0.1
            assert held(listener) == 0
        finally:
            for fd in opened:
                os.close(fd)
            resource.setrlimit(resource.RLIMIT_NOFILE, limit)
        assert (await loop.sock_recv(sock, 100)).startswith(b"HTTP/1.1 503 ")
        sock.close()
        assert await served(listener) < SERVED_MAX_S


async def test_bad_logins_of_a_network_do_not_ban_anybody_else():
    async with listening(Sessions(), replace(QUICK, failures_per_minute_max=2)) as listener:
        now = listener._clock.now()
        for _ in range(2):
            listener._guard.failed("127.0.0.2", now)
        assert await served(listener) < SERVED_MAX_S
