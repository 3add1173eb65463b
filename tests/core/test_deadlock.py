"""Which calls wait for one another for ever, and which are only slow."""

from __future__ import annotations

from hypothesis import given, settings, strategies as st

from goliath.core import deadlock
from goliath.core.deadlock import Wait
from tests.length import length

ONE_SLOT = {"A": 1, "B": 1, "C": 1}


def wait(call: str, on: str, enough: int | None = None) -> Wait:
    """``a1`` is a call of actor A, ``t1`` one of a task."""
    calls = tuple(on.split())
    return Wait(call, owner(call), calls, len(calls) if enough is None else enough)


def owner(call: str) -> str:
    return "" if call.startswith("t") else call[0].upper()


def found(*waits: Wait, slots: dict[str, int] = ONE_SLOT) -> tuple[list[str], list[str]] | None:
    queues = {call: owner(call) for each in waits for call in each.on if owner(call)}
    seen = deadlock.find_deadlock(waits, queues, slots)
    return None if seen is None else ([each.call for each in seen.waits], list(seen.blocked))


def test_a_call_that_waits_for_another_of_its_own_actor():
    assert found(wait("a1", "a2")) == (["a1"], ["a2"])


def test_an_actor_that_is_called_back_by_the_one_it_calls():
    assert found(wait("a1", "b1"), wait("b1", "a2")) == (["a1", "b1"], ["a2"])


def test_two_actors_that_call_each_other_at_the_same_time():
    assert found(wait("a1", "b2"), wait("b1", "a2")) == (["a1", "b1"], ["b2", "a2"])


def test_a_circle_of_three_and_one_that_leads_through_a_task():
    assert found(wait("a1", "b1"), wait("b1", "c1"), wait("c1", "a2")) == (
        ["a1", "b1", "c1"],
        ["a2"],
    )
    assert found(wait("a1", "t1"), wait("t1", "a2")) == (["a1", "t1"], ["a2"])


def test_who_waits_for_somebody_in_a_circle_is_not_in_it():
    assert found(wait("c1", "a1"), wait("a1", "b1"), wait("b1", "a2")) == (["a1", "b1"], ["a2"])


def test_a_call_that_is_slow_or_has_a_free_actor_is_no_deadlock():
    assert found(wait("a1", "b1"), wait("b1", "t1")) is None
    assert found(wait("a1", "b1"), wait("b1", "a2"), slots={"A": 2, "B": 1}) is None
    assert found() is None


def test_an_actor_with_threads_is_blocked_when_all_of_them_are():
    slots = {"A": 2, "B": 2}
    both = [wait("a1", "a3"), wait("a2", "b1"), wait("b1", "a4")]
    assert found(*both, slots=slots) == (["a1", "a2", "b1"], ["a3", "a4"])
    assert found(wait("a1", "a3"), wait("a2", "t1"), slots=slots) is None


def test_who_waits_for_some_of_several_goes_on_when_others_end():
    assert found(wait("a1", "a2 t1", enough=1)) is None
    assert found(wait("a1", "a2 t1", enough=2)) == (["a1"], ["a2"])
    assert found(wait("a1", "a2 a3", enough=1)) == (["a1"], ["a2", "a3"])


def test_a_call_of_an_actor_that_has_a_slot_left_is_not_blocked_by_one_in_a_circle():
    slots = {"B": 1, "C": 2}
    circle = [wait("t1", "b2 c2"), wait("b1", "c1"), wait("c1", "b2")]
    assert found(*circle, slots=slots) == (["b1", "c1"], ["b2"])
    inside = [wait("b1", "c1 c2"), wait("c1", "b2")]
    assert found(*inside, slots=slots) == (["b1", "c1"], ["b2"])


CALLS = [f"{kind}{number}" for kind in "abct" for number in range(4)]


@st.composite
def systems(draw: st.DrawFn) -> tuple[list[Wait], dict[str, int]]:
    slots = {actor: draw(st.integers(1, 3)) for actor in "ABC"}
    waits = []
    for call in draw(st.lists(st.sampled_from(CALLS), unique=True, max_size=8)):
        if sum(each.actor == owner(call) for each in waits) >= slots.get(owner(call), 99):
            continue  # no more than that can have begun
        others = [other for other in CALLS if other != call]
        on = draw(st.lists(st.sampled_from(others), unique=True, min_size=1, max_size=3))
        waits.append(wait(call, " ".join(on), draw(st.integers(1, len(on)))))
    return waits, slots


def played(waits: list[Wait], slots: dict[str, int]) -> tuple[set[str], set[str]]:
    """Whatever can end, ends, one call after the other; who waits for ever, and who ended."""
    running = {each.call: each for each in waits}
    ended: set[str] = set()
    while True:
        before = len(ended)
        for call in CALLS:
            taken = sum(each.actor == owner(call) for each in running.values())
            if call in running:
                if sum(on in ended for on in running[call].on) >= running[call].enough:
                    del running[call]
                    ended.add(call)
            elif not owner(call) or taken < slots[owner(call)]:
                ended.add(call)
        if len(ended) == before:
            return set(running), ended


@settings(max_examples=length(250, 1000))
@given(systems())
def test_a_circle_is_found_if_and_only_if_somebody_would_wait_for_ever(
    system: tuple[list[Wait], dict[str, int]],
):
    waits, slots = system
    stuck, ended = played(waits, slots)
    seen = found(*waits, slots=slots)
    assert (seen is not None) == bool(stuck)
    if seen is not None:
        circle, blocked = seen
        assert set(circle) <= stuck
        assert not set(blocked) & {each.call for each in waits}
        assert not set(blocked) & ended
