"""A result on its way out of a worker: pickled at once, or refused with the reason."""

from __future__ import annotations

from typing import Any

from goliath.actors import passing
from goliath.actors.failures import EVERYTHING, RefusedError, refused_result
from goliath.transport.messages import Piece
from goliath.transport.serialization import dump_value

RESULT_MAX_BYTES = 1 << 31  # of one pickled result; a frame has a 32-bit length


def pickled_result(value: Any) -> tuple[Piece, list[Any]]:
    """The pickle of a result, and the refs in it.

    Raises:
        RefusedError: it cannot be pickled, or is too big.
    """
    refs: list[Any] = []
    try:
        if passing.refs_exist:
            with passing.Collected() as refs:
                pickled = dump_value(value, EVERYTHING)
        else:
            pickled = dump_value(value, EVERYTHING)
    except Exception as exc:
        raise refused_result(value, exc) from exc
    if len(pickled) > RESULT_MAX_BYTES:
        raise RefusedError(size_complaint(len(pickled)))
    return pickled, refs


def size_complaint(size: int) -> str:
    """What is said of a result that does not fit a frame."""
    return (
        f"the result has {size} bytes pickled, and {RESULT_MAX_BYTES} is the most that can be "
        "returned at a time; return it in parts"
    )
