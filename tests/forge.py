"""Python processes that need not import everything anew: forked from one that has (`tests.anvil`).

A Lieutenant is there after a tenth of the CPU that a new interpreter and its imports take, and the
tests start hundreds. It is a process of its own as it would be without, with its own pid, signals,
descriptors, environment and exit status; only ``/proc`` shows the command line and the start
environment of the one it was forked from. What is about the start of an interpreter, or about the
node command itself, goes on with the real one.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, AnyStr

ROOT = Path(__file__).parents[1]
ORDER_MAX_BYTES = 1 << 17
CLOSE_MAX_S = 10.0
PAUSE_S = 0.002


class Forged(subprocess.Popen[AnyStr]):
    """A `subprocess.Popen` of ``[python, "-W", "error", "-m", module, …]``, where the module has a
    ``main``, or of ``[python, script, …]``. The ``"-W", "error"`` may be left out."""

    # Three private methods are what begins a process and what waits for it, in Python 3.11 to
    # 3.13; all else, from pipes to timeouts, is that of every Popen.

    def _execute_child(
        self,
        args: list[str],
        executable: object,
        preexec_fn: object,
        close_fds: object,
        pass_fds: object,
        cwd: str | os.PathLike[str] | None,
        env: dict[str, str] | None,
        startupinfo: object,
        creationflags: object,
        shell: object,
        p2cread: int,
        p2cwrite: int,
        c2pread: int,
        c2pwrite: int,
        errread: int,
        errwrite: int,
        *_: object,
    ) -> None:
        order = {
            "command": list(map(str, args)),
            "env": dict(os.environ if env is None else env),
            "cwd": os.path.abspath(cwd or "."),
            "limits": _limits(),
        }
        given = enumerate((p2cread, c2pwrite, errwrite))
        try:
            self.pid = forge().fork(order, [own if fd == -1 else fd for own, fd in given])
        finally:
            ends = (p2cread, p2cwrite, c2pread, c2pwrite, errread, errwrite)
            self._close_pipe_fds(*ends)  # type: ignore[attr-defined]
        self._child_created = True

    def _internal_poll(self, _deadstate: int | None = None, **_: object) -> int | None:
        if self.returncode is None:
            status = forge().status_of(self.pid)
            if status is not None:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def _try_wait(self, wait_flags: int) -> tuple[int, int]:
        while (status := forge().status_of(self.pid)) is None:
            if wait_flags & os.WNOHANG:
                return 0, 0
            time.sleep(PAUSE_S)
        return self.pid, status


def _limits() -> list[tuple[int, int, int]]:
    import resource

    which = {value for name, value in vars(resource).items() if name.startswith("RLIMIT_")}
    return [(each, *resource.getrlimit(each)) for each in which]


Popen: type[subprocess.Popen[Any]] = Forged if sys.platform == "linux" else subprocess.Popen
"""The same where there can be no forge, and all who may do with one use this."""


class Forge:
    """The near end of a forge. If that has ended by itself, whatever asks it fails."""

    def __init__(self) -> None:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for end in (self._socket, theirs):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2 * ORDER_MAX_BYTES)
        self._statuses: dict[int, int] = {}
        self._lock = threading.Lock()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.anvil", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                env={**os.environ, "PYTHONPATH": str(ROOT)},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
            )

    @property
    def pid(self) -> int:
        """Of its process."""
        return self._process.pid

    def fork(self, order: dict[str, Any], stdio: list[int]) -> int:
        """The pid of a new process (what `order` says: see `tests.anvil`)."""
        with self._lock:
            socket.send_fds(self._socket, [json.dumps(order).encode()], stdio)
            while "born" not in (news := self._hear()):
                continue
        self._statuses.pop(news["born"], None)  # of an earlier one of that pid
        return int(news["born"])

    def status_of(self, pid: int) -> int | None:
        """The wait status of a process that has ended."""
        with self._lock, contextlib.suppress(BlockingIOError):
            while pid not in self._statuses:
                self._hear(socket.MSG_DONTWAIT)
        return self._statuses.get(pid)

    def _hear(self, flags: int = 0) -> dict[str, int]:
        said = self._socket.recv(ORDER_MAX_BYTES, flags)
        assert said, f"the forge of this test process has ended, with {self._process.wait(1)}"
        news: dict[str, int] = json.loads(said)
        if "ended" in news:
            self._statuses[news["ended"]] = news["status"]
        return news

    def close(self) -> None:
        """It ends, and kills what is left of what it has forked."""
        self._socket.close()
        self._process.wait(CLOSE_MAX_S)


@functools.cache
def forge() -> Forge:
    """That of this process, which the leak check takes for granted (see `tests.conftest`)."""
    return Forge()
