"""A real Lieutenant process for a benchmark: started, awaited and stopped by its pid."""

import os
import re
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from benchmarks import procs

ROOT = Path(__file__).resolve().parent.parent
READY = re.compile(r"goliath lieutenant ready on (\S+):(\d+), \d+ workers?, pid (\d+)")
READY_MAX_S = 20.0
STOP_MAX_S = 5.0  # for each of: asked to drain, told to end, killed


class NodeError(RuntimeError):
    """A Lieutenant did not start or did not stop as promised."""


@dataclass(frozen=True, slots=True)
class Node:
    """A running Lieutenant."""

    host: str
    port: int
    pid: int

    @property
    def address(self) -> tuple[str, int]:
        return self.host, self.port

    def pids(self) -> list[int]:
        """The Lieutenant, its zygote and its workers."""
        return procs.tree(self.pid)


@contextmanager
def isolated() -> Iterator[None]:
    """Runtime files in a folder of our own, and nothing that names the user's Lieutenants."""
    before = dict(os.environ)
    with tempfile.TemporaryDirectory(prefix="goliath-bench-") as folder:
        for name in [n for n in os.environ if n.startswith("GOLIATH_")]:
            del os.environ[name]
        os.environ["XDG_RUNTIME_DIR"] = folder
        # Start-up is measured as users see it: from bytecode, not from source.
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
        path = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
        os.environ["PYTHONPATH"] = os.pathsep.join(path)
        try:
            yield
        finally:
            os.environ.clear()
            os.environ.update(before)


@contextmanager
def lieutenant(
    workers: int = 2, variables: Mapping[str, str] | None = None, flags: Sequence[str] = ()
) -> Iterator[Node]:
    """``python -m goliath.lieutenant 127.0.0.1 0 WORKERS``, on a port it chose itself."""
    with tempfile.TemporaryFile(prefix="goliath-bench-") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "goliath.lieutenant", "127.0.0.1", "0", str(workers), *flags],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            env={**os.environ, **(variables or {})},
        )
        try:
            yield _ready(process, log)
        finally:
            _stop(process)


def _ready(process: subprocess.Popen[bytes], log: IO[bytes]) -> Node:
    deadline = time.monotonic() + READY_MAX_S
    said = b""
    while (left := deadline - time.monotonic()) > 0:
        if not select.select([process.stdout], [], [], left)[0]:
            continue
        piece = os.read(process.stdout.fileno(), 4096)
        said += piece
        if found := READY.search(said.decode(errors="replace")):
            return Node(found[1], int(found[2]), int(found[3]))
        if not piece:
            break
    log.seek(0)
    raise NodeError(
        f"the lieutenant (pid {process.pid}, exit status {process.poll()}) was not ready within "
        f"{READY_MAX_S:g} s; it said {said!r} and {log.read().decode(errors='replace')[-2000:]}"
    )


def _stop(process: subprocess.Popen[bytes]) -> None:
    # Drain, then end at once (what a second SIGTERM means), then no more asking.
    for step in (process.terminate, process.terminate, process.kill):
        step()
        try:
            process.wait(STOP_MAX_S)
            break
        except subprocess.TimeoutExpired:
            continue
    process.stdout.close()
