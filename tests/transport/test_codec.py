"""Messages to bytes and back, and bytes that are no messages."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields
from typing import Any

import pytest
from hypothesis import given, strategies as st

from goliath.errors import ProtocolError
from goliath.transport.codec import (
    PREFIX,
    from_header,
    from_wire,
    pack_header,
    to_header,
    to_wire,
    unpack_frame,
)
from goliath.transport.message import Message
from goliath.transport.messages import AssignBatch, CancelBatch, Output, RangeDone
from goliath.transport.payload import Bundle, Piece
from goliath.transport.worker_messages import DefineFunction
from tests.transport.every_message import MESSAGES

EXAMPLES = {
    "str": "text",
    "int": 3,
    "float": 0.5,
    "bool": True,
    "float | None": None,
    "str | None": None,
}


def example(cls: type[Message]) -> Message:
    """A message with a value in every field."""
    values = {}
    for field in fields(cls):
        kind = str(field.type)
        if field.name == "payload":
            values[field.name] = b"payload"
        elif kind.startswith("list"):
            values[field.name] = [1, 2]
        elif kind.startswith("dict"):
            values[field.name] = {"key": 1.5}
        else:
            values[field.name] = EXAMPLES[kind]
    return cls(**values)


def frame_of(message: Message) -> bytes:
    payload = getattr(message, "payload", b"")
    return pack_header(to_header(message), payload, checksum=True) + payload


@pytest.mark.parametrize("kind", sorted(MESSAGES))
def test_every_message_survives_the_wire_twice(kind: str):
    message = example(MESSAGES[kind])
    for _ in range(2):  # the second time its types are known already
        header, payload = unpack_frame(frame_of(message), checksum=True)
        assert from_header(header, payload) == message


def test_defaults_stand_in_for_missing_fields():
    header = to_header(example(AssignBatch))
    for name in ("careful", "timeout_s", "cpus", "resources"):
        del header[name]
    message = from_header(header, b"")
    assert isinstance(message, AssignBatch)
    assert (message.careful, message.timeout_s, message.cpus) == (False, None, 1.0)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"batch": "1"}, "batch is a str, not int"),
        ({"batch": 1.0}, "batch is a float, not int"),
        ({"batch": True}, "batch is a bool, not int"),
        ({"retryable": {}}, "retryable is a dict, not list"),
        ({"t": "unheard-of"}, "unknown message kind 'unheard-of'"),
        ({"t": None}, "unknown message kind None"),
        ({"t": []}, "unknown message kind"),
    ],
)
def test_wrong_types_are_named_even_if_good_ones_came_before(change: dict, complaint: str):
    good = to_header(example(RangeDone))
    from_header(good, b"")
    with pytest.raises(ProtocolError, match=complaint):
        from_header(good | change, b"")


def test_a_missing_field_is_named():
    header = to_header(example(RangeDone))
    del header["lo"]
    with pytest.raises(ProtocolError, match="a done message lacks 'lo'"):
        from_header(header, b"")


def test_a_payload_where_there_may_be_none_is_refused():
    with pytest.raises(ProtocolError, match="has a payload and may not"):
        from_header(to_header(CancelBatch(1, 1)), b"x")


@pytest.mark.parametrize(
    "frame",
    [b"", b"\x00" * 7, PREFIX.pack(100, 0) + b"{}", PREFIX.pack(2, 0) + b"[]", PREFIX.pack(1, 0)],
)
def test_what_is_no_frame_is_a_protocol_error(frame: bytes):
    with pytest.raises(ProtocolError):
        unpack_frame(frame, checksum=False)


@given(st.integers(0, 10**6), st.integers(1, 255))
def test_damage_anywhere_is_noticed(where: int, flip: int):
    frame = bytearray(frame_of(example(RangeDone)))
    frame[where % len(frame)] ^= flip
    with pytest.raises(ProtocolError):
        unpack_frame(bytes(frame), checksum=True)


# -- payloads with pieces ---------------------------------------------------------------


class Shelf:
    """Lends what is at least as long as that."""

    def __init__(self, over: int) -> None:
        self._over = over
        self._lent: list[bytes] = []

    def lend(self, piece: Piece) -> list[int] | None:
        if len(piece) < self._over:
            return None
        self._lent.append(bytes(piece))
        return [len(self._lent) - 1, len(piece), 7]

    def borrow(self, offset: int, size: int, number: int) -> memoryview:
        if offset >= len(self._lent):
            raise ProtocolError("there is no such thing")
        return memoryview(self._lent[offset])

    def taken_back(self, numbers: Iterable[int]) -> None:
        raise AssertionError("these were sent")


def passed(message: Message, shelf: Shelf | None) -> tuple[Message, int]:
    """As it arrives, and how many bytes did."""
    header, parts = to_wire(message, shelf)
    frame = pack_header(header, checksum=False) + b"".join(parts)
    received, payload = unpack_frame(frame, checksum=False)
    return from_wire(received, payload, shelf), len(payload)


@pytest.mark.parametrize(("over", "sent"), [(1, 4), (3, 6), (99, 9)])
def test_pieces_arrive_whether_they_are_sent_or_lent(over: int, sent: int):
    pieces = [b"ab", b"cde", memoryview(b"")]
    message = RangeDone(1, 1, 0, 3, 10, payload=Bundle(b"main", pieces))
    back, count = passed(message, Shelf(over))
    assert count == sent
    assert isinstance(back, RangeDone)
    assert isinstance(back.payload, Bundle)
    assert bytes(back.payload.main) == b"main"
    assert [bytes(piece) for piece in back.payload.pieces] == [b"ab", b"cde", b""]


def test_a_payload_in_one_piece_is_lent_as_a_whole():
    message = DefineFunction("f", "foo", memoryview(b"function"))
    back, count = passed(message, Shelf(1))
    assert (back, count) == (message, 0)
    assert passed(message, None) == (message, 8)


@pytest.mark.parametrize(
    "entries",
    [5, "ab", [5], [[]], [[1, 2]], [[-1]], [["1"]], [[True]], [[99]], [[0, 1, 7]], [[[1]]]],
)
def test_pieces_that_are_not_there_are_a_protocol_error(entries: Any):
    header = {**to_header(RangeDone(1, 1, 0, 3, 10)), "b": entries}
    for shelf in (None, Shelf(1)):
        with pytest.raises(ProtocolError):
            from_wire(header, memoryview(b"main"), shelf)


@pytest.mark.parametrize("change", [{"t": ["done"]}, {"t": "x"}, {"t": "output"}, {"t": "steal"}])
def test_pieces_of_messages_that_have_none_are_a_protocol_error(change: dict[str, Any]):
    header = {**to_header(Output("stdout", "f", 1)), "count": 1, "b": [[2], [2]], **change}
    with pytest.raises(ProtocolError):
        from_wire(header, memoryview(b"main"))
