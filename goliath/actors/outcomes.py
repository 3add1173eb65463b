"""What a caller gets for a call that has no value: the exception, rebuilt and explained.

A call's own exception arrives as its own class, with the worker's traceback as its cause
and a note that says which call it was. What cannot be rebuilt, or would break the loop or
the generator that it passes through, becomes a `TaskError`.
"""

from __future__ import annotations

from goliath.actors.postmortem import Death, Report
from goliath.core.commands import Verdict
from goliath.errors import (
    GoliathError,
    NodeDiedError,
    NodeFullError,
    RemoteTraceback,
    RuntimeEnvSetupError,
    SerializationError,
    TaskCancelledError,
    TaskError,
    TaskTimeoutError,
    named,
    size_text,
)
from goliath.record import frozen
from goliath.transport.exceptions import load_exception
from goliath.transport.outcomes import FailureRecord
from goliath.transport.payload import Payload


@frozen
class Where:
    """Which execution of which call an outcome is about."""

    function: str
    node: str = ""
    worker: int = 0
    attempt: int = 0

    def note(self, index: int, call: str = "") -> str:
        """The line that stands under an exception's traceback."""
        place = f" on {self.node}, worker {self.worker}" if self.node else ""
        text = f": {call}" if call else ""
        return f"goliath: {self.function}, call {index}{text}{place}, attempt {self.attempt}"


@frozen
class Setback:
    """A verdict of the scheduler with what is known of its reason.

    Attributes:
        call: which call it struck, with its arguments, as text; empty if it was several, or none.
    """

    verdict: Verdict
    detail: str = ""
    timeout_s: float | None = None
    report: Report | None = None
    # Of a detached actor: on which node, where it lives on (nowhere if empty), and what its
    # ``__init__`` raised.
    node: str = ""
    successor: str | None = None
    payload: Payload = b""
    call: str = ""


def rebuild(record: FailureRecord, where: Where, index: int) -> BaseException:
    """The exception that a call raised."""
    note = where.note(index, record["call"])
    if record["kind"] == "serialization":
        return named(
            SerializationError(f"{where.function}, call {index}: {record['message']}"), note
        )
    cause = RemoteTraceback(record["traceback"])
    exc = load_exception(record["pickle"]) if record["pickle"] is not None else None
    if not isinstance(exc, Exception) or isinstance(exc, StopIteration | StopAsyncIteration):
        exc = TaskError(
            f"{where.function}, call {index}, raised {record['type']}: {record['message']}",
            type_name=record["type"],
            remote_message=record["message"],
            remote_traceback=record["traceback"],
        )
    elif isinstance(exc, ModuleNotFoundError) and exc.name and where.worker:
        exc.msg = f"{exc.msg} on {where.node}; {_why_missing(exc.name)}"
    exc.__cause__ = cause
    return named(exc, note)


def _why_missing(module: str) -> str:
    from goliath.actors.project import why_missing  # here: few calls miss one

    return why_missing(module)


def explain(setback: Setback, where: Where, index: int) -> GoliathError:
    """The exception for a call that a verdict ended."""
    call = setback.call or where.function
    if setback.verdict is Verdict.CRASHED:
        death = Death(call, where.node, int(setback.detail or 1), setback.report or {})
        error: GoliathError = death.error(index)
    else:
        error = _EXPLAIN[setback.verdict](setback, where, f"{call}, call {index},")
    named(error, where.note(index))
    return error


def _cancelled(_: Setback, __: Where, call: str) -> GoliathError:
    return TaskCancelledError(f"{call} was cancelled before it had a result")


def _timed_out(setback: Setback, where: Where, call: str) -> GoliathError:
    limit = "it was given" if setback.timeout_s is None else f"timeout={setback.timeout_s:g} s"
    died = setback.report is None or "pid" in setback.report  # else a coroutine, which did not mind
    return TaskTimeoutError(
        f"{call} ran longer than {limit} on {where.node}; "
        f"{'its worker was killed' if died else 'it was cancelled'}. "
        "Allow it more time, or cut its work into smaller calls"
    )


def _node_died(setback: Setback, where: Where, call: str) -> GoliathError:
    node = setback.detail or where.node
    return NodeDiedError(
        f"{call} was on {node} when that node was lost, and may have run there. It is not "
        "repeated (max_retries, or too many nodes lost under it); check what it did, and run "
        "it again if that is safe",
        node=node,
        maybe_executed=True,
    )


def _environment(setback: Setback, where: Where, call: str) -> GoliathError:
    return RuntimeEnvSetupError(
        f"{call} could not start: the surroundings of its job could not be set up on "
        f"{where.node or 'a node'}: {setback.detail}"
    )


def _infeasible(setback: Setback, _: Where, call: str) -> GoliathError:
    return GoliathError(
        f"{call} can run on no connected node: {setback.detail}. Ask for less, or connect a "
        "node that has it"
    )


def _gone(setback: Setback, _: Where, call: str) -> GoliathError:
    return GoliathError(f"{call} was not begun: {setback.detail}")


def _oversized(setback: Setback, _: Where, call: str) -> GoliathError:
    why = (setback.report or {}).get("oversized", "its result is too big")
    return SerializationError(f"{call} has an argument or a result that cannot be sent: {why}")


def _full(setback: Setback, where: Where, call: str) -> GoliathError:
    report = setback.report or {}
    used, limit = int(report.get("used") or 0), int(report.get("limit") or 0)
    return NodeFullError(
        f"{call} was refused by {where.node}, and no other node takes it: its arguments are big, "
        f"and {size_text(used)} of memory are used there, of {size_text(limit)} that it may have. "
        "Let go of results and actors that nobody needs, send smaller arguments, or make the call "
        "again when others have ended",
        node=where.node,
        used_bytes=used,
        limit_bytes=limit,
    )


_EXPLAIN = {
    Verdict.CANCELLED: _cancelled,
    Verdict.TIMED_OUT: _timed_out,
    Verdict.NODE_DIED: _node_died,
    Verdict.ENVIRONMENT: _environment,
    Verdict.INFEASIBLE: _infeasible,
    Verdict.OVERSIZED: _oversized,
    Verdict.FULL: _full,
    Verdict.GONE: _gone,
}
