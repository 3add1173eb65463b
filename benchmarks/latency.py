"""Latency: one ``submit(...).result()`` at a time against ``ProcessPoolExecutor``'s."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from statistics import median
from typing import Any

from benchmarks import tasks
from benchmarks.figure import Figure, Target, at_most
from benchmarks.harness import Pairs, commander_and_node, take_turns, verify, warm
from benchmarks.peers import WORKERS, executor
from goliath import Commander

NAME = "latency"
PPE = "x PPE"
BLOCK = 100  # calls in a row before the other side has its turn
IN_FLIGHT = 10_000
IN_FLIGHT_PPE = 2_000

Submit = Callable[..., Any]


def measure(quick: bool) -> Iterator[Figure]:
    """Through a real node and on the embedded Lieutenant."""
    blocks = 30 if quick else 80
    with executor() as peer:
        with commander_and_node() as (commander, _):
            yield from _one_at_a_time(commander, peer, "real node", at_most(1.1), blocks)
            yield _in_flight(commander, peer, "real node", 3 if quick else 7)
        with Commander(workers=WORKERS) as commander:
            warm(commander, WORKERS)
            yield from _one_at_a_time(commander, peer, "embedded", at_most(0.8), blocks)
            yield _in_flight(commander, peer, "embedded", 3 if quick else 7)


def _one_at_a_time(
    commander: Commander, peer: ProcessPoolExecutor, where: str, target: Target, blocks: int
) -> Iterator[Figure]:
    ours: list[float] = []
    theirs: list[float] = []
    _block(commander.submit, [])
    _block(peer.submit, [])
    pairs = take_turns(
        lambda: _block(commander.submit, ours), lambda: _block(peer.submit, theirs), blocks
    )
    yield pairs.cost().figure(NAME, f"submit().result() p50, {where}", PPE, target)
    p99 = Pairs([_percentile(ours, 99)], [_percentile(theirs, 99)], pairs.neighbours)
    yield p99.cost().figure(NAME, f"submit().result() p99, {where}", PPE)


def _block(submit: Submit, into: list[float]) -> float:
    """Median seconds of a block of calls; each call's seconds are added to ``into``."""
    times = []
    for index in range(BLOCK):
        start = time.perf_counter()
        got = submit(tasks.noop, index).result()
        times.append(time.perf_counter() - start)
        if got != index:
            verify([got], [index], "submit")
    into.extend(times)
    return median(times)


def _percentile(values: list[float], percent: int) -> float:
    return sorted(values)[min(len(values) - 1, len(values) * percent // 100)]


def _in_flight(commander: Commander, peer: ProcessPoolExecutor, where: str, runs: int) -> Figure:
    pairs = take_turns(
        lambda: _burst(commander.submit, IN_FLIGHT),
        lambda: _burst(peer.submit, IN_FLIGHT_PPE),
        runs,
    )
    return pairs.speedup(IN_FLIGHT / IN_FLIGHT_PPE).figure(
        NAME,
        f"submit of {IN_FLIGHT:,} calls, then all results, {where}",
        PPE,
        None,
        f"calls a second; PPE measured at {IN_FLIGHT_PPE:,} calls, its time scaled up",
    )


def _burst(submit: Submit, calls: int) -> float:
    start = time.perf_counter()
    refs = [submit(tasks.noop, index) for index in range(calls)]
    got = [ref.result() for ref in refs]
    elapsed = time.perf_counter() - start
    verify(got, list(range(calls)), "submit")
    return elapsed
