"""Fairness: how long a newcomer waits on a node whose every slot is taken by another Commander."""

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks import tasks
from benchmarks.figure import Figure, at_most
from benchmarks.harness import WrongResultError, repeat
from benchmarks.node import Node, lieutenant
from goliath import Commander

NAME = "fairness"
WORKERS = 2
LONG_S = 10.0
TARGET_S = 2.0
CLAIM_MAX_S = 10.0


def measure(quick: bool) -> Iterator[Figure]:
    """Commander A fills the node with 10 s calls, then Commander B comes with one call."""

    def once() -> float:
        with lieutenant(WORKERS) as node, tempfile.TemporaryDirectory() as folder:
            return _wait_of_the_second(node, Path(folder))

    sample = repeat(once, 1 if quick else 3, worst=True)
    name = "first call of B starts beside 10 s calls of A"
    note = "B connects within it; the worst repetition counts"
    yield sample.figure(NAME, name, "s", at_most(TARGET_S), note)


def _wait_of_the_second(node: Node, folder: Path) -> float:
    with Commander([node.address]) as first:
        # More calls than slots: a freed slot alone must not be what lets B in.
        for index in range(3 * WORKERS):
            first.submit(tasks.claim, str(folder / str(index)), LONG_S)
        _await_claims(folder)
        with Commander([node.address]) as second:
            submitted = time.monotonic()
            bare = second.submit(tasks.nap, 0.0).result(timeout=3 * LONG_S)
        first.cancel()
    return tasks.Stamp(*bare).start - submitted


def _await_claims(folder: Path) -> None:
    deadline = time.monotonic() + CLAIM_MAX_S
    while len(list(folder.iterdir())) < WORKERS:
        if time.monotonic() > deadline:
            raise WrongResultError(f"A's calls did not fill the node within {CLAIM_MAX_S:g} s")
        time.sleep(0.01)
