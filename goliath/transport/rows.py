"""Calls with a pickle each: what calls are where not all arguments are exact scalars.

In one pickle, a list shared by two calls would become one object in the worker, and what one call
does to it the other would see. So each call is a *row*, and a chunk is a list of pickles, of which
a worker reads each when it is that call's turn.

**Beside the list.** A big row is not copied into it: it is a piece of a `Bundle`, and its number
stands in its place.

**Beside the row.** What is big and on the node already, or may be, is not in the row of a call that
takes it: a result that was kept there (`Elsewhere`), a buffer of an argument (`Keepsake`). Such a
row is a `FarRow`, and the worker puts the two together (`load_row`).
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Container, Mapping, Sequence
from itertools import count
from typing import Any

from goliath.errors import ObjectLostError, SerializationError
from goliath.transport.culprits import row_error
from goliath.transport.envelope import opened
from goliath.transport.keepsakes import Keepsake
from goliath.transport.payload import Bundle, Payload, Piece, parts_of
from goliath.transport.serialization import (
    PLAIN,
    PROTOCOL,
    PlainPickler,
    dump_value,
    in_envelope,
    is_apart,
    is_flat,
    load_value,
)

ROWS = "rows"
"""The form of a chunk of such calls."""

Row = Mapping[str, Any] | tuple[Any, ...]
"""The arguments of a call as its caller gives them: keywords, or positional ones."""

EncodedRow = Piece | tuple[Piece, list[int]]
"""The pickle of a call; of one that takes something beside it, also the places of that."""


class UnpicklableRowError(Exception):
    """Row ``position`` of a chunk cannot be sent; ``error`` is what its caller should see."""

    def __init__(self, position: int, error: SerializationError) -> None:
        super().__init__(position, error)
        self.position = position
        self.error = error


class FarRow:
    """The row of a call that takes big things which are not in it.

    Args:
        row: its pickle.
        beside: those, in the order of their places: what stands for them where it was made.
    """

    __slots__ = ("beside", "row")

    def __init__(self, row: Piece, beside: Sequence[Any]) -> None:
        self.row = row
        self.beside = beside


class Elsewhere:
    """In the place of a value whose pickle reaches the worker beside the row (see `load_row`).

    Args:
        place: its number among those of the row.
    """

    __slots__ = ("place",)

    def __init__(self, place: int) -> None:
        self.place = place


def encode_rows(
    rows: Sequence[Row], shipped: Container[str] = (), beside: list[Keepsake] | None = None
) -> Payload:
    """A chunk of calls with a pickle each.

    Args:
        rows: mappings (keyword arguments) or tuples (positional ones).
        shipped: names of modules that travel as files.
        beside: gets what is not in the chunk, because nodes may have it; None: all is.

    Raises:
        UnpicklableRowError: tells which row, and names the argument.
    """
    far = beside is not None
    pickled = [_dump_row(row, place, shipped, far=far) for place, row in enumerate(rows)]
    return bundled(pickled, beside)


def _dump_row(row: Row, position: int, shipped: Container[str], *, far: bool) -> Piece | FarRow:
    # A plain tuple even of a named one: its class may be unknown to the node.
    args, kwargs = (tuple(row), {}) if isinstance(row, tuple) else ((), dict(row))
    try:
        if all(map(is_flat, args or kwargs.values())):
            return pickle.dumps((args, kwargs), PROTOCOL)
        beside: list[Keepsake] | None = [] if far else None
        pickled = dump_value((args, kwargs), shipped, None, beside)
        return FarRow(pickled, beside) if beside else pickled
    except Exception as exc:
        raise UnpicklableRowError(position, row_error(args, kwargs, exc)) from exc


def bundled(rows: Sequence[Any], beside: list[Any] | None) -> Payload:
    """Calls with a pickle each; in the place of one that travels beside them is its number."""
    if beside is not None and FarRow in map(type, rows):
        return _bundled_far(rows, beside)
    pieces = [row for row in rows if is_apart(row)]
    if not pieces:
        return pickle.dumps(rows, PROTOCOL)
    numbers = count()
    main = [next(numbers) if is_apart(row) else row for row in rows]
    return Bundle(pickle.dumps(main, PROTOCOL), pieces)


def _bundled_far(rows: Sequence[Piece | FarRow], beside: list[Any]) -> Payload:
    """The same of calls some of which take what is in no row, and goes ``beside`` all of them,
    once however many take it."""
    pieces: list[Piece] = []
    main: list[Any] = []
    numbers = {id(each): place for place, each in enumerate(beside)}
    for row in rows:
        pickled = row.row if isinstance(row, FarRow) else row
        encoded: Any = pickled
        if is_apart(pickled):
            encoded = len(pieces)
            pieces.append(pickled)
        if isinstance(row, FarRow):
            for each in row.beside:
                if id(each) not in numbers:
                    numbers[id(each)] = len(beside)
                    beside.append(each)
            encoded = encoded, [numbers[id(each)] for each in row.beside]
        main.append(encoded)
    whole = pickle.dumps(main, PROTOCOL)
    return Bundle(whole, pieces) if pieces else whole


def encode_single(
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    shipped: Container[str] = (),
    beside: list[Keepsake] | None = None,
) -> Piece:
    """One call with any mixture of arguments, as it is now; ``beside``: see `dump_value`.

    Raises:
        SerializationError: an argument cannot be pickled.
    """
    try:
        return dump_value((args, kwargs), shipped, None, beside)
    except Exception as exc:
        raise row_error(args, kwargs, exc) from exc


def encode_call(
    args: tuple[Any, ...], kwargs: dict[str, Any], shipped: Container[str] = ()
) -> Piece | FarRow:
    """The same for whoever sends it to nodes, which may have some of it.

    Raises:
        SerializationError: an argument cannot be pickled.
    """
    beside: list[Keepsake] = []
    row = encode_single(args, kwargs, shipped, beside)
    return FarRow(row, beside) if beside else row


def encode_plain(args: tuple[Any, ...]) -> bytes | None:
    """The row of one call, if its arguments are plain builtins through and through, else None."""
    try:
        if all(map(is_flat, args)):
            return pickle.dumps((args, {}), PROTOCOL)
        buffer = io.BytesIO()
        PlainPickler(buffer, PROTOCOL).dump((args, {}))
    except Exception:  # noqa: BLE001 - who sends it as something else will be told what is wrong
        return None
    return buffer.getvalue()


def encode_frozen(args: Sequence[Any], kwargs: Mapping[str, Any], *, far: bool = False) -> Piece:
    """The row of one call whose arguments are `freeze`-d; ``far``: some of them `Elsewhere`."""
    row = (tuple(args), dict(kwargs))
    file = io.BytesIO()
    buffers: list[pickle.PickleBuffer] = []
    kind = _FarPickler if far else pickle.Pickler
    kind(file, PROTOCOL, buffer_callback=buffers.append).dump(row)
    return in_envelope(file, buffers)


def decode_rows(payload: Payload) -> list[EncodedRow]:
    """The calls of a chunk of form ``rows``, each still pickled."""
    main, pieces = parts_of(payload)
    rows: list[Any] = pickle.loads(main)
    return [_with_piece(row, pieces) for row in rows] if pieces else rows


def _with_piece(row: Any, pieces: Sequence[Piece]) -> EncodedRow:
    if type(row) is tuple:
        number, places = row
        return (pieces[number] if type(number) is int else number), places
    encoded: Piece = pieces[row] if type(row) is int else row
    return encoded


def load_row(
    row: EncodedRow, beside: Sequence[Piece | None] = ()
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The positional and keyword arguments of one call.

    Args:
        row: the call.
        beside: the pickles of the values that are `Elsewhere` in it, and its buffers that nodes may
            have had; None for one that is lost.

    Raises:
        ObjectLostError: it takes one that is lost.
    """
    if isinstance(row, tuple):
        row, places = row
        beside = [beside[place] for place in places]
    if not beside and row[:1] == PLAIN:
        args, kwargs = pickle.loads(row)
    else:
        args, kwargs = _FarUnpickler(row, beside).load()
    return args, kwargs


class _FarPickler(pickle.Pickler):
    def persistent_id(self, obj: Any) -> int | None:
        return obj.place if type(obj) is Elsewhere else None


class _FarUnpickler(pickle.Unpickler):
    def __init__(self, row: Piece, beside: Sequence[Piece | None]) -> None:
        pickled, buffers = opened(row, beside)
        super().__init__(io.BytesIO(pickled), buffers=buffers)
        self._beside = beside
        self._values: dict[int, Any] = {}  # who passes a value twice passes one object

    def persistent_load(self, place: int) -> Any:
        if place not in self._values:
            payload = self._beside[place]
            if payload is None:
                raise ObjectLostError(
                    "a result that this call takes was lost with the node that kept it; make the "
                    "call that had it again, and then this one"
                )
            self._values[place] = load_value(payload)
        return self._values[place]
