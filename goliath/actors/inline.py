"""Runs inside a worker: in place, one call after the other.

A shipped module may call ``run`` when it is imported. In a worker that must neither start
another cluster nor send itself round in circles, so the calls are made right there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any


def iterate_inline(
    function: Callable[..., Any],
    args: Iterable[Any],
    *,
    static: Mapping[str, Any] | None = None,
    return_exceptions: bool = False,
) -> Iterator[Any]:
    """The outcomes of the calls, each made when it is asked for."""
    for item in args:
        try:
            if isinstance(item, tuple):
                yield function(*item, **(static or {}))
            else:
                yield function(**item, **(static or {}))
        except Exception as exc:
            if not return_exceptions:
                raise
            yield exc
