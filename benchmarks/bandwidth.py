"""Bandwidth: what a transfer of a gibibyte does to the small calls beside it."""

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from benchmarks import tasks
from benchmarks.figure import Figure, at_most
from benchmarks.harness import repeat, take_turns
from benchmarks.node import ROOT, Node, lieutenant
from goliath import Commander

NAME = "bandwidth"
MIB = 1024 * 1024
PIECE_BYTES = 64 * MIB
WORKERS = 3  # one for the small calls, whatever the transfer takes
CALLS = 400
FEW_CALLS = 20
PERCENTILE = 0.99
BEGUN = "begun"


def measure(quick: bool) -> Iterator[Figure]:
    """Small calls of one Commander, alone and beside the transfer."""
    total = (256 if quick else 1024) * MIB
    runs = 3 if quick else 7
    with lieutenant(WORKERS) as node:
        with Commander([node.address]) as commander:
            _slowest(commander, 200)
            beside = partial(_beside, partial(_elsewhere, node, total), commander, CALLS)
            alone = partial(_slowest, commander, CALLS)
            name = f"p99 of small calls beside {total // MIB} MiB of another Commander"
            note = f"{CALLS} calls, one after the other; arguments of 64 MiB go up meanwhile"
            pairs = take_turns(beside, alone, runs)
            yield pairs.cost().figure(NAME, name, "x alone", at_most(3), note)
        with Commander([node.address]) as commander:
            _slowest(commander, 200)
            beside = partial(_beside, partial(_here, commander, total), commander, FEW_CALLS)
            name = f"slowest small call beside {total // MIB} MiB of the same Commander"
            sample = repeat(beside, 1 if quick else 3)
            yield sample.figure(NAME, name, "s", None, f"{FEW_CALLS} calls, from another thread")


def _slowest(commander: Commander, calls: int) -> float:
    """How long the slowest hundredth of some calls takes at least."""
    took = []
    for number in range(calls):
        began_at = time.perf_counter()
        commander.submit(tasks.noop, number).result()
        took.append(time.perf_counter() - began_at)
    took.sort()
    return took[int(calls * PERCENTILE)]


def _beside(beside, commander: Commander, calls: int) -> float:
    with beside():
        return _slowest(commander, calls)


@contextmanager
def _elsewhere(node: Node, total: int) -> Iterator[None]:
    code = f"from benchmarks.bandwidth import transfer; transfer({node.port}, {total})"
    child = subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    try:
        assert child.stdout.readline().strip() == BEGUN
        yield
    finally:
        child.terminate()
        child.wait()
        child.stdout.close()


def transfer(port: int, total: int) -> None:
    """Send so many bytes, again and again, until somebody ends this process."""
    piece = bytes(PIECE_BYTES)
    with Commander([("127.0.0.1", port)]) as commander:
        commander.run(tasks.size, [(b"",)])
        print(BEGUN, flush=True)
        while True:
            commander.run(tasks.size, [(piece,)] * (total // PIECE_BYTES), num_cpus=WORKERS - 1)


@contextmanager
def _here(commander: Commander, total: int) -> Iterator[None]:
    piece = bytes(PIECE_BYTES)
    enough = threading.Event()

    def transfer_here() -> None:
        while not enough.is_set():
            commander.run(tasks.size, [(piece,)] * (total // PIECE_BYTES), num_cpus=WORKERS - 1)

    thread = threading.Thread(target=transfer_here)
    thread.start()
    try:
        yield
    finally:
        enough.set()
        thread.join()
