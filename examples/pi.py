"""Monte Carlo: π from random points, printed anew whenever another call has finished.

``static`` are the arguments that all calls have in common: they go to each node once. The
input is endless, and it is pulled only as results are consumed.
"""

import itertools
import random
import sys

from goliath import Commander


def hits(seed, points):
    """How many of so many random points in the unit square lie within the circle."""
    dice = random.Random(seed)
    return sum(dice.random() ** 2 + dice.random() ** 2 < 1 for _ in range(points))


POINTS = 50_000
GOAL = 0.001

with Commander(sys.argv[1:] or None) as cmdr:
    seeds = ({"seed": seed} for seed in itertools.count())
    inside = total = 0
    for found in cmdr.imap_unordered(hits, seeds, static={"points": POINTS}):
        inside += found
        total += POINTS
        estimate = 4 * inside / total
        # The standard error of the estimate, from the binomial distribution.
        error = 4 * (inside / total * (1 - inside / total) / total) ** 0.5
        print(f"\r{total:>10,} points: {estimate:.4f} ± {error:.4f}", end="", flush=True)
        if error < GOAL:
            break
print()
