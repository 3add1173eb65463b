"""What every test can ask for; the leak check, from `tests.leaks`, is on for all of them."""

from __future__ import annotations

import compileall
import gc
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import pytest

from goliath.testing import processes
from goliath.transport.keepsakes import recollection
from tests.faults.namespace import wire
from tests.forge import forge
from tests.journals import pytest_runtest_makereport
from tests.leaks import leaves_nothing_behind, private_home, pytest_runtest_setup

__all__ = [
    "leaves_nothing_behind",
    "private_home",
    "pytest_runtest_makereport",
    "pytest_runtest_setup",
    "wire",
]

# A machine that pauses is no property of the code: hangs are caught by pytest-timeout.
hypothesis.settings.register_profile("no deadline", deadline=None)
hypothesis.settings.load_profile("no deadline")


def pytest_configure(config: pytest.Config) -> None:
    """Where PYTHONDONTWRITEBYTECODE is set, each of some thousand processes would compile Goliath
    anew when it starts, for a quarter of a second."""
    if not hasattr(config, "workerinput"):  # by xdist: one for all
        compileall.compile_dir(Path(__file__).parents[1] / "goliath", quiet=2)


HERE = Path(__file__).parent
SLOW = {"attackers", "chaos", "conformance", "e2e", "faults", "fuzz", "testing"}
"""Folders of tests with real processes and links, which are no part of the quick loop."""


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """To read them, in each of xdist's workers, takes as long as to run a third of the others."""
    unwanted = config.option.markexpr == "not slow" and collection_path.parent == HERE
    return True if unwanted and collection_path.name in SLOW else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whatever is in these is slow, whether or not it says so."""
    for item in items:
        if SLOW & {*item.path.relative_to(HERE).parts[:1]}:
            item.add_marker(pytest.mark.slow)


def pytest_collection_finish() -> None:
    """What is there now stays: to look through it for garbage is a sixth of quick tests' CPU."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def the_forge(private_home: Path, request: pytest.FixtureRequest) -> Iterator[None]:
    """There before the first test, so that none is blamed for it: if any starts real processes."""
    if sys.platform != "linux" or not any(
        item.get_closest_marker("slow") for item in request.session.items
    ):
        yield
        return
    forge()
    yield
    forge().close()


@pytest.fixture
def kill() -> Callable[..., None]:
    """``kill(pid)`` or ``kill(pid, signal)``; a process that is gone already is fine."""
    return processes.kill


@pytest.fixture
def far() -> Iterator[None]:
    """There is a node that has to be sent what it is to look at."""
    recollection.link_made()
    yield
    recollection.link_ended()


@pytest.fixture
def free_port() -> int:
    """A TCP port of the loopback interface that nobody listens on."""
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port
