"""A remote function that calls itself: quicksort, far deeper than there are workers.

python examples/recursion.py
"""

import random
import sys

import goliath


@goliath.remote
def quicksort(items: list[int]) -> list[int]:
    if len(items) < 2:
        return items
    pivot, *rest = items
    small = quicksort.remote([n for n in rest if n < pivot])
    big = quicksort.remote([n for n in rest if n >= pivot])
    return [*goliath.get(small), pivot, *goliath.get(big)]


def main() -> None:
    goliath.init(sys.argv[1:] or None)  # the Lieutenants named, else an embedded one
    numbers = random.Random(1).sample(range(1000), 200)
    assert goliath.get(quicksort.remote(numbers)) == sorted(numbers)
    print(f"{len(numbers)} numbers are sorted")
    goliath.shutdown()


main()
