"""The session protocol between two ends, without a network and without a clock."""

from __future__ import annotations

import tracemalloc
from collections import deque
from dataclasses import dataclass, field

import orjson
import pytest
from hypothesis import given, settings, strategies as st

from goliath.config import KIB, MIB, TransportConfig
from goliath.errors import GoliathError, ProtocolError, SerializationError
from goliath.transport.codec import pack_header, unpack_frame
from goliath.transport.malloc import Heap
from goliath.transport.message import Message
from goliath.transport.messages import NeedFiles
from goliath.transport.protocol import SessionOver, SessionProtocol, Side
from tests.length import length
from tests.transport.ends import assign, bulk, control

SMALL = TransportConfig(chunk_bytes=KIB, unacked_max_bytes=64 * KIB)


@dataclass
class World:
    """A Commander, a Lieutenant, a link with frames on their way, and the time."""

    config: TransportConfig = SMALL
    now: float = 100.0
    checksum: bool = True
    compress: bool = False
    here: SessionProtocol = field(init=False)
    there: SessionProtocol = field(init=False)
    got_here: list[Message] = field(default_factory=list)
    got_there: list[Message] = field(default_factory=list)
    going: deque[bytes] = field(default_factory=deque)
    coming: deque[bytes] = field(default_factory=deque)

    def __post_init__(self) -> None:
        self.here = SessionProtocol(Side.COMMANDER, "lab:1", self.config, self.now)
        self.there = SessionProtocol(Side.LIEUTENANT, "home:2", self.config, self.now)
        self.link()

    def link(self) -> None:
        """A new link; what was on its way on the old one is lost."""
        for end in (self.here, self.there):
            end.link_lost()
        self.going.clear()
        self.coming.clear()
        for end, peer in ((self.here, self.there), (self.there, self.here)):
            end.link_made(
                peer.seen,
                proved_at=self.now,
                now=self.now,
                checksum=self.checksum,
                compress=self.compress,
            )

    def depart(self) -> None:
        while frame := self.there.next_frame(self.now):
            self.coming.append(frame)
        while frame := self.here.next_frame(self.now):
            self.going.append(frame)

    def arrive(self, frames: int = 10**9) -> None:
        for _ in range(min(frames, len(self.going))):
            self._hear(self.there, self.going.popleft(), self.got_there)
        for _ in range(min(frames, len(self.coming))):
            self._hear(self.here, self.coming.popleft(), self.got_here)

    def _hear(self, end: SessionProtocol, frame: bytes, got: list[Message]) -> None:
        message = end.receive_frame(frame, self.now)
        if message is not None:
            got.append(message)

    def exchange(self) -> None:
        """Until there is nothing left to say."""
        self.depart()
        while self.going or self.coming:
            self.arrive()
            self.depart()


def header_of(frame: bytes) -> dict[str, object]:
    return unpack_frame(frame, checksum=True)[0]


def test_messages_arrive_as_they_were_sent():
    world = World()
    sent = [assign(1, b"abc"), control(2), bulk(3)]
    for message in sent:
        world.here.send(message)
    world.exchange()
    assert world.got_there == [sent[1], sent[0], sent[2]]


def test_control_overtakes_bulk_between_the_chunks_of_a_big_message():
    world = World()
    world.here.send(bulk(1, bytes(10 * KIB)))
    world.going.extend(world.here.next_frame(world.now) for _ in range(3))
    world.here.send(control(7))
    world.exchange()
    assert [m.kind for m in world.got_there] == ["steal", "done"]
    assert len(world.got_there[1].payload) == 10 * KIB


def test_a_header_bigger_than_a_chunk_is_cut_too():
    world = World()
    message = NeedFiles(sha256s=["a" * 64] * 100)
    world.here.send(bulk(1, bytes(5 * KIB)))
    world.going.append(world.here.next_frame(world.now))
    world.here.send(message)
    world.exchange()
    assert world.got_there[0] == message
    assert world.got_there[1].kind == "done"


def test_the_header_of_a_cut_message_travels_with_the_beginning_of_its_payload():
    world = World()
    sent = bulk(1, bytes(range(256)) * 4)
    world.here.send(sent)
    world.depart()
    pieces = [bytes(unpack_frame(frame, checksum=True)[1]) for frame in world.going]
    assert len(pieces) == 2
    assert len(pieces[0]) == KIB
    assert b"".join(pieces).endswith(sent.payload)
    world.arrive()
    assert world.got_there == [sent]


def test_a_message_over_the_limit_is_refused_where_it_is_sent():
    world = World(TransportConfig(message_max_bytes=MIB))
    with pytest.raises(SerializationError, match=r"over the limit of 1,048,576.*GOLIATH_MESSAGE"):
        world.here.send(bulk(1, bytes(MIB)))


