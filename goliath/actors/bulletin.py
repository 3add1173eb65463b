"""What a node tells Commanders of what is on it: its load, what runs, and the detached actors."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from goliath.actors.cellar import Cellar
from goliath.actors.employee import Employee
from goliath.actors.residence import Residence
from goliath.core.ids import SessionId, WorkerId
from goliath.core.node import Node
from goliath.limits import Limit
from goliath.transport.messages import AskActors, Status

RUNNING_TOLD_MAX = 1024
"""Calls that a node tells of; a worker can have a thousand coroutines."""
NAME_MAX = 200


class Bulletin:
    """See the module's description. It looks, and changes nothing.

    Args:
        mind: of the node.
        workers: as its Lieutenant knows them.
        residence: who lives there.
        cellar: what has results on the disk, if anything has.
        limits: those in force on the node.
    """

    def __init__(
        self,
        mind: Node,
        workers: Mapping[WorkerId, Employee],
        residence: Residence,
        cellar: Cellar | None,
        limits: Iterable[Limit],
    ) -> None:
        self._mind = mind
        self._workers = workers
        self._residence = residence
        self._cellar = cellar
        self._limits = [limit.to_json() for limit in limits]

    def status(self, session: SessionId, now: float, *, draining: bool) -> Status:
        """For a Commander, who hears of his own calls what they are."""
        mind = self._mind
        busy, queued, processes = mind.load()
        level, used, limit = mind.memory()
        return Status(
            busy,
            mind.slots,
            queued,
            processes,
            draining,
            mind.used(),
            self._limits,
            self._running(session, now),
            # What big results take: of memory by the books, of the disk as it is.
            {
                "memory": mind.kept_in_memory(),
                "disk": self._cellar.disk_bytes if self._cellar is not None else 0,
            },
            {"level": int(level), "used": used, "limit": limit},
        )

    def _running(self, session: SessionId, now: float) -> list[tuple[int, int, str, float]]:
        """What a Commander may know of what runs, the longest first."""
        began: dict[WorkerId, dict[int, float]] = {}
        running: list[tuple[float, WorkerId, int, str]] = []
        for worker_id, serial, since in self._mind.running(session):
            worker = self._workers.get(worker_id)
            if worker is None:
                continue  # it could not be started
            if worker_id not in began:
                began[worker_id] = worker.began()
            name, pid = worker.name_of(serial)[:NAME_MAX], worker.process.pid or 0
            elapsed_s = max(now - began[worker_id].get(serial, since), 0.0)
            running.append((elapsed_s, worker_id, pid, name))
        running.sort(key=lambda each: -each[0])
        return [(worker, pid, name, s) for s, worker, pid, name in running[:RUNNING_TOLD_MAX]]

    def actors(self, session: SessionId, asked: AskActors, now: float) -> list[dict[str, object]]:
        """The detached actors that a Commander has asked for."""
        found = []
        for resident, state, pending, worker in self._mind.residents(session):
            called = (resident.name, resident.namespace)
            if asked.name and called != (asked.name, asked.namespace):
                continue
            told = self._residence[resident.environment].told(resident, state, pending, now)
            known = self._workers.get(worker) if worker is not None else None
            found.append({**told, "pid": known.process.pid if known is not None else None})
        return found
