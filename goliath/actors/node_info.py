"""What a Commander tells its user of a node."""

from __future__ import annotations

from dataclasses import dataclass, field

from goliath.limits import Limit


@dataclass(frozen=True, slots=True)
class RunningCall:
    """A call that runs on a node.

    Attributes:
        worker: number of the worker process there.
        pid: its process id; 0 while it is being started.
        function: what the call is named after.
        seconds: since when it runs. Of a batch of calls, since the last of them was reported.
    """

    worker: int
    pid: int
    function: str
    seconds: float


@dataclass(frozen=True, slots=True)
class NodeInfo:
    """What a Commander knows of a Lieutenant.

    Attributes:
        node_id: name of the session, such as ``"lab1:8080#1"``; of the address when down.
        address: ``"host:port"``; of a node that has joined ``"name/number"``, by the name of its
            machine; or ``"embedded"``.
        workers: slots, calls that can run at once there.
        busy: slots in use, by any Commander, when it was last heard.
        queued: batches waiting there.
        alive: whether there is a session.
        python: its version, such as ``"3.12"``.
        processes: worker processes it has.
        resources: what else it offers.
        used: how much of that was taken, by any Commander, when it was last heard.
        error: why the last attempt to reach it failed; empty if it did not.
        limits: those in force there, and who enforces them, when it was last heard.
        running: the calls that run there for this Commander, and for all with its token, the
            longest first.
        kept: bytes of big results that the node keeps, for anybody, in ``"memory"`` and on
            ``"disk"``.
        memory: how short of memory it is: ``"easy"``; ``"strained"``, and it begins nothing new
            while anything runs; or ``"full"``, and it takes nothing big.
        memory_used: bytes of memory that it had when it was heard last.
        memory_limit: bytes that it could have had.
        heard_s: how many seconds ago it has said all that; None if it has not said anything yet.
            `nodes` asks it, and does not wait for the answer.
    """

    node_id: str
    address: str
    workers: int = 0
    busy: float = 0
    queued: int = 0
    alive: bool = False
    python: str = ""
    processes: int = 0
    resources: dict[str, float] = field(default_factory=dict)
    draining: bool = False
    error: str = ""
    used: dict[str, float] = field(default_factory=dict)
    limits: list[Limit] = field(default_factory=list)
    running: list[RunningCall] = field(default_factory=list)
    kept: dict[str, int] = field(default_factory=dict)
    memory: str = "easy"
    memory_used: int = 0
    memory_limit: int = 0
    heard_s: float | None = field(default=None, compare=False)
