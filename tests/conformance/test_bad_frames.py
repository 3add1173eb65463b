"""Frames that RFC 6455 forbids: the connection is closed as it says, nothing else is logged, and
whoever speaks well is served as before."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from tests.conformance.peers import Commander, Conversation, Lieutenant
from tests.conformance.raw import (
    ABORTED,
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    TEXT,
    Raw,
    answering,
    calling,
    long_length,
)
from tests.transport.ends import Sessions, control, dialing, listening, make_dialer
from tests.transport.test_door import QUICK

DEADLINE_S = 2.0
PROTOCOL, NOT_UTF8, TOO_BIG = {1002}, {1007}, {1009}
OURS = {4401, 4409}
"""What it is, the websocket's rules allow; Goliath's do not."""

Making = Callable[[Raw], bytes]


def close_with(code: int) -> Making:
    return lambda end: end.bad(CLOSE, code.to_bytes(2, "big"))


BAD: dict[str, tuple[Making, set[int]]] = {
    "a reserved bit, that of compression": (lambda end: end.bad(BINARY, b"x", rsv=4), PROTOCOL),
    "another reserved bit": (lambda end: end.bad(BINARY, b"x", rsv=2), PROTOCOL),
    "the last reserved bit": (lambda end: end.bad(BINARY, b"x", rsv=1), PROTOCOL),
    "reserved bits of a ping": (lambda end: end.bad(PING, b"x", rsv=7), PROTOCOL),
    "an unknown opcode": (lambda end: end.bad(0x3, b"x"), PROTOCOL),
    "the last unknown opcode": (lambda end: end.bad(0x7, b"x"), PROTOCOL),
    "an unknown control opcode": (lambda end: end.bad(0xB), PROTOCOL),
    "the last unknown control opcode": (lambda end: end.bad(0xF), PROTOCOL),
    "a ping in fragments": (lambda end: end.bad(PING, b"x", fin=False), PROTOCOL),
    "a close in fragments": (lambda end: end.bad(CLOSE, b"\x03\xe8", fin=False), PROTOCOL),
    "a ping of 126 bytes": (lambda end: end.bad(PING, bytes(126)), PROTOCOL),
    "a close of 126 bytes": (lambda end: end.bad(CLOSE, b"\x03\xe8" + b"x" * 124), PROTOCOL),
    "text that is no UTF-8": (lambda end: end.bad(TEXT, b"\xff\xfe"), NOT_UTF8),
    "a reason that is no UTF-8": (lambda end: end.bad(CLOSE, b"\x03\xe8\xff\xfe"), NOT_UTF8),
    "a continuation of nothing": (lambda end: end.bad(CONTINUATION, b"x"), PROTOCOL),
    "a message within another": (
        lambda end: end.bad(BINARY, b"x", fin=False) + end.bad(BINARY, b"y"),
        PROTOCOL,
    ),
    "a length of 2^63": (lambda end: end.bad(BINARY, length=long_length(2**63)), TOO_BIG),
    "a length of 2^64 - 1": (lambda end: end.bad(BINARY, length=long_length(2**64 - 1)), TOO_BIG),
    "a length of a terabyte": (lambda end: end.bad(BINARY, length=long_length(2**40)), TOO_BIG),
    "fragments that are too big together": (
        lambda end: (
            end.bad(BINARY, bytes(100_000), fin=False)
            + end.bad(CONTINUATION, bytes(100_000), fin=False)
        ),
        TOO_BIG,
    ),
    "a close of one byte": (lambda end: end.bad(CLOSE, b"\x03"), PROTOCOL),
    **{
        f"a close with {code}": (close_with(code), PROTOCOL)
        for code in (0, 999, 1004, 1005, 1015, 1016, 2999)
    },
    # aiohttp takes these for codes; the answer to any is that of a close.
    **{
        f"a close with {code}": (close_with(code), {1000, *PROTOCOL})
        for code in (1006, 5000, 65_535)
    },
    "text": (lambda end: end.bad(TEXT, b"hello"), OURS),
    "text of no characters": (lambda end: end.bad(TEXT), OURS),
    "a message of no bytes": (lambda end: end.bad(BINARY), OURS),
    "a message of one byte": (lambda end: end.bad(BINARY, b"x"), OURS),
    # aiohttp reads them all the same, and what it reads is nonsense.
    "masked as only the other end may": (
        lambda end: end.bad(BINARY, b"x", masked=not end.masks),
        {*OURS, *PROTOCOL},
    ),
    "a length in more bytes than it needs": (
        lambda end: end.bad(BINARY, b"x", length=b"\x7e\x00\x01"),
        {*OURS, *PROTOCOL},
    ),
}


@pytest.fixture(params=list(BAD))
def bad(request: pytest.FixtureRequest) -> tuple[Making, set[int]]:
    return BAD[request.param]


@pytest.fixture
def quiet(caplog: pytest.LogCaptureFixture) -> Callable[[], None]:
    """That no more was logged than that somebody was refused."""

    def check() -> None:
        for record in caplog.records:
            assert record.levelno <= logging.WARNING, record
            assert record.exc_info is None, record
            assert record.name.startswith("goliath"), record

    return check


async def closing(end: Raw) -> int:
    """The code with which the other end closes, in time."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    code, _ = await end.closed()
    assert loop.time() - began < DEADLINE_S
    return code


