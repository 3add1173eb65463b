"""A chain of dependent calls with big values: what of them passes the Commander, and how long it
takes, against a pool through whose client each value goes."""

from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from typing import Any

import goliath
from benchmarks import tasks
from benchmarks.figure import Figure, at_most
from benchmarks.harness import repeat, take_turns, timed
from benchmarks.node import lieutenant
from benchmarks.peers import WORKERS, executor
from benchmarks.procs import passed_bytes

NAME = "chain"
CALLS = 1000
PEER_CALLS = 200  # its time is scaled up
BYTES = 200 * 1024
VALUE = bytes(range(200)) * 1024


def measure(quick: bool) -> Iterator[Figure]:
    """Through a real node."""
    runs = 2 if quick else 5
    step = goliath.remote(tasks.turned)
    with executor() as peer, lieutenant(WORKERS) as node:
        goliath.init(node.address)
        try:
            _chained(step, 20)
            yield _passed(step, node.port, runs)
            yield _time(step, peer, runs)
        finally:
            goliath.shutdown()


def _chained(step: Any, calls: int) -> goliath.ObjectRef[bytes]:
    """All calls are made at once; the last one's result stays where it is."""
    ref: goliath.ObjectRef[bytes] = step.remote(VALUE)
    for _ in range(calls - 1):
        ref = step.remote(ref)
    goliath.wait([ref])
    return ref


def _passed(step: Any, port: int, runs: int) -> Figure:
    def once() -> float:
        before = passed_bytes(port)
        _chained(step, CALLS)
        return (passed_bytes(port) - before - BYTES) / CALLS  # but for the first argument

    name = f"{CALLS:,} dependent calls, {BYTES // 1024} KiB each, through the Commander"
    return repeat(once, runs).figure(NAME, name, "bytes/call", at_most(4096))


def _time(step: Any, peer: ProcessPoolExecutor, runs: int) -> Figure:
    ours = partial(timed, lambda: _chained(step, CALLS).result(), _last(CALLS), "chain")
    theirs = partial(timed, partial(_carried, peer), _last(PEER_CALLS), "executor")
    pairs = take_turns(ours, lambda: theirs() * CALLS / PEER_CALLS, runs)
    return pairs.cost().figure(
        NAME,
        f"{CALLS:,} dependent calls, {BYTES // 1024} KiB each, and the last value",
        "x PPE",
        note=f"the peer measured at {PEER_CALLS} calls, its time scaled up",
    )


def _carried(peer: ProcessPoolExecutor) -> bytes:
    value = VALUE
    for _ in range(PEER_CALLS):
        value = peer.submit(tasks.turned, value).result()
    return value


def _last(calls: int) -> bytes:
    """The value at the end of the chain."""
    return VALUE[calls % BYTES :] + VALUE[: calls % BYTES]
