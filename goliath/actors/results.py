"""A result on its way out of a worker: pickled at once, or refused with the reason."""

from __future__ import annotations

from typing import Any

from goliath.actors import passing
from goliath.actors.failures import EVERYTHING, RefusedError, refused_result
from goliath.config import MIB
from goliath.transport.payload import Piece
from goliath.transport.serialization import dump_value

RESULT_MAX_BYTES = 1 << 39  # of one pickled result, with room for its header in a frame
SPILL_BYTES = 1 << 25  # of pickled results that wait in a worker before they are sent
OUTCOMES_MAX_BYTES = RESULT_MAX_BYTES + SPILL_BYTES  # of those that are sent together


def fit_into(frame_max_bytes: int) -> None:
    """Let results be no bigger than what leaves this worker may be, with what is beside them."""
    global RESULT_MAX_BYTES, SPILL_BYTES, OUTCOMES_MAX_BYTES
    OUTCOMES_MAX_BYTES = min(OUTCOMES_MAX_BYTES, frame_max_bytes - min(MIB, frame_max_bytes // 4))
    SPILL_BYTES = min(SPILL_BYTES, OUTCOMES_MAX_BYTES // 4)
    RESULT_MAX_BYTES = OUTCOMES_MAX_BYTES - SPILL_BYTES


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
        "returned at a time; return it in parts, or raise GOLIATH_MESSAGE_MAX_BYTES on both ends"
    )
