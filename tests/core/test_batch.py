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
