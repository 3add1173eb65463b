"""What a call may have changed about its process: noticed after it, and put right again."""

from __future__ import annotations

import importlib
import os
import signal
import sys
import threading
from collections.abc import Callable
from io import TextIOWrapper
from typing import Any

THREAD_GRACE_S = 0.01  # a pool that was just shut down needs a moment to end its threads
_STREAMS = ("stdout", "stderr")
_WATCHED_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)
# signal.getsignal looks for an enumeration member first: 2.9 µs, against 15 ns, after every range.
_handler_of = importlib.import_module("_signal").getsignal
# threading.active_count takes a lock and 0.4 µs, 6 cold, before every answer. This one counts
# threads that threading does not know, too; whether one of the user's is left is asked then.
_thread_count = importlib.import_module("_thread")._count


class Housekeeper:
    """Keeps directory, standard streams, signal handlers and threads as the next call expects.

    Args:
        output_fds: where descriptors 1 and 2 belong: kept elsewhere, in case a call closes them.
        end_threads: called before a remaining thread counts as the user's.
        keeps: whether threads, timers and the directory are kept, because they are part of what
            an actor is.
    """

    def __init__(
        self,
        output_fds: tuple[int, int],
        end_threads: Callable[[], None] = lambda: None,
        *,
        keeps: bool = False,
    ) -> None:
        self._keeps = keeps
        self._output_fds = output_fds
        self._end_threads = end_threads
        self._identities = [_identity(fd) for fd in output_fds]
        self._cwd = os.getcwd()
        self._handlers = [(int(number), _handler_of(number)) for number in _WATCHED_SIGNALS]
        self._threads = _thread_count()
        self._streams: dict[str, TextIOWrapper] = {}
        for place, name in enumerate(_STREAMS):
            os.dup2(output_fds[place], place + 1)
            self._renew(place, name)

    def flush(self) -> None:
        """Push out what was printed; a stream the user closed has nothing left."""
        for name, ours in self._streams.items():
            current = getattr(sys, name, None)
            if current is not ours:
                _flush(current)  # first: it may write into ours
            _flush(ours)

    def settle(self) -> tuple[bool, bool]:
        """What must be done before anyone is told that a call has ended: 1 µs.

        What was printed goes first, no timer that the call forgot may raise in our own code,
        and with a thread of the user's still running this process has no future.

        Returns:
            Whether anything was left behind, and whether threads are.
        """
        self.flush()
        if self._keeps:
            return False, False
        armed = signal.getitimer(signal.ITIMER_REAL)[0] > 0
        if armed:
            signal.setitimer(signal.ITIMER_REAL, 0)
        busy = _thread_count() > self._threads and self._threads_remain()
        return armed or busy, busy

    def restore(self) -> tuple[bool, bool]:
        """Put the rest back, before the next call: 4 µs where nothing has changed.

        Returns:
            Whether anything had changed, and whether the directory is lost.
        """
        changed = [self._restore_streams(), self._restore_handlers()]
        moved, lost = (False, False) if self._keeps else self._restore_cwd()
        return True in changed or moved, lost

    def _restore_streams(self) -> bool:
        changed = False
        for place, name in enumerate(_STREAMS):
            if _identity(place + 1) != self._identities[place]:
                os.dup2(self._output_fds[place], place + 1)
                changed = True
            ours = self._streams[name]
            if getattr(sys, name, None) is not ours or ours.closed:
                self._renew(place, name)
                changed = True
        return changed

    def _renew(self, place: int, name: str) -> None:
        """A fresh stream: prints never fail for an encoding, and leave line by line."""
        stream = open(  # noqa: SIM115 - lives as long as the process
            place + 1, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False
        )
        self._streams[name] = stream
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)

    def _restore_handlers(self) -> bool:
        changed = False
        for number, handler in self._handlers:
            if _handler_of(number) != handler:
                signal.signal(number, handler)
                changed = True
        return changed

    def _restore_cwd(self) -> tuple[bool, bool]:
        try:
            if os.getcwd() == self._cwd:
                return False, False
        except OSError:
            pass  # the call removed the directory it stood in
        try:
            os.chdir(self._cwd)
        except OSError:
            return True, True
        return True, False

    def _threads_remain(self) -> bool:
        self._end_threads()
        for thread in _left_threads():
            thread.join(THREAD_GRACE_S)
        return bool(_left_threads())


def _flush(stream: Any) -> None:
    try:
        stream.flush()
    except Exception:  # noqa: BLE001 - closed, None, or an object of the user's
        return


def _left_threads() -> list[threading.Thread]:
    """Threads that a process normally waits for. A daemon thread is meant to be left."""
    return [
        thread
        for thread in threading.enumerate()
        if not thread.daemon and thread is not threading.main_thread()
    ]


def _identity(fd: int) -> Any:
    """Which file a descriptor means; None if it is closed."""
    try:
        status = os.fstat(fd)
    except OSError:
        return None
    return status.st_dev, status.st_ino
