"""A Commander that streams a long ``imap`` and reports the growth of its memory (for ``cpu``)."""

import json
import os
import sys
import time

from benchmarks import procs, tasks, work
from benchmarks.harness import WrongResultError
from goliath import Commander


def main(host: str, port: str, calls: str) -> int:
    """Print one line of JSON: growth of peak resident memory over what a short imap needed."""
    with Commander([(host, int(port))]) as commander:
        _stream(commander, 10_000)
        before = procs.rss_mib(os.getpid())
        start = time.perf_counter()
        _stream(commander, int(calls))
        elapsed = time.perf_counter() - start
        peak = procs.peak_rss_mib(os.getpid())
    print(json.dumps({"growth_mib": peak - before, "before_mib": before, "seconds": elapsed}))
    return 0


def _stream(commander: Commander, calls: int) -> None:
    rows = work.foo_args(range(calls // 1000), range(1000))
    seen = 0
    for seen, got in enumerate(commander.imap(tasks.foo, rows), 1):
        if got != f"{(seen - 1) // 1000}{(seen - 1) % 1000}":
            raise WrongResultError(f"imap: call {seen - 1} gave {got!r}")
    if seen != calls:
        raise WrongResultError(f"imap: {seen} results for {calls} calls")


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
