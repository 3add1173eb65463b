"""Python packages that jobs ask for: a virtual environment for each set, made once per node.

Its name is the hash of what is in it, so it never changes, and whoever wants the same gets the
same: a second job waits for the first one's installation, and so does another Lieutenant of this
user. It is complete when its marker stands in it, which is written last; what a killed installation
has left is removed by the next.

Workers are forked as ever, and put its packages before those that are installed here: so it is made
by this very interpreter, and whatever the zygote has imported already stays as it is. The
installers run behind a guard, which ends them all when the Lieutenant does, however that goes.
"""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import logging
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from goliath.actors.store import remove_tree
from goliath.record import record
from goliath.transport.private_files import make_private_directory

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

MARKER = "goliath-requirements.txt"
TAIL_LINES = 20
AT_ONCE = 2
_POLL_S = 0.1
_PIP_OPTIONS = ("--no-input", "--disable-pip-version-check", "--no-warn-script-location")

_GUARD = """
import os, subprocess, sys, threading
child = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL)
def watch():
    os.read(0, 1)
    os.killpg(0, 9)
threading.Thread(target=watch, daemon=True).start()
os._exit(child.wait() & 0xFF)
"""
"""Runs a command in its own process group, all of which ends with the pipe to our stdin."""

_log = logging.getLogger("goliath.lieutenant")


class InstallError(Exception):
    """Packages cannot be had; the text says why."""


@record
class Packages:
    """A virtual environment that is complete.

    Attributes:
        root: its directory.
        site: what is importable from it.
    """

    root: Path
    site: tuple[str, ...]


