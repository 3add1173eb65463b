"""The documentation tells the truth: its Python blocks run, and show what they say.

The ``python`` blocks of a page are one script. In it, ``expression  # -> value`` asserts that
the expression has that repr. Blocks that need other machines are marked ``py`` and do not run.
"""

from __future__ import annotations

import ast
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    path
    for path in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    if "```python\n" in path.read_text()
)
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
OUTAGES = ("goliath: lost ", "goliath: going on with", "goliath: there is no node left")
"""How lines begin that a Commander writes of a node which a page has killed."""
CHECK = (
    "def _shows(line, value, said):\n"
    "    assert repr(value) == said, f'{line} gives {value!r}, the page says {said}'\n"
)


def as_script(page: str) -> str:
    """The Python blocks of a page, with each ``# ->`` made an assertion."""
    source = "\n".join(re.findall(r"^```python\n(.*?)^```", page, re.M | re.S))
    lines = source.splitlines()
    for node in ast.parse(source).body:
        assert node.end_lineno is not None
        last = lines[node.end_lineno - 1]
        said = re.search(r"# -> (.*)$", last)
        if said and isinstance(node, ast.Expr):
            text = ast.unparse(node)
            lines[node.lineno - 1] = f"_shows({text!r}, {text}, {said[1].strip()!r})"
            lines[node.lineno : node.end_lineno] = [""] * (node.end_lineno - node.lineno)
    return CHECK + "\n".join(lines) + "\n"


def test_an_arrow_becomes_an_assertion() -> None:
    script = as_script("```python\nx = 1\nx + 1  # -> 3\n```\n```py\nnot run\n```\n")
    with pytest.raises(AssertionError, match=r"x \+ 1 gives 2, the page says 3"):
        exec(script, {})


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_examples_of_a_page_run_and_show_what_it_says(
    page: Path, script: Callable[..., CompletedProcess[str]]
) -> None:
    run = script(as_script(page.read_text()))
    complaints = [line for line in run.stderr.splitlines() if not line.startswith(OUTAGES)]
    assert (run.returncode, complaints) == (0, [])


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.stem)
def test_an_example_runs_from_any_folder_and_complains_of_nothing(
    example: Path, tmp_path: Path, script: Callable[..., CompletedProcess[str]]
) -> None:
    shutil.copytree(example.parent, tmp_path / "copy")
    run = script(example.read_text(), name=f"copy/{example.name}")
    assert (run.returncode, run.stderr) == (0, "")
    assert run.stdout


def test_every_link_within_the_documentation_leads_somewhere() -> None:
    for page in [
        *ROOT.glob("*.md"),
        *(ROOT / "docs").glob("*.md"),
        *(ROOT / "examples").glob("*.md"),
    ]:
        for target in re.findall(r"\]\(([^)#:]+?)(?:#[^)]*)?\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"
