"""What leaves first: control, then bulk in its order, but for small batches behind big ones."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import orjson
import pytest
from hypothesis import given, settings, strategies as st

from goliath.config import KIB, MIB
from goliath.errors import ProtocolError, SerializationError
from goliath.transport.arena import Arena
from goliath.transport.exchange import Exchange
from goliath.transport.lanes import PART, PASSING_MAX, Gatherer, Outbox
from goliath.transport.message import Message
from goliath.transport.messages import AssignBatch, ForgetPieces, KeepPiece, RangeDone, StealBatches
from goliath.transport.payload import Bundle
from goliath.transport.worker_messages import DefineFunction
from tests.transport.ends import assign


def outbox() -> Outbox:
    return Outbox(chunk_bytes=KIB, message_max_bytes=MIB)


def big(number: int) -> AssignBatch:
    return assign(number, bytes(3 * KIB))


def small(number: int) -> AssignBatch:
    return assign(number, b"x")


def function(number: int) -> DefineFunction:
    return DefineFunction(str(number), "f")


def of_actor(message: AssignBatch) -> AssignBatch:
    message.actor = True
    return message


def left(box: Outbox) -> list[Message]:
    """All that is left, as it arrives."""
    gatherers = [Gatherer(MIB), Gatherer(MIB)]
    arrived = []
    while (message := one(box, gatherers)) is not None:
        arrived.append(message)
    assert box.waiting_bytes == 0
    return arrived


def one(box: Outbox, gatherers: list[Gatherer]) -> Message | None:
    from goliath.transport.codec import from_header

    while (frame := box.take()) is not None:
        header = orjson.loads(frame[0] + b"}")
        payload = memoryview(frame[1])
        if header["t"] != PART:
            return from_header(header, payload)
        message = gatherers[header["l"]].add(header, payload)
        if message is not None:
            return message
    return None


def numbers(messages: list[Message]) -> list[object]:
    return [getattr(m, "batch", getattr(m, "digest", m.kind)) for m in messages]


def put(*messages: Message) -> Outbox:
    box = outbox()
    for message in messages:
        box.put(message)
    return box


def test_a_small_batch_passes_big_ones():
    assert numbers(left(put(big(1), big(2), small(3), small(4)))) == [3, 4, 1, 2]


def keep(key: int) -> KeepPiece:
    return KeepPiece(key, bytes(3 * KIB))


def taking(number: int, *keys: int) -> AssignBatch:
    batch = small(number)
    batch.deposits = [[key, 3 * KIB] for key in keys]
    return batch


def test_a_small_batch_passes_what_is_to_be_kept_unless_it_takes_some_of_it():
    box = put(keep(-2), taking(1, -2), small(2), taking(3, 5), big(4), small(5))
    assert numbers(left(box)) == [2, 3, 5, "keep", 1, 4]


def test_nothing_is_forgotten_before_it_was_kept_or_taken():
    box = put(small(1), keep(-2), taking(2, -2), ForgetPieces([-2]), small(3), keep(-3))
    assert numbers(left(box)) == [1, 3, "keep", 2, "forget-pieces", "keep"]


def test_what_takes_what_was_kept_before_waits_for_nothing_but_big_ones():
    box = put(taking(1, -2), small(2), ForgetPieces([-2]), small(3))
    assert numbers(left(box)) == [1, 2, "forget-pieces", 3]


def said(kind: str, number: int, kept: int) -> Message:
    match kind:
        case "keep":
            return keep(kept)
        case "forget":
            return ForgetPieces([kept])
        case "take":
            return taking(number, kept)
        case "take as an actor":
            return of_actor(taking(number, kept))
        case _:
            return small(number) if kind == "small" else big(number)


@settings(max_examples=300)
@given(
    st.lists(
        st.sampled_from(["forget", "take", "take as an actor", "small", "big", "leave"]),
        max_size=30,
    )
)
def test_in_whatever_order_they_are_sent_no_batch_comes_when_what_it_takes_is_not_there(
    kinds: list[str],
):
    box, kept, gatherers, arrived = put(keep(-2)), -2, [Gatherer(MIB), Gatherer(MIB)], []
    for number, kind in enumerate(kinds):
        if kind == "leave":
            arrived.append(one(box, gatherers))
            continue
        box.put(said(kind, number, kept))
        if kind == "forget":
            kept -= 1
            box.put(keep(kept))
    while (message := one(box, gatherers)) is not None:
        arrived.append(message)
    there: set[int] = set()
    for each in arrived:
        match each:
            case KeepPiece(key):
                there.add(key)
            case ForgetPieces(keys):
                there.difference_update(keys)
            case AssignBatch():
                assert {key for key, _ in each.deposits} <= there


def test_control_passes_everything():
    box = put(big(1), small(2), StealBatches(1))
    assert numbers(left(box)) == ["steal", 2, 1]


def test_a_small_batch_may_come_between_the_parts_of_a_big_one():
    box = put(big(1))
    box.take()
    box.put(small(2))
    assert orjson.loads(box.take()[0] + b"}")["batch"] == 2


def test_nothing_else_passes_anything_and_nothing_passes_it():
    box = put(function(1), big(2), small(3), function(4), small(5), big(6), small(7))
    assert numbers(left(box)) == ["1", 3, 2, "4", 5, 6, 7]


@pytest.mark.parametrize("name", ["actor", "resident"])
def test_batches_of_actors_keep_their_order(name: str):
    first, second = big(1), small(2)
    for message in (first, second):
        setattr(message, name, True)
    assert numbers(left(put(first, second))) == [1, 2]
    other = small(2)
    setattr(other, name, True)
    assert numbers(left(put(big(1), other))) == [1, 2]


def test_many_small_ones_do_not_keep_a_big_one_for_ever():
    box = put(big(0), *[small(n) for n in range(1, 100)])
    kinds = []
    while (frame := box.take()) is not None:
        kinds.append(orjson.loads(frame[0] + b"}")["t"])
    parts = [place for place, kind in enumerate(kinds) if kind == PART]
    assert len(parts) == 4
    assert parts[0] == PASSING_MAX
    assert {after - before for before, after in pairwise(parts)} == {PASSING_MAX + 1}


def test_what_waited_is_forgotten_with_the_rest_of_the_bulk():
    box = put(big(1), small(2), function(3), StealBatches(1))
    box.drop_bulk()
    box.put(small(4))
    box.put(big(5))
    assert numbers(left(box)) == ["steal", 4, 5]


@dataclass
class Sent:
    """A message, and when it was sent and has arrived."""

    message: Message
    is_big: bool
    is_apart: bool


KINDS = {
    "big": lambda n: Sent(big(n), True, True),
    "small": lambda n: Sent(small(n), False, True),
    "big of an actor": lambda n: Sent(of_actor(big(n)), True, False),
    "small of an actor": lambda n: Sent(of_actor(small(n)), False, False),
    "function": lambda n: Sent(function(n), False, False),
    "big function": lambda n: Sent(DefineFunction(str(n), "f", bytes(2 * KIB)), True, False),
}


@given(st.lists(st.sampled_from([*KINDS, "take", "take", "take"]), max_size=60))
@settings(max_examples=500)
def test_all_arrives_once_and_only_small_batches_pass_only_big_ones(steps: list[str]):
    box, gatherers = outbox(), [Gatherer(MIB), Gatherer(MIB)]
    sent: list[Sent] = []
    arrived: list[Message] = []
    for step in steps:
        if step == "take":
            message = one(box, gatherers)
            arrived += [message] if message is not None else []
        else:
            sent.append(KINDS[step](len(sent)))
            box.put(sent[-1].message)
    while (message := one(box, gatherers)) is not None:
        arrived.append(message)
    order = [numbers([each.message])[0] for each in sent]
    places = [order.index(number) for number in numbers(arrived)]
    assert sorted(places) == list(range(len(sent)))
    for at, late in enumerate(places):
        for early in places[at + 1 :]:
            if early < late:  # it was sent before, and has arrived after
                passed, passing = sent[early], sent[late]
                assert (passed.is_big, passed.is_apart) == (True, True)
                assert (passing.is_big, passing.is_apart) == (False, True)


def test_what_is_too_big_to_be_sent_has_lent_nothing():
    arena = Arena.make([MIB])
    assert arena is not None
    region = arena.region(0)
    lent = region.take(256 * KIB)
    assert lent is not None
    exchange = Exchange(arena)
    box = outbox()
    box.lender = exchange
    with pytest.raises(SerializationError, match="over the limit"):
        box.put(RangeDone(1, 1, 0, 2, 5, payload=Bundle(b"", [lent, bytes(2 * MIB)])))
    assert exchange.lent_bytes == 0
    box.put(RangeDone(1, 1, 0, 2, 5, payload=Bundle(b"", [lent])))
    assert exchange.lent_bytes == 256 * KIB
    region.close()
    arena.close()


class Plain:
    """A ground that remembers its rooms, of which no more can be written than so many bytes."""

    def __init__(self, ready_bytes: int = MIB) -> None:
        self.rooms: list[memoryview] = []
        self._ready_bytes = ready_bytes

    def room_for(self, size: int) -> memoryview:
        self.rooms.append(memoryview(bytearray(size)))
        return self.rooms[-1]

    def is_ready(self, room: memoryview, end: int) -> bool:
        ours = any(room.obj is each.obj for each in self.rooms)
        return end <= self._ready_bytes or not ours


SIZES = st.sampled_from([0, 1, 100, KIB - 1, KIB, KIB + 1, 3 * KIB])


@given(SIZES, st.lists(SIZES, max_size=5))
def test_payload_and_pieces_are_gathered_each_in_memory_of_its_own(main: int, sizes: list[int]):
    pieces = [bytes([number % 251]) * size for number, size in enumerate(sizes)]
    sent = RangeDone(1, 1, 0, 2, 5, payload=Bundle(b"m" * main, pieces) if pieces else b"m" * main)
    ground, gatherers = Plain(), [Gatherer(MIB), Gatherer(MIB)]
    for gatherer in gatherers:
        gatherer.ground = ground
    box = outbox()
    box.put(sent)
    text, piece, _ = box.take() or (b"", b"", 0)
    if orjson.loads(text + b"}")["t"] != PART:
        return  # it was not cut
    header = orjson.loads(text + b"}")
    message = gatherers[header["l"]].add(header, memoryview(piece))
    message = message or one(box, gatherers)
    assert isinstance(message, RangeDone)
    payload = message.payload
    got, beside = (payload.main, payload.pieces) if isinstance(payload, Bundle) else (payload, ())
    assert [bytes(got), *map(bytes, beside)] == [b"m" * main, *pieces]
    assert [len(room) for room in ground.rooms if room] == [size for size in (main, *sizes) if size]
    for each in (got, *beside):
        assert not each or any(each.obj is room.obj for room in ground.rooms)


def test_one_message_after_the_other_is_gathered():
    box = put(big(1), big(2))
    gatherers = [Gatherer(MIB), Gatherer(MIB)]
    assert numbers([one(box, gatherers), one(box, gatherers)]) == [1, 2]


def test_pieces_that_do_not_fit_are_refused_before_room_is_made_for_them():
    gatherer, ground = Gatherer(MIB), Plain()
    gatherer.ground = ground
    text = orjson.dumps({"t": "range-done", "b": [[1 << 50]]})
    part = {"l": 1, "h": len(text), "n": len(text) + 10, "at": 0}
    with pytest.raises(ProtocolError, match="pieces of 1125899906842624 bytes"):
        gatherer.add(part, memoryview(text))
    assert ground.rooms == []


def test_what_finds_no_more_room_is_gathered_elsewhere():
    sent = RangeDone(1, 1, 0, 2, 5, payload=Bundle(b"main", [bytes(range(256)) * 40, b"x" * 5000]))
    box, gatherers, ground = outbox(), [Gatherer(MIB), Gatherer(MIB)], Plain(ready_bytes=3000)
    for gatherer in gatherers:
        gatherer.ground = ground
    box.put(sent)
    message = one(box, gatherers)
    assert isinstance(message, RangeDone)
    assert isinstance(message.payload, Bundle)
    main, pieces = message.payload.main, message.payload.pieces
    assert [bytes(main), *map(bytes, pieces)] == [b"main", bytes(range(256)) * 40, b"x" * 5000]
    assert main.obj is ground.rooms[0].obj  # type: ignore[union-attr]
    assert not any(piece.obj is room.obj for piece in pieces for room in ground.rooms)  # type: ignore[union-attr]
