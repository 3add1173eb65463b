"""Many calls in one pickle: what calls are where every argument is an exact scalar.

Scalars are immutable and hold nothing, so calls may share a pickle of theirs. As *columns*, a list
for each argument, that takes 197 ns a call, against 418 for a list of dicts and 2,200 for one
cloudpickle each. Everything else travels as `rows`.

What is done here is done to every argument of every call: by C code, a column at a time.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable, Iterable, Sequence
from itertools import repeat
from operator import itemgetter
from typing import Any

from goliath.transport.payload import Payload, parts_of
from goliath.transport.rows import ROWS, Row, bundled
from goliath.transport.serialization import PROTOCOL, SCALARS

COLUMNS = "columns"
"""The form of a chunk of such calls."""

Columns = tuple[int, tuple[str, ...], tuple[list[Any], ...]]
"""How many positional columns, the names of the keyword columns, and all the columns."""

TEXTS = frozenset((str, bytes))
_SHORT_BYTES = 64  # of a string that is written out wherever it stands


def encode_columns(rows: Sequence[Row]) -> bytes | None:
    """A chunk of calls as columns; None unless all rows have the first one's keys (or length)
    and hold exact scalars only. What comes back therefore vouches for the keys of every row."""
    kinds: list[type | None] = []
    columns = _columns(rows, kinds)
    return None if columns is None else dump_lists(columns, columns[2], kinds)


def encode_positional(columns: Sequence[list[Any]], kinds: Sequence[type | None]) -> bytes:
    """A chunk of calls from the columns of their arguments, and the `scalar_kinds` of these."""
    return dump_lists((len(columns), (), tuple(columns)), columns, kinds)


def encode_gathered(
    shape: tuple[int, tuple[str, ...]] | None, rows: Sequence[Any], beside: list[Any] | None = None
) -> tuple[str, Payload]:
    """Single calls of one shape: the form of the chunk, and its bytes.

    Args:
        shape: the number of positional arguments and the names of the others, where each row is
            the values of a call, exact scalars all of them; else None.
        rows: else what `encode_call` gave for each call.
        beside: gets what is not in the chunk; None: all is.
    """
    if shape is None:
        return ROWS, bundled(list(rows), beside)
    columns = tuple(map(list, zip(*rows, strict=True)))
    return COLUMNS, pickle.dumps((*shape, columns), PROTOCOL)


def decode_columns(payload: Payload) -> Columns:
    """The columns of a chunk of form ``columns``."""
    main, _ = parts_of(payload)
    columns: Columns = pickle.loads(main)
    return columns


def dump_lists(whole: object, lists: Sequence[list[Any]], kinds: Sequence[type | None]) -> bytes:
    """Pickle what consists of these lists of exact scalars; ``kinds`` are their types, None where
    they are mixed.

    For strings, the memo of what was pickled before takes two thirds of the time (66 ns a string,
    24 without) and a fifth of reading them. Nothing in here can contain itself; but a long
    string that stands in every row must not be written as often, so they are measured first.
    """
    texts = [values for values, kind in zip(lists, kinds, strict=True) if kind in TEXTS]
    if not texts or None in kinds or not all(map(_are_short, texts)):
        return pickle.dumps(whole, PROTOCOL)
    buffer = io.BytesIO()
    pickler = pickle.Pickler(buffer, PROTOCOL)
    pickler.fast = True
    pickler.dump(whole)
    return buffer.getvalue()


def _are_short(texts: list[Any]) -> bool:
    return sum(map(len, texts)) <= _SHORT_BYTES * len(texts)


def _columns(rows: Sequence[Row], kinds: list[type | None]) -> Columns | None:
    """The rows transposed; None unless all have the same keys and only exact scalars.

    ``kinds`` gets the type of each column, None where it is mixed.
    """
    first = rows[0]
    names: tuple[Any, ...]
    if type(first) is dict:
        names = tuple(first)
    elif type(first) is tuple:
        names = tuple(range(len(first)))
    else:
        return None
    try:
        transposed = _transposed(rows, type(first), names)
    except (KeyError, TypeError):
        return None
    found = scalar_kinds(transposed)
    if found is None:
        return None
    kinds += found
    if type(first) is tuple:
        return len(first), (), tuple(transposed)
    return 0, names, tuple(transposed)


def scalar_kinds(columns: Iterable[list[Any]]) -> list[type | None] | None:
    """The type of each column, None where it is mixed; None if not all are exact scalars."""
    kinds: list[type | None] = []
    for column in columns:
        kind = type(column[0])
        if kind in SCALARS and all_are(kind, map(type, column), len(column)):
            kinds.append(kind)
        elif SCALARS.issuperset(map(type, column)):
            kinds.append(None)
        else:
            return None
    return kinds


def transpose(rows: Sequence[tuple[Any, ...]]) -> list[list[Any]] | None:
    """The columns of positional arguments; None if not all rows have the first one's length."""
    try:
        return _transposed(rows, tuple, tuple(range(len(rows[0]))))
    except KeyError:
        return None


def _transposed(rows: Sequence[Row], shape: type, names: tuple[Any, ...]) -> list[list[Any]]:
    """A list for each name, one pass each: zip(*map(itemgetter(a, b), rows)) is twice as slow.

    Raises:
        KeyError, TypeError: not all rows are of this shape with these names.
    """
    if not all_are(len(names), map(len, rows), len(rows)):
        raise KeyError(names)
    if shape is dict and names:
        # It refuses what is no dict: a look at the types takes 13 ns a row, this 2 more a column.
        look_up: Callable[[Any, Any], Any] = dict.__getitem__
        return [list(map(look_up, rows, repeat(name))) for name in names]
    if not all_are(shape, map(type, rows), len(rows)):
        raise TypeError(shape)
    return [list(map(itemgetter(name), rows)) for name in names]


def all_are(wanted: object, found: Iterable[object], count: int) -> bool:
    """Whether each of ``count`` things found is the one wanted. Counting in a list takes 13 ns
    a thing where building a set takes 34: this is done for every call."""
    return list(found).count(wanted) == count
