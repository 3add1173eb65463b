"""A parameter sweep: every combination is a call, and results are used as they come.

python examples/sweep.py
"""

import itertools
import sys

import goliath


@goliath.remote
def bounces(height: float, restitution: float) -> int:
    """How often a ball that falls from ``height`` metres jumps higher than a millimetre."""
    count = 0
    while height > 0.001:
        height *= restitution**2
        count += 1
    return count


def main() -> None:
    goliath.init(sys.argv[1:] or None)  # the Lieutenants named, else an embedded one
    grid = itertools.product((0.5, 1.0, 2.0), (0.5, 0.7, 0.9))
    refs = {bounces.remote(*point): point for point in grid}
    found = {refs[ref]: ref.result() for ref in goliath.as_completed(refs)}
    for (height, restitution), count in sorted(found.items()):
        print(f"from {height:.1f} m at {restitution:.1f}: {count} bounces")
    goliath.shutdown()


main()
