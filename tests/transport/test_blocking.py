"""A worker's end of its socket: whole messages, however the bytes arrive."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest

from goliath.transport import blocking
from goliath.transport.blocking import BlockingPipe, pack_pipe_frame
from goliath.transport.message import Message
from goliath.transport.worker_messages import DefineFunction, ForgetFunction

Ends = tuple[BlockingPipe, socket.socket]


@pytest.fixture
def ends() -> Iterator[Ends]:
    """A pipe, and the bare socket at its other end."""
    ours, theirs = socket.socketpair()
    yield BlockingPipe(ours), theirs
    ours.close()
    theirs.close()


def frame(message: Message) -> bytes:
    head, payload = pack_pipe_frame(message)
    return head + bytes(payload)


def define(size: int, digest: str = "d") -> DefineFunction:
    return DefineFunction(digest, "f", bytes(place % 251 for place in range(size)))


def feed(sock: socket.socket, data: bytes) -> threading.Thread:
    """Send from a thread, for the socket may not take it all; then close."""

    def send() -> None:
        sock.sendall(data)
        sock.close()

    thread = threading.Thread(target=send)
    thread.start()
    return thread


def received(pipe: BlockingPipe) -> list[tuple[str, bytes]]:
    """The digests and payloads of all that comes."""
    found = []
    while (message := pipe.receive()) is not None:
        assert isinstance(message, DefineFunction | ForgetFunction)
        found.append((message.digest, bytes(getattr(message, "payload", b""))))
    return found


def test_messages_that_come_together_are_received_one_by_one(ends: Ends) -> None:
    pipe, sock = ends
    sent = [define(size, str(size)) for size in (0, 1, 5000)]
    thread = feed(sock, b"".join([*map(frame, sent), frame(ForgetFunction("x"))]))
    expected = [(message.digest, bytes(message.payload)) for message in sent]
    assert received(pipe) == [*expected, ("x", b"")]
    thread.join()


def test_a_message_that_comes_byte_by_byte_is_put_together(ends: Ends) -> None:
    pipe, sock = ends
    data = frame(define(3))
    for place in range(len(data)):
        with pytest.raises(TimeoutError):
            pipe.receive(0.0001)
        sock.sendall(data[place : place + 1])
    assert pipe.receive(1.0) == define(3)


@pytest.mark.parametrize("usual", [64, 200, 1000])
def test_messages_of_any_size_pass_through_a_buffer_of_any_size(
    monkeypatch: pytest.MonkeyPatch, usual: int
) -> None:
    monkeypatch.setattr(blocking, "_USUAL_BYTES", usual)
    monkeypatch.setattr(blocking, "_KEPT_BYTES", 4 * usual)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        sent = [define(size % 3001, str(size)) for size in range(0, 60_000, 611)]
        thread = feed(theirs, b"".join(map(frame, sent)))
        assert received(BlockingPipe(ours)) == [(m.digest, bytes(m.payload)) for m in sent]
        thread.join()


@pytest.mark.parametrize("cut", [2, 10, -1])
def test_an_end_in_the_middle_of_a_message_is_an_end(ends: Ends, cut: int) -> None:
    pipe, sock = ends
    sock.sendall(frame(define(5))[:cut])
    sock.close()
    assert pipe.receive() is None


def test_a_message_bigger_than_the_socket_holds_is_sent_whole(ends: Ends) -> None:
    pipe, sock = ends
    message, data = define(3_000_000), bytearray()

    def read() -> None:
        while part := sock.recv(1 << 16):
            data.extend(part)

    reader = threading.Thread(target=read)
    reader.start()
    pipe.send(message)
    pipe.finish()
    reader.join()
    assert data == frame(message)


def test_an_end_that_is_finished_can_still_be_told_something(ends: Ends) -> None:
    pipe, sock = ends
    pipe.finish()
    assert sock.recv(1) == b""
    sock.sendall(frame(define(1)))
    assert pipe.receive() == define(1)
