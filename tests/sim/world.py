"""The fake world: one seed, a clock that only the agenda moves, hosts that may fall asleep."""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from random import Random
from typing import Any

from tests.sim.tally import Seen, Tally

TIMER_LATE_S = 1e-6


class Livelock(AssertionError):  # noqa: N818 - a verdict on the minds, not an error of the world
    """The world was still busy after as many steps as any honest run needs."""


class World:
    """What happens, when: an agenda, and the only dice."""

    def __init__(self, seed: int, trace: Callable[[str], None] | None = None) -> None:
        self.seed = seed
        self.rng = Random(seed)
        self.now = 0.0
        self.steps = 0
        self.steps_max = 0
        self.trace = trace
        self.tally = Tally()
        self._agenda: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._entries = 0

    def at(self, delay_s: float, do: Callable[..., None], *args: Any) -> None:
        """Have ``do(*args)`` happen after a while."""
        self.on(self.now + delay_s, do, *args)

    def on(self, time: float, do: Callable[..., None], *args: Any) -> None:
        """Have ``do(*args)`` happen at a time: what keeps its order must be told so, because
        the sum of now and a difference to now is not quite the same for all."""
        self._entries += 1
        heappush(self._agenda, (time, self._entries, do, args))

    def step(self) -> None:
        """The next thing happens."""
        self.now, _, do, args = heappop(self._agenda)
        self.count_step()
        do(*args)

    def count_step(self) -> None:
        """One more thing happens, if not too many have."""
        self.steps += 1
        if self.steps > self.steps_max:
            raise Livelock(f"{self.steps} steps, and it is only {self.now:.3f} s")

    def run(self, until: float, done: Callable[[], bool], steps_max: int) -> None:
        """Let things happen until ``done()``, or the time has come.

        Raises:
            Livelock: ``steps_max`` steps were not enough.
        """
        self.steps_max = steps_max
        while self._agenda and self._agenda[0][0] <= until and not done():
            self.step()

    def note(self, who: str, what: object) -> None:
        """Write a line of the trace, if anyone reads it."""
        if self.trace is not None:
            self.trace(f"{self.now:10.4f} {who:<8} {what}")

    def saw(self, kind: Seen, times: int = 1) -> None:
        """Count what has happened."""
        self.tally[kind] += times

    def chance(self, probability: float) -> bool:
        """Throw the dice."""
        return self.rng.random() < probability


class Host:
    """A process of ours that can be stopped and continued, with or without its machine."""

    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.name = name
        self.rate, self.epoch = 1.0, 0.0
        self.awake_at = 0.0
        self.machine_awake_at = 0.0
        self.slept_s = 0.0

    def set_clock(self, rate: float, epoch: float) -> None:
        """Its clock shows ``epoch`` at the beginning, and runs at a rate of its own."""
        self.rate, self.epoch = rate, epoch

    @property
    def now(self) -> float:
        """What its clock shows."""
        return self.epoch + self.rate * self.world.now

    def on(self, deadline: float, do: Callable[..., None], *args: Any) -> None:
        """Have ``do(*args)`` happen when its clock shows a time. Like real timers it is a hair
        late rather than early: who looked at the clock then would find that it is not time yet."""
        late_s = 0.0 if self.rate == 1.0 else TIMER_LATE_S
        time = (deadline - self.epoch) / self.rate + late_s
        self.world.on(max(time, self.world.now), do, *args)

    def sleep(self, seconds: float, *, machine: bool) -> None:
        """Stop for so long; with ``machine`` the processes it started stop too."""
        self.world.saw(Seen.PAUSES)
        self.world.note(self.name, f"sleeps {seconds:.1f} s{' with its machine' * machine}")
        self.slept_s += seconds
        self.awake_at = max(self.awake_at, self.world.now + seconds)
        if machine:
            self.machine_awake_at = self.awake_at

    def asleep(self, do: Callable[..., None], *args: Any) -> bool:
        """Whether the host sleeps; if so, ``do(*args)`` happens when it wakes."""
        if self.world.now >= self.awake_at:
            return False
        self.world.on(self.awake_at, do, *args)
        return True

    def machine_asleep(self, do: Callable[..., None], *args: Any) -> bool:
        """The same for the machine."""
        if self.world.now >= self.machine_awake_at:
            return False
        self.world.on(self.machine_awake_at, do, *args)
        return True
