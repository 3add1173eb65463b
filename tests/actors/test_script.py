"""What a script says that it needs, in the words of PEP 723."""

from __future__ import annotations

import sys
import types
from pathlib import Path

import pytest

from goliath.actors.script import script_requirements

BLOCK = """#!/usr/bin/env python
# /// script
# requires-python = ">=3.11"
# dependencies = [
#   "requests<3",
#   "rich",
# ]
# ///
import requests
"""


def said_by(text: str | None, folder: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, ...]:
    """What a script of this text asks for."""
    main = types.ModuleType("__main__")
    if text is not None:
        main.__file__ = str(folder / "script.py")
        (folder / "script.py").write_text(text)
    monkeypatch.setitem(sys.modules, "__main__", main)
    return script_requirements()


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (BLOCK, ("requests<3", "rich")),
        ("print(1)\n", ()),
        (None, ()),
        ("# /// script\n# ///\n", ()),
        ("# /// script\n# requires-python = '>=3.11'\n# ///\n", ()),
        ("# /// other\n# dependencies = ['rich']\n# ///\n", ()),
        ("# /// script\n# dependencies = ['rich']\n", ()),  # it has no end
        ("text = '''\n# // script\n# dependencies = ['rich']\n# ///\n'''\n", ()),
        (
            "# /// script\n# dependencies = ['goliath>=1', 'Goliath[tls]', 'goliath-a']\n# ///\n",
            ("goliath-a",),
        ),
        (f"# /// other\n# x = 1\n# ///\n\n{BLOCK}", ("requests<3", "rich")),
    ],
)
def test_the_dependencies_of_the_script_are_read(
    text: str | None, found: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    assert said_by(text, tmp_path, monkeypatch) == found


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (BLOCK + BLOCK, r"script\.py has 2 blocks of the type script"),
        ("# /// script\n# dependencies = [\n# ///\n", r"of \S*script\.py is no TOML"),
        ("# /// script\n# dependencies = 'rich'\n# ///\n", "are no list of strings"),
        ("# /// script\n# dependencies = [1]\n# ///\n", "are no list of strings"),
    ],
)
def test_a_block_that_cannot_be_read_is_an_error_that_names_the_script(
    text: str, complaint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    with pytest.raises(ValueError, match=complaint):
        said_by(text, tmp_path, monkeypatch)
