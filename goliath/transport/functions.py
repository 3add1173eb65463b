"""A user's function to bytes and back, with what all its calls have in common.

It is pickled once and before any call of it, so what cannot be sent is an error in the caller's own
stack, which names the part that is in the way. Whether it goes by value or by name is a matter of
`serialization`. Nodes know it by its digest, and whoever has it is not sent it again.

An initializer is a function, too, with all its arguments: it has one call in each worker.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Container, Mapping
from typing import Any

from goliath.errors import SerializationError
from goliath.record import frozen
from goliath.transport.culprits import culprit_of_function, find_culprit
from goliath.transport.modules import Needs
from goliath.transport.payload import Piece
from goliath.transport.serialization import dump_by_name, dump_by_value, is_apart, load_value

DIGEST_BYTES = 32  # of SHA-256


@frozen
class Function:
    """A pickled function: ``digest`` is the SHA-256 of ``payload``, in hexadecimal."""

    digest: str
    name: str
    payload: Piece


@frozen
class LoadedFunction:
    """A function in a worker, with what is common to all its calls."""

    call: Callable[..., Any]
    static: dict[str, Any]
    retry_on: tuple[type[BaseException], ...]


def dump_function(
    function: Callable[..., Any],
    *,
    static: Mapping[str, Any] | None = None,
    retry_on: tuple[type[BaseException], ...] = (),
    shipped: Container[str] = (),
    needs: Needs | None = None,
) -> Function:
    """Pickle a function with its static keywords.

    Args:
        function: any callable.
        static: keyword arguments common to all calls.
        retry_on: exception classes after which a call is tried again.
        shipped: names of modules that travel as files.
        needs: is told what must be importable where it is read.

    Raises:
        SerializationError: names the part that cannot be pickled.
    """
    name = function_name(function)
    parts = (function, dict(static or {}), retry_on)
    known = getattr(function, "needs", None)
    if needs is not None and type(known) is Needs:  # it was pickled before, by somebody who noted
        needs.names |= known.names
        needs.origins |= known.origins
    try:
        payload = _dump_parts(parts, shipped, needs)
    except Exception as exc:
        culprit = find_culprit(static or {}, "static") or culprit_of_function(function)
        raise SerializationError(
            f"{name} cannot be sent to a worker: {culprit or 'it'} cannot be pickled "
            f"({type(exc).__name__}: {exc}); create it inside the function instead"
        ) from exc
    return Function(_digest(payload), name, payload)


def _digest(payload: Piece) -> str:
    """A name for it. To read what is big for that takes five times as long as to copy it."""
    if is_apart(payload):
        return os.urandom(DIGEST_BYTES).hex()
    import hashlib  # OpenSSL, 1.4 MiB of which no worker has any use

    return hashlib.sha256(payload).hexdigest()


def _dump_parts(parts: tuple[Any, ...], shipped: Container[str], needs: Needs | None) -> Piece:
    try:
        return dump_by_value(parts, shipped, needs)
    except Exception:
        # By value, a function takes the globals it names along. One of them may not be
        # picklable, in a module that the node can import all the same, once it is there.
        name = getattr(parts[0], "__module__", "__main__")
        if name == "__main__":
            raise
        if needs is not None:
            needs.names.add(name)
            needs.origins.add(name)
        return dump_by_name(parts)


def load_function(payload: Piece) -> LoadedFunction:
    """The function that `dump_function` wrote."""
    call, static, retry_on = load_value(payload)
    return LoadedFunction(call, static, retry_on)


def dump_initializer(
    initializer: Callable[..., Any],
    initargs: tuple[Any, ...],
    shipped: Container[str] = (),
    needs: Needs | None = None,
) -> Piece:
    """Pickle what runs once in each worker of a job; errors as in `dump_function`."""
    try:
        return _dump_parts((initializer, tuple(initargs)), shipped, needs)
    except Exception as exc:
        culprit = find_culprit(tuple(initargs), "initargs") or culprit_of_function(initializer)
        raise SerializationError(
            f"the initializer {function_name(initializer)} cannot be sent to a worker: "
            f"{culprit or 'it'} cannot be pickled ({type(exc).__name__}: {exc})"
        ) from exc


def load_initializer(payload: Piece) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    """The function and its arguments that `dump_initializer` wrote."""
    initializer, initargs = load_value(payload)
    return initializer, initargs


def function_name(function: Callable[..., Any]) -> str:
    """How a function is called in messages and prefixes; the innermost of partials."""
    inner = getattr(function, "func", function)
    name = getattr(inner, "__qualname__", None) or type(inner).__qualname__
    return str(name).rpartition("<locals>.")[2]
