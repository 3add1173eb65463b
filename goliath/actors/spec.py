"""What a worker process is told at birth."""

from __future__ import annotations

import os
from dataclasses import field, fields
from typing import Any, Self

from goliath.record import frozen
from goliath.transport.blocking import FRAME_MAX_BYTES

TAG_VARIABLE = "GOLIATH_WORKER_TAG"
"""Set in the environment of every worker and what it starts: by it a process knows that it is
in a worker, and the zygote knows whose stray it is."""

INITIALIZER = "initializer"
"""The digest of the one `DefineFunction` whose payload `functions.load_initializer` reads."""

_worker_pid = 0


def mark_worker() -> None:
    """Say that this process is a worker from now on."""
    global _worker_pid
    _worker_pid = os.getpid()


def in_worker() -> bool:
    """Whether this very process is a worker (not one that a worker has started)."""
    return bool(_worker_pid) and _worker_pid == os.getpid()


@frozen
class WorkerSpec:
    """The surroundings of one worker.

    Attributes:
        cwd: its current directory; the zygote's own when empty.
        sys_path: directories importable after the standard library, before installed packages.
        sys_path_exact: the whole ``sys.path`` instead, when not empty.
        variables: environment variables to set, or to remove (None).
        node, worker: what both are called.
        actor: whether it is the process of an actor, and keeps what its calls change.
        frame_max_bytes: what it may send at a time; more is taken for an attack.
        has_initializer: whether the first message is a `DefineFunction` to run once.
        library: a directory whose modules come before all others: none has the name of one of the
            standard library.
        site: directories of packages that come before those that are installed here.
        arena: the limits of the regions of the arena that it maps, if there is one.
        region: which of them it writes.
    """

    cwd: str = ""
    sys_path: list[str] = field(default_factory=list)
    sys_path_exact: list[str] = field(default_factory=list)
    variables: dict[str, str | None] = field(default_factory=dict)
    has_initializer: bool = False
    node: str = ""
    worker: int = 0
    actor: bool = False
    library: str = ""
    frame_max_bytes: int = FRAME_MAX_BYTES
    site: list[str] = field(default_factory=list)
    arena: list[int] = field(default_factory=list)
    region: int = 0

    def to_json(self) -> dict[str, Any]:
        """As JSON-able data."""
        # Not dataclasses.asdict: that copies every list, and takes 0.15 ms of a fork.
        return {each.name: getattr(self, each.name) for each in fields(self)}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        """From what `to_json` returned."""
        return cls(**data)
