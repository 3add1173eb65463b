"""``python -m tests.sim --seed S`` replays one seed with a trace; ``--seeds N`` runs many."""

from __future__ import annotations

import argparse
import sys
import time
import traceback

from tests.sim.cluster import STEPS_MAX, Cluster


def main() -> int:
    """Parse, run, say how it went."""
    parser = argparse.ArgumentParser(prog="python -m tests.sim", description=__doc__)
    parser.add_argument("--seed", type=int, default=0, help="the first seed")
    parser.add_argument("--seeds", type=int, default=1, help="how many, without a trace")
    parser.add_argument("--steps", type=int, default=STEPS_MAX, help="give up after so many")
    parser.add_argument("--quiet", action="store_true", help="no trace")
    options = parser.parse_args()
    if options.seeds == 1:
        return _replay(options.seed, options.steps, quiet=options.quiet)
    return _sweep(range(options.seed, options.seed + options.seeds), options.steps)


def _write(line: str) -> None:
    sys.stdout.write(line + "\n")


def _replay(seed: int, steps: int, *, quiet: bool) -> int:
    try:
        _write(repr(Cluster(seed, None if quiet else _write).run(steps)))
    except AssertionError:
        _write(traceback.format_exc())
        return 1
    return 0


def _sweep(seeds: range, steps: int) -> int:
    began, done, failed = time.perf_counter(), 0, 0
    for seed in seeds:
        cluster = Cluster(seed)
        try:
            cluster.run(steps)
        except Exception as exc:  # noqa: BLE001 - whatever breaks a mind is what we look for
            failed += 1
            _write(f"seed {seed}: {type(exc).__name__}: {str(exc)[:200]}")
        done += cluster.world.steps
    took = time.perf_counter() - began
    _write(
        f"{len(seeds)} seeds, {failed} failed, {done} steps in {took:.1f} s, "
        f"{done / took:.0f} steps/s"
    )
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
