"""How long whoever dials waits before the next attempt."""

from __future__ import annotations

import random

from goliath.config import TransportConfig
from goliath.errors import AuthenticationError, VersionMismatchError
from goliath.transport.busy import BusyError
from goliath.transport.token import TokenRefusedError

HOPELESS = 32  # so many failed attempts, or one that only a human can help
REFUSED_TIMES = 6.0  # as long as the longest pause: ten refusals in a minute ban an address, with
# all the honest ones who share it, and a token that is refused will be the next time, too
SETTLED_S = 1.0  # a link that lived so long was a success: the next attempt is an early one


class Backoff:
    """Full jitter: a random part of a time that doubles with each failed attempt; on top of what a
    busy node has asked for."""

    def __init__(self, config: TransportConfig, rng: random.Random) -> None:
        self._config = config
        self._rng = rng
        self._attempts = 0
        self._rest_s = 0.0
        self._refused = False

    def failed(self, exc: Exception) -> None:
        """An attempt failed."""
        self._refused = isinstance(exc, TokenRefusedError)
        hopeless = isinstance(exc, AuthenticationError | VersionMismatchError)
        self._rest_s = exc.retry_after_s if isinstance(exc, BusyError) else 0.0
        self._attempts = HOPELESS if hopeless else self._attempts + 1

    def ended(self, lived_s: float) -> None:
        """A link that had been made has ended."""
        self._rest_s, self._refused = 0.0, False
        self._attempts = 0 if lived_s >= SETTLED_S else self._attempts + 1

    def delay_s(self) -> float:
        """How long to wait now."""
        config = self._config
        if self._refused:
            return REFUSED_TIMES * config.reconnect_max_s
        if self._attempts >= HOPELESS:
            return config.reconnect_max_s
        limit = config.reconnect_min_s * 2.0**self._attempts
        pause_s = self._rng.uniform(0, min(config.reconnect_max_s, limit))
        return min(self._rest_s, config.reconnect_max_s) + pause_s
