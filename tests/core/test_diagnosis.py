"""What is made of what was found out about a node."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import pytest

from goliath.core import diagnosis
from goliath.core.diagnosis import Check, Diagnosis, Grade, bad, doubtful, good

FINE = {
    "workers": 2,
    "busy": 0.0,
    "queued": 0,
    "processes": 2,
    "draining": False,
    "memory_bytes": 100 * 2**30,
    "memory_free_bytes": 50 * 2**30,
}
SHOWN, OTHER = "sha256:" + "a" * 64, "sha256:" + "b" * 64


def certificate(**changes: Any) -> Check:
    facts = {"version": "TLSv1.3", "shown": SHOWN, "pinned": "", "vouched": False}
    return diagnosis.judge_certificate(**{**facts, "days_left": 3000.0, **changes})


def test_a_verdict_names_the_first_failure_else_the_warnings_else_nothing():
    fine, slow, dead = good("a", "good"), doubtful("b", "slow", "wait"), bad("c", "dead", "bury")
    for checks, usable, verdict in (
        ([fine], True, "it is fine"),
        ([fine, slow, slow], True, "it works, and could be better: b"),
        ([slow, dead, bad("d", "deader", "")], False, "it cannot be used: dead"),
    ):
        found = Diagnosis("it", checks)
        assert (found.usable, found.verdict()) == (usable, verdict)


def test_a_port_at_which_nobody_listens_here_is_answered_by_those_at_which_somebody_does():
    (here,) = diagnosis.judge_connections(
        {"127.0.0.1": None}, {"127.0.0.1": "Connection refused"}, ["127.0.0.1:8080", "[::1]:9090"]
    )
    assert here.advice.endswith("of your Lieutenants there run 127.0.0.1:8080, [::1]:9090")


def test_an_address_that_does_not_answer_is_a_warning_only_beside_one_that_does():
    alone = diagnosis.judge_connections({"::1": None}, {"::1": "Connection refused"})
    beside = diagnosis.judge_connections(
        {"::1": None, "127.0.0.1": 0.002}, {"::1": "no answer within 5 s"}
    )
    assert [check.grade for check in alone] == [Grade.FAILURE]
    assert "goliath lieutenant" in alone[0].advice
    assert [check.grade for check in beside] == [Grade.WARNING, Grade.OK]
    assert "firewall" in beside[0].advice
    assert beside[1].value == {"address": "127.0.0.1", "ms": 2.0}
    unreachable = diagnosis.judge_connections({"1": None}, {"1": "Network is unreachable"})
    assert "routes" in unreachable[0].advice


@pytest.mark.parametrize(
    ("changes", "grade"),
    [
        ({}, Grade.OK),
        ({"pinned": SHOWN}, Grade.OK),
        ({"pinned": OTHER}, Grade.FAILURE),
        ({"days_left": 3.0}, Grade.OK),  # the token proves it, and nobody looks at the date
        ({"days_left": None}, Grade.OK),
        ({"vouched": True}, Grade.OK),
        ({"vouched": True, "days_left": 29.0}, Grade.WARNING),
    ],
)
def test_a_certificate_is_another_one_or_ends_soon(changes: dict[str, Any], grade: Grade):
    check = certificate(**changes)
    assert check.grade is grade
    assert check.value["certificate"] == SHOWN
    assert bool(check.advice) is (grade is not Grade.OK)


def test_packages_that_differ_or_are_missing_there_are_warnings_and_others_are_not():
    ours = {"numpy": "2.0", "scipy": "1.1", "orjson": "3"}
    same = diagnosis.judge_packages(ours, {**ours, "torch": "9"})
    assert (same.grade, same.said) == (Grade.OK, "the same 3 at both ends")
    other = diagnosis.judge_packages(ours, {"numpy": "1.9", "orjson": "3"})
    assert other.grade is Grade.WARNING
    assert other.said == "numpy 2.0 here, 1.9 there; scipy 1.1 here, not there"
    assert (other.value["differ"], other.value["missing"]) == (["numpy"], ["scipy"])


@pytest.mark.parametrize(
    ("skew_s", "uncertain_s", "grade", "said"),
    [
        (0.5, 0.01, Grade.OK, "0.500 s ahead (± 0.010 s)"),
        (-2.5, 0.6, Grade.OK, "2.500 s behind (± 0.600 s)"),
        (-2.5, 0.4, Grade.WARNING, "2.500 s behind (± 0.400 s)"),
        (90.0, 0.01, Grade.WARNING, "90.000 s ahead (± 0.010 s)"),
    ],
)
def test_a_clock_is_wrong_only_if_that_is_certain(skew_s, uncertain_s, grade, said):
    check = diagnosis.judge_clock(skew_s, uncertain_s)
    assert (check.grade, check.said) == (grade, said)


def test_a_round_trip_is_the_middle_of_several():
    quick = diagnosis.judge_round_trip([0.9, 0.002, 0.001])
    assert quick.grade is Grade.OK
    assert quick.value == {"ms": 2.0, "max_ms": 900.0, "n": 3}
    assert diagnosis.judge_round_trip([0.3, 0.3, 0.001]).grade is Grade.WARNING


def test_bandwidth_is_as_good_as_the_slower_way():
    assert diagnosis.judge_bandwidth(5e6, 2e6).grade is Grade.OK
    slow = diagnosis.judge_bandwidth(5e6, 0.5e6)
    assert slow.grade is Grade.WARNING
    assert slow.value == {"up_mb_s": 5.0, "down_mb_s": 0.5}


@pytest.mark.parametrize(
    ("changes", "grade"),
    [
        ({}, Grade.OK),
        ({"draining": True}, Grade.FAILURE),
        ({"workers": 0}, Grade.FAILURE),
        ({"memory_free_bytes": 2**30}, Grade.WARNING),
    ],
)
def test_a_node_that_takes_nothing_is_not_usable(changes: dict[str, Any], grade: Grade):
    check = diagnosis.judge_node({**FINE, **changes})
    assert check.grade is grade
    assert check.value == {**FINE, **changes}


def test_what_this_machine_lacks_is_a_warning_with_what_to_do():
    checks = [
        diagnosis.judge_shared_memory(None),
        diagnosis.judge_shared_memory(64 * 2**20),
        diagnosis.judge_descriptors(256),
        diagnosis.judge_control_groups("", writable=False),
        diagnosis.judge_control_groups("/sys/fs/cgroup/a", writable=False),
        diagnosis.judge_certificate_maker(""),
    ]
    assert [check.grade for check in checks] == [Grade.WARNING] * 6
    assert all(check.advice for check in checks)
    checks = [
        diagnosis.judge_shared_memory(2**30),
        diagnosis.judge_descriptors(4096),
        diagnosis.judge_control_groups("/sys/fs/cgroup/a", writable=True),
        diagnosis.judge_certificate_maker("openssl"),
    ]
    assert [check.grade for check in checks] == [Grade.OK] * 4
    assert not any(check.advice for check in checks)


def test_a_diagnosis_is_plain_data():
    found = asdict(Diagnosis("it", [bad("a", "said", "do", ms=1.5)]))
    assert found["checks"] == [
        {"name": "a", "grade": "failure", "said": "said", "advice": "do", "value": {"ms": 1.5}}
    ]
