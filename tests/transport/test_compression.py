"""Payload on slow links: made smaller where that helps, and only there; and never a bomb."""

from __future__ import annotations

import os
import random
from contextlib import suppress

import pytest
import zstandard
from hypothesis import given, settings, strategies as st

from goliath.config import KIB, MIB, TransportConfig
from goliath.errors import ProtocolError
from goliath.transport.codec import pack_text, unpack_frame
from goliath.transport.compression import (
    PAYLOAD_MIN_BYTES,
    SKIPPED,
    Compressor,
    expanded,
)
from goliath.transport.protocol import SessionOver
from goliath.transport.websocket import may_compress
from tests.transport.ends import Sessions, bulk, dialing, listening, make_dialer
from tests.transport.proxy import proxying
from tests.transport.test_protocol import World

TEXT = b"".join(b"a line of text, and its number: %d\n" % n for n in range(30_000))[:MIB]
LIMIT = 200 * KIB


# -- one payload -------------------------------------------------------------------------------


@given(st.integers(0, 150_000), st.integers(1, 60_000))
@settings(max_examples=50)
def test_what_was_shrunk_comes_back(start: int, size: int):
    payload = TEXT[start : start + size]
    small = Compressor().shrunk(memoryview(payload))
    if small is None:
        assert size < PAYLOAD_MIN_BYTES
    else:
        assert len(small) < len(payload)
        assert expanded(small, len(payload), LIMIT) == payload


def test_what_does_not_shrink_is_sent_as_it_is_and_the_next_ones_are_not_even_tried():
    compressor = Compressor()
    assert compressor.shrunk(os.urandom(100 * KIB)) is None
    tried = [compressor.shrunk(TEXT[: 100 * KIB]) is not None for _ in range(SKIPPED + 2)]
    assert tried == [False] * SKIPPED + [True, True]


def bomb(size: int) -> bytes:
    return zstandard.ZstdCompressor(level=1).compress(bytes(size))


def streamed(data: bytes) -> bytes:
    """A frame that does not say how big it will be."""
    compressor = zstandard.ZstdCompressor(level=1, write_content_size=False)
    return compressor.compress(data)


@pytest.mark.parametrize(
    ("payload", "size"),
    [
        (bomb(64 * MIB), 64 * MIB),  # says what it is
        (bomb(64 * MIB), 100 * KIB),  # says less
        (bomb(100 * KIB), 50 * KIB),
        (bomb(100 * KIB), 150 * KIB),
        (streamed(bytes(100 * KIB)), 100 * KIB),
        (bomb(1000) + bomb(64 * MIB), 1000),
        (bomb(1000)[:-1], 1000),
        (b"", 1000),
        (b"no such thing", 1000),
        (bomb(1000), 0),
        (bomb(1000), -1),
        (bomb(1000), True),
        (bomb(1000), "1000"),
        (bomb(1000), None),
        (bomb(1000), 1000.0),
    ],
)
def test_a_payload_that_is_not_what_it_says_is_refused_before_there_is_room_made_for_it(
    payload: bytes, size: object
):
    import tracemalloc

    tracemalloc.start()
    try:
        with pytest.raises(ProtocolError):
            expanded(memoryview(payload), size, LIMIT)
        assert tracemalloc.get_traced_memory()[1] < 2 * MIB
    finally:
        tracemalloc.stop()


@given(st.data())
@settings(max_examples=200)
def test_a_damaged_payload_is_refused_or_is_of_the_size_it_has_to_be(data: st.DataObject):
    small = bytearray(zstandard.ZstdCompressor(level=1).compress(TEXT[:5000]))
    for _ in range(data.draw(st.integers(1, 4))):
        small[data.draw(st.integers(0, len(small) - 1))] = data.draw(st.integers(0, 255))
    with suppress(ProtocolError):
        assert len(expanded(small, 5000, LIMIT)) == 5000


# -- a session ----------------------------------------------------------------------------------


def carry(world: World, bytes_s: float, count: int, payload: bytes) -> list[dict[str, object]]:
    """Send so many messages over a link of this speed; the headers of the frames that went."""
    headers = []
    for number in range(count):
        world.here.send(bulk(number, payload))
    while True:
        # What is on its way has left: the rest goes as is thought right when there is room.
        while len(world.going) < 16 and (frame := world.here.next_frame(world.now)):
            world.going.append(frame)
        if not world.going:
            return headers
        headers.append(unpack_frame(world.going[0], checksum=True)[0])
        world.now += len(world.going[0]) / bytes_s
        world.arrive(1)
        while frame := world.there.next_frame(world.now):
            world.here.receive_frame(frame, world.now)


def a_world(**options: object) -> World:
    config = TransportConfig(ack_bytes=256 * KIB, session_lost_s=1e9, session_kill_s=1e9)
    return World(config, compress=True, **options)  # type: ignore[arg-type]


