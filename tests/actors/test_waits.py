"""Calls that wait for long: who is told of a deadlock, and when it is believed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from goliath.actors.blueprint import Blueprint
from goliath.actors.object_ref import ObjectRef
from goliath.actors.stage import BEGIN
from goliath.actors.surroundings import Surroundings
from goliath.actors.user_actor import UserActor
from goliath.actors.waits import LongWait, Waits
from goliath.core.ids import NodeId
from goliath.errors import DeadlockError
from goliath.transport.functions import Function
from goliath.transport.rows import encode_single
from tests.actors.desks import FakeCommander

NODE = NodeId("n#1")


class Scene:
    """Two actors of which no call ends, and a clock that is turned by hand."""

    def __init__(self) -> None:
        self.commander = FakeCommander(lazy=True)
        self.later: list[Callable[[], None]] = []
        self.told: list[tuple[Any, ...]] = []
        self.waits = Waits(
            lambda _seconds, look: self.later.append(look),
            lambda node, worker, call, _error: self.told.append((node, worker, call)),
        )
        self.one, self.other = self.actor("actor-1"), self.actor("actor-2")

    def actor(self, actor_id: str) -> UserActor:
        portal: Any = self.commander.portal
        commander: Any = self.commander
        creation = encode_single((BEGIN,), {})
        blueprint = Blueprint(Function("digest", "Class", b""))
        around = Surroundings("env")
        return UserActor(
            actor_id, blueprint, creation, [], around, portal, commander, lambda _actor: None
        )

    def waiting(self, number: int, actor: UserActor, *refs: ObjectRef[Any], call: str = "") -> None:
        stack = f"line {number}\n"
        wait = LongWait(call or f"running-{number}", "Class", actor, "", refs, len(refs), stack)
        self.waits.begin((NODE, 1, number), wait)

    def look(self) -> None:
        looks, self.later = self.later, []
        for each in looks:
            each()


def test_a_circle_that_is_seen_twice_is_broken_and_the_error_has_all_stacks():
    scene = Scene()
    call, back = scene.one.call("call", (1,), {}), scene.other.call("call", (1,), {})
    scene.waiting(1, scene.one, back)
    scene.waiting(2, scene.other, call)
    assert len(scene.later) == 1
    scene.look()
    assert not call.done()
    assert not back.done()
    scene.look()
    for ref in (call, back):
        with pytest.raises(DeadlockError, match="has no room before") as caught:
            ref.result(0)
        assert caught.value.stacks == {"running-1": "line 1\n", "running-2": "line 2\n"}
    scene.look()
    assert scene.later == []


def test_a_wait_that_ends_between_two_looks_was_no_deadlock():
    scene = Scene()
    call = scene.one.call("call", (1,), {})
    scene.waiting(1, scene.one, call)
    scene.look()
    scene.waits.end((NODE, 1, 1))
    scene.look()
    assert (call.done(), scene.later) == (False, [])


def test_the_waits_of_a_worker_that_has_left_are_over():
    scene = Scene()
    call = scene.one.call("call", (1,), {})
    scene.waiting(1, scene.one, call)
    scene.waits.worker_left(NODE, 2)
    scene.look()
    scene.waits.worker_left(NODE, 1)
    scene.look()
    assert (call.done(), scene.later) == (False, [])


def test_a_circle_that_grows_is_looked_at_once_more():
    scene = Scene()
    call, back = scene.one.call("call", (1,), {}), scene.other.call("call", (1,), {})
    scene.waiting(1, scene.one, call)
    scene.look()
    scene.waiting(2, scene.other, back)
    scene.look()
    assert (call.done(), back.done()) == (False, False)
    scene.look()
    assert (call.done(), back.done()) == (True, True)


def test_what_has_ended_meanwhile_is_not_waited_for():
    scene = Scene()
    call = scene.one.call("call", (1,), {})
    scene.waiting(1, scene.one, call)
    call.cancel()
    scene.look()
    assert scene.later == []


def test_of_calls_that_have_all_begun_the_last_to_wait_is_told():
    scene = Scene()
    one, other = scene.one.call("call", (1,), {}), scene.other.call("call", (1,), {})
    scene.waiting(1, scene.one, other, call=one.task_id)
    scene.waiting(2, scene.other, one, call=other.task_id)
    scene.look()
    assert scene.told == []
    scene.look()
    assert scene.told == [(NODE, 1, one.task_id)]
    assert (one.done(), other.done()) == (False, False)
    scene.waits.end((NODE, 1, 2))
    scene.look()
    assert (len(scene.told), scene.later) == (1, [])
