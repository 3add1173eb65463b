"""A door without descriptors: what is said to those who come, and what they make of it."""

from __future__ import annotations

import asyncio
import os
import resource
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from goliath.transport.busy import RETRY_AFTER_S, BusyError, BusySign
from tests.transport.ends import Sessions, dialing, make_dialer

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


async def asking(port: int, sock: socket.socket) -> Said:
    """Ask over a socket that was made before there were none any more."""
    sock.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(sock, ("127.0.0.1", port))
    await loop.sock_sendall(sock, b"GET /goliath/v1 HTTP/1.1\r\n\r\n")
    _, said = await loop.create_connection(Said, sock=sock)
    return said


@pytest.mark.parametrize("speaks", [True, False])
async def test_whoever_comes_is_answered_or_sent_away_and_the_reserve_is_there_again(speaks: bool):
    door, visitors = listening(), [socket.socket() for _ in range(3)]
    sign = BusySign(speaks=speaks)
    again = asyncio.Semaphore(0)
    with no_descriptors():
        for visitor in visitors:
            said = await asking(door.getsockname()[1], visitor)
            sign.take_over(door, again.release)
            await again.acquire()
            await said.ended
            assert said.heard.startswith(b"HTTP/1.1 503 ") is speaks
            assert sign.ready
        sign.take_over(door, again.release)  # and nobody is there
        await again.acquire()
    sign.close()
    door.close()


async def test_where_nobody_can_be_let_in_it_is_tried_again_later():
    door, again = listening(), asyncio.Event()
    with no_descriptors():
        sign = BusySign(speaks=True)  # too late for a reserve
        sign.take_over(door, again.set)
        assert not again.is_set()
        await again.wait()
    sign.close()
    door.close()


async def test_it_can_be_taken_down_in_the_middle_of_sending_somebody_away():
    door, visitor = listening(), socket.socket()
    sign = BusySign(speaks=True)
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
