"""What goes wrong, and when: drawn once from the seed, over by a known time."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from random import Random

from tests.sim.commander import Commander
from tests.sim.ledger import End
from tests.sim.lieutenant import Lieutenant
from tests.sim.link import Route
from tests.sim.tally import Seen
from tests.sim.world import World

KINDS = (
    *("crash", "kill", "kill", "kills", "cut", "cut", "half", "partition", "one-way"),
    *("lossy", "repeat", "pause", "pause-commander", "drain", "sluggish", "stop", "stops"),
)


class Malice:
    """Spoils a cluster for a while."""

    def __init__(
        self,
        world: World,
        commanders: list[Commander],
        lieutenants: list[Lieutenant],
        routes: list[Route],
    ) -> None:
        self._world = world
        self._commanders = commanders
        self._lieutenants = lieutenants
        self._routes = routes

    def plan(self, count: int, until: float) -> float:
        """Put ``count`` faults on the agenda; when the last of them is healed."""
        over = 0.0
        for _ in range(count):
            begin = self._world.rng.uniform(0.0, until) ** 2 / until  # mostly early
            fault, heal, lasts = self._draw()
            self._world.at(begin, fault)
            self._world.at(begin + lasts, heal)
            over = max(over, begin + lasts)
        return over

    def besiege(self) -> float:
        """Separate a Commander from a node for longer than a session lives; until when."""
        rng = self._world.rng
        route = rng.choice(self._routes)
        sides = rng.choice(((0, 1), (0,), (1,)))
        begin, lasts = rng.uniform(0.3, 3.0), rng.uniform(78.0, 110.0)
        self._world.at(begin, self._deafen, route, sides, True)
        self._world.at(begin + lasts, self._deafen, route, sides, False)
        return begin + lasts

    def revoke(self, tokens: Random) -> float:
        """Take tokens back, each at one node, and give them out again; until when."""
        over = 0.0
        for _ in range(tokens.choice((1, 1, 2))):
            node, realm = tokens.choice(self._lieutenants), tokens.choice(self._commanders).realm
            begin, lasts = tokens.uniform(0.0, 20.0) ** 2 / 20.0, tokens.uniform(0.1, 30.0)
            self._world.at(begin, node.revoke, realm, self._world.now + begin + lasts)
            over = max(over, begin + lasts)
        return over

    def _draw(self) -> tuple[Callable[[], None], Callable[[], None], float]:
        rng = self._world.rng
        node = rng.choice(self._lieutenants)
        route = rng.choice(self._routes)
        short, long = rng.uniform(0.01, 5.0), rng.uniform(5.0, 100.0)
        kind = rng.choice(KINDS)
        match kind:
            case "crash":
                return node.crash, node.boot, rng.choice((short, long / 2))
            case "kill" | "kills" | "stop" | "stops":
                lasts = rng.choice((short, long / 2))
                return partial(self._strike_workers, node, kind, lasts), _nothing, lasts
            case "cut":
                return route.cut, _nothing, 0.0
            case "half":
                return partial(route.cut, half_open=rng.randrange(2)), _nothing, 30.0
            case "partition" | "one-way":
                sides = (0, 1) if kind == "partition" else (rng.randrange(2),)
                deafen = partial(self._deafen, route, sides, True)
                return deafen, partial(self._deafen, route, sides, False), rng.choice((short, long))
            case "lossy" | "repeat":
                name = "loss" if kind == "lossy" else "duplication"
                spoil = partial(setattr, route, name, rng.choice((0.01, 0.1, 0.3)))
                return spoil, partial(setattr, route, name, 0.0), rng.choice((short, long / 2))
            case "pause":
                lasts = rng.choice((short, long))
                return partial(node.sleep, lasts, machine=rng.random() < 0.5), _nothing, lasts
            case "pause-commander":
                lasts = rng.choice((short, long))
                sleep = partial(rng.choice(self._commanders).sleep, lasts, machine=False)
                return sleep, _nothing, lasts
            case "drain":
                return node.drain, node.boot, long
            case _:
                latency = route.latency_s
                slow = partial(setattr, route, "latency_s", rng.uniform(0.1, 1.0))
                return slow, partial(setattr, route, "latency_s", latency), long / 2

    def _strike_workers(self, node: Lieutenant, kind: str, seconds: float) -> None:
        """Kill, or stop for a while, one of them or several."""
        living = [process for process in node.processes.values() if not process.dead]
        for process in self._world.rng.sample(
            living, min(5 if kind[-1] == "s" else 1, len(living))
        ):
            if kind.startswith("stop"):
                self._world.note(node.name, f"worker {process.worker} stops for {seconds:.1f} s")
                process.stop(seconds)
            else:
                self._world.note(node.name, f"loses worker {process.worker}")
                process.die(End.STOPPED if process.doomed else End.DIED)

    def _deafen(self, route: Route, sides: tuple[int, ...], deaf: bool) -> None:
        self._world.saw(Seen.PARTITIONS, deaf)
        for side in sides:
            route.deaf[side] = deaf


def _nothing() -> None:
    """Some faults heal by themselves."""
