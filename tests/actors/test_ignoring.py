"""Ignore files, compared with what git makes of them."""

from __future__ import annotations

import random
import shutil
import subprocess
from pathlib import Path

import pytest

from goliath.actors.ignoring import Ignored

ATOMS = (
    "a", "b", "ab", "a.py", "*.py", "*", "**", "***", "?", "[ab]", "[!a]", "[^b]*", "a*", "*b",
    "\\a", "b?", "[a-c].py", "\\*", "a ", "a\\ ", "[]a]", "[[:alpha:]]", "#a", "\\#a", "\\!a",
)  # fmt: skip
NAMES = ("a", "b", "ab", "c.py", "a.py", "b.py", "*", "ba", "abc", "a ", "]", "#a", "!a")


def grow(root: Path, dice: random.Random) -> list[Path]:
    """Some files, and ignore files between them."""
    for _ in range(12):
        path = root.joinpath(*dice.choices(NAMES, k=dice.randint(1, 4)))
        if not any(above.is_file() for above in path.parents) and not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("")
    files = sorted(path for path in root.rglob("*") if path.is_file() and ".git" not in path.parts)
    folders = sorted({root, *(path.parent for path in files)})
    for folder in dice.sample(folders, min(2, len(folders))):
        patterns = [
            dice.choice(["", "", "!"])
            + dice.choice(["", "", "/"])
            + "/".join(dice.choices(ATOMS, k=dice.choice([1, 1, 2, 3])))
            + dice.choice(["", "", "/"])
            for _ in range(dice.randint(1, 4))
        ]
        (folder / ".gitignore").write_text("\n".join(patterns) + "\n")
    return files


@pytest.mark.skipif(shutil.which("git") is None, reason="there is no git to compare with")
@pytest.mark.parametrize("seed", range(25))
def test_a_gitignore_means_what_it_means_to_git(tmp_path: Path, seed: int):
    files = grow(tmp_path, random.Random(seed))
    names = [str(file.relative_to(tmp_path)) for file in files]
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    told = subprocess.run(
        ["git", "-C", tmp_path, "check-ignore", "-z", "--stdin"],
        input="\0".join(names) + "\0", capture_output=True, text=True, check=False,
    )  # fmt: skip
    ignored = Ignored(tmp_path, [".gitignore"])
    ours = {name for name, file in zip(names, files, strict=True) if ignored.why(file)}
    assert ours == set(told.stdout.split("\0")) - {""}


def test_the_reason_names_the_pattern_and_its_file(tmp_path: Path):
    (tmp_path / ".gitignore").write_text("# what is made\nbuild/\n")
    path = tmp_path / "build" / "deep" / "a.py"
    assert Ignored(tmp_path).why(path) == f"'build/' in {tmp_path / '.gitignore'}"
    assert Ignored(tmp_path).why(tmp_path / "build.py") == ""


def test_a_goliathignore_has_the_last_word(tmp_path: Path):
    (tmp_path / ".gitignore").write_text("*_pb2.py\n")
    (tmp_path / ".goliathignore").write_text("!*_pb2.py\ndocs/\n")
    ignored = Ignored(tmp_path)
    assert ignored.why(tmp_path / "made_pb2.py") == ""
    assert ".goliathignore" in ignored.why(tmp_path / "docs" / "conf.py")


@pytest.mark.parametrize("folder", [".git", "__pycache__", "node_modules", "mine"])
def test_what_is_never_source_needs_no_pattern(tmp_path: Path, folder: str):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "pyvenv.cfg").write_text("")
    assert Ignored(tmp_path).why(tmp_path / folder / "a.py") == f"{folder}/ is never sent"


def test_patterns_that_are_none_match_nothing(tmp_path: Path):
    (tmp_path / ".gitignore").write_text("[\n\\\n[z-a]\n\n   \n!\n/\n")
    assert Ignored(tmp_path).why(tmp_path / "a") == ""
