"""How things are measured: interleaved repetitions, ratios with spread, verified results."""

import gc
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median
from typing import Any

from benchmarks import tasks
from benchmarks.figure import Figure, Target
from benchmarks.node import lieutenant
from benchmarks.procs import Neighbours
from goliath import Commander

WARM_MAX_S = 20.0


class WrongResultError(AssertionError):
    """What came back is not what the function returns: the timing is worth nothing."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One figure over its repetitions."""

    value: float
    best: float
    low: float
    high: float
    runs: int
    neighbours: float
    detail: dict[str, Any]

    def figure(
        self, benchmark: str, name: str, unit: str, target: Target | None = None, note: str = ""
    ) -> Figure:
        return Figure(
            benchmark=benchmark,
            name=name,
            value=self.value,
            unit=unit,
            target=target,
            best=self.best,
            low=self.low,
            high=self.high,
            runs=self.runs,
            neighbours=round(self.neighbours, 2),
            note=note,
            detail=self.detail,
        )


@dataclass(frozen=True, slots=True)
class Pairs:
    """Repetitions of Goliath and of a peer, taken in turns in the same run."""

    ours: Sequence[float]
    theirs: Sequence[float]
    neighbours: float

    def speedup(self, scale: float = 1.0) -> Sample:
        """How many times the peer's throughput; ``scale`` calls of ours for each of theirs."""
        return self._ratio(self.theirs, self.ours, scale)

    def cost(self) -> Sample:
        """Ours as a multiple of the peer's."""
        return self._ratio(self.ours, self.theirs, 1.0)

    def _ratio(self, over: Sequence[float], under: Sequence[float], scale: float) -> Sample:
        each = [scale * a / b for a, b in zip(over, under, strict=True)]
        return Sample(
            value=scale * median(over) / median(under),
            best=scale * min(over) / min(under),
            low=min(each),
            high=max(each),
            runs=len(each),
            neighbours=self.neighbours,
            detail={"goliath": median(self.ours), "peer": median(self.theirs)},
        )


def take_turns(ours: Callable[[], float], theirs: Callable[[], float], runs: int) -> Pairs:
    """Measure both ``runs`` times: ours, theirs, ours, theirs; what they return is the figure."""
    got: list[float] = []
    base: list[float] = []
    with Neighbours() as neighbours:
        for _ in range(runs):
            got.append(ours())
            base.append(theirs())
    return Pairs(got, base, neighbours.cores)


def repeat(once: Callable[[], float], runs: int, *, worst: bool = False) -> Sample:
    """Measure ``runs`` times; the value is the median, or with ``worst`` the largest."""
    with Neighbours() as neighbours:
        got = [once() for _ in range(runs)]
    value = max(got) if worst else median(got)
    return Sample(
        value, min(got), min(got), max(got), runs, neighbours.cores, {"all": [*map(_round, got)]}
    )


def _round(value: float) -> float:
    return float(f"{value:.4g}")


def timed(call: Callable[[], Any], want: Sequence[Any], what: str) -> float:
    """Wall seconds of ``call()``, whose result must be ``want``; checked after the clock stopped.

    The garbage of the last repetition is collected before the clock starts, so that nobody pays
    for another's.
    """
    gc.collect()
    start = time.perf_counter()
    got = call()
    elapsed = time.perf_counter() - start
    verify(got, want, what)
    return elapsed


def verify(got: Sequence[Any], want: Sequence[Any], what: str) -> None:
    """Raise unless the two are equal, naming the first difference."""
    if len(got) != len(want):
        raise WrongResultError(f"{what}: {len(got)} results for {len(want)} calls")
    if got == want:
        return
    for index, (a, b) in enumerate(zip(got, want, strict=True)):
        if a != b:
            raise WrongResultError(f"{what}: call {index} gave {a!r:.200}, expected {b!r:.200}")


def warm(commander: Commander, workers: int) -> set[int]:
    """Have every worker forked, without teaching the Commander what the measured calls cost."""
    deadline = time.monotonic() + WARM_MAX_S
    pids: set[int] = set()
    while len(pids) < workers:
        if time.monotonic() > deadline:
            raise WrongResultError(
                f"only {len(pids)} of {workers} workers took calls in {WARM_MAX_S:g} s"
            )
        pids = set(commander.run(tasks.whoami, [{"index": i} for i in range(4 * workers)]))
    return pids


@contextmanager
def commander_and_node(workers: int = 2) -> Iterator[tuple[Commander, Any]]:
    """A Commander on one real Lieutenant process, over a real websocket; workers are warm."""
    with lieutenant(workers) as node, Commander([node.address]) as commander:
        warm(commander, workers)
        yield commander, node
