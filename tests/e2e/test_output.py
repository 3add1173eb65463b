"""What calls print: who said it, where it goes, and that it disturbs nothing."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from subprocess import CompletedProcess
from typing import Any

import pytest

from goliath import Commander
from tests.e2e.calls import add, say
from tests.lieutenants import Lieutenant

Script = Callable[..., "CompletedProcess[str]"]


def both_streams(n):
    print(f"to stdout {n}")
    print(f"to stderr {n}", file=sys.stderr)


def test_lines_arrive_with_function_node_and_worker_before_them(
    cmdr: Commander, node: Lieutenant, capfd: pytest.CaptureFixture[str]
) -> None:
    cmdr.run(both_streams, [(7,)])
    out, err = capfd.readouterr()
    for text, line in (("to stdout 7", out), ("to stderr 7", err)):
        prefix, found, rest = line.partition(text)
        assert found
        assert rest == "\n"
        assert "both_streams" in prefix
        assert str(node.port) in prefix
        assert prefix.strip()[-1] in ")]:|>"


def test_what_a_call_printed_is_there_when_its_result_is(
    cmdr: Commander, capfd: pytest.CaptureFixture[str]
) -> None:
    for n in range(20):
        cmdr.run(say, [(f"line {n}",)])
        assert f"line {n}\n" in capfd.readouterr().out


def test_every_line_arrives_whole_and_once(
    cmdr: Commander, capfd: pytest.CaptureFixture[str]
) -> None:
    cmdr.run(say, [(f"<{n}>",) for n in range(500)])
    lines = capfd.readouterr().out.splitlines()
    assert sorted(line[line.rindex("<") :] for line in lines) == sorted(
        f"<{n}>" for n in range(500)
    )


def test_prints_of_subprocesses_and_of_file_descriptors_arrive_too(
    cmdr: Commander, capfd: pytest.CaptureFixture[str]
) -> None:
    def work():
        import os

        os.write(1, b"from the descriptor\n")
        subprocess.run(["echo", "from a subprocess"], check=True)

    cmdr.run(work, [()])
    out = capfd.readouterr().out
    assert "from the descriptor\n" in out
    assert "from a subprocess\n" in out


def test_raw_output_has_no_prefix(node: Lieutenant, capfd: pytest.CaptureFixture[str]) -> None:
    with Commander([node.address], output="raw") as commander:
        commander.run(both_streams, [(1,)])
        out, err = capfd.readouterr()
    assert (out, err) == ("to stdout 1\n", "to stderr 1\n")


def test_output_can_be_off(node: Lieutenant, capfd: pytest.CaptureFixture[str]) -> None:
    with Commander([node.address], output="off") as commander:
        commander.run(both_streams, [(1,)])
        assert capfd.readouterr() == ("", "")


def test_output_can_go_to_a_callable(node: Lieutenant, capfd: pytest.CaptureFixture[str]) -> None:
    heard: list[Any] = []
    with Commander([node.address], output=heard.append) as commander:
        commander.run(both_streams, [(1,)])
    assert sorted((line.stream, line.function, line.text) for line in heard) == [
        ("stderr", "both_streams", "to stderr 1"),
        ("stdout", "both_streams", "to stdout 1"),
    ]
    assert all(str(node.port) in line.node and line.worker for line in heard)
    assert capfd.readouterr() == ("", "")


def test_a_callable_that_raises_ends_no_run(node: Lieutenant) -> None:
    def broken(*parts: Any) -> None:
        raise RuntimeError("the log is full")

    with Commander([node.address], output=broken) as commander:
        assert commander.run(add, [(1, 1)]) == [2]
        commander.run(both_streams, [(1,)])
        assert commander.run(add, [(1, 1)]) == [2]


def test_another_word_for_output_is_refused(node: Lieutenant) -> None:
    with pytest.raises((ValueError, TypeError), match="loud"):
        Commander([node.address], output="loud")


def test_ten_megabytes_of_prints_do_not_stop_the_run(
    cmdr: Commander, capfd: pytest.CaptureFixture[str]
) -> None:
    def flood(n):
        for _ in range(50):
            print("x" * 100_000)
        return n

    assert cmdr.run(flood, [(1,), (2,)]) == [1, 2]
    assert capfd.readouterr().out.count("x") == 10_000_000


def test_text_that_is_not_utf8_and_lines_that_never_end_do_no_harm(
    cmdr: Commander, capfd: pytest.CaptureFixture[str]
) -> None:
    def work():
        import os

        os.write(1, b"\xff\xfe broken\n")
        os.write(1, b"no newline")
        return 1

    assert cmdr.run(work, [()]) == [1]
    out = capfd.readouterr().out
    assert "broken" in out
    assert "no newline" in out


def test_prints_go_to_the_users_own_stdout_also_when_it_was_replaced(cmdr: Commander) -> None:
    import contextlib
    import io

    with contextlib.redirect_stdout(io.StringIO()) as text:
        cmdr.run(say, [("hello",)])
    assert "hello" in text.getvalue()


def test_the_embedded_lieutenant_prefixes_too(script: Script) -> None:
    run = script(
        "from goliath import Commander\n"
        "def talk(n): print('number', n)\n"
        "with Commander(workers=1) as cmdr: cmdr.run(talk, [(1,)])\n"
    )
    assert run.returncode == 0
    assert "talk" in run.stdout
    assert run.stdout.endswith("number 1\n")
    assert run.stderr == ""
