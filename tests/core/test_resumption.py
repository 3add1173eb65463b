"""What of a run is known from before, and what is written down, when."""

from __future__ import annotations

from goliath.core.resumption import DELAY_S, HELD_MAX, STRIDE_MAX, Entry, Resumption, Span


def test_equal_calls_are_told_apart_by_their_number():
    mind = Resumption()
    assert mind.number([b"a", b"b", b"a", b"a"], {}) == [b"a", b"b", b"a1", b"a2"]


def test_their_numbers_go_on_with_those_that_were_pulled_before():
    mind = Resumption()
    assert mind.number([b"a", b"b", b"a"], {b"a": 3}) == [b"a3", b"b", b"a4"]


def test_calls_without_a_key_stay_without():
    assert Resumption().number([None, b"a", None, b"a"], {}) == [None, b"a", None, b"a1"]


def test_calls_are_parted_into_those_that_are_known_and_others():
    mind = Resumption()
    spans = mind.sift([b"a", b"b", None, b"c", b"d"], {b"a", b"b", b"d"})
    assert spans == [Span(0, 2, True), Span(2, 4, False), Span(4, 5, True)]
    assert mind.known == 3
    assert mind.sift([], {b"a"}) == []


def test_the_more_are_known_the_more_are_looked_up_until_one_is_not():
    mind = Resumption()
    strides = []
    for _ in range(10):
        mind.sift([b"a"], {b"a"})
        strides.append(mind.stride)
    assert strides == [2, 4, 8, 16, 32, 64, 128, 256, STRIDE_MAX, STRIDE_MAX]
    mind.sift([b"a", b"b"], {b"a"})
    assert mind.stride == 1


def finished(*results: tuple[int, bytes], now: float = 0.0) -> Resumption:
    mind = Resumption()
    for index, _ in results:
        mind.send(index, b"key %d" % index, f"call {index}")
    mind.finish(results, now)
    return mind


def test_nothing_is_due_before_there_is_a_result():
    mind = Resumption()
    mind.send(0, b"a", "")
    assert mind.due_in(0.0) is None
    mind.finish([], 0.0)
    assert mind.due_in(0.0) is None


def test_what_came_is_due_a_while_after_the_first_of_it():
    mind = finished((0, b"x"), (1, b"y"), now=0.0)
    mind.send(2, b"key 2", "call 2")
    mind.finish([(2, b"z")], DELAY_S / 2)
    assert mind.due_in(0.0) == DELAY_S
    assert mind.due_in(DELAY_S) == mind.due_in(99.0) == 0.0
    assert mind.unwritten() == [
        Entry(b"key 0", 0, "call 0", b"x"),
        Entry(b"key 1", 1, "call 1", b"y"),
        Entry(b"key 2", 2, "call 2", b"z"),
    ]


def test_without_a_delay_it_is_due_at_once():
    mind = Resumption(0.0)
    mind.send(0, b"a", "")
    mind.finish([(0, b"x")], 5.0)
    assert mind.due_in(5.0) == 0.0


def test_much_of_it_is_due_at_once():
    mind = finished((0, bytes(HELD_MAX // 2)), (1, bytes(HELD_MAX // 2)))
    assert mind.due_in(0.0) == 0.0
    mind.written()
    mind.send(2, b"c", "")
    mind.finish([(2, b"z")], 1.0)
    assert mind.due_in(1.0) == DELAY_S


def test_what_was_written_is_not_written_again():
    mind = finished((0, b"x"))
    mind.written()
    assert mind.unwritten() == []
    assert mind.due_in(99.0) is None
    mind.finish([(0, b"x")], 99.0)
    assert mind.unwritten() == []


def test_what_came_first_counts_anew_after_a_write():
    mind = finished((0, b"x"))
    mind.written()
    mind.send(1, b"b", "")
    mind.finish([(1, b"y")], 7.0)
    assert mind.due_in(7.0) == DELAY_S


def test_a_call_that_failed_is_not_written_and_one_without_a_key_neither():
    mind = Resumption()
    for index, key in enumerate([b"a", b"b", None]):
        mind.send(index, key, "")
    mind.fail(0, 1)
    mind.finish([(0, b"x"), (1, b"y"), (2, b"z")], 0.0)
    assert mind.unwritten() == [Entry(b"b", 1, "", b"y")]
