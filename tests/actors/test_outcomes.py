"""What a caller gets for a call that has no value."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

from goliath.actors.outcomes import Report, Setback, Where, explain, rebuild
from goliath.core.commands import Verdict
from goliath.errors import (
    GoliathError,
    NodeDiedError,
    OutOfMemoryError,
    RemoteTraceback,
    RuntimeEnvSetupError,
    SerializationError,
    TaskCancelledError,
    TaskError,
    TaskTimeoutError,
    WorkerCrashedError,
)

WHERE = Where("foo", "lab1:8080#1", 3, 2)
NOTE = "goliath: foo, call 7: foo(bar=1) on lab1:8080#1, worker 3, attempt 2"


class OwnError(Exception):
    """A class of the user's, with an argument of its own."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


def record(exc: BaseException | None, **changes: Any) -> dict[str, Any]:
    return {
        "kind": "raised",
        "type": type(exc).__name__,
        "message": str(exc),
        "traceback": "Traceback (most recent call last): …",
        "call": "foo(bar=1)",
        "pickle": None if exc is None else pickle.dumps(exc),
        **changes,
    }


def test_an_exception_arrives_as_its_own_class_with_note_and_cause():
    error = rebuild(record(OwnError(5)), WHERE, 7)
    assert type(error) is OwnError
    assert error.code == 5
    assert error.__notes__ == [NOTE]
    assert isinstance(error.__cause__, RemoteTraceback)
    assert "most recent call last" in str(error.__cause__)


@pytest.mark.parametrize(
    "exc",
    [StopIteration(1), StopAsyncIteration(), SystemExit(3), KeyboardInterrupt(), GeneratorExit()],
)
def test_what_would_break_a_loop_or_a_generator_becomes_a_task_error(exc: BaseException):
    error = rebuild(record(exc), WHERE, 7)
    assert type(error) is TaskError
    assert error.type_name == type(exc).__name__
    assert str(error).startswith(f"foo, call 7, raised {type(exc).__name__}")
    assert error.__notes__ == [NOTE]


@pytest.mark.parametrize("payload", [None, b"", b"garbage", pickle.dumps("no exception")])
def test_what_cannot_be_rebuilt_becomes_a_task_error_that_tells_all(payload: bytes | None):
    told = record(None, type="lib.Odd", message="odd", pickle=payload)
    error = rebuild(told, WHERE, 7)
    assert isinstance(error, TaskError)
    assert (error.type_name, error.remote_message) == ("lib.Odd", "odd")
    assert error.remote_traceback == told["traceback"]


def test_a_result_that_cannot_be_sent_is_a_serialization_error():
    told = record(None, kind="serialization", message="the result, a lock, cannot be pickled")
    error = rebuild(told, WHERE, 7)
    assert isinstance(error, SerializationError)
    assert str(error) == "foo, call 7: the result, a lock, cannot be pickled"
    assert error.__notes__ == [NOTE]


def crash(**report: Any) -> Setback:
    return Setback(Verdict.CRASHED, "4", report={"pid": 17, **report})


@pytest.mark.parametrize(
    ("setback", "kind", "words"),
    [
        (Setback(Verdict.CANCELLED), TaskCancelledError, ["was cancelled before it had a result"]),
        (
            Setback(Verdict.TIMED_OUT, timeout_s=2.5),
            TaskTimeoutError,
            ["longer than timeout=2.5 s on lab1:8080#1", "worker was killed"],
        ),
        (Setback(Verdict.TIMED_OUT), TaskTimeoutError, ["longer than it was given"]),
        (crash(exit_code=3), WorkerCrashedError, ["exit code 3", "pid 17", "blamed for it: 4"]),
        (crash(), WorkerCrashedError, ["cause unknown"]),
        (crash(signal=9999), WorkerCrashedError, ["signal 9999;"]),
        (crash(oom=True, signal=9), OutOfMemoryError, ["out of memory", "more memory"]),
        (Setback(Verdict.CRASHED), WorkerCrashedError, ["blamed for it: 1"]),
        (
            Setback(Verdict.NODE_DIED, "lab2:1#4"),
            NodeDiedError,
            ["was on lab2:1#4 when that node was lost", "may have run there"],
        ),
        (
            Setback(Verdict.ENVIRONMENT, "on lab1: disk full"),
            RuntimeEnvSetupError,
            ["could not start", "disk full"],
        ),
        (
            Setback(Verdict.INFEASIBLE, "num_cpus=64 is more than any node has"),
            GoliathError,
            ["can run on no connected node", "num_cpus"],
        ),
    ],
)
def test_a_verdict_is_explained_with_what_is_known(setback: Setback, kind: type, words: list[str]):
    error = explain(setback, WHERE, 7)
    assert type(error) is kind
    assert str(error).startswith("foo, call 7,")
    for word in words:
        assert word in str(error)
    assert error.__notes__ == ["goliath: foo, call 7 on lab1:8080#1, worker 3, attempt 2"]
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


def test_a_crash_keeps_its_particulars():
    error = explain(crash(signal=9, exit_code=None, stderr_tail="bye"), WHERE, 0)
    assert isinstance(error, WorkerCrashedError)
    assert (error.signal, error.exit_code, error.pid) == (9, None, 17)
    assert (error.node, error.stderr_tail, error.maybe_executed) == ("lab1:8080#1", "bye", True)


def test_every_verdict_has_an_explanation():
    report: Report = {}
    for verdict in Verdict:
        assert explain(Setback(verdict, "", None, report), Where("f"), 0)


def test_a_place_that_is_not_known_is_not_named():
    assert Where("f", attempt=1).note(3) == "goliath: f, call 3, attempt 1"
