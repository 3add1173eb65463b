"""A node whose memory gets short begins nothing, then takes nothing big, says so, and goes on."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

import goliath
from goliath import Commander, NodeFullError, NodeInfo
from goliath.testing.processes import until
from tests.lieutenants import Lieutenant

KIB, MIB = 1 << 10, 1 << 20
LIMIT = 400 * MIB
BOUNDED = {"GOLIATH_NODE_MEMORY_BYTES": str(LIMIT)}


@pytest.fixture
def node(lieutenant: Callable[..., Lieutenant]) -> Lieutenant:
    return lieutenant(2, env=BOUNDED)


@pytest.fixture
def commander(node: Lieutenant) -> Iterator[Commander]:
    with Commander([node.address]) as connected:
        yield connected


def seen(commander: Commander, at: int = 0) -> NodeInfo:
    return commander.nodes()[at]


def hog(share: float, used: int, release: Path) -> int:
    """Have so much of the node's memory used, until the file is there."""
    block = np.ones(int(share * LIMIT) - used, dtype=np.uint8)
    until(release.exists, 60)
    return int(block[0])


def fill(commander: Commander, share: float, release: Path) -> goliath.ObjectRef[int]:
    """Use up so much of the memory of its only node."""
    commander.submit(len, b"").result()
    until(lambda: seen(commander).memory_used > 0, 30)
    ref = commander.submit(hog, share, seen(commander).memory_used, release)
    level = "full" if share > 0.95 else "strained"
    until(lambda: seen(commander).memory == level, 30)
    return ref


def square(n: int) -> int:
    return n * n


def test_nothing_begins_beside_what_runs_until_memory_is_there_again(
    node: Lieutenant, commander: Commander, tmp_path: Path
):
    held = fill(commander, 0.87, tmp_path / "release")
    waiting = [commander.submit(square, n) for n in range(4)]
    until(lambda: seen(commander).queued > 0, 30)
    said = seen(commander)
    assert (said.memory, said.busy, said.memory_limit) == ("strained", 1, LIMIT)
    assert 0.8 * LIMIT < said.memory_used < 0.95 * LIMIT
    assert not any(ref.done() for ref in waiting)
    told = status_of(node)
    assert f"1 of 2 slots busy, {said.queued} batches wait, strained: " in told
    assert " of 400 MiB of memory used" in told
    (tmp_path / "release").touch()
    assert goliath.get([held, *waiting]) == [1, 0, 1, 4, 9]
    until(lambda: seen(commander).memory == "easy", 30)

    def lines() -> list[str]:
        return [line for line in node.err.splitlines() if "memory are used" in line]

    until(lambda: len(lines()) >= 2, 5, "the node has written so")
    warned, eased = lines()
    assert "no call begins while another one runs" in warned
    assert eased.endswith("all goes on")


def status_of(node: Lieutenant) -> str:
    """What the command says of it, asked again where it is too busy to answer in time."""
    command = [sys.executable, "-m", "goliath", "status", f"{node.host}:{node.port}"]
    told = [""]

    def answered() -> bool:
        told[0] = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        return "does not answer" not in told[0]

    until(answered, 30)
    return told[0]


@pytest.mark.parametrize("lifetime", [None, "detached"])
def test_one_call_at_a_time_goes_on_where_an_actor_has_the_memory(
    lifetime: str | None, node: Lieutenant
):
    class Keeper:
        def __init__(self, share: float, used: int) -> None:
            self.block = np.ones(int(share * LIMIT) - used, dtype=np.uint8)

        def first(self) -> int:
            return int(self.block[0])

        def take(self, data: bytes) -> int:
            return len(data)

    commander = goliath.init(node.address)
    assert commander is not None
    try:
        commander.submit(len, b"").result()
        until(lambda: seen(commander).memory_used > 0, 30)
        made = goliath.remote(Keeper).options(name="keeper", lifetime=lifetime)
        keeper = made.remote(0.96, seen(commander).memory_used)
        assert goliath.get(keeper.first.remote()) == 1
        until(lambda: seen(commander).memory == "full", 30)
        assert commander.run(square, [(n,) for n in range(50)]) == [n * n for n in range(50)]
        with pytest.raises(NodeFullError, match=r"Keeper\.take\(b.*, call \d+, was refused"):
            goliath.get(keeper.take.remote(bytes(200 * KIB)))
        assert goliath.get([keeper.take.remote(b"x"), keeper.first.remote()]) == [1, 1]
        assert seen(commander).memory == "full"
        goliath.kill(keeper)
        until(lambda: seen(commander).memory == "easy", 30)
    finally:
        goliath.shutdown()


