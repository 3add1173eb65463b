"""What the holders of a token may use of a node: so many calls at once, and no more.

A call counts as its CPUs, and as one if it takes fewer; one that waits for others gives its part
back, as it gives back its CPUs. An actor counts as the CPUs it has, which are none by default.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import field
from math import inf

from goliath.core.crew import Crew
from goliath.core.ids import HOUSE, SessionId
from goliath.core.queues import Queues
from goliath.core.residents import Residents
from goliath.core.work import Work, Worker
from goliath.record import record


@record
class Quotas:
    """Part of the node's mind."""

    queues: Queues
    crew: Crew
    residents: Residents
    _slots: dict[str, int] = field(default_factory=dict)  # by realm; no entry: no limit

    def limit(self, realm: str, slots: int | None) -> None:
        """From now on; what runs already may end."""
        if slots is None:
            self._slots.pop(realm, None)
        else:
            self._slots[realm] = slots

    def admits(self, work: Work) -> bool:
        """Whether one more worker may be given to a batch."""
        if not self._slots:
            return True
        realm = self._realm(work.home, work.environment)
        if realm not in self._slots:
            return True
        held = self._held(realm)
        # What is too big for a quota that was lowered runs alone: it could never run, else.
        return not held or held + work.takes_slots() <= self._slots[realm]

    def exhausted(self) -> Collection[SessionId]:
        """The sessions that may have no further worker: nothing is split for them."""
        if not self._slots:
            return ()
        full = {realm for realm, slots in self._slots.items() if self._held(realm) + 1 > slots}
        return [session.id for session in self.queues.sessions.values() if session.realm in full]

    def _held(self, realm: str) -> float:
        return sum(
            worker.takes_slots()
            for worker in self.crew.workers.values()
            if self.realm_of(worker) == realm
        )

    def realm_of(self, worker: Worker) -> str | None:
        """Whose worker it is: of the holders of which token."""
        return self._realm(worker.session, worker.environment)

    def _realm(self, home: SessionId, environment: str) -> str | None:
        if home == HOUSE:
            resident = self.residents.at(environment)
            return resident.realm if resident is not None else None
        session = self.queues.sessions.get(home)
        return session.realm if session is not None else None

    def check(self) -> None:
        """Raise `AssertionError` if a limit makes no sense."""
        assert all(0 < slots < inf for slots in self._slots.values()), self._slots
