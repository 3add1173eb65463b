"""The rules of supervision, with children that only note what is done to them."""

from __future__ import annotations

from math import inf
from typing import Any

import pytest

from goliath.actors.supervisor import Exit, Lifetime, Strategy, Supervisor
from goliath.core.policy import RestartIntensity
from goliath.errors import SupervisionError
from tests.actors.runtime import FakeChild

CRASH = Exit(ValueError("broken"))
NORMAL = Exit()


class Parent:
    """Owns a supervisor, and time."""

    def __init__(self, max_restarts: int = 2) -> None:
        self.exits: list[tuple[str, Exit]] = []
        self.escalations: list[BaseException] = []
        self.time = 0.0
        self.supervisor = Supervisor(
            "the parent",
            on_exit=lambda child, exit: self.exits.append((child.name, exit)),  # noqa: A006
            escalate=self.escalations.append,
            now=lambda: self.time,
            intensities=[RestartIntensity(max_restarts, window_s=10.0)],
        )


@pytest.mark.parametrize(
    ("lifetime", "exit_", "restarted"),
    [
        (Lifetime.PERMANENT, NORMAL, True),
        (Lifetime.PERMANENT, CRASH, True),
        (Lifetime.TRANSIENT, NORMAL, False),
        (Lifetime.TRANSIENT, CRASH, True),
        (Lifetime.TEMPORARY, NORMAL, False),
        (Lifetime.TEMPORARY, CRASH, False),
    ],
)
def test_its_lifetime_and_its_end_decide_whether_a_child_is_restarted(
    lifetime: Lifetime, exit_: Exit, restarted: bool
):
    parent, child = Parent(), FakeChild(lifetime=lifetime)
    parent.supervisor.adopt(child)
    parent.supervisor.exited(child, exit_)
    assert child.log == (["restart child"] if restarted else [])
    assert parent.exits == ([] if restarted else [("child", exit_)])
    assert len(parent.supervisor) == restarted
    assert parent.escalations == []


def test_too_many_restarts_within_the_window_escalate_with_the_last_error_as_cause():
    parent, child = Parent(max_restarts=2), FakeChild(lifetime=Lifetime.PERMANENT)
    parent.supervisor.adopt(child)
    for _ in range(3):
        parent.supervisor.exited(child, CRASH)
    assert child.log == ["restart child"] * 2
    (error,) = parent.escalations
    assert isinstance(error, SupervisionError)
    assert error.__cause__ is CRASH.error
    assert "the parent gave up: child ended more than 2 times within 10 s" in str(error)
    assert len(parent.supervisor) == 0


def test_restarts_that_are_spread_over_time_are_bearable_for_ever():
    parent, child = Parent(max_restarts=2), FakeChild(lifetime=Lifetime.PERMANENT)
    parent.supervisor.adopt(child)
    for _ in range(10):
        parent.supervisor.exited(child, CRASH)
        parent.time += 6.0
    assert parent.escalations == []


def test_a_closing_supervisor_stops_the_youngest_first_and_restarts_nobody():
    parent = Parent()
    log: Any = []
    children = [FakeChild(name, Lifetime.PERMANENT, log) for name in ("a", "b", "c")]
    for child in children:
        parent.supervisor.adopt(child)
    parent.supervisor.close()
    for child in reversed(children):
        parent.supervisor.exited(child, CRASH)
    assert log == ["stop c", "stop b", "stop a"]
    assert [name for name, _ in parent.exits] == ["c", "b", "a"]


def test_the_end_of_a_stranger_is_no_news():
    parent = Parent()
    parent.supervisor.exited(FakeChild(lifetime=Lifetime.PERMANENT), CRASH)
    assert (parent.exits, parent.escalations) == ([], [])


def test_each_of_several_intensities_can_be_too_much():
    parent, child = Parent(max_restarts=2), FakeChild(lifetime=Lifetime.PERMANENT)
    parent.supervisor = Supervisor(
        "the parent",
        on_exit=lambda _child, _exit: None,
        escalate=parent.escalations.append,
        now=lambda: parent.time,
        intensities=[RestartIntensity(3, inf), RestartIntensity(1, window_s=10.0)],
    )
    parent.supervisor.adopt(child)
    for _ in range(3):
        parent.supervisor.exited(child, CRASH)
        parent.time += 11.0
    assert parent.escalations == []
    parent.supervisor.exited(child, CRASH)
    (error,) = parent.escalations
    assert "child ended more than 3 times, the last time with" in str(error)


# -- strategies --------------------------------------------------------------------------


