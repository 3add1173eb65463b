"""``Commander.run`` when something is wrong: exceptions, bad arguments, time, retries."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from goliath import (
    Commander,
    DeadlineExceededError,
    GoliathError,
    SerializationError,
    TaskTimeoutError,
    WorkerCrashedError,
)
from tests.e2e.calls import add, die_until, fail, fail_if, nap, stamp, stamped

# -- exceptions --------------------------------------------------------------------------


def test_by_default_the_first_exception_ends_the_run(cmdr: Commander, tmp_path: Path) -> None:
    def work(n, folder):
        if n == 0:
            raise ValueError("bad 0")
        time.sleep(0.05)
        open(os.path.join(folder, str(n)), "w").close()

    with pytest.raises(ValueError, match="bad 0"):
        cmdr.run(work, [{"n": n} for n in range(500)], static={"folder": str(tmp_path)})
    assert len(os.listdir(tmp_path)) < 100
    assert cmdr.run(add, [(1, 1)]) == [2]


def test_return_exceptions_puts_them_in_their_places(cmdr: Commander) -> None:
    results: list[Any] = cmdr.run(
        fail_if, [{"n": n, "bad": 3} for n in range(6)], return_exceptions=True
    )
    assert results[:3] + results[4:] == [0, 1, 2, 4, 5]
    assert isinstance(results[3], ValueError)
    assert str(results[3]) == "bad 3"


def test_return_exceptions_runs_every_call(cmdr: Commander) -> None:
    results = cmdr.run(fail, [(n,) for n in range(1000)], return_exceptions=True)
    assert [str(error) for error in results] == [f"bad {n}" for n in range(1000)]


# -- arguments that are wrong ------------------------------------------------------------


@pytest.mark.parametrize("item", [5, "text", None, [1, 2], {1, 2}])
def test_an_item_of_another_type_is_a_type_error_with_index_and_type(
    cmdr: Commander, item: object
) -> None:
    with pytest.raises(TypeError) as caught:
        cmdr.run(add, [(1, 2), (3, 4), item])
    assert "2" in str(caught.value)
    assert type(item).__name__ in str(caught.value)


@pytest.mark.parametrize(
    ("item", "culprit"),
    [({"a": 1}, "b"), ({"a": 1, "b": 2, "zebra": 3}, "zebra"), ((1, 2, 3), "1"), ((1,), "b")],
)
def test_a_missing_or_unknown_argument_is_a_type_error_before_the_call_is_sent(
    cmdr: Commander, tmp_path: Path, item: Any, culprit: str
) -> None:
    with pytest.raises(TypeError, match=culprit) as caught:
        cmdr.run(add, [(1, 2), item])
    told = "\n".join([str(caught.value), *getattr(caught.value, "__notes__", [])])
    assert "1" in told
    assert caught.value.__cause__ is None  # it never went to a worker


def test_a_wrong_item_stands_in_its_place_with_return_exceptions(cmdr: Commander) -> None:
    calls: list[Any] = [(1, 2), {"a": 1}, 7, (3, 4)]
    first, missing, wrong, last = cmdr.run(add, calls, return_exceptions=True)
    assert (first, last) == (3, 7)
    assert isinstance(missing, TypeError)
    assert isinstance(wrong, TypeError)


def test_an_unpicklable_function_is_an_error_before_anything_runs(cmdr: Commander) -> None:
    lock = threading.Lock()
    with pytest.raises(SerializationError, match="lock"):
        cmdr.run(lambda n: (n, lock), [(1,)])


def test_something_that_is_no_function_is_a_type_error(cmdr: Commander) -> None:
    with pytest.raises(TypeError, match="str"):
        cmdr.run("add", [(1, 2)])  # type: ignore[arg-type]


def test_everything_after_the_data_is_keyword_only_and_unknown_words_are_errors(
    cmdr: Commander,
) -> None:
    with pytest.raises(TypeError):
        cmdr.run(add, [(1, 2)], (), {"b": 1})  # type: ignore[misc]
    with pytest.raises(TypeError, match="colour"):
        cmdr.run(add, [(1, 2)], colour="blue")  # type: ignore[call-arg]


# -- time --------------------------------------------------------------------------------


def test_a_call_over_its_timeout_is_killed_alone(cmdr: Commander) -> None:
    start = time.monotonic()
    results: list[Any] = cmdr.run(
        nap,
        [{"seconds": s} for s in (0.01, 30, 0.02, 0.03)],
        timeout=0.5,
        return_exceptions=True,
    )
    assert time.monotonic() - start < 8
    assert results[:1] + results[2:] == [0.01, 0.02, 0.03]
    assert isinstance(results[1], TaskTimeoutError)
    assert isinstance(results[1], TimeoutError)


def test_a_timeout_counts_execution_not_waiting(cmdr: Commander) -> None:
    # Ten calls of 0.2 s on two workers: the last ones wait 0.8 s for their turn.
    assert cmdr.run(nap, [{"seconds": 0.2}] * 10, timeout=0.7) == [0.2] * 10


def test_a_call_over_its_timeout_raises_by_default(cmdr: Commander) -> None:
    with pytest.raises(TaskTimeoutError):
        cmdr.run(nap, [{"seconds": 30}], timeout=0.2)


def test_a_deadline_ends_the_whole_run(cmdr: Commander) -> None:
    start = time.monotonic()
    with pytest.raises(DeadlineExceededError):
        cmdr.run(nap, [{"seconds": 0.3}] * 100, deadline=0.8)
    assert time.monotonic() - start < 10
    assert cmdr.run(add, [(1, 1)]) == [2]


def test_a_deadline_keeps_what_has_finished_with_return_exceptions(cmdr: Commander) -> None:
    results: list[Any] = cmdr.run(
        nap, [{"seconds": 0.1}] * 100, deadline=1.0, return_exceptions=True
    )
    assert len(results) == 100
    done = [result for result in results if result == 0.1]
    late = [result for result in results if isinstance(result, DeadlineExceededError)]
    assert len(done) + len(late) == 100
    assert done
    assert late


# -- retries -----------------------------------------------------------------------------


def test_a_call_whose_worker_dies_is_retried(cmdr: Commander, tmp_path: Path) -> None:
    assert cmdr.run(die_until, [{"folder": str(tmp_path), "times": 3}]) == [3]


def test_a_call_that_kills_its_worker_every_time_fails_after_four_executions(
    cmdr: Commander, tmp_path: Path
) -> None:
    with pytest.raises(WorkerCrashedError) as caught:
        cmdr.run(die_until, [{"folder": str(tmp_path), "times": 99}])
    assert stamped(str(tmp_path), "died") == 4
    assert caught.value.signal == 9
    assert caught.value.maybe_executed


def test_max_retries_zero_is_at_most_once(cmdr: Commander, tmp_path: Path) -> None:
    with pytest.raises(WorkerCrashedError) as caught:
        cmdr.run(die_until, [{"folder": str(tmp_path), "times": 99}], max_retries=0)
    assert stamped(str(tmp_path), "died") == 1
    assert caught.value.maybe_executed


def _fails_at_first(folder, name, error):
    if stamped(folder, name) < 2:
        stamp(folder, name)
        raise error("not yet")
    return stamped(folder, name)


def test_exceptions_of_the_call_are_not_retried_unless_asked(
    cmdr: Commander, tmp_path: Path
) -> None:
    call = {"folder": str(tmp_path), "name": "a", "error": OSError}
    with pytest.raises(OSError, match="not yet"):
        cmdr.run(_fails_at_first, [call])
    assert stamped(str(tmp_path), "a") == 1


def test_retry_exceptions_true_retries_any_and_a_list_only_those(
    cmdr: Commander, tmp_path: Path
) -> None:
    folder = str(tmp_path)
    assert cmdr.run(
        _fails_at_first,
        [{"folder": folder, "name": "a", "error": OSError}],
        retry_exceptions=True,
    ) == [2]
    assert cmdr.run(
        _fails_at_first,
        [{"folder": folder, "name": "b", "error": ConnectionResetError}],
        retry_exceptions=[OSError],
    ) == [2]
    with pytest.raises(ValueError, match="not yet"):
        cmdr.run(
            _fails_at_first,
            [{"folder": folder, "name": "c", "error": ValueError}],
            retry_exceptions=[OSError],
        )


def test_retried_exceptions_give_up_after_max_retries(cmdr: Commander, tmp_path: Path) -> None:
    call = {"folder": str(tmp_path), "name": "a", "error": OSError}
    with pytest.raises(OSError, match="not yet"):
        cmdr.run(_fails_at_first, [call], retry_exceptions=True, max_retries=1)
    assert stamped(str(tmp_path), "a") == 2


# -- what a call needs -------------------------------------------------------------------


def test_a_call_takes_the_cpus_it_asks_for(cmdr: Commander) -> None:
    def threads(n):
        return os.environ["OMP_NUM_THREADS"]

    assert cmdr.run(threads, [(1,)], num_cpus=2) == ["2"]
    start = time.monotonic()
    cmdr.run(nap, [{"seconds": 0.3}] * 2, num_cpus=2)  # one after the other
    assert time.monotonic() - start > 0.6


def test_named_resources_limit_how_many_calls_run_at_once(lieutenant) -> None:
    own = lieutenant(4, "--resources", '{"licence": 1}')
    with Commander([own.address]) as commander:
        start = time.monotonic()
        commander.run(nap, [{"seconds": 0.2}] * 3, resources={"licence": 1})
        assert time.monotonic() - start > 0.6


def test_a_call_that_no_node_can_ever_run_is_an_error_that_says_what_there_is(
    cmdr: Commander,
) -> None:
    with pytest.raises(GoliathError, match="no connected node") as caught:
        cmdr.run(add, [(1, 1)], num_cpus=64)
    assert "num_cpus=64 is more than any node has (the most: 2, on " in str(caught.value)
