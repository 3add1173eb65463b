"""Big buffers that are equal to others: found by their contents, and forgotten in time."""

from __future__ import annotations

import gc
import pickle
from typing import Any

import pytest
from hypothesis import given, strategies as st

from goliath.transport.arena import are_equal
from goliath.transport.columns import encode_gathered
from goliath.transport.envelope import APART_BYTES, enclosed, opened
from goliath.transport.keepsakes import (
    IDLE_S,
    WORTH_KEEPING_BYTES,
    Keepsake,
    Recollection,
)
from goliath.transport.payload import Bundle
from goliath.transport.pickled import Pickled
from goliath.transport.rows import (
    FarRow,
    decode_rows,
    encode_call,
    encode_rows,
    encode_single,
    load_row,
)
from goliath.transport.serialization import dump_value, load_value
from tests.transport.test_envelope import Buffered

SIZE = WORTH_KEEPING_BYTES


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def filled(number: int, size: int = SIZE) -> memoryview:
    return memoryview(bytes([number]) * size)


def linked(limit_bytes: int = 4 * SIZE, clock: Clock | None = None) -> Recollection:
    made = Recollection(clock or Clock())
    made.link_made(limit_bytes)
    return made


@given(st.binary(max_size=200), st.binary(max_size=200))
def test_views_are_equal_if_their_bytes_are(one: bytes, other: bytes):
    assert are_equal(memoryview(one), memoryview(bytearray(other))) == (one == other)
    assert are_equal(memoryview(one), memoryview(bytearray(one)))


def test_what_is_compared_may_be_written_and_resized_again():
    data = bytearray(b"abc")
    assert not are_equal(memoryview(data), memoryview(b"abd"))
    data += b"d" * 1000


def test_equal_buffers_are_one_keepsake_whoever_has_them():
    known = linked()
    one = known.keepsake_of(filled(1))
    assert known.keepsake_of(memoryview(bytearray(filled(1)))) is one
    assert known.keepsake_of(filled(2)) is not one
    assert known.keepsake_of(filled(1, SIZE + 1)) is not one


