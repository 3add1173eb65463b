"""Which part of a value cannot be pickled, for the error that says so.

A pickler tells the type at which it failed, and not where that was: "cannot pickle a lock" helps
nobody who has passed a dictionary of objects. So once it has failed, the parts are tried one by
one, down to the innermost that fails by itself. That is slow, and done for an error only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import FunctionType
from typing import Any

from goliath.errors import SerializationError, describe
from goliath.transport.serialization import dump_value


def find_culprit(value: Any, path: str, depth: int = 6) -> str | None:
    """The innermost part of ``value`` that cannot be pickled, as ``path`` and what it is."""
    if depth == 0 or _pickles(value):
        return None
    for step, part in _parts(value):
        inner = find_culprit(part, _join(path, step), depth - 1)
        if inner is not None:
            return inner
    return f"{path or 'it'}, a {type(value).__name__} ({describe(value, 80)}),"


def _pickles(value: Any) -> bool:
    try:
        dump_value(value)
    except Exception:  # noqa: BLE001 - that is the question
        return False
    return True


def _refuses(value: Any) -> bool:
    try:
        value.__reduce__()
    except Exception:  # noqa: BLE001 - it is the user's
        return True
    return False


def _join(path: str, step: str) -> str:
    return step.strip(".[]'") if not path else f"{path}{step}"


def _parts(value: Any) -> list[tuple[str, Any]]:
    if isinstance(value, Mapping):
        return [(f"[{key!r}]", part) for key, part in value.items()]
    if isinstance(value, list | tuple | set | frozenset):
        return [(f"[{place}]", part) for place, part in enumerate(value)]
    if isinstance(type(value).__reduce__, FunctionType) and _refuses(value):
        return []  # and has said why
    return [(f".{name}", part) for name, part in getattr(value, "__dict__", {}).items()]


def culprit_of_function(function: Callable[..., Any]) -> str | None:
    inner = getattr(function, "func", function)
    if not isinstance(inner, FunctionType):
        return find_culprit(inner, type(inner).__name__)
    names = inner.__code__.co_freevars
    for name, cell in zip(names, inner.__closure__ or (), strict=False):
        found = find_culprit(cell.cell_contents, f"the closure variable {name}", depth=3)
        if found:
            return found
    for name in inner.__code__.co_names:
        if name in inner.__globals__:
            found = find_culprit(inner.__globals__[name], f"the global {name}", depth=3)
            if found:
                return found
    return None


def row_error(
    args: tuple[Any, ...], kwargs: Mapping[str, Any], exc: Exception
) -> SerializationError:
    culprit = find_culprit(kwargs, "") or find_culprit(args, "argument ")
    return SerializationError(
        f"{culprit or 'the arguments'} cannot be pickled ({type(exc).__name__}: {exc}); "
        "send something it can be made from"
    )
