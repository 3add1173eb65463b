"""The keywords of a run: what they come to, and each one that is refused."""

from __future__ import annotations

import math
from typing import Any

import pytest

from goliath.actors.checks import check_deadline
from goliath.actors.options import make_plan
from goliath.errors import SerializationError


def foo(x: int = 0) -> int:
    return x


def test_without_keywords_everything_has_its_default():
    plan = make_plan(foo, iter(()), ())
    assert plan.total is None
    assert (plan.ordered, plan.return_exceptions, plan.buffersize) == (True, False, None)
    options = plan.options
    assert (options.max_retries, options.timeout_s, options.cpus) == (3, None, 1)
    assert (options.batch_size, options.retry_exceptions, options.resources) == (None, False, {})
    assert options.function == plan.pickled.digest
    assert options.environment == plan.surroundings.key


def test_keywords_reach_the_mind():
    plan = make_plan(
        foo,
        [{}, {}],
        (),
        timeout=2,
        max_retries=0,
        retry_exceptions=[ValueError],
        batch_size=7,
        num_cpus=0.5,
        resources={"gpu": 1},
    )
    assert plan.total == 2
    options = plan.options
    assert (options.timeout_s, options.max_retries, options.batch_size) == (2, 0, 7)
    assert (options.retry_exceptions, options.cpus, options.resources) == (True, 0.5, {"gpu": 1})
    assert options.careful


@pytest.mark.parametrize(
    ("keywords", "error", "words"),
    [
        ({"timeout": 0}, ValueError, "timeout=0"),
        ({"timeout": -1}, ValueError, "timeout=-1"),
        ({"timeout": math.nan}, ValueError, "timeout=nan"),
        ({"timeout": "1"}, TypeError, "timeout='1'; it is a positive number of seconds, or None"),
        ({"max_retries": -1}, ValueError, "max_retries=-1"),
        ({"max_retries": 1.5}, ValueError, "max_retries=1.5"),
        ({"max_retries": None}, ValueError, "max_retries=None"),
        ({"batch_size": 0}, ValueError, "batch_size=0"),
        ({"batch_size": "big"}, ValueError, "batch_size='big'"),
        ({"batch_size": 1.5}, ValueError, "batch_size=1.5"),
        ({"num_cpus": -1}, ValueError, "num_cpus=-1"),
        ({"num_cpus": math.nan}, ValueError, "num_cpus=nan"),
        ({"num_cpus": "two"}, TypeError, "num_cpus='two'; it is 0 or a positive number"),
        ({"buffersize": 0}, ValueError, "buffersize=0"),
        ({"resources": {"gpu": "two"}}, ValueError, "resources="),
        ({"resources": {"gpu": -1}}, ValueError, "resources="),
        ({"resources": {"gpu": math.nan}}, ValueError, "resources="),
        ({"resources": {"gpu": math.inf}}, ValueError, "resources="),
        ({"resources": {"gpu": None}}, ValueError, "resources="),
        ({"resources": {1: 1}}, ValueError, "resources="),
        ({"resources": {"CPU": 1}}, ValueError, "with num_cpus"),
        ({"resources": {"GPU": 1.5}}, ValueError, "cannot have 1.5 GPUs"),
        ({"retry_exceptions": 5}, TypeError, "retry_exceptions holds 5"),
        ({"retry_exceptions": "ValueError"}, TypeError, "retry_exceptions holds 'V'"),
        ({"retry_exceptions": [ValueError, int]}, TypeError, "retry_exceptions holds"),
        ({"env_vars": {"A": 1}}, TypeError, "env_vars"),
        ({"static": {"x": (i for i in ())}}, SerializationError, "foo cannot be sent"),
        ({"static": [1]}, TypeError, r"static=\[1\]; it maps names of arguments"),
        ({"static": {1: 2}}, TypeError, "it maps names of arguments to their values"),
        ({"engine": "x"}, TypeError, "unexpected keyword argument 'engine'"),
        ({"checkpoint": 5}, TypeError, "checkpoint=5; it is the path of a file"),
        ({"checkpoint": True}, TypeError, "checkpoint=True; it is the path of a file"),
        ({"progress": 5}, TypeError, r"progress=5; it is True, a callable progress\(done, total\)"),
    ],
)
def test_a_keyword_that_makes_no_sense_is_refused_by_its_name(
    keywords: dict[str, Any], error: type[Exception], words: str
):
    with pytest.raises(error, match=words):
        make_plan(foo, [], (), **keywords)


def test_what_is_no_function_is_refused():
    with pytest.raises(TypeError, match="function is of type int, which cannot be called"):
        make_plan(5, [], ())  # type: ignore[arg-type]


@pytest.mark.parametrize("wanted", [True, [ValueError], (OSError, KeyError), ValueError])
def test_exceptions_to_be_retried_may_be_named_in_any_way(wanted: Any):
    assert make_plan(foo, [], (), retry_exceptions=wanted).options.retry_exceptions


@pytest.mark.parametrize("nothing", [False, [], ()])
def test_no_exceptions_to_be_retried_are_none(nothing: Any):
    assert not make_plan(foo, [], (), retry_exceptions=nothing).options.retry_exceptions


@pytest.mark.parametrize("deadline", [None, 0, 1, 0.5, math.inf])
def test_a_deadline_is_a_number_of_seconds(deadline: Any):
    check_deadline(deadline)


@pytest.mark.parametrize(
    ("deadline", "error"),
    [(-1, ValueError), (math.nan, ValueError), ("1", TypeError), (True, TypeError)],
)
def test_a_deadline_that_is_none_is_refused(deadline: Any, error: type[Exception]):
    with pytest.raises(error, match="deadline="):
        check_deadline(deadline)
