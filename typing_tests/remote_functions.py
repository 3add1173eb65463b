"""What type checkers must understand, and what they must refuse, of remote functions.

Never run. A line that must be refused has ``# refused`` at its end; `tests/e2e/test_typing.py`
checks with each checker that exactly those lines are.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any, assert_type

import goliath
from goliath import Commander, ObjectRef, ObjectRefGenerator, RefList


@goliath.remote
def square(x: int) -> int:
    return x * x


@goliath.remote(max_retries=0, timeout=3)
def join(a: str, b: str, *, sep: str = "") -> str:
    return a + sep + b


@goliath.remote(num_returns="streaming", max_retries=0)
def count(n: int) -> Iterator[int]:
    yield from range(n)


@goliath.remote(num_returns="streaming")
async def letters(text: str) -> AsyncIterator[str]:
    for letter in text:
        yield letter


assert_type(count.remote(3), ObjectRefGenerator[int])
assert_type([goliath.get(ref) for ref in count.remote(3)], list[int])
assert_type(next(letters.remote("abc")), ObjectRef[str])
assert_type(count.map([1, 2]), list[ObjectRefGenerator[int]])
assert_type(square.options(num_returns="streaming").remote(3), ObjectRefGenerator[Any])
goliath.cancel(count.remote(3))
goliath.remote(num_returns="stream")  # refused

assert_type(square.remote(4), ObjectRef[int])
assert_type(square(4), int)
assert_type(goliath.get(square.remote(4)), int)
assert_type(goliath.get([square.remote(4)]), list[int])
assert_type(join.remote("a", "b", sep="-"), ObjectRef[str])
assert_type(join.options(timeout=5).remote("a", "b"), ObjectRef[str])
assert_type(square.remote(goliath.put(3)), ObjectRef[int])
assert_type(goliath.put("text"), ObjectRef[str])
assert_type(goliath.wait([square.remote(1)]), tuple[list[ObjectRef[int]], list[ObjectRef[int]]])
assert_type(square.map([1, 2]), RefList[int])
assert_type(square.map([1, 2])[0], ObjectRef[int])
assert_type(square.map([1, 2])[1:], list[ObjectRef[int]])
assert_type(goliath.get(square.map([1, 2])), list[int])
assert_type(join.starmap([("a", "b")]).results(timeout=3), list[str])
assert_type(goliath.wait(square.map([1]))[0], list[ObjectRef[int]])
mapped: Sequence[ObjectRef[int]] = square.map([1, 2])
wrong: Sequence[ObjectRef[str]] = square.map([1, 2])  # refused

square.remote("4")  # refused
square.remote()  # refused
square.remote(1, 2)  # refused
square("4")  # refused
join.remote("a", "b", sep=3)  # refused
join.remote("a", 3)  # refused
square.options(timeoout=3)  # refused
goliath.get(3)  # refused
goliath.remote(cpus=3)  # refused


async def awaits() -> None:
    async for ref in letters.remote("abc"):
        assert_type(await ref, str)
    assert_type(await square.remote(2), int)
    first, second = await asyncio.gather(square.remote(1), join.remote("a", "b"))
    assert_type(first, int)
    assert_type(second, str)


def submits(commander: Commander) -> None:
    assert_type(commander.submit(len, "abc"), ObjectRef[int])
    assert_type(commander.run(square, [{"x": 1}]), list[int])
    for ref in goliath.as_completed([square.remote(1)]):
        assert_type(ref.result(timeout=1), int)