def test_calls_go_where_there_is_memory(lieutenant: Callable[..., Lieutenant], tmp_path: Path):
    short, other = lieutenant(2, env=BOUNDED), lieutenant(1)
    with Commander([short.address]) as filler:
        held = fill(filler, 0.96, tmp_path / "release")
        with Commander([short.address, other.address]) as commander:
            until(lambda: sum(info.alive for info in commander.nodes()) == 2, 30)
            until(lambda: "full" in [info.memory for info in commander.nodes()], 30)
            values = [(n, bytes(200 * KIB)) for n in range(20)]
            where = commander.run(place, values)
            alive = {info.node_id: info.address for info in commander.nodes() if info.alive}
            assert {alive[name] for name in where} == {f"{other.host}:{other.port}"}
        (tmp_path / "release").touch()
        assert held.result() == 1


def place(_n: int, _data: bytes) -> str:
    name = goliath.get_runtime_context().node_id
    assert name is not None
    return name


def test_what_is_big_is_refused_by_a_full_node_and_the_rest_is_not(
    commander: Commander, tmp_path: Path
):
    made = commander.submit(make, MIB, tmp_path / "make")
    held = fill(commander, 0.96, tmp_path / "release")
    with pytest.raises(NodeFullError, match=r"length\(b.*, call 0, was refused by .* of 400 MiB"):
        commander.run(length, [(bytes(200 * KIB),)])
    with pytest.raises(MemoryError) as static:
        commander.run(length_of_both, [(b"x",)], static={"more": bytes(MIB)})
    error = static.value
    assert isinstance(error, NodeFullError)
    assert error.node == seen(commander).node_id
    assert (error.limit_bytes, error.used_bytes > 0.9 * LIMIT) == (LIMIT, True)
    put, array = commander.put(bytes(MIB)), commander.put(np.zeros(2 * MIB, dtype=np.uint8))
    for ref in (put, array):
        with pytest.raises(NodeFullError):
            commander.submit(length, ref).result()
    small = commander.submit(length, bytes(50 * KIB))
    (tmp_path / "make").touch()
    assert length(made.result()) == MIB
    assert seen(commander).kept["memory"] == 0, "a big result is not kept"
    (tmp_path / "release").touch()
    assert [held.result(), small.result()] == [1, 50 * KIB]
    until(lambda: seen(commander).memory == "easy", 30)
    assert commander.submit(length, put).result() == MIB
    assert commander.submit(length, array).result() == 2 * MIB
    assert commander.run(length_of_both, [(b"x",)], static={"more": bytes(MIB)}) == [MIB + 1]


def make(size: int, when: Path) -> bytes:
    until(when.exists, 60)
    return bytes(size)


def length(data: bytes) -> int:
    return len(data)


def length_of_both(data: bytes, more: bytes) -> int:
    return len(data) + len(more)


def test_an_embedded_node_gets_short_of_memory_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("GOLIATH_NODE_MEMORY_BYTES", str(LIMIT))
    with Commander(workers=2) as commander:
        held = fill(commander, 0.96, tmp_path / "release")
        with pytest.raises(NodeFullError):
            commander.run(length, [(bytes(200 * KIB),)])
        waiting = commander.submit(square, 3)
        until(lambda: seen(commander).queued == 1, 30)
        (tmp_path / "release").touch()
        assert goliath.get([held, waiting]) == [1, 9]
