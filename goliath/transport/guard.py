"""Watches over strangers: connections that have not logged in, and addresses that failed to.

aiohttp has no deadline for request headers, so whoever connects and says nothing would
stay for ever. A `Guard` decides who has to go; its owner looks every now and then.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Mapping
from typing import Generic, TypeVar

from goliath.config import TransportConfig
from goliath.limits import Enforcer, Limit

MINUTE_S = 60.0
ADDRESSES_MAX = 4096  # remembered for their failures; an attacker may have more


def door_limits(config: TransportConfig) -> list[Limit]:
    """What holds for whoever has not logged in."""
    return [
        Limit(name, amount, unit, Enforcer.GOLIATH)
        for name, amount, unit in (
            ("time of a login", config.handshake_max_s, "s"),
            ("message before login", config.handshake_message_max_bytes, "bytes"),
            ("connections before login", config.unauthenticated_max, "connections"),
            (
                "connections before login per address",
                config.unauthenticated_per_address_max,
                "connections",
            ),
            ("failed logins per address and minute", config.failures_per_minute_max, "logins"),
        )
    ]


C = TypeVar("C")
"""A connection: anything hashable."""


class Guard(Generic[C]):
    """Decides which connections must go and which addresses must wait."""

    def __init__(self, config: TransportConfig) -> None:
        self._config = config
        self._since: dict[C, float] = {}
        self._trusted: set[C] = set()
        self._failures: dict[str, deque[float]] = {}

    def trust(self, connection: C) -> None:
        """It has logged in."""
        self._trusted.add(connection)

    def trusts(self, connection: C) -> bool:
        """Whether it has logged in."""
        return connection in self._trusted

    def sweep(self, live: Mapping[C, str], now: float) -> list[C]:
        """The connections that must be broken: too old without a login, or one too many.

        Args:
            live: all open connections, with the address of each.
        """
        self._forget(live)
        for connection in live:
            self._since.setdefault(connection, now)
        strangers = sorted(
            (c for c in self._since if c not in self._trusted), key=self._since.__getitem__
        )
        return list(self._excess(strangers, live, now))

    def _excess(self, strangers: list[C], live: Mapping[C, str], now: float) -> Iterable[C]:
        """The oldest may stay: newcomers must not push out who is about to prove himself.

        Where somebody has logged in there may be as many more: nodes that have joined dial again
        when they are wanted, all at once, and a router may stand before all of them.
        """
        config, of_address, kept = self._config, Counter[str](), 0
        known = Counter(live[connection] for connection in self._trusted)
        for connection in strangers:
            address = live[connection]
            if now - self._since[connection] >= config.handshake_max_s:
                yield connection
            elif known[address]:
                known[address] -= 1
            elif (
                kept >= config.unauthenticated_max
                or of_address[address] >= config.unauthenticated_per_address_max
            ):
                yield connection
            else:
                kept += 1
                of_address[address] += 1

    def _forget(self, live: Mapping[C, str]) -> None:
        self._trusted &= live.keys()
        for connection in self._since.keys() - live.keys():
            del self._since[connection]

    # -- failures ----------------------------------------------------------------------

    def failed(self, address: str, now: float) -> None:
        """A login from the address failed."""
        if address not in self._failures and len(self._failures) >= ADDRESSES_MAX:
            del self._failures[next(iter(self._failures))]
        self._recent(address, now).append(now)

    def must_wait(self, address: str, now: float) -> bool:
        """Whether the address has failed too often in the last minute."""
        if address not in self._failures:
            return False
        recent = self._recent(address, now)
        if not recent:
            del self._failures[address]
        return len(recent) >= self._config.failures_per_minute_max

    def _recent(self, address: str, now: float) -> deque[float]:
        limit = self._config.failures_per_minute_max
        recent = self._failures.setdefault(address, deque(maxlen=max(1, limit)))
        while recent and now - recent[0] >= MINUTE_S:
            recent.popleft()
        return recent
