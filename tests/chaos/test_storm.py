"""The short form of the storm, and that its judge sees what he is there for."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from goliath import Commander, TaskError, WorkerCrashedError
from tests.chaos.faults import PER_100_000_CALLS, planned
from tests.chaos.load import Load
from tests.chaos.storm import raise_storm
from tests.chaos.work import once, value_of, work

SEED, CALLS = 7, 10_000


@pytest.mark.timeout(150)
def test_in_a_storm_no_call_is_lost_doubled_or_wrong():
    report = raise_storm(SEED, CALLS)
    assert not report.complaints, "\n".join(report.lines())


def test_a_storm_is_chosen_by_its_seed_and_grows_with_the_calls():
    plan = planned(100_000, random.Random(1))
    assert plan == planned(100_000, random.Random(1)) != planned(100_000, random.Random(2))
    faults = [fault for _, fault in plan]
    assert {fault: faults.count(fault) for fault in faults} == PER_100_000_CALLS
    assert [at for at, _ in plan] == sorted(at for at, _ in plan)
    assert plan[-1][0] <= 85_000
    assert len(planned(10_000, random.Random(1))) == 80


@pytest.fixture
def load(tmp_path: Path) -> Load:
    """A hundred calls that have ended as they should: nobody has made them."""
    load = Load(Commander(workers=1), 100, tmp_path)
    for outcomes in load.outcomes.values():
        for index in outcomes.expected:
            outcomes.note(index, value_of(index))
    once_made = load.outcomes["once"].expected
    load.journal.write_text("".join(f"+{n}\n-{n}\n" for n in once_made))
    return load


def write(load: Load, line: str) -> None:
    with load.journal.open("a") as file:
        file.write(line)


def fail(load: Load, kind: str, error: Exception) -> None:
    outcomes = load.outcomes[kind]
    index = outcomes.expected.start
    del outcomes.values[index]
    outcomes.errors[index] = error


DEFECTS: dict[str, Callable[[Load], Any]] = {
    "lost: 1 calls of run, such as [5]": lambda load: load.outcomes["run"].told.pop(5),
    "doubled: 1 calls of run, such as [5]": lambda load: load.outcomes["run"].note(5, value_of(5)),
    "doubled: 1 calls of single, such as [5]": lambda load: load.outcomes["single"].note(5, 0),
    "wrong: 1 calls of run, such as [5]": lambda load: load.outcomes["run"].values.update({5: 0}),
    "failed: 1 calls of single": lambda load: fail(load, "single", WorkerCrashedError("x")),
    "a maker of calls failed": lambda load: load.failures.append(TimeoutError()),
    "begun more than once": lambda load: write(load, "+60\n"),
    "values of calls that did not end: [60]": lambda load: load.journal.write_text(
        load.journal.read_text().replace("-60\n", "")
    ),
    "failed, and not by a death": lambda load: fail(load, "once", TaskError("x")),
    "says that it was not executed": lambda load: fail(
        load, "once", WorkerCrashedError("x", maybe_executed=False)
    ),
}


def test_there_is_nothing_to_complain_of_where_all_is_well(load: Load):
    assert list(load.complaints()) == []
    fail(load, "once", WorkerCrashedError("x"))
    assert list(load.complaints()) == []


@pytest.mark.parametrize("complaint", DEFECTS)
def test_each_broken_promise_is_told(load: Load, complaint: str):
    DEFECTS[complaint](load)
    assert any(complaint in told for told in load.complaints()), list(load.complaints())


def test_calls_return_the_values_that_are_expected_of_them(tmp_path: Path):
    for index in (0, 1, 99_999):
        assert work(index, 0) == once(index, 0, str(tmp_path / "journal")) == value_of(index)
    assert (tmp_path / "journal").read_text() == "+0\n-0\n+1\n-1\n+99999\n-99999\n"
