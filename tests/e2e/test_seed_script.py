"""The script the contract prints runs exactly as printed: on three nodes, and on this machine."""

from __future__ import annotations

from collections.abc import Callable
from subprocess import CompletedProcess

import pytest

from tests.lieutenants import Lieutenant

Script = Callable[..., "CompletedProcess[str]"]

SEED = """\
from goliath.commander import Commander        # also: from goliath import Commander

cmdr = Commander([('lab1', 8080), ('lieutenant.com', 3333), ('127.0.0.1', 2222)])   # connects lazily

def foo(bar, baz):
    return str(bar) + str(baz)

def foo_args(bar_range, baz_range):
    for bar in bar_range:
        for baz in baz_range:
            yield {'bar': bar, 'baz': baz}

results = cmdr.run(foo, foo_args(range(100), range(100)), ['foo.py'])   # list, input order
"""  # noqa: E501 - letter by letter
PRINTED_NODES = "[('lab1', 8080), ('lieutenant.com', 3333), ('127.0.0.1', 2222)]"
VERDICT = """
assert results == [str(bar) + str(baz) for bar in range(100) for baz in range(100)]
print(len(results), "right")
"""


def test_as_printed_on_three_nodes(script: Script, three_nodes: list[Lieutenant]) -> None:
    addresses = repr([node.address for node in three_nodes])
    run = script(SEED.replace(PRINTED_NODES, addresses) + VERDICT)
    assert (run.returncode, run.stdout, run.stderr) == (0, "10000 right\n", "")


def test_as_printed_on_an_embedded_lieutenant(script: Script) -> None:
    run = script(SEED.replace(PRINTED_NODES, "") + VERDICT)
    assert (run.returncode, run.stdout, run.stderr) == (0, "10000 right\n", "")


def test_with_the_addresses_in_the_environment(
    script: Script, three_nodes: list[Lieutenant], monkeypatch: pytest.MonkeyPatch
) -> None:
    nodes = ",".join(f"127.0.0.1:{node.port}" for node in three_nodes)
    monkeypatch.setenv("GOLIATH_LIEUTENANTS", nodes)
    run = script(SEED.replace(PRINTED_NODES, "") + VERDICT + "print(len(cmdr.nodes()))")
    assert (run.returncode, run.stdout, run.stderr) == (0, "10000 right\n3\n", "")


def test_a_script_that_forgets_to_close_leaves_no_process_behind(script: Script) -> None:
    run = script(
        "from goliath import Commander\n"
        "print(Commander(workers=2).run(abs, [(-n,) for n in range(5)]))\n"
    )
    assert (run.returncode, run.stdout, run.stderr) == (0, "[0, 1, 2, 3, 4]\n", "")


def test_a_script_that_fails_exits_with_its_own_traceback_and_one_error_code(
    script: Script,
) -> None:
    run = script(
        "from goliath import Commander\n"
        "def fail(n): raise ValueError(f'number {n}')\n"
        "Commander(workers=1).run(fail, [(7,)])\n"
    )
    assert run.returncode == 1
    assert "ValueError: number 7" in run.stderr


def test_a_function_of_main_may_use_globals_helpers_and_classes_of_main(script: Script) -> None:
    run = script(
        "from dataclasses import dataclass\n"
        "from goliath import Commander\n"
        "FACTOR = 3\n"
        "@dataclass\n"
        "class Point:\n"
        "    x: int\n"
        "def helper(x): return x * FACTOR\n"
        "def work(point): return Point(helper(point.x))\n"
        "with Commander(workers=1) as cmdr:\n"
        "    print(cmdr.run(work, [{'point': Point(n)} for n in range(3)]))\n"
    )
    assert (run.returncode, run.stderr) == (0, "")
    assert run.stdout == "[Point(x=0), Point(x=3), Point(x=6)]\n"


def test_a_shipped_script_that_a_worker_imports_does_not_start_the_run_again(
    script: Script, node: Lieutenant
) -> None:
    run = script(
        "from goliath import Commander\n"
        f"cmdr = Commander([('127.0.0.1', {node.port})])\n"
        "def work(n):\n"
        "    import foo\n"
        "    return foo.answer() + n\n"
        "def answer(): return 41\n"
        "print(cmdr.run(work, [(n,) for n in range(1, 4)], ['foo.py']))\n"
    )
    assert run.stderr == ""
    assert run.returncode == 0
    # A worker that imports the script runs its three calls in place, and prints them.
    *prefixed, last = run.stdout.splitlines()
    assert last == "[42, 43, 44]"
    assert 1 <= len(prefixed) <= 2
    assert all(line.startswith("(work ") for line in prefixed)
