"""An executor for whoever takes one: futures as they end, and asyncio.

``Executor`` is a ``concurrent.futures.Executor``. Code that was written for a
``ProcessPoolExecutor`` needs another first line, and no ``__main__`` guard.
"""

import asyncio
import sys
from concurrent.futures import as_completed

from goliath import Commander, Executor


def smallest_factor(n):
    """The smallest factor of a number above 1; the number itself if it is a prime."""
    factor = 2
    while factor * factor <= n:
        if n % factor == 0:
            return factor
        factor += 1
    return n


NUMBERS = [1_000_000_007, 999_999_000_001, 999_966_000_289, 1_000_000_000_039, 600_851_475_143]


async def primes(executor, limit):
    """Those below a limit, found while the loop is free for other things."""
    loop = asyncio.get_running_loop()
    calls = [loop.run_in_executor(executor, smallest_factor, n) for n in range(2, limit)]
    return [n for n, factor in enumerate(await asyncio.gather(*calls), 2) if factor == n]


with Commander(sys.argv[1:] or None) as cmdr, Executor(cmdr) as executor:
    futures = {executor.submit(smallest_factor, n): n for n in NUMBERS}
    for future in as_completed(futures):
        n = futures[future]
        print(n, "is a prime" if future.result() == n else f"= {future.result()} * ...")
    print("below 60:", *asyncio.run(primes(executor, 60)))
