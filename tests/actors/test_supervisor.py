"""The rules of supervision, with children that only note what is done to them."""

from __future__ import annotations

from typing import Any

import pytest

from goliath.actors.supervisor import Exit, Lifetime, SupervisionError, Supervisor
from goliath.core.policy import RestartIntensity
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
            intensity=RestartIntensity(max_restarts, window_s=10.0),
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
