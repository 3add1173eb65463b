"""Local clusters and their faults: real processes, real connections, and nothing is left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import goliath
from goliath import Commander, WorkerCrashedError
from goliath.testing import LocalCluster, Node, chaos, local_cluster
from goliath.testing.processes import alive, kill, living, look, marked, until
from goliath.transport.credentials import runtime_directory
from tests.e2e.calls import nap, pid


def test_whatever_names_no_lieutenants_uses_the_cluster():
    with local_cluster(nodes=2, workers=1) as cluster:
        assert [node.workers for node in cluster.nodes] == [1, 1]
        parents = {node.pid for node in cluster.nodes}
        assert {node.address for node in cluster.commander.nodes()} == {
            f"{host}:{port}" for host, port in cluster.addresses
        }
        with Commander() as another:
            assert another.run(abs, [(-1,)]) == [1]
        assert goliath.get(goliath.remote(abs).remote(-2)) == 2
        assert len(goliath.nodes()) == 2
        (worker,) = set(cluster.commander.run(pid, [(0,)]))
        zygote = _parent(worker)
        assert _parent(zygote) in parents


def _parent(of: int) -> int:
    return int(Path(f"/proc/{of}/stat").read_text().rpartition(")")[2].split()[1])


def test_nothing_is_left_of_it():
    before = dict(os.environ)
    with local_cluster(nodes=1) as cluster:
        cluster.commander.run(pid, [(0,)])
        (node,) = cluster.nodes
        family = node.family() | {look(node.pid)}
        assert len(family) >= 3  # the Lieutenant, its zygote, a worker
        assert node.runtime_file().exists()
    assert dict(os.environ) == before
    assert living(filter(None, family)) == set()
    assert list(runtime_directory().glob("*.json")) == []
    assert not goliath.is_initialized()


async def test_it_can_be_used_in_a_loop():
    async with local_cluster(nodes=1, workers=1) as cluster:
        assert await cluster.commander.arun(abs, [(-1,)]) == [1]


def test_it_ends_when_a_test_fails():
    def test(seen: list[Node]) -> None:
        with local_cluster(nodes=1) as cluster:
            seen += cluster.nodes
            raise KeyError

    seen: list[Node] = []
    with pytest.raises(KeyError):
        test(seen)
    assert [node.running for node in seen] == [False]


def test_variables_reach_the_workers():
    with local_cluster(1, 1, env={"COLOUR": "green"}) as cluster:
        assert cluster.commander.run(os.getenv, [("COLOUR",)]) == ["green"]


def test_it_does_not_begin_where_remote_functions_would_go_elsewhere():
    goliath.init(local_mode=True)
    try:
        with pytest.raises(RuntimeError, match="initialized already"), local_cluster():
            pass
    finally:
        goliath.shutdown()


@pytest.mark.parametrize("size", [{"nodes": 0}, {"workers": 0}])
def test_a_cluster_of_nothing_is_refused(size: dict[str, int]):
    with pytest.raises(ValueError, match="at least one is needed"):
        local_cluster(**size)


def test_a_lieutenant_that_does_not_start_says_why():
    with (
        pytest.raises(AssertionError, match="GOLIATH_PARKED_MAX_S='long' is not a number"),
        local_cluster(nodes=2, env={"GOLIATH_PARKED_MAX_S": "long"}),
    ):
        pass


def test_lieutenants_do_not_outlive_a_test_run_that_was_killed(tmp_path: Path):
    script = tmp_path / "run.py"
    script.write_text(
        "from goliath.testing import local_cluster\n"
        "with local_cluster(nodes=1) as cluster:\n"
        "    cluster.commander.run(abs, [(-1,)])\n"
        "    print('up', flush=True)\n"
        "    input()\n"
    )
    mark = "GOLIATH_OF_A_KILLED_RUN=1"
    process = subprocess.Popen(
        [sys.executable, str(script)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, **dict([mark.split("=")]), "TMPDIR": str(tmp_path)},
        text=True,
    )
    assert process.stdout is not None
    assert process.stdin is not None
    with process, process.stdout, process.stdin:
        assert process.stdout.readline() == "up\n"
        family = {seen for seen in marked(mark) if seen.pid != process.pid}
        assert len(family) >= 3
        process.kill()
        process.wait()
    until(lambda: not living(family), 20, "its Lieutenant, zygote and worker gone")


# -- faults -------------------------------------------------------------------------------


@pytest.fixture
def cluster():
    with local_cluster(nodes=2, workers=1) as cluster:
        yield cluster


def test_a_killed_worker_is_dead_and_its_call_is_made_again(cluster: LocalCluster):
    ref = cluster.commander.submit(nap, 0.3)
    killed = chaos.kill_worker()
    assert not Path(f"/proc/{killed}/exe").exists()
    assert ref.result() == 0.3


def test_the_worker_of_a_node_can_be_chosen_and_its_call_fails_if_it_may_not_be_made_again(
    cluster: LocalCluster, tmp_path: Path
):
    @goliath.remote(max_retries=0)
    def once(folder: Path) -> None:
        (folder / str(os.getpid())).touch()
        time.sleep(50)

    cluster.commander.run(nap, [(0.1,)] * 2)  # of another session: older workers, that are idle
    refs = [once.remote(tmp_path) for _ in range(2)]
    until(lambda: len(list(tmp_path.iterdir())) == 2, 30, "both run")
    running = {int(path.name) for path in tmp_path.iterdir()}
    node = cluster.nodes[1]
    (victim,) = running & {seen.pid for seen in node.worker_processes()}
    until(lambda: chaos.kill_worker(node) == victim, 30, "the one that runs it")
    (ready,), (pending,) = goliath.wait(refs, timeout=30)
    with pytest.raises(WorkerCrashedError):
        goliath.get(ready)
    goliath.cancel(pending)


def test_a_killed_node_loses_no_call_and_is_used_again_when_it_is_back(cluster: LocalCluster):
    commander = cluster.commander
    refs = [commander.submit(nap, 0.2) for _ in range(4)]
    first, second = cluster.nodes
    until(first.worker_processes, 30, "a worker there")
    workers = first.worker_processes()
    assert chaos.kill_node() == first.pid
    assert not first.running
    assert second.running
    assert [ref.result() for ref in refs] == [0.2] * 4
    assert not any(map(alive, workers))
    port = first.port
    cluster.restart(first)
    assert first.port == port
    until(lambda: all(node.alive for node in commander.nodes()), 30, "both are there")
    assert chaos.kill_node(second) == second.pid
    assert commander.run(abs, [(-1,)]) == [1]


def test_a_cut_link_costs_nothing(cluster: LocalCluster, tmp_path: Path):
    def once(path: str) -> None:
        time.sleep(0.2)
        with open(path, "a") as file:
            file.write("x")

    commander = cluster.commander
    commander.connect()
    refs = [commander.submit(once, str(tmp_path / str(n))) for n in range(2)]
    assert chaos.cut_link(cluster.nodes[0]) == 1
    assert chaos.cut_link(cluster.nodes[1]) == 1
    assert [ref.result(30) for ref in refs] == [None, None]
    assert [(tmp_path / str(n)).read_text() for n in range(2)] == ["x", "x"]


def test_a_link_that_swallows_is_noticed_and_replaced():
    with local_cluster(nodes=1, workers=1) as cluster:
        assert cluster.commander.run(abs, [(-1,)]) == [1]
        (node,) = cluster.nodes
        assert chaos.blackhole_link() == 1
        assert cluster.link(node).connections() == 0
        start = time.monotonic()
        assert cluster.commander.run(abs, [(-2,)]) == [2]
        assert time.monotonic() - start > 0.2  # it went by a new connection
        assert cluster.link(node).connections() == 1


def test_who_asks_for_a_fault_where_nothing_can_break_is_told(
    cluster: LocalCluster, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(chaos, "PATIENCE_S", 0.1)
    with pytest.raises(AssertionError, match="a worker to kill; make a call first"):
        chaos.kill_worker()
    with pytest.raises(AssertionError, match="a connection to cut; use a Commander first"):
        chaos.cut_link()
    for _ in cluster.nodes:
        chaos.kill_node()
    with pytest.raises(AssertionError, match=r"start one by LocalCluster\.restart"):
        chaos.kill_node()


def test_without_a_cluster_there_is_nothing_to_break():
    with pytest.raises(RuntimeError, match="no local cluster is open"):
        chaos.kill_worker()
    with Node(1) as node, pytest.raises(RuntimeError, match="belongs to no local cluster"):
        chaos.cut_link(node)


def test_of_two_clusters_the_inner_one_is_meant_unless_one_is_named():
    with local_cluster(1, 1) as outer:
        with local_cluster(1, 1) as inner:
            assert chaos.kill_node() == inner.nodes[0].pid
        assert outer.commander.run(abs, [(-1,)]) == [1]
        assert chaos.kill_node(outer) == outer.nodes[0].pid


def test_a_frozen_node_is_thawed_before_it_is_stopped():
    with local_cluster(1, 1) as cluster:
        cluster.nodes[0].freeze()
    with local_cluster(1, 1) as cluster:
        kill(cluster.nodes[0].pid, signal.SIGSTOP)
        assert chaos.kill_node() == cluster.nodes[0].pid