# -- said to our listener --------------------------------------------------------------------


@asynccontextmanager
async def serving_an_honest_one() -> AsyncIterator[int]:
    """A port at which somebody is served before and after whatever happens."""
    near, far = Sessions(), Sessions()
    async with (
        listening(far, QUICK) as listener,
        dialing(make_dialer(listener.port, near, QUICK)),
    ):
        here, _ = await near.end(), await far.end()
        # On a busy machine a login or two may have been too slow for these deadlines.
        there = far.ends[-1]
        near.troubles.clear()
        yield listener.port
        here.send(control(1))
        assert await there.received(1) == [control(1)]
        assert len(near.ends) == 1, "it was cut off"
        assert not near.troubles


@pytest.mark.parametrize("logged_in", [False, True], ids=["a stranger", "a client"])
async def test_a_client_that_says_it_is_closed_as_the_rules_say(
    bad: tuple[Making, set[int]], logged_in: bool, quiet: Callable[[], None]
):
    make, expected = bad
    async with serving_an_honest_one() as port, calling(port) as raw:
        if logged_in:
            await Commander(port).log_in(raw)
        said = make(raw)
        raw.write(said)
        code = await closing(raw)
        if not logged_in and len(said) > QUICK.unauthenticated_max_bytes:
            expected = {ABORTED}  # a stranger who says too much is not told why
        assert code in expected
        if code in OURS:
            assert code == (4409 if logged_in else 4401)
    quiet()


@pytest.mark.parametrize("logged_in", [False, True], ids=["a stranger", "a client"])
async def test_half_a_frame_and_a_hang_up_is_the_end_of_the_connection(
    logged_in: bool, quiet: Callable[[], None]
):
    async with serving_an_honest_one() as port:
        for cut in (1, 2, 5, 8, 20):
            async with calling(port) as raw:
                if logged_in:
                    await Commander(port).log_in(raw)
                raw.write(raw.bad(BINARY, bytes(100))[:cut])
                raw.writer.write_eof()
                assert await closing(raw) in {ABORTED, 1000, 1002, 1006, *OURS}
    quiet()


async def test_half_a_frame_and_then_nothing_is_not_waited_for(quiet: Callable[[], None]):
    async with serving_an_honest_one() as port, calling(port) as raw:
        raw.write(raw.bad(BINARY, bytes(100))[:20])
        assert await closing(raw) == 4401
    quiet()


PINGS = 20_000


async def test_a_flood_of_pings_is_answered_and_keeps_nobody_out(quiet: Callable[[], None]):
    async with serving_an_honest_one() as port, calling(port) as raw:
        near = await Commander(port).log_in(raw)
        for _ in range(PINGS // 1000):
            raw.write(raw.bad(PING, b"x" * 125) * 1000)
            await raw.writer.drain()
        await near.leave()
        assert await closing(raw) == 1000
        assert len(raw.pongs) == PINGS
    quiet()


async def test_what_comes_behind_a_close_is_not_read(quiet: Callable[[], None]):
    async with serving_an_honest_one() as port, calling(port) as raw:
        await Commander(port).log_in(raw)
        raw.write(raw.bad(CLOSE, b"\x03\xe8") + raw.bad(0x3, b"x") * 100)
        assert await closing(raw) == 1000
    quiet()


# -- said to our dialer ----------------------------------------------------------------------


class Host:
    """A server that lets in, says something bad once, and is honest from then on."""

    def __init__(self, make: Making, *, logged_in: bool) -> None:
        self.port = 0
        self.codes: list[int] = []
        self.lieutenant = Lieutenant()
        self.over = asyncio.Event()
        self.good: asyncio.Queue[Conversation] = asyncio.Queue()
        self._make = make
        self._logged_in = logged_in

    async def talk(self, raw: Raw) -> None:
        if not self.codes and not self._logged_in:
            return await self._say_it(raw)
        conversation = await self.lieutenant.let_in(raw, self.port)
        if not self.codes:
            return await self._say_it(raw)
        self.good.put_nowait(conversation)
        await self.over.wait()
        return None

    async def _say_it(self, raw: Raw) -> None:
        raw.write(self._make(raw))
        self.codes.append(await closing(raw))


@pytest.mark.parametrize("logged_in", [False, True], ids=["before the login", "after it"])
async def test_a_server_that_says_it_is_closed_as_the_rules_say_and_called_again(
    bad: tuple[Making, set[int]], logged_in: bool, quiet: Callable[[], None]
):
    make, expected = bad
    host, near = Host(make, logged_in=logged_in), Sessions()
    async with answering(host.talk) as host.port:
        try:
            async with dialing(make_dialer(host.port, near, QUICK)):
                async with asyncio.timeout(5):
                    conversation = await host.good.get()
                (await near.end()).send(control(1))
                assert await conversation.hear() == control(1)
                assert len(near.ends) == 1
                assert conversation.resumed == logged_in
                host.over.set()
        finally:
            host.over.set()
    assert host.codes[0] in expected | ({4409} if expected & OURS else set())
    quiet()
