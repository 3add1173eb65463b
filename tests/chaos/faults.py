"""What a storm breaks, and that it broke: each fault counts only if it has struck something."""

from __future__ import annotations

import heapq
import math
import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from itertools import count

from goliath.testing import LocalCluster, Node
from goliath.testing.processes import Seen, alive, kill, look, until

PER_100_000_CALLS = {
    "worker kill": 500,
    "node kill": 30,
    "SIGSTOP": 50,
    "reset": 200,
    "blackhole": 20,
}
LAST_AT = 0.85  # of all calls: the end of a storm is quiet, or it would be measured, too
STOPPED_S = (0.1, 2.0)
AWAY_S = (0.0, 0.5)  # a node that was killed, before it is started again


def planned(calls: int, rng: random.Random) -> list[tuple[int, str]]:
    """What breaks when so many calls have ended, in order."""
    faults = [
        fault
        for fault, times in PER_100_000_CALLS.items()
        for _ in range(math.ceil(times * calls / 100_000))
    ]
    rng.shuffle(faults)
    step = LAST_AT * calls / len(faults)
    return [(int((place + 1) * step), fault) for place, fault in enumerate(faults)]


class Faults:
    """Breaks things in a cluster, and mends them.

    Args:
        cluster: that is to suffer.
        rng: chooses the victims.

    Attributes:
        struck: how often each fault has struck something.
    """

    def __init__(self, cluster: LocalCluster, rng: random.Random) -> None:
        self._cluster = cluster
        self._rng = rng
        self._later: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = count()
        self.struck: Counter[str] = Counter()
        self._strike: dict[str, Callable[[], bool]] = {
            "worker kill": self._kill_worker,
            "node kill": self._kill_node,
            "SIGSTOP": self._stop,
            "reset": self._reset,
            "blackhole": self._blackhole,
        }

    def strike(self, fault: str) -> bool:
        """Whether there was something that could be broken like that."""
        struck = self._strike[fault]()
        self.struck[fault] += struck
        return struck

    def mend(self, *, everything: bool = False) -> None:
        """Do what is due: wake those who were stopped, start nodes again."""
        while self._later and (everything or self._later[0][0] <= time.monotonic()):
            heapq.heappop(self._later)[2]()

    def _mend_in(self, span: tuple[float, float], mending: Callable[[], None]) -> None:
        at = time.monotonic() + self._rng.uniform(*span)
        heapq.heappush(self._later, (at, next(self._numbers), mending))

    def _some_node(self) -> Node | None:
        running = [node for node in self._cluster.nodes if node.running]
        return self._rng.choice(running) if running else None

    def _some_worker(self) -> Seen | None:
        node = self._some_node()
        workers = node.worker_processes() if node is not None else []
        return self._rng.choice(workers) if workers else None

    def _kill_worker(self) -> bool:
        worker = self._some_worker()
        if worker is None:
            return False
        kill(worker.pid)
        until(lambda: not alive(worker), 10, f"{worker} dead")
        return True

    def _kill_node(self) -> bool:
        running = [node for node in self._cluster.nodes if node.running]
        if len(running) < 2:  # somebody must be there, or this would be a test of patience
            return False
        node = self._rng.choice(running)
        node.kill()
        # The Lieutenant is ready a little later; nobody waits for it here.
        self._mend_in(AWAY_S, lambda: _start(node))
        return True

    def _stop(self) -> bool:
        node = self._some_node()
        victim = self._some_worker() if self._rng.random() < 0.5 or node is None else look(node.pid)
        if victim is None:
            return False
        kill(victim.pid, signal.SIGSTOP)
        self._mend_in(STOPPED_S, lambda: _wake(victim))
        return True

    def _reset(self) -> bool:
        node = self._some_node()
        return node is not None and self._cluster.link(node).cut() > 0

    def _blackhole(self) -> bool:
        node = self._some_node()
        return node is not None and self._cluster.link(node).swallow() > 0


def _start(node: Node) -> None:
    if not node.running:
        node.start()


def _wake(victim: Seen) -> None:
    if alive(victim):
        kill(victim.pid, signal.SIGCONT)
