"""Whether a call fits its function, told before it is sent."""

from __future__ import annotations

import functools
from collections import OrderedDict
from typing import Any

import pytest

from goliath.actors.signatures import Checker, at


def plain(a: int, b: int = 0) -> None: ...


def keywords(a: int, **rest: int) -> None: ...


def positions(*args: int) -> None: ...


def only(a: int, /, b: int, *, c: int) -> None: ...


@pytest.mark.parametrize(
    ("function", "rows"),
    [
        (plain, [{"a": 1}, {"b": 1, "a": 2}, (1,), (1, 2), OrderedDict(a=1)]),
        (keywords, [{"a": 1, "x": 2}, {"a": 1}]),
        (positions, [(), (1, 2, 3), {}]),
        (functools.partial(plain, 1), [{}, {"b": 2}, (2,)]),
        (max, [(1, 2), {"a": "who knows"}]),
        (dict, [{"anything": 1}]),
    ],
)
def test_what_fits_is_let_through(function: Any, rows: list[Any]):
    checker = Checker(function, {})
    assert checker.check(rows) is None
    assert checker.check(rows) is None, "once known, always known"


@pytest.mark.parametrize(
    ("function", "static", "row", "words"),
    [
        (plain, {}, {"c": 1, "a": 1}, "got an unexpected keyword argument 'c'"),
        (plain, {}, {}, "missing a required argument: 'a'"),
        (plain, {}, (1, 2, 3), "too many positional arguments"),
        (plain, {"b": 1}, {"a": 1, "b": 2}, r"\['b'\] stand both in static= and in the item"),
        (plain, {"a": 1}, (1,), "multiple values for argument 'a'"),
        (only, {}, {"a": 1, "b": 2, "c": 3}, "'a'"),
        (plain, {}, {1: 2}, "keywords must be strings"),
        (plain, {}, [1], "is of type list; each item must be a mapping"),
        (plain, {}, {1, 2}, "is of type set"),
        (max, {}, 5, "is of type int"),
    ],
)
def test_what_does_not_fit_is_named_with_its_place(
    function: Any, static: dict[str, Any], row: Any, words: str
):
    good = (1,) if not static and function is plain else None
    rows = [row] if good is None else [good, row]
    found = Checker(function, static).check(rows)
    assert found is not None
    position, error = found
    assert position == len(rows) - 1
    with pytest.raises(TypeError, match=words):
        raise at(error, 17)
    assert "17" in str(at(error, 17))
