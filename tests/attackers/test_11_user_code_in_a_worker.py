"""Attacker 11: user code in a worker, which writes what it likes on the worker's own sockets.

It costs its worker, and its own session's calls; the node and everybody else go on.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import socket
import time
from pathlib import Path
from typing import Any

import orjson
import pytest

from goliath import Commander, SerializationError, WorkerCrashedError
from goliath.actors.line import Line
from goliath.actors.page import PageState
from goliath.errors import ProtocolError
from goliath.machine import resident_bytes
from goliath.testing import processes
from goliath.testing.processes import kill
from goliath.transport import (
    call_messages as call_msg,
    messages as msg,
    worker_messages as worker_msg,
)
from goliath.transport.blocking import LENGTH, pack_pipe_frame
from goliath.transport.codec import PREFIX, to_header
from goliath.transport.message import Message
from tests.actors.test_lieutenant import (
    ENVIRONMENT,
    FUNCTION,
    FakeCommander,
    FakeProcess,
    House,
    a_house,
    assign,
    unchecked,
    until,
)
from tests.commanders import Other
from tests.e2e.calls import nap, same
from tests.lieutenants import Lieutenant

MIB = 1 << 20
SOCKETS = {"calls": 100, "control": 101}  # of a worker: out of the way of those who mean no harm
MUTATIONS = 20_000
SEEDS = 50


# -- real workers of a real node -------------------------------------------------------------


def write(number: int, data: bytes) -> None:
    """Say it to the Lieutenant, and wait for what comes of it."""
    with socket.socket(fileno=os.dup(number)) as sock:
        sock.setblocking(True)
        sock.sendall(data)
    time.sleep(30)


def packed(message: Message) -> bytes:
    head, payload = pack_pipe_frame(message)
    return head + bytes(payload)


def nested(depth: int) -> bytes:
    """A frame whose header is lists within lists."""
    text = b'{"t":"ready","error":' + b"[" * depth + b"]" * depth + b"}"
    frame = PREFIX.pack(len(text), 0) + text
    return LENGTH.pack(len(frame)) + frame


def with_pieces(*entries: list[int]) -> bytes:
    """A frame that says of results what is beside them."""
    text = orjson.dumps({**to_header(worker_msg.Progress(1, 0, 1, 10, True)), "b": entries})
    frame = PREFIX.pack(len(text), 0) + text
    return LENGTH.pack(len(frame)) + frame


FORGED: dict[str, bytes] = {
    "garbage": LENGTH.pack(10) + b"garbage!!!",
    "more than any message may have": LENGTH.pack(1 << 60) + bytes(MIB),
    "a header longer than its frame": LENGTH.pack(8) + PREFIX.pack(1 << 31, 0),
    "a header of many megabytes": LENGTH.pack(300 * MIB) + PREFIX.pack(290 * MIB, 0),
    "lists within lists": nested(100_000),
    "results of a range it does not run": packed(worker_msg.Progress(99, 0, 1, 10, True)),
    "results of calls it was not given": packed(worker_msg.Progress(1, 0, 99, 10, True)),
    "what a Lieutenant says to a Commander": packed(msg.RangeDone(1, 1, 0, 1, 10)),
    "what a Commander says to a Lieutenant": packed(assign()),
    "a piece that is not there": with_pieces([MIB]),
    "a piece that is in no arena": with_pieces([1 << 50, MIB, 1]),
    "a piece that begins in an arena and ends behind it": with_pieces([0, 1 << 60, 1]),
    "what a zygote is told": b'\x20\0\0\0{"fork": 1, "tag": "x", "s": 1}\n',
}


@pytest.mark.parametrize("line", SOCKETS)
@pytest.mark.parametrize("what", FORGED)
def test_forged_frames_cost_the_worker_and_its_own_call_only(
    node: Lieutenant, what: str, line: str
):
    with Commander([node.address]) as honest, Commander([node.address]) as hostile:
        running = honest.submit(nap, 0.5)
        with pytest.raises(WorkerCrashedError):
            hostile.run(write, [(SOCKETS[line], FORGED[what])], max_retries=0)
        assert running.result() == 0.5
        assert honest.run(same, [(1,)]) == [1]
        assert hostile.run(same, [(2,)]) == [2]
    assert node.process.poll() is None


def test_a_result_bigger_than_a_message_is_a_typed_error_and_the_node_lives(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setenv("GOLIATH_MESSAGE_MAX_BYTES", str(4 * MIB))

    def big(size: int) -> bytes:
        return bytes(size)

    def many(size: int) -> list[bytes]:
        return [bytes(size)]

    def put(size: int) -> int:
        import goliath

        return len(goliath.get(goliath.put(bytes(size))))

    with Lieutenant(2) as node, Commander([node.address]) as commander:
        for ask in (
            lambda: commander.run(big, [(8 * MIB,)]),
            lambda: commander.submit(big, 8 * MIB).result(),
            lambda: commander.run(many, [(8 * MIB,)]),
        ):
            with pytest.raises(SerializationError, match="the most that can be returned at a time"):
                ask()
        with pytest.raises(SerializationError, match="over the limit of"):
            commander.submit(put, 8 * MIB).result()
        # Many that fit one by one are not taken for one that does not.
        assert len(commander.run(many, [(MIB,)] * 20)) == 20
        assert node.process.poll() is None


FLOOD = """
    import socket
    from goliath.transport import call_messages as call_msg
    from goliath.transport.blocking import pack_pipe_frame

    @goliath.remote
    def flood(begun):
        head, payload = pack_pipe_frame(call_msg.StoreValue(0, "r-1", [], bytes(1 << 20)))
        sock = socket.socket(fileno=os.dup(100))
        sock.setblocking(True)
        Path(begun).touch()
        while True:
            sock.sendall(head + payload)

    goliath.get(flood.remote(sys.argv[2]))