class Noted(Heap):
    """Remembers its rooms."""

    def __init__(self) -> None:
        self.rooms: list[memoryview] = []

    def room_for(self, size: int) -> memoryview:
        self.rooms.append(super().room_for(size))
        return self.rooms[-1]


def test_a_big_message_costs_no_memory_before_it_arrives_and_is_gathered_where_it_stays():
    world = World(TransportConfig(chunk_bytes=KIB, unacked_max_bytes=64 * MIB))
    ground = Noted()
    world.there.gather_in(ground)
    sent = bulk(1, bytes(range(256)) * (40 * KIB))
    world.here.send(sent)
    world.going.append(world.here.next_frame(world.now))
    tracemalloc.start()
    try:
        world.arrive(1)
        assert tracemalloc.get_traced_memory()[1] < MIB
    finally:
        tracemalloc.stop()
    world.exchange()
    assert world.got_there == [sent]
    assert world.got_there[0].payload.obj is ground.rooms[0].obj


def test_a_payload_is_not_copied_on_arrival():
    world = World()
    world.here.send(bulk(1, b"x" * 100))
    frame = world.here.next_frame(world.now)
    message = world.there.receive_frame(frame, world.now)
    assert message.payload.obj is frame


# -- cuts --------------------------------------------------------------------------------


def test_what_was_lost_with_a_link_is_sent_again_on_the_next():
    world = World()
    for n in range(10):
        world.here.send(bulk(n))
    world.depart()
    world.arrive(4)
    world.link()
    world.exchange()
    assert [m.batch for m in world.got_there] == list(range(10))


def test_a_big_message_survives_a_cut_in_its_middle():
    world = World()
    payload = bytes(range(256)) * 40
    world.here.send(bulk(1, payload))
    world.depart()
    world.arrive(5)
    world.link()
    world.exchange()
    assert bytes(world.got_there[0].payload) == payload


def test_a_frame_that_comes_twice_is_delivered_once():
    world = World()
    world.here.send(bulk(1))
    frame = world.here.next_frame(world.now)
    world.going.extend([frame, frame])
    world.arrive()
    assert len(world.got_there) == 1


def test_a_gap_is_an_error_a_new_link_mends():
    world = World()
    world.here.send(bulk(1))
    world.here.send(bulk(2))
    world.depart()
    world.going.popleft()
    with pytest.raises(ProtocolError, match="some were lost"):
        world.arrive()
    world.link()
    world.exchange()
    assert [m.batch for m in world.got_there] == [1, 2]


@pytest.mark.parametrize("where", [0, 4, 8, 30, -1])
def test_a_damaged_frame_is_an_error_a_new_link_mends(where: int):
    world = World()
    world.here.send(bulk(1, b"payload"))
    frame = bytearray(world.here.next_frame(world.now))
    frame[where] ^= 0x10
    with pytest.raises(ProtocolError):
        world.there.receive_frame(bytes(frame), world.now)
    world.link()
    world.exchange()
    assert len(world.got_there) == 1


@given(
    st.lists(
        st.tuples(
            st.sampled_from(
                ["send here", "send there", "big", "depart", "arrive", "some", "cut", "ping"]
            ),
            st.integers(1, 5),
        ),
        max_size=60,
    )
)
@settings(max_examples=length(70, 200), deadline=None)
def test_nothing_is_lost_doubled_or_disordered_by_any_cuts(script: list[tuple[str, int]]):
    patient = {"silence_max_s": 1e6, "session_kill_s": 1e6, "session_lost_s": 1e6}
    world = World(TransportConfig(chunk_bytes=300, ack_frames=3, **patient))
    here = there = 0
    for name, count in script:
        match name:
            case "send here":
                world.here.send(bulk(here, bytes(count)))
                here += 1
            case "big":
                world.here.send(bulk(here, bytes(400 * count)))
                here += 1
            case "send there":
                world.there.send(bulk(there))
                there += 1
            case "depart":
                world.depart()
            case "arrive":
                world.arrive()
            case "some":
                world.arrive(count)
            case "ping":
                world.now += 5.0
                assert not world.here.handle_timer(world.now)
            case "cut":
                world.link()
    world.link()
    world.exchange()
    assert [m.batch for m in world.got_there] == list(range(here))
    assert [m.batch for m in world.got_here] == list(range(there))


# -- acknowledgements and congestion -----------------------------------------------------


def test_whoever_only_listens_acknowledges_now_and_then():
    world = World()
    for n in range(200):
        world.here.send(bulk(n))
    world.depart()
    world.arrive()
    world.depart()
    assert [header_of(f)["t"] for f in world.coming] == ["ack"]
    assert header_of(world.coming[0])["a"] == 200


