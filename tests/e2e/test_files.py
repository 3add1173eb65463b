"""``files=``: what a job finds around it on a node, and what may not be shipped."""

from __future__ import annotations

import os
import socket
import struct
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from goliath import Commander
from tests.lieutenants import Lieutenant


def read(path):
    """A shipped file, by the path it has in the job's directory."""
    with open(path) as file:
        return file.read()


def tree():
    """Every file of the current directory."""
    return sorted(
        os.path.relpath(os.path.join(folder, name))
        for folder, _, names in os.walk(".")
        if "__pycache__" not in folder
        for name in names
    )


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The user's folder: a script, a package, some data; it is the current directory."""
    (tmp_path / "data" / "deep").mkdir(parents=True)
    (tmp_path / "data" / "a.txt").write_text("A")
    (tmp_path / "data" / "deep" / "b.txt").write_text("B")
    (tmp_path / "shipped_pkg").mkdir()
    (tmp_path / "shipped_pkg" / "__init__.py").write_text("from shipped_pkg import part\n")
    (tmp_path / "shipped_pkg" / "part.py").write_text("WORD = 'part'\n")
    (tmp_path / "lone.py").write_text(
        "import shipped_pkg\ndef word(): return shipped_pkg.part.WORD\n"
    )
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_relative_path_keeps_its_place_and_an_absolute_one_its_base_name(
    cmdr: Commander, here: Path
) -> None:
    files = ["data/deep/b.txt", here / "data" / "a.txt"]
    assert cmdr.run(tree, [()], files) == [["a.txt", "data/deep/b.txt"]]


def test_a_directory_brings_all_it_contains(cmdr: Commander, here: Path) -> None:
    assert cmdr.run(tree, [()], ["data"]) == [["data/a.txt", "data/deep/b.txt"]]
    assert cmdr.run(tree, [()], [here / "data"]) == [["data/a.txt", "data/deep/b.txt"]]
    assert cmdr.run(read, [("data/a.txt",), ("data/deep/b.txt",)], ["data"]) == ["A", "B"]


def test_shipped_packages_and_modules_can_be_imported(cmdr: Commander, here: Path) -> None:
    def ask():
        import lone

        return lone.word()

    assert cmdr.run(ask, [()], ["lone.py", "shipped_pkg"]) == ["part"]


def test_a_shipped_file_does_not_hide_the_standard_library(cmdr: Commander, here: Path) -> None:
    (here / "random.py").write_text("raise RuntimeError('the wrong random')\n")

    def dice():
        import random

        return random.Random(1).randint(1, 1)

    assert cmdr.run(dice, [()], ["random.py"]) == [1]


def test_the_directory_of_a_job_is_its_own_and_gone_with_its_commander(
    node: Lieutenant, here: Path
) -> None:
    with Commander([node.address]) as one, Commander([node.address]) as other:
        (first,) = one.run(os.getcwd, [()], ["data"])
        (second,) = one.run(os.getcwd, [()], ["lone.py", "shipped_pkg"])
        (third,) = other.run(os.getcwd, [()], ["data"])
        assert len({first, second, third, str(here)}) == 4
    deadline = time.monotonic() + 3
    while any(map(os.path.exists, (first, second, third))) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert [path for path in (first, second, third) if os.path.exists(path)] == []


def test_what_one_job_writes_another_does_not_see(cmdr: Commander, here: Path) -> None:
    def write():
        with open("rubbish.txt", "w") as file:
            file.write("x")

    cmdr.run(write, [()], ["data"])
    assert cmdr.run(tree, [()], ["lone.py"]) == [["lone.py"]]


def test_a_changed_file_is_the_new_one_and_its_module_is_never_stale(
    cmdr: Commander, here: Path
) -> None:
    def version():
        import changing

        return changing.VERSION

    for number in (1, 2, 3):
        (here / "changing.py").write_text(f"VERSION = {number}\n")
        assert cmdr.run(version, [()] * 4, ["changing.py"]) == [number] * 4


def test_a_second_run_ships_nothing(node: Lieutenant, here: Path) -> None:
    (here / "big.bin").write_bytes(os.urandom(24_000_000))

    def size():
        return os.path.getsize("big.bin")

    with Commander([node.address]) as commander:
        assert commander.run(size, [()], ["lone.py", "big.bin"]) == [24_000_000]
        first = _sent_to(node)
        assert commander.run(size, [()] * 3, ["data", "big.bin"]) == [24_000_000] * 3
        second = _sent_to(node) - first
    assert first > 24_000_000
    assert second < 100_000


def _sent_to(node: Lieutenant) -> int:
    """Bytes this process has sent to the node, from the kernel's books."""
    total = 0
    for fd in Path("/proc/self/fd").iterdir():
        try:
            if not os.readlink(fd).startswith("socket:"):
                continue
            with socket.socket(fileno=os.dup(int(fd.name))) as copy:
                if copy.getpeername()[:2] == node.address:
                    info = copy.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 136)
                    total += struct.unpack_from("<Q", info, 120)[0]  # tcpi_bytes_acked
        except OSError:
            continue  # the descriptor of this listing, or a socket that is not connected
    return total


def test_an_empty_file_and_an_executable_one_arrive_as_they_are(
    cmdr: Commander, here: Path
) -> None:
    (here / "empty").write_bytes(b"")
    (here / "tool").write_text("#!/bin/sh\necho hello\n")
    (here / "tool").chmod(0o755)

    def use():
        import subprocess

        return os.path.getsize("empty"), subprocess.check_output(["./tool"], text=True)

    assert cmdr.run(use, [()], ["empty", "tool"]) == [(0, "hello\n")]


@pytest.mark.parametrize("path", ["../secret.txt", "data/../../secret.txt", ".."])
def test_a_path_that_climbs_out_is_a_value_error(cmdr: Commander, here: Path, path: str) -> None:
    (here.parent / "secret.txt").write_text("s")
    with pytest.raises(ValueError, match=r"\.\."):
        cmdr.run(tree, [()], [path])
    (here.parent / "secret.txt").unlink()


def test_two_files_of_one_name_are_a_value_error(cmdr: Commander, here: Path) -> None:
    (here / "a.txt").write_text("another A")
    with pytest.raises(ValueError, match=r"a\.txt"):
        cmdr.run(tree, [()], [here / "data" / "a.txt", "a.txt"])


def test_a_file_that_does_not_exist_is_named(cmdr: Commander, here: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nowhere\.txt"):
        cmdr.run(tree, [()], ["nowhere.txt"])


def test_files_work_on_the_embedded_lieutenant_too(here: Path) -> None:
    with Commander(workers=1) as commander:
        assert commander.run(tree, [()], ["data"]) == [["data/a.txt", "data/deep/b.txt"]]
        (cwd,) = commander.run(os.getcwd, [()], ["data"])
        assert cwd != str(here)
        assert commander.run(os.getcwd, [()]) == [str(here)]
