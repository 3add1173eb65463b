"""The calls of one range, read from their payload: what to loop over, and how to name one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Protocol

from goliath.actors import loops
from goliath.actors.failures import RefusedError, call_text
from goliath.transport import serialization
from goliath.transport.messages import Payload
from goliath.transport.serialization import LoadedFunction

Sink = Callable[[Any], None]
Plan = tuple[list[int], loops.Loop, loops.Loop]


class Callee:
    """A loaded function, and how to loop over calls of each shape that it was called with."""

    __slots__ = ("_function", "_plans", "call", "retry_on")

    def __init__(self, function: LoadedFunction) -> None:
        self.call = partial(function.call, **function.static) if function.static else function.call
        self.retry_on = function.retry_on
        self._plans: dict[tuple[int, tuple[str, ...]], Plan] = {}
        self._function = function

    def plan(self, positional: int, names: tuple[str, ...]) -> Plan:
        """The order of the columns, the loop for all calls, and the one for a single call."""
        shape = positional, names
        plan = self._plans.get(shape)
        if plan is None:
            order, keywords = loops.plan_arguments(
                self._function.call, frozenset(self._function.static), positional, names
            )
            width = positional + len(names)
            plan = self._plans[shape] = (
                order,
                loops.loop_for(width, keywords, single=False),
                loops.loop_for(width, keywords, single=True),
            )
        return plan


class Calls(Protocol):
    """A range ready to run.

    ``column`` is what the loop consumes first: deleting its tail takes those calls away.
    """

    column: list[Any]
    iterator: Iterator[Any]

    def bind(self, callee: Callee, append: Sink, box: Sink) -> Callable[[bool], bool]:
        """``step(single)``: runs all calls that are left, or the next one; False at the end."""

    def text(self, name: str, place: int) -> str:
        """The call at ``place`` as text."""


def read_calls(form: str, payload: Payload, lo: int, hi: int) -> Calls:
    """Calls ``lo <= i < hi`` of a payload."""
    if form == serialization.COLUMNS:
        return ColumnCalls(payload, lo, hi)
    return RowCalls(payload, lo, hi)


class ColumnCalls:
    """Calls with the same keywords and plain scalars: one list for each argument."""

    __slots__ = ("_columns", "_names", "_positional", "column", "iterator")

    def __init__(self, payload: Payload, lo: int, hi: int) -> None:
        self._positional, self._names, columns = serialization.decode_columns(payload)
        self._columns = [_part(column, lo, hi) for column in columns]
        # Calls without any argument still have to be counted.
        self.column = self._columns[0] if columns else [None] * (hi - lo)
        self.iterator = iter(self.column)

    def bind(self, callee: Callee, append: Sink, box: Sink) -> Callable[[bool], bool]:
        order, whole, one = callee.plan(self._positional, self._names)
        if self._columns:
            # The order may put another column first: that one is cut and counted from now on.
            self.column = self._columns[order[0]]
            self.iterator = iter(self.column)
        iterators = [self.iterator, *(iter(self._columns[place]) for place in order[1:])]
        f = callee.call
        return lambda single: (one if single else whole)(f, append, box, *iterators)

    def text(self, name: str, place: int) -> str:
        try:
            values = [column[place] for column in self._columns]
        except IndexError:  # cut off beneath the very call that was about to start
            return f"{name}(…)"
        split = self._positional
        return call_text(
            name, tuple(values[:split]), dict(zip(self._names, values[split:], strict=True))
        )


class RowCalls:
    """Calls with a pickle each."""

    __slots__ = ("_current", "column", "iterator")

    def __init__(self, payload: Payload, lo: int, hi: int) -> None:
        self.column = _part(serialization.decode_rows(payload), lo, hi)
        self.iterator = iter(self.column)
        self._current: tuple[tuple[Any, ...], dict[str, Any]] | None = None

    def bind(self, callee: Callee, append: Sink, box: Sink) -> Callable[[bool], bool]:
        f, load, rows = callee.call, self._load, self.iterator
        return lambda single: loops.rows_loop(f, append, box, load, rows, single)

    def text(self, name: str, place: int) -> str:
        return call_text(name, *self._current) if self._current else f"{name}(…)"

    def _load(self, row: bytes) -> tuple[tuple[Any, ...], dict[str, Any]]:
        self._current = None
        try:
            self._current = serialization.load_row(row)
        except Exception as exc:
            raise RefusedError(
                f"its arguments cannot be rebuilt in the worker ({type(exc).__name__}: {exc}); "
                "send plain data, or ship or install the module of their class on the node"
            ) from exc
        return self._current


def _part(column: list[Any], lo: int, hi: int) -> list[Any]:
    return column if lo == 0 and hi == len(column) else column[lo:hi]
