"""``goliath doctor`` from outside: what it prints, in words and for programs, and its exit code."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from goliath.core.diagnosis import Grade
from goliath.examination import examine
from goliath.transport.address import Address
from goliath.transport.credentials import Credentials
from tests.lieutenants import Lieutenant
from tests.transport.proxy import proxying

STEPS = [
    "name",
    "connect",
    "tls",
    "websocket",
    "token",
    "versions",
    "packages",
    "clock",
    "round-trip",
    "bandwidth",
    "node",
]


def doctor(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", "goliath", "doctor", *arguments],
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )


def where(node: Lieutenant) -> str:
    return f"{node.address[0]}:{node.address[1]}"


def test_a_node_that_is_fine_is_said_to_be_and_programs_are_told_every_figure(
    node: Lieutenant,
) -> None:
    run = doctor(where(node), "--json")
    assert (run.returncode, run.stderr) == (0, "")
    [found] = json.loads(run.stdout)
    assert set(found) == {"subject", "checks", "limits", "usable", "verdict"}
    assert (found["subject"], found["usable"]) == (where(node), True)
    assert [check["name"] for check in found["checks"]] == STEPS
    assert {frozenset(check) for check in found["checks"]} == {
        frozenset({"name", "grade", "said", "advice", "value"})
    }
    assert {check["grade"] for check in found["checks"]} <= {"ok", "warning"}
    value: dict[str, Any] = {check["name"]: check["value"] for check in found["checks"]}
    assert value["connect"]["address"] == "127.0.0.1"
    assert value["connect"]["ms"] > 0
    assert value["versions"] == {
        "here": value["versions"]["there"],
        "there": sys.version.split()[0],
    }
    assert "cloudpickle" in value["packages"]["there"]
    assert (value["packages"]["differ"], value["packages"]["missing"]) == ([], [])
    assert abs(value["clock"]["skew_s"]) <= value["clock"]["uncertain_s"]
    assert (value["round-trip"]["n"], value["round-trip"]["ms"] > 0) == (11, True)
    assert min(value["bandwidth"].values()) > 1
    assert (value["node"]["workers"], value["node"]["draining"]) == (2, False)
    assert 0 < value["node"]["memory_free_bytes"] < value["node"]["memory_bytes"]
    assert {limit["name"]: limit["amount"] for limit in found["limits"]}["slots"] == 2
    assert {frozenset(limit) for limit in found["limits"]} == {
        frozenset({"name", "amount", "unit", "enforced_by", "why"})
    }


def test_no_worker_is_used_and_the_node_goes_on(node: Lieutenant) -> None:
    from goliath import Commander

    assert doctor(where(node)).returncode == 0
    with Commander([node.address]) as commander:
        commander.connect()
        assert commander.nodes()[0].processes == 0
        assert commander.run(pow, [(2, 3)]) == [8]


def test_without_an_address_this_machine_and_its_own_lieutenants_are_looked_at(
    node: Lieutenant,
) -> None:
    run = doctor()
    assert run.returncode == 0, run.stdout
    assert run.stdout.startswith("this machine\n  ok       python ")
    assert f"\n{where(node)}\n  ok       name " in run.stdout
    assert "descriptors" in run.stdout
    assert run.stdout.count("cannot be used") == 0


def test_where_no_lieutenant_runs_that_is_said(tmp_path: Path) -> None:
    run = doctor(XDG_RUNTIME_DIR=str(tmp_path))
    assert run.returncode == 0
    assert run.stdout.startswith("this machine\n")
    assert "none of yours runs on this machine. Start one with\n`goliath lieutenant" in run.stdout
    assert len(json.loads(doctor("--json", XDG_RUNTIME_DIR=str(tmp_path)).stdout)) == 1


def test_a_port_beside_that_of_a_lieutenant_here_is_answered_by_where_it_is(
    node: Lieutenant, free_port: int
) -> None:
    run = doctor(f"127.0.0.1:{free_port}")
    assert run.returncode == 1
    said = " ".join(run.stdout.split())
    assert f"of your Lieutenants there run 127.0.0.1:{node.address[1]}" in said


def test_one_node_of_several_that_cannot_be_used_is_the_exit_code(
    node: Lieutenant, free_port: int
) -> None:
    run = doctor(GOLIATH_LIEUTENANTS=f"{where(node)}, 127.0.0.1:{free_port}")
    assert run.returncode == 1
    assert run.stderr == ""
    assert f"127.0.0.1:{free_port} cannot be used: 127.0.0.1: Connection refused" in run.stdout
    assert f"{where(node)} is fine" in run.stdout or f"{where(node)} works" in run.stdout
    assert run.stdout.index(where(node)) < run.stdout.index(str(free_port))


@pytest.mark.parametrize(
    "arguments", [["nowhere"], ["127.0.0.1:1", "--timeout", "0"], ["127.0.0.1:1", "--tls", "no"]]
)
def test_wrong_usage_is_refused_in_words(arguments: list[str]) -> None:
    run = doctor(*arguments)
    assert (run.returncode, run.stdout) == (2, "")
    assert "Traceback" not in run.stderr


def test_a_revoked_token_is_a_failure_that_says_so(
    lieutenant: Callable[..., Lieutenant], tmp_path: Path
) -> None:
    tokens, mine = tmp_path / "tokens", tmp_path / "mine"
    goliath = [sys.executable, "-m", "goliath", "token"]
    new = [*goliath, "new", "--name", "alice", "--token-file", str(tokens)]
    mine.touch(mode=0o600)
    mine.write_text(subprocess.run(new, capture_output=True, text=True, check=True).stdout)
    node = lieutenant(1, "--token-file", str(tokens))
    assert doctor(where(node), "--token-file", str(mine)).returncode == 0
    subprocess.run([*goliath, "revoke", "alice", "--token-file", str(tokens)], check=True)
    for _ in range(50):  # within a second; each refusal takes a quarter of one
        run = doctor(where(node), "--token-file", str(mine), "--json")
        [found] = json.loads(run.stdout)
        check = found["checks"][-1]
        if check["name"] == "token":  # not the end of a session that had been let in before
            break
    assert (run.returncode, check["name"], check["grade"]) == (1, "token", "failure")
    assert "refused the token" in check["said"]
    assert "revoked" in check["advice"]


async def test_the_bandwidth_is_that_of_the_link_each_way(node: Lieutenant) -> None:
    port = node.address[1]
    async with proxying(port, host="127.0.0.2", port=port) as proxy:
        proxy.up.bytes_per_s, proxy.down.bytes_per_s = 1.6e6, 0.4e6
        found = await asyncio.to_thread(examine, Address("127.0.0.2", port), Credentials())
    check = next(check for check in found.checks if check.name == "bandwidth")
    assert check.grade is Grade.WARNING
    # The proxy never lets more through; where others want its core, it lets less.
    assert 0.1 < check.value["up_mb_s"] < 1.6 * 1.2
    assert 0.1 < check.value["down_mb_s"] < 0.4 * 1.2
    assert found.usable
    assert found.verdict().endswith("could be better: bandwidth")
