"""Rules of thumb, checked as such."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from goliath.core.policy import OPENING_CALLS, BatchPolicy, Cost, RestartIntensity


def test_the_first_batch_of_an_unknown_function_is_one_call():
    assert BatchPolicy().size(None, 0.0, 10_000, 2) == 1


@pytest.mark.parametrize(
    ("per_call_s", "calls"), [(1e-6, 30_000), (1e-8, 65_536), (1e-4, 100), (0.005, 2), (10.0, 1)]
)
def test_a_batch_takes_some_milliseconds(per_call_s: float, calls: int):
    assert BatchPolicy().size(per_call_s, 0.0, None, 2, before=10**6) in (calls, calls - 1)


@pytest.mark.parametrize(("per_call_s", "calls"), [(1e-4, 1000), (0.005, 20), (0.09, 1)])
def test_a_batch_that_nobody_watches_takes_longer(per_call_s: float, calls: int):
    size = BatchPolicy().size(per_call_s, 0.0, None, 2, watched=False)
    assert size in (calls, calls - 1)


def test_the_first_batches_are_small_so_that_all_workers_begin_soon():
    assert BatchPolicy().size(1e-7, 0.0, None, 2, before=0) == OPENING_CALLS
    assert BatchPolicy().size(1e-7, 0.0, None, 2, before=2 * OPENING_CALLS) == 2 * OPENING_CALLS


def test_the_last_batches_are_small_enough_to_be_shared():
    assert BatchPolicy().size(1e-5, 0.0, 1000, 2) == 250


def test_the_last_batches_are_not_so_small_that_they_cost_more_than_they_run():
    assert BatchPolicy().size(1e-6, 0.0, 100, 2) in (999, 1000)


def test_a_batch_is_not_bigger_than_its_bytes_allow():
    assert BatchPolicy().size(1e-6, 1024 * 256, None, 2) == 4


@given(
    st.none() | st.floats(1e-9, 1e3),
    st.just(0.0) | st.floats(0.001, 1e9),
    st.none() | st.integers(0, 10**9),
    st.integers(0, 500),
)
def test_a_batch_has_a_call_and_never_too_many(per_call_s, nbytes, remaining, slots):
    assert 1 <= BatchPolicy().size(per_call_s, nbytes, remaining, slots) <= 65_536


def test_a_window_is_two_a_slot_and_what_the_way_swallows():
    policy = BatchPolicy()
    assert policy.window(4, 0.0, 0.01) == 8
    assert policy.window(4, 0.009, 0.01) == 8, "the second of each slot is enough"
    assert policy.window(4, 0.1, 0.01) == 48
    assert policy.window(400, 0.1, 0.01, 100) == 404 + 400
    assert policy.window(4, 100.0, 0.001) == 72
    assert policy.window(4, 0.1, None) == 8


def test_a_slow_first_call_is_forgotten_soon():
    cost = Cost()
    assert cost.per_call_s is None
    cost.learn(2.0, 1)
    for _ in range(12):
        cost.learn(0.001, 1000)
    assert cost.per_call_s == pytest.approx(1e-6, rel=1.0)


def test_so_many_restarts_are_allowed_within_a_window():
    intensity = RestartIntensity(2, 10.0)
    assert [intensity.allows(now) for now in (0.0, 1.0, 2.0, 11.5, 30.0)] == [
        True,
        True,
        False,
        True,
        True,
    ]
