"""A Lieutenant in a process of its own, on this machine: started, watched, ended, not orphaned."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from goliath.testing.processes import (
    Seen,
    alive,
    descendants,
    is_spare,
    kill,
    living,
    marked,
    until,
)
from goliath.transport.private_files import runtime_directory

MARK = "GOLIATH_TEST_LIEUTENANT"
"""Set in the environment of the Lieutenant, and so of whatever it starts."""

READY = re.compile(r"^goliath lieutenant ready on (\S+):(\d+), (\d+) workers?, pid (\d+)$", re.M)
START_S = 20.0
STOP_S = 15.0

QUICK_TIMERS: Mapping[str, str] = {
    # Silence, loss and retries in a test's time. The order of the three sessions' limits is
    # the one that counts: silence < kill < lost.
    "GOLIATH_PING_INTERVAL_S": "0.3",
    "GOLIATH_SILENCE_MAX_S": "1.5",
    "GOLIATH_SESSION_KILL_S": "3",
    "GOLIATH_SESSION_LOST_S": "4",
    "GOLIATH_RECONNECT_MAX_S": "0.5",
    "GOLIATH_PLACEMENT_TIMEOUT_S": "1",
}
"""The knobs of a cluster that is there to be tested, for Lieutenants and Commanders alike."""


class Node:
    """One Lieutenant in a process of its own. As a context manager it is stopped, gently, at the
    end, and must leave neither process nor file.

    ::

        >>> from goliath import Commander
        >>> from goliath.testing import Node
        >>> with Node(1) as node, Commander([node.address]) as commander:
        ...     commander.run(pow, [(2, 5)])
        [32]

    Args:
        workers: its slots; None: as many as there are usable CPUs.
        *flags: of the node command (see docs/nodes.md).
        host: that it listens on.
        port: 0: it chooses one, and keeps that when it is started again.
        env: environment variables of its process, beside those of this one.
        timers: more of them (see `QUICK_TIMERS`).
        launcher: what of Python runs it.
        inside: what runs Python, such as ``("ip", "netns", "exec", "lab")``; it must become it.
    """

    _popen: type[subprocess.Popen[bytes]] = subprocess.Popen

    def __init__(
        self,
        workers: int | None = 2,
        *flags: str,
        host: str = "127.0.0.1",
        port: int = 0,
        env: Mapping[str, str] | None = None,
        timers: Mapping[str, str] = QUICK_TIMERS,
        launcher: Sequence[str] = ("-m", "goliath.testing.guarded"),
        inside: Sequence[str] = (),
    ) -> None:
        self.host, self.port, self.workers = host, port, workers or 0
        self._given = workers
        self._flags = flags
        self._launcher = launcher
        self._inside = inside
        self._folder = tempfile.TemporaryDirectory(prefix="goliath-node-")
        (Path(self._folder.name) / "tmp").mkdir()
        self._mark = uuid.uuid4().hex
        self._environ = {
            **os.environ,
            **timers,
            **(env or {}),
            MARK: self._mark,
            "TMPDIR": f"{self._folder.name}/tmp",
        }
        self._process: subprocess.Popen[bytes] | None = None
        self._told = False

    def __repr__(self) -> str:
        state = f"pid {self._process.pid}" if self._process is not None else "not started"
        return f"<Node {self.host}:{self.port}, {state}>"

    # -- what it is ----------------------------------------------------------------------

    @property
    def process(self) -> subprocess.Popen[bytes]:
        """The Lieutenant's process, the last one if it was started again."""
        assert self._process is not None, f"{self!r}: call start()"
        return self._process

    @property
    def pid(self) -> int:
        """The Lieutenant's own process id."""
        return self.process.pid

    @property
    def running(self) -> bool:
        """Whether its process has been started and has not ended."""
        return self._process is not None and self._process.poll() is None

    @property
    def address(self) -> tuple[str, int]:
        """Where a Commander finds it."""
        return (self.host, self.port)

    def _log(self, name: str) -> Path:
        return Path(self._folder.name) / name

    @property
    def out(self) -> str:
        """What it wrote to stdout so far."""
        return self._log("out").read_text()

    @property
    def err(self) -> str:
        """What it wrote to stderr so far."""
        return self._log("err").read_text()

    def runtime_file(self) -> Path:
        """Where its token and address are written for this user."""
        return runtime_directory() / f"{self.port}.json"

    def runtime(self) -> dict[str, Any]:
        """What its runtime file says."""
        told: dict[str, Any] = json.loads(self.runtime_file().read_text())
        return told

    def family(self) -> set[Seen]:
        """Every living process it has started, however far away."""
        return {seen for seen in living(marked(f"{MARK}={self._mark}")) if seen.pid != self.pid}

    def worker_processes(self) -> list[Seen]:
        """Its workers and its actors, oldest first; a process that is to be one is none yet."""
        if not self.running:
            return []
        zygotes = {seen.pid for seen in descendants(self.pid, depth=1)}
        found = living(seen for pid in zygotes for seen in descendants(pid, depth=1))
        return sorted(
            (seen for seen in found if not is_spare(seen)),
            key=lambda seen: (int(seen.started), seen.pid),
        )

    # -- its life ------------------------------------------------------------------------

    def start(self) -> Self:
        """Start it, also again after it has ended; `wait_ready` comes next."""
        assert not self.running, f"{self!r} runs already"
        self._let_go()
        self._told = False
        command = [*self._inside, sys.executable, *self._launcher, *self._place()]
        if self._given is not None:
            command.append(str(self._given))
        with self._log("out").open("wb") as out, self._log("err").open("ab") as err:
            self._process = self._popen(
                [*command, *self._flags],
                stdin=subprocess.PIPE,  # which `goliath.testing.guarded` watches
                stdout=out,
                stderr=err,
                env=self._environ,
            )
        return self

    def _place(self) -> list[str]:
        """What the node command is told of where it is to be found."""
        return [self.host, str(self.port)]

    def wait_ready(self) -> Self:
        """Read the ready line.

        Raises:
            AssertionError: there is none; with what it wrote to stderr instead.
        """
        until(lambda: READY.search(self.out) or self.process.poll() is not None, START_S, "ready")
        ready = READY.search(self.out)
        assert ready, f"no ready line; exit code {self.process.poll()}\n{self.out}\n{self.err}"
        assert int(ready[4]) == self.pid
        self.port, self.workers = int(ready[2]), int(ready[3])
        return self

    def freeze(self) -> None:
        """SIGSTOP it (not its workers)."""
        kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT."""
        kill(self.pid, signal.SIGCONT)

    def kill(self) -> int:
        """SIGKILL it, and see it dead; its pid."""
        self.process.kill()
        self.process.wait(10)
        return self.pid

    def destroy(self) -> float:
        """`kill` it; returns the seconds until all its processes were gone."""
        family = self.family()
        self.kill()
        start = time.monotonic()
        until(lambda: not any(map(alive, family)) and not self.family(), 10, "its workers gone")
        return time.monotonic() - start

    def terminate(self) -> None:
        """SIGTERM it, if it runs; `stop` waits for its end."""
        if self.process.poll() is None and not self._told:
            self._told = True  # a second one would mean: end at once
            self.thaw()
            kill(self.pid, signal.SIGTERM)

    def stop(self, within: float = STOP_S) -> None:
        """`terminate` it: it must exit with 0 and leave neither process nor file.

        Raises:
            AssertionError: it did not; says what it left, or wrote to stderr.
        """
        self.terminate()
        try:
            code = self.process.wait(within)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError(f"deaf to SIGTERM for {within} s\n{self.err}") from None
        assert code == 0, f"exit code {code}\n{self.err}"
        until(lambda: not self.family(), 2, f"orphans: {self.family()}")
        left = [str(path) for path in Path(self._folder.name, "tmp").rglob("*")]
        assert not left, f"files left behind: {left}"
        assert not self.runtime_file().exists(), "the runtime file was left behind"

    def discard(self) -> None:
        """Whatever happened: no process and no file of it stays."""
        if self._process is not None:
            if self._process.poll() is None:
                self._process.kill()
            self._process.wait()
            self._let_go()
            for seen in self.family():
                kill(seen.pid)
            with contextlib.suppress(FileNotFoundError):
                # After a SIGKILL it is still there, unless another one has taken the port.
                if self.runtime()["pid"] == self.pid:
                    self.runtime_file().unlink()
        self._folder.cleanup()

    def _let_go(self) -> None:
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()

    def end(self, *, gently: bool) -> None:
        """`stop` it, if that is wanted and it runs, and `discard` it."""
        try:
            if gently and self._process is not None and self._process.returncode is None:
                self.stop()
        finally:
            self.discard()

    def __enter__(self) -> Self:
        try:
            if not self.running:
                self.start()
            return self.wait_ready()
        except BaseException:
            self.discard()
            raise

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        # A test that failed says so itself; one that killed its node has no exit code 0.
        self.end(gently=kind is None)
