"""The helpers of the tests of faults notice a broken promise: they could all be true by mistake."""

from __future__ import annotations

import mmap
import os
from pathlib import Path

import pytest

from tests.faults import promises
from tests.faults.promises import Journal, Peaks, Strikes


@pytest.fixture
def written(journal: Journal) -> Journal:
    """Call 0 has run once, call 1 was begun, died, and was made again."""
    promises.execute(journal.path, 0)
    promises.begin(journal.path, 1)
    promises.execute(journal.path, 1)
    return journal


def test_a_journal_knows_what_was_begun_and_what_was_not_finished(written: Journal):
    assert written.executions() == {0: 1, 1: 2}
    assert written.unfinished() == {1: 1}
    assert {line.pid for line in written.lines()} == {os.getpid()}


def test_a_missing_or_misplaced_outcome_is_noticed():
    promises.every_call_has_one_outcome([(0, "a"), ValueError()], 2)
    for wrong in ([(0, "a")], [(0, "a"), None], [(1, "a"), (0, "b")]):
        with pytest.raises(AssertionError):
            promises.every_call_has_one_outcome(wrong, 2)


def test_a_value_that_no_execution_returned_is_noticed(written: Journal):
    true = [(line.call, line.token) for line in written.lines() if not line.began]
    promises.values_are_true([*true, ValueError()], written)
    unfinished = next(line for line in written.lines() if line.call == 1)
    with pytest.raises(AssertionError, match="never returned"):
        promises.values_are_true([(1, unfinished.token)], written)


def test_too_many_executions_are_noticed(written: Journal):
    promises.executed_at_most(written, 2)
    promises.executed_at_most(written, 1, [0])
    promises.only_these_were_repeated(written, [1])
    with pytest.raises(AssertionError, match=r"\{1: 2\}"):
        promises.executed_at_most(written, 1)
    with pytest.raises(AssertionError, match=r"\{1: 2\}"):
        promises.only_these_were_repeated(written, [0])


def test_two_owners_of_a_call_are_noticed(written: Journal):
    promises.never_two_owners(written)
    first, second = (promises.begin(written.path, 2) for _ in range(2))
    promises.end(written.path, 2, first)
    promises.end(written.path, 2, second)
    with pytest.raises(AssertionError, match="call 2"):
        promises.never_two_owners(written)


def test_calls_of_an_actor_out_of_order_or_at_a_time_are_noticed(journal: Journal):
    for call in range(3):
        promises.execute(journal.path, call)
    promises.in_order_one_at_a_time(journal)
    three, four = (promises.begin(journal.path, call) for call in (3, 4))
    promises.end(journal.path, 3, three)
    promises.end(journal.path, 4, four)
    with pytest.raises(AssertionError, match="call 4 began"):
        promises.in_order_one_at_a_time(journal)


def test_a_repeated_call_of_an_actor_is_noticed(journal: Journal):
    for _ in range(2):
        promises.execute(journal.path, 0)
    with pytest.raises(AssertionError, match="twice"):
        promises.in_order_one_at_a_time(journal)


def test_a_fault_that_did_not_happen_is_noticed(strikes: Strikes):
    strikes.note("cut")
    strikes.happened("cut")
    with pytest.raises(AssertionError, match="cut: 1 times, not 2"):
        strikes.happened("cut", 2)


def test_a_peak_is_noticed_when_it_has_passed():
    peaks = Peaks(here=os.getpid())
    peaks.stay_below(8 << 20)
    with mmap.mmap(-1, 32 << 20) as pages:  # of the kernel: malloc may still have some of earlier
        pages.write(b"x" * len(pages))
    with pytest.raises(AssertionError, match="here grew by"):
        peaks.stay_below(8 << 20)


def test_an_unpickled_class_is_noticed():
    assert promises.pickles_are_noticed()


UNPICKLES = """
import pathlib, pickle
pickle.loads(pickle.dumps(pathlib.Path()))
from goliath.lieutenant"""


def test_a_node_that_unpickles_is_noticed(tmp_path: Path):
    sabotaged = promises._AUDITED.replace("\nfrom goliath.lieutenant", UNPICKLES)
    node = promises.Audited(tmp_path, 1, launcher=("-c", sabotaged))
    with node, pytest.raises(AssertionError, match="pathlib"):
        node.has_unpickled_nothing()
