"""What a node that joins calls itself: the same from start to start, and nobody else's."""

from __future__ import annotations

from pathlib import Path

import pytest

from goliath.machine import boot_id
from goliath.transport.identity import Identity


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    return {"XDG_STATE_HOME": str(tmp_path / "state")}


def test_whoever_starts_again_has_the_same_name(environ: dict[str, str]):
    first = Identity.take(environ)
    first.release()
    first.release()
    second = Identity.take(environ)
    assert first.id == second.id
    assert len(bytes.fromhex(first.id)) == 8
    second.release()


def test_those_that_run_beside_each_other_have_different_names(environ: dict[str, str]):
    taken = [Identity.take(environ) for _ in range(3)]
    assert len({identity.id for identity in taken}) == 3
    taken[1].release()
    again = Identity.take(environ)
    assert again.id == taken[1].id
    for identity in (taken[0], again, taken[2]):
        identity.release()


def test_after_another_boot_it_is_another_one(environ: dict[str, str]):
    """Else a copy of the machine's disk would have the same."""
    ids = set()
    for boot in ("one", "two", "one"):
        identity = Identity.take(environ, boot)
        ids.add(identity.id)
        identity.release()
    assert len(ids) == 3


@pytest.mark.parametrize("text", ["", "x", "one 123", f"one {'1' * 16} more", "\xff" * 400])
def test_a_file_that_was_spoilt_is_written_anew(environ: dict[str, str], text: str):
    identity = Identity.take(environ, "one")
    (path,) = Path(environ["XDG_STATE_HOME"], "goliath").iterdir()
    identity.release()
    path.write_text(text)
    fresh = Identity.take(environ, "one")
    fresh.release()
    again = Identity.take(environ, "one")
    again.release()
    assert fresh.id == again.id != identity.id
    assert path.stat().st_mode & 0o777 == 0o600


def test_where_no_file_can_be_kept_it_is_a_fresh_one(tmp_path: Path, environ: dict[str, str]):
    (tmp_path / "state").write_text("no directory")
    assert Identity.take(environ).id != Identity.take(environ).id
    assert Identity.take({"XDG_STATE_HOME": str(tmp_path / "fine")}, "")._handle is None


def test_this_machine_says_when_it_was_started():
    assert boot_id() == boot_id()
