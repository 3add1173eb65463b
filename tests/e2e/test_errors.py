"""What a user sees when a call raises: the right class, the story, nothing else lost."""

from __future__ import annotations

import os
import pickle
import traceback
from typing import Any

import pytest

import goliath
from goliath import Commander, GoliathError, SerializationError, TaskError
from goliath.errors import RemoteTraceback
from tests.e2e.calls import fail
from tests.lieutenants import Lieutenant


class TwoArgumentsError(Exception):
    """Does not survive pickling: the arguments are not what ``__init__`` wants."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(f"{code}: {text}")


class UnprintableError(Exception):
    """Its text cannot be had."""

    def __str__(self) -> str:
        raise RuntimeError("no text for you")


def outcome(cmdr: Commander, function: Any, *before_and_after: Any) -> Any:
    """The outcome of one call between two good ones, which must both stay good."""

    def among_good_ones(n):
        return n if n != 1 else function()

    first, middle, last = cmdr.run(
        among_good_ones, [(n,) for n in range(3)], return_exceptions=True
    )
    assert (first, last) == (0, 2)
    return middle


# -- a call's own exception --------------------------------------------------------------


def test_it_has_its_own_class_a_remote_traceback_and_a_note(
    cmdr: Commander, node: Lieutenant
) -> None:
    with pytest.raises(ValueError, match="bad 7") as caught:
        cmdr.run(fail, [(7,)])
    cause = caught.value.__cause__
    assert isinstance(cause, RemoteTraceback)
    assert "in fail" in str(cause)
    assert "bad 7" in str(cause)
    note = "\n".join(caught.value.__notes__)
    for word in ("fail", "0", "7", str(node.port), "worker", "attempt"):
        assert word in note
    printed = "".join(traceback.format_exception(caught.value))
    assert "in fail" in printed


def test_the_note_has_the_index_of_the_call(cmdr: Commander) -> None:
    results = cmdr.run(fail, [{"n": n} for n in range(30)], return_exceptions=True)
    for index, error in enumerate(results):
        assert f"{index}" in "\n".join(error.__notes__)
        assert len(error.__notes__) == 1


def test_long_arguments_are_cut_in_the_note(cmdr: Commander) -> None:
    def fail_big(text):
        raise ValueError("too big")

    (error,) = cmdr.run(fail_big, [("x" * 100_000,)], return_exceptions=True)
    note = "\n".join(error.__notes__)
    assert "xxx" in note
    assert len(note) < 1000


def test_attributes_and_subclasses_survive(cmdr: Commander) -> None:
    def refuse():
        error = FileNotFoundError(2, "No such file", "/nowhere")
        error.hint = "look elsewhere"
        raise error

    error = outcome(cmdr, refuse)
    assert type(error) is FileNotFoundError
    assert (error.errno, error.filename, error.hint) == (2, "/nowhere", "look elsewhere")


def test_a_class_of_the_users_own_is_caught_by_that_class(cmdr: Commander) -> None:
    class MyError(Exception):
        pass

    def refuse():
        raise MyError("mine")

    with pytest.raises(Exception, match="mine") as caught:
        cmdr.run(refuse, [()])
    assert type(caught.value).__name__ == "MyError"


def test_an_exception_group_arrives_whole(cmdr: Commander) -> None:
    def refuse():
        raise ExceptionGroup("both", [ValueError("one"), KeyError("two")])

    error = outcome(cmdr, refuse)
    assert isinstance(error, ExceptionGroup)
    assert [type(part) for part in error.exceptions] == [ValueError, KeyError]


def test_the_cause_inside_the_worker_is_in_the_remote_traceback(cmdr: Commander) -> None:
    def refuse():
        try:
            {}["key"]
        except KeyError as exc:
            raise ValueError("outer") from exc

    error = outcome(cmdr, refuse)
    assert "KeyError" in str(error.__cause__)


# -- exceptions that cannot be rebuilt ---------------------------------------------------


def raise_stop_iteration():
    raise StopIteration("stop")


def raise_system_exit():
    raise SystemExit(3)


def raise_keyboard_interrupt():
    raise KeyboardInterrupt("ctrl")


def raise_generator_exit():
    raise GeneratorExit("gen")


def raise_cancelled():
    import asyncio

    raise asyncio.CancelledError("can")


def raise_two_arguments():
    raise TwoArgumentsError(5, "five")


def raise_unpicklable():
    import threading

    error = ValueError("with a lock")
    error.lock = threading.Lock()
    raise error


@pytest.mark.parametrize(
    ("function", "type_name"),
    [
        (raise_stop_iteration, "StopIteration"),
        (raise_system_exit, "SystemExit"),
        (raise_keyboard_interrupt, "KeyboardInterrupt"),
        (raise_generator_exit, "GeneratorExit"),
        (raise_cancelled, "CancelledError"),
        (raise_two_arguments, "TwoArgumentsError"),
        (raise_unpicklable, "ValueError"),
    ],
)
def test_an_exception_that_cannot_be_rebuilt_becomes_a_task_error(
    cmdr: Commander, function: Any, type_name: str
) -> None:
    error = outcome(cmdr, function)
    assert type(error) is TaskError
    assert error.type_name.endswith(type_name)
    assert type_name in str(error)
    assert function.__name__ in error.remote_traceback


def test_an_exception_without_a_text_arrives_all_the_same(cmdr: Commander) -> None:
    def refuse():
        raise UnprintableError

    error = outcome(cmdr, refuse)
    assert type(error).__name__ in ("UnprintableError", "TaskError")


def test_exhausting_the_stack_is_a_recursion_error(cmdr: Commander) -> None:
    def deeper():
        return deeper()

    assert isinstance(outcome(cmdr, deeper), RecursionError)


# -- results that cannot be sent ---------------------------------------------------------


def test_a_generator_as_a_result_is_refused_with_advice(cmdr: Commander) -> None:
    def make():
        return (n for n in range(3))

    error = outcome(cmdr, make)
    assert isinstance(error, SerializationError)
    assert "generator" in str(error)
    assert "list" in str(error)


def test_a_result_that_cannot_be_read_here_is_an_error_of_its_call(cmdr: Commander) -> None:
    class Bomb:
        def __reduce__(self):
            return (int, ("not a number",))

    error = outcome(cmdr, Bomb)
    assert isinstance(error, SerializationError)


# -- the classes themselves --------------------------------------------------------------

CLASSES = [
    name
    for name in dir(goliath.errors)
    if isinstance(getattr(goliath.errors, name), type)
    and issubclass(getattr(goliath.errors, name), GoliathError)
    and name != "LocalError"  # a bug of ours, nothing to catch
]


@pytest.mark.parametrize("name", CLASSES)
def test_every_class_is_importable_from_goliath_and_pickles(name: str) -> None:
    cls = getattr(goliath, name)
    error = cls("what happened")
    error.add_note("a note")
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is cls
    assert str(copy) == "what happened"
    assert vars(copy) == vars(error)


def test_errors_that_came_from_a_node_pickle_with_all_they_know(cmdr: Commander) -> None:
    def kill_myself():
        os.kill(os.getpid(), 9)

    for function in (raise_system_exit, kill_myself):
        (error,) = cmdr.run(function, [()], return_exceptions=True, max_retries=0)
        copy = pickle.loads(pickle.dumps(error))
        assert (type(copy), str(copy), vars(copy)) == (type(error), str(error), vars(error))


def test_the_tree_is_the_one_of_the_contract() -> None:
    import builtins

    assert issubclass(goliath.TaskTimeoutError, TimeoutError)
    assert issubclass(goliath.GetTimeoutError, TimeoutError)
    assert issubclass(goliath.DeadlineExceededError, TimeoutError)
    assert issubclass(goliath.ConnectionError, builtins.ConnectionError)
    assert issubclass(goliath.OutOfMemoryError, goliath.WorkerCrashedError)
