"""Many seeds, on as many processes as there are CPUs: what failed, and what was seen."""

from __future__ import annotations

import gc
import multiprocessing
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

from tests.sim.cluster import STEPS_MAX, Cluster
from tests.sim.tally import Tally

CHUNK = 25
"""Seeds that a process takes at a time."""
GARBAGE = 50_000
"""New objects before a search for cycles among them: 700, as usual, take 9 % of the time."""


@dataclass(slots=True)
class Sweep:
    """What became of some seeds.

    Attributes:
        steps: things that happened in them, in all.
        cpu_s: what they took of the CPUs.
        failures: by the seed, in one line.
    """

    seeds: int = 0
    steps: int = 0
    cpu_s: float = 0.0
    failures: dict[int, str] = field(default_factory=dict)
    tally: Tally = field(default_factory=Tally)

    def add(self, other: Sweep) -> None:
        """Count what became of others, too."""
        self.seeds += other.seeds
        self.steps += other.steps
        self.cpu_s += other.cpu_s
        self.failures.update(other.failures)
        self.tally.update(other.tally)


def replay_command(seed: int, steps_max: int = STEPS_MAX) -> str:
    """What runs a seed again, with a trace."""
    steps = "" if steps_max == STEPS_MAX else f" --steps {steps_max}"
    return f"python -m tests.sim --seed {seed}{steps}"


def run_seeds(seeds: Sequence[int], steps_max: int = STEPS_MAX) -> Sweep:
    """Run some, here."""
    sweep, began = Sweep(), time.process_time()
    for seed in seeds:
        cluster = Cluster(seed)
        try:
            cluster.run(steps_max)
        except Exception as exc:  # noqa: BLE001 - whatever breaks a mind is what we look for
            sweep.failures[seed] = f"{type(exc).__name__}: {str(exc)[:200]}"
        sweep.seeds += 1
        sweep.steps += cluster.world.steps
        sweep.tally.update(cluster.world.tally)
    sweep.cpu_s = time.process_time() - began
    return sweep


def sweep_all(seeds: range, steps_max: int, processes: int, write: Callable[[str], None]) -> Sweep:
    """Run them all, each failure written down as soon as it is known."""
    whole = Sweep()
    for part in _parts(seeds, steps_max, processes):
        whole.add(part)
        for seed, what in part.failures.items():
            write(f"seed {seed}: {what}\n    replay it: {replay_command(seed, steps_max)}")
    return whole


def _parts(seeds: range, steps_max: int, processes: int) -> Iterator[Sweep]:
    chunks = [seeds[at : at + CHUNK] for at in range(0, len(seeds), CHUNK)]
    run = partial(run_seeds, steps_max=steps_max)
    if processes == 1 or len(chunks) == 1:
        yield from map(run, chunks)
        return
    # Forked: what was put in the place of a mind (a sabotage) is there, too.
    gc.freeze()  # what is there already need not be looked through, nor copied for that
    sys.stdout.flush()
    with multiprocessing.get_context("fork").Pool(
        processes, initializer=gc.set_threshold, initargs=(GARBAGE,)
    ) as pool:
        yield from pool.imap_unordered(run, chunks)
        pool.close()
        pool.join()
