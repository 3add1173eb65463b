"""Who hears the spoiled frames: each parser of either end, up to the actors that act on messages.

A target is fed *cases*: a few frames, one after the other, in a fresh world. Whatever comes out of
it but a `ProtocolError`, or the typed refusal of a login, is a defect.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import suppress

import orjson

from goliath.actors import desk
from goliath.actors.job import job_ids
from goliath.actors.line import READ_BYTES, Line
from goliath.config import TransportConfig
from goliath.errors import AuthenticationError, GoliathError, ProtocolError, VersionMismatchError
from goliath.transport import (
    call_messages as call_msg,
    messages as msg,
    worker_messages as worker_msg,
)
from goliath.transport.blocking import LENGTH, BlockingPipe
from goliath.transport.codec import from_wire, pack_frame, unpack_frame
from goliath.transport.handshake import ServerHandshake
from goliath.transport.message import Message
from goliath.transport.protocol import SessionOver, SessionProtocol, Side
from tests.actors import test_commander, test_lieutenant
from tests.fuzz.mutation import SMALL
from tests.transport.test_handshake import Login, client, server, welcome_of

Case = Sequence[bytes]
Feed = Callable[[Case], Awaitable[int]]
"""Takes a case, and says how many of its frames were refused."""

AnyHouse = test_lieutenant.House | test_commander.House

NOW = 100.0
CONFIG = TransportConfig(chunk_bytes=512, message_max_bytes=1 << 20)
TURNS = 2  # of the loop, between two frames


while next(job_ids) < 2:  # which `commander` calls its jobs, that nobody else may
    continue


class DefectError(AssertionError):
    """A frame did more than be refused."""


# -- the codec -----------------------------------------------------------------------------


async def decoder(case: Case) -> int:
    """Bytes to messages, with checksums and without."""
    refused = 0
    for frame in case:
        for checksum in (True, False):
            try:
                from_wire(*unpack_frame(frame, checksum=checksum))
            except ProtocolError:
                refused += not checksum
    return refused


# -- sessions ------------------------------------------------------------------------------


def _linked(side: Side) -> SessionProtocol:
    session = SessionProtocol(side, "a peer", CONFIG, NOW)
    session.link_made(0, proved_at=NOW, now=NOW, checksum=True)
    return session


def renumbered(frame: bytes, number: int) -> bytes:
    """The frame as the next one of a session, so that it is not dropped unread."""
    try:
        header, payload = unpack_frame(frame, checksum=False)
    except ProtocolError:
        return frame
    header |= {"q": number, "a": 0}
    return pack_frame(orjson.dumps(header), payload, checksum=True)


def session(side: Side) -> Feed:
    """One end of a session; what is refused ends the link, or the session."""

    async def feed(case: Case) -> int:
        refused, end = 0, _linked(side)
        for place, frame in enumerate(case):
            # Every other one as it is, which most often has a number that cannot be.
            frame = renumbered(frame, end.seen + 1) if place % 2 else frame
            try:
                end.receive_frame(frame, NOW)
            except ProtocolError:
                refused += 1
                end.link_lost()
                end.link_made(0, proved_at=NOW, now=NOW, checksum=True)
            except SessionOver as over:
                refused += 1
                _expect(over.error is None or isinstance(over.error, ProtocolError), over)
                end = _linked(side)
            while end.next_frame(NOW) is not None:
                continue
        return refused

    return feed


def _expect(right: bool, what: object) -> None:
    if not right:
        raise DefectError(repr(what))


def _expect_alive(house: AnyHouse, message: Message) -> None:
    if not house.alive():
        raise DefectError(f"it is dead of {message!r}") from house.actor.crash


# -- the sockets of workers ----------------------------------------------------------------


def _stream(case: Case) -> bytes:
    return b"".join(LENGTH.pack(len(frame)) + frame for frame in case)


async def line(case: Case) -> int:
    """The Lieutenant's end, where a worker has written what it likes."""
    near, far = socket.socketpair()
    errors: list[Exception | None] = []
    messages: list[Message] = []
    loop = asyncio.get_running_loop()
    end = Line(loop, near, bytearray(READ_BYTES), messages.append, errors.append)
    try:
        far.setblocking(False)
        with suppress(BlockingIOError):  # what it does not take now, is cut off
            far.send(_stream(case))
        far.close()
        end.drain()
        for _ in range(TURNS):
            await asyncio.sleep(0)
    finally:
        end.close()
    for error in errors:
        _expect(error is None or isinstance(error, ProtocolError | OSError), error)
    return sum(error is not None for error in errors)


async def pipe(case: Case) -> int:
    """The worker's end. It trusts its Lieutenant, and must end well all the same."""
    near, far = socket.socketpair()
    end = BlockingPipe(near)
    try:
        far.setblocking(False)
        with suppress(BlockingIOError):
            far.send(_stream(case))
        far.close()
        while end.receive() is not None:
            continue
    except ProtocolError:
        return 1
    finally:
        end.close()
    return 0


# -- the actors ----------------------------------------------------------------------------


def _messages(case: Case) -> Iterator[Message | None]:
    """What gets through the codec; None for a frame that does not."""
    for frame in case:
        try:
            header, payload = unpack_frame(frame, checksum=False)
            yield from_wire(header, payload)
        except ProtocolError:
            yield None


async def _turns() -> None:
    for _ in range(TURNS):
        await asyncio.sleep(0)


