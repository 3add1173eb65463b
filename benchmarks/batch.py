"""Batch: ``run`` of many tiny calls against ``Pool.map`` and ``ProcessPoolExecutor.map``."""

from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing.pool import Pool
from typing import Any

from benchmarks import tasks, work
from benchmarks.figure import Figure, Target, at_least
from benchmarks.harness import Pairs, commander_and_node, take_turns, timed
from benchmarks.peers import executor, pool
from goliath import Commander

NAME = "batch"
POOL = "x Pool.map"
SIZES = ((10_000, 0.9), (100_000, 1.4), (1_000_000, 1.8))
TARGET_PPE = 300
TARGET_NOOP = 3.0


def measure(quick: bool) -> Iterator[Figure]:
    """Against warm peers of two workers; each side gets the same list of dicts."""
    with pool() as peer, executor() as single, commander_and_node() as (commander, _):
        for calls, factor in SIZES:
            yield _seed(commander, peer, calls, at_least(factor), _runs(calls, quick))
        yield _chunksize_1(commander, single, quick)
        yield _noop(commander, peer, _runs(1_000_000, quick))
        yield _generator(commander, peer, _runs(100_000, quick))
        for kind in work.KINDS:
            yield _kind(commander, peer, kind, 20_000 if quick else 100_000, 3 if quick else 7)


def _runs(calls: int, quick: bool) -> int:
    full = {10_000: 41, 100_000: 11, 1_000_000: 5}[calls]
    return max(2, full // 2) if quick else full


def _against_pool(
    commander: Commander,
    peer: Pool,
    function: Callable[..., Any],
    twin: Callable[[work.Row], Any],
    rows: list[work.Row],
    runs: int,
) -> Pairs:
    want = [function(**row) for row in rows]
    ours = partial(timed, partial(commander.run, function, rows), want, "run")
    theirs = partial(timed, partial(peer.map, twin, rows), want, "Pool.map")
    if len(rows) < 1_000_000:  # the biggest ones come last, when everything is warm
        ours(), theirs()
    return take_turns(ours, theirs, runs)


def _seed(commander: Commander, peer: Pool, calls: int, target: Target, runs: int) -> Figure:
    rows = work.seed_rows(calls)
    pairs = _against_pool(commander, peer, tasks.foo, tasks.foo_of, rows, runs)
    return pairs.speedup().figure(NAME, f"run(foo), {calls:,} calls", POOL, target)


def _noop(commander: Commander, peer: Pool, runs: int) -> Figure:
    rows = work.noop_rows(1_000_000)
    pairs = _against_pool(commander, peer, tasks.noop, tasks.noop_of, rows, runs)
    name = "run(no-op of one int keyword), 1,000,000 calls"
    return pairs.speedup().figure(NAME, name, POOL, at_least(TARGET_NOOP))


def _chunksize_1(commander: Commander, single: ProcessPoolExecutor, quick: bool) -> Figure:
    calls, fewer = 100_000, 5_000 if quick else 20_000
    rows = work.seed_rows(calls)
    want = [tasks.foo(**row) for row in rows]
    pairs = take_turns(
        partial(timed, lambda: commander.run(tasks.foo, rows), want, "run"),
        partial(
            timed, lambda: list(single.map(tasks.foo_of, rows[:fewer])), want[:fewer], "PPE.map"
        ),
        3,
    )
    return pairs.speedup(calls / fewer).figure(
        NAME,
        f"run(foo), {calls:,} calls, chunksize=1",
        "x PPE.map",
        at_least(TARGET_PPE),
        f"PPE measured at {fewer:,} calls, its time scaled up",
    )


def _generator(commander: Commander, peer: Pool, runs: int) -> Figure:
    calls = 100_000
    want = [tasks.foo(**row) for row in work.seed_rows(calls)]

    def rows() -> Iterator[work.Row]:
        return work.foo_args(range(calls // 1000), range(1000))

    pairs = take_turns(
        partial(timed, lambda: commander.run(tasks.foo, rows()), want, "run"),
        partial(timed, lambda: peer.map(tasks.foo_of, rows()), want, "Pool.map"),
        runs,
    )
    note = "the dicts are made by the generator while the clock runs, for both"
    return pairs.speedup().figure(NAME, f"from a generator, {calls:,} calls", POOL, None, note)


def _kind(commander: Commander, peer: Pool, kind: work.Kind, calls: int, runs: int) -> Figure:
    rows = kind.rows(calls)
    pairs = _against_pool(commander, peer, kind.function, kind.twin, rows, runs)
    return pairs.speedup().figure(NAME, f"{kind.name}, {calls:,} calls", POOL)
