"""Another Commander, in a process of its own, for tests of what several share."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent

from goliath.testing.processes import kill
from tests.forge import Popen

ROOT = Path(__file__).parents[1]

CLASSES = """
import os, sys, time, goliath
from pathlib import Path

port = int(sys.argv[1])


@goliath.remote
class Counter:
    def __init__(self, start=0):
        self.n = start

    def add(self, k=1):
        self.n += k
        return self.n

    def pid(self):
        return os.getpid()


@goliath.remote
class Gate:
    def wait(self, path):
        Path(path + ".begun").touch()
        while not Path(path).exists():
            time.sleep(0.005)


def connect():
    goliath.init(("127.0.0.1", port))


def detached(cls, name, *args, **options):
    return cls.options(name=name, lifetime="detached", **options).remote(*args)


def end(how):
    if how == "raise":
        raise RuntimeError("it ends badly")
    if how == "kill":
        os.kill(os.getpid(), 9)
"""


class Other:
    """Another Commander: a script in a process of its own."""

    def __init__(self, folder: Path, port: int) -> None:
        self._folder, self._port = folder, port
        self.processes: list[subprocess.Popen[str]] = []

    def start(self, text: str, *arguments: object) -> subprocess.Popen[str]:
        number = len(self.processes)
        path = self._folder / f"other{number}.py"
        path.write_text(CLASSES + "connect()\n" + dedent(text))
        process: subprocess.Popen[str] = Popen(
            [sys.executable, str(path), str(self._port), *map(str, arguments)],
            cwd=self._folder,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.processes.append(process)
        return process

    def run(self, text: str, *arguments: object, code: int = 0) -> str:
        """What it has printed."""
        process = self.start(text, *arguments)
        out, err = process.communicate(timeout=40)
        assert process.returncode == code, (process.returncode, out, err)
        return out.strip()


@contextlib.contextmanager
def running_script(
    folder: Path, text: str, *arguments: str, stderr: int = subprocess.STDOUT
) -> Iterator[subprocess.Popen[str]]:
    """A script as a shell would start it: of its own process group, so that Ctrl-C reaches it
    alone. It is killed at the end."""
    path = folder / "running.py"
    path.write_text(text)
    with subprocess.Popen(
        [sys.executable, path.name, *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
        process_group=0,
    ) as process:
        try:
            yield process
        finally:
            kill(process.pid)
