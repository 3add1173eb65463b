"""Short ways to say what the unit tests of the minds say over and over."""

from __future__ import annotations

from goliath.core import node_events as ne
from goliath.core.batch import JobOptions
from goliath.core.commands import Command, Demand, WakeAt
from goliath.core.events import JobOpened, NodeJoined, ParcelSubmitted
from goliath.core.ids import Attempt, BatchId, JobId, NodeId, SessionId
from goliath.core.node import Node, NodePolicy
from goliath.core.scheduler import Scheduler

A, B = NodeId("a#1"), NodeId("b#1")
JOB, OTHER = JobId(1), JobId(2)
S, T = SessionId("s"), SessionId("t")
ONE = Attempt(1)


def batch(number: int) -> BatchId:
    """The number as a name."""
    return BatchId(number)


def plain(commands: list[Command]) -> list[Command]:
    """Without what every event may bring: more demand, and the timer."""
    return [command for command in commands if not isinstance(command, Demand | WakeAt)]


def scheduler_with(options: JobOptions, *parcels: int, nodes: dict[NodeId, int]) -> Scheduler:
    """One job whose parcels have that many calls, placed on nodes with that many slots."""
    scheduler = Scheduler()
    for node, slots in nodes.items():
        scheduler.handle(NodeJoined(node, slots), 0.0)
    scheduler.handle(JobOpened(JOB, options, sum(parcels)), 0.0)
    for number, count in enumerate(parcels, 1):
        scheduler.handle(ParcelSubmitted(JOB, number, count, 10 * count), 0.0)
    scheduler.check()
    return scheduler


def node_with(
    slots: int = 1,
    *sessions: SessionId,
    policy: NodePolicy | None = None,
    resources: dict[str, float] | None = None,
    devices: tuple[str, ...] = (),
) -> Node:
    """A node whose sessions have the environment ``env`` ready."""
    node = Node(slots, resources or {}, policy or NodePolicy(), devices)
    for session in sessions or (S,):
        node.handle(ne.SessionOpened(session), 0.0)
        node.handle(ne.EnvironmentReady(session, "env"), 0.0)
    return node


def arrive(
    number: int,
    calls: int = 1,
    session: SessionId = S,
    *,
    careful: bool = False,
    timeout_s: float | None = None,
    cpus: float = 1.0,
    gpus: float = 0.0,
    concurrency: int = 1,
    linger_s: float = 0.010,
    depth: int = 0,
    actor: bool = False,
    alone: bool = False,
) -> ne.BatchArrived:
    """A batch of that many calls."""
    resources = {"GPU": gpus} if gpus else {}
    return ne.BatchArrived(
        session,
        BatchId(number),
        ONE,
        0,
        calls,
        "env",
        careful,
        timeout_s,
        cpus,
        resources,
        linger_s,
        depth,
        actor,
        concurrency,
        alone=alone,
    )


def untimed(commands: list[ne.NodeCommand]) -> list[ne.NodeCommand]:
    """Without the timer."""
    return [command for command in commands if not isinstance(command, ne.NodeWakeAt)]
