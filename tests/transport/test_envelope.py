"""A pickle and its buffers in one piece of memory."""

from __future__ import annotations

import array
import pickle
from typing import Any

import pytest
from hypothesis import given, strategies as st

from goliath.transport import arena
from goliath.transport.envelope import APART_BYTES, enclosed, opened
from goliath.transport.functions import dump_function, load_function
from goliath.transport.outcomes import decode_outcomes, encode_outcomes
from goliath.transport.payload import Bundle
from goliath.transport.pickled import Pickled, thaw
from goliath.transport.rows import decode_rows, encode_frozen, encode_rows, load_row
from goliath.transport.serialization import dump_value, load_value


class Buffered:
    """What numpy does: its memory stays out of the pickle."""

    def __init__(self, data: Any) -> None:
        self.data = memoryview(data)

    def __reduce_ex__(self, _protocol: int) -> Any:
        return Buffered, (pickle.PickleBuffer(self.data),)


@given(st.binary(max_size=300), st.lists(st.binary(max_size=300), min_size=1, max_size=5))
def test_what_is_enclosed_comes_out_again(pickled: bytes, buffers: list[bytes]):
    found, views = opened(enclosed(pickled, [memoryview(buffer) for buffer in buffers]))
    assert (bytes(found), [*map(bytes, views)]) == (pickled, buffers)
    assert all(view.readonly for view in views)


def test_a_pickle_without_buffers_is_no_envelope():
    assert opened(b"\x80\x05N.") == (b"\x80\x05N.", [])


@pytest.mark.parametrize("cut", [1, 10, 20, 100])
def test_an_envelope_that_is_cut_short_says_so(cut: int):
    whole = enclosed(b"pickle", [memoryview(bytes(200))])
    with pytest.raises(ValueError, match="cut short"):
        opened(whole[:-cut] if cut < 100 else whole[:12])


@pytest.mark.parametrize("size", [0, 10, APART_BYTES * 2])
def test_whoever_gets_a_value_may_read_its_buffers_and_not_write_them(size: int):
    back = load_value(dump_value(Buffered(bytearray(size))))
    assert back.data.readonly
    assert back.data == bytes(size)


def test_a_view_comes_back_in_its_shape():
    flat = memoryview(bytearray(range(12)))
    for view in (flat, flat.cast("i"), flat.cast("B", (3, 4)), flat[::2], flat[:0]):
        back = load_value(dump_value([view]))[0]
        assert (back.tolist(), back.format, back.shape) == (view.tolist(), view.format, view.shape)


@pytest.mark.parametrize(
    ("value", "name"),
    [(memoryview(b"view"), "_restored_view"), ([Pickled(dump_value(Buffered(b"")))], "load_value")],
)
def test_what_reads_a_value_is_named_as_in_the_pickles_of_old_checkpoints(value: Any, name: str):
    pickled, _ = opened(dump_value(value))
    assert b"goliath.transport.serialization" in bytes(pickled)
    assert name.encode() in bytes(pickled)


def test_the_memory_is_copied_when_the_value_is_pickled():
    data = bytearray(b"x" * APART_BYTES)
    pickled = dump_value(Buffered(data))
    data[:] = b"y" * APART_BYTES
    assert load_value(pickled).data == b"x" * APART_BYTES


def test_big_rows_travel_beside_the_others():
    rows: list[dict[str, Any]] = [
        {"x": Buffered(bytes([n]) * size)} for n, size in enumerate((9, APART_BYTES, 0))
    ]
    payload = encode_rows([*rows, {"x": [1]}])
    assert isinstance(payload, Bundle)
    assert len(payload.pieces) == 1
    back = [load_row(row)[1]["x"] for row in decode_rows(payload)]
    assert [len(value.data) for value in back[:3]] == [9, APART_BYTES, 0]
    assert back[1].data == b"\1" * APART_BYTES
    assert back[3] == [1]


def test_big_results_travel_beside_the_others():
    boxed = {n: dump_value(Buffered(bytes([n]) * size)) for n, size in ((0, APART_BYTES), (2, 5))}
    payload = encode_outcomes([None, 7, None], dict(boxed), {})
    assert isinstance(payload, Bundle)
    values, failures = decode_outcomes(payload)
    assert (values[0].data, values[1], values[2].data) == (bytes(APART_BYTES), 7, b"\2" * 5)
    assert failures == {}


def test_what_is_pickled_already_may_have_buffers():
    for size in (5, APART_BYTES):
        pickled = Pickled(dump_value(Buffered(b"a" * size)))
        assert thaw(pickled).data == b"a" * size
        row = encode_frozen([pickled], {"y": pickled})
        args, kwargs = load_row(row)
        assert args[0].data == kwargs["y"].data == b"a" * size


def test_a_big_function_has_a_name_that_no_other_has():
    static = {"table": Buffered(bytes(APART_BYTES))}
    first, second = (dump_function(len, static=static) for _ in range(2))
    assert first.digest != second.digest, "to read it all would take five times as long"
    assert load_function(first.payload).static["table"].data == bytes(APART_BYTES)
    small = {"table": Buffered(b"a")}
    assert dump_function(len, static=small).digest == dump_function(len, static=small).digest


def test_an_array_of_the_standard_library_is_pickled_as_ever():
    numbers = array.array("d", [1.5, 2.5])
    assert load_value(dump_value(numbers)) == numbers


def test_nothing_of_what_was_in_the_memory_before_goes_along(monkeypatch: pytest.MonkeyPatch):
    views = [memoryview(bytes(size)) for size in (1, 70_001, 63)]

    def used_before(size: int) -> memoryview:
        return memoryview(bytearray(b"\xff" * size))

    monkeypatch.setattr(arena, "room_for", used_before)
    pickled = b"\x80\x05N."
    whole = bytes(enclosed(pickled, views))
    assert b"\xff" not in whole
    assert [bytes(view) for view in opened(whole)[1]] == [bytes(view) for view in views]
