"""How much there is of files below a directory."""

from __future__ import annotations

from pathlib import Path

from goliath.actors.disk_gauge import bytes_below

KIB = 1024


def test_it_adds_up_what_is_below_however_deep(tmp_path: Path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "one").write_bytes(bytes(range(256)) * 40)
    (tmp_path / "a" / "b" / "two").write_bytes(bytes(range(256)) * 400)
    assert bytes_below(tmp_path) == 256 * 440


def test_many_small_files_are_no_more_than_they_are_long(tmp_path: Path):
    for number in range(100):
        (tmp_path / str(number)).write_text("ten bytes.")
    assert bytes_below(tmp_path) <= 1000


def test_holes_take_no_room(tmp_path: Path):
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(1 << 30)
        file.write(bytes(KIB))
    assert bytes_below(tmp_path) < 1 << 20


def test_links_lead_to_what_is_somebody_elses(tmp_path: Path):
    (tmp_path / "own").mkdir()
    (tmp_path / "others").write_bytes(b"x" * 100 * KIB)
    (tmp_path / "own" / "link").symlink_to(tmp_path / "others")
    (tmp_path / "own" / "round").symlink_to(tmp_path, target_is_directory=True)
    assert bytes_below(tmp_path / "own") < KIB


def test_a_directory_that_is_gone_has_nothing(tmp_path: Path):
    assert bytes_below(tmp_path / "gone") == 0
