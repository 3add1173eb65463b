"""The command: ``python -m tests.chaos --seed 1 --calls 100000``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from tests.chaos.storm import Report, raise_storm


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 0 all promises were kept, 1 one was not."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="of what breaks, and when")
    parser.add_argument("--calls", type=int, default=10_000, help="faults grow with them")
    options = parser.parse_args(argv)
    try:
        report = raise_storm(options.seed, options.calls)
    except BaseException:
        print(f"ended early; again: {Report(options.seed, options.calls).command()}", flush=True)
        raise
    for line in report.lines():
        print(line, flush=True)
    return 1 if report.complaints else 0


if __name__ == "__main__":
    sys.exit(main())
