"""Deficit round robin over worker time: who is served next when several Commanders wait.

(Shreedhar and Varghese, 1995, with seconds of a worker in place of bytes of a link.) The
price of a call is known only when it has run, so it is charged afterwards, and what runs
now counts as if it ended now.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from goliath.core.ids import SessionId

QUANTUM_S = 0.010


class DeficitRoundRobin:
    """Sessions in a ring, each with seconds of worker time to its credit."""

    def __init__(self) -> None:
        self._credit: dict[SessionId, float] = {}  # in ring order

    def join(self, session: SessionId) -> None:
        """A newcomer starts even: it owes nothing and has saved nothing."""
        self._credit[session] = QUANTUM_S

    def leave(self, session: SessionId) -> None:
        """Forget a session."""
        self._credit.pop(session, None)

    def charge(self, session: SessionId, seconds: float) -> None:
        """The session has used so much worker time."""
        if session in self._credit:
            self._credit[session] -= seconds

    def pick(
        self, waiting: Collection[SessionId], running_s: Mapping[SessionId, float]
    ) -> SessionId:
        """Who of ``waiting`` (not empty) is served now.

        ``running_s`` is the time its unfinished calls have taken so far.
        """
        if len(waiting) == 1:
            # Alone, nobody is kept waiting: what it uses is not held against it later.
            (only,) = waiting
            self._credit[only] = max(self._credit[only], 0.0)
            return only
        balance = {s: self._credit[s] - running_s.get(s, 0.0) for s in waiting}
        short = max(balance.values())
        if short <= 0:
            # A round in which all get the same: as many quanta as it takes for one to be served.
            for session in waiting:
                self._credit[session] += QUANTUM_S - short
                balance[session] += QUANTUM_S - short
        chosen = next(s for s in self._credit if s in balance and balance[s] > 0)
        self._credit[chosen] = self._credit.pop(chosen)  # to the end of the ring
        return chosen
