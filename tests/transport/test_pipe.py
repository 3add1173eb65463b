"""The pipe to a worker process: hostile bytes, sudden ends, and both event loops."""

from __future__ import annotations

import asyncio
import random
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest
import uvloop

from goliath.config import KIB, MIB, TransportConfig
from goliath.errors import ProtocolError
from goliath.transport.codec import pack_header, to_header
from goliath.transport.pipe import PipeChannel
from tests.transport.ends import End, assign, bulk, codec_pair, control, pipe_pair, websocket_pair


@pytest.fixture(scope="module", autouse=True)
def _uvloop_was_used_before() -> None:
    """Its first loop makes a pipe for signals that stays for the life of the process."""
    uvloop.run(asyncio.sleep(0))


def wire(message: object) -> bytes:
    payload = getattr(message, "payload", b"")
    frame = pack_header(to_header(message), checksum=False) + payload  # type: ignore[arg-type]
    return struct.pack("<Q", len(frame)) + frame


@asynccontextmanager
async def raw_end(**options: int) -> AsyncIterator[tuple[End, PipeChannel, socket.socket]]:
    """A channel, and the other end as a bare socket."""
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    channel = await PipeChannel.open(ours, **options)
    end = End.of(channel)
    try:
        yield end, channel, theirs
    finally:
        theirs.close()
        channel.abort()
        await end.until(lambda: end.closed)


async def test_frames_cut_anywhere_are_put_together_again():
    messages = [bulk(n, bytes([n]) * (n * 997)) for n in range(60)]
    data = b"".join(map(wire, messages))
    rng = random.Random(5)
    async with raw_end() as (end, _, theirs):
        loop = asyncio.get_running_loop()
        at = 0
        while at < len(data):
            step = rng.choice((1, 3, 100, 10_000, 300_000))
            await loop.sock_sendall(theirs, data[at : at + step])
            at += step
        assert await end.received(60) == messages


@pytest.mark.parametrize("size", [0, 1, 64 * KIB, 128 * KIB, 160_000, 256 * KIB, 5 * MIB])
async def test_payloads_of_every_size_arrive(size: int):
    async with pipe_pair(TransportConfig()) as (left, right):
        payload = random.Random(size).randbytes(size)
        for n in range(3):
            left.send(bulk(n, payload))
        for message in await right.received(3):
            assert message == bulk(message.batch, payload)


@pytest.mark.parametrize(
    "data",
    [
        bytes(8),
        b"\x07" + bytes(7),
        struct.pack("<Q", 2 * MIB),
        struct.pack("<Q", 20) + b"x" * 20,
        wire(control(1)).replace(b"steal", b"spoil"),
        wire(control(1)).replace(b'"count":1', b'"count":x'),
    ],
)
async def test_hostile_bytes_end_the_channel_with_a_protocol_error(data: bytes):
    async with raw_end(frame_max_bytes=MIB) as (end, _, theirs):
        theirs.send(data)
        await end.until(lambda: end.closed)
        assert isinstance(end.closed[0], ProtocolError)
        assert end.messages == []


async def test_the_end_of_the_other_process_is_told_without_an_error():
    async with raw_end() as (end, channel, theirs):
        theirs.send(wire(control(1)))
        theirs.close()
        await end.until(lambda: end.closed)
        assert end.messages == [control(1)]
        assert end.closed == [None]
        channel.send(control(2))
        assert not channel.congested


async def test_an_end_in_the_middle_of_a_message_is_told_as_such():
    async with raw_end() as (end, _, theirs):
        theirs.send(wire(control(1))[:-3])
        theirs.close()
        await end.until(lambda: end.closed)
        assert "in the middle of a message" in str(end.closed[0])


async def test_a_paused_channel_makes_the_other_end_wait():
    async with raw_end() as (end, channel, theirs):
        channel.pause_reading()
        await asyncio.sleep(0)
        with suppress(BlockingIOError):
            while theirs.send(wire(bulk(1, bytes(64 * KIB)))):
                continue
        await asyncio.sleep(0.02)
        assert end.messages == []
        channel.resume_reading()
        await end.until(lambda: end.messages)


async def test_nothing_is_read_before_attach():
    ours, theirs = socket.socketpair()
    channel = await PipeChannel.open(ours)
    theirs.send(wire(control(1)))
    await asyncio.sleep(0.02)
    end = End.of(channel)
    assert await end.received(1) == [control(1)]
    theirs.close()
    await end.until(lambda: end.closed)


async def test_an_announced_size_costs_no_memory_before_its_bytes_arrive():
    import psutil

    process = psutil.Process()
    async with raw_end() as (end, _, theirs):
        before = process.memory_info().rss
        theirs.send(struct.pack("<Q", 500 * MIB) + b"x" * 100)
        await asyncio.sleep(0.02)
        assert process.memory_info().rss - before < 50 * MIB
        assert end.messages == []


@pytest.mark.parametrize("pair", [codec_pair, pipe_pair, websocket_pair])
def test_uvloop_carries_them_all(pair):
    async def scenario() -> None:
        config = TransportConfig(chunk_bytes=64 * KIB, unacked_max_bytes=MIB)
        async with pair(config) as (left, right):
            sent = [assign(n, bytes(n * 1000)) for n in range(200)]
            for message in sent:
                left.send(message)
            assert await right.received(200) == sent
            right.send(bulk(1, bytes(5 * MIB)))
            await left.received(1)
            left.channel.close()
            await right.until(lambda: right.closed)
            await left.until(lambda: left.closed)

    uvloop.run(scenario())
