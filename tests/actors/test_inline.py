"""Runs inside a worker: in place, one call after the other."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from typing import Any

import pytest

from goliath.actors.inline import InlineCalls


def add(x: int, y: int = 0) -> int:
    if x < 0:
        raise ValueError("negative")
    return x + y


def test_calls_are_made_when_their_outcomes_are_asked_for():
    calls = InlineCalls(add, {"y": 10})
    args: Any = ({"x": n} if n % 2 else (n,) for n in itertools.count())
    assert list(itertools.islice(calls.iterate(args), 4)) == [10, 11, 12, 13]


def test_what_a_call_raises_is_raised_or_stands_in_its_place():
    with pytest.raises(ValueError, match="negative"):
        list(InlineCalls(add).iterate([(-1,)]))
    (error, one) = InlineCalls(add, return_exceptions=True).iterate([(-1,), (1,)])
    assert isinstance(error, ValueError)
    assert one == 1


def test_on_result_hears_of_every_outcome():
    told: list[tuple[int, Any]] = []
    calls = InlineCalls(add, on_result=lambda index, value: told.append((index, value)))
    assert list(calls.iterate([(1,), (2,)])) == [1, 2]
    assert told == [(0, 1), (1, 2)]


async def test_inputs_of_either_kind_are_iterated_asynchronously():
    async def endless() -> AsyncIterator[Any]:
        for n in itertools.count():
            yield (n,)

    seen = []
    async for value in InlineCalls(add).aiterate(endless()):
        seen.append(value)
        if len(seen) == 3:
            break
    assert seen == [0, 1, 2]
    assert [value async for value in InlineCalls(add).aiterate([(5,)])] == [5]
