"""Calls that take results of others: they wait in the Commander's process until all are there."""

from __future__ import annotations

import threading
from collections.abc import Callable, Container, Mapping
from typing import Any

from goliath.actors.deposits import Along, Deposit, Taken
from goliath.actors.endings import Inherited, NoValueError, Outcome, held_in
from goliath.actors.object_ref import ObjectRef
from goliath.transport.payload import Piece
from goliath.transport.pickled import Pickled, freeze
from goliath.transport.rows import Elsewhere, FarRow, encode_call, encode_frozen


def takes_refs(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
    """Whether an argument is the result of another call. (A ref deeper inside is refused.)"""
    for value in args:
        if type(value) is ObjectRef:
            return True
    return bool(kwargs) and ObjectRef in map(type, kwargs.values())


def frozen_call(
    args: tuple[Any, ...], kwargs: Mapping[str, Any], shipped: Container[str]
) -> tuple[list[Any], dict[str, Any]]:
    """The arguments of one call as they are now, refs left as they are.

    Raises:
        SerializationError: an argument cannot be pickled.
    """
    return (
        [_frozen(f"argument {place}", value, shipped) for place, value in enumerate(args)],
        {name: _frozen(name, value, shipped) for name, value in kwargs.items()},
    )


def laid_out(args: tuple[Any, ...], kwargs: dict[str, Any], shipped: Container[str]) -> LaidOut:
    """One call as a row, or what it waits for to become one; ``shipped``: modules that go by name.

    Raises:
        SerializationError: an argument cannot be pickled.
    """
    if takes_refs(args, kwargs):
        return Dependencies(*frozen_call(args, kwargs, shipped))
    return encode_call(args, kwargs, shipped)


class Dependencies:
    """The arguments of one call, each frozen or a ref whose result is still to come.

    Attributes:
        refs: those.
    """

    def __init__(self, args: list[Any], kwargs: Mapping[str, Any]) -> None:
        self._args = args
        self._kwargs = kwargs
        values = (*args, *kwargs.values())
        self.refs = {value for value in values if type(value) is ObjectRef}
        self._missing = len(self.refs)
        self.held: list[object] = []  # the refs in the results, once the row was made
        self._lock = threading.Lock()

    def when_known(self, then: Callable[[], None]) -> None:
        """Have ``then`` called once, when all results are there; in any thread, or now."""

        def one_more() -> None:
            with self._lock:
                self._missing -= 1
                last = not self._missing
            if last:
                then()

        for ref in self.refs:
            ref.when_done(one_more)

    def row(self) -> Piece | FarRow | Outcome:
        """The call as a row; or why it cannot be made: what became of a call that it needs."""
        known: dict[ObjectRef[Any], Any] = {}
        deposits: list[Taken] = []
        for ref in self.refs:
            outcome, number = ref.ending()
            try:
                frozen = outcome.frozen(number)
            except NoValueError:
                return Inherited(outcome, number)
            self.held += held_in(outcome)
            known[ref] = _beside(frozen, deposits)
        args = [
            known[arg] if type(arg) is ObjectRef else _beside(arg, deposits) for arg in self._args
        ]
        kwargs = {
            name: known[arg] if type(arg) is ObjectRef else _beside(arg, deposits)
            for name, arg in self._kwargs.items()
        }
        row = encode_frozen(args, kwargs, far=bool(deposits))
        return FarRow(row, deposits) if deposits else row


LaidOut = Piece | FarRow | Dependencies
"""One call as it was made."""


def _beside(frozen: Any, deposits: list[Taken]) -> Any:
    """What stands in the row for a value: itself, unless it is big."""
    if type(frozen) is Deposit:
        deposits.append(frozen)
    elif type(frozen) is Pickled and frozen.is_apart:
        frozen.share()
        deposits.append(frozen.keepsake() or Along(frozen))
    else:
        return frozen
    return Elsewhere(len(deposits) - 1)


def _frozen(name: str, value: Any, shipped: Container[str]) -> Any:
    return value if type(value) is ObjectRef else freeze(name, value, shipped)
