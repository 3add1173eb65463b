"""A storm: the same calls in quiet and among faults, on real processes and real connections.

Everything is chosen by a seed: what breaks, in which order, after how many calls, and which of the
nodes or workers it is. Real machines are not deterministic; the same seed is the same storm, but
not the same microsecond.
"""

from __future__ import annotations

import random
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from goliath.testing import LocalCluster, local_cluster
from goliath.testing.processes import Seen, descendants, living, marked, until
from tests.chaos.faults import PER_100_000_CALLS, Faults, planned
from tests.chaos.load import Load

NODES, WORKERS = 3, 4
SLOWER_MAX = 3.0  # times the quiet time
ORPHANS_MAX_S = 10.0
GIVE_UP = 4 * SLOWER_MAX  # times the quiet time: nothing moves any more
MARK = "GOLIATH_CHAOS_STORM"


@dataclass(slots=True)
class Report:
    """What a storm was, and what is wrong with what it left."""

    seed: int
    calls: int
    quiet_s: float = 0.0
    storm_s: float = 0.0
    struck: Counter[str] = field(default_factory=Counter)
    once_failed: int = 0
    orphans_gone_s: float = 0.0
    complaints: list[str] = field(default_factory=list)

    def command(self) -> str:
        """How to have the same storm again."""
        return f"python -m tests.chaos --seed {self.seed} --calls {self.calls}"

    def lines(self) -> Iterator[str]:
        """For people."""
        yield f"{self.calls} calls, seed {self.seed}, {NODES} nodes of {WORKERS} workers"
        yield ", ".join(f"{times} {fault}s" for fault, times in sorted(self.struck.items()))
        ratio = self.storm_s / self.quiet_s
        yield f"quiet {self.quiet_s:.1f} s, storm {self.storm_s:.1f} s: {ratio:.2f} times"
        yield (
            f"made once at most: {self.once_failed} failed by a death, as they should; "
            f"orphans gone after {self.orphans_gone_s:.2f} s"
        )
        for complaint in self.complaints:
            yield f"WRONG: {complaint}"
        yield f"again: {self.command()}" if self.complaints else "nothing lost, doubled or wrong"


def raise_storm(seed: int, calls: int) -> Report:
    """Make the calls twice, the second time among faults."""
    report = Report(seed, calls)
    with tempfile.TemporaryDirectory(prefix="goliath-chaos-") as name:
        quiet = _quiet(calls, Path(name, "quiet"), report)
        report.complaints += [f"in quiet: {text}" for text in quiet.complaints()]
        load = _stormy(calls, Path(name, "storm"), report)
        report.complaints += load.complaints()
    report.once_failed = len(load.outcomes["once"].errors)
    for fault, times in PER_100_000_CALLS.items():
        if report.struck[fault] < times * calls // 100_000:
            report.complaints.append(f"only {report.struck[fault]} times: {fault}")
    if report.storm_s > SLOWER_MAX * report.quiet_s:
        report.complaints.append(f"it took more than {SLOWER_MAX:g} times as long as in quiet")
    return report


def _quiet(calls: int, folder: Path, report: Report) -> Load:
    folder.mkdir()
    with local_cluster(NODES, WORKERS) as cluster:
        load = _warm(cluster, calls, folder)
        start = time.monotonic()
        load.start()
        load.join(1000)
        report.quiet_s = time.monotonic() - start
    return load


def _warm(cluster: LocalCluster, calls: int, folder: Path) -> Load:
    until(lambda: sum(node.alive for node in cluster.commander.nodes()) == NODES, 20, "all nodes")
    return Load(cluster.commander, calls, folder)


def _stormy(calls: int, folder: Path, report: Report) -> Load:
    folder.mkdir()
    mark = uuid.uuid4().hex
    rng = random.Random(report.seed)
    with local_cluster(NODES, WORKERS, env={MARK: mark}) as cluster:
        load = _warm(cluster, calls, folder)
        faults = Faults(cluster, rng)
        start = time.monotonic()
        load.start()
        _blow(load, faults, planned(calls, rng), start + GIVE_UP * report.quiet_s)
        report.storm_s = time.monotonic() - start
        if not load.over:
            report.complaints.append(
                f"{calls - load.done} calls had not ended after {report.storm_s:.0f} s, with "
                f"{cluster.commander.nodes()}"
            )
            cluster.commander.close()  # whoever waits is told
        load.join(20)
        faults.mend(everything=True)
        report.struck = faults.struck
        try:
            report.orphans_gone_s = until(lambda: not _orphans(cluster, mark), ORPHANS_MAX_S)
        except AssertionError:
            left = [seen.command() for seen in _orphans(cluster, mark)]
            report.complaints.append(f"orphans after {ORPHANS_MAX_S:g} s: {left}")
        for node in cluster.nodes:
            node.wait_ready()
    left = [seen.command() for seen in living(marked(f"{MARK}={mark}"))]
    if left:
        report.complaints.append(f"left behind: {left}")
    return load


def _blow(load: Load, faults: Faults, plan: list[tuple[int, str]], until_s: float) -> None:
    """Break what is due, until all calls have ended, or it takes too long."""
    plan = plan[::-1]
    while not load.over and time.monotonic() < until_s:
        faults.mend()
        if plan and load.done >= plan[-1][0]:
            at, fault = plan.pop()
            if not faults.strike(fault):
                plan.append((at, fault))  # there is nothing to break just now
                time.sleep(0.01)
        else:
            time.sleep(0.005)


def _orphans(cluster: LocalCluster, mark: str) -> set[Seen]:
    """Processes of Lieutenants that are dead."""
    at_home = {node.pid for node in cluster.nodes}
    for node in cluster.nodes:
        at_home |= {seen.pid for seen in descendants(node.pid)}
    return {seen for seen in living(marked(f"{MARK}={mark}")) if seen.pid not in at_home}
