"""Pickles read with a stand-in for each name in them: none of the user's code is imported, or runs.

To read a pickle is to run it: it names the functions that build the value. Whoever reads it here
says what stands for each of them. That leaves the pickle the means of its own language, by which it
could still take time and memory, so these are bounded, too.
"""

from __future__ import annotations

import io
import pickle
import struct
from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar

from goliath.transport.envelope import opened
from goliath.transport.keepsakes import Keepsake
from goliath.transport.payload import Piece
from goliath.transport.rows import EncodedRow

INERT_MAX_BYTES = 64 << 10
"""Of what is read without running it, without its buffers: 30 ms."""


class _InertUnpickler(pickle._Unpickler):
    """In Python: that of C takes 16 GiB and half a minute for six bytes, if these name a place of
    its memo that is far off. It has no say in what is built, either."""

    dispatch: ClassVar[dict[int, Any]] = dict(pickle._Unpickler.dispatch)
    stack: list[Any]
    read: Callable[[int], bytes]
    append: Callable[[Any], None]

    def __init__(
        self, row: Piece, find: Callable[[str, str], Any], beside: Iterable[Piece]
    ) -> None:
        pickled, buffers = opened(row, beside)
        super().__init__(io.BytesIO(pickled), buffers=buffers)
        self._find = find
        self._bytes = len(pickled)
        if self._bytes > INERT_MAX_BYTES:
            raise pickle.UnpicklingError(f"{self._bytes} bytes are too many to be looked through")

    def load_build(self) -> None:
        """What is no stand-in keeps its attributes; above all classes and modules do."""
        state = self.stack.pop()
        built = self.stack[-1]
        take = getattr(type(built), "__setstate__", None)
        if take is not None:
            take(built, state)

    def load_bytearray8(self) -> None:
        """Its size is set aside before anybody sees whether it is there."""
        (size,) = struct.unpack("<Q", self.read(8))
        if size > self._bytes:
            raise pickle.UnpicklingError(f"a bytearray of {size} bytes in {self._bytes}")
        self.append(bytearray(self.read(size)))

    dispatch[pickle.BUILD[0]] = load_build
    dispatch[pickle.BYTEARRAY8[0]] = load_bytearray8

    def find_class(self, module: str, name: str) -> Any:
        return self._find(module, name)

    def persistent_load(self, _place: int) -> Any:
        return self._find("", "result of another call")


def load_inert(
    row: EncodedRow, find: Callable[[str, str], Any], beside: Sequence[Keepsake] = ()
) -> Any:
    """A value as `dump_value` wrote it, or a row, in which ``find(module, name)`` stands for each
    class or function: nothing is imported, and none of the user's code runs.

    Args:
        row: it.
        find: see above.
        beside: its buffers that are not in it.

    Raises:
        Exception: whatever comes of it where ``find`` gives something that cannot do what is asked.
    """
    pickled = row[0] if isinstance(row, tuple) else row
    return _InertUnpickler(pickled, find, [each.payload() for each in beside]).load()
