"""Sessions over real sockets and a bad network: nothing is lost, doubled or kept for ever."""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import replace
from typing import Any, cast

import pytest

from goliath.config import KIB, MIB, TransportConfig
from goliath.errors import GoliathError
from goliath.transport.address import Address
from goliath.transport.keys import plain_binding
from goliath.transport.websocket import WebSocketLink
from tests.transport.ends import End, Sessions, bulk, control, dialing, listening, make_dialer
from tests.transport.proxy import proxying

pytestmark = pytest.mark.slow

FAST = TransportConfig(
    ping_interval_s=0.05,
    silence_max_s=0.3,
    session_kill_s=2.0,
    session_lost_s=3.0,
    reconnect_min_s=0.01,
    reconnect_max_s=0.05,
)


def through(port: int, near: Sessions, config: TransportConfig = FAST, **options: object):
    """A dialer that goes through a proxy on another port.

    The binding of a real one would refuse that; here it says what the Lieutenant says.
    """
    target = options.pop("target")
    dialer = make_dialer(port, near, config, **options)
    dialer._road._binding = lambda _: plain_binding(target, loopback=True)  # type: ignore[attr-defined]
    return dialer


async def test_a_session_survives_cuts_under_a_thousand_messages_each_way():
    near, far = Sessions(), Sessions()
    async with (
        listening(far, FAST) as listener,
        proxying(listener.port) as proxy,
        dialing(through(proxy.port, near, target=listener.port)),
    ):
        here, there = await near.end(), await far.end()
        rng = random.Random(3)
        for n in range(1000):
            here.send(bulk(n, bytes(rng.choice((10, 1000, 30_000)))))
            there.send(bulk(n, bytes(100)))
            if n % 120 == 60:
                await asyncio.sleep(0.01)
                proxy.cut()
        await there.received(1000)
        await here.received(1000)
        assert there.batches == here.batches == list(range(1000))
        assert len(near.ends) == len(far.ends) == 1
        assert here.closed == there.closed == []


async def test_a_big_message_survives_a_cut_in_its_middle():
    near, far = Sessions(), Sessions()
    async with (
        listening(far, FAST) as listener,
        proxying(listener.port) as proxy,
        dialing(through(proxy.port, near, target=listener.port)),
    ):
        here, there = await near.end(), await far.end()
        payload = random.Random(1).randbytes(20 * MIB)
        here.send(bulk(1, payload))
        await proxy.passed(4 * MIB)
        proxy.cut()
        await there.received(1)
        assert there.messages[0].payload == payload


async def test_a_blackholed_link_is_noticed_and_replaced():
    near, far = Sessions(), Sessions()
    async with (
        listening(far, FAST) as listener,
        proxying(listener.port) as proxy,
        dialing(through(proxy.port, near, target=listener.port)),
    ):
        here, there = await near.end(), await far.end()
        here.send(bulk(1))
        await there.received(1)
        proxy.blackhole()
        here.send(bulk(2))
        there.send(bulk(3))
        await there.received(2)
        await here.received(1)
        assert there.batches == [1, 2]
        assert here.batches == [3]
        assert len(near.ends) == 1


async def test_a_sender_blocked_by_a_peer_that_does_not_read_is_freed():
    near, far = Sessions(), Sessions()
    async with (
        listening(far, FAST) as listener,
        proxying(listener.port) as proxy,
        dialing(through(proxy.port, near, target=listener.port)),
    ):
        here, there = await near.end(), await far.end()
        proxy.stall()
        for n in range(100):
            here.send(bulk(n, bytes(200 * KIB)))
        await there.received(100)
        assert there.batches == list(range(100))
        assert len(near.ends) == 1


async def test_the_newest_link_of_a_session_wins():
    near, far = Sessions(), Sessions()
    config = replace(FAST, silence_max_s=60.0)
    async with (
        listening(far, config) as listener,
        proxying(listener.port) as proxy,
        dialing(through(proxy.port, near, config, target=listener.port)),
    ):
        here, there = await near.end(), await far.end()
        proxy.cut_near()
        here.send(bulk(1))
        there.send(bulk(2))
        await there.received(1)
        await here.received(1)
        assert len(near.ends) == len(far.ends) == 1


