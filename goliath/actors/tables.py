"""Calls as `map` and `starmap` are given them, prepared so far that any stretch can be sent."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import Any, Protocol

from goliath.actors.driving import rows_of
from goliath.transport.columns import (
    COLUMNS,
    encode_gathered,
    encode_positional,
    scalar_kinds,
    transpose,
)
from goliath.transport.payload import Payload
from goliath.transport.rows import encode_plain

CHUNK_MIN, CHUNK_MAX = 4096, 32_768
"""Calls that are looked at together: few at first, because until they are, all workers wait."""

FEW = 32
"""Calls between others that are not worth a table of their own."""

Arguments = tuple[Any, ...]


class Table(Protocol):
    """Arguments of calls, as they were when they were given."""

    @property
    def calls(self) -> int:
        """How many."""

    def cut(self, lo: int, hi: int) -> tuple[str, Payload]:
        """Calls ``lo <= i < hi`` as a parcel: its form and its payload."""


class ColumnTable:
    """Exact scalars all of them: nobody can change them, so they are pickled when they are sent."""

    __slots__ = ("_columns", "_kinds", "calls")

    def __init__(self, calls: int, columns: list[list[Any]], kinds: list[type | None]) -> None:
        self.calls = calls
        self._columns = columns
        self._kinds = kinds

    def cut(self, lo: int, hi: int) -> tuple[str, Payload]:
        """See `Table.cut`."""
        part = [column[lo:hi] for column in self._columns]
        return COLUMNS, encode_positional(part, self._kinds)


class RowTable:
    """Plain data with a pickle for each call, of the moment when it was made."""

    __slots__ = ("_rows", "calls")

    def __init__(self, rows: list[bytes]) -> None:
        self.calls = len(rows)
        self._rows = rows

    def cut(self, lo: int, hi: int) -> tuple[str, Payload]:
        """See `Table.cut`."""
        return encode_gathered(None, self._rows[lo:hi])


def tabulate(items: Iterable[Any], *, starred: bool) -> Iterator[Table | Arguments]:
    """Calls in their order, as few tables, and the arguments of those that fit none.

    Those are calls with an argument that holds more than plain data: a ref, perhaps.

    Args:
        items: what each call is given.
        starred: whether an item is all arguments of its call, or the only one.
    """
    source = rows_of(items)
    size = CHUNK_MIN
    while chunk := source.take(size):
        rows = list(map(tuple, chunk)) if starred else None
        columns = [chunk] if rows is None else transpose(rows)
        kinds = None if columns is None else scalar_kinds(columns)
        if columns is not None and kinds is not None:
            yield ColumnTable(len(chunk), columns, kinds)
        else:
            yield from _rows_apart(zip(chunk) if rows is None else rows)
        size = min(2 * size, CHUNK_MAX)


def _rows_apart(rows: Iterable[Arguments]) -> Iterator[Table | Arguments]:
    encoded = [(row, encode_plain(row)) for row in rows]
    for plain, group in groupby(encoded, key=lambda pair: pair[1] is not None):
        stretch = list(group)
        if plain and (len(stretch) >= FEW or len(stretch) == len(encoded)):
            yield RowTable([row for _, row in stretch if row is not None])
        else:
            yield from (row for row, _ in stretch)
