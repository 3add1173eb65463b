"""Real ``python -m goliath.lieutenant`` processes: started, watched, stopped, not orphaned."""

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

from tests.processes import Seen, alive, kill, living, marked, until

MARK = "GOLIATH_TEST_LIEUTENANT"
READY = re.compile(r"^goliath lieutenant ready on (\S+):(\d+), (\d+) workers?, pid (\d+)$", re.M)
START_S = 20.0

REAL_TIMERS = os.environ.get("GOLIATH_TEST_REAL_TIMERS") == "1"
"""Whether the tests run with the timers that users have, which takes long."""

QUICK_TIMERS = (
    {}
    if REAL_TIMERS
    else {
        # Silence, loss and retries in a test's time. The order of the three sessions' limits is
        # the one that counts: silence < kill < lost.
        "GOLIATH_PING_INTERVAL_S": "0.3",
        "GOLIATH_SILENCE_MAX_S": "1.5",
        "GOLIATH_SESSION_KILL_S": "3",
        "GOLIATH_SESSION_LOST_S": "4",
        "GOLIATH_RECONNECT_MAX_S": "0.5",
        "GOLIATH_PLACEMENT_TIMEOUT_S": "1",
    }
)


class Lieutenant:
    """One node in a process of its own. As a context manager it is stopped, gently, at the end."""

    def __init__(
        self,
        workers: int | None = 2,
        *flags: str,
        host: str = "127.0.0.1",
        port: int = 0,
        env: Mapping[str, str] | None = None,
        timers: Mapping[str, str] = QUICK_TIMERS,
        launcher: Sequence[str] = ("-m", "goliath.lieutenant"),
    ) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="goliath-node-")
        self._mark = uuid.uuid4().hex
        (Path(self._folder.name) / "tmp").mkdir()
        command = [sys.executable, "-W", "error", *launcher, host, str(port)]
        if workers is not None:
            command.append(str(workers))
        with self._log("out").open("wb") as out, self._log("err").open("wb") as err:
            self.process = subprocess.Popen(
                [*command, *flags],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                env={
                    **os.environ,
                    **timers,
                    **(env or {}),
                    MARK: self._mark,
                    "TMPDIR": f"{self._folder.name}/tmp",
                },
            )
        self._runtime_folder = Path(os.environ.get("XDG_RUNTIME_DIR", "/nowhere"))
        self.host, self.port, self.workers = host, port, workers or 0

    def _log(self, name: str) -> Path:
        return Path(self._folder.name) / name

    @property
    def pid(self) -> int:
        """The Lieutenant's own process id."""
        return self.process.pid

    @property
    def address(self) -> tuple[str, int]:
        """Where a Commander finds it."""
        return (self.host, self.port)

    @property
    def out(self) -> str:
        """What it wrote to stdout so far."""
        return self._log("out").read_text()

    @property
    def err(self) -> str:
        """What it wrote to stderr so far."""
        return self._log("err").read_text()

    def wait_ready(self) -> Self:
        """Read the ready line; a Lieutenant that dies before it fails the test with its stderr."""
        until(lambda: READY.search(self.out) or self.process.poll() is not None, START_S, "ready")
        ready = READY.search(self.out)
        assert ready, f"no ready line; exit code {self.process.poll()}\n{self.out}\n{self.err}"
        assert int(ready[4]) == self.pid
        self.port, self.workers = int(ready[2]), int(ready[3])
        return self

    def runtime_file(self) -> Path:
        """Where its token and address are written for this user."""
        return self._runtime_folder / "goliath" / f"{self.port}.json"

    def runtime(self) -> dict[str, Any]:
        """What its runtime file says."""
        return json.loads(self.runtime_file().read_text())

    def family(self) -> set[Seen]:
        """Every living process it has started, however far away."""
        return {seen for seen in living(marked(f"{MARK}={self._mark}")) if seen.pid != self.pid}

    def freeze(self) -> None:
        """SIGSTOP it (not its workers)."""
        kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT."""
        kill(self.pid, signal.SIGCONT)

    def destroy(self) -> float:
        """SIGKILL it; returns the seconds until all its processes were gone."""
        family = self.family()
        kill(self.pid)
        self.process.wait(10)
        start = time.monotonic()
        until(lambda: not any(map(alive, family)) and not self.family(), 10, "its workers gone")
        return time.monotonic() - start

    def stop(self, within: float = 15.0) -> None:
        """SIGTERM it: it must exit with 0 and leave neither process nor file."""
        if self.process.poll() is None:
            self.thaw()
            kill(self.pid, signal.SIGTERM)
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
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        for seen in self.family():
            kill(seen.pid)
        with contextlib.suppress(FileNotFoundError):
            # After a SIGKILL it is still there, unless another one has taken the port.
            if self.runtime()["pid"] == self.pid:
                self.runtime_file().unlink()
        self._folder.cleanup()

    def __enter__(self) -> Self:
        try:
            return self.wait_ready()
        except BaseException:
            self.discard()
            raise

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            # A test that failed says so itself; one that killed its node has no exit code 0.
            if kind is None and self.process.returncode is None:
                self.stop()
        finally:
            self.discard()
