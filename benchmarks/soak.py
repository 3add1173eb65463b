"""Soak: mixed work and faults for minutes; afterwards nothing is held that was not held before."""

import gc
import os
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from statistics import linear_regression

import goliath
from benchmarks import procs, tasks
from benchmarks.figure import Figure, at_most
from benchmarks.harness import WrongResultError, verify
from goliath import Commander
from goliath.testing import LocalCluster, Node, chaos, local_cluster

NAME = "soak"
NODES, WORKERS = 2, 2
# The heap of the client has its size after some 170 rounds, that of a Lieutenant after 300, and not
# before: so many at least, however slow the machine, and as much of the time.
WARM_ROUNDS, WARM_SHARE = 300, 0.4
NODE_KILL_EVERY = 10  # rounds; of the last node, so that the others grow old
SETTLE_MAX_S = 30.0
PARKED_S = "2"  # idle workers beyond one a slot end soon, so that what is counted comes to rest

TEN_MINUTES_S = 600.0


@goliath.remote
class Tally:
    """An actor that lives for one round."""

    def __init__(self) -> None:
        self.total = 0

    def add(self, n: int) -> int:
        self.total += n
        return self.total


@goliath.remote
def fill(n: int) -> bytes:
    """A result that stays on its node."""
    return bytes([n]) * 200_000


@goliath.remote
def weigh(data: bytes) -> int:
    return len(data) + data[0]


def odd_only(n: int) -> int:
    if n % 2 == 0:
        raise ValueError(n)
    return n


def measure(minutes: float) -> Iterator[Figure]:
    """Rounds until the time is over; held and grown is what is so at its end."""
    with local_cluster(NODES, WORKERS, env={"GOLIATH_PARKED_MAX_S": PARKED_S}) as cluster:
        commander = goliath.init()
        done: Counter[str] = Counter()
        begin = time.monotonic()
        warm_until = begin + 60 * minutes * WARM_SHARE
        while time.monotonic() < warm_until or done["rounds"] < WARM_ROUNDS:
            _round(cluster, commander, done)
        before = _at_rest(cluster, commander)
        samples: list[tuple[float, dict[str, float]]] = []
        measured_from = time.monotonic()
        while (now := time.monotonic()) < begin + 60 * minutes or len(samples) < 3:
            samples.append((now, _memory(cluster)))
            _round(cluster, commander, done)
        measured_s = time.monotonic() - measured_from
        after = _at_rest(cluster, commander, before)
    yield from _growth(samples, measured_s)
    yield _held(before, after)
    for what, times in done.items():
        yield Figure(NAME, what, times, "in all")


def _round(cluster: LocalCluster, commander: Commander, done: Counter[str]) -> None:
    """A little of everything, and something breaks under it; every result is checked."""
    rows = [{"bar": n, "baz": n} for n in range(5000)]
    verify(commander.run(tasks.foo, rows), [tasks.foo(**row) for row in rows], "batch")
    naps = [commander.submit(tasks.noop, n) for n in range(200)]
    slow = [commander.submit(tasks.burn, 0.01) for _ in range(20)]
    done["workers killed"] += bool(chaos.kill_worker())
    done["connections cut"] += chaos.cut_link(cluster.nodes[done["rounds"] % NODES])
    verify([ref.result() for ref in naps], range(200), "single calls")
    verify([ref.result() for ref in slow], [0.01] * 20, "slow calls")
    outcomes = commander.run(odd_only, [(n,) for n in range(100)], return_exceptions=True)
    verify([n if type(n) is int else n.args[0] for n in outcomes], range(100), "errors")
    tally = Tally.remote()
    verify(goliath.get([tally.add.remote(1) for _ in range(50)]), range(1, 51), "actor")
    weighed = goliath.get([weigh.remote(fill.remote(n)) for n in range(5)])
    verify(weighed, [200_000 + n for n in range(5)], "results on nodes")
    with Commander(cluster.addresses) as another:
        verify(another.run(tasks.noop, [(n,) for n in range(10)]), range(10), "another Commander")
    done["calls"] += 5000 + 200 + 20 + 100 + 51 + 10 + 10
    done["rounds"] += 1
    if done["rounds"] % NODE_KILL_EVERY == 0:
        _lose_node(cluster, commander)
        done["node kills"] += 1