"""


def test_a_worker_that_talks_without_end_is_read_no_faster_than_its_commander_reads(
    node: Lieutenant, other: Other, tmp_path: Path
):
    with Commander([node.address]) as honest:
        assert honest.run(same, [(1,)]) == [1]
        before = resident_bytes(node.pid)
        hostile = other.start(FLOOD, tmp_path / "begun")
        processes.until(lambda: (tmp_path / "begun").exists(), 20, "the flood")
        kill(hostile.pid, signal.SIGSTOP)
        began, most = time.monotonic(), 0
        while time.monotonic() - began < 1.5:
            assert honest.run(same, [(1,)]) == [1]
            most = max(most, resident_bytes(node.pid) - before)
        assert 10 * MIB < most < 200 * MIB  # 64 in doubt, and what is on its way
        kill(hostile.pid, signal.SIGKILL)
    assert node.process.poll() is None


# -- the seam itself --------------------------------------------------------------------------


async def test_whatever_bytes_come_only_a_protocol_error_comes_of_it():
    """Mutations of honest frames, each on a line of its own."""
    rng = random.Random(11)
    loop, buffer = asyncio.get_running_loop(), bytearray(1 << 16)
    honest = [packed(message) for message in said_by_workers(rng)]
    ends: dict[str, int] = {}
    for _ in range(MUTATIONS // 10):
        ours, theirs = socket.socketpair()
        heard: list[object] = []
        with ours, theirs:
            line = Line(loop, ours, buffer, heard.append, heard.append, 4 * MIB)
            for _ in range(10):
                theirs.sendall(mutated(rng.choice(honest), rng))
            theirs.shutdown(socket.SHUT_WR)
            line.drain()
            line.close()
        end = heard[-1]
        assert end is None or isinstance(end, ProtocolError), end
        assert all(isinstance(message, Message) for message in heard[:-1])
        ends[type(end).__name__] = ends.get(type(end).__name__, 0) + 1
    assert set(ends) == {"ProtocolError", "NoneType"}, "the mutations are too mild, or too wild"


def said_by_workers(rng: random.Random) -> list[Message]:
    return [
        worker_msg.WorkerReady(),
        worker_msg.Progress(1, 0, 3, 10, True, payload=bytes(30)),
        worker_msg.Progress(1, 0, 3, 10, False, deposits=[[0, 5]], payload=bytes(9)),
        worker_msg.Yielded(1, 2),
        worker_msg.Waiting(1, True),
        call_msg.StoreValue(0, "r-1", ["r-2"], bytes(rng.randrange(100))),
        call_msg.AwaitRefs(0, ["r-1"]),
        call_msg.NestedFunction(1, "f", "f", [], b"x"),
    ]


def mutated(frame: bytes, rng: random.Random) -> bytes:
    spoilt = bytearray(frame)
    for _ in range(rng.choice((0, 0, 1, 1, 2, 8))):
        match rng.randrange(4):
            case 0:
                spoilt[rng.randrange(len(spoilt))] ^= 1 << rng.randrange(8)
            case 1:
                place = rng.randrange(4, len(spoilt))
                spoilt[place:place] = rng.randbytes(rng.randrange(1, 9))
            case 2:
                del spoilt[rng.randrange(4, len(spoilt)) :]
            case _:
                spoilt = spoilt.replace(b"1", rng.choice((b"-1", b"1e9", b"null", b'"a"', b"[]")))
        if len(spoilt) < 5:
            break
    return bytes(spoilt)


ODD: list[Any] = [-1, 0, 1, 2, 3, 99, 1 << 62, True, None, "a", [], [[]], [1, 2], 0.5]
FIELDS = {
    worker_msg.Progress: (
        "serial",
        "lo",
        "hi",
        "elapsed_us",
        "final",
        "retryable",
        "deposits",
        "refs",
    ),
    worker_msg.Yielded: ("serial", "at"),
    worker_msg.Waiting: ("serial", "waiting"),
    call_msg.StoreValue: ("ref", "refs"),
    call_msg.AwaitRefs: ("refs",),
}
NUMBERS = {"serial", "lo", "hi", "elapsed_us", "at"}
LISTS = {"retryable", "deposits", "refs"}


def forged(rng: random.Random, process: FakeProcess) -> Message:
    """Something like what it should say, with a field or two of it changed, as the codec lets
    them through: numbers are numbers and lists are lists."""
    ranges = [m for m in process.heard if isinstance(m, worker_msg.RunRange)]
    range_ = rng.choice(ranges) if ranges else worker_msg.RunRange(1, 0, 3, "f", "rows", False)
    said: Message = rng.choice(
        [
            worker_msg.Progress(range_.serial, range_.lo, range_.hi, 10, True, payload=bytes(5)),
            worker_msg.Progress(range_.serial, range_.lo, range_.lo, 10, False),
            worker_msg.Yielded(range_.serial, rng.randrange(-2, 5)),
            worker_msg.Waiting(range_.serial, rng.random() < 0.5),
            worker_msg.WorkerReady(rng.choice(("", "", "it is broken"))),
            call_msg.StoreValue(0, "r-1", [], b"x"),
            call_msg.AwaitRefs(0, ["r-1"]),
            msg.RangeDone(1, 1, 0, 3, 10),
            msg.Draining(),
        ]
    )
    for name in FIELDS.get(type(said), ()):
        if rng.random() < 0.2:
            right = [v for v in ODD if fits(name, v)]
            said = unchecked(said, **{name: rng.choice(right)})
    return said


def fits(name: str, value: Any) -> bool:
    if name in NUMBERS:
        return type(value) is int
    if name in LISTS:
        return isinstance(value, list)
    return isinstance(value, bool) if name in {"final", "waiting"} else isinstance(value, str)


async def whisper(house: House, hostile: FakeCommander, rng: random.Random) -> None:
    """Have all workers of a session say this and that."""
    for _ in range(30):
        own = [
            process
            for process, session in zip(house.nursery.processes, house.nursery.fences, strict=True)
            if session == "s1" and not process.killed
        ]
        for process in own:
            process.now = PageState(rng.randrange(4), rng.randrange(-1, 4))
            process.say(forged(rng, process))
        if rng.random() < 0.2:
            hostile.say(msg.StealBatches(rng.randrange(3)))
        await asyncio.sleep(0)


@pytest.mark.parametrize("seed", range(0, SEEDS, 10))
async def test_whatever_workers_of_one_session_say_the_others_get_what_they_are_due(seed: int):
    for number in range(seed, seed + 10):
        rng = random.Random(number)
        async with a_house(slots=4) as house:
            hostile, honest = house.commander(), house.commander()
            for commander in (hostile, honest):
                commander.say(FUNCTION, ENVIRONMENT)
            hostile.say(*(assign(batch) for batch in range(1, 4)))
            await until(lambda: house.nursery.processes)
            await whisper(house, hostile, rng)
            honest.say(assign(7))
            await serve(house, "s2", honest)
            assert house.alive(), f"seed {number}"
            assert not honest.closed
            ours = [m for m in honest.heard if isinstance(m, msg.RangeDone | msg.RangeReturned)]
            assert [m.batch for m in ours] == [7], f"seed {number}: what was never asked"


async def serve(house: House, session: str, commander: FakeCommander) -> None:
    """Be the honest workers of a session, until it has heard of all its calls."""
    ready: set[int] = set()
    async with asyncio.timeout(10):
        while not any(isinstance(m, msg.RangeDone) for m in commander.heard):
            fakes = zip(house.nursery.processes, house.nursery.fences, strict=True)
            for number, (process, whose) in enumerate(fakes):
                if whose == session and number not in ready:
                    process.say(worker_msg.WorkerReady())
                    if any(isinstance(m, worker_msg.RunRange) for m in process.heard):
                        ready.add(number)
                        process.do()
            await asyncio.sleep(0.002)
