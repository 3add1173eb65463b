"""Footprint: memory and CPU of an idle node, start-up times, replacement of a killed worker."""

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks import procs, tasks
from benchmarks.figure import Figure, at_most
from benchmarks.harness import WrongResultError, commander_and_node, repeat, take_turns, warm
from benchmarks.node import Node
from goliath import Commander

NAME = "footprint"
WORKERS = 2
IDLE_S = 10.0
SETTLE_S = 1.0  # what a node does after its last call (flushes, acknowledgements) is not idling

SCRIPT = '''"""Ten calls on the embedded cluster, as a user writes them."""
from goliath import Commander


def foo(bar, baz):
    return str(bar) + str(baz)


commander = Commander(workers=2)
print(commander.run(foo, ({"bar": i, "baz": i} for i in range(10))))
'''
PRINTED = str([str(i) + str(i) for i in range(10)]) + "\n"


def measure(quick: bool) -> Iterator[Figure]:
    """Start-up first: it wants a machine on which nothing of ours runs."""
    yield _import_time(10 if quick else 30)
    yield _whole_script(5 if quick else 15)
    with commander_and_node(WORKERS) as (commander, node):
        yield from _idle(node)
        yield _replacement(commander, 5 if quick else 15)


def _python(*arguments: str, printed: str = "") -> float:
    """Wall seconds of a whole Python process."""
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, *arguments], stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    elapsed = time.perf_counter() - start
    if done.returncode or done.stdout != printed:
        raise WrongResultError(
            f"python {' '.join(arguments)} exited with {done.returncode}, printed "
            f"{done.stdout[-500:]!r} and {done.stderr[-2000:]}"
        )
    return elapsed


def _import_time(runs: int) -> Figure:
    _python("-c", "import goliath, sys; sys.exit('aiohttp' in sys.modules)")
    pairs = take_turns(lambda: _python("-c", "import goliath"), lambda: _python("-c", "pass"), runs)
    each = sorted(1000 * (a - b) for a, b in zip(pairs.ours, pairs.theirs, strict=True))
    return Figure(
        NAME,
        "import goliath, over bare Python; aiohttp not imported",
        each[runs // 2],
        "ms",
        at_most(10),
        best=1000 * (min(pairs.ours) - min(pairs.theirs)),
        low=each[0],
        high=each[-1],
        runs=runs,
        neighbours=round(pairs.neighbours, 2),
    )


def _whole_script(runs: int) -> Figure:
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder, "script.py")
        script.write_text(SCRIPT)
        _python(str(script), printed=PRINTED)
        pairs = take_turns(
            lambda: _python(str(script), printed=PRINTED),
            lambda: _python("-c", "import aiohttp"),
            runs,
        )
    name = "script of 10 calls on the embedded cluster, start to exit"
    return pairs.cost().figure(
        NAME, name, "x aiohttp", at_most(1.3), "x python -c 'import aiohttp'"
    )


def _idle(node: Node) -> Iterator[Figure]:
    """One session connected, its workers alive, nothing to do."""
    time.sleep(SETTLE_S)
    pids = node.pids()
    if len(pids) < 2 + WORKERS:
        raise WrongResultError(f"expected lieutenant, zygote and {WORKERS} workers, found {pids}")
    memory = {pid: procs.pss_mib(pid) for pid in pids}
    yield Figure(
        NAME,
        f"idle: lieutenant, zygote and {WORKERS} workers",
        sum(memory.values()),
        "MiB PSS",
        at_most(55),
        detail={"each_mib": [round(mib, 1) for mib in memory.values()]},
    )
    own, spent, start = time.process_time(), procs.cpu_of_all_s(pids), time.monotonic()
    time.sleep(IDLE_S)
    elapsed = time.monotonic() - start
    yield Figure(
        NAME,
        f"idle: the same processes over {IDLE_S:g} s",
        100 * (procs.cpu_of_all_s(pids) - spent) / elapsed,
        "% of a core",
        at_most(0.2),
        detail={"commander_percent": 100 * (time.process_time() - own) / elapsed},
    )


def _replacement(commander: Commander, runs: int) -> Figure:
    def once() -> float:
        return 1000 * _recovery_s(commander)

    return repeat(once, runs).figure(
        NAME,
        "kill -9 of a busy worker to the first call in its successor",
        "ms",
        at_most(15),
    )


def _recovery_s(commander: Commander) -> float:
    """Kill one of the workers amid 5 ms naps; the stamps tell when a new process had a call."""
    before = warm(commander, WORKERS)
    victim = min(before)
    killed: list[float] = []

    def kill() -> None:
        killed.append(time.monotonic())
        os.kill(victim, signal.SIGKILL)

    timer = threading.Timer(0.1, kill)
    timer.start()
    try:
        got = commander.run(tasks.nap, [{"seconds": 0.005}] * 100)
    finally:
        timer.cancel()
        timer.join()
    stamps = [tasks.Stamp(*bare) for bare in got]
    successors = [stamp.start for stamp in stamps if stamp.pid not in before]
    if not killed or not successors:
        raise WrongResultError(f"no call ran in a successor of worker {victim}")
    return min(successors) - killed[0]
