"""Remote functions: many ``.remote()`` in flight, then all results, against the pools' futures;
``starmap`` against ``Commander.run``."""

import asyncio
import gc
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing.pool import Pool
from typing import Any

import goliath
from benchmarks import tasks, work
from benchmarks.figure import Figure, at_least, at_most
from benchmarks.harness import take_turns, timed, verify
from benchmarks.node import lieutenant
from benchmarks.peers import WORKERS, executor, pool
from goliath import Commander

NAME = "remote"
APPLY, SUBMIT = "x apply_async", "x PPE.submit"
PEER_CALLS = 3_000  # the peers take so long for each that their time is scaled up
GATHERED = 10_000
MAPPED = 100_000

Wait = Callable[[int], list[int]]


def measure(quick: bool) -> Iterator[Figure]:
    """Through a real node."""
    runs = 3 if quick else 7
    noop = goliath.remote(tasks.noop)
    with pool() as processes, executor() as peer, lieutenant(WORKERS) as node:
        commander = goliath.init(node.address)
        try:
            ours = partial(_refs, noop)
            ours(2000)
            for calls, least in ((10_000, 50), (100_000, 50), (1_000_000, 40)):
                fewer = runs if calls < 1_000_000 else 2
                yield _versus(ours, partial(_submitted, peer), calls, SUBMIT, least, fewer)
                if calls < 1_000_000:
                    yield _versus(ours, partial(_applied, processes), calls, APPLY, 15, fewer)
            yield _gathered(noop, peer, runs)
            yield _mapped(commander, runs)
            yield _kept()
        finally:
            goliath.shutdown()


def _refs(noop: Any, calls: int) -> list[int]:
    results: list[int] = goliath.get([noop.remote(x) for x in range(calls)])
    return results


def _submitted(peer: ProcessPoolExecutor, calls: int) -> list[int]:
    return [future.result() for future in [peer.submit(tasks.noop, x) for x in range(calls)]]


def _applied(processes: Pool, calls: int) -> list[int]:
    return [r.get() for r in [processes.apply_async(tasks.noop, (x,)) for x in range(calls)]]


def _versus(ours: Wait, theirs: Wait, calls: int, unit: str, least: float, runs: int) -> Figure:
    pairs = take_turns(
        lambda: timed(lambda: ours(calls), range_list(calls), "remote"),
        lambda: timed(lambda: theirs(PEER_CALLS), range_list(PEER_CALLS), unit),
        runs,
    )
    return pairs.speedup(calls / PEER_CALLS).figure(
        NAME,
        f"{calls:,} .remote() in flight, then get",
        unit,
        at_least(least),
        f"the peer measured at {PEER_CALLS:,} calls, its time scaled up",
    )


def _gathered(noop: Any, peer: ProcessPoolExecutor, runs: int) -> Figure:
    async def ours() -> Sequence[int]:
        return await asyncio.gather(*[noop.remote(x) for x in range(GATHERED)])

    async def theirs() -> Sequence[int]:
        loop = asyncio.get_running_loop()
        calls = [loop.run_in_executor(peer, tasks.noop, x) for x in range(PEER_CALLS)]
        return await asyncio.gather(*calls)

    pairs = take_turns(
        lambda: timed(lambda: asyncio.run(ours()), range_list(GATHERED), "gather"),
        lambda: timed(lambda: asyncio.run(theirs()), range_list(PEER_CALLS), "run_in_executor"),
        runs,
    )
    return pairs.speedup(GATHERED / PEER_CALLS).figure(
        NAME,
        f"asyncio.gather of {GATHERED:,} refs",
        "x run_in_executor",
        at_least(5),
        f"the peer measured at {PEER_CALLS:,} calls, its time scaled up",
    )


def _mapped(commander: Commander, runs: int) -> Figure:
    rows = [(row["bar"], row["baz"]) for row in work.seed_rows(MAPPED)]
    want = [tasks.foo(*row) for row in rows]
    foo = goliath.remote(tasks.foo)
    ours = partial(timed, lambda: goliath.get(foo.starmap(rows)), want, "starmap")
    theirs = partial(timed, lambda: commander.run(tasks.foo, rows), want, "run")
    ours(), theirs()
    name = f"get of starmap, {MAPPED:,} calls of the seed's function"
    return take_turns(ours, theirs, 2 * runs).cost().figure(NAME, name, "x run", at_most(1.5))


def _kept() -> Figure:
    """What Python objects take that are there because of the calls, as long as all is kept."""
    noop = goliath.remote(tasks.noop)
    tracemalloc.start()
    refs = noop.map(range(MAPPED))
    verify(goliath.get(refs), range_list(MAPPED), "map")
    gc.collect()
    held = tracemalloc.get_traced_memory()[0] / MAPPED
    tracemalloc.stop()
    name = f"memory held by a map of {MAPPED:,} no-ops, results included"
    return Figure(NAME, name, held, "bytes a call")


def range_list(calls: int) -> list[int]:
    return list(range(calls))
