"""Who is served next when several Commanders wait."""

from __future__ import annotations

from hypothesis import given, strategies as st

from goliath.core.fairness import DeficitRoundRobin
from goliath.core.ids import SessionId

A, B, C = SessionId("a"), SessionId("b"), SessionId("c")


def ring(*sessions: SessionId) -> DeficitRoundRobin:
    fair = DeficitRoundRobin()
    for session in sessions:
        fair.join(session)
    return fair


def test_equals_are_served_in_turn():
    fair = ring(A, B)
    served = []
    for _ in range(4):
        served.append(fair.pick([A, B], {}))
        fair.charge(served[-1], 1.0)
    assert served == [A, B, A, B]


def test_who_used_more_waits_longer():
    fair = ring(A, B)
    fair.charge(A, 10.0)
    assert [fair.pick([A, B], {}) for _ in range(3)] == [B, B, B]


def test_what_runs_counts_as_if_it_ended_now():
    assert ring(A, B).pick([A, B], {A: 100.0}) == B


def test_who_was_alone_owes_nothing_for_that_time():
    fair = ring(A)
    for _ in range(100):
        fair.charge(A, 1.0)
        fair.pick([A], {})
    fair.join(B)
    assert fair.pick([A, B], {}) == B
    fair.charge(B, 1.0)
    assert fair.pick([A, B], {}) == A


def test_who_left_is_forgotten():
    fair = ring(A, B)
    fair.leave(A)
    fair.charge(A, 1.0)
    assert fair.pick([B], {}) == B


@given(st.lists(st.sampled_from([0.001, 0.01, 0.5]), min_size=3, max_size=3))
def test_sessions_with_calls_of_any_length_get_equal_time(prices: list[float]):
    fair, used = ring(A, B, C), {A: 0.0, B: 0.0, C: 0.0}
    price = dict(zip(used, prices, strict=True))
    while sum(used.values()) < 30.0:
        session = fair.pick([A, B, C], {})
        fair.charge(session, price[session])
        used[session] += price[session]
    assert max(used.values()) - min(used.values()) <= 2 * max(prices) + 0.05
