"""What is said of a dead worker: how it ended, in one line, and what there is to go by."""

from __future__ import annotations

from typing import Any

from goliath.actors import dump
from goliath.errors import OutOfMemoryError, WorkerCrashedError, size_text
from goliath.record import record

Report = dict[str, str | int | float | bool | None]

TAIL_LINES = 4
STACK_LINES = 6
_LINE_CHARACTERS = 200

_OF_C_CODE = frozenset({"SIGSEGV", "SIGBUS", "SIGFPE", "SIGILL", "SIGABRT", "SIGTRAP"})


@record
class Death:
    """A worker's end, as its Lieutenant has reported it, and whom it happened to.

    Args:
        call: which call, with its arguments; or which actor, if no call is known to have run.
        node: where.
        executions: of the call that ended so.
        report: as in the message `RangeReturned`.
    """

    call: str
    node: str
    executions: int
    report: Report

    def error(self, index: int | None = None) -> WorkerCrashedError:
        """What the caller gets; ``index`` is the number of the call, if there was one."""
        tail = str(self.report.get("stderr_tail") or "").strip()
        words, _, fatal = tail.partition(dump.BEGINS)
        stack = dump.BEGINS + fatal if fatal else ""
        place = f"pid {self.report.get('pid')} on {self.node or 'its node'}"
        lines = [
            f"the process of {self.call} has ended: {self._how()}; {place}"
            if index is None
            else f"{self.call}, call {index}, killed its worker: {self._how()}; {place}, "
            f"executions blamed for it: {self.executions}",
            *self._memory(),
            f"what to do: {self._advice(bool(stack))}",
            *_section("its last words on stderr:", words.splitlines()[-TAIL_LINES:]),
            *_section("where it died (faulthandler):", dump.frames(stack)[:STACK_LINES]),
        ]
        kind = OutOfMemoryError if self._oom else WorkerCrashedError
        return kind(
            "\n".join(lines),
            signal=_number(self.report.get("signal")),
            exit_code=_number(self.report.get("exit_code")),
            pid=_number(self.report.get("pid")),
            node=self.node,
            call=self.call,
            executions=self.executions,
            peak_bytes=_number(self.report.get("peak")),
            limit_bytes=_number(self.report.get("limit")),
            stderr_tail=tail,
            stack=stack,
            maybe_executed=True,
        )

    @property
    def _oom(self) -> bool:
        return bool(self.report.get("oom"))

    def _how(self) -> str:
        number, code = self.report.get("signal"), self.report.get("exit_code")
        if self._oom:
            return f"out of memory ({_signal_name(number)}, sent by the kernel)"
        if number:
            return f"signal {number} {_signal_name(number)}".rstrip()
        if code is not None:
            return f"exit code {code}"
        return "cause unknown"

    def _memory(self) -> list[str]:
        peak, limit = (_number(self.report.get(key)) for key in ("peak", "limit"))
        if peak is None:
            return []
        of = "" if limit is None else f"; the limit, of all workers together, is {size_text(limit)}"
        return [f"memory at its peak: {size_text(peak)}{of}"]

    def _advice(self, has_stack: bool) -> str:
        name = _signal_name(self.report.get("signal"))
        if self._oom:
            return "give it less data, run fewer beside it (memory=), or give the node more memory"
        if name in _OF_C_CODE:
            return (
                "C code has crashed, in an extension module or by way of ctypes: look at the last "
                "Python line before it, below"
                if has_stack
                else "C code has crashed, and left no stack: run it alone to see where"
            )
        if name:
            return (
                "somebody sent that signal, and it was not Goliath: look at the node for who did "
                "(an administrator, a limit of its container, the call itself)"
            )
        if self.report.get("exit_code") is not None:
            return "it called os._exit, or C code that ends the process: have it raise instead"
        return "run it alone to see why"


def _section(title: str, lines: list[str]) -> list[str]:
    written = [line.rstrip() for line in lines if line.strip()]
    return [title, *(f"  {line[:_LINE_CHARACTERS]}" for line in written)] if written else []


def _signal_name(number: Any) -> str:
    import signal

    try:
        return signal.Signals(number).name
    except ValueError:
        return ""


def _number(value: Any) -> int | None:
    return value if isinstance(value, int) else None
