"""Rules of thumb as plain values: how big a batch, how much ahead, how often to try again."""

from __future__ import annotations

from collections import deque
from dataclasses import field
from enum import IntEnum
from math import ceil, inf
from typing import Self

from goliath.record import frozen, record

FAST_CALL_S = 10e-6
WORTH_SENDING_S = 0.001
"""Worker time of the smallest batch that is cut on purpose: about what one costs on its way."""

OPENING_CALLS = 4096
"""The first batches of a run are no bigger, and later ones no bigger than all before together:
until the first is encoded and sent, all workers wait."""

OOM_RETRIES = 1
"""A call whose worker was killed for memory is tried once more, alone on its node, for others may
have taken the memory. To try it more often would do the same to the node again."""

LATE_FACTOR = 2.0
"""A call is late that has taken so many times the median of those that have finished.

Hadoop and Spark copy what takes 1.5 to 3 times as long as usual. What a copy costs is a slot that
would stand idle; and of run times with a heavy tail, what has taken twice the median is
more likely to take as long again than a copy is."""

LATE_MIN_S = 0.25
"""Nothing is late before this: a finished result may wait for 0.1 s to be reported with others, and
a worker may have to be forked for the copy, and import what the function needs."""

PACE_SAMPLES = 101

ON_THE_WAY_MAX = 64
"""Batches of a job that are sent ahead for the sake of a long way: more would have to be robbed."""

NODE_LOSSES_MAX = 10
"""A call that was on so many lost nodes is given up: it may be what kills them."""

BIG_BYTES = 100 * 1024
"""A node that is full refuses what is bigger; the rest it must be able to be told."""


class Level(IntEnum):
    """How short of memory a node is (see `core.pressure`)."""

    EASY = 0
    STRAINED = 1
    FULL = 2


@record
class Cost:
    """What one call of a function takes, in seconds, learned from what workers report.

    Sums that halve with every report: a report of many calls outweighs one of a single
    call, so the first slow call (imports in the function) is forgotten at once.
    """

    per_call_s: float | None = None
    """Seconds of worker time per call; None while nothing is known."""
    _elapsed_s: float = 0.0
    _calls: float = 0.0

    def learn(self, elapsed_s: float, calls: int) -> None:
        """Take in that ``calls`` calls took ``elapsed_s`` together."""
        self._elapsed_s = self._elapsed_s / 2 + elapsed_s
        self._calls = self._calls / 2 + calls
        self.per_call_s = max(self._elapsed_s / self._calls, 1e-9)


@record
class Pace:
    """What calls of one job have usually taken; many short ones together, as they were reported."""

    finished: int = 0
    """Calls that have ended by themselves; one that was retried, each time."""
    _recent: deque[float] = field(default_factory=lambda: deque(maxlen=PACE_SAMPLES))

    def learn(self, elapsed_s: float, calls: int) -> None:
        """Take in that ``calls`` calls took ``elapsed_s`` together."""
        self.finished += calls
        self._recent.append(elapsed_s / calls)

    def late_after(self, calls: int) -> float:
        """Seconds after which so many calls, made one after the other, are late."""
        middle_s = sorted(self._recent)[len(self._recent) // 2]
        return max(LATE_FACTOR * middle_s * calls, LATE_MIN_S)


@frozen
class BatchPolicy:
    """How many calls make a batch."""

    target_fast_s: float = 0.030
    linger_s: float = 0.1
    linger_watched_s: float = 0.010
    calls_max: int = 65_536
    bytes_max: int = 1024 * 1024

    def linger(self, *, watched: bool) -> float:
        """Seconds that a finished result may wait to be reported with others (the term is
        Kafka's); a batch is meant to take as long."""
        return self.linger_watched_s if watched else self.linger_s

    def target(self, per_call_s: float, *, watched: bool) -> float:
        """Seconds of worker time that a batch should take; a single call may take longer."""
        if per_call_s < FAST_CALL_S:
            return self.target_fast_s
        return max(per_call_s, self.linger(watched=watched))

    def size(
        self,
        per_call_s: float | None,
        bytes_per_call: float,
        remaining: int | None,
        slots: int,
        *,
        watched: bool = True,
        before: int = 0,
    ) -> int:
        """Calls of the next batch: one while nothing is known of the function."""
        if per_call_s is None:
            return 1
        size = min(int(self.target(per_call_s, watched=watched) / per_call_s), self.calls_max)
        if bytes_per_call * size > self.bytes_max:
            size = int(self.bytes_max / bytes_per_call)
        if remaining is not None:
            # Shares get smaller towards the end, so that all workers end together, but not so
            # small that they cost more than they run.
            share = ceil(remaining / (2 * max(slots, 1)))
            size = min(size, max(share, int(WORTH_SENDING_S / per_call_s)))
        return max(min(size, max(before, OPENING_CALLS)), 1)

    def window(
        self, capacity: int, rtt_s: float, batch_s: float | None, concurrency: int = 1
    ) -> int:
        """Batches that may be on a node at once: two a slot, and what the way there swallows.

        Of those that share a worker (``concurrency``), all that can run and one more a worker. A
        way that is shorter than a batch is bridged by the second one of each slot.
        """
        usual = capacity + capacity // concurrency
        if batch_s is None:
            return usual
        on_the_way = capacity * int(rtt_s / max(batch_s, 1e-3))
        return usual + min(on_the_way, capacity if concurrency > 1 else ON_THE_WAY_MAX)


@record
class RestartIntensity:
    """At most ``max_restarts`` restarts within ``window_s`` seconds (the term is Erlang's)."""

    max_restarts: int
    window_s: float
    _times: deque[float] = field(default_factory=deque)

    @classmethod
    def of_actor(cls, max_restarts: int, window_s: float | None) -> Self:
        """What its options say: -1 restarts are any number, no window is for ever."""
        return cls(max_restarts if max_restarts >= 0 else 1 << 30, window_s or inf)

    def allows(self, now: float) -> bool:
        """Whether one more restart is within bounds; counts it."""
        while self._times and now - self._times[0] > self.window_s:
            self._times.popleft()
        self._times.append(now)
        return len(self._times) <= self.max_restarts

    def __str__(self) -> str:
        within = "" if self.window_s == inf else f" within {self.window_s:g} s"
        return f"{self.max_restarts} time{'s' * (self.max_restarts != 1)}{within}"


@frozen
class NodePolicy:
    """The knobs of `goliath.config.NodeConfig` that decide something."""

    cancel_grace_s: float = 4.0
    parked_max_s: float = 60.0
    starved_after_s: float = 1.0
    restart_max: int = 5
    restart_window_s: float = 10.0
    tasks_per_worker_max: int | None = None
    waiting_max: int = 512
    timeout_grace_s: float = 1.0  # for a coroutine whose time is up, before its worker is killed
    crowded_s: float = 0.5  # no room for another process: none is started for so long
    depot_bytes: int = 1024 * 1024 * 1024  # big results that are kept for their Commanders
    spill_bytes: int = 0  # of those that memory has no room for, what is kept on disk
    bytes_per_worker_max: int | None = None  # of memory, once it has run something
    pause_share: float = 0.8  # of the memory it may have: above it nothing new begins
    refuse_share: float = 0.95  # ... and nothing big is taken on
    strain_patience_s: float = 10.0  # ... and after so long one thing at a time begins all the same
    alone_patience_s: float = 30.0  # a call that is to run alone waits no longer for what runs