@pytest.mark.parametrize("patience_s", [0.8, 0.1], ids=["agreed", "hasty"])
async def test_a_lost_session_is_ended_first_by_the_lieutenant_and_then_by_the_commander(
    patience_s: float,
):
    near, far = Sessions(), Sessions()
    config = replace(FAST, session_kill_s=0.5)
    mine = replace(FAST, session_lost_s=patience_s)
    async with (
        listening(far, config) as listener,
        proxying(listener.port) as proxy,
        dialing(through(proxy.port, near, mine, target=listener.port)),
    ):
        here, there = await near.end(), await far.end()
        order: list[str] = []
        proxy.refusing = True
        proxy.cut()
        async with asyncio.TaskGroup() as tasks:
            for name, end in (("lieutenant", there), ("commander", here)):

                async def note(name: str = name, end=end) -> None:
                    await end.until(lambda: end.closed)
                    order.append(name)

                tasks.create_task(note())
        assert order == ["lieutenant", "commander"]
        assert "nothing was heard" in str(there.closed[0])
        assert "is lost" in str(here.closed[0])
        assert all(isinstance(end.closed[0], GoliathError) for end in (here, there))
        proxy.refusing = False
        again = await near.end(1)
        again.send(control(1))
        assert await (await far.end(1)).received(1) == [control(1)]


async def test_a_login_measures_how_long_the_way_is():
    near, far = Sessions(), Sessions()
    async with (
        listening(far, FAST) as listener,
        proxying(listener.port) as proxy,
    ):
        proxy.up.latency_s, proxy.down.latency_s = 0.03, 0.05
        async with dialing(through(proxy.port, near, target=listener.port)):
            await near.end()
            assert 0.08 <= near.peers[0].rtt_s < 1.0


PATIENT = replace(FAST, session_kill_s=60.0, session_lost_s=75.0)


async def test_who_begins_another_session_has_given_the_old_one_up():
    near, far = Sessions(), Sessions()
    async with (
        listening(far, PATIENT) as listener,
        dialing(make_dialer(listener.port, near, PATIENT)),
    ):
        here, there = await near.end(), await far.end()
        here.channel.end(GoliathError("as after 75 s of silence"))
        await far.end(1)
        await there.until(lambda: there.closed)
        assert "has given its session up and begun another one" in str(there.closed[0])
        assert len(far.granted) == 1


async def test_a_session_that_is_given_up_while_it_is_resumed_is_not_taken_up_again():
    near, far = Sessions(), Sessions()
    async with (
        listening(far, PATIENT) as listener,
        proxying(listener.port) as proxy,
    ):
        dialer = through(proxy.port, near, PATIENT, target=listener.port)
        road, told = dialer._road, []
        go = road.open

        async def go_and_give_up() -> object:
            link, binding = await go()
            hear, again = link.receive, bool(near.ends)

            async def hear_and_give_up() -> bytes | None:
                message = await hear()
                if again and not told:  # this is the challenge of the second login
                    told.append(near.ends[0].channel.ended)
                    near.ends[0].channel.end(GoliathError("as after 75 s of silence"))
                return message

            link.receive = hear_and_give_up
            return link, binding

        road.open = go_and_give_up
        async with dialing(dialer):
            here, there = await near.end(), await far.end()
            here.send(bulk(1))
            await there.received(1)
            proxy.cut()
            assert "was given up while it was being resumed" in str(await near.trouble())
            again = await near.end(1)
            again.send(bulk(2))
            await (await far.end(1)).received(1)
            assert told == [False]
            await there.until(lambda: there.closed)
            assert (there.batches, far.ends[1].batches) == ([1], [2])


async def test_a_restarted_lieutenant_is_another_session():
    near, far = Sessions(), Sessions()
    async with listening(far, FAST) as first, proxying(first.port) as proxy:
        dialer = through(proxy.port, near, target=first.port)
        async with dialing(dialer):
            here = await near.end()
            proxy.refusing = True
            proxy.cut()
            async with listening(far, FAST) as second:
                dialer._road._binding = lambda _: plain_binding(second.port, loopback=True)
                proxy.target, proxy.refusing = second.port, False
                await near.end(1)
                await here.until(lambda: here.closed)
                assert "does not know our session" in str(here.closed[0])
                assert near.peers[0].incarnation != near.peers[1].incarnation
                assert near.peers[0].session_id != near.peers[1].session_id
                (await near.end(1)).send(control(5))
                assert await (await far.end(1)).received(1) == [control(5)]