def test_whoever_only_listens_acknowledges_much_sooner_than_little():
    world = World(TransportConfig(ack_bytes=2000))
    for n in range(2):
        world.here.send(bulk(n, bytes(1000)))
        world.there.receive_frame(world.here.next_frame(world.now), world.now)
        ack = world.there.next_frame(world.now)
        assert (ack is not None) is (n == 1)
    world.here.receive_frame(ack, world.now)
    assert "0 in doubt" in repr(world.here)


def test_congestion_begins_above_the_limit_and_ends_at_half_of_it():
    world = World(TransportConfig(unacked_max_bytes=10_000, ack_frames=1))
    for n in range(10):
        world.here.send(bulk(n, bytes(1000)))
    assert world.here.congested
    acks = []
    for _ in range(5):
        frame = world.here.next_frame(world.now)
        world.there.receive_frame(frame, world.now)
        acks.append(world.there.next_frame(world.now))
    for ack in acks[:-1]:
        world.here.receive_frame(ack, world.now)
    assert world.here.congested
    for _ in range(2):
        world.there.receive_frame(world.here.next_frame(world.now), world.now)
        acks.append(world.there.next_frame(world.now))
    world.here.receive_frame(acks[-1], world.now)
    assert not world.here.congested


# -- time --------------------------------------------------------------------------------


def test_the_commander_pings_and_the_lieutenant_answers():
    world = World()
    assert world.here.next_deadline() == world.now + 5.0
    world.now += 5.0
    assert not world.here.handle_timer(world.now)
    world.depart()
    assert [header_of(f) for f in world.going] == [{"t": "ping", "n": 1, "s": 0, "a": 0}]
    world.arrive()
    world.depart()
    assert [header_of(f) for f in world.coming] == [{"t": "pong", "n": 1, "s": 0, "a": 0}]


def test_a_silent_link_is_dead_but_only_at_the_second_look():
    world = World()
    for end in (world.here, world.there):
        assert not end.handle_timer(world.now + 14.9)
        assert not end.handle_timer(world.now + 15.0)
        assert end.next_deadline() <= world.now + 15.5
        assert end.handle_timer(world.now + 15.5)


def test_a_frame_that_waited_while_the_process_was_stopped_saves_the_link():
    world = World()
    world.now += 20.0
    assert not world.there.handle_timer(world.now)
    world.here.handle_timer(world.now)
    world.exchange()
    assert not world.there.handle_timer(world.now + 0.5)


def test_a_lost_tail_is_noticed_by_the_next_ping():
    world = World()
    world.here.send(bulk(1))
    world.depart()
    world.going.clear()
    world.now += 5.0
    world.here.handle_timer(world.now)
    world.depart()
    with pytest.raises(ProtocolError, match="sent 1 frames, 0 arrived"):
        world.arrive()


def test_a_ping_before_the_frames_in_doubt_is_no_lost_tail():
    world = World()
    for n in range(3):
        world.here.send(bulk(n))
    world.depart()
    world.link()
    world.now += 5.0
    world.here.handle_timer(world.now)
    world.exchange()
    assert [m.batch for m in world.got_there] == [0, 1, 2]


def test_the_lieutenant_ends_a_silent_session_and_neither_sends_nor_accepts_after_that():
    world = World()
    world.here.send(bulk(1))
    world.there.send(bulk(2))
    frame = world.here.next_frame(world.now)
    later = world.now + 60.0
    for act in (
        lambda: world.there.next_frame(later),
        lambda: world.there.receive_frame(frame, later),
        lambda: world.there.handle_timer(later),
        lambda: world.there.link_made(0, proved_at=later, now=later, checksum=True),
    ):
        with pytest.raises(SessionOver) as over:
            act()
        assert isinstance(over.value.error, GoliathError)
        assert "nothing was heard from home:2 for 60 s" in str(over.value.error)


def test_the_commander_gives_up_later_than_the_lieutenant_kills():
    world = World()
    world.now += 5.0
    world.here.handle_timer(world.now)
    world.depart()
    world.arrive()
    heard = world.now
    world.here.link_lost()
    world.there.link_lost()
    with pytest.raises(SessionOver):
        world.there.handle_timer(heard + 60.0)
    assert not world.here.handle_timer(heard + 74.0)
    with pytest.raises(SessionOver) as over:
        world.here.handle_timer(heard + 75.0)  # not from the login on, the last certain answer
    assert "lab:1 is lost" in str(over.value.error)


# -- goodbye -----------------------------------------------------------------------------


