"""``nodes()`` and ``goliath status``: which calls run where, and how long, even if they hang."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import goliath
from goliath import Commander, NodeInfo
from goliath.testing.processes import until
from tests.e2e.calls import add, nap


def hang(file: str) -> None:
    """Hang in C code that holds the GIL, as far as anybody can tell: stopped."""
    Path(file).write_text(str(os.getpid()))
    os.kill(os.getpid(), signal.SIGSTOP)


async def dream() -> None:
    await asyncio.sleep(3600)


def seen(commander: Commander, enough: Callable[[NodeInfo], bool]) -> NodeInfo:
    """What its node says as soon as that is enough."""
    found: list[NodeInfo] = []

    def look() -> bool:
        found[:] = [node for node in commander.nodes() if enough(node)]
        return bool(found)

    until(look, 30, f"{commander!r} has seen it")
    return found[0]


def running(calls: int) -> Callable[[NodeInfo], bool]:
    return lambda node: len(node.running) == calls


def status(address: str, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", "-m", "goliath", "status", address, *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)


def test_the_running_time_of_a_call_that_hangs_is_told(lieutenant, tmp_path: Path) -> None:
    node, file = lieutenant(2), tmp_path / "pid"
    address = f"127.0.0.1:{node.port}"
    with Commander([address]) as cmdr:
        ref = cmdr.submit(hang, str(file))
        until(lambda: file.exists() and file.read_text(), within=30)
        (first,) = seen(cmdr, running(1)).running
        assert (first.function, first.pid) == ("hang", int(file.read_text()))
        (grown,) = seen(
            cmdr, lambda node: any(c.seconds > first.seconds + 1 for c in node.running)
        ).running
        assert (grown.worker, grown.pid) == (first.worker, first.pid)

        done = status(address)
        assert done.returncode == 0, done.stderr
        assert f"{address}  1 of 2 slots busy, 0 batches wait" in done.stdout
        (line,) = [line for line in done.stdout.splitlines() if "hang" in line]
        assert line.split()[:3] == [str(first.worker), str(first.pid), "hang"]
        assert line.endswith(" s")
        (told,) = json.loads(status(address, "--json").stdout)
        (call,) = told["running"]
        assert call["function"] == "hang"
        assert call["seconds"] > grown.seconds
        goliath.cancel(ref, force=True)
        seen(cmdr, running(0))
        assert "1 of 2" not in status(address).stdout


def test_each_of_the_calls_that_share_a_worker_is_told(lieutenant) -> None:
    with Commander([lieutenant(1).address]) as cmdr:
        refs = [cmdr.submit(dream) for _ in range(3)]
        told = seen(cmdr, running(3))
        assert {call.function for call in told.running} == {"dream"}
        assert len({call.pid for call in told.running}) == 1
        for ref in refs:
            goliath.cancel(ref)


def test_nodes_say_nothing_of_calls_before_they_were_asked_and_count_how_old_it_is(
    lieutenant,
) -> None:
    node = lieutenant(1)
    with Commander([node.address]) as cmdr:
        assert cmdr.run(add, [(1, 2)]) == [3]
        assert cmdr.nodes()[0].heard_s is None
        heard = seen(cmdr, lambda node: node.heard_s is not None)
        assert heard.running == []


def test_an_embedded_node_tells_it_too() -> None:
    with Commander(workers=1) as cmdr:
        ref = cmdr.submit(nap, 3600)
        (call,) = seen(cmdr, running(1)).running
        assert call.function == "nap"
        goliath.cancel(ref, force=True)


def test_a_node_that_is_down_is_said_to_be(free_port: int) -> None:
    done = status(f"127.0.0.1:{free_port}")
    assert done.returncode == 1
    assert "no lieutenant at 127.0.0.1" in done.stderr or "no running Lieutenant" in done.stderr


@pytest.mark.parametrize("command", ["nodes", "status", "doctor"])
def test_without_an_address_those_of_the_environment_are_asked(lieutenant, command: str) -> None:
    address = f"127.0.0.1:{lieutenant(1).port}"
    done = subprocess.run(
        [sys.executable, "-m", "goliath", command],
        env={**os.environ, "GOLIATH_LIEUTENANTS": address},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert address in done.stdout


def test_who_reads_no_more_of_it_is_no_error(lieutenant) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as closed:
        run = subprocess.run(
            [sys.executable, "-m", "goliath", "status", f"127.0.0.1:{lieutenant(1).port}"],
            stdout=closed,
            stderr=subprocess.PIPE,
            text=True,
            timeout=30,
            check=False,
        )
    assert (run.returncode, run.stderr) == (1, "")