class Family:
    """Children under one strategy, that say what is done to them and end when they are told."""

    def __init__(self, strategy: Strategy, *lifetimes: Lifetime, max_restarts: int = 3) -> None:
        self.log: list[str] = []
        self.gone: list[str] = []
        self.escalations: list[BaseException] = []
        self.supervisor = Supervisor(
            "the parent",
            on_exit=lambda child, _exit: self.gone.append(child.name),
            escalate=self.escalations.append,
            now=lambda: 0.0,
            intensities=[RestartIntensity(max_restarts, window_s=10.0)],
            strategy=strategy,
        )
        lifetimes = lifetimes or (Lifetime.PERMANENT,) * 3
        self.children = [
            FakeChild(name, lifetime, self.log)
            for name, lifetime in zip("abcdef", lifetimes, strict=False)
        ]
        for child in self.children:
            self.supervisor.adopt(child)

    def exited(self, *places: int, exit_: Exit = CRASH) -> list[str]:
        """These end; what is done about it."""
        for place in places:
            self.supervisor.exited(self.children[place], exit_)
        return self.said()

    def started(self, place: int) -> list[str]:
        self.supervisor.started(self.children[place])
        return self.said()

    def said(self) -> list[str]:
        said, self.log[:] = list(self.log), []
        return said


def test_one_for_all_stops_the_others_the_youngest_first_and_starts_all_in_order():
    family = Family(Strategy.ONE_FOR_ALL)
    assert family.exited(1) == ["stop c", "stop a"]
    assert family.exited(0) == []
    assert family.exited(2) == ["restart a"]
    assert family.started(0) == ["restart b"]
    assert family.started(2) == []  # it is not its turn
    assert family.started(1) == ["restart c"]
    assert family.started(2) == []
    assert (family.gone, family.escalations) == ([], [])


def test_rest_for_one_leaves_those_alone_that_were_started_before():
    family = Family(Strategy.REST_FOR_ONE)
    assert family.exited(1) == ["stop c"]
    assert family.exited(2) == ["restart b"]
    assert family.started(1) == ["restart c"]
    assert family.started(2) == []
    assert family.exited(2) == ["restart c"]


def test_a_child_that_dies_at_its_restart_takes_those_down_again_that_are_up():
    family = Family(Strategy.ONE_FOR_ALL)
    family.exited(1)
    family.exited(0, 2)
    assert family.started(0) == ["restart b"]
    assert family.exited(1) == ["stop a"]  # c has not been started since
    assert family.exited(0) == ["restart a"]
    assert family.started(0) == ["restart b"]


def test_one_that_dies_while_an_earlier_one_starts_waits_for_it():
    family = Family(Strategy.REST_FOR_ONE)
    assert family.exited(0) == ["stop c", "stop b"]
    assert family.exited(2, 1) == ["restart a"]
    assert family.started(0) == ["restart b"]
    assert family.started(1) == ["restart c"]
    assert family.exited(1) == ["stop c"]
    assert family.exited(2) == ["restart b"]


def test_a_temporary_child_goes_down_with_the_others_and_stays_down():
    family = Family(
        Strategy.ONE_FOR_ALL, Lifetime.PERMANENT, Lifetime.TEMPORARY, Lifetime.TRANSIENT
    )
    assert family.exited(1) == []  # its own death is nobody else's
    assert family.gone == ["b"]
    family = Family(Strategy.ONE_FOR_ALL, Lifetime.PERMANENT, Lifetime.TEMPORARY)
    assert family.exited(0) == ["stop b"]
    assert family.exited(1) == ["restart a"]
    assert (family.gone, family.started(0)) == (["b"], [])


def test_what_happens_to_one_child_counts_once_however_many_it_takes_along():
    family = Family(Strategy.ONE_FOR_ALL, max_restarts=1)
    family.exited(0)
    family.exited(1, 2)
    for place in range(3):
        family.started(place)
    assert family.escalations == []
    assert family.exited(2) == []
    (error,) = family.escalations
    assert "c ended more than 1 time within 10 s" in str(error)


def test_a_child_that_was_released_is_waited_for_no_more():
    family = Family(Strategy.ONE_FOR_ALL)
    family.exited(1)
    family.supervisor.release(family.children[2])
    assert family.exited(0) == ["restart a"]
    family.supervisor.release(family.children[0])
    assert family.said() == ["restart b"]


def test_a_supervisor_that_has_retired_starts_nobody_of_those_that_are_down():
    family = Family(Strategy.ONE_FOR_ALL)
    family.exited(1)
    family.supervisor.retire()
    assert family.exited(0, 2) == []
    assert family.gone == ["a", "c"]
