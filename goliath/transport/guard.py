"""Watches over strangers: connections that have not logged in, and addresses that failed to.

aiohttp has no deadline for request headers, so whoever connects and says nothing would
stay for ever; and until somebody has said something, nobody can tell who he is. A `Guard` decides
who may stay, when he comes, and who has to go, later; its owner does as it says.

Addresses are counted by `block_of`: in IPv6 everybody has 2⁶⁴ of them.
"""

from __future__ import annotations

import ipaddress
from collections import Counter, deque
from typing import Generic, TypeVar

from goliath.config import TransportConfig
from goliath.limits import Enforcer, Limit
from goliath.record import record

MINUTE_S = 60.0
ADDRESSES_MAX = 4096  # remembered for their failures; an attacker may have more
BANNED_MAX = 2
"""Connections of an address that has to wait: enough to tell an honest client there so."""

GRACE_S = 1.0
"""So long nobody has to make room for somebody else: a login takes four times the way, or five."""

_OWN_BITS = 64  # of an IPv6 address: whoever has one of these has all of them

C = TypeVar("C")
"""A connection: anything hashable."""


def block_of(address: str) -> str:
    """What counts as one address: an IPv4 address, or the /64 of an IPv6 one."""
    try:
        known = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address  # a name, or nothing
    if isinstance(known, ipaddress.IPv4Address):
        return str(known)
    if known.ipv4_mapped is not None:
        return str(known.ipv4_mapped)
    return str(ipaddress.ip_network((known, _OWN_BITS), strict=False))


def door_limits(config: TransportConfig) -> list[Limit]:
    """What holds for whoever has not logged in."""
    each = "connections before login"
    return [
        Limit(name, amount, unit, Enforcer.GOLIATH)
        for name, amount, unit in (
            ("time of a login", config.handshake_max_s, "s"),
            ("message before login", config.handshake_message_max_bytes, "bytes"),
            ("everything before login", config.unauthenticated_max_bytes, "bytes"),
            (each, config.unauthenticated_max, "connections"),
            (f"{each} per address", config.unauthenticated_per_address_max, "connections"),
            ("failed logins per address and minute", config.failures_per_minute_max, "logins"),
            ("descriptors kept from strangers", config.descriptor_reserve, "descriptors"),
        )
    ]


@record
class _Stranger:
    block: str
    since: float


class Guard(Generic[C]):
    """Decides which connections must go and which addresses must wait."""

    def __init__(self, config: TransportConfig) -> None:
        self._config = config
        self._strangers: dict[C, _Stranger] = {}  # the oldest first
        self._crowds: Counter[str] = Counter()
        self._friends: dict[C, str] = {}  # have logged in: with their addresses
        self._known: Counter[str] = Counter()
        self._failures: dict[str, deque[float]] = {}

    def admit(self, connection: C, address: str, now: float) -> C | None:
        """Somebody has come. None: he may stay, and so may all others; else who has to go, which
        may be himself.

        Where there are too many of an address, its oldest makes room; where there are too many in
        all, the oldest of whoever has the most. So those who only sit there keep nobody out.

        Where some have logged in, as many more may come: nodes that have joined dial again when
        they are wanted, all at once, and a router may stand before all of them.
        """
        config, block = self._config, block_of(address)
        most = BANNED_MAX if self.wait_s(address, now) else config.unauthenticated_per_address_max
        most += self._known[block]
        leaves: C | None = None
        if self._crowds[block] >= most:
            leaves = self._oldest(self._crowds[block], now, block)
        elif self._crowds[block] >= self._known[block] and self._full():
            size = max(self._crowds.values())
            leaves = self._oldest(size, now) if size > self._crowds[block] else None
        else:
            self._enter(connection, block, now)
            return None
        if leaves is None:
            return connection
        self.forget(leaves)
        self._enter(connection, block, now)
        return leaves

    def _full(self) -> bool:
        strange = sum(max(0, size - self._known[block]) for block, size in self._crowds.items())
        return strange >= self._config.unauthenticated_max

    def _enter(self, connection: C, block: str, now: float) -> None:
        self._strangers[connection] = _Stranger(block, now)
        self._crowds[block] += 1

    def _oldest(self, size: int, now: float, block: str = "") -> C | None:
        """Of an address, or of all that have so many, if it has had the time that a login takes."""
        for connection, stranger in self._strangers.items():
            if self._crowds[stranger.block] == size and block in ("", stranger.block):
                return connection if now - stranger.since >= GRACE_S else None
        return None

    def trust(self, connection: C) -> None:
        """It has logged in, unless it is gone."""
        stranger = self._strangers.get(connection)
        if stranger is not None:
            self.forget(connection)
            self._friends[connection] = stranger.block
            self._known[stranger.block] += 1

    def forget(self, connection: C) -> None:
        """It is gone."""
        stranger = self._strangers.pop(connection, None)
        if stranger is not None:
            _take_one(self._crowds, stranger.block)
        block = self._friends.pop(connection, None)
        if block is not None:
            _take_one(self._known, block)

    def strangers(self) -> list[C]:
        """Those that have not logged in, the oldest first."""
        return list(self._strangers)

    def overdue(self, now: float) -> list[C]:
        """Those that must go now: they have had their time to log in."""
        before = now - self._config.handshake_max_s
        return [c for c, stranger in self._strangers.items() if stranger.since <= before]

    # -- failures ----------------------------------------------------------------------

    def failed(self, address: str, now: float) -> None:
        """A login from the address failed."""
        block = block_of(address)
        if block not in self._failures and len(self._failures) >= ADDRESSES_MAX:
            del self._failures[next(iter(self._failures))]
        self._recent(block, now).append(now)

    def wait_s(self, address: str, now: float) -> float:
        """How long the address has to wait, because it has failed too often in the last minute;
        0 if it has not."""
        block = block_of(address)
        if block not in self._failures:
            return 0.0
        recent = self._recent(block, now)
        if not recent:
            del self._failures[block]
        if len(recent) < self._config.failures_per_minute_max:
            return 0.0
        return recent[0] + MINUTE_S - now

    def _recent(self, block: str, now: float) -> deque[float]:
        limit = self._config.failures_per_minute_max
        recent = self._failures.setdefault(block, deque(maxlen=max(1, limit)))
        while recent and now - recent[0] >= MINUTE_S:
            recent.popleft()
        return recent


def _take_one(counts: Counter[str], block: str) -> None:
    counts[block] -= 1
    if not counts[block]:
        del counts[block]
