"""Jobs that no connected node could ever run: what they lack, and how long they may wait for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import field

from goliath.core.backlog import Backlog
from goliath.core.batch import MEMORY
from goliath.core.devices import GPU
from goliath.core.ids import JobId, NodeId
from goliath.core.job import Job
from goliath.core.placement import CPU, NodeView, needs
from goliath.errors import size_text
from goliath.record import record


@record
class Feasibility:
    """Who is stuck, and since when.

    Args:
        warn_after_s: how long a job may wait for a node that is big enough before it is said.
        patience_s: how long it may wait at all.
        nodes, jobs, backlog: the scheduler's own, only read here.
        wake: asks for another look at some time.
    """

    warn_after_s: float
    patience_s: float
    nodes: Mapping[NodeId, NodeView]
    jobs: Mapping[JobId, Job]
    backlog: Backlog
    wake: Callable[[float], None]
    _stuck_since: dict[JobId, float] = field(default_factory=dict)
    _said: set[str] = field(default_factory=set)  # of those that are stuck now

    def __bool__(self) -> bool:
        return bool(self._stuck_since)

    def forget(self, job: JobId) -> None:
        """A job has ended, or is not stuck any more."""
        if self._stuck_since.pop(job, None) is not None and not self._stuck_since:
            self._said.clear()

    def stuck(self, now: float) -> tuple[list[tuple[Job, str]], list[tuple[Job, str]]]:
        """Of whom the user should hear now, and who has waited long enough; with what they lack.

        Many jobs that lack the same are one piece of news.
        """
        news, hopeless = [], []
        for job in self.jobs.values():
            waits = self.nodes and self.backlog.count(job.id)
            if not waits or any(node.capacity(job.options) for node in self.nodes.values()):
                self.forget(job.id)
                continue
            since = self._stuck_since.setdefault(job.id, now)
            if now >= since + self.patience_s:
                hopeless.append((job, self.what_lacks(job)))
                continue
            if now < since + self.warn_after_s:
                self.wake(since + min(self.warn_after_s, self.patience_s))
                continue
            self.wake(since + self.patience_s)
            lacking = self.what_lacks(job)
            if lacking not in self._said:
                self._said.add(lacking)
                news.append((job, lacking))
        return news, hopeless

    def what_lacks(self, job: Job) -> str:
        """What a call asks for that cannot be had, and how much of it there is."""
        options, nodes = job.options, list(self.nodes.values())
        whose = "any node has"
        if options.node is not None and not options.soft:
            if options.node not in self.nodes:
                return (
                    f"node {options.node} is not connected (connected are: {', '.join(self.nodes)})"
                )
            nodes = [self.nodes[options.node]]
            whose = "the node has to which the calls are bound"
        wanted = needs(options)
        lacking = []
        for name, amount in wanted.items():
            best = max(nodes, key=lambda node: node.has(name))
            if best.has(name) < amount:
                most = _amount(name, best.has(name))
                lacking.append(
                    f"{_say(name, amount)} is more than {whose} (the most: {most}, on {best.id})"
                )
        if lacking:
            return "; ".join(lacking)
        biggest = max(nodes, key=lambda node: node.slots)
        has = ", ".join(_say(name, biggest.has(name)) for name in wanted)
        together = " and ".join(_say(name, amount) for name, amount in wanted.items())
        return f"no node has {together} at once (the biggest, {biggest.id}, has {has})"


def _say(name: str, amount: float) -> str:
    keyword = {CPU: "num_cpus", GPU: "num_gpus", MEMORY: MEMORY}.get(name, f"resources[{name!r}]")
    return f"{keyword}={_amount(name, amount)}"


def _amount(name: str, amount: float) -> str:
    if name != MEMORY:
        return f"{amount:g}"
    return size_text(amount)
