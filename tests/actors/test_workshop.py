"""The directories of a node, and the people who would like to write elsewhere."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from goliath.actors import workshop as module
from goliath.actors.workshop import Workshop
from goliath.errors import ProtocolError

DATA = b"hello, node"
DIGEST = hashlib.sha256(DATA).hexdigest()


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(module.tempfile, "gettempdir", lambda: str(tmp_path))
    return tmp_path / f"goliath-{os.getuid()}"


@pytest.fixture
def workshop(base: Path) -> Iterator[Workshop]:
    workshop = Workshop()
    yield workshop
    workshop.close()


def keep(workshop: Workshop) -> None:
    """Have the store keep the data."""
    assert workshop.store.add_piece("me", "s", DIGEST, 0, len(DATA), DATA)


def record(path: str, mode: int = 0o644, digest: str = DIGEST, size: int = len(DATA)) -> list[Any]:
    return [path, mode, digest, size]


# -- directories -----------------------------------------------------------------------


def test_a_directory_is_furnished_with_copies_in_their_places(workshop: Workshop):
    keep(workshop)
    directory = workshop.new_directory()
    workshop.furnish("me", directory, [record("a.txt"), record("deep/er/run.sh", 0o6755)])
    assert (directory / "a.txt").read_bytes() == DATA
    script = directory / "deep/er/run.sh"
    assert stat.S_IMODE(script.stat().st_mode) == 0o755, "never setuid"
    (directory / "a.txt").write_text("changed")
    other = workshop.new_directory()
    assert workshop.furnish("me", other, [record("a.txt")]) == set()
    assert (other / "a.txt").read_bytes() == DATA, "a job changes only its own"
    workshop.remove(directory)
    assert not directory.exists()


@pytest.mark.parametrize(
    "bad",
    [
        record("../evil"),
        record("/evil"),
        record("a/../../evil"),
        record("a//b"),
        record("./a"),
        record(""),
        record("a\0b"),
        record("a" * 5000),
        record("a", digest="../x"),
        record("a", digest="g" * 64),
        ["a", 0o644, DIGEST],
        ["a", 0o644, DIGEST, 1, 2],
        ["a", "644", DIGEST, 1],
        ["a", 0o644, DIGEST, "1"],
        [1, 0o644, DIGEST, 1],
        ["a", 0o644, None, 1],
        "abcd",
        5,
        None,
        {"path": "a"},
    ],
)
def test_a_hostile_record_is_refused_before_anything_is_written(workshop: Workshop, bad: Any):
    directory = workshop.new_directory()
    with pytest.raises(ProtocolError):
        workshop.lacks("me", [bad])
    with pytest.raises(ProtocolError):
        workshop.furnish("me", directory, [bad])
    assert list(directory.iterdir()) == []


def test_two_records_of_one_path_and_links_are_not_followed(workshop: Workshop, tmp_path: Path):
    keep(workshop)
    directory = workshop.new_directory()
    with pytest.raises(FileExistsError):
        workshop.furnish("me", directory, [record("a"), record("a")])
    (directory / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(FileExistsError):
        workshop.furnish("me", directory, [record("link")])
    assert not (tmp_path / "elsewhere").exists()


def test_what_was_lost_or_spoilt_is_told_and_the_rest_is_there(workshop: Workshop):
    keep(workshop)
    gone = "0" * 64
    directory = workshop.new_directory()
    assert workshop.furnish("me", directory, [record("a", digest=gone), record("b")]) == {gone}
    assert (directory / "b").read_bytes() == DATA


# -- the root --------------------------------------------------------------------------


def test_everything_is_private_and_goes_at_the_end(base: Path):
    workshop = Workshop()
    assert stat.S_IMODE(base.stat().st_mode) == 0o700
    workshop.store.add_piece("me", "s", DIGEST, 0, len(DATA), DATA[:3])
    workshop.new_directory()
    workshop.close()
    assert not base.exists()


def test_what_dead_lieutenants_left_is_swept_and_the_living_keep_theirs(base: Path):
    base.mkdir(mode=0o700)
    pid = os.fork()
    if not pid:
        os._exit(0)
    os.waitpid(pid, 0)
    dead, alive, other = base / f"{pid}-x", base / f"{os.getppid()}-y", base / "notes"
    for path in (dead, alive, other):
        path.mkdir()
        (path / "file").write_text("x")
    workshop = Workshop()
    assert (dead.exists(), alive.exists(), other.exists()) == (False, True, True)
    workshop.close()
    assert alive.exists()


def test_a_base_that_is_not_ours_is_refused(base: Path, tmp_path: Path):
    (tmp_path / "elsewhere").mkdir()
    base.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(PermissionError, match="belongs to somebody else"):
        Workshop()


def test_the_base_may_vanish_while_a_workshop_is_opened(
    base: Path, monkeypatch: pytest.MonkeyPatch
):
    sweeps = []

    def sweep_and_lose(path: Path) -> None:
        sweeps.append(path)
        if len(sweeps) == 1:
            shutil.rmtree(path)  # the last other Lieutenant closes its workshop just now

    monkeypatch.setattr(module, "_sweep", sweep_and_lose)
    workshop = Workshop()
    assert len(sweeps) == 2
    workshop.close()


def test_the_base_may_vanish_as_soon_as_it_was_found_there(
    base: Path, monkeypatch: pytest.MonkeyPatch
):
    asked, mkdir = [], os.mkdir

    def mkdir_as_the_last_other_leaves(path: Path, mode: int = 0o777) -> None:
        asked.append(path)
        if len(asked) == 1:
            raise FileExistsError(path)
        mkdir(path, mode)

    monkeypatch.setattr(os, "mkdir", mkdir_as_the_last_other_leaves)
    workshop = Workshop()
    assert [str(path) for path in asked[:2]] == [str(base)] * 2
    workshop.close()
