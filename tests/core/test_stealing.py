"""Who is robbed for whom."""

from __future__ import annotations

from hypothesis import given, strategies as st

from goliath.core.ids import NodeId
from goliath.core.stealing import Load, plan_steals


def load(
    name: str, slots: int, held: int, calls: int, rest_s: float = 1.0, may: bool = True
) -> Load:
    return Load(NodeId(name), slots, held, calls, rest_s, may)


def test_the_idle_slot_of_one_node_robs_the_queue_of_another():
    assert plan_steals([load("a", 2, 4, 20), load("b", 2, 0, 0)]) == {"a": 2}


def test_no_more_is_asked_than_there_are_idle_slots():
    assert plan_steals([load("a", 1, 9, 90), load("b", 4, 3, 0)]) == {"a": 1}


def test_the_most_laden_is_robbed_first():
    plan = plan_steals([load("a", 1, 2, 9, 1.0), load("b", 1, 2, 9, 5.0), load("c", 1, 0, 0)])
    assert plan == {"b": 1}


def test_a_node_is_not_robbed_for_its_own_idle_slots():
    assert plan_steals([load("a", 4, 1, 9)]) == {}


def test_a_node_that_has_a_question_to_answer_is_left_alone():
    assert plan_steals([load("a", 2, 4, 20, may=False), load("b", 2, 0, 0)]) == {}


def test_nothing_is_asked_where_every_call_runs():
    assert plan_steals([load("a", 2, 2, 0), load("b", 2, 0, 0)]) == {}


LOADS = st.lists(
    st.tuples(st.integers(1, 8), st.integers(0, 20), st.integers(0, 50), st.floats(0, 9)),
    max_size=6,
)


@given(LOADS)
def test_a_plan_never_asks_for_more_than_can_run(shapes: list[tuple[int, int, int, float]]):
    loads = [
        load(str(i), slots, held, min(calls, 9 * held), rest)
        for i, (slots, held, calls, rest) in enumerate(shapes)
    ]
    plan = plan_steals(loads)
    assert sum(plan.values()) <= sum(max(one.slots - one.held, 0) for one in loads)
    assert all(count > 0 for count in plan.values())
