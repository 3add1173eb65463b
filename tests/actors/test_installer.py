"""Environments of packages, made by the real installers from wheels that lie here."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from goliath.actors import installer as module
from goliath.actors.installer import MARKER, Installer, InstallError, Packages, _key
from goliath.machine import process_exists
from tests.wheels import make_stuck, make_wheel, settings

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]


@pytest.fixture(autouse=True)
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "wheels"
    make_wheel(folder, "goliath_test_one", "1.0", "VALUE = 1\n", "goliath_test_two>=2")
    make_wheel(folder, "goliath_test_two", "2.0", "VALUE = 2\n")
    for name, value in settings(folder).items():
        monkeypatch.setenv(name, value)
    return folder


@asynccontextmanager
async def an_installer(folder: Path, kept: int = 16) -> AsyncIterator[Installer]:
    installer = Installer(folder / "venvs", 120, kept)
    try:
        yield installer
    finally:
        await asyncio.to_thread(installer.close)


def made(folder: Path) -> list[Path]:
    """The environments that are complete."""
    return sorted(marker.parent for marker in (folder / "venvs").glob(f"*/{MARKER}"))


async def test_a_set_of_packages_is_installed_once_with_what_it_needs(tmp_path: Path):
    async with an_installer(tmp_path) as installer, an_installer(tmp_path) as neighbour:
        wanted = ["goliath_test_one"]
        first, same, theirs = await asyncio.gather(
            installer.packages(wanted), installer.packages(wanted), neighbour.packages(wanted)
        )
        assert first == same == theirs
        assert made(tmp_path) == [first.root]
        code = "import goliath_test_one as a, goliath_test_two as b; print(a.VALUE, b.VALUE)"
        env = {**os.environ, "PYTHONPATH": os.pathsep.join(first.site)}
        python = [sys.executable, "-c", code]
        told = await asyncio.to_thread(subprocess.check_output, python, env=env, text=True)
        assert told == "1 2\n"


async def test_what_cannot_be_installed_says_why_and_is_tried_again(tmp_path: Path, wheels: Path):
    async with an_installer(tmp_path) as installer:
        with pytest.raises(InstallError, match=r"(?s)failed .*goliath_test_three"):
            await installer.packages(["goliath_test_three"])
        assert made(tmp_path) == []
        make_wheel(wheels, "goliath_test_three", "3.0", "")
        three = await installer.packages(["goliath_test_three"])
        assert made(tmp_path) == [three.root]


async def test_what_was_left_half_done_is_made_anew_and_what_is_unused_goes(tmp_path: Path):
    async with an_installer(tmp_path) as installer:
        unused = await installer.packages(["goliath_test_two"])
        half = (tmp_path / "venvs" / _key(["goliath_test_two>=1"])) / "rubbish"
        half.parent.mkdir()
        half.write_text("")
    async with an_installer(tmp_path, kept=1) as installer:
        one = await installer.packages(["goliath_test_two>=1"])
        assert not half.exists()
        assert made(tmp_path) == [one.root]
        assert not unused.root.exists()
        two = await installer.packages(["goliath_test_two>=2"])
        assert made(tmp_path) == sorted([one.root, two.root]), "one is in use"


@pytest.fixture
def stuck(tmp_path: Path, wheels: Path) -> Callable[[], list[int]]:
    """A package whose build never ends; gives the processes that build it."""
    return make_stuck(wheels, tmp_path)


@pytest.mark.parametrize("ended_by", ["its Lieutenant", "its time"])
async def test_an_installation_is_ended_with_all_that_it_has_started(
    tmp_path: Path,
    stuck: Callable[[], list[int]],
    ended_by: str,
    monkeypatch: pytest.MonkeyPatch,
):
    async with an_installer(tmp_path) as installer, asyncio.TaskGroup() as tasks:
        waiting = tasks.create_task(_failure(installer.packages(["stuck"])))
        while not stuck():  # noqa: ASYNC110 - a process tells nobody of its birth
            await asyncio.sleep(0.01)
        if ended_by == "its Lieutenant":
            await asyncio.to_thread(installer.close)
        else:
            late = SimpleNamespace(monotonic=lambda: 1e12)
            monkeypatch.setattr(module, "time", late)
    reason = "is ending" if ended_by == "its Lieutenant" else r"took longer than 120 s"
    assert re.search(reason, waiting.result())
    while any(map(process_exists, stuck())):  # noqa: ASYNC110 - killed, and to be buried
        await asyncio.sleep(0.01)


async def _failure(packages: Coroutine[Any, Any, Packages]) -> str:
    try:
        await packages
    except InstallError as exc:
        return str(exc)
    raise AssertionError("it was installed")
