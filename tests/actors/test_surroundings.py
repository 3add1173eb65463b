"""What the calls of a job find around them, looked at where the job is made."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import pytest

from goliath.actors.surroundings import surroundings
from goliath.errors import SerializationError


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "project"
    (folder / "pkg/sub/__pycache__").mkdir(parents=True)
    (folder / "foo.py").write_text("foo")
    (folder / "pkg/__init__.py").write_text("")
    (folder / "data").mkdir()
    (folder / "data/words.txt").write_text("words")
    (folder / "pkg/sub/mod.py").write_text("mod")
    (folder / "pkg/sub/__pycache__/mod.pyc").write_text("junk")
    monkeypatch.chdir(folder)
    return folder


def paths(*files: Any) -> list[str]:
    return [file.path for file in surroundings(files).files]


def test_a_relative_path_keeps_its_place_and_an_absolute_one_its_name(here: Path):
    assert paths("foo.py", Path("pkg/sub/mod.py")) == ["foo.py", "pkg/sub/mod.py"]
    assert paths(here / "pkg/sub/mod.py") == ["mod.py"]
    assert paths("./pkg/../foo.py") == ["foo.py"]


def test_directories_are_shipped_whole_but_for_what_is_made_again():
    assert paths("pkg") == ["pkg/__init__.py", "pkg/sub/mod.py"]
    assert paths(".") == ["foo.py", "data/words.txt", "pkg/__init__.py", "pkg/sub/mod.py"]


def test_what_is_nobodys_source_a_secret_or_ignored_stays_here_unless_it_is_named(here: Path):
    for path in (".venv/lib/a.py", "env/b.py", "node_modules/c.js", "build/d.o", "e.log", ".env"):
        (here / path).parent.mkdir(parents=True, exist_ok=True)
        (here / path).write_text("x")
    (here / "env/pyvenv.cfg").write_text("home = /usr/bin")
    (here / ".goliathignore").write_text("build/\n*.log\n")
    (here / ".gitignore").write_text("data/\n")  # which may be what the calls are about
    whole = [".gitignore", ".goliathignore", *paths("foo.py", "data", "pkg")]
    assert sorted(paths(".")) == sorted(whole)
    assert paths("build", "e.log", ".env") == ["build/d.o", "e.log", ".env"]


def test_an_absolute_directory_keeps_its_name(here: Path):
    assert paths(here / "pkg") == ["pkg/__init__.py", "pkg/sub/mod.py"]


def test_a_file_is_described_by_its_contents_and_its_bits(here: Path):
    (here / "foo.py").chmod(0o750)
    (file,) = surroundings(["foo.py"]).files
    assert (file.mode, file.size) == (0o750, 3)
    assert file.sha256 == hashlib.sha256(b"foo").hexdigest()


@pytest.mark.parametrize("path", ["..", "../x", "pkg/../../x", "../project/foo.py"])
def test_a_path_that_climbs_out_is_refused(path: str, here: Path):
    (here.parent / "x").write_text("x")
    with pytest.raises(ValueError, match="lies outside the current directory; ship it by its"):
        surroundings([path])


def test_two_files_of_one_name_are_refused_and_the_same_file_twice_is_not(here: Path):
    (here / "other").mkdir()
    (here / "other/foo.py").write_text("other")
    with pytest.raises(ValueError, match=r"two files would both be 'foo\.py'"):
        surroundings(["foo.py", here / "other/foo.py"])
    assert paths("foo.py", "./foo.py", here / "foo.py", "pkg", "pkg/sub/mod.py") == [
        "foo.py",
        "pkg/__init__.py",
        "pkg/sub/mod.py",
    ]


def test_a_file_cannot_stand_where_a_directory_does(here: Path):
    (here / "elsewhere").mkdir()
    (here / "elsewhere/pkg").write_text("no package")
    for files in (["pkg", here / "elsewhere/pkg"], [here / "elsewhere/pkg", "pkg"]):
        with pytest.raises(ValueError, match="'pkg' would be a file and a directory"):
            surroundings(files)


def test_what_does_not_exist_or_is_no_file_is_refused(here: Path):
    with pytest.raises(FileNotFoundError, match=r"'nothing\.py' to be shipped does not exist"):
        surroundings(["nothing.py"])
    os.mkfifo(here / "pipe")
    with pytest.raises(ValueError, match="neither a file nor a directory"):
        surroundings(["pipe"])


def test_a_name_that_is_no_text_is_refused_where_it_is_given(here: Path):
    (here / os.fsdecode(b"b\xe9b\xe9.py")).write_text("x")
    with pytest.raises(ValueError, match="not UTF-8"):
        surroundings(["."])


@pytest.mark.parametrize("files", ["foo.py", Path("foo.py")])
def test_a_single_path_is_not_a_list_of_paths(files: Any):
    with pytest.raises(TypeError, match=r"files must be a list of paths.*use \[path\]"):
        surroundings(files)


def test_equal_surroundings_share_a_key_and_others_do_not(
    monkeypatch: pytest.MonkeyPatch, here: Path
):
    plain = surroundings().key
    assert surroundings().key == plain
    assert surroundings(env_vars={}).key == plain
    assert surroundings(cpus=0.5).key == plain
    others = {
        surroundings(env_vars={"A": "1"}).key,
        surroundings(env_vars={"A": "2"}).key,
        surroundings(cpus=2).key,
    }
    monkeypatch.chdir(here / "pkg")
    others.add(surroundings().key)
    assert len(others | {plain}) == 5


def test_files_and_initializers_have_surroundings_of_their_own():
    assert len({surroundings(["foo.py"]).key for _ in range(3)}) == 3
    assert len({surroundings(initializer=print).key for _ in range(3)}) == 3
    assert surroundings(["foo.py"]).private
    assert not surroundings().private


@pytest.mark.parametrize(
    ("variables", "error"),
    [
        ({"A": 1}, TypeError),
        ({1: "A"}, TypeError),
        ({"A": None}, TypeError),
        ({"A=B": "x"}, ValueError),
        ({"": "x"}, ValueError),
        ({"A": "x\0y"}, ValueError),
        ({"A\0": "x"}, ValueError),
        ({"A": "\udce9"}, ValueError),
    ],
)
def test_variables_that_no_process_can_have_are_refused(variables: Any, error: type):
    with pytest.raises(error, match="env_vars"):
        surroundings(env_vars=variables)


def test_an_initializer_that_cannot_be_pickled_is_refused():
    with pytest.raises(SerializationError, match="the initializer"):
        surroundings(initializer=print, initargs=((item for item in ()),))


def test_a_node_elsewhere_is_not_told_of_directories_here(here: Path):
    around = surroundings(["foo.py"], env_vars={"A": "1"}, cpus=2.5)
    near, far = (around.message("n", embedded=same) for same in (True, False))
    assert (near.cwd, far.cwd) == (str(here), "")
    assert near.sys_path
    assert not far.sys_path
    assert (far.variables, far.threads) == ({"A": "1"}, 2)
    assert far.files == [["foo.py", 0o644, hashlib.sha256(b"foo").hexdigest(), 3]]


def test_shipped_modules_are_known_by_their_top_level_names():
    shipped = surroundings(["foo.py", "pkg", "data"]).shipped_modules
    names = ["foo", "pkg", "pkg.sub.mod", "data", "bar", "foo_"]
    assert [name for name in names if name in shipped] == ["foo", "pkg", "pkg.sub.mod"]
