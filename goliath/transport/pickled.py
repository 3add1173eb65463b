"""A value that was pickled already, and goes into other pickles as the bytes that it is.

An argument is taken as it is when its call is made, and that may be long before the call can be
sent: so it is pickled, or *frozen*, at once. And a result that another call takes goes on as the
bytes in which it came: nobody reads it on the way.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Container
from typing import Any

from goliath.transport.culprits import row_error
from goliath.transport.envelope import opened, shared
from goliath.transport.keepsakes import Keepsake, recollection
from goliath.transport.payload import Piece
from goliath.transport.serialization import (
    PROTOCOL,
    SCALARS,
    dump_value,
    is_apart,
    kept,
    load_value,
)


class Pickled:
    """A value that is pickled already: where this is unpickled, the value appears."""

    __slots__ = ("_keepsake", "payload")

    def __init__(self, payload: Piece) -> None:
        self.payload = kept(payload)
        self._keepsake: Keepsake | None = None

    def __len__(self) -> int:
        return len(self.payload)

    @property
    def is_apart(self) -> bool:
        """Whether it is so big that it should not be copied."""
        return is_apart(self.payload)

    @classmethod
    def of(cls, value: Any) -> Pickled:
        """A plain value, pickled now."""
        return cls(pickle.dumps(value, PROTOCOL))

    def share(self) -> None:
        """Move it to where nodes can look at it, if there was no such place when it was made."""
        self.payload = shared(self.payload)

    def keepsake(self) -> Keepsake | None:
        """It as what nodes keep for as long as it is here, if there are any that have to be sent
        it."""
        if self._keepsake is None and recollection.wants(len(self.payload)):
            view = memoryview(self.payload)
            self._keepsake = recollection.keepsake_of(view, ours=True)
            self.payload = self._keepsake.payload()
        return self._keepsake

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any]]:
        pickled, buffers = opened(self.payload)
        if not buffers:
            return pickle.loads, (bytes(pickled),)
        return load_value, (pickle.PickleBuffer(self.payload),)


def freeze(name: str, value: Any, shipped: Container[str] = ()) -> Any:
    """An argument as it is now: itself if it is an exact scalar, else `Pickled`.

    Raises:
        SerializationError: it cannot be pickled; the message has its name.
    """
    if type(value) in SCALARS:
        return value
    try:
        return Pickled(dump_value(value, shipped))
    except Exception as exc:
        raise row_error((), {name: value}, exc) from exc


def thaw(frozen: Any) -> Any:
    """What was frozen: a copy, unless it is a scalar."""
    return load_value(frozen.payload) if type(frozen) is Pickled else frozen


def pickle_of(frozen: Any) -> Piece:
    """The pickle of what was frozen."""
    return frozen.payload if type(frozen) is Pickled else pickle.dumps(frozen, PROTOCOL)
