"""Real Lieutenants for the tests that look at Goliath from outside."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from goliath import Commander, Executor
from tests.commanders import Other
from tests.e2e.calls import nap
from tests.joining import JoinedNode
from tests.lieutenants import TIMERS, Lieutenant
from tests.tokens import TOKEN, written

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def quick_timers(monkeypatch: pytest.MonkeyPatch) -> None:
    """This process, and the scripts it starts, notice silence in a test's time too."""
    for name, value in TIMERS.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def lieutenant() -> Iterator[Callable[..., Lieutenant]]:
    """A factory of nodes: ``lieutenant(workers, *flags, env={…})``, all stopped at the end."""
    with contextlib.ExitStack() as stack:
        yield lambda *args, **kwargs: stack.enter_context(Lieutenant(*args, **kwargs))


@pytest.fixture
def joins() -> Iterator[Callable[..., JoinedNode]]:
    """A factory of nodes that dial out: ``joins(url, workers, *flags)``, all stopped at the end."""
    with contextlib.ExitStack() as stack:
        yield lambda *args, **kwargs: stack.enter_context(JoinedNode(*args, **kwargs))


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    """A file with a token."""
    return written(tmp_path / "token", TOKEN)


@pytest.fixture(scope="module")
def node(private_home: Path) -> Iterator[Lieutenant]:
    """One node of two workers that the tests of a module share."""
    with Lieutenant(2) as shared:
        yield shared


@pytest.fixture(scope="module")
def three_nodes(private_home: Path) -> Iterator[list[Lieutenant]]:
    """Three nodes of one worker each that the tests of a module share."""
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(Lieutenant(1)) for _ in range(3)]


@pytest.fixture
def cmdr(node: Lieutenant) -> Iterator[Commander]:
    """A Commander of the shared node."""
    with Commander([node.address]) as commander:
        yield commander


@pytest.fixture(scope="module")
def commander(private_home: Path) -> Iterator[Commander]:
    """One Commander of two workers, which have been started."""
    with Commander(workers=2) as shared:
        for ref in [shared.submit(nap, 0.1) for _ in range(4)]:
            ref.result()
        yield shared


@pytest.fixture
def executor(commander: Commander) -> Iterator[Executor]:
    """An executor of the module's embedded Commander."""
    with Executor(commander) as executor:
        yield executor


@pytest.fixture
def script(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """``script("text", *arguments)`` runs a Python file as a user would, in a folder of its own."""

    def run(
        text: str,
        *arguments: str,
        name: str = "foo.py",
        within: float = 30,
        options: tuple[str, ...] = ("-W", "error"),
    ) -> subprocess.CompletedProcess[str]:
        (tmp_path / name).write_text(text)
        return subprocess.run(
            [sys.executable, *options, name, *arguments],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=within,
            check=False,
        )

    return run


@pytest.fixture
def other(tmp_path: Path, node: Lieutenant) -> Iterator[Other]:
    """Whatever it runs is another Commander of the shared node."""
    commander = Other(tmp_path, node.port)
    yield commander
    for process in commander.processes:
        if process.poll() is None:
            process.kill()
        process.communicate()
