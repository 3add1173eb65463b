"""Messages to bytes and back, and bytes that are no messages."""

from __future__ import annotations

from dataclasses import fields

import pytest
from hypothesis import given, strategies as st

from goliath.errors import ProtocolError
from goliath.transport.codec import PREFIX, from_header, pack_header, to_header, unpack_frame
from goliath.transport.messages import MESSAGES, AssignBatch, CancelBatch, Message, RangeDone

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
