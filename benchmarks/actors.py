"""Actors: one call at a time and many in flight, against an object behind a
``multiprocessing.managers`` proxy (the standard library's actor); many actors at once.

Ray, xoscar, Pyro5 and rpyc are measured by the harness of ``peers`` (workload W4), if they are
installed; here they are not, and no figure stands for them.
"""

import gc
import os
import time
from collections.abc import Iterator
from multiprocessing.managers import BaseManager
from statistics import median
from typing import Any

import goliath
from benchmarks.figure import Figure, at_least, at_most
from benchmarks.harness import repeat, take_turns
from benchmarks.node import lieutenant
from benchmarks.peers import WORKERS
from benchmarks.procs import pss_mib

NAME = "actors"
MANAGER = "x manager"
SYNC = 300
IN_FLIGHT = 20_000
MANY = 1000


class Plain:
    """Counts."""

    def __init__(self) -> None:
        self.n = 0

    def add(self, k: int) -> int:
        self.n += k
        return self.n

    def pid(self) -> int:
        return os.getpid()


class PlainManager(BaseManager):
    """Serves it."""


PlainManager.register("Plain", Plain)


def measure(quick: bool) -> Iterator[Figure]:
    """Through a real node."""
    runs = 3 if quick else 7
    counter = goliath.remote(Plain)
    with PlainManager() as manager, lieutenant(WORKERS) as node:
        proxy: Any = manager.Plain()  # type: ignore[attr-defined]  # made by register
        goliath.init(node.address)
        try:
            actor = counter.remote()
            goliath.get(actor.add.remote(0))
            pairs = take_turns(lambda: _one_by_one(actor), lambda: _proxied(proxy), runs)
            yield pairs.speedup().figure(NAME, "call and wait", MANAGER)
            pairs = take_turns(lambda: _in_flight(actor), lambda: _proxied(proxy), runs)
            scale = IN_FLIGHT / SYNC
            yield pairs.speedup(scale).figure(
                NAME, f"{IN_FLIGHT:,} calls in flight", MANAGER, None, "it has one at a time"
            )
            ready = repeat(lambda: _ready(counter), runs * 5)
            yield ready.figure(NAME, "from .remote() to the first result", "ms", at_most(10))
            yield from _many(counter)
        finally:
            goliath.shutdown()


def _one_by_one(actor: Any) -> float:
    start = time.perf_counter()
    for _ in range(SYNC):
        goliath.get(actor.add.remote(1))
    return time.perf_counter() - start


def _proxied(proxy: Any) -> float:
    start = time.perf_counter()
    for _ in range(SYNC):
        proxy.add(1)
    return time.perf_counter() - start


def _in_flight(actor: Any) -> float:
    gc.collect()
    start = time.perf_counter()
    results = goliath.get([actor.add.remote(1) for _ in range(IN_FLIGHT)])
    elapsed = time.perf_counter() - start
    assert results[-1] - results[0] == IN_FLIGHT - 1
    return elapsed


def _ready(counter: Any) -> float:
    start = time.perf_counter()
    goliath.get(counter.remote().add.remote(1))
    return (time.perf_counter() - start) * 1e3


def _many(counter: Any) -> Iterator[Figure]:
    """A thousand actors at once, and what is left of them."""
    start = time.perf_counter()
    actors = [counter.remote() for _ in range(MANY)]
    pids = goliath.get([actor.pid.remote() for actor in actors])
    made = time.perf_counter() - start
    assert len(set(pids)) == MANY
    sizes = [pss_mib(pid) for pid in pids[:: MANY // 50]]
    detail = {"seconds": round(made, 2)}
    yield Figure(NAME, f"PSS of each of {MANY}", median(sizes), "MiB", at_most(6), detail=detail)
    start = time.perf_counter()
    del actors
    gc.collect()
    while left := sum(os.path.exists(f"/proc/{pid}") for pid in pids):
        assert time.perf_counter() - start < 60, f"{left} of {MANY} actors are still there"
        time.sleep(0.05)
    rate = MANY / (made + time.perf_counter() - start)
    yield Figure(NAME, "actors made and ended a second", rate, "1/s", at_least(50))
