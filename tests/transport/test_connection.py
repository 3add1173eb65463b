"""The pump between a session and its links, over a fake link that can be told to block."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import pytest

from goliath.clock import BootClock
from goliath.config import TransportConfig
from goliath.errors import GoliathError, ProtocolError, SerializationError
from goliath.transport.codec import unpack_frame
from goliath.transport.connection import SessionChannel
from goliath.transport.protocol import SessionProtocol, Side
from tests.transport.ends import End, bulk, control

CONFIG = TransportConfig()


@dataclass(eq=False)
class FakeLink:
    """A link whose sends wait while it is blocked, and which hands over what is put into it."""

    needs_checksum: bool = True
    compress: bool = False
    sent: list[bytes] = field(default_factory=list)
    inbox: asyncio.Queue[bytes | None] = field(default_factory=asyncio.Queue)
    blocked: asyncio.Future[None] | None = None
    broken: bool = False

    def send_bytes(self, data: bytes) -> Coroutine[Any, Any, None]:
        return self._send(data)

    async def _send(self, data: bytes) -> None:
        if self.broken:
            raise BrokenPipeError("broken")
        self.sent.append(data)
        if self.blocked is not None:
            await asyncio.shield(self.blocked)

    async def receive(self) -> bytes | None:
        return await self.inbox.get()

    def abort(self) -> None:
        self.broken = True
        if self.blocked is not None and not self.blocked.done():
            self.blocked.set_exception(ConnectionResetError("aborted"))
            self.blocked.exception()
        self.inbox.put_nowait(None)

    async def close(self, code: int, reason: str = "") -> None:
        self.abort()

    @property
    def kinds(self) -> list[str]:
        return [unpack_frame(frame, checksum=True)[0]["t"] for frame in self.sent]


def channel(config: TransportConfig = CONFIG, side: Side = Side.COMMANDER) -> SessionChannel:
    clock = BootClock()
    protocol = SessionProtocol(side, "lab:1", config, clock.now())
    return SessionChannel(protocol, clock, on_ended=lambda: None)


def attached(config: TransportConfig = CONFIG) -> SessionChannel:
    end = channel(config)
    End.of(end)
    return end


@asynccontextmanager
async def carrying(end: SessionChannel, link: FakeLink) -> AsyncIterator[None]:
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(end.carry(link, peer_seen=0, proved_at=BootClock().now()))
        await asyncio.sleep(0)
        try:
            yield
        finally:
            link.abort()


async def test_an_idle_link_gets_the_bytes_before_send_returns():
    end, link = attached(), FakeLink()
    async with carrying(end, link):
        end.send(bulk(1))
        assert link.kinds == ["done"]
    end.end(None)


async def test_what_is_sent_while_the_link_blocks_follows_in_order_with_control_first():
    end, link = attached(), FakeLink()
    async with carrying(end, link):
        link.blocked = asyncio.get_running_loop().create_future()
        for n in range(3):
            end.send(bulk(n))
        end.send(control(9))
        assert link.kinds == ["done"]
        link.blocked.set_result(None)
        link.blocked = None
        await asyncio.sleep(0.01)
        assert link.kinds == ["done", "steal", "done", "done"]
    end.end(None)


async def test_an_abort_frees_a_blocked_sender_and_the_next_link_goes_on():
    end, link = attached(), FakeLink()
    async with carrying(end, link):
        link.blocked = asyncio.get_running_loop().create_future()
        end.send(bulk(1))
        end.send(bulk(2))
    again = FakeLink()
    async with carrying(end, again):
        assert again.kinds == ["done", "done"]
    end.end(None)


async def test_a_broken_link_ends_without_an_error_and_everything_is_kept():
    end, link = attached(), FakeLink()
    async with carrying(end, link):
        link.broken = True
        end.send(bulk(1))
        end.send(bulk(2))
    again = FakeLink()
    async with carrying(end, again):
        assert again.kinds == ["done", "done"]
    end.end(None)


async def test_a_channel_without_a_link_keeps_what_is_sent():
    end = attached()
    end.send(bulk(1))
    assert not end.linked
    link = FakeLink()
    async with carrying(end, link):
        assert link.kinds == ["done"]
        assert end.linked
    end.end(None)


async def test_a_silent_link_is_broken():
    config = TransportConfig(ping_interval_s=0.02, silence_max_s=0.06)
    end, link = attached(config), FakeLink()
    async with asyncio.timeout(2):
        await end.carry(link, peer_seen=0, proved_at=BootClock().now())
    assert link.broken
    assert "ping" in link.kinds
    assert not end.ended
    end.end(None)


@dataclass
class SleptClock:
    """Time that jumps while the loop's own clock stands still: what waking a machine is like."""

    slept_s: float = 0.0

    def now(self) -> float:
        return BootClock().now() + self.slept_s


