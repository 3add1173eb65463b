"""A call's exception as plain data: whatever user code raises, and however oddly it behaves."""

from __future__ import annotations

import contextlib
import os
import threading
import traceback
from types import TracebackType
from typing import Any

from goliath.actors import stage
from goliath.actors.loops import OWN_FILE
from goliath.config import KIB
from goliath.errors import describe, named, size_text
from goliath.machine import total_memory
from goliath.transport.culprits import find_culprit
from goliath.transport.exceptions import dump_exception
from goliath.transport.outcomes import FailureRecord, serialization_record

_CALL_CHARACTERS = 200
_OWN_FILES = (OWN_FILE, os.path.join(os.path.dirname(__file__), ""))
_LOOP_FILES = os.path.join(os.path.dirname(os.__file__), "asyncio", "")


_AROUND_USER = (
    OWN_FILE,
    os.path.join(os.path.dirname(os.path.dirname(__file__)), ""),
    os.path.join(os.path.dirname(os.__file__), "concurrent", ""),
    contextlib.__file__,
    threading.__file__,
)
"""What is under and above the frames of a call in the stack of its thread."""


class _Everything(frozenset[str]):
    def __contains__(self, name: object) -> bool:
        return True


EVERYTHING = _Everything()
"""All modules. What a worker can import was shipped or installed by its caller, so everything
that goes back may go by name."""


class RefusedError(Exception):
    """A value that cannot cross; the text is what the caller should read."""


class CallInterrupted(KeyboardInterrupt):
    """The call was cancelled: raised inside user code, at the place where it is."""


def failure_record(exc: BaseException, call: str) -> FailureRecord:
    """What the caller is told of ``exc``; ``call`` is the call as text."""
    if isinstance(exc, RefusedError):
        return serialization_record(str(exc), call)
    if isinstance(exc, MemoryError):
        named(exc, _memory_text())
    return {
        "kind": "raised",
        "type": _type_name(type(exc)),
        "message": _message(exc),
        "traceback": _traceback(exc),
        "call": call,
        "pickle": dump_exception(exc, EVERYTHING) if _may_travel(exc) else None,
    }


def stack_of_user() -> str:
    """Where this thread is, as a traceback has it, from the call that it runs on."""
    frames = traceback.extract_stack()
    ours = [frame.filename.startswith(_AROUND_USER) for frame in frames]
    first = ours.index(True)  # what started the process is not ours
    begin = next((place for place in range(first, len(ours)) if not ours[place]), first)
    end = len(ours)
    while end > begin and ours[end - 1]:
        end -= 1
    return "".join(traceback.format_list(frames[begin:end]))


def refused_result(value: Any, exc: Exception) -> RefusedError:
    """Why the result of a call cannot be sent, and which part of it is to blame."""
    culprit = find_culprit(value, "the result")
    return RefusedError(
        f"{culprit or 'the result'} cannot be pickled ({type(exc).__name__}: {_message(exc)}); "
        "return something it can be made from"
    )


def call_text(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
    """``name(1, b=2)``, cut; in an actor ``name.method(1, b=2)``."""
    return called(name, args, kwargs, method=stage.actor_id is not None)


def called(name: str, args: tuple[Any, ...], kwargs: dict[str, Any], *, method: bool) -> str:
    """``name(1, b=2)``, cut; the first argument is the name of a ``method`` of an actor, if so."""
    if method and args:
        name, args = f"{name}.{str(args[0]).removeprefix(stage.STREAMED)}", args[1:]
    parts = [describe(value, _CALL_CHARACTERS) for value in args]
    parts += [f"{key}={describe(value, _CALL_CHARACTERS)}" for key, value in kwargs.items()]
    text = f"{name}({', '.join(parts)})"
    return text if len(text) <= _CALL_CHARACTERS else f"{text[: _CALL_CHARACTERS - 1]}…"


def _may_travel(exc: BaseException) -> bool:
    """Whether it is safe in a future and a ``raise`` at the other end."""
    return isinstance(exc, Exception) and not isinstance(exc, StopIteration | StopAsyncIteration)


def _type_name(kind: type[BaseException]) -> str:
    name = kind.__qualname__
    return name if kind.__module__ in ("builtins", "__main__") else f"{kind.__module__}.{name}"


def _memory_text() -> str:
    """How much this process has had, and how much it may."""
    import resource  # here: few workers need it

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * KIB
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    most = total_memory() if limit == resource.RLIM_INFINITY else min(limit, total_memory())
    return f"goliath: its worker had {size_text(peak)} of memory at its peak, of {size_text(most)}"


def _message(exc: BaseException) -> str:
    try:
        return str(exc)
    except Exception as broken:  # noqa: BLE001 - a user's __str__ may do anything
        return f"<{type(exc).__name__} whose str() raised {type(broken).__name__}>"


def _traceback(exc: BaseException) -> str:
    try:
        return "".join(traceback.format_exception(type(exc), exc, _users_part(exc.__traceback__)))
    except Exception as broken:  # noqa: BLE001 - a user's class may break the formatting
        return f"{_type_name(type(exc))}: <no traceback: formatting it raised {broken!r}>"


def _users_part(tb: TracebackType | None) -> TracebackType | None:
    """The traceback without our frames at its top, nor those of the event loop we run."""
    own = _skip(tb, _OWN_FILES)
    return _skip(own, (*_OWN_FILES, _LOOP_FILES)) or own


def _skip(tb: TracebackType | None, files: tuple[str, ...]) -> TracebackType | None:
    while tb is not None and tb.tb_frame.f_code.co_filename.startswith(files):
        tb = tb.tb_next
    return tb
