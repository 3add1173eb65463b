"""The Lieutenant's end of a worker's socket: big frames pass, and never all at once."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable
from typing import Any

from goliath.actors.line import READ_BYTES, TURN_BYTES, Line
from goliath.transport import worker_messages as worker_msg
from goliath.transport.blocking import pack_pipe_frame

BIG = 24 * 1024 * 1024


class Watched(socket.socket):
    """Remembers how much it was given, or asked for, at once."""

    most = 0

    def sendmsg(self, pieces: Any, *more: Any) -> int:
        pieces = list(pieces)
        self.most = max(self.most, sum(map(len, pieces)))
        return super().sendmsg(pieces, *more)

    def recv_into(self, buffer: Any, *more: Any) -> int:
        self.most = max(self.most, len(buffer))
        return super().recv_into(buffer, *more)


def a_pair() -> tuple[Watched, socket.socket]:
    ours, theirs = socket.socketpair()
    return Watched(fileno=ours.detach()), theirs


async def with_a_line(use: Callable[[Line, Watched, socket.socket, asyncio.Queue[Any]], Any]):
    ours, theirs = a_pair()
    heard: asyncio.Queue[Any] = asyncio.Queue()
    line = Line(
        asyncio.get_running_loop(), ours, bytearray(READ_BYTES), heard.put_nowait, lambda _: None
    )
    try:
        await use(line, ours, theirs, heard)
    finally:
        line.close()
        theirs.close()


async def test_a_big_message_leaves_in_many_turns_though_the_worker_takes_it_at_once():
    payload = bytes(range(256)) * (BIG // 256)
    message = worker_msg.DefineFunction("f", "f", payload)
    expected = b"".join(pack_pipe_frame(message))

    async def send(line: Line, ours: Watched, theirs: socket.socket, heard: Any) -> None:
        taken = bytearray()

        def take() -> None:
            while len(taken) < 2 * len(expected):
                taken.extend(theirs.recv(1 << 20))

        taking = threading.Thread(target=take)
        taking.start()
        line.send(message)
        line.send(message)
        await asyncio.to_thread(taking.join)
        assert taken == expected + expected
        assert ours.most <= TURN_BYTES + 1024 < BIG // 20  # and a header
        assert line.unsent_bytes == 0

    await with_a_line(send)


async def test_a_big_frame_is_read_in_many_turns_into_memory_that_was_set_aside_once():
    payload = bytes(range(256)) * (BIG // 256)
    frame = b"".join(pack_pipe_frame(worker_msg.DefineFunction("f", "f", payload)))

    async def read(line: Line, ours: Watched, theirs: socket.socket, heard: Any) -> None:
        giving = threading.Thread(target=theirs.sendall, args=(frame,))
        giving.start()
        await asyncio.to_thread(giving.join)
        async with asyncio.timeout(10):
            message = await heard.get()
        assert message.payload == payload
        assert ours.most <= TURN_BYTES
        # Not copied on the way: what is handed on is where it was read to.
        assert type(message.payload.obj) is not bytes

    await with_a_line(read)
