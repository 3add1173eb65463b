"""Which slot an outcome fills."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from goliath.core.collector import Collector


def test_outcomes_leave_in_input_order():
    collector = Collector(ordered=True)
    collector.expect(4)
    collector.fill(2, ["c", "d"])
    assert collector.take_ordered() == []
    collector.fill(0, ["a", "b"])
    assert collector.take_ordered() == [(0, ["a", "b"]), (2, ["c", "d"])]
    assert collector.complete


def test_outcomes_leave_as_they_came_where_order_does_not_matter():
    collector = Collector(ordered=False)
    collector.expect(3)
    collector.fill(2, ["c"])
    assert collector.take_any() == [(2, ["c"])]
    assert collector.take_any() == []
    assert collector.missing == 2


def test_more_calls_may_be_expected_later():
    collector = Collector(ordered=True)
    assert (collector.expect(2), collector.expect(3)) == (0, 2)
    assert collector.missing == 5


@pytest.mark.parametrize("first", [0, 1])
def test_a_slot_filled_twice_is_a_bug(first: int):
    collector = Collector(ordered=True)
    collector.expect(3)
    collector.fill(0, ["a", "b"])
    if first:
        collector.take_ordered()
    with pytest.raises(AssertionError, match="filled twice"):
        collector.fill(first * 0, ["x"])


def test_an_outcome_nobody_expects_is_a_bug():
    collector = Collector(ordered=True)
    collector.expect(1)
    with pytest.raises(AssertionError, match=r"outcomes 0\.\.2 of 1 calls"):
        collector.fill(0, ["a", "b"])


@given(st.lists(st.integers(1, 5), max_size=12), st.randoms(use_true_random=False))
def test_any_order_of_arrival_makes_the_same_list(sizes: list[int], rng):
    collector = Collector(ordered=True)
    collector.expect(sum(sizes))
    starts = [sum(sizes[:i]) for i in range(len(sizes))]
    stretches = [
        (start, list(range(start, start + size))) for start, size in zip(starts, sizes, strict=True)
    ]
    rng.shuffle(stretches)
    taken: list[int] = []
    for first, outcomes in stretches:
        collector.fill(first, outcomes)
        for _, part in collector.take_ordered():
            taken += part
    assert taken == list(range(sum(sizes)))
    assert collector.complete
