"""A pickle with the buffers that it does not contain, in one piece of memory.

::

    +------------+-----------+--------------+------------------+--------+----------+------
    | "GOL5"     | u32 count | u64 bytes of | u64 bytes of     | pickle | buffer 0 | ...
    |            | of buffers| the pickle   | each buffer      |        |          |
    +------------+-----------+--------------+------------------+--------+----------+------

Little endian; each buffer begins at a multiple of 64. No pickle begins like that, so whoever
reads a value can tell the two apart. The values that are read look at the buffers where they are.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence

from goliath.config import KIB
from goliath.transport.messages import Piece

_MAGIC = b"GOL5"
_HEAD = struct.Struct("<4sIQ")
_ALIGNED = 64  # what vector instructions like; Arrow asks for it

APART_BYTES = 64 * KIB
"""An envelope of so many bytes is a `memoryview`, in shared memory if there is any, and travels
beside whatever it is part of. A smaller one is `bytes`."""


def enclosed(pickled: bytes | memoryview, views: Sequence[memoryview]) -> Piece:
    """A pickle and its buffers, plain bytes all of them; each is copied once."""
    sizes = [view.nbytes for view in views]
    table = struct.Struct(f"<{len(sizes)}Q")
    at = _HEAD.size + table.size
    places = list(_places(at + len(pickled), sizes))
    total = places[-1][1]
    apart = total >= APART_BYTES
    target = _room(total) if apart else memoryview(bytearray(total))
    _HEAD.pack_into(target, 0, _MAGIC, len(sizes), len(pickled))
    table.pack_into(target, _HEAD.size, *sizes)
    target[at : at + len(pickled)] = pickled
    for view, (start, end) in zip(views, places, strict=True):
        if apart:
            _copy(target[start:end], view)
        else:
            target[start:end] = view
    return target if apart else bytes(target)


def opened(payload: Piece) -> tuple[Piece, list[memoryview]]:
    """The pickle, and its buffers as what may only be read; none if there is no envelope around.

    Raises:
        ValueError: it is damaged.
    """
    if payload[:1] != _MAGIC[:1]:
        return payload, []
    whole = memoryview(payload)
    try:
        _, count, length = _HEAD.unpack_from(whole)
        table = struct.Struct(f"<{count}Q")
        sizes = table.unpack_from(whole, _HEAD.size)
    except struct.error as exc:
        raise ValueError(f"a value of {len(whole)} bytes is cut short: {exc}") from exc
    at = _HEAD.size + table.size
    places = list(_places(at + length, sizes))
    if places and places[-1][1] > len(whole):
        raise ValueError(f"a value of {places[-1][1]} bytes is cut short, after {len(whole)}")
    whole = whole.toreadonly()
    return whole[at : at + length], [whole[start:end] for start, end in places]


def _places(at: int, sizes: Sequence[int]) -> Iterator[tuple[int, int]]:
    for size in sizes:
        start = -(-at // _ALIGNED) * _ALIGNED
        at = start + size
        yield start, at


# Whoever has nothing big need not wait for ctypes to be imported: 7 ms.


def _room(size: int) -> memoryview:
    from goliath.transport.arena import room_for

    return room_for(size)


def shared(payload: Piece) -> Piece:
    """It in shared memory, if it is there already or there is room."""
    from goliath.transport.arena import moved_anywhere

    return moved_anywhere(payload)


def _copy(target: memoryview, data: memoryview) -> None:
    from goliath.transport.arena import copy_into

    copy_into(target, 0, data)
