"""The work that is offloaded: rows of arguments, uneven durations, and the ideal schedules."""

import heapq
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any

from benchmarks import tasks

Row = dict[str, Any]


def foo_args(bar_range: Iterable[int], baz_range: Sequence[int]) -> Iterator[Row]:
    """The generator of the seed example."""
    for bar in bar_range:
        for baz in baz_range:
            yield {"bar": bar, "baz": baz}


def seed_rows(calls: int) -> list[Row]:
    return list(foo_args(range(calls // 1000), range(1000)))


def noop_rows(calls: int) -> list[Row]:
    return [{"x": i} for i in range(calls)]


@dataclass(frozen=True, slots=True)
class Kind:
    """A sort of rows that is less convenient than two ints and a str.

    Attributes:
        function: what Goliath runs with the row as keywords.
        twin: what ``Pool.map`` runs with the row as its only argument.
        row: makes the row of one index.
    """

    name: str
    function: Callable[..., Any]
    twin: Callable[[Row], Any]
    row: Callable[[int], Row]

    def rows(self, calls: int) -> list[Row]:
        return [self.row(i) for i in range(calls)]


def _mixed(i: int) -> Row:
    values = (i, i / 7, str(i), None, i % 2 == 0, bytes(str(i), "ascii"))
    return {"bar": values[i % len(values)], "baz": values[(i * 5 + 1) % len(values)]}


KINDS = (
    Kind("mixed scalars", tasks.foo, tasks.foo_of, _mixed),
    Kind("mutable arguments", tasks.foo, tasks.foo_of, lambda i: {"bar": [i], "baz": {"k": i}}),
    Kind(
        "non-scalar arguments",
        tasks.foo,
        tasks.foo_of,
        lambda i: {"bar": (i, date(2000, 1, 1 + i % 28)), "baz": Decimal(i)},
    ),
    Kind("non-scalar results", tasks.pair, tasks.pair_of, lambda i: {"bar": i, "baz": -i}),
)


def heavy_tail(
    calls: int = 200, low: float = 0.001, high: float = 0.5, mean: float = 0.0075, seed: int = 7
) -> list[float]:
    """Pareto durations in seconds, clipped to low..high, that add up to ``calls * mean``."""
    rng = random.Random(seed)
    raw = [min(high, low * rng.paretovariate(0.75)) for _ in range(calls)]
    for _ in range(20):
        scale = calls * mean / sum(raw)
        raw = [min(high, max(low, x * scale)) for x in raw]
    return raw


def shuffled(items: Sequence[float], seed: int = 11) -> list[float]:
    """In an order that the seed decides."""
    out = list(items)
    random.Random(seed).shuffle(out)
    return out


def greedy_s(durations: Iterable[float], slowdowns: Sequence[float]) -> float:
    """Makespan when each call goes, in order and at no cost, to the worker that is free first."""
    free = [(0.0, worker) for worker in range(len(slowdowns))]
    last = 0.0
    for duration in durations:
        start, worker = heapq.heappop(free)
        end = start + duration * slowdowns[worker]
        heapq.heappush(free, (end, worker))
        last = max(last, end)
    return last


def split_s(durations: Iterable[float], slowdowns: Sequence[float]) -> float:
    """Makespan if the work could be split at any point in proportion to the speeds."""
    return sum(durations) / sum(1 / slowdown for slowdown in slowdowns)


def longest_idle_s(stamps: Sequence[tasks.Stamp], workers: int) -> float:
    """Longest time that one worker did nothing while there were calls that had not started.

    A call counts as not started until the ``start`` of its stamp. A worker that never had a
    call idled from the first start to the last.
    """
    first, last = min(s.start for s in stamps), max(s.start for s in stamps)
    by_worker: dict[int, list[tasks.Stamp]] = {}
    for stamp in sorted(stamps, key=lambda s: s.start):
        by_worker.setdefault(stamp.pid, []).append(stamp)
    idle = [last - first] if len(by_worker) < workers else [0.0]
    for own in by_worker.values():
        ends = [first, *(s.end for s in own)]
        starts = [*(s.start for s in own), last]
        idle.extend(start - end for end, start in zip(ends, starts, strict=True))
    return max(idle)
