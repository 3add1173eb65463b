"""Type checkers of users understand the public names, and refuse what would fail."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "typing_tests").glob("*.py"))


def refused(file: Path) -> set[int]:
    """The lines that say of themselves that they are wrong."""
    lines = file.read_text().splitlines()
    return {number for number, line in enumerate(lines, 1) if line.endswith("# refused")}


def check(*command: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", *command],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=ROOT,
        check=False,
    )
    assert done.returncode in (0, 1), done.stderr
    return done.stdout


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_mypy_refuses_exactly_the_wrong_lines(file: Path, tmp_path: Path):
    output = check("mypy", "--strict", "--cache-dir", str(tmp_path), str(file))
    found = re.findall(rf"^{re.escape(str(file.relative_to(ROOT)))}:(\d+): error", output, re.M)
    assert {int(line) for line in found} == refused(file), output


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_pyright_refuses_exactly_the_wrong_lines(file: Path):
    output = check("basedpyright", "--level", "error", "--outputjson", str(file))
    found = [
        problem["range"]["start"]["line"] + 1
        for problem in json.loads(output)["generalDiagnostics"]
    ]
    assert set(found) == refused(file), output
