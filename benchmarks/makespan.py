"""Makespan: how close uneven work comes to the best schedule, and whether workers ever idle."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from multiprocessing.pool import Pool
from statistics import median

from benchmarks import tasks, work
from benchmarks.figure import Figure, at_least, at_most
from benchmarks.harness import commander_and_node, repeat, take_turns, timed, verify, warm
from benchmarks.node import lieutenant
from benchmarks.peers import pool
from goliath import Commander

NAME = "makespan"
WORKERS = 2
SLOW = 4.0
SHARES = ((0.0001, 10_000, 88), (0.001, 1_000, 93), (0.01, 200, 96))
IDLE_MAX_MS = 20

Timed = Callable[[float], tasks.Bare]


def measure(quick: bool) -> Iterator[Figure]:
    """Naps where only scheduling is asked about, spins where overhead is."""
    runs = 3 if quick else 7
    with pool() as peer:
        with commander_and_node(WORKERS) as (commander, _):
            yield from _heavy_tail(commander, runs)
            yield from _shares(commander, peer, runs)
            yield _idle(commander, "one node", runs)
        with _two_nodes("1") as commander:
            yield _idle(commander, "two nodes", runs)
        with _two_nodes(str(SLOW)) as commander:
            yield from _mixed_speeds(commander, runs)


@contextmanager
def _two_nodes(slowdown: str) -> Iterator[Commander]:
    """Two Lieutenants of one worker each; ``slowdown`` is the second one's."""
    with ExitStack() as stack:
        nodes = [
            stack.enter_context(lieutenant(1, {tasks.SLOWDOWN: factor}))
            for factor in ("1", slowdown)
        ]
        commander = stack.enter_context(Commander([node.address for node in nodes]))
        warm(commander, WORKERS)
        yield commander


def _run(
    commander: Commander, function: Timed, durations: Sequence[float]
) -> tuple[float, list[tasks.Stamp]]:
    rows = [{"seconds": seconds} for seconds in durations]
    start = time.perf_counter()
    got = commander.run(function, rows)
    elapsed = time.perf_counter() - start
    stamps = [tasks.Stamp(*bare) for bare in got]
    verify([stamp.seconds for stamp in stamps], durations, "run")
    return elapsed, stamps


def _heavy_tail(commander: Commander, runs: int) -> Iterator[Figure]:
    durations = sorted(work.heavy_tail())
    for function, kind in ((tasks.nap, "naps"), (tasks.spin, "spins")):
        over_taken: list[float] = []

        def once(function: Timed = function, over_taken: list[float] = over_taken) -> float:
            elapsed, stamps = _run(commander, function, durations)
            taken = [stamp.end - stamp.start for stamp in stamps]
            over_taken.append(elapsed / work.greedy_s(taken, [1] * WORKERS))
            return elapsed / work.greedy_s(durations, [1] * WORKERS)

        sample = repeat(once, runs)
        sample.detail["over_greedy_of_the_times_taken"] = [round(x, 3) for x in over_taken]
        name = f"200 Pareto calls, longest last, {kind}"
        yield sample.figure(NAME, name, "x greedy", at_most(1.05))


def _mixed_speeds(commander: Commander, runs: int) -> Iterator[Figure]:
    speeds = [1.0, SLOW]
    tail = work.shuffled(work.heavy_tail())
    for durations, name, target in (
        (tail, "200 Pareto calls, shuffled", at_most(1.10)),
        ([0.005] * 400, "400 calls of 5 ms", None),
    ):
        ideal = work.split_s(durations, speeds)
        sample = repeat(lambda d=durations, i=ideal: _run(commander, tasks.nap, d)[0] / i, runs)
        sample.detail["greedy_over_split"] = work.greedy_s(durations, speeds) / ideal
        yield sample.figure(NAME, f"two nodes, one 4 x slower, {name}", "x split", target, "naps")


def _shares(commander: Commander, peer: Pool, runs: int) -> Iterator[Figure]:
    """Share of the ideal; a pool with automatic chunks is measured beside it."""
    for seconds, calls, target in SHARES:
        rows = [{"seconds": seconds}] * calls
        want = [seconds] * calls
        ideal = seconds * calls / WORKERS
        pairs = take_turns(
            partial(timed, partial(commander.run, tasks.burn, rows), want, "run"),
            partial(timed, partial(peer.map, tasks.burn_of, rows), want, "Pool.map"),
            runs,
        )
        shares = [100 * ideal / wall for wall in pairs.ours]
        yield Figure(
            NAME,
            f"share of the ideal, {calls:,} calls of {seconds * 1000:g} ms",
            median(shares),
            "%",
            at_least(target),
            best=max(shares),
            low=min(shares),
            high=max(shares),
            runs=runs,
            neighbours=round(pairs.neighbours, 2),
            note="spins",
            detail={"pool_percent": 100 * ideal / median(pairs.theirs)},
        )


def _idle(commander: Commander, where: str, runs: int) -> Figure:
    """1,000 calls whose last ten are 100 x longer; the stamps tell who idled and when."""
    durations = [0.001] * 990 + [0.1] * 10

    def once() -> float:
        _, stamps = _run(commander, tasks.nap, durations)
        return 1000 * work.longest_idle_s(stamps, WORKERS)

    return repeat(once, runs, worst=True).figure(
        NAME,
        f"longest idle time beside un-started calls, {where}",
        "ms",
        at_most(IDLE_MAX_MS),
        "naps; the worst repetition counts",
    )
