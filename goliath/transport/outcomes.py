"""What consecutive calls have returned or raised, to bytes and back.

Exact scalars share one pickle, as in `columns`. Any other value was pickled right after its call
returned, before the next call could change it; it stays in that *box* until it is looked at, so to
count, keep or pass on outcomes runs none of the user's code. What was raised is plain data, which
can be read wherever it arrives, whatever can be imported there.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from itertools import count
from typing import Any

from goliath.transport.columns import TEXTS, all_are, dump_lists
from goliath.transport.payload import Bundle, Payload, Piece, parts_of
from goliath.transport.serialization import PLAIN, PROTOCOL, is_apart, load_value

FailureRecord = dict[str, Any]
"""A call's exception as plain data: ``kind`` (``"raised"`` or ``"serialization"``), ``type``,
``message``, ``traceback``, ``call`` (the call as text, cut) and ``pickle`` (bytes or None)."""


def encode_outcomes(
    values: list[Any], boxed: dict[int, Piece], failures: dict[int, FailureRecord]
) -> Payload:
    """Outcomes of consecutive calls. ``values`` has exact scalars, and None where a key of
    ``boxed`` (a pickle of its own) or ``failures`` stands; keys count from 0 in ``values``."""
    if boxed or failures:
        pieces = [pickled for pickled in boxed.values() if is_apart(pickled)]
        if not pieces:
            return pickle.dumps((values, boxed, failures), PROTOCOL)
        numbers = count()
        inside = {
            place: next(numbers) if is_apart(pickled) else pickled
            for place, pickled in boxed.items()
        }
        return Bundle(pickle.dumps((values, inside, failures), PROTOCOL), pieces)
    kind = type(values[0]) if values else None
    if kind in TEXTS and all_are(kind, map(type, values), len(values)):
        return dump_lists(values, (values,), (kind,))
    return pickle.dumps(values, PROTOCOL)


def decode_outcomes(payload: Payload) -> tuple[list[Any], dict[int, FailureRecord]]:
    """The values, and the failures by their place among them (where the value is None)."""
    values, boxed, failures = read_outcomes(payload)
    for place, pickled in boxed.items():
        values[place], failure = unbox(pickled)
        if failure is not None:
            failures[place] = failure
    return values, failures


def read_outcomes(
    payload: Payload,
) -> tuple[list[Any], dict[int, Piece], dict[int, FailureRecord]]:
    """The same with the results that are no scalars still in their boxes: nothing in this can
    run code of the user's."""
    main, pieces = parts_of(payload)
    decoded = pickle.loads(main)
    if type(decoded) is list:
        return decoded, {}, {}
    values, boxed, failures = decoded
    if pieces:
        boxed = {
            place: pieces[pickled] if type(pickled) is int else pickled
            for place, pickled in boxed.items()
        }
    return values, boxed, failures


def results_of(payload: Payload) -> Iterator[tuple[int, Piece]]:
    """The pickle of each result among outcomes, with its place there."""
    values, boxed, failures = read_outcomes(payload)
    for place, value in enumerate(values):
        if place in boxed:
            yield place, boxed[place]
        elif place not in failures:
            yield place, pickle.dumps(value, PROTOCOL)


def is_long(value: Any, over: int) -> bool:
    """Whether it is a string of more than so many characters, or bytes."""
    return type(value) in TEXTS and len(value) > over


def set_apart(values: list[Any], boxed: dict[int, Piece], over: int) -> dict[int, Piece]:
    """Take the pickles of results of more than ``over`` bytes out of what is to be encoded.

    Returns:
        The pickles, by place. None stands in their places.
    """
    apart = {place: boxed.pop(place) for place in list(boxed) if len(boxed[place]) > over}
    for place, value in enumerate(values):
        if is_long(value, over):
            apart[place], values[place] = pickle.dumps(value, PROTOCOL), None
    return dict(sorted(apart.items()))


def unbox(pickled: Piece) -> tuple[Any, FailureRecord | None]:
    """A result; or None and what is to be told instead, if it cannot be rebuilt here."""
    try:
        return (pickle.loads if pickled[:1] == PLAIN else load_value)(pickled), None
    except Exception as exc:  # noqa: BLE001 - a user's __setstate__ may raise anything
        return None, serialization_record(
            f"its result cannot be rebuilt here ({type(exc).__name__}: {exc}); "
            "return plain data, or make its class importable on this side"
        )


def serialization_record(message: str, call: str = "") -> FailureRecord:
    """The record of a `SerializationError`."""
    return {
        "kind": "serialization",
        "type": "SerializationError",
        "message": message,
        "traceback": "",
        "call": call,
        "pickle": None,
    }
