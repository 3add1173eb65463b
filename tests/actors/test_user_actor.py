"""An actor of the user's in its Commander's process: its calls, and what its deaths cost them."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

from goliath.actors import desk
from goliath.actors.blueprint import Blueprint
from goliath.actors.object_ref import ObjectRef
from goliath.actors.outcomes import Setback, Where
from goliath.actors.repertoire import DEFAULT_GROUP, Method, Repertoire
from goliath.actors.stage import BEGIN
from goliath.actors.surroundings import Surroundings
from goliath.actors.user_actor import UserActor
from goliath.core.commands import Verdict
from goliath.errors import ActorUnavailableError
from goliath.transport.functions import dump_function
from goliath.transport.rows import encode_single
from tests.actors.desks import FakeCommander, calls_of


def echo(method: str, *args: Any) -> Any:
    """Stands for `stage.Methods`."""
    return None if method == BEGIN else (method, *args)


class Played:
    """An actor that is being made, and the Commander whose actor it is.

    Args:
        batches: that are wanted of each life, ``__init__`` included.
    """

    def __init__(self, batches: int = 20, **options: Any) -> None:
        self.commander = FakeCommander(batches=batches, calls=1, endless=False, lazy=True)
        creation = encode_single((BEGIN,), {})
        self.actor = UserActor(
            "actor-1",
            Blueprint(dump_function(echo), **options),
            creation,
            [],
            Surroundings("env"),
            self.commander.portal,
            self.commander,
            lambda _actor: None,
        )

    def run(self) -> None:
        """Run what was sent: ``__init__``, before anything else."""
        self.commander.run_all()

    def call_as(self, task_id: str, method: str) -> ObjectRef[Any]:
        """A call that a worker makes."""
        return self.actor.call_as(task_id, encode_single((method,), {}), [])

    def die(self) -> None:
        """Its process ends under all calls that were sent, and the next one is made."""
        parcels = self.commander.parcels[:]
        self.commander.parcels.clear()
        for parcel in parcels:
            crash = Setback(Verdict.CRASHED)
            self.actor.on_failed(desk.Failed(parcel.first, 0, parcel.calls, crash, Where("echo")))
        self.actor._on_abandoned(Setback(Verdict.GONE))
        self.run()


def test_calls_of_several_callers_with_one_number_may_be_tried_again_as_often_as_each_other() -> (
    None
):
    played = Played(max_restarts=5, max_task_retries=1)
    played.run()
    refs = [played.call_as(f"{maker}-7", maker) for maker in ("w1", "w2", "w3")]
    played.die()
    played.run()
    assert [ref.result(timeout=0) for ref in refs] == [("w1",), ("w2",), ("w3",)]


def test_a_call_is_tried_no_more_often_than_it_may_be_and_forgotten_when_it_has_ended() -> None:
    played = Played(max_restarts=5, max_task_retries=1)
    played.run()
    ref = played.call_as("w1-7", "again")
    played.die()
    assert not ref.done()
    played.die()
    with pytest.raises(ActorUnavailableError):
        ref.result(timeout=0)
    good = played.call_as("w1-8", "good")
    played.die()
    played.run()
    assert good.result(timeout=0) == ("good",)
    assert not played.actor._tries


def test_of_calls_that_died_together_those_are_made_again_that_may() -> None:
    played = Played(batches=2, max_restarts=5, max_task_retries=1)
    first, *others = [played.actor.call(name, (), {}) for name in ("first", "second", "third")]
    played.run()
    played.commander.calls = 3
    played.die()  # under the first, which was sent alone
    played.die()  # under all three
    with pytest.raises(ActorUnavailableError):
        first.result(timeout=0)
    played.run()
    assert [ref.result(timeout=0) for ref in others] == [("second",), ("third",)]


def test_calls_on_their_way_when_the_next_life_begins_are_made_in_it_in_their_order() -> None:
    played = Played(max_restarts=1)
    played.run()
    refs = [played.actor.call(name, (), {}) for name in ("late", "later")]
    parcels = played.commander.parcels[:]
    played.commander.parcels.clear()
    gone = Setback(Verdict.GONE)
    played.actor._on_abandoned(gone)  # before anybody has heard of these parcels
    for parcel in parcels:
        played.actor.on_failed(desk.Failed(parcel.first, 0, parcel.calls, gone, Where("echo")))
    played.run()
    assert sent(played) == ["late", "later"]
    played.run()
    assert [ref.result(timeout=0) for ref in refs] == [("late",), ("later",)]


def grouped(**limits: int) -> Repertoire:
    return Repertoire({}, {DEFAULT_GROUP: 1, **limits})


def sent(played: Played) -> list[Any]:
    """The methods of the calls that are on their way."""
    return [calls_of(parcel)[0][0][0] for parcel in played.commander.parcels]


def test_of_each_group_as_many_calls_are_on_their_way_as_may_run_and_as_many_again() -> None:
    played = Played(repertoire=grouped(io=1), concurrency=2)
    for name in "abcd":
        played.actor.call(name, (), {}, "io")
    assert sent(played) == [BEGIN], "nothing goes before the instance is there"
    played.run()
    assert sent(played) == ["a", "b"]
    played.actor.call("x", (), {})
    assert sent(played) == ["a", "b", "x"]
    played.run()
    assert sent(played) == ["c", "d"], "what has ended makes room"


def test_a_call_in_a_group_that_is_withdrawn_or_cancelled_takes_no_room() -> None:
    played = Played(repertoire=grouped(io=1), concurrency=2)
    played.run()
    refs = [played.actor.call(name, (), {}, "io") for name in "abcde"]
    refs[3].cancel()
    (first, *_) = played.commander.parcels
    cancelled = Setback(Verdict.CANCELLED)
    played.actor.on_failed(desk.Failed(first.first, 0, 1, cancelled, Where("echo")))
    assert sent(played) == ["a", "b", "c"]
    played.commander.parcels.remove(first)
    played.run()
    assert sent(played) == ["e"]


def test_the_next_life_has_room_in_every_group_and_goes_on_in_their_order() -> None:
    played = Played(repertoire=grouped(io=1), concurrency=2, max_restarts=1, max_task_retries=1)
    played.run()
    refs = [
        played.actor.call(f"{group}{n}", (), {}, group) for n in range(4) for group in ("", "io")
    ]
    assert sent(played) == ["0", "io0", "1", "io1"]
    played.die()
    assert sent(played) == ["0", "1", "io0", "io1"]
    played.run()
    played.run()
    assert [ref.result(timeout=0)[0] for ref in refs[::2]] == ["0", "1", "2", "3"]
    assert [ref.result(timeout=0)[0] for ref in refs[1::2]] == ["io0", "io1", "io2", "io3"]
    assert not played.actor._sent


def test_whatever_a_worker_says_of_an_actor_only_what_can_be_is_made() -> None:
    good = Blueprint(dump_function(echo), repertoire=grouped(io=1), concurrency=2)
    assert Blueprint.of(good.function, good.travelling()) == good
    for repertoire in (
        None,
        {"methods": {}},
        {"methods": {}, "groups": {"io": 2}},
        {"methods": {}, "groups": {"": 1, "io": 0}},
        {"methods": {}, "groups": {"": 1, "io": 2}},  # more than its concurrency
        {"methods": {"f": {"num_returns": 1, "group": "what"}}, "groups": {}},
        {"methods": {"f": {"num_returns": 0, "group": ""}}, "groups": {}},
        {"methods": {"f": 1}, "groups": {}},
    ):
        with pytest.raises(TypeError):
            Blueprint.of(good.function, {**good.travelling(), "repertoire": repertoire})


def test_what_a_handle_knows_is_the_same_when_it_has_travelled() -> None:
    methods = {"f": Method(), "g": Method("streaming", "io"), "h": Method(2)}
    repertoire = Repertoire(methods, {DEFAULT_GROUP: 1, "io": 1})
    travelled = pickle.loads(pickle.dumps(repertoire))
    assert travelled == repertoire
    assert travelled is pickle.loads(pickle.dumps(repertoire)), "it is read once"


def test_an_actor_that_is_killed_before_it_was_sent_to_be_made_is_made_once() -> None:
    played = Played(batches=0, max_restarts=1)
    ref = played.actor.call("first", (), {})
    assert sent(played) == []
    played.commander.batches = 20
    played.actor._on_abandoned(Setback(Verdict.GONE))
    assert sent(played) == [BEGIN]
    played.run()
    played.run()
    assert ref.result(timeout=0) == ("first",)
