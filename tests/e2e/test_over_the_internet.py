"""The README's section on the Internet works to the letter, but for host and port."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from goliath import Commander
from goliath.testing.processes import until
from tests.e2e.calls import add
from tests.joining import JoinedNode
from tests.tokens import TOKEN, written

README = Path(__file__).parents[2] / "README.md"


def test_the_commands_of_the_readme_make_a_node_that_its_line_of_python_reaches(
    lieutenant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    section = README.read_text().partition("## Over the Internet\n")[2].partition("\n## ")[0]
    make, start = re.findall(r"```sh\n(.*?)```", section, re.S)[0].splitlines()
    words = start.split()
    assert words[:5] == ["python", "-m", "goliath.lieutenant", "0.0.0.0", "8080"]
    assert "goliath token new" in make
    monkeypatch.chdir(tmp_path)
    command = make.replace("goliath token", f"{sys.executable} -m goliath token")
    subprocess.run(["sh", "-c", command], check=True, timeout=20)
    node = lieutenant(1, *words[5:], host=words[3])
    node.runtime_file().unlink()  # as from another machine
    (line,) = re.findall(r"```py\n(.*?)```", section, re.S)
    line = line.replace('("lab1.example.org", 8080)', f'"wss://localhost:{node.port}"')
    scope: dict[str, Commander] = {}
    exec(line, {"Commander": Commander}, scope)
    with scope["cmdr"] as commander:
        assert commander.run(add, [(1, 1)]) == [2]


def test_the_commands_of_the_readme_make_a_node_join_its_line_of_python(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free_port: int
) -> None:
    section = README.read_text().partition("## Behind NAT\n")[2].partition("\n## ")[0]
    ((start,),) = (block.splitlines() for block in re.findall(r"```sh\n(.*?)```", section, re.S))
    words = start.replace("laptop.example.org:9000", f"127.0.0.1:{free_port}").split()
    assert words[:4] == ["python", "-m", "goliath.lieutenant", "--join"]
    monkeypatch.chdir(tmp_path)
    written(Path("lab1.token"), TOKEN)
    (line,) = re.findall(r"```py\n(.*?)```", section, re.S)
    scope: dict[str, Commander] = {}
    exec(line.replace("9000", str(free_port)), {"Commander": Commander}, scope)
    node = JoinedNode(words[4], 1, *words[5:])
    try:
        until(lambda: "dialing again" in node.err, 20, "it tries")
        with scope["cmdr"] as commander:
            assert commander.run(add, [(1, 1)]) == [2]
        node.stop()
    finally:
        node.discard()