class Installer:
    """See the module's description. All but the installing itself happens in the loop's thread.

    Args:
        folder: where the environments are; made when it is needed.
        max_s: how long one installation may take.
        kept: how many environments are kept that nobody uses.
    """

    def __init__(self, folder: Path, max_s: float, kept: int) -> None:
        self._folder = folder
        self._max_s = max_s
        self._kept = kept
        self._known: dict[str, asyncio.Future[Packages]] = {}
        self._locks: dict[str, int] = {}  # of those in use, which nobody may remove
        self._pool: ThreadPoolExecutor | None = None
        self._closing = threading.Event()

    async def packages(self, requirements: Sequence[str]) -> Packages:
        """The environment with these packages, made now if it is not there.

        Raises:
            InstallError: it cannot be made.
        """
        key = _key(requirements)
        known = self._known.get(key)
        if known is None or (known.done() and (known.cancelled() or known.exception())):
            if self._pool is None:
                from concurrent.futures import ThreadPoolExecutor  # here: few jobs need any

                self._pool = ThreadPoolExecutor(AT_ONCE, "goliath-install")
            loop = asyncio.get_running_loop()
            known = loop.run_in_executor(self._pool, self._make, key, sorted(set(requirements)))
            self._known[key] = known
            known.add_done_callback(_heard)
        return await asyncio.shield(known)

    def close(self) -> None:
        """End what is being installed."""
        self._closing.set()
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
        for lock in self._locks.values():
            os.close(lock)
        self._locks.clear()

    # -- in a thread ------------------------------------------------------------------------

    def _make(self, key: str, requirements: list[str]) -> Packages:
        until = time.monotonic() + self._max_s
        root = self._folder / key
        try:
            make_private_directory(self._folder)
            self._hold(key, requirements, until)
            self._forget_unused()
        except OSError as exc:
            raise InstallError(f"{root} cannot be made: {exc}") from exc
        site = {sysconfig.get_path(kind, "venv", _vars(root)) for kind in ("purelib", "platlib")}
        return Packages(root, tuple(sorted(site)))

    def _hold(self, key: str, requirements: list[str], until: float) -> None:
        """Have it, made if need be, so that nobody removes it as long as this process lives.

        Who makes or removes one has its lock alone; those who use it share it.
        """
        root, marker = self._folder / key, self._folder / key / MARKER
        lock = os.open(self._folder / f"{key}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            while not (_try_lock(lock, fcntl.LOCK_SH) and marker.is_file()):
                if _try_lock(lock, fcntl.LOCK_EX):
                    if not marker.is_file():
                        remove_tree(root)
                        self._install(root, requirements, until)
                    continue
                fcntl.flock(lock, fcntl.LOCK_UN)  # two who wait must not keep each other from it
                if self._closing.wait(_POLL_S) or time.monotonic() > until:
                    raise InstallError("it is being made by another Lieutenant, and takes too long")
            marker.touch()  # it is in use: others go first
        except BaseException:
            os.close(lock)
            raise
        self._locks[key] = lock

    def _install(self, root: Path, requirements: list[str], until: float) -> None:
        _log.info("installing %s into %s", ", ".join(requirements), root)
        uv = shutil.which("uv")
        python, ours = str(root / "bin" / "python"), [sys.executable, "-I", "-m"]
        if uv is not None:
            self._run([uv, "venv", "--quiet", "--python", sys.executable, str(root)], until)
            install = [uv, "pip", "install", "--python", python]
        elif find_spec("pip") is not None:  # the one that is here does, and saves 5 s
            self._run([*ours, "venv", "--without-pip", str(root)], until)
            install = [*ours, "pip", "--python", python, "install", *_PIP_OPTIONS]
        else:
            self._run([*ours, "venv", str(root)], until)
            install = [python, "-I", "-m", "pip", "install", *_PIP_OPTIONS]
        self._run([*install, "--", *requirements], until)
        (root / MARKER).write_text("\n".join(requirements))

    def _run(self, command: list[str], until: float) -> None:
        name = "uv" if os.path.basename(command[0]) == "uv" else command[3]
        with tempfile.TemporaryFile() as output:
            guard = subprocess.Popen(
                [sys.executable, "-I", "-c", _GUARD, *command],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=_environ(),
                start_new_session=True,
            )
            assert guard.stdin is not None
            try:
                while (status := guard.poll()) is None:
                    if self._closing.wait(_POLL_S):
                        raise InstallError("the Lieutenant is ending")
                    if time.monotonic() > until:
                        raise InstallError(
                            f"{name} took longer than {self._max_s:g} s (GOLIATH_INSTALL_MAX_S); "
                            f"its last lines:\n{_tail(output.fileno())}"
                        )
            finally:
                guard.stdin.close()
                guard.wait()
            if status:
                said = _tail(output.fileno())
                raise InstallError(f"{name} failed (status {status}); its last lines:\n{said}")

    def _forget_unused(self) -> None:
        """Remove what was not used for longest, if there is more than is kept."""
        markers = sorted((_last_used(path), path) for path in self._folder.glob(f"*/{MARKER}"))
        for _, marker in markers[: -self._kept or None]:
            root = marker.parent
            lock = os.open(root.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                if _try_lock(lock, fcntl.LOCK_EX):
                    marker.unlink(missing_ok=True)  # first: what is half removed is not complete
                    remove_tree(root)
            finally:
                os.close(lock)


def _key(requirements: Sequence[str]) -> str:
    """What tells an environment from others: its packages, and the interpreter that it is for."""
    wanted = sorted({requirement.strip() for requirement in requirements})
    interpreter = (sys.implementation.cache_tag, sysconfig.get_platform(), sys.base_prefix)
    return hashlib.sha256(repr((wanted, interpreter)).encode()).hexdigest()[:32]


def _last_used(marker: Path) -> float:
    with suppress(OSError):  # another Lieutenant has just removed it
        return marker.stat().st_mtime
    return 0.0


def _heard(made: asyncio.Future[Packages]) -> None:
    """Whoever waited for it may be gone, and then nobody asks how it ended."""
    if not made.cancelled():
        made.exception()


def _vars(root: Path) -> dict[str, str | int]:
    return {"base": str(root), "platbase": str(root), "installed_base": str(root)}


def _try_lock(lock: int, kind: int) -> bool:
    try:
        fcntl.flock(lock, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _environ() -> dict[str, str]:
    """Ours, less what would make the installers take packages of ours for their own."""
    left_out = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "CONDA_PREFIX", "PIP_TARGET", "PIP_USER")
    return {
        name: value
        for name, value in os.environ.items()
        if name not in left_out and not name.startswith("GOLIATH_TOKEN")
    }


def _tail(output: int) -> str:
    size = os.fstat(output).st_size
    with suppress(OSError):
        text = os.pread(output, 16_384, max(size - 16_384, 0)).decode(errors="replace")
        return "\n".join(text.strip().splitlines()[-TAIL_LINES:])
    return ""
