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
from goliath.actors.workshop import FILE_MAX_BYTES, Workshop
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


def stored(workshop: Workshop) -> list[str]:
    return sorted(os.listdir(workshop.root / "store"))


def record(path: str, mode: int = 0o644, digest: str = DIGEST, size: int = len(DATA)) -> list[Any]:
    return [path, mode, digest, size]


# -- contents --------------------------------------------------------------------------


def test_contents_arrive_in_pieces_and_are_lacked_no_more(workshop: Workshop):
    assert workshop.lacks([record("a"), record("b")]) == {DIGEST}
    assert not workshop.add_piece("s", DIGEST, 0, len(DATA), DATA[:5])
    assert workshop.lacks([record("a")]) == {DIGEST}
    assert workshop.add_piece("s", DIGEST, 5, len(DATA), memoryview(DATA)[5:])
    assert workshop.lacks([record("a")]) == set()
    assert stored(workshop) == [DIGEST]


def test_an_empty_file_is_complete_with_its_first_piece(workshop: Workshop):
    assert workshop.add_piece("s", hashlib.sha256(b"").hexdigest(), 0, 0, b"")


@pytest.mark.parametrize(
    ("offset", "size", "piece"),
    [
        (5, 11, b"x"),  # no beginning
        (0, 3, DATA),  # longer than announced
        (0, -1, b""),
        (0, FILE_MAX_BYTES + 1, b""),
        (0, len(DATA), b"hello, nobo"),  # not what the digest promises
    ],
)
def test_what_no_honest_commander_sends_is_refused_and_leaves_nothing(
    workshop: Workshop, offset: int, size: int, piece: bytes
):
    with pytest.raises(ProtocolError):
        workshop.add_piece("s", DIGEST, offset, size, piece)
    assert stored(workshop) == []


def test_a_piece_behind_a_refused_one_is_refused_too(workshop: Workshop):
    workshop.add_piece("s", DIGEST, 0, 11, b"hello")
    for offset in (7, 5, 5):
        with pytest.raises(ProtocolError):
            workshop.add_piece("s", DIGEST, offset, 11, b"x")
    assert stored(workshop) == []


def test_after_a_failure_the_contents_may_be_sent_again(workshop: Workshop):
    with pytest.raises(ProtocolError, match="changed on the Commander's side"):
        workshop.add_piece("s", DIGEST, 0, len(DATA), b"x" * len(DATA))
    assert workshop.add_piece("s", DIGEST, 0, len(DATA), DATA)


@pytest.mark.parametrize("digest", ["../../evil", "/tmp/evil", "", "A" * 64, "a" * 63, "a" * 65])
def test_contents_are_never_stored_under_a_name_that_is_no_digest(
    workshop: Workshop, digest: str, tmp_path: Path
):
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ProtocolError, match="no SHA-256"):
        workshop.add_piece("s", digest, 0, 10, b"x")
    assert sorted(tmp_path.rglob("*")) == before


def test_two_senders_of_the_same_contents_do_not_disturb_each_other(workshop: Workshop):
    assert not workshop.add_piece("a", DIGEST, 0, len(DATA), DATA[:5])
    assert not workshop.add_piece("b", DIGEST, 0, len(DATA), DATA[:3])
    assert workshop.add_piece("a", DIGEST, 5, len(DATA), DATA[5:])
    assert workshop.add_piece("b", DIGEST, 3, len(DATA), DATA[3:])
    assert stored(workshop) == [DIGEST]


def test_what_a_sender_left_unfinished_goes_with_it(workshop: Workshop):
    workshop.add_piece("a", DIGEST, 0, len(DATA), DATA[:5])
    workshop.add_piece("b", DIGEST, 0, len(DATA), DATA[:5])
    workshop.forget("a")
    assert len(stored(workshop)) == 1
    workshop.abort("b", DIGEST)
    assert stored(workshop) == []


def test_a_full_disk_is_an_os_error_and_leaves_nothing(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
):
    workshop.add_piece("s", DIGEST, 0, 1 << 20, b"x")
    (arrival,) = workshop._arriving.values()
    arrival._file.close()
    arrival._file = open("/dev/full", "wb")  # noqa: SIM115 - the workshop closes it
    with pytest.raises(OSError, match="No space left"):
        workshop.add_piece("s", DIGEST, 1, 1 << 20, b"x" * (1 << 19))
    assert stored(workshop) == []


# -- directories -----------------------------------------------------------------------


def test_a_directory_is_furnished_with_copies_in_their_places(workshop: Workshop):
    workshop.add_piece("s", DIGEST, 0, len(DATA), DATA)
    directory = workshop.new_directory()
    workshop.furnish(directory, [record("a.txt"), record("deep/er/run.sh", 0o6755)])
    assert (directory / "a.txt").read_bytes() == DATA
    script = directory / "deep/er/run.sh"
    assert stat.S_IMODE(script.stat().st_mode) == 0o755, "never setuid"
    (directory / "a.txt").write_text("changed")
    assert (workshop.root / "store" / DIGEST).read_bytes() == DATA
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
        workshop.lacks([bad])
    with pytest.raises(ProtocolError):
        workshop.furnish(directory, [bad])
    assert list(directory.iterdir()) == []


def test_two_records_of_one_path_and_links_are_not_followed(workshop: Workshop, tmp_path: Path):
    workshop.add_piece("s", DIGEST, 0, len(DATA), DATA)
    directory = workshop.new_directory()
    with pytest.raises(FileExistsError):
        workshop.furnish(directory, [record("a"), record("a")])
    (directory / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(FileExistsError):
        workshop.furnish(directory, [record("link")])
    assert not (tmp_path / "elsewhere").exists()


def test_the_oldest_contents_are_evicted_beyond_the_limit(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(module, "STORE_MAX_BYTES", 5)
    digests = []
    for text in (b"aaa", b"bbb", b"c"):
        digests.append(hashlib.sha256(text).hexdigest())
        workshop.add_piece("s", digests[-1], 0, len(text), text)
    workshop.trim()
    assert stored(workshop) == sorted(digests[1:])
    assert workshop.lacks([record("a", digest=digests[0])]) == {digests[0]}


# -- the root --------------------------------------------------------------------------


def test_everything_is_private_and_goes_at_the_end(base: Path):
    workshop = Workshop()
    assert stat.S_IMODE(base.stat().st_mode) == 0o700
    workshop.add_piece("s", DIGEST, 0, len(DATA), DATA[:3])
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
