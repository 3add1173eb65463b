"""What can go wrong, as types.

::

    GoliathError
    ├── TaskError                 a call raised, and its exception cannot be rebuilt here
    ├── SerializationError        an argument, function or result cannot be pickled
    ├── TaskCancelledError
    ├── TaskTimeoutError          (TimeoutError) the timeout= of a call passed
    ├── GetTimeoutError           (TimeoutError) get/wait stopped waiting; the task goes on
    ├── DeadlineExceededError     (TimeoutError) the deadline= of a run passed
    ├── WorkerCrashedError        the process died under the call
    │   └── OutOfMemoryError      (MemoryError) ... because the memory was used up
    ├── NodeDiedError             the Lieutenant, or the way to it, was lost
    ├── NodeFullError             (MemoryError) no node has memory for the arguments of the call
    ├── ActorDiedError            the actor has ended; __cause__ says why
    ├── ActorUnavailableError     the actor died under the call, and is being restarted
    ├── PendingCallsLimitExceeded the actor has as many calls waiting as it may (max_pending_calls)
    ├── DeadlockError             calls of actors wait for one another, and would for ever
    ├── SupervisionError          a supervisor gave up: its children ended too often
    ├── ObjectLostError
    ├── CheckpointError           the file of a checkpoint cannot be used, or not be written
    ├── AuthenticationError       the token was refused, or the other side could not prove it
    ├── VersionMismatchError      another Python, cloudpickle or protocol at the other end
    ├── ProtocolError             the other side does not speak Goliath
    ├── ConnectionError           (ConnectionError) no Lieutenant at the address
    ├── RuntimeEnvSetupError      files, environment or initializer of a job failed on a node
    └── LocalError                a bug in Goliath itself: please report it

Every class survives pickling: the message is the only positional argument, the rest
are attributes that travel in ``__dict__``.
"""

from __future__ import annotations

import builtins
from collections.abc import Mapping
from typing import Any


class GoliathError(Exception):
    """Base of everything Goliath raises on its own account."""

    def __init__(self, message: str = "") -> None:
        super().__init__(message)


class RemoteTraceback(Exception):  # noqa: N818 - it is a carrier of text, as in concurrent.futures
    """The traceback of the worker as text: the ``__cause__`` of a call's own exception.

    (The term and the trick are those of ``multiprocessing`` and ``concurrent.futures``.)
    """

    def __init__(self, text: str = "") -> None:
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        return f'\n"""\n{self.text}"""'


class TaskError(GoliathError):
    """A call raised, and its exception could not be rebuilt here.

    Attributes:
        type_name: qualified name of the class it raised, such as ``"SystemExit"``.
        remote_message: ``str()`` of the exception in the worker.
        remote_traceback: the worker's traceback as text.
    """

    def __init__(
        self,
        message: str = "",
        *,
        type_name: str = "",
        remote_message: str = "",
        remote_traceback: str = "",
    ) -> None:
        super().__init__(message)
        self.type_name = type_name
        self.remote_message = remote_message
        self.remote_traceback = remote_traceback


class SerializationError(GoliathError):
    """An argument, a function or a result cannot be pickled, or not be read at the other end."""


class TaskCancelledError(GoliathError):
    """The call was cancelled before it had a result."""


class TaskTimeoutError(GoliathError, TimeoutError):
    """One call ran longer than its ``timeout=``; its worker was killed."""


class GetTimeoutError(GoliathError, TimeoutError):
    """Waiting for a result stopped after ``timeout=``; the call itself goes on."""


class DeadlineExceededError(GoliathError, TimeoutError):
    """The ``deadline=`` of a whole run passed before this call had a result."""


class WorkerCrashedError(GoliathError):
    """The worker process died while it ran the call.

    The first line of its message says it all; those that follow say what there is to go by.

    Attributes:
        signal: number of the signal that killed it, or None.
        exit_code: what it exited with, or None.
        pid: its process id on the node.
        node: the node's name.
        call: the call and its arguments as text, cut at 200 characters. Of a class that is none of
            the plainest, the arguments are shown by their attributes, not by their ``__repr__``.
        executions: how many of its executions have ended like that.
        peak_bytes: the memory that the process had at most, or None.
        limit_bytes: the memory that it, and whatever runs beside it, could have, or None.
        stderr_tail: the last lines it wrote to stderr, the faulthandler's stack among them.
        stack: what the faulthandler wrote, from ``Fatal Python error`` on; else empty.
        maybe_executed: whether the call may have had effects.
    """

    def __init__(
        self,
        message: str = "",
        *,
        signal: int | None = None,
        exit_code: int | None = None,
        pid: int | None = None,
        node: str = "",
        call: str = "",
        executions: int = 1,
        peak_bytes: int | None = None,
        limit_bytes: int | None = None,
        stderr_tail: str = "",
        stack: str = "",
        maybe_executed: bool = True,
    ) -> None:
        super().__init__(message)
        self.signal = signal
        self.exit_code = exit_code
        self.pid = pid
        self.node = node
        self.call = call
        self.executions = executions
        self.peak_bytes = peak_bytes
        self.limit_bytes = limit_bytes
        self.stderr_tail = stderr_tail
        self.stack = stack
        self.maybe_executed = maybe_executed