async def test_a_goodbye_ends_the_session_at_the_other_end_at_once():
    near, far = Sessions(), Sessions()
    async with listening(far) as listener:
        async with dialing(make_dialer(listener.port, near)) as dialer:
            here, there = await near.end(), await far.end()
            began = time.perf_counter()
            await dialer.close()
            assert time.perf_counter() - began < 0.5
            await there.until(lambda: there.closed)
            assert here.closed == there.closed == [None]
        assert len(far.granted) == 0


async def test_a_goodbye_does_not_wait_for_the_dead():
    near, far = Sessions(), Sessions()
    async with (
        listening(far) as listener,
        proxying(listener.port) as proxy,
    ):
        dialer = through(proxy.port, near, TransportConfig(), target=listener.port)
        async with dialing(dialer):
            here = await near.end()
            proxy.stall()
            for n in range(100):
                here.send(bulk(n, bytes(200 * KIB)))
            began = time.perf_counter()
            await dialer.close()
        assert time.perf_counter() - began < 1.5
        assert here.closed == [None]
        proxy.release()
        proxy.cut()


async def test_a_listener_that_closes_says_goodbye_and_the_dialer_finds_the_next_one():
    near, far = Sessions(), Sessions()
    async with listening(far, FAST) as listener:
        here_address = Address("127.0.0.1", listener.port)
        dialer = make_dialer(listener.port, near, FAST, address=here_address)
        async with dialing(dialer):
            here, there = await near.end(), await far.end()
            here.send(bulk(1))
            await there.received(1)
            began = time.perf_counter()
            await listener.close()
            assert time.perf_counter() - began < 1.0
            await here.until(lambda: here.closed)
            assert here.closed == there.closed == [None]
            trouble = await near.trouble()
            assert "is it running there?" in str(trouble)


def checksums(*ends: End) -> list[bool]:
    return [end.channel._protocol._checksum for end in ends]  # type: ignore[union-attr]


async def test_frames_have_checksums_unless_the_kernel_copies_them_from_one_end_to_the_other():
    near, far = Sessions(), Sessions()
    async with listening(far, FAST) as listener:
        async with dialing(make_dialer(listener.port, near, FAST)):
            here, there = await near.end(), await far.end()
            assert checksums(here, there) == [False, False]
            here.send(bulk(1, bytes(MIB)))
            assert (await there.received(1))[0].payload == bytes(MIB)
        elsewhere = Address("127.0.0.2", listener.port)  # a plain login is bound to the port
        async with (
            proxying(listener.port, "127.0.0.2", listener.port),
            dialing(make_dialer(listener.port, near, FAST, address=elsewhere)),
        ):
            here, there = await near.end(1), await far.end(1)
            assert checksums(here, there) == [True, True]
            there.send(bulk(2, bytes(MIB)))
            assert (await here.received(1))[0].payload == bytes(MIB)


def span_of(here: tuple[str, int], there: tuple[str, int]) -> WebSocketLink:
    transport = asyncio.Transport({"sockname": here, "peername": there})
    return WebSocketLink(cast(Any, None), transport, secure=False)


def test_only_the_other_end_of_a_connection_within_the_machine_is_known_by_its_span():
    port = "127.0.0.1", 7070
    near, tunnel = span_of(("127.0.0.1", 5), port), span_of(port, ("127.0.0.1", 6))
    assert span_of(port, ("127.0.0.1", 5)).is_memory(near.span)
    assert not tunnel.is_memory(near.span)  # it has another connection than the client
    assert not near.is_memory(near.span)
    apart = span_of(port, ("127.0.0.2", 5))
    assert not apart.is_memory(span_of(("127.0.0.2", 5), port).span)
    assert not apart.is_memory("")