@pytest.mark.parametrize("place", [0, 1, SIZE // 2 + 7, SIZE - 1])
def test_one_byte_makes_it_another_one(place: int):
    known, data = linked(), bytearray(SIZE)
    one = known.keepsake_of(memoryview(data))
    data[place] = 1
    other = known.keepsake_of(memoryview(data))
    assert other is not one
    assert (one.payload()[place], other.payload()[place]) == (0, 1), "they are copies"


def test_it_is_not_copied_if_nobody_writes_it():
    mine = filled(1)
    assert linked().keepsake_of(mine, ours=True).payload() is mine


def test_only_what_is_big_is_looked_up_and_only_where_it_has_to_be_sent():
    known = Recollection(Clock())
    assert not known.wants(SIZE)
    known.link_made(4 * SIZE)
    assert [known.wants(size) for size in (SIZE - 1, SIZE, 4 * SIZE, 4 * SIZE + 1)] == [
        False,
        True,
        True,
        False,
    ]
    known.link_ended()
    assert not known.wants(SIZE)


def test_what_was_taken_last_is_remembered_within_the_limit():
    known = linked(2 * SIZE)
    known.keepsake_of(filled(1))
    known.keepsake_of(filled(2))
    one = known.keepsake_of(filled(1))  # that used last, now
    numbers = [bytes(k.payload()[:1])[0] for k in known._held]
    assert numbers == [2, 1]
    known.keepsake_of(filled(3))
    assert [bytes(k.payload()[:1])[0] for k in known._held] == [1, 3]
    assert known.keepsake_of(filled(1)) is one


def test_what_a_call_takes_is_found_although_it_is_not_remembered_any_more():
    known = linked(SIZE)
    held = known.keepsake_of(filled(1))
    known.keepsake_of(filled(2))
    assert list(known._held) != [held]
    assert known.keepsake_of(filled(1)) is held


def test_what_was_idle_is_forgotten_and_what_was_not_is_kept():
    clock = Clock()
    known = linked(clock=clock)
    known.keepsake_of(filled(1))
    clock.now = IDLE_S / 2
    known.keepsake_of(filled(2))
    known.cool()
    assert len(known._held) == 2
    clock.now = IDLE_S * 1.2
    known.cool()
    assert (len(known._held), known.is_warm) == (1, True)
    clock.now = IDLE_S * 2
    known.cool()
    assert (known.is_warm, known._held_bytes) == (False, 0)
    gc.collect()
    known.cool()
    assert known._known == {}, "nothing is left of what is gone"


def test_nothing_is_remembered_when_nobody_has_to_be_sent_anything():
    known = linked()
    known.keepsake_of(filled(1))
    known.link_ended()
    assert not known.is_warm


def test_a_buffer_that_nodes_may_have_is_not_in_the_envelope(far: None):
    beside: list[Keepsake] = []
    views = [filled(1), filled(2, 10), filled(3)]
    whole = enclosed(b"pickle", views, beside)
    assert len(whole) < APART_BYTES
    assert [k.size for k in beside] == [SIZE, SIZE]
    pickled, buffers = opened(whole, [k.payload() for k in beside])
    assert bytes(pickled) == b"pickle"
    assert [bytes(b) for b in buffers] == [bytes(v) for v in views]
    assert all(buffer.readonly for buffer in buffers)
    with pytest.raises(ValueError, match="did not come along"):
        opened(whole, [beside[0].payload()])
    with pytest.raises(ValueError, match="did not come along"):
        opened(whole, [b"another", beside[1].payload()])


def test_equal_arguments_of_the_calls_of_a_chunk_are_beside_it_as_one(far: None):
    rows: list[dict[str, Any]] = [{"x": Buffered(filled(7)), "y": n} for n in range(3)]
    rows += [{"x": Buffered(filled(8)), "y": 3}, {"x": [4], "y": 4}]
    beside: list[Keepsake] = []
    payload = encode_rows(rows, (), beside)
    assert len(payload) < APART_BYTES
    assert len(beside) == len(set(beside)) == 2
    pieces = [k.payload() for k in beside]
    back = [load_row(row, pieces)[1] for row in decode_rows(payload)]
    assert [b["y"] for b in back] == [0, 1, 2, 3, 4]
    assert [bytes(b["x"].data[:1])[0] for b in back[:4]] == [7, 7, 7, 8]
    assert back[0]["x"].data == filled(7)


def test_a_row_that_is_big_without_its_keepsakes_travels_as_a_piece(far: None):
    data = [Buffered(filled(7)), *(Buffered(filled(n, 10_000)) for n in range(10))]
    beside: list[Keepsake] = []
    payload = encode_rows([(data,), (1,)], (), beside)
    assert isinstance(payload, Bundle)
    first, second = decode_rows(payload)
    ((back,), _) = load_row(first, [k.payload() for k in beside])
    assert [len(b.data) for b in back] == [SIZE, *[10_000] * 10]
    assert load_row(second, []) == ((1,), {})


def test_single_calls_that_were_gathered_take_what_is_theirs(far: None):
    calls = [encode_call((Buffered(filled(n)), n), {}) for n in (1, 2, 1)]
    calls.append(encode_call(([], 9), {}))
    assert [type(call) is FarRow for call in calls] == [True, True, True, False]
    beside: list[Any] = []
    _, payload = encode_gathered(None, calls, beside)
    rows = decode_rows(payload)
    pieces = [k.payload() for k in beside]
    back = [load_row(row, pieces)[0] for row in rows]
    assert [n for _, n in back] == [1, 2, 1, 9]
    assert [bytes(value.data[:1])[0] for value, _ in back[:3]] == [1, 2, 1]


def test_values_that_one_call_shares_stay_shared(far: None):
    array = Buffered(filled(1))
    call = encode_call((array, [array]), {})
    assert isinstance(call, FarRow)
    ((one, (other,)), _) = load_row(call.row, [k.payload() for k in call.beside])
    assert one is other


def test_without_anybody_to_be_sent_it_all_stays_in_its_row():
    assert not isinstance(encode_call((Buffered(filled(1)),), {}), FarRow)
    beside: list[Keepsake] = []
    assert isinstance(encode_rows([(Buffered(filled(1)),)], (), beside), Bundle)
    assert beside == []


def test_who_asks_for_all_of_a_row_gets_all_of_it(far: None):
    pickled = encode_single((Buffered(filled(1)),), {})
    assert len(pickled) > SIZE
    assert load_row(pickled)[0][0].data == filled(1)
    assert len(dump_value(Buffered(filled(1)))) > SIZE


def test_a_value_that_was_put_is_one_keepsake_as_long_as_it_is_there(far: None):
    pickled = Pickled(dump_value(Buffered(filled(1))))
    keepsake = pickled.keepsake()
    assert keepsake is not None
    assert keepsake is pickled.keepsake()
    assert keepsake.payload() is pickled.payload
    equal = Pickled(dump_value(Buffered(filled(1))))
    assert equal.keepsake() is keepsake
    assert equal.payload is pickled.payload, "one of the two copies is enough"
    assert Pickled(dump_value(Buffered(filled(1, 10)))).keepsake() is None


def test_a_value_that_was_put_is_no_keepsake_where_it_need_not_be_sent():
    assert Pickled(dump_value(Buffered(filled(1)))).keepsake() is None


def test_pickles_of_other_processes_name_no_keepsakes(far: None):
    assert pickle.loads(pickle.dumps(Pickled(dump_value([1])))) == [1]
    assert load_value(dump_value(Buffered(filled(1)))).data == filled(1)
