"""What runs were made of: how often everything happened that minds must survive."""

from __future__ import annotations

from collections import Counter
from enum import Enum


class Seen(Enum):
    """One kind of thing that happens in a run. A kind that never happens tests nothing."""

    SEVERAL_COMMANDERS = "runs with several Commanders"
    ACTORS = "jobs of an actor"
    DETACHED = "detached actors adopted"
    RESTARTS = "later lives of detached actors"
    COROUTINES = "ranges that run beside others in one worker"
    WAITS = "calls that wait for others"
    JOB_CANCELS = "jobs cancelled"
    CALL_CANCELS = "calls cancelled"
    TIMEOUTS = "calls whose time was up"
    STEALS = "steals"
    STOLEN_RUNNING = "rests of running batches stolen"
    STOLEN_WAITING = "waiting batches stolen"
    SPLITS = "running pieces split within a node"
    COPIES = "copies of late calls"
    RETRIES = "executions after the first of a call"
    DEPOSITS = "results kept on their nodes"
    SPILLS = "results written to disk by their nodes"
    ENTRUSTED = "pieces entrusted to nodes because calls take them"
    UNSPILLED = "results that could not be written"
    STRAINS = "times that a node was short of memory"
    STRAINED_BEGINS = "ranges begun while it was"
    REFUSED = "batches refused for want of memory"
    WORKER_DEATHS = "workers that died"
    OUT_OF_MEMORY = "workers that died for want of memory"
    UNBORN = "workers that could not be born"
    NODE_CRASHES = "nodes killed"
    DRAINS = "nodes drained"
    CUT_DRAINS = "drains that took too long"
    COMMANDER_DEATHS = "Commanders killed"
    PAUSES = "processes or machines paused"
    CUTS = "links cut"
    HALF_OPEN = "links cut of which one end never heard"
    PARTITIONS = "routes gone deaf"
    LOST_FRAMES = "frames lost"
    REPEATED_FRAMES = "deliveries repeated"
    RESUMED = "sessions resumed"
    LOST_SESSIONS = "sessions given up"
    SKEWED_CLOCKS = "sessions between clocks of different rates"
    SKEWED_LEASES = "sessions whose node has another lease than the Commander expects"
    REVOCATIONS = "tokens revoked"
    REVOKED_SESSIONS = "sessions ended because their token was revoked"
    QUOTAS = "quotas set or changed"
    QUOTA_WAITS = "events after which a quota alone kept calls waiting"


Tally = Counter[Seen]
"""How often each was seen, over one run or many."""


def table(tally: Tally) -> str:
    """A line for each kind, those that never happened too."""
    return "\n".join(f"{tally[kind]:>10,}  {kind.value}" for kind in Seen)
