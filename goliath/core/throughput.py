"""How many bytes a second a link takes, from when the other end says that they have arrived.

That says something of the link only while it was busy: so what counts is what is acknowledged
between two moments at both of which, and so all the time between, more was on its way. Whoever
reads slowly makes a link look slow, but never fast: of several samples the best one is believed.
"""

from __future__ import annotations

BUSY_BYTES = 64 * 1024  # as long as so much is on its way, the link has something to carry
SAMPLE_BYTES = 256 * 1024  # of less, the moments of two acknowledgements say too little
SAMPLES = 2
VALID_S = 30.0  # then it is measured again: links change, and so does who else uses them


class Throughput:
    """What is known of one direction of a link.

    Args:
        slow_bytes_s: a link is slow if it takes less than so many bytes a second.
    """

    __slots__ = ("_best", "_bytes", "_since", "_slow_bytes_s", "_taken", "_until")

    def __init__(self, slow_bytes_s: float) -> None:
        self._slow_bytes_s = slow_bytes_s
        self._since: float | None = None
        self._bytes = 0
        self._best = 0.0
        self._taken = 0
        self._until = 0.0

    def acknowledged(self, size: int, unacked_bytes: int, now: float) -> None:
        """So many bytes have arrived, and so many are still on their way."""
        if self._is_known(now):
            return
        if self._since is not None:
            self._bytes += size
            if self._bytes >= SAMPLE_BYTES and now > self._since:
                self._take(self._bytes / (now - self._since), now)
                self._since = None
        if unacked_bytes < BUSY_BYTES:
            self._since = None
        elif self._since is None:
            self._since, self._bytes = now, 0

    def is_slow(self, now: float) -> bool:
        """Whether it is known to be."""
        return self._is_known(now) and self._best < self._slow_bytes_s

    def forget(self) -> None:
        """It is another link from now on."""
        self._since, self._best, self._taken = None, 0.0, 0

    def _is_known(self, now: float) -> bool:
        if self._taken < SAMPLES:
            return False
        if now >= self._until:
            self.forget()
        return self._taken > 0

    def _take(self, bytes_s: float, now: float) -> None:
        self._best = max(self._best, bytes_s)
        self._taken += 1
        self._until = now + VALID_S
