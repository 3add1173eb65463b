"""What a message carries: opaque bytes, and big things beside them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

Piece = bytes | bytearray | memoryview


class Bundle:
    """A payload with big things beside it, each in memory of its own: none is copied to put them
    behind one another.

    Attributes:
        main: what says what they mean.
        pieces: those.
    """

    __slots__ = ("main", "pieces")

    def __init__(self, main: Piece, pieces: Sequence[Piece]) -> None:
        self.main = main
        self.pieces = tuple(pieces)

    def __len__(self) -> int:
        return len(self.main) + sum(map(len, self.pieces))

    def __repr__(self) -> str:
        return f"<Bundle of {len(self.main)} bytes and {len(self.pieces)} pieces>"


Payload = Piece | Bundle


class Ground(Protocol):
    """Where there is memory for what is big and comes in parts."""

    def room_for(self, size: int) -> memoryview:
        """Memory for so many bytes that were announced, to be written from its beginning on."""

    def is_ready(self, room: memoryview, end: int) -> bool:
        """Whether a room can be written up to there; if not, there is no such memory any more."""


def parts_of(payload: Payload) -> tuple[Piece, tuple[Piece, ...]]:
    """The payload without what is beside it, and that."""
    if isinstance(payload, Bundle):
        return payload.main, payload.pieces
    return payload, ()