def _lose_node(cluster: LocalCluster, commander: Commander) -> None:
    node = cluster.nodes[-1]
    refs = [commander.submit(tasks.burn, 0.05) for _ in range(10)]
    chaos.kill_node(node)
    verify([ref.result() for ref in refs], [0.05] * 10, "calls of a lost node")
    cluster.restart(node)
    _await_nodes(commander)


def _await_nodes(commander: Commander) -> None:
    until = time.monotonic() + SETTLE_MAX_S
    while sum(info.alive for info in commander.nodes()) < NODES:
        if time.monotonic() > until:
            raise WrongResultError(f"not all nodes came back: {commander.nodes()}")
        time.sleep(0.01)


# -- what is held ----------------------------------------------------------------------------

Held = dict[str, int]


def _at_rest(cluster: LocalCluster, commander: Commander, wanted: Held | None = None) -> Held:
    """What is held when all is quiet: as ``wanted``, if it comes to that in time, else when it has
    not changed for so long as idle workers are kept."""
    _await_nodes(commander)
    until = time.monotonic() + SETTLE_MAX_S
    held, since = _now(cluster, commander), time.monotonic()
    while time.monotonic() < until and held != wanted:
        if wanted is None and time.monotonic() - since > 2 * float(PARKED_S):
            break
        time.sleep(0.1)
        now = _now(cluster, commander)
        if now != held:
            held, since = now, time.monotonic()
    return held


def _now(cluster: LocalCluster, commander: Commander) -> Held:
    gc.collect()
    _wake_all(commander)
    held = {
        "client fds": len(os.listdir("/proc/self/fd")),
        "client threads": threading.active_count(),
        "client processes": len(procs.tree(os.getpid())),
        "shm files": sum("goliath" in name for name in os.listdir("/dev/shm")),
        "runtime files": len(list(Path(os.environ["XDG_RUNTIME_DIR"]).rglob("*.json"))),
    }
    for number, node in enumerate(cluster.nodes):
        held[f"node {number} fds"] = len(os.listdir(f"/proc/{node.pid}/fd"))
        if node is not cluster.nodes[-1]:
            # That one is young at both times, and has as many as it has needed so far.
            held[f"node {number} threads"] = len(os.listdir(f"/proc/{node.pid}/task"))
        held[f"node {number} processes"] = len(procs.tree(node.pid))
        held[f"node {number} files"] = _files_of(node)
    return held


def _wake_all(commander: Commander) -> None:
    """A worker in each slot, whoever was killed: then as many are counted each time."""
    slots = NODES * WORKERS
    commander.run(tasks.nap, [{"seconds": 0.03}] * slots, batch_size=1)


def _files_of(node: Node) -> int:
    folder = Path(f"/proc/{node.pid}/environ").read_bytes().split(b"TMPDIR=")[1].split(b"\0")[0]
    return sum(len(files) for _, _, files in os.walk(folder.decode()))


def _held(before: Held, after: Held) -> Figure:
    changed = {name: after[name] - before[name] for name in before if after[name] != before[name]}
    return Figure(
        NAME,
        "held more or less than before: fds, threads, processes, files",
        sum(map(abs, changed.values())),
        "things",
        at_most(0),
        note=", ".join(f"{name} {change:+d}" for name, change in changed.items()),
        detail={"before": before, "after": after},
    )


# -- what has grown --------------------------------------------------------------------------


def _memory(cluster: LocalCluster) -> dict[str, float]:
    gc.collect()
    return {"client": procs.rss_mib(os.getpid()), "Lieutenant": procs.rss_mib(cluster.nodes[0].pid)}


def _growth(samples: list[tuple[float, dict[str, float]]], measured_s: float) -> Iterator[Figure]:
    times = [at for at, _ in samples]
    for who in samples[0][1]:
        sizes = [memory[who] for _, memory in samples]
        slope = linear_regression(times, sizes).slope
        yield Figure(
            NAME,
            f"growth of the {who}'s resident memory",
            slope * TEN_MINUTES_S,
            "MiB/10 min",
            at_most(1),
            low=min(sizes),
            high=max(sizes),
            runs=len(samples),
            note=f"spread: MiB resident over {measured_s:.0f} s",
            detail={"each_mib": [round(size, 2) for size in sizes]},
        )