def is_compressed(headers: list[dict[str, object]]) -> list[bool]:
    return ["z" in header for header in headers]


def test_a_slow_link_is_found_out_and_then_carries_less():
    world = a_world()
    headers = carry(world, 10e6, 40, TEXT)
    assert [bytes(message.payload) for message in world.got_there] == [TEXT] * 40
    marks = is_compressed(headers)
    assert not any(marks[:4])
    # All that stood in line when it was measured is compressed when it goes.
    assert sum(marks) > 0.8 * len(marks)


def test_a_fast_link_carries_it_as_it_is():
    world = a_world()
    headers = carry(world, 500e6, 40, TEXT)
    assert len(world.got_there) == 40
    assert not any(is_compressed(headers))


def test_nobody_compresses_who_has_not_agreed_and_nobody_accepts_it_from_him():
    world = World(TransportConfig(session_lost_s=1e9, session_kill_s=1e9))
    assert not any(is_compressed(carry(world, 1e6, 20, TEXT)))
    text = b'{"t":"done","batch":1,"attempt":1,"lo":0,"hi":1,"elapsed_us":1,"q":1,"a":0,"z":1000'
    payload = bomb(1000)
    stranger = World()
    frame = pack_text(text + b"}", payload, checksum=True) + payload
    with pytest.raises(SessionOver) as over:
        stranger.there.receive_frame(frame, stranger.now)
    assert "nobody has agreed" in str(over.value.error)


def test_a_bomb_ends_its_session():
    world = a_world()
    text = b'{"t":"done","batch":1,"attempt":1,"lo":0,"hi":1,"elapsed_us":1,"q":1,"a":0,"z":%d}'
    payload = bomb(64 * MIB)
    frame = pack_text(text % (64 * MIB), payload, checksum=True) + payload
    with pytest.raises(SessionOver) as over:
        world.there.receive_frame(frame, world.now)
    assert isinstance(over.value.error, ProtocolError)


@pytest.mark.parametrize("seed", range(20))
def test_what_was_compressed_survives_cuts_and_links_on_which_nothing_is(seed: int):
    dice = random.Random(seed)
    world = a_world()
    carry(world, 5e6, 10, TEXT)
    assert world.here._throughput.is_slow(world.now)
    payloads = [TEXT[: dice.randrange(1, 400 * KIB)] for _ in range(30)]
    for number, payload in enumerate(payloads):
        world.here.send(bulk(100 + number, payload))
    while len(world.got_there) < 40:
        world.depart()
        world.now += 0.01
        world.arrive(dice.randrange(1, 6))
        if dice.random() < 0.2:
            world.compress = dice.random() < 0.5
            world.link()
    assert [bytes(message.payload) for message in world.got_there[10:]] == payloads


# -- a link ---------------------------------------------------------------------------------------


def test_it_is_off_where_the_operator_or_the_lack_of_zstd_says_so(monkeypatch: pytest.MonkeyPatch):
    assert may_compress(TransportConfig())
    assert not may_compress(TransportConfig(compress_below_bytes_s=0))
    monkeypatch.setattr("goliath.transport.websocket.is_installed", lambda: False)
    assert not may_compress(TransportConfig())


async def talk_over(proxy_host: str, near_config: TransportConfig, far_config: TransportConfig):
    """Send 6 MiB of text through a proxy of 30 MB/s; how many bytes went, and what was heard."""
    near, far = Sessions(), Sessions()
    async with (
        listening(far, far_config) as listener,
        proxying(listener.port, proxy_host, listener.port) as proxy,
    ):
        from goliath.transport.address import Address

        proxy.up.bytes_per_s = 30e6
        address = Address(proxy_host, listener.port)
        async with dialing(make_dialer(0, near, near_config, address=address)):
            sender = await near.end()
            for number in range(12):
                sender.send(bulk(number, TEXT))
            heard = await (await far.end()).received(12)
            assert all(message.payload == TEXT for message in heard)
    return proxy.passed_bytes


async def test_a_slow_link_between_two_machines_carries_a_fraction():
    passed = await talk_over("127.0.0.2", TransportConfig(), TransportConfig())
    assert passed < 9 * MIB  # of 12


@pytest.mark.slow
@pytest.mark.parametrize("end", ["near", "far"])
async def test_either_end_can_refuse(end: str):
    off, on = TransportConfig(compress_below_bytes_s=0), TransportConfig()
    passed = await talk_over("127.0.0.2", *((off, on) if end == "near" else (on, off)))
    assert passed > 12 * MIB


async def test_within_a_machine_it_is_not_even_offered():
    near, far = Sessions(), Sessions()
    async with listening(far) as listener, dialing(make_dialer(listener.port, near)):
        sender = await near.end()
        await far.end()
        protocol = sender.channel._protocol  # type: ignore[union-attr]
        assert not protocol._compress
