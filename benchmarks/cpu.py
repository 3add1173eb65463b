"""CPU: what a batch costs in all processes together, how that grows, and what streaming holds."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from statistics import median
from typing import Any

from benchmarks import procs, tasks, work
from benchmarks.figure import Figure, at_most
from benchmarks.harness import commander_and_node, take_turns, timed, verify
from benchmarks.node import Node
from benchmarks.peers import pids_of, pool
from goliath import Commander

NAME = "cpu"
CALLS = 100_000
STREAMED = 1_000_000
GROWTH_TARGET = 1.25  # "flat" as a number: noise of the machine included


def measure(quick: bool) -> Iterator[Figure]:
    """CPU seconds of the client, the node and every worker, children included."""
    with pool() as peer, commander_and_node() as (commander, node):
        yield from _against_pool(commander, node, peer, 5 if quick else 15)
        yield from _growth(commander, node, quick)
        yield from _streaming(node)


def _spent(pids: list[int], call: Callable[[], Any]) -> float:
    before = procs.cpu_of_all_s(pids)
    call()
    return procs.cpu_of_all_s(pids) - before


def _against_pool(commander: Commander, node: Node, peer: Any, runs: int) -> Iterator[Figure]:
    rows = work.seed_rows(CALLS)
    want = [tasks.foo(**row) for row in rows]
    client = os.getpid()
    lieutenant: list[float] = []

    # Verified outside of what is counted: comparing 100,000 strings costs CPU as well.
    kept: list[Any] = []

    def run() -> None:
        kept[:] = [commander.run(tasks.foo, rows)]

    def ours() -> float:
        before = procs.cpu_s(node.pid)
        spent = _spent([client, *node.pids()], run)
        lieutenant.append(procs.cpu_s(node.pid) - before)
        verify(kept.pop(), want, "run")
        return spent

    def pool_map() -> None:
        kept[:] = [peer.map(tasks.foo_of, rows)]

    def theirs() -> float:
        spent = _spent([client, *pids_of(peer)], pool_map)
        verify(kept.pop(), want, "Pool.map")
        return spent

    ours(), theirs()
    lieutenant.clear()
    pairs = take_turns(ours, theirs, runs)
    name = f"CPU of all processes, run(foo), {CALLS:,} calls"
    yield pairs.cost().figure(NAME, name, "x Pool.map", at_most(0.6))
    each = [spent / CALLS * 1e9 for spent in lieutenant]
    yield Figure(
        NAME,
        f"the Lieutenant's share, {CALLS:,} calls",
        median(each),
        "ns a call",
        at_most(30),
        best=min(each),
        low=min(each),
        high=max(each),
        runs=runs,
        neighbours=round(pairs.neighbours, 2),
    )


def _growth(commander: Commander, node: Node, quick: bool) -> Iterator[Figure]:
    """Cost of a call in a batch of 1,000,000 against one of 10,000, CPU and wall clock."""
    small, big = 10_000, 1_000_000
    cpu: dict[int, list[float]] = {small: [], big: []}
    wall: dict[int, list[float]] = {small: [], big: []}
    for calls, runs in ((small, 20), (big, 2 if quick else 5)):
        rows = work.seed_rows(calls)
        want = [tasks.foo(**row) for row in rows]
        pids = [os.getpid(), *node.pids()]
        run = partial(commander.run, tasks.foo, rows)
        kept: list[Any] = []
        for _ in range(runs):
            cpu[calls].append(_spent(pids, lambda run=run, kept=kept: kept.append(run())) / calls)
            verify(kept.pop(), want, "run")
            wall[calls].append(timed(run, want, "run") / calls)
    for name, seconds in (("CPU", cpu), ("wall clock", wall)):
        yield Figure(
            NAME,
            f"{name} a call at {big:,} calls",
            median(seconds[big]) / median(seconds[small]),
            f"x {small:,}",
            at_most(GROWTH_TARGET) if name == "CPU" else None,
            best=min(seconds[big]) / min(seconds[small]),
            runs=len(seconds[big]),
            detail={f"ns_at_{calls}": median(each) * 1e9 for calls, each in seconds.items()},
        )


def _streaming(node: Node) -> Iterator[Figure]:
    """``imap`` in a process of its own, so that nobody else's peak counts."""
    command = [sys.executable, "-m", "benchmarks.stream", node.host, str(node.port), str(STREAMED)]
    before = procs.rss_mib(node.pid)
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    grown = json.loads(done.stdout)
    yield Figure(
        NAME,
        f"peak memory growth of the Commander, imap of {STREAMED:,}",
        grown["growth_mib"],
        "MiB",
        at_most(64),
        detail=grown | {"node_growth_mib": procs.peak_rss_mib(node.pid) - before},
    )