FROM_WORKERS = (
    worker_msg.Progress
    | worker_msg.Yielded
    | worker_msg.Waiting
    | worker_msg.WorkerReady
    | call_msg.FromCalls
)


async def lieutenant(case: Case) -> int:
    """A Lieutenant that a Commander, or the code in a worker, tells whatever it likes. Another
    Commander is served as ever, before and after."""
    refused = 0
    async with test_lieutenant.a_house() as house:
        honest, hostile = house.commander("alice"), house.commander("mallory")
        honest.say(test_lieutenant.FUNCTION, test_lieutenant.ENVIRONMENT)
        for place, message in enumerate(_messages(case)):
            if message is None:
                refused += 1
                continue
            if hostile.closed:  # it is not a session any more: here is another one
                refused += 1
                hostile = house.commander("mallory")
            if place % STRETCH == 0:
                fresh = {"function": "f", "environment": f"e{place}"}
                around = msg.DefineEnvironment(fresh["environment"], [], {})
                batch = test_lieutenant.assign(100 + place, keep_over=1000, **fresh)
                hostile.say(test_lieutenant.FUNCTION, around, batch)
            workers = house.nursery.processes
            of_worker = isinstance(message, FROM_WORKERS)
            if workers and of_worker == (place % STRETCH != 1):
                worker = workers[-1 - place % min(len(workers), 3)]
                worker.say(_about_what_runs(message, worker))
            else:
                hostile.say(message)
            await _turns()
            _expect_alive(house, message)
        await _serves(house, honest)
        for one in (hostile, honest):
            one.channel.close()
        await _turns()
    return refused


STRETCH = 7  # frames, after which those that hear them are given something to do again


def _about_what_runs(message: Message, worker: test_lieutenant.FakeProcess) -> Message:
    """A number that was true when it was recorded would be of nothing that runs here: here is
    the one that is. What was put there on purpose is small, and stays."""
    running = [run for run in worker.heard if isinstance(run, worker_msg.RunRange)]
    serial = getattr(message, "serial", 0)
    if running and serial >= SMALL:
        message.serial = running[-1].serial  # type: ignore[attr-defined]
    return message


async def _serves(house: test_lieutenant.House, honest: test_lieutenant.FakeCommander) -> None:
    _expect(not honest.closed, "the session of another has ended")
    honest.say(msg.AskStatus())
    await _turns()
    statuses = [said for said in honest.heard if isinstance(said, msg.Status)]
    _expect(len(statuses) == 1, honest.heard)


async def commander(case: Case) -> int:
    """A Commander of a Lieutenant that says whatever it likes, while another one serves it."""
    refused = 0
    async with test_commander.a_house() as house:
        hostile = house.node("a:1", slots=2)
        jobs = [house.job(name=name) for name in ("foo", "bar")]
        for place, message in enumerate(_messages(case)):
            if message is None:
                refused += 1
                continue
            if place % STRETCH == 0:
                house.ref.tell(desk.FindActors(lambda _: None))
                for job, _ in jobs:
                    house.submit(job, 3 * place)
            if hostile.closed:
                refused += 1
                hostile = house.node("a:1", slots=2)
            hostile.say(_about_what_was_sent(message, hostile))
            await _turns()
            _expect_alive(house, message)
        hostile.channel.close()
        await _turns()
    for _, owner in jobs:
        _expect(all(isinstance(e, GoliathError) for e in owner.broken), owner.broken)
    return refused


def _about_what_was_sent(message: Message, node: test_commander.FakeNode) -> Message:
    """See `_about_what_runs`: batches that it has, and jobs that there are."""
    sent = [batch for batch in node.heard if isinstance(batch, msg.AssignBatch)]
    if sent and getattr(message, "batch", 0) >= SMALL:
        message.batch, message.attempt = sent[-1].batch, sent[-1].attempt  # type: ignore[attr-defined]
    if getattr(message, "job", 0) >= SMALL:
        message.job = 1  # type: ignore[attr-defined]
    return message


# -- the login -----------------------------------------------------------------------------

REFUSALS = (ProtocolError, AuthenticationError, VersionMismatchError)


HONEST = Login(client(), server()).run().messages
"""What is said if nobody interferes: both always have the same nonces here."""


async def login(case: Case) -> int:
    """Both sides of a login, message by message: the case has what stands in the place of each.
    An empty one stays as it was."""
    near, far = client(), server()
    said: list[bytes] = []
    speakers: list[Callable[[], bytes]] = [
        near.hello,
        lambda: far.challenge(said[0]),
        lambda: near.prove(said[1]),
        lambda: _welcome(far, said[2]),
    ]
    try:
        for speak, instead in zip(speakers, case, strict=True):
            own = speak()
            said.append(instead or own)
        heard_by_client = said[1::2]
        near.finish(said[3])
    except REFUSALS:
        let_in = len(said) == len(speakers)
        _expect(not let_in or said[::2] == HONEST[::2], "a login that was changed was let in")
        return 1
    _expect(heard_by_client == HONEST[1::2], "a welcome that was changed was believed")
    return 0


def _welcome(far: ServerHandshake, proof: bytes) -> bytes:
    far.verify(proof)
    return welcome_of(far)


TARGETS: dict[str, Feed] = {
    "decoder": decoder,
    "session of a Commander": session(Side.COMMANDER),
    "session of a Lieutenant": session(Side.LIEUTENANT),
    "Lieutenant's end of a worker's socket": line,
    "worker's end": pipe,
    "Lieutenant": lieutenant,
    "Commander": commander,
    "login": login,
}
