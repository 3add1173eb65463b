"""The calls of one range, read from their payload: what to loop over, and how to name one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any, Protocol

from goliath.actors import loops
from goliath.actors.failures import CallInterrupted, RefusedError, call_text
from goliath.errors import ObjectLostError
from goliath.transport.columns import decode_columns
from goliath.transport.functions import LoadedFunction, load_function
from goliath.transport.payload import Payload, Piece
from goliath.transport.rows import EncodedRow, decode_rows, load_row
from goliath.transport.serialization import kept
from goliath.transport.worker_messages import DefineFunction

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


class Function:
    """One function of the job; unpickled by its first range, for that can be interrupted."""

    __slots__ = ("_payload", "callee", "name", "untidy", "vetted")

    def __init__(self, message: DefineFunction) -> None:
        self.name = message.name
        self.untidy = False
        self.vetted = False  # whether a call of it was looked at for what it left behind
        self._payload = kept(message.payload)
        self.callee: Callee | None = None

    def load(self) -> Callee:
        """The function; if it cannot be rebuilt, one that says so at every call."""
        if self.callee is None:
            try:
                self.callee = Callee(load_function(self._payload))
            except CallInterrupted:
                raise
            except BaseException as exc:  # noqa: BLE001 - importing runs user code
                self.callee = Callee(LoadedFunction(_refusal(self.name, exc), {}, ()))
            self._payload = b""
        return self.callee


def _refusal(name: str, exc: BaseException) -> Callable[..., Any]:
    text = (
        f"{name} cannot be rebuilt in the worker ({type(exc).__name__}: {exc}); "
        "ship the modules it needs with files=, or have their packages installed: requirements="
    )

    def refuse(*_args: Any, **_kwargs: Any) -> Any:
        raise RefusedError(text)

    return refuse


class Calls(Protocol):
    """A range ready to run.

    ``column`` is what ``iterator`` gives and the loop consumes first: deleting its tail takes
    those calls away.
    """

    column: list[Any]
    iterator: Iterator[Any]
    whole: loops.Loop
    one: loops.Loop

    @property
    def sources(self) -> Iterable[Any]:
        """The arguments of both loops behind ``f, append, box``."""

    def text(self, name: str, place: int) -> str:
        """The call at ``place`` as text."""


class ColumnCalls:
    """Calls with the same keywords and plain scalars: one list for each argument."""

    __slots__ = (
        "_columns",
        "_names",
        "_positional",
        "column",
        "iterator",
        "one",
        "sources",
        "whole",
    )

    def __init__(self, payload: Payload, lo: int, hi: int, callee: Callee) -> None:
        self._positional, self._names, columns = decode_columns(payload)
        if columns and (lo or hi < len(columns[0])):
            columns = tuple([column[lo:hi] for column in columns])
        order, self.whole, self.one = callee.plan(self._positional, self._names)
        # Calls without any argument still have to be counted.
        ordered = [*map(columns.__getitem__, order)] if columns else [[None] * (hi - lo)]
        self._columns = columns
        self.column = ordered[0]
        self.sources = [*map(iter, ordered)]
        self.iterator = self.sources[0]

    def text(self, name: str, place: int) -> str:
        try:
            values = [column[place] for column in self._columns]
        except IndexError:  # cut off beneath the very call that was about to start
            return f"{name}(…)"
        split = self._positional
        return call_text(
            name, tuple(values[:split]), dict(zip(self._names, values[split:], strict=True))
        )


_ONE_ROW = partial(loops.rows_loop, single=True)


class RowCalls:
    """Calls with a pickle each; ``beside`` has those of values that are none of its own."""

    __slots__ = ("_beside", "_current", "column", "iterator", "one", "whole")

    def __init__(
        self, payload: Payload, lo: int, hi: int, beside: Sequence[Piece | None] = ()
    ) -> None:
        self.whole: loops.Loop = loops.rows_loop
        self.one: loops.Loop = _ONE_ROW
        rows = decode_rows(payload)
        self.column = rows[lo:hi] if lo or hi < len(rows) else rows
        self.iterator = iter(self.column)
        self._beside = beside
        self._current: tuple[tuple[Any, ...], dict[str, Any]] | None = None

    @property
    def sources(self) -> Iterable[Any]:
        # Made anew: kept, it would tie this to itself, and every range would wait for the
        # garbage collector.
        return self._load, self.iterator

    def text(self, name: str, place: int) -> str:
        return call_text(name, *self._current) if self._current else f"{name}(…)"

    def _load(self, row: EncodedRow) -> tuple[tuple[Any, ...], dict[str, Any]]:
        self._current = None
        try:
            self._current = load_row(row, self._beside)
        except ObjectLostError:
            raise
        except Exception as exc:
            raise RefusedError(
                f"its arguments cannot be rebuilt in the worker ({type(exc).__name__}: {exc}); "
                "send plain data, or ship or install the module of their class on the node"
            ) from exc
        return self._current
