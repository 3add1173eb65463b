"""The contract of `Channel`, against every kind of channel there is."""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager
from typing import Protocol

import pytest

from goliath.config import KIB, MIB, TransportConfig
from goliath.errors import LocalError
from goliath.transport import memory
from goliath.transport.message import Message
from tests.transport.ends import PAIRS, End, assign, bulk, control


class Pair(Protocol):
    def __call__(self, config: TransportConfig) -> AbstractAsyncContextManager[tuple[End, End]]: ...


@pytest.fixture(params=list(PAIRS))
def connected(request: pytest.FixtureRequest) -> Pair:
    return PAIRS[request.param]


QUICK = TransportConfig(chunk_bytes=64 * KIB, unacked_max_bytes=MIB)


async def test_messages_arrive_whole_and_in_order(connected: Pair):
    async with connected(QUICK) as (left, right):
        sent = [assign(n, bytes([n % 256]) * n) for n in range(300)]
        for message in sent:
            left.send(message)
        assert await right.received(300) == sent


async def test_both_directions_work_at_once(connected: Pair):
    async with connected(QUICK) as (left, right):
        for n in range(200):
            left.send(bulk(n))
            right.send(bulk(1000 + n))
        await right.received(200)
        await left.received(200)
        assert right.batches == list(range(200))
        assert left.batches == list(range(1000, 1200))


async def test_a_message_much_bigger_than_a_chunk_arrives(connected: Pair):
    async with connected(QUICK) as (left, right):
        payload = bytes(range(256)) * 20_000
        left.send(bulk(1, payload))
        left.send(bulk(2))
        await right.received(2)
        assert bytes(right.messages[0].payload) == payload
        assert right.batches == [1, 2]


async def test_no_answer_is_delivered_before_send_returns(connected: Pair):
    async with connected(QUICK) as (left, right):
        right.on_each = lambda message: right.send(bulk(message.count))
        left.send(control(1))
        assert left.messages == []
        await left.received(1)


async def test_what_is_sent_while_a_message_is_read_is_not_delivered_meanwhile(connected: Pair):
    async with connected(QUICK) as (left, right):
        heard_meanwhile = []

        def answer_twice(message: Message) -> None:
            right.send(bulk(1))
            right.send(bulk(2))
            heard_meanwhile.extend(left.messages)

        right.on_each = answer_twice
        left.send(control(1))
        await left.received(2)
        assert heard_meanwhile == []
        assert left.batches == [1, 2]


async def test_an_answer_may_be_sent_while_a_message_is_read(connected: Pair):
    async with connected(QUICK) as (left, right):
        right.on_each = lambda message: right.send(bulk(message.count))
        for n in range(50):
            left.send(control(n))
        await left.received(50)
        assert left.batches == list(range(50))


async def test_close_ends_both_ends_once_after_what_was_sent(connected: Pair):
    async with connected(QUICK) as (left, right):
        for n in range(100):
            left.send(bulk(n, b"x" * 1000))
        left.channel.close()
        left.channel.close()
        await right.until(lambda: right.closed)
        await left.until(lambda: left.closed)
        await asyncio.sleep(0.02)
        assert right.batches == list(range(100))
        assert left.closed == [None]
        assert right.closed == [None]


async def test_on_closed_is_never_called_inside_close(connected: Pair):
    async with connected(QUICK) as (left, _):
        left.channel.close()
        assert left.closed == []
        await left.until(lambda: left.closed)


async def test_what_is_sent_on_an_ended_channel_goes_nowhere(connected: Pair):
    async with connected(QUICK) as (left, right):
        left.channel.close()
        left.send(control(1))
        await left.until(lambda: left.closed)
        await right.until(lambda: right.closed)
        left.send(control(2))
        right.send(control(3))
        await asyncio.sleep(0.02)
        assert left.messages == right.messages == []


async def test_a_receiver_that_closes_hears_no_more(connected: Pair):
    async with connected(QUICK) as (left, right):
        right.on_each = lambda _: right.channel.close()
        for n in range(10):
            left.send(control(n))
        await right.until(lambda: right.closed)
        assert right.messages == [control(0)]


async def test_a_channel_has_one_receiver(connected: Pair):
    async with connected(QUICK) as (left, _):
        with pytest.raises(LocalError, match="receiver already"):
            left.channel.attach(End())


async def test_too_much_at_once_is_congestion_and_its_end_is_told(connected: Pair):
    async with connected(QUICK) as (left, right):

        def flood(_: Message) -> None:  # told something, so that nothing is delivered meanwhile
            for n in range(64):
                assert not left.channel.congested or n > 3
                left.send(bulk(n, bytes(256 * KIB)))
            assert left.channel.congested

        left.on_each = flood
        right.send(control(1))
        await right.received(64)
        await left.until(lambda: left.writable)
        assert not left.channel.congested
        assert left.writable == 1


async def test_messages_wait_in_memory_for_a_receiver_that_comes_late():
    left, right = memory.pair(QUICK)
    left.send(control(1))
    left.close()
    await asyncio.sleep(0.01)
    receiver = End.of(right)
    await receiver.until(lambda: receiver.closed)
    assert receiver.messages == [control(1)]
