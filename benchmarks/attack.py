"""Attack load: what an honest Commander notices while strangers besiege its Lieutenant."""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from benchmarks import tasks
from benchmarks.figure import Figure, at_most
from benchmarks.harness import Pairs, commander_and_node, verify
from benchmarks.node import ROOT
from benchmarks.procs import Neighbours
from goliath import Commander

NAME = "attack"
CONNECTIONS = 1_000
LOGINS = 10_000
CALLS = 1_000  # a block: its p99 is the tenth slowest
TARGET = 2.0
STOP_MAX_S = 5.0


def measure(quick: bool) -> Iterator[Figure]:
    """A block of calls in quiet, one under attack, and again; the ratio of their p99."""
    runs = 3 if quick else 7
    with commander_and_node() as (commander, node):
        block(commander, CALLS)
        for kind, name in (
            ("idle", f"{CONNECTIONS:,} idle connections"),
            ("half", f"{CONNECTIONS:,} half-open ones (a line of HTTP)"),
        ):
            with Neighbours() as neighbours:
                pairs = [besieged(commander, node.port, kind) for _ in range(runs)]
            yield figure(name, pairs, neighbours.cores)
        with Neighbours() as neighbours:
            pairs = [overrun(commander, node.port, LOGINS // runs) for _ in range(runs)]
        yield figure(f"{LOGINS:,} bad logins", pairs, neighbours.cores)


def figure(name: str, pairs: list[tuple[float, float]], neighbours: float) -> Figure:
    attacked, quiet = zip(*pairs, strict=True)
    sample = Pairs(attacked, quiet, neighbours).cost()
    return sample.figure(NAME, f"submit().result() p99, {name}", "x quiet", at_most(TARGET))


def besieged(commander: Commander, port: int, kind: str) -> tuple[float, float]:
    """The p99 under an attack that goes on, and in quiet."""
    quiet = percentile(block(commander, CALLS), 99)
    with attacking(kind, port, CONNECTIONS):
        return percentile(block(commander, CALLS), 99), quiet


def overrun(commander: Commander, port: int, logins: int) -> tuple[float, float]:
    """The same for one that comes to an end: it is measured until then."""
    quiet = percentile(block(commander, CALLS), 99)
    with attacking("logins", port, logins) as attack:
        times = block(commander, CALLS, until=lambda: attack.poll() is not None)
    if attack.returncode != 0:
        raise RuntimeError(f"the attacker has failed: exit status {attack.returncode}")
    return percentile(times, 99), quiet


def block(
    commander: Commander, calls: int, until: Callable[[], bool] = lambda: True
) -> list[float]:
    """Seconds of each of so many calls, one after the other, and of more until then."""
    times: list[float] = []
    while len(times) < calls or not until():
        start = time.perf_counter()
        got = commander.submit(tasks.noop, len(times)).result()
        times.append(time.perf_counter() - start)
        verify([got], [len(times) - 1], "submit")
    return times


def percentile(values: list[float], percent: int) -> float:
    return sorted(values)[min(len(values) - 1, len(values) * percent // 100)]


@contextmanager
def attacking(kind: str, port: int, number: int) -> Iterator[subprocess.Popen[str]]:
    """An attack that has begun; it is ended behind the block if it has not ended by itself."""
    attack = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.attackers", kind, str(port), str(number)],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        if attack.stdout.readline() != "begun\n":
            raise RuntimeError(f"the attacker has not begun: exit status {attack.wait()}")
        yield attack
    finally:
        if attack.poll() is None:
            attack.kill()
        attack.wait(STOP_MAX_S)
        attack.stdout.close()
