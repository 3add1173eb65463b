"""A pickle with the buffers that it does not contain, in one piece of memory.

::

    +------------+-----------+--------------+------------------+--------+----------+------
    | "GOL5"     | u32 count | u64 bytes of | u64 bytes of     | pickle | buffer 0 | ...
    |            | of buffers| the pickle   | each buffer      |        |          |
    +------------+-----------+--------------+------------------+--------+----------+------

Little endian; each buffer begins at a multiple of 64. No pickle begins like that, so whoever
reads a value can tell the two apart. The values that are read look at the buffers where they are.

A buffer whose size has the highest bit set is not there: it is a `Keepsake`, and travels beside the
value. Those of one value are in order.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence

from goliath.config import KIB
from goliath.transport.keepsakes import Keepsake, recollection
from goliath.transport.payload import Piece

_MAGIC = b"GOL5"
_HEAD = struct.Struct("<4sIQ")
_ALIGNED = 64  # what vector instructions like; Arrow asks for it
_BESIDE = 1 << 63

APART_BYTES = 64 * KIB
"""An envelope of so many bytes is a `memoryview`, in shared memory if there is any, and travels
beside whatever it is part of. A smaller one is `bytes`."""


def enclosed(
    pickled: bytes | memoryview,
    views: Sequence[memoryview],
    beside: list[Keepsake] | None = None,
) -> Piece:
    """A pickle and its buffers, plain bytes all of them; each is copied once.

    Args:
        pickled: the pickle.
        views: its buffers.
        beside: gets those that are not copied, as nodes may have them; None: all are.
    """
    sizes = [view.nbytes for view in views]
    if beside is not None and recollection.wants(max(sizes)):
        sizes, views = _put_beside(views, beside)
    table = struct.Struct(f"<{len(sizes)}Q")
    at = _HEAD.size + table.size
    places = list(_places(at + len(pickled), [view.nbytes for view in views]))
    total = places[-1][1] if places else at + len(pickled)
    apart = total >= APART_BYTES
    target = _room(total) if apart else memoryview(bytearray(total))
    _HEAD.pack_into(target, 0, _MAGIC, len(sizes), len(pickled))
    table.pack_into(target, _HEAD.size, *sizes)
    filled = at + len(pickled)
    target[at:filled] = pickled
    for view, (start, end) in zip(views, places, strict=True):
        # What else was in this memory is not for whoever gets this value.
        target[filled:start] = bytes(start - filled)
        filled = end
        if apart:
            _copy(target[start:end], view)
        else:
            target[start:end] = view
    return target if apart else bytes(target)


def _put_beside(
    views: Sequence[memoryview], beside: list[Keepsake]
) -> tuple[list[int], list[memoryview]]:
    """The sizes of all buffers for the table, and those buffers that stay in the envelope."""
    sizes, inside = [], []
    for view in views:
        if recollection.wants(view.nbytes):
            beside.append(recollection.keepsake_of(view))
            sizes.append(_BESIDE | view.nbytes)
        else:
            inside.append(view)
            sizes.append(view.nbytes)
    return sizes, inside


def opened(payload: Piece, beside: Iterable[Piece | None] = ()) -> tuple[Piece, list[memoryview]]:
    """The pickle, and its buffers as what may only be read; none if there is no envelope around.

    Args:
        payload: it, or the pickle alone.
        beside: the buffers that are not in it.

    Raises:
        ValueError: it is damaged, or one of those buffers is another one.
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
    places = _places(at + length, [size for size in sizes if size < _BESIDE])
    others, end = iter(beside), at + length
    whole = whole.toreadonly()
    views = []
    for size in sizes:
        if size >= _BESIDE:
            views.append(_found(next(others, None), size - _BESIDE))
            continue
        start, end = next(places)
        views.append(whole[start:end])
    if end > len(whole):
        raise ValueError(f"a value of {end} bytes is cut short, after {len(whole)}")
    return whole[at : at + length], views


def _found(buffer: Piece | None, size: int) -> memoryview:
    if buffer is None or len(buffer) != size:
        raise ValueError(f"a buffer of {size} bytes did not come along with a value")
    return memoryview(buffer).toreadonly()


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
