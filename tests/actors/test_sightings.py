"""Asking all nodes which detached actors there are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from goliath.actors.blueprint import Blueprint
from goliath.actors.sightings import Enquiries, Sighting
from goliath.core.ids import NodeId
from goliath.errors import ProtocolError
from goliath.transport import messages as msg
from goliath.transport.functions import Function

A, B = NodeId("a:1#1"), NodeId("b:2#1")
BLUEPRINT = Blueprint(Function("d", "Counter", b""), name="hits", namespace="web", detached=True)


def told(**changes: Any) -> dict[str, Any]:
    """What a node says of an actor."""
    return {
        "environment": "hits-0.2",
        "class": "Counter",
        "digest": "d",
        "spec": BLUEPRINT.travelling(),
        "pid": 17,
        "state": "idle",
        "pending": 0,
        "age_s": 1.5,
        **changes,
    }


class Asker:
    """Whoever asks."""

    def __init__(self) -> None:
        self.answers: list[list[str]] = []

    def __call__(self, seen: Sequence[Sighting]) -> None:
        self.answers.append([f"{each.node} {each.id}" for each in seen])


def test_the_answer_comes_when_all_have_answered_in_the_order_of_the_nodes():
    enquiries, asker = Enquiries(), Asker()
    question = enquiries.begin([A, B], "hits", "web", asker)
    assert (question.name, question.namespace) == ("hits", "web")
    enquiries.answered(B, msg.Actors(question.request, [told()]))
    assert asker.answers == []
    enquiries.answered(A, msg.Actors(question.request, [told(environment="other-1.1")]))
    assert asker.answers == [["a:1#1 other-1", "b:2#1 hits-0"]]
    enquiries.answered(A, msg.Actors(question.request, [told()]))
    assert len(asker.answers) == 1


def test_nobody_waits_for_a_node_that_has_gone_nor_hears_what_it_has_said():
    enquiries, asker = Enquiries(), Asker()
    question = enquiries.begin([A, B], "", "", asker)
    enquiries.answered(A, msg.Actors(question.request, [told()]))
    enquiries.node_left(A)
    enquiries.node_left(B)
    assert asker.answers == [[]]


def test_without_nodes_the_answer_is_known_at_once():
    asker = Asker()
    Enquiries().begin([], "", "", asker)
    assert asker.answers == [[]]


def test_a_commander_that_ends_leaves_nobody_waiting():
    enquiries, asker = Enquiries(), Asker()
    enquiries.begin([A], "", "", asker)
    enquiries.begin([A, B], "", "", asker)
    enquiries.close()
    assert asker.answers == [[], []]


def test_what_was_seen_is_told_to_users_by_the_address_of_its_node():
    info = Sighting.of(A, told()).info
    assert (info.name, info.namespace, info.class_name) == ("hits", "web", "Counter")
    assert (info.node, info.pid, info.state, info.pending) == ("a:1", 17, "idle", 0)


@pytest.mark.parametrize(
    "changes",
    [
        {"environment": 3},
        {"class": None},
        {"digest": []},
        {"spec": None},
        {"spec": {"methods": 3}},
        {"spec": {"what": 3}},
        {"pid": "17"},
        {"state": {}},
        {"pending": "0"},
        {"age_s": None},
    ],
    ids=str,
)
def test_a_node_that_is_not_honest_is_not_believed(changes: dict[str, Any]):
    enquiries, asker = Enquiries(), Asker()
    question = enquiries.begin([A], "", "", asker)
    with pytest.raises(ProtocolError, match="a detached actor that is"):
        enquiries.answered(A, msg.Actors(question.request, [told(**changes)]))
    assert asker.answers == []


def test_what_lacks_a_field_is_no_actor():
    with pytest.raises(ProtocolError):
        Sighting.of(A, {"environment": "hits-0.1"})