def sleepy(side: Side, config: TransportConfig) -> tuple[SleptClock, SessionChannel, End]:
    clock = SleptClock()
    protocol = SessionProtocol(side, "lab:1", config, clock.now())
    slept = SessionChannel(protocol, clock, on_ended=lambda: None)
    return clock, slept, End.of(slept)


async def test_a_session_that_expired_while_the_machine_slept_ends_soon_after_waking():
    for side in Side:
        clock, _, receiver = sleepy(side, TransportConfig(ping_interval_s=0.02))
        clock.slept_s = 3600.0
        async with asyncio.timeout(1):
            await receiver.until(lambda receiver=receiver: receiver.closed)
        assert isinstance(receiver.closed[0], GoliathError)


async def test_a_link_that_comes_before_any_timer_does_not_revive_an_expired_session():
    for side in Side:
        clock, slept, receiver = sleepy(side, CONFIG)
        receiver.send(bulk(1))
        clock.slept_s = 3600.0
        link = FakeLink()
        async with asyncio.timeout(1):
            await slept.carry(link, peer_seen=0, proved_at=clock.now())
            await receiver.until(lambda receiver=receiver: receiver.closed)
        assert link.sent == []
        assert isinstance(receiver.closed[0], GoliathError)


async def test_a_receiver_that_fails_ends_the_session_with_its_own_error():
    here, there = attached(), channel(side=Side.LIEUTENANT)
    receiver = End.of(there)
    error = RuntimeError("a bug")

    def fail(_: object) -> None:
        raise error

    receiver.on_each = fail
    near, far = FakeLink(), FakeLink()
    async with carrying(here, near):
        here.send(bulk(1))
        await far.inbox.put(near.sent[0])
        with pytest.raises(RuntimeError, match="a bug"):
            await there.carry(far, peer_seen=0, proved_at=BootClock().now())
    await receiver.until(lambda: receiver.closed)
    assert receiver.closed == [error]
    assert far.broken or there.ended
    here.end(None)


async def test_messages_wait_for_a_receiver_that_comes_late():
    here, there = attached(), channel(side=Side.LIEUTENANT)
    near, far = FakeLink(), FakeLink()
    async with carrying(here, near), carrying(there, far):
        here.send(bulk(1))
        await far.inbox.put(near.sent[0])
        await asyncio.sleep(0.01)
        receiver = End.of(there)
        assert await receiver.received(1) == [bulk(1)]
    here.end(None)
    there.end(None)


async def test_a_receiver_that_comes_after_the_end_is_told_of_it_once():
    end = channel()
    error = RuntimeError("too late")
    end.end(error)
    await asyncio.sleep(0)
    receiver = End.of(end)
    await receiver.until(lambda: receiver.closed)
    await asyncio.sleep(0.01)
    assert receiver.closed == [error]


async def test_a_damaged_frame_is_an_error_for_the_owner_of_the_link_and_not_for_the_receiver():
    end, link = channel(), FakeLink()
    receiver = End.of(end)
    await link.inbox.put(b"\x00" * 20)
    with pytest.raises(ProtocolError):
        await end.carry(link, peer_seen=0, proved_at=BootClock().now())
    assert not end.ended
    assert receiver.closed == []
    end.end(None)
    await receiver.until(lambda: receiver.closed)


async def test_a_message_that_is_too_big_is_refused_to_its_sender():
    end = attached(TransportConfig(message_max_bytes=1000))
    with pytest.raises(SerializationError, match="over the limit"):
        end.send(bulk(1, bytes(2000)))
    end.end(None)


async def test_leaving_without_a_link_ends_at_once():
    end = channel()
    receiver = End.of(end)
    await end.leave()
    await receiver.until(lambda: receiver.closed)
    assert receiver.closed == [None]


async def test_an_ended_channel_carries_no_link():
    end, link = attached(), FakeLink()
    end.end(None)
    await end.carry(link, peer_seen=0, proved_at=0.0)
    assert link.sent == []


async def test_cancelling_the_carrier_leaves_the_session_alive():
    end, link = attached(), FakeLink()
    link.blocked = asyncio.get_running_loop().create_future()
    end.send(bulk(1))
    task = asyncio.get_running_loop().create_task(end.carry(link, peer_seen=0, proved_at=0.0))
    await asyncio.sleep(0)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    assert not end.linked
    assert not end.ended
    end.end(None)
