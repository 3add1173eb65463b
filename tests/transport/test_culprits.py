"""Who has passed what cannot be pickled is told which part of it that was."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from goliath import Commander, SerializationError
from goliath.transport.culprits import find_culprit
from goliath.transport.functions import dump_function


class Plain:
    def __init__(self, **parts: Any) -> None:
        self.__dict__.update(parts)

    def __repr__(self) -> str:
        return "<Plain>"


class Refusing(Plain):
    def __reduce__(self) -> Any:
        raise TypeError("not this one")


class Rebuilt(Plain):
    def __reduce__(self) -> Any:
        return Plain, (self.__dict__["lock"],)


@pytest.mark.parametrize(
    ("value", "path"),
    [
        ([1, {"a": threading.Lock()}], "x[1]['a'], a lock"),
        (Plain(inner=Plain(lock=threading.Lock())), "x.inner.lock, a lock"),
        (Rebuilt(lock=threading.Lock()), "x.lock, a lock"),
        ([Refusing(lock=threading.Lock())], "x[0], a Refusing (<Plain>),"),
        (ValueError(threading.Lock()), "x, a ValueError"),
    ],
)
def test_it_is_the_innermost_part_or_the_outermost_that_refuses(value: Any, path: str):
    assert (find_culprit(value, "x") or "").startswith(path)


def test_what_can_be_pickled_has_no_culprit():
    assert find_culprit({"a": [1, "b"]}, "") is None


def test_a_commander_in_a_call_is_told_what_to_use_there():
    cmdr = Commander(workers=1)

    def work(n: int) -> list[int]:
        return cmdr.run(abs, [(n,)])

    with pytest.raises(SerializationError) as caught:
        dump_function(work)
    assert "the closure variable cmdr, a Commander" in str(caught.value)
    assert "makes one of its own, Commander(), and needs no address" in str(caught.value)
