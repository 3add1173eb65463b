"""Stragglers: what a few calls that take too long cost, with ``speculate=True`` and without."""

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

from benchmarks import tasks
from benchmarks.figure import Figure, at_most
from benchmarks.harness import take_turns, timed, warm
from benchmarks.node import lieutenant
from goliath import Commander

NAME = "stragglers"
NODES, WORKERS = 2, 2
CALLS, CALL_S = 200, 0.02
SLOW, SLOW_S = (60, 140), 3.0
TARGET = 0.6
COST_MAX = 1.1


def measure(quick: bool) -> Iterator[Figure]:
    """200 calls of 20 ms on two nodes; two of them take 3 s wherever they are made first."""
    runs = 3 if quick else 7
    with _cluster() as commander:
        for slow, name, target in (
            (
                SLOW,
                f"{len(SLOW)} of {CALLS} calls of {1000 * CALL_S:g} ms take {SLOW_S:g} s",
                TARGET,
            ),
            ((), f"{CALLS} calls of {1000 * CALL_S:g} ms, none of them late", COST_MAX),
        ):
            once = partial(_run, commander, slow)
            pairs = take_turns(partial(once, True), partial(once, False), runs)
            yield pairs.cost().figure(
                NAME, name, "x without", at_most(target), "naps; the detail has seconds"
            )


@contextmanager
def _cluster() -> Iterator[Commander]:
    with ExitStack() as stack:
        nodes = [stack.enter_context(lieutenant(WORKERS)) for _ in range(NODES)]
        commander = stack.enter_context(Commander([node.address for node in nodes]))
        warm(commander, NODES * WORKERS)
        yield commander


def _run(commander: Commander, slow: tuple[int, ...], speculate: bool) -> float:
    with tempfile.TemporaryDirectory() as folder:
        rows = [
            {
                "index": index,
                "seconds": CALL_S,
                "path": str(Path(folder, str(index))) if index in slow else "",
                "first_s": SLOW_S,
            }
            for index in range(CALLS)
        ]
        call = partial(commander.run, tasks.straggle, rows, speculate=speculate)
        return timed(call, list(range(CALLS)), f"run with speculate={speculate}")
