"""Whether a call fits its function, told before it is sent."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from goliath.transport.functions import function_name
from goliath.transport.rows import Row


class Checker:
    """Checks rows of calls against a function's signature, once per set of keywords.

    A function without a signature (some builtins) is not checked; the worker will tell.
    """

    def __init__(self, function: Callable[..., Any], static: Mapping[str, Any]) -> None:
        self._name = function_name(function)
        self._static = dict(static)
        self._known: set[tuple[Any, ...] | int] = set()
        try:
            self._signature: inspect.Signature | None = inspect.signature(function)
        except (TypeError, ValueError):
            self._signature = None

    def check(self, rows: Sequence[Any]) -> tuple[int, TypeError] | None:
        """The first row that cannot be a call of the function, and why; None if all can."""
        for position, row in enumerate(rows):
            shape: tuple[Any, ...] | int
            if type(row) is dict or isinstance(row, Mapping):  # the latter takes 0.3 µs
                shape = tuple(row)
            elif isinstance(row, tuple):
                shape = len(row)
            else:
                return position, TypeError(
                    f"item {{index}} of args is of type {type(row).__name__}; each item must be a "
                    "mapping of keyword arguments or a tuple of positional ones"
                )
            if shape not in self._known:
                error = self._mismatch(row)
                if error is not None:
                    return position, error
                self._known.add(shape)
        return None

    def _mismatch(self, row: Row) -> TypeError | None:
        if self._signature is None:
            return None
        try:
            if isinstance(row, tuple):
                self._signature.bind(*row, **self._static)
            else:
                clash = self._static.keys() & row.keys()
                if clash:
                    return TypeError(
                        f"{self._name}, call {{index}}: {sorted(clash)} stand both in static= "
                        "and in the item"
                    )
                self._signature.bind(**row, **self._static)
        except TypeError as exc:
            return TypeError(f"{self._name}, call {{index}}: {exc}")
        return None


def at(error: TypeError, index: int) -> TypeError:
    """The error with the index of its call filled in."""
    return TypeError(str(error).replace("{index}", str(index)))
