"""What the workers of a session may have together, and how that is enforced on this machine.

Each session is given a control group, a *fence*, when its first worker is forked: memory, and
processes with their threads, are then counted for all that the session's code has started, however
deep. Whoever is still in it when the last worker has gone is killed; the fence itself is kept for
a while, because the next worker may be forked at once. Where there are no control groups, each
process is limited alone, by rlimits: a fence for one is all that those can do.

A detached actor has a fence of its own, for it belongs to no session.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from dataclasses import field
from itertools import count

from goliath.actors.memory_gauge import MemoryGauge
from goliath.config import MIB
from goliath.control_groups import MEMORY, PIDS, Estate, Group, NoGroupsError
from goliath.limits import Enforcer, Limit
from goliath.machine import (
    group_memory,
    memory_groups,
    tasks_max,
    tasks_of_user,
    total_memory,
)
from goliath.record import record

_log = logging.getLogger("goliath.lieutenant")

PROCESSES_MAX = 4096
"""Of a session, with their threads, unless a node has so many slots that it may need more: enough
for any honest work, and a fork bomb of so many is survived."""

PROCESSES_PER_SLOT = 256
NO_QUOTA = "by the kernel, and file by file: the disk has no quota for a session"
MEASURED = "by looking every few seconds, and only where its jobs have their directories"
NODE_MEMORY = "memory of all workers"
EMPTY_MAX = 8  # fences without workers that are kept
RESERVE_BYTES = 256 * MIB  # of the memory: for the Lieutenant, and what else is there


@record
class Allowance:
    """How much there is for workers; None: whatever the machine has.

    Attributes:
        node_bytes: memory of all workers of the node together.
        session_bytes: memory of the workers of one session together.
        session_processes: processes and threads of one session together.
        session_file_bytes: what a session may ship together, what the directories of its jobs may
            grow to, and the size of any one file that its calls may write.
    """

    node_bytes: int | None = None
    session_bytes: int | None = None
    session_processes: int | None = None
    session_file_bytes: int | None = None


def default_allowance(slots: int, memory: int = -1) -> Allowance:
    """What a node gives that was not told otherwise: the machine, but for what it needs itself; or
    so many bytes of ``memory``."""
    total = total_memory()
    spared = total - min(total // 4, max(RESERVE_BYTES, total // 20))
    if memory > 0:
        spared = min(spared, memory)
    processes = max(PROCESSES_MAX, PROCESSES_PER_SLOT * slots)
    return Allowance(spared, None, min(processes, tasks_max() // 2))


@record
class Fence:
    """Around the workers of one session.

    Attributes:
        paths: of the control group, for `control_groups.enter`; empty if there is none.
        gauge: tells who was killed in it for want of memory.
        workers: how many are in it.
    """

    gauge: MemoryGauge
    paths: list[str] = field(default_factory=list)
    workers: int = 0

    def stands(self) -> bool:
        """Whether the group is there. Anybody may remove one that is empty: a service manager, or
        a Lieutenant that cannot see this process."""
        return bool(self.workers) or all(map(os.path.isdir, self.paths))


class Fences:
    """Those of one node.

    Args:
        allowance: what is allowed; of an embedded node nothing is limited, for it is its user's.
        estate: makes the control groups; None: each process is limited alone.
    """

    def __init__(
        self,
        allowance: Allowance | None = None,
        estate: Callable[[], Estate] | None = None,
    ) -> None:
        self._allowance = allowance or Allowance()
        self._around = memory_groups()
        self._numbers = count(1)
        self._fences: dict[str, Fence] = {}
        self._open = Fence(MemoryGauge(self._around))  # that of workers without one
        self._estate: Estate | None = None
        self._why = ""
        self._tasks = tasks_of_user()  # the kernel counts them all, and to count takes time
        if estate is not None:
            self._enclose(estate)

    @property
    def home(self) -> list[str]:
        """The group of the Lieutenant itself."""
        return self._estate.home if self._estate is not None else []

    @property
    def rlimits(self) -> dict[str, int]:
        """What each worker has to be limited to by itself, by the names that `resource` has."""
        allowance = self._allowance
        limits = {"RLIMIT_FSIZE": allowance.session_file_bytes}
        if self._estate is None:
            # Not what the node can spare: programs may well reserve more than that, and not use it.
            limits["RLIMIT_DATA"] = allowance.session_bytes
            if allowance.session_processes is not None:
                limits["RLIMIT_NPROC"] = self._tasks + allowance.session_processes
        return {name: limit for name, limit in limits.items() if limit is not None}

    def memory(self) -> int:
        """What all workers have, with whatever they have started; 0 if nobody counts that."""
        return group_memory(self._estate.node.folders[MEMORY]) if self._estate is not None else 0

    def enter(self, session: str) -> Fence:
        """One worker more.

        Raises:
            OSError: there can be no fence for it.
        """
        if self._estate is None:
            return self._open
        fence = self._fences.get(session)
        if fence is None or not fence.stands():
            fence = self._fences[session] = self._build(self._estate)
        fence.workers += 1
        return fence

    def leave(self, session: str) -> list[str]:
        """One worker less; the control group that nobody may be in any more, if it was the last."""
        fence = self._fences.get(session)
        if fence is None:
            return []
        fence.workers -= 1
        return [] if fence.workers else fence.paths

    def give_up(self) -> list[str]:
        """A control group that is needed no more: the oldest, if many stand empty."""
        empty = [session for session, fence in self._fences.items() if not fence.workers]
        return self._fences.pop(empty[0]).paths if len(empty) > EMPTY_MAX else []

    def look(self) -> None:
        """See which of them the kernel has killed in (see `memory_gauge`)."""
        for fence in (self._open, *self._fences.values()):
            fence.gauge.look()

    def close(self) -> None:
        """Remove all that there are; whoever was in them must be gone."""
        if self._estate is not None:
            self._estate.close()
            self._estate = None

    def limits(self) -> list[Limit]:
        """What is in force, and by whom."""
        allowance = self._allowance
        files = allowance.session_file_bytes
        written = Limit("each file written", files, "bytes", Enforcer.RLIMIT, NO_QUOTA)
        return [
            Limit("files shipped per session", files, "bytes", Enforcer.GOLIATH),
            Limit("files written per session", files, "bytes", Enforcer.GOLIATH, MEASURED),
            written,
            self._limit(NODE_MEMORY, allowance.node_bytes, "bytes", MEMORY),
            self._limit("memory per session", allowance.session_bytes, "bytes", MEMORY),
            self._limit("processes per session", allowance.session_processes, "processes", PIDS),
        ]

    def _limit(self, name: str, amount: int | None, unit: str, controller: str) -> Limit:
        if amount is None:
            return Limit(name, None, unit, Enforcer.NOBODY)
        if self._estate is not None:
            return Limit(name, amount, unit, self._estate.node.enforcer(controller))
        if controller == PIDS and os.geteuid() == 0:
            why = f"{self._why}; and rlimits do not bind root: run it as another user"
            return Limit(name, amount, unit, Enforcer.NOBODY, why)
        if name == NODE_MEMORY:
            why = f"{self._why}; and rlimits are of single processes"
            return Limit(name, amount, unit, Enforcer.NOBODY, why)
        what = "all of this user" if controller == PIDS else "each process alone"
        return Limit(name, amount, unit, Enforcer.RLIMIT, f"{self._why}; so it is of {what}")

    def _enclose(self, estate: Callable[[], Estate]) -> None:
        try:
            made = estate()
            try:
                if self._allowance.node_bytes is not None:
                    made.node.limit(MEMORY, self._allowance.node_bytes)
            except OSError:
                made.close()
                raise
        except (NoGroupsError, OSError) as exc:
            self._why = str(exc)
            _log.info("workers are limited one by one: %s", exc)
        else:
            self._estate = made

    def _build(self, estate: Estate) -> Fence:
        group: Group = estate.node.child(f"session-{next(self._numbers)}")
        if self._allowance.session_bytes is not None:
            group.limit(MEMORY, self._allowance.session_bytes)
        if self._allowance.session_processes is not None:
            group.limit(PIDS, self._allowance.session_processes)
        around = [group.folders[MEMORY], estate.node.folders[MEMORY], *self._around]
        return Fence(MemoryGauge(around), group.paths)
