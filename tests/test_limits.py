"""What a node says of its limits, and what is believed of that."""

from __future__ import annotations

from typing import Any

import pytest

from goliath.limits import Enforcer, Limit

MEMORY = Limit("memory per session", 1 << 30, "bytes", Enforcer.CGROUP_V1)


def test_a_limit_is_the_same_when_it_has_travelled():
    assert Limit.from_json(MEMORY.to_json()) == MEMORY
    assert type(MEMORY.to_json()["enforced_by"]) is str


def test_what_another_version_adds_is_left_out_and_its_enforcers_are_taken_as_they_are():
    told = {**MEMORY.to_json(), "since": 3, "enforced_by": "jail"}
    assert Limit.from_json(told).enforced_by == "jail"
    assert Limit.from_json(told).in_force


@pytest.mark.parametrize(
    "change",
    [{"amount": "much"}, {"amount": True}, {"name": 3}, {"unit": None}, {"why": []}],
    ids=lambda change: next(iter(change)),
)
def test_what_describes_no_limit_is_refused(change: dict[str, Any]):
    with pytest.raises(ValueError, match="describes no limit"):
        Limit.from_json({**MEMORY.to_json(), **change})


@pytest.mark.parametrize("told", [{"amount": 1}, [], 3, None, "memory"])
def test_what_has_no_name_or_no_fields_at_all_is_refused_too(told: object):
    with pytest.raises(ValueError, match="describes no limit"):
        Limit.from_json(told)


def test_in_force_is_what_has_an_amount_and_somebody_who_sees_to_it():
    assert MEMORY.in_force
    assert not Limit("memory per session", None, "bytes", Enforcer.CGROUP_V1).in_force
    assert not Limit("memory per session", 5, "bytes", Enforcer.NOBODY, "no cgroups").in_force
