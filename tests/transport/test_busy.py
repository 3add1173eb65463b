"""A door without descriptors: what is said to those who come, and what they make of it."""

from __future__ import annotations

import asyncio
import os
import resource
import socket
import ssl
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

from goliath.transport.busy import RETRY_AFTER_S, TLS_MAX_S, BusyError, BusySign
from goliath.transport.tls import client_tls
from tests.transport.ends import TLS, Sessions, dialing, make_dialer
from tests.transport.test_door import over_tls

pytestmark = pytest.mark.slow


def listening() -> socket.socket:
    sock = socket.create_server(("127.0.0.1", 0))
    sock.setblocking(False)
    return sock


@contextmanager
def no_descriptors(left: int = 0) -> Iterator[None]:
    """This process may open so many more, and no others."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.dup(0)  # all below it are in use
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest + left, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


class Said(asyncio.Protocol):
    """Notes what it hears, until the end."""

    def __init__(self) -> None:
        self.heard = b""
        self.ended = asyncio.get_running_loop().create_future()

    def data_received(self, data: bytes) -> None:
        self.heard += data

    def connection_lost(self, exc: Exception | None) -> None:
        self.ended.set_result(exc)


async def asking(port: int, sock: socket.socket, tls: ssl.SSLContext | None) -> Said:
    """Ask over a socket that was made before there were none any more."""
    sock.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(sock, ("127.0.0.1", port))
    name = None if tls is None else ""  # to look at one, a module would have to be loaded
    transport, said = await loop.create_connection(Said, sock=sock, ssl=tls, server_hostname=name)
    transport.write(b"GET /goliath/v1 HTTP/1.1\r\n\r\n")
    return said


BOTH = [(None, None), (TLS.context(), client_tls(verify=False))]


@pytest.mark.parametrize(("here", "there"), BOTH, ids=["plaintext", "TLS"])
async def test_whoever_comes_is_answered_and_the_reserve_is_there_again(
    here: ssl.SSLContext | None, there: ssl.SSLContext | None
):
    door, visitors = listening(), [socket.socket() for _ in range(3)]
    sign = BusySign(here)
    again = asyncio.Semaphore(0)
    with no_descriptors():
        for visitor in visitors:
            async with asyncio.TaskGroup() as tasks:
                asked = tasks.create_task(asking(door.getsockname()[1], visitor, there))
                await readable(door)
                sign.take_over(door, again.release)
            said = asked.result()
            await again.acquire()
            await said.ended
            assert said.heard.startswith(b"HTTP/1.1 503 ")
            assert sign.ready
        sign.take_over(door, again.release)  # and nobody is there
        await again.acquire()
    sign.close()
    door.close()


async def readable(door: socket.socket) -> None:
    """Until somebody waits at the door."""
    loop, event = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(door, event.set)
    await event.wait()
    loop.remove_reader(door)


@pytest.mark.parametrize(
    ("said", "most_s"),
    [
        (b"", TLS_MAX_S),
        (b"GET / HTTP/1.1\r\n\r\n", TLS_MAX_S),
        (b"\x16\x03\x01\x02\x00\x01", 1.5 * TLS_MAX_S),
        (b"\x16\x03\x01\x40\x00" + bytes(100_000), 1.5 * TLS_MAX_S),
    ],
    ids=["nothing", "no TLS", "half a hello", "a long hello"],
)
async def test_whoever_makes_nothing_of_tls_is_sent_away_before_long(said: bytes, most_s: float):
    door, visitor, again = listening(), socket.socket(), asyncio.Event()
    loop, sign = asyncio.get_running_loop(), BusySign(TLS.context())
    visitor.setblocking(False)
    await loop.sock_connect(visitor, door.getsockname())
    with suppress(BlockingIOError):
        visitor.send(said)
    began = loop.time()
    sign.take_over(door, again.set)
    await again.wait()
    assert loop.time() - began < most_s
    assert sign.ready
    sign.close()
    door.close()
    visitor.close()


async def test_where_nobody_can_be_let_in_it_is_tried_again_later():
    door, again = listening(), asyncio.Event()
    with no_descriptors():
        sign = BusySign(None)  # too late for a reserve
        sign.take_over(door, again.set)
        assert not again.is_set()
        await again.wait()
    sign.close()
    door.close()


async def test_it_can_be_taken_down_in_the_middle_of_sending_somebody_away():
    door, visitor = listening(), socket.socket()
    sign = BusySign(None)
    with no_descriptors():
        visitor.connect(door.getsockname())
        sign.take_over(door, pytest.fail)
        assert not sign.ready, "he is in, and has said nothing yet"
        sign.close()
        assert visitor.recv(1) == b""
    door.close()
    visitor.close()


async def test_a_dialer_that_is_told_so_comes_again_no_sooner_than_it_was_asked_to():
    came: list[float] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        came.append(time.monotonic())
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 503 Busy\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n")
        writer.close()

    server, near = await asyncio.start_server(answer, "127.0.0.1"), Sessions()
    async with server, dialing(make_dialer(server.sockets[0].getsockname()[1], near)):
        await near.until(lambda: len(near.troubles) == 2)
    assert all(isinstance(trouble, BusyError) for trouble in near.troubles)
    assert came[1] - came[0] >= RETRY_AFTER_S


@pytest.mark.parametrize("how", ["by a reset", "in good order"])
async def test_a_door_that_hangs_up_before_tls_is_said_so_and_tried_again(how: str):
    """As it does with whoever is one too many."""
    came = 0

    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal came
        came += 1
        if how == "by a reset":
            linger = struct.pack("ii", 1, 0)
            sock = writer.transport.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        writer.transport.abort()

    server, near = await asyncio.start_server(hang_up, "127.0.0.1"), Sessions()
    port = server.sockets[0].getsockname()[1]
    async with server, dialing(over_tls(port, near)):
        await near.until(lambda: len(near.troubles) == 3)
    assert came >= 3
    for trouble in near.troubles:
        assert str(trouble).startswith(
            f"no lieutenant at 127.0.0.1:{port}: it hung up before any TLS was spoken; too many"
        )
