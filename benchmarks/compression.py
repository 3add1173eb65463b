"""Compression: what 100 Mbit/s carry with it and without, and what it costs where it is off."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from benchmarks import tasks
from benchmarks.figure import Figure, at_least, at_most
from benchmarks.harness import take_turns, timed
from benchmarks.narrow import narrow
from benchmarks.node import lieutenant
from goliath import Commander

NAME = "compression"
LINK_BYTES_S = 12.5e6
KNOB = "GOLIATH_COMPRESS_BELOW_BYTES_S"
ROWS = 12_000  # of dicts, about a mebibyte when pickled
LINES = 27_000  # of text, as much
CALLS = 32
Address = tuple[str, int]


def measure(quick: bool) -> Iterator[Figure]:
    """Arguments of dicts one way, results of text the other, each by itself."""
    runs = 1 if quick else 5
    rows = [tasks.row(number) for number in range(ROWS)]
    calls = CALLS // 2 if quick else CALLS
    up = partial(_took, tasks.count, [(rows,)] * calls, [ROWS] * calls)
    down = partial(_took, tasks.log, [(LINES,)] * calls, [tasks.log(LINES)] * calls)
    note = f"{calls} calls of a mebibyte each, a new session each time"
    nothing = {"GOLIATH_ARENA_BYTES": "0"}  # its memory could be shared past any proxy
    with lieutenant(2, nothing) as node, narrow(node, LINK_BYTES_S) as slow:
        for name, way in (("arguments of dicts", up), ("results of text", down)):
            pairs = take_turns(partial(way, slow), partial(_without, way, slow), runs)
            name = f"{name} over 100 Mbit/s"
            yield pairs.speedup().figure(NAME, name, "x without", at_least(2), note)
    with lieutenant(2) as node:
        pairs = take_turns(partial(up, node.address), partial(_without, up, node.address), 3 * runs)
        name = "arguments of dicts within a machine, where it is off"
        yield pairs.cost().figure(NAME, name, "x without", at_most(1.15), note)


def _took(function: Any, calls: list[Any], want: list[Any], address: Address) -> float:
    with Commander([address]) as commander:
        commander.run(tasks.noop, [(0,)] * 4)  # the workers are there
        return timed(lambda: commander.run(function, calls, batch_size=1), want, NAME)


def _without(way: Any, address: Address) -> float:
    with _off():
        took: float = way(address)
        return took


@contextmanager
def _off() -> Iterator[None]:
    os.environ[KNOB] = "0"
    try:
        yield
    finally:
        del os.environ[KNOB]