class OutOfMemoryError(WorkerCrashedError, MemoryError):
    """The worker process was killed by the kernel because the memory was used up.

    The call has been tried once more after that, alone in its worker, however many retries it had.
    What a call raises itself when an allocation is refused stays a plain `MemoryError`, with a note
    of how much memory its worker had; ``except MemoryError`` catches both.
    """


class NodeDiedError(GoliathError):
    """The Lieutenant that had the call was lost, and the call may not be repeated.

    Attributes:
        node: the node's name.
        maybe_executed: whether the call may have had effects.
    """

    def __init__(self, message: str = "", *, node: str = "", maybe_executed: bool = True) -> None:
        super().__init__(message)
        self.node = node
        self.maybe_executed = maybe_executed


class NodeFullError(GoliathError, MemoryError):
    """The memory of the node is used up, and what the call takes is big; nor can another node take
    it now. The call has not begun.

    Attributes:
        node: the node's name.
        used_bytes: the memory that the node has in use.
        limit_bytes: the memory that it could have.
    """

    def __init__(
        self, message: str = "", *, node: str = "", used_bytes: int = 0, limit_bytes: int = 0
    ) -> None:
        super().__init__(message)
        self.node = node
        self.used_bytes = used_bytes
        self.limit_bytes = limit_bytes


KILLED = "it was killed (goliath.kill)"
"""Why an actor has ended: by a user's wish."""

LEFT = "it has left (exit_actor)"
"""Why an actor has ended: by its own."""


class ActorDiedError(GoliathError):
    """The actor of a call has ended, or ended under it; ``__cause__`` says why, if that is known.

    Attributes:
        maybe_executed: whether the call may have begun.
    """

    def __init__(self, message: str = "", *, maybe_executed: bool = False) -> None:
        super().__init__(message)
        self.maybe_executed = maybe_executed


class ActorUnavailableError(GoliathError):
    """The actor died under the call and is being restarted: the call may have begun. Call again,
    if it may be made twice, or give the actor ``max_task_retries``."""


class PendingCallsLimitExceeded(GoliathError):  # noqa: N818 - Ray's name
    """As many calls of the actor as ``max_pending_calls`` wait already."""


class DeadlockError(GoliathError):
    """The call cannot begin before the call that waits for it has ended: calls of actors wait for
    one another in a circle. The message has the Python stack of each.

    Attributes:
        stacks: where each of the calls waits, as text, by its task id.
    """

    def __init__(self, message: str = "", *, stacks: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.stacks = dict(stacks or {})


class SupervisionError(GoliathError):
    """A supervisor gave up: its children ended too often. ``__cause__`` is the last reason."""


class ObjectLostError(GoliathError):
    """A result was lost with its node and cannot be made again."""


class CheckpointError(GoliathError):
    """The file of a checkpoint cannot be used, or no longer be written. What was written is safe:
    the same run, made again, goes on from there."""


class AuthenticationError(GoliathError):
    """The token was refused, none was found, or the Lieutenant could not prove that it has it."""


class VersionMismatchError(GoliathError):
    """The two ends run Python or Goliath versions that cannot exchange functions."""


class ProtocolError(GoliathError):
    """The other side sent something that is not the Goliath protocol."""


class ConnectionError(GoliathError, builtins.ConnectionError):  # noqa: A001 - as promised in API §5
    """No Lieutenant could be reached."""


class RuntimeEnvSetupError(GoliathError):
    """The files, the environment or the initializer of a job could not be set up on a node."""


class LocalError(GoliathError):
    """Goliath broke one of its own rules: a bug, please report it with the message."""


def named(error: BaseException, note: str) -> BaseException:
    """``error`` with one more note, unless it bears the same note already."""
    if note not in getattr(error, "__notes__", ()):
        error.add_note(note)
    return error


def describe(value: Any, limit: int = 200) -> str:
    """``repr(value)`` cut to ``limit`` characters; never raises."""
    if type(value) is str or type(value) is bytes:
        value = value[:limit]  # the rest of it may be a gigabyte
    try:
        text = repr(value)
    except Exception as exc:  # noqa: BLE001 - a user's __repr__ may do anything
        text = f"<{type(value).__name__} whose repr raised {type(exc).__name__}>"
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def printable(text: str) -> str:
    """A text that somebody else has chosen, for a terminal: what would steer that is escaped."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def size_text(size: float) -> str:
    """A number of bytes for people: ``1.5 GiB``."""
    for unit, name in ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB")):
        if size >= unit:
            return f"{size / unit:.4g} {name}"
    return f"{size:.4g} bytes"
