"""An exception to bytes and back, as far as it can be rebuilt at the other end.

Many cannot: their class is missing there, or cannot be made again of what it has told pickle. So
the way back is tried before one is sent, and its text goes along for whoever cannot rebuild it.
"""

from __future__ import annotations

import pickle
from collections.abc import Container

from goliath.errors import RemoteTraceback, TaskError
from goliath.transport.payload import Piece
from goliath.transport.serialization import PROTOCOL, dump_value, load_value


def dump_exception(exc: BaseException, shipped: Container[str] = ()) -> bytes | None:
    """The exception as bytes, if it survives the way there and back; else None.

    Classes with arguments of their own often pickle well and fail to unpickle
    (``multiprocessing.Pool`` hangs on them): so the way back is tried here.
    """
    try:
        payload = bytes(dump_value(exc, shipped))
        back = load_value(payload)
    except Exception:  # noqa: BLE001 - a user's __reduce__ may raise anything
        return None
    return payload if type(back).__qualname__ == type(exc).__qualname__ else None


def load_exception(payload: bytes) -> BaseException | None:
    """The exception that `dump_exception` wrote; None if it cannot be rebuilt here."""
    try:
        exc = load_value(payload)
    except Exception:  # noqa: BLE001 - its class may be missing here, or raise anything
        return None
    return exc if isinstance(exc, BaseException) else None


def dump_error(exc: BaseException) -> bytes:
    """An exception that was raised here, with the text of its cause, for another process."""
    text = str(exc.__cause__.text) if isinstance(exc.__cause__, RemoteTraceback) else ""
    record = (dump_exception(exc), type(exc).__qualname__, str(exc), text)
    return pickle.dumps(record, PROTOCOL)


def load_error(payload: Piece) -> BaseException:
    """The exception that `dump_error` wrote; a `TaskError` if it cannot be rebuilt here."""
    pickled, name, message, text = pickle.loads(payload)
    exc = None if pickled is None else load_exception(pickled)
    if exc is None:
        exc = TaskError(
            f"{name}: {message}", type_name=name, remote_message=message, remote_traceback=text
        )
    if text:
        exc.__cause__ = RemoteTraceback(text)
    return exc
