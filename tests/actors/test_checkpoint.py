"""The file of a checkpoint: what it keeps, whom it shuts out, and what it says of trouble."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from goliath.actors import checkpoint
from goliath.actors.checkpoint import Checkpoint
from goliath.core.resumption import Entry
from goliath.errors import CheckpointError

RUN = b"digest of the run"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run.db"


@pytest.fixture
def begun(path: Path) -> Iterator[Checkpoint]:
    with Checkpoint(path) as opened:
        opened.begin(RUN, "f")
        yield opened


def entry(key: bytes, value: bytes = b"value", place: int = 0) -> Entry:
    return Entry(key, place, f"x={place}", value)


def use(path: Path) -> None:
    with Checkpoint(path) as opened:
        opened.begin(RUN, "f")


def test_what_was_written_is_found_and_nothing_else(begun: Checkpoint):
    begun.write([entry(b"a", b"1"), entry(b"b", b"2")])
    assert begun.find([b"a", b"b", b"c"]) == {b"a": b"1", b"b": b"2"}
    assert begun.find([]) == {}


def test_it_is_found_when_the_file_is_opened_again_but_in_its_own_run_only(path: Path):
    with Checkpoint(path) as first:
        first.begin(RUN, "f")
        first.write([entry(b"a")])
    with Checkpoint(path) as second:
        second.begin(b"another run", "f")
        assert second.find([b"a"]) == {}
    with Checkpoint(path) as third:
        third.begin(RUN, "f")
        assert third.find([b"a"]) == {b"a": b"value"}


def test_more_keys_than_fit_into_a_question_are_looked_up(begun: Checkpoint):
    keys = [b"%d" % number for number in range(1000)]
    begun.write([entry(key, key) for key in keys])
    assert begun.find(keys) == dict(zip(keys, keys, strict=True))


def test_keys_are_counted_as_long_as_it_is_open(path: Path):
    with Checkpoint(path) as opened:
        opened.begin(RUN, "f")
        assert opened.count([b"a", b"b", b"a"]) == {}
        assert opened.count([b"a", b"c"]) == {b"a": 2}
        assert opened.count([b"a", b"b", b"c"]) == {b"a": 3, b"b": 1, b"c": 1}
    with Checkpoint(path) as opened:
        opened.begin(RUN, "f")
        assert opened.count([b"a"]) == {}


def test_what_is_written_by_one_is_found_by_another_that_has_it_open(path: Path):
    with Checkpoint(path) as one, Checkpoint(path) as other:
        one.begin(RUN, "f")
        other.begin(RUN, "f")
        one.write([entry(b"a", b"1")])
        other.write([entry(b"a", b"2"), entry(b"b")])
        assert one.find([b"a", b"b"]) == {b"a": b"2", b"b": b"value"}


def test_it_is_the_users_alone_and_so_is_what_stands_beside_it(path: Path):
    old = os.umask(0)
    try:
        with Checkpoint(path) as opened:
            opened.begin(RUN, "f")
            files = {file.name: file.stat().st_mode & 0o777 for file in path.parent.iterdir()}
    finally:
        os.umask(old)
    assert files == {"run.db": 0o600, "run.db-wal": 0o600, "run.db-shm": 0o600}
    assert [file.name for file in path.parent.iterdir()] == ["run.db"]


@pytest.mark.parametrize("suffix", ["", "-wal", "-shm", "-journal"])
def test_a_file_that_others_may_have_written_is_not_read(path: Path, suffix: str):
    with Checkpoint(path):
        pass
    strange = Path(f"{path}{suffix}")
    strange.touch()
    strange.chmod(0o620)
    with pytest.raises(CheckpointError, match=r"written by others \(mode 620\).*chmod 600") as told:
        Checkpoint(path)
    assert str(strange) in str(told.value)


def test_a_link_in_the_place_of_what_stands_beside_it_is_refused(path: Path):
    Path(f"{path}-wal").symlink_to("elsewhere")
    with pytest.raises(CheckpointError, match="no file"):
        Checkpoint(path)


def test_a_link_to_it_is_followed(path: Path):
    link = path.parent / "link.db"
    link.symlink_to(path)
    with Checkpoint(link) as opened:
        assert opened.path == path
        assert path.exists()


def test_an_empty_file_becomes_a_checkpoint(path: Path):
    path.touch(0o600)
    with Checkpoint(path) as opened:
        opened.begin(RUN, "f")
        opened.write([entry(b"a")])


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"not a database at all, but long enough to be looked at" * 20, "is no checkpoint"),
        (b"x", "is no checkpoint"),
    ],
)
def test_what_is_no_database_is_refused_and_left_alone(path: Path, content: bytes, words: str):
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(CheckpointError, match=words) as told:
        Checkpoint(path)
    assert str(path) in str(told.value)
    assert path.read_bytes() == content


def test_the_database_of_another_program_is_refused_and_left_alone(path: Path):
    with sqlite3.connect(path) as foreign:
        foreign.execute("CREATE TABLE cookies (a)")
    foreign.close()
    path.chmod(0o600)
    before = path.read_bytes()
    with pytest.raises(CheckpointError, match="the database of another program"):
        Checkpoint(path)
    assert path.read_bytes() == before


def test_a_checkpoint_of_another_version_is_refused(path: Path):
    with Checkpoint(path):
        pass
    with sqlite3.connect(path) as later:
        later.execute("PRAGMA user_version=99")
    later.close()
    with pytest.raises(CheckpointError, match="another version of Goliath"):
        Checkpoint(path)


def test_a_damaged_checkpoint_says_so(path: Path):
    with Checkpoint(path) as opened:
        opened.begin(RUN, "f")
        opened.write([entry(b"%d" % number, bytes(5000)) for number in range(100)])
    content = bytearray(path.read_bytes())
    content[4096:] = b"\xff" * (len(content) - 4096)
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"is damaged \(.*remove it to begin anew"):
        use(path)


def test_a_file_that_somebody_else_holds_is_waited_for_and_then_said_to_be_locked(
    path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(checkpoint, "BUSY_S", 0.05)
    with Checkpoint(path) as opened:
        opened.begin(RUN, "f")
        holder = sqlite3.connect(path, isolation_level=None)
        holder.execute("BEGIN IMMEDIATE")
        with pytest.raises(CheckpointError, match="is locked by another process"):
            opened.write([entry(b"a")])
        holder.execute("ROLLBACK")
        holder.close()
        opened.write([entry(b"a")])
        assert opened.find([b"a"]) == {b"a": b"value"}


@pytest.mark.parametrize("place", ["missing/run.db", "", "."])
def test_a_place_where_no_file_can_be_is_refused(tmp_path: Path, place: str):
    with pytest.raises(CheckpointError, match="cannot be opened"):
        Checkpoint(tmp_path / place)


def test_a_file_that_must_be_there_already_is_not_made(path: Path):
    with pytest.raises(CheckpointError, match="No such file"):
        Checkpoint(path, create=False)
    assert not path.exists()


def test_it_tells_what_it_has_and_forgets_it(path: Path):
    with Checkpoint(path) as opened:
        assert opened.runs() == []
        opened.begin(RUN, "f")
        assert opened.runs() == []
        opened.write([entry(b"b", b"12", 1), entry(b"a", b"3", 0)])
        [run] = opened.runs()
        assert (run.function, run.calls, run.nbytes) == ("f", 2, 3)
        assert [(call.index, call.call, call.value) for call in opened.calls()] == [
            (0, "x=0", b"3"),
            (1, "x=1", b"12"),
        ]
        assert opened.clear() == 2
        assert (opened.runs(), opened.clear(), opened.find([b"a"])) == ([], 0, {})
        opened.write([entry(b"c")])  # a run that goes on is still the same
        assert [call.run for call in opened.calls()] == [run.id]


FULL = """
import resource, sys
from goliath.actors.checkpoint import Checkpoint
from goliath.core.resumption import Entry
from goliath.errors import CheckpointError

checkpoint = Checkpoint(sys.argv[1])
checkpoint.begin(b"run", "f")
checkpoint.write([Entry(b"first", 0, "", b"safe")])
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
try:
    checkpoint.write([Entry(b"%d" % n, n, "", bytes(10_000)) for n in range(100)])
except CheckpointError as exc:
    print(exc)
print(checkpoint.find([b"first", b"0", b"99"]))
"""


@pytest.mark.slow
def test_a_disk_that_takes_no_more_is_an_error_and_what_was_written_is_safe(path: Path):
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(path)],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    told, found = done.stdout.splitlines()
    assert done.stderr == ""
    assert str(path) in told
    assert "what was written is safe" in told
    assert found == "{b'first': b'safe'}"
    with Checkpoint(path) as opened:
        opened.begin(b"run", "f")
        assert opened.find([b"first", b"0", b"99"]) == {b"first": b"safe"}
