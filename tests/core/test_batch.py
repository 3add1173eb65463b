"""A batch and its open spans."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from goliath.core.batch import Batch, BatchState, JobOptions, Suspicion
from goliath.core.ids import BatchId, JobId


def opened(hi: int = 10) -> Batch:
    batch = Batch(BatchId(1), JobId(1), 1, 0, hi, 100)
    batch.open = [(0, hi)]
    return batch


def test_closing_the_middle_leaves_both_ends_open():
    batch = opened()
    assert batch.close(3, 5)
    assert batch.open == [(0, 3), (5, 10)]
    assert batch.open_calls() == 8


@pytest.mark.parametrize("span", [(0, 4), (4, 4), (2, 7), (-1, 1), (9, 11)])
def test_a_span_that_is_not_all_open_closes_nothing(span: tuple[int, int]):
    batch = opened()
    batch.close(3, 5)
    assert not batch.close(*span)
    assert batch.open == [(0, 3), (5, 10)]


@given(st.lists(st.tuples(st.integers(-2, 22), st.integers(-2, 22)), max_size=30))
def test_a_call_is_closed_at_most_once(spans: list[tuple[int, int]]):
    batch, closed = opened(20), set()
    for lo, hi in spans:
        if batch.close(lo, hi):
            assert not closed & set(range(lo, hi))
            closed |= set(range(lo, hi))
        assert batch.open_calls() == 20 - len(closed)
        assert batch.open == sorted(batch.open)


def test_an_illegal_move_is_a_bug():
    with pytest.raises(AssertionError, match="cannot become CANCELLING"):
        opened().move(BatchState.CANCELLING)


def test_suspicion_is_taken_once():
    suspicion = Suspicion(2)
    assert (suspicion.take(), suspicion.take()) == (2, 0)


def test_calls_that_may_run_once_or_have_a_time_limit_run_carefully():
    assert JobOptions(max_retries=0).careful
    assert JobOptions(timeout_s=1.0).careful
    assert not JobOptions().careful


def test_its_repr_says_where_it_is():
    assert repr(opened()) == "<Batch 1 READY [0:10] open [(0, 10)]>"


def test_it_has_the_calls_that_are_not_reported():
    batch = opened()
    batch.close(3, 5)
    assert [call for call in range(-1, 12) if batch.has(call)] == [0, 1, 2, 5, 6, 7, 8, 9]


def test_what_nobody_wants_is_taken_with_its_range_and_no_other():
    batch = opened()
    batch.unwanted = {7: False, 2: True, 4: False}
    assert batch.take_unwanted(2, 5) == (2, 4)
    assert batch.take_unwanted(2, 5) == ()
    assert batch.unwanted == {7: False}


@pytest.mark.parametrize(
    ("unwanted", "rest"),
    [
        ((), [(2, 6)]),
        ((2,), [(3, 6)]),
        ((5,), [(2, 5)]),
        ((3, 4), [(2, 3), (5, 6)]),
        ((2, 3, 4, 5), []),
        ((1, 6), [(2, 6)]),
    ],
)
def test_what_is_wanted_of_a_range_is_the_rest_of_it(
    unwanted: tuple[int, ...], rest: list[tuple[int, int]]
):
    batch = opened()
    batch.unwanted = dict.fromkeys(unwanted, False)
    assert batch.take_wanted(2, 6) == rest


def test_it_is_unwanted_when_all_that_is_open_is():
    batch = opened(3)
    batch.unwanted = {0: False, 2: False}
    assert not batch.is_unwanted()
    batch.close(1, 2)
    assert batch.is_unwanted()
