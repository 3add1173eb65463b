"""Pickles of big values behind the payload of a message: each with its size in the header."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from goliath.transport.messages import Payload


def packed(payload: Payload, pieces: Iterable[Payload]) -> Payload:
    """The payload with these behind it."""
    return b"".join((payload, *pieces))


def unpacked(payload: Payload, sizes: Sequence[int]) -> tuple[Payload, list[Payload | None]]:
    """The payload without what is behind it, and that; None where a size is below 0."""
    view = memoryview(payload)
    end = at = len(view) - sum(max(size, 0) for size in sizes)
    pieces: list[Payload | None] = []
    for size in sizes:
        pieces.append(view[at : at + size] if size >= 0 else None)
        at += max(size, 0)
    return view[:end], pieces
