"""What `goliath.monitor` gives: a callback that waits for the end of an actor."""

from __future__ import annotations

import sys
import threading
import traceback
from collections.abc import Callable
from contextlib import suppress
from contextvars import copy_context
from typing import Any

from goliath.actors import inside, stage
from goliath.actors.handles import ActorHandle
from goliath.actors.kin import ActorEnd
from goliath.errors import describe


class Monitor:
    """Made by `goliath.monitor`; `cancel` calls it off.

    Args:
        handle: of the actor.
        callback: called with an `ActorEnd`.
    """

    def __init__(self, handle: ActorHandle, callback: Callable[[ActorEnd], Any]) -> None:
        self._actor = repr(handle)
        self._callback = callback
        # In a worker: as what called it, so that calls it makes have the same maker.
        self._context = copy_context()
        self._maker = _running_task()
        self._lock = threading.Lock()
        self._open = True
        self._call_off: Callable[[], None] | None = handle._grip.watch(self._on_end)

    def __repr__(self) -> str:
        return f"<Monitor of {self._actor}, {'open' if self._open else 'over'}>"

    def cancel(self) -> None:
        """Call it off: the callback is not called any more, unless it has been. Idempotent."""
        self._close()
        call_off, self._call_off = self._call_off, None
        if call_off is not None:
            call_off()

    def _close(self) -> bool:
        """Whether this was the first time."""
        with self._lock:
            was_open, self._open = self._open, False
        return was_open

    def _on_end(self, end: ActorEnd) -> None:
        """In a thread that must not block: the callback has one of its own."""
        if self._close():
            run = threading.Thread(
                target=self._context.run,
                args=(self._run, end),
                name="goliath-monitor",
                daemon=True,
            )
            with suppress(RuntimeError):  # the interpreter ends, and everything with it
                run.start()

    def _run(self, end: ActorEnd) -> None:
        self._call_off = None
        if inside.host is not None and stage.instance is None and _running_task() != self._maker:
            return  # it was a task's, and the task has ended
        try:
            self._callback(end)
        except BaseException:  # noqa: BLE001 - it is the user's, and breaks nothing of ours
            sys.stderr.write(
                f"goliath: the callback {describe(self._callback)}, that was told of the end of "
                f"{self._actor}, raised\n{traceback.format_exc()}"
            )


def _running_task() -> str | None:
    call = inside.host.running_call() if inside.host is not None else None
    return call.task_id if call is not None else None
