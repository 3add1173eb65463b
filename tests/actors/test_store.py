"""The contents that a node keeps: who may know of them, how long, and what if they change."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from goliath.actors.store import FILE_MAX_BYTES, ContentsLostError, Store, open_store
from goliath.errors import ProtocolError

ME, OTHER = "my token", "another"
DATA = b"hello, node"
DIGEST = hashlib.sha256(DATA).hexdigest()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path / "store", 100)
    yield store
    store.close()


def stored(store: Store) -> list[str]:
    return sorted(path.name for path in store._folder.glob("*/*"))


def keep(store: Store, text: bytes, realm: str = ME) -> str:
    """Have it keep contents; their digest."""
    digest = hashlib.sha256(text).hexdigest()
    assert store.add_piece(realm, "s", digest, 0, len(text), text)
    return digest


def copied(store: Store, digest: str, to: Path, realm: str = ME) -> bytes:
    """What is had of it."""
    out = os.open(to, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    try:
        store.copy(realm, digest, out)
    finally:
        os.close(out)
    return to.read_bytes()


# -- arriving --------------------------------------------------------------------------


def test_contents_arrive_in_pieces_and_are_lacked_no_more(store: Store):
    assert store.lacks(ME, [DIGEST]) == {DIGEST}
    assert not store.add_piece(ME, "s", DIGEST, 0, len(DATA), DATA[:5])
    assert store.lacks(ME, [DIGEST]) == {DIGEST}
    assert store.add_piece(ME, "s", DIGEST, 5, len(DATA), memoryview(DATA)[5:])
    assert store.lacks(ME, [DIGEST]) == set()
    assert stored(store) == [DIGEST]


def test_an_empty_file_is_complete_with_its_first_piece(store: Store):
    assert store.add_piece(ME, "s", hashlib.sha256(b"").hexdigest(), 0, 0, b"")


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
    store: Store, offset: int, size: int, piece: bytes
):
    with pytest.raises(ProtocolError):
        store.add_piece(ME, "s", DIGEST, offset, size, piece)
    assert stored(store) == []


def test_a_piece_behind_a_refused_one_is_refused_too(store: Store):
    store.add_piece(ME, "s", DIGEST, 0, 11, b"hello")
    for offset in (7, 5, 5):
        with pytest.raises(ProtocolError):
            store.add_piece(ME, "s", DIGEST, offset, 11, b"x")
    assert stored(store) == []


def test_after_a_failure_the_contents_may_be_sent_again(store: Store):
    with pytest.raises(ProtocolError, match="changed on the Commander's side"):
        store.add_piece(ME, "s", DIGEST, 0, len(DATA), b"x" * len(DATA))
    assert store.add_piece(ME, "s", DIGEST, 0, len(DATA), DATA)


@pytest.mark.parametrize("digest", ["../../evil", "/tmp/evil", "", "A" * 64, "a" * 63, "a" * 65])
def test_contents_are_never_stored_under_a_name_that_is_no_digest(
    store: Store, digest: str, tmp_path: Path
):
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ProtocolError, match="no SHA-256"):
        store.add_piece(ME, "s", digest, 0, 10, b"x")
    assert sorted(tmp_path.rglob("*")) == before


def test_two_senders_of_the_same_contents_do_not_disturb_each_other(store: Store):
    assert not store.add_piece(ME, "a", DIGEST, 0, len(DATA), DATA[:5])
    assert not store.add_piece(ME, "b", DIGEST, 0, len(DATA), DATA[:3])
    assert store.add_piece(ME, "a", DIGEST, 5, len(DATA), DATA[5:])
    assert store.add_piece(ME, "b", DIGEST, 3, len(DATA), DATA[3:])
    assert stored(store) == [DIGEST]


def test_what_a_sender_left_unfinished_goes_with_it(store: Store):
    store.add_piece(ME, "a", DIGEST, 0, len(DATA), DATA[:5])
    store.add_piece(ME, "b", DIGEST, 0, len(DATA), DATA[:5])
    store.forget_sender("a")
    assert len(stored(store)) == 1
    store.abort("b", DIGEST)
    assert stored(store) == []


def test_a_full_disk_is_an_os_error_and_leaves_nothing(
    store: Store, monkeypatch: pytest.MonkeyPatch
):
    store.add_piece(ME, "s", DIGEST, 0, 1 << 20, b"x")
    (arrival,) = store._arriving.values()
    arrival._file.close()
    arrival._file = open("/dev/full", "wb")  # noqa: SIM115 - the store closes it
    with pytest.raises(OSError, match="No space left"):
        store.add_piece(ME, "s", DIGEST, 1, 1 << 20, b"x" * (1 << 19))
    assert stored(store) == []


# -- whose they are --------------------------------------------------------------------


def test_nobody_learns_or_has_what_came_by_another_token(store: Store, tmp_path: Path):
    keep(store, DATA)
    assert store.lacks(OTHER, [DIGEST]) == {DIGEST}
    with pytest.raises(ContentsLostError):
        copied(store, DIGEST, tmp_path / "out", OTHER)
    keep(store, DATA, OTHER)
    assert stored(store) == [DIGEST, DIGEST]
    store.forget_realm(OTHER)
    assert stored(store) == [DIGEST]
    assert copied(store, DIGEST, tmp_path / "out") == DATA


def test_nobody_else_may_read_it_and_no_name_tells_of_a_token(store: Store, tmp_path: Path):
    keep(store, DATA)
    paths = [tmp_path / "store", *(tmp_path / "store").rglob("*")]
    assert {stat.S_IMODE(path.stat().st_mode) for path in paths} == {0o700, 0o600}
    assert not [path for path in paths if ME in str(path)]


# -- how long --------------------------------------------------------------------------


def test_the_least_recently_used_go_when_there_are_too_many(store: Store):
    first, second, third = (keep(store, bytes([n]) * 40) for n in range(3))
    assert store.lacks(ME, [first]) == set(), "which is a use"
    assert len(stored(store)) == 3, "while a job is being set up, it may be more"
    store.trim()
    assert stored(store) == sorted([first, third])
    assert store.lacks(ME, [first, second, third]) == {second}


def test_the_next_process_finds_what_was_complete(tmp_path: Path):
    store = Store(tmp_path / "store", 100)
    digest = keep(store, DATA)
    store.close()
    (kept,) = (tmp_path / "store").glob(f"*/{digest}")
    part = kept.with_name(f"{'0' * 64}.1.part")
    part.write_bytes(b"half")  # as a process leaves it that is killed
    store = Store(tmp_path / "store", 100)
    assert not part.exists()
    assert store.lacks(ME, [digest]) == set()
    assert copied(store, digest, tmp_path / "out") == DATA
    store.close()


def test_the_next_process_knows_which_were_used_last(tmp_path: Path):
    store = Store(tmp_path / "store", 1000)
    first, second = (keep(store, bytes([n]) * 40) for n in range(2))
    for digest, used in ((first, 2_000_000_000), (second, 1_000_000_000)):
        (path,) = (tmp_path / "store").glob(f"*/{digest}")
        os.utime(path, (used, used))
    store.close()
    store = Store(tmp_path / "store", 50)
    assert stored(store) == [first]
    store.close()


def test_a_use_is_noted_for_the_next_process(store: Store, tmp_path: Path):
    digest = keep(store, DATA)
    (path,) = (tmp_path / "store").glob(f"*/{digest}")
    os.utime(path, (1, 1))
    copied(store, digest, tmp_path / "out")
    assert path.stat().st_mtime > 1


def test_only_one_process_keeps_it_and_another_has_one_that_passes(tmp_path: Path):
    kept, passing = tmp_path / "kept", tmp_path / "passing"
    one = open_store(kept, tmp_path / "unused", 100)
    digest = keep(one, DATA)
    two = open_store(kept, passing, 100)
    assert two.lacks(ME, [digest]) == {digest}
    one.close()
    two.close()
    assert (kept.exists(), passing.exists(), (tmp_path / "unused").exists()) == (True, True, False)


def test_a_folder_that_cannot_be_used_is_no_reason_to_do_without(tmp_path: Path):
    (tmp_path / "file").write_text("")
    store = open_store(tmp_path / "file" / "kept", tmp_path / "passing", 100)
    keep(store, DATA)
    store.close()


# -- what if they change ---------------------------------------------------------------


@pytest.mark.parametrize("spoil", [lambda p: p.write_bytes(b"hello, nobo"), Path.unlink])
def test_what_is_no_longer_what_it_was_is_not_used(store: Store, tmp_path: Path, spoil):
    digest = keep(store, DATA)
    (path,) = (tmp_path / "store").glob(f"*/{digest}")
    spoil(path)
    with pytest.raises(ContentsLostError):
        copied(store, digest, tmp_path / "out")
    keep(store, DATA)
    assert copied(store, digest, tmp_path / "out") == DATA
