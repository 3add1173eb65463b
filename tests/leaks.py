"""The leak check: no test leaves a task, thread, process, file descriptor or file behind.

Loaded by ``tests/conftest.py``, and on its own (``-p tests.leaks``) where the check itself
is tested. What existed before a test, such as a Lieutenant shared by a module, may stay;
everything newer must be gone soon after the test's own fixtures are. "Soon" is a bounded
wait, because a closed connection or a killed process takes a moment to disappear.
"""

from __future__ import annotations

import asyncio
import functools
import gc
import inspect
import logging
import os
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import uvloop

from goliath.testing.processes import Seen, descendants, is_spare, marked

MARK = "GOLIATH_TEST_RUN"
SETTLE_S = 3.0
_TURNS = 200  # of the event loop, for cancelled tasks to finish


@dataclass(slots=True)
class Belongings:
    """What this test process holds at one moment."""

    threads: set[threading.Thread] = field(default_factory=set)
    processes: set[Seen] = field(default_factory=set)
    fds: set[tuple[str, str]] = field(default_factory=set)
    files: set[str] = field(default_factory=set)

    @classmethod
    def now(cls) -> Belongings:
        """Look around."""
        return cls(set(threading.enumerate()), _processes(), _fds(), _files())

    def since(self, before: Belongings) -> list[str]:
        """Everything held now and not then, in words."""
        words = [f"a thread: {thread!r}" for thread in self.threads - before.threads]
        words += [
            f"a process: pid {seen.pid}, {seen.command()}"
            for seen in self.processes - before.processes
        ]
        words += [f"a file descriptor: {fd} -> {to}" for fd, to in self.fds - before.fds]
        words += [f"a file: {name}" for name in self.files - before.files]
        return sorted(words)


def _processes() -> set[Seen]:
    mark = os.environ.get(MARK)
    found = descendants(os.getpid()) | (marked(f"{MARK}={mark}") if mark else set())
    return {seen for seen in found if not is_spare(seen)}


def _fds() -> set[tuple[str, str]]:
    found = set()
    for fd in os.listdir("/proc/self/fd"):
        try:
            found.add((fd, os.readlink(f"/proc/self/fd/{fd}")))
        except OSError:
            continue  # the descriptor of this very listing
    return found


def _files() -> set[str]:
    found = {name for name in os.listdir("/dev/shm") if "goliath" in name}
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    if runtime:
        found |= {str(path) for path in Path(runtime).rglob("*") if not path.is_dir()}
    return found


class _LoopComplaints(logging.Handler):
    """Keeps what asyncio complains about: exceptions and tasks nobody looked after."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.seen: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.seen.append(record.getMessage())


_complaints = _LoopComplaints()


@pytest.fixture(scope="session", autouse=True)
def private_home() -> Iterator[Path]:
    """A home and a runtime directory of this run alone, and a mark all its processes inherit."""
    with (
        tempfile.TemporaryDirectory(prefix="goliath-tests-") as name,
        pytest.MonkeyPatch.context() as patch,
    ):
        home = Path(name)
        for variable, folder in _HOME_FOLDERS.items():
            (home / folder).mkdir(mode=0o700, parents=True, exist_ok=True)
            patch.setenv(variable, str(home / folder))
        for variable in ("GOLIATH_LIEUTENANTS", "GOLIATH_TOKEN", "GOLIATH_TOKEN_FILE"):
            patch.delenv(variable, raising=False)
        patch.setenv(MARK, uuid.uuid4().hex)
        uvloop.new_event_loop().close()  # libuv keeps one pipe for as long as the process lives
        yield home


_HOME_FOLDERS = {
    "HOME": "home",
    "XDG_RUNTIME_DIR": "run",
    "XDG_STATE_HOME": "home/.local/state",
    "XDG_CACHE_HOME": "home/.cache",
    "XDG_CONFIG_HOME": "home/.config",
}


@pytest.fixture(autouse=True)
def leaves_nothing_behind(private_home: Path) -> Iterator[None]:
    """Fail a test that leaves something behind, and say what."""
    logging.getLogger("asyncio").addHandler(_complaints)
    _complaints.seen.clear()
    before = Belongings.now()
    yield
    left = _settled(before)
    logging.getLogger("asyncio").removeHandler(_complaints)
    left += [f"a complaint of the event loop: {text}" for text in _complaints.seen]
    if left:
        pytest.fail("the test left behind\n  " + "\n  ".join(left), pytrace=False)


def _settled(before: Belongings) -> list[str]:
    """What is still there after a bounded wait."""
    deadline = time.monotonic() + SETTLE_S
    pause = 0.002
    collected = False
    while left := Belongings.now().since(before):
        if time.monotonic() > deadline:
            return left
        if not collected:
            gc.collect()  # a socket in a reference cycle is not a leak of the product
            collected = True
        time.sleep(pause)
        pause = min(pause * 2, 0.1)
    return []


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Make every coroutine test check its own loop before the plugin clears it up in silence."""
    test = getattr(item, "obj", None)
    if inspect.iscoroutinefunction(test) and not hasattr(test, "hypothesis"):
        item.obj = _with_tasks_checked(test)  # type: ignore[attr-defined]


def _with_tasks_checked(test: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(test)
    async def checked(*args: Any, **kwargs: Any) -> Any:
        before = asyncio.all_tasks()
        result = await test(*args, **kwargs)
        for _ in range(_TURNS):
            left = asyncio.all_tasks() - before
            if not left:
                return result
            await asyncio.sleep(0.005)
        pytest.fail(f"the test left behind\n  tasks: {left}", pytrace=False)

    return checked
