"""``python -m tests.sim --seed S`` replays one seed with a trace; ``--seeds N`` runs many, and
``--long`` as many as a change to a mind has to stand before it is finished."""

from __future__ import annotations

import argparse
import os
import sys
import time
import traceback

from tests.sim.cluster import STEPS_MAX, Cluster
from tests.sim.sweep import sweep_all
from tests.sim.tally import table

LONG_SEEDS = 5_000
"""Ten million steps: four minutes on two cores."""


def main() -> int:
    """Parse, run, say how it went."""
    parser = argparse.ArgumentParser(prog="python -m tests.sim", description=__doc__)
    parser.add_argument("--seed", type=int, default=0, help="the first seed")
    many = parser.add_mutually_exclusive_group()
    many.add_argument("--seeds", type=int, default=1, help="how many, without a trace")
    many.add_argument(
        "--long", dest="seeds", action="store_const", const=LONG_SEEDS, help=f"{LONG_SEEDS} of them"
    )
    parser.add_argument("--steps", type=int, default=STEPS_MAX, help="give up after so many")
    parser.add_argument("--quiet", action="store_true", help="no trace")
    parser.add_argument(
        "--processes",
        type=int,
        default=len(os.sched_getaffinity(0)),
        help="that many at a time (default: the usable CPUs)",
    )
    options = parser.parse_args()
    if options.seeds == 1:
        return _replay(options.seed, options.steps, quiet=options.quiet)
    seeds = range(options.seed, options.seed + options.seeds)
    return _sweep(seeds, options.steps, options.processes)


def _write(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _replay(seed: int, steps: int, *, quiet: bool) -> int:
    cluster = Cluster(seed, None if quiet else _write)
    try:
        report = cluster.run(steps)
    except Exception:  # noqa: BLE001 - whatever breaks a mind is what we look for
        _write(traceback.format_exc())
        return 1
    _write(f"{report!r}\n{table(report.tally)}")
    return 0


def _sweep(seeds: range, steps: int, processes: int) -> int:
    began = time.perf_counter()
    whole = sweep_all(seeds, steps, processes, _write)
    took = time.perf_counter() - began
    _write(
        f"{table(whole.tally)}\n"
        f"{whole.seeds} seeds, {len(whole.failures)} failed, {whole.steps} steps in {took:.1f} s "
        f"({whole.cpu_s:.1f} s of CPU), {whole.steps / took:.0f} steps/s"
    )
    return bool(whole.failures)


if __name__ == "__main__":
    sys.exit(main())
