"""Pickles of big values behind the payload of a message: each with its size in the header."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from goliath.transport.payload import Bundle, Payload, Piece, parts_of


def packed(payload: Payload, pieces: Iterable[Piece]) -> Payload:
    """The payload with these behind it. Nothing is copied."""
    main, own = parts_of(payload)
    whole = (*own, *pieces)
    return Bundle(main, whole) if whole else main


def are_behind(payload: Payload, sizes: Sequence[int]) -> bool:
    """Whether there are pieces of these sizes behind a payload."""
    _, pieces = parts_of(payload)
    first = len(pieces) - len(sizes)
    return first >= 0 and all(
        len(piece) == size for piece, size in zip(pieces[first:], sizes, strict=True)
    )


def unpacked(payload: Payload, sizes: Sequence[int]) -> tuple[Payload, list[Piece | None]]:
    """The payload without what is behind it, and that; None where a size is below 0."""
    main, pieces = parts_of(payload)
    first = len(pieces) - sum(size >= 0 for size in sizes)
    behind = iter(pieces[first:])
    return (
        Bundle(main, pieces[:first]) if first else main,
        [next(behind) if size >= 0 else None for size in sizes],
    )
