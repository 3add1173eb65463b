"""Refs inside other values: which ones a pickle holds.

A ref that is pickled becomes its task id. Whoever pickles a value on its way to or from a call
collects the refs in it, because they have to be kept until the value has been read.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class _Collection(threading.local):
    refs: list[Any] | None = None


_here = _Collection()


@contextmanager
def collected() -> Iterator[list[Any]]:
    """The refs that are pickled in the meantime, in this thread."""
    before, _here.refs = _here.refs, []
    try:
        yield _here.refs
    finally:
        _here.refs = before


def collect(ref: Any) -> None:
    """A ref is being pickled.

    Raises:
        TypeError: nobody collects, so nobody would keep its result.
    """
    if _here.refs is None:
        raise TypeError(
            f"{ref!r} is pickled outside of a call, and nobody would keep its result for whoever "
            "reads it; pass it to a task or an actor, return it from one, or pickle its result()"
        )
    _here.refs.append(ref)