def test_a_goodbye_follows_everything_that_was_sent():
    world = World()
    world.here.send(bulk(1, bytes(3 * KIB)))
    world.here.leave()
    world.here.send(bulk(2))
    with pytest.raises(SessionOver) as over:
        world.depart()
    assert over.value.error is None
    with pytest.raises(SessionOver) as over:
        world.arrive()
    assert over.value.error is None
    assert [m.batch for m in world.got_there] == [1]


def test_a_hurried_goodbye_drops_bulk_that_has_not_left_but_no_control():
    world = World()
    world.here.send(bulk(1, bytes(3 * KIB)))
    world.here.send(control(2))
    world.here.leave(hurry=True)
    world.going.append(world.here.next_frame(world.now))
    world.going.append(world.here.next_frame(world.now))
    assert [header_of(f)["t"] for f in world.going] == ["steal", "bye"]


# -- nonsense ----------------------------------------------------------------------------


def part(seq: int, **changes: object) -> bytes:
    header = {"t": "part", "q": seq, "a": 0, "l": 1, "h": 10, "n": 100, "at": 0} | changes
    payload = b"x" * int(header.pop("len", 50))
    return pack_header(header, payload, checksum=True) + payload


@pytest.mark.parametrize(
    "frame",
    [
        part(1, n=2**40),
        part(1, n=True),
        part(1, h=0),
        part(1, h=101),
        part(1, h=None),
        part(1, at=7),
        part(1, l=2),
        part(1, l=-1),
        part(1, l="1"),
        part(1, len=0),
        part(1, len=101),
        part(1, len=100),
        pack_header({"t": "nonsense", "q": 1, "a": 0}, checksum=True),
        pack_header({"t": ["part"], "q": 1, "a": 0}, checksum=True),
        pack_header({"t": "steal", "q": 1, "a": 0}, checksum=True),
        pack_header({"t": "steal", "q": 1, "a": 0, "count": "1"}, checksum=True),
    ],
)
def test_nonsense_that_arrived_as_it_was_sent_ends_the_session(frame: bytes):
    world = World()
    with pytest.raises(SessionOver) as over:
        world.there.receive_frame(frame, world.now)
    assert isinstance(over.value.error, ProtocolError)


@pytest.mark.parametrize(
    "header",
    [
        {"t": "steal", "a": 0, "count": 1},
        {"t": "steal", "q": 1, "count": 1},
        {"t": "steal", "q": -1, "a": 0, "count": 1},
        {"t": "steal", "q": 1.0, "a": 0, "count": 1},
        {"t": "steal", "q": 1, "a": 5, "count": 1},
        {"t": "steal", "q": True, "a": 0, "count": 1},
        {"t": "ping", "a": 0, "s": 0},
        {"t": "ping", "a": 0, "n": 1},
    ],
)
def test_frames_that_are_not_numbered_well_are_protocol_errors(header: dict[str, object]):
    world = World()
    with pytest.raises(ProtocolError):
        world.there.receive_frame(pack_header(header, checksum=True), world.now)


def test_an_announced_size_costs_no_memory_before_its_bytes_arrive():
    import tracemalloc

    world = World(TransportConfig())
    tracemalloc.start()
    header = {"t": "part", "q": 1, "a": 0, "l": 1, "h": 11, "n": 500 * MIB, "at": 0}
    payload = b'{"t":"any"}' + b"x" * 50  # so that room is made for what is to follow
    frame = pack_header(header, payload, checksum=True) + payload
    assert world.there.receive_frame(frame, world.now) is None
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < MIB


@given(st.binary(max_size=200))
def test_random_bytes_are_protocol_errors(data: bytes):
    with pytest.raises(ProtocolError):
        World().there.receive_frame(data, 100.0)


@given(st.integers(0, 10**6), st.integers(0, 255), st.booleans())
@settings(max_examples=length(100, 300), deadline=None)
def test_mutated_frames_are_never_delivered_wrong(where: int, flip: int, cut: bool):
    world = World()
    message = assign(1, b"payload")
    world.here.send(message)
    frame = bytearray(world.here.next_frame(world.now))
    if cut:
        del frame[where % len(frame) :]
    else:
        frame[where % len(frame)] ^= flip
    try:
        got = world.there.receive_frame(bytes(frame), world.now)
    except ProtocolError:
        return
    assert got == message


def test_unknown_fields_of_a_newer_peer_are_ignored():
    world = World()
    header = {"t": "steal", "q": 1, "a": 0, "count": 3, "new": [1]}
    assert world.there.receive_frame(pack_header(header, checksum=True), world.now) == control(3)


def test_under_tls_there_is_no_checksum():
    world = World(checksum=False)
    world.here.send(control(1))
    frame = world.here.next_frame(world.now)
    assert frame[4:8] == bytes(4)
    assert world.there.receive_frame(frame, world.now) == control(1)
    assert orjson.loads(frame[8:])["q"] == 1
