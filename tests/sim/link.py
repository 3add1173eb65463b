"""Ways between Commanders and Lieutenants, and the links made over them, which break."""

from __future__ import annotations

from typing import Protocol

from tests.sim.tally import Seen
from tests.sim.world import World

CLIENT, SERVER = 0, 1
Frame = bytes | tuple[object, ...]
"""A frame of the session protocol, or (a tuple) a step of the login."""


class LinkEnd(Protocol):
    """Whoever holds one end of a link."""

    def on_frame(self, link: Link, frame: Frame) -> None:
        """A frame arrives."""

    def on_cut(self, link: Link) -> None:
        """The link is gone."""


class Route:
    """The network between one Commander and one Lieutenant: how slow, how deaf, how unjust."""

    def __init__(self, world: World, latency_s: float, frame_s: float, realm: str) -> None:
        self.world = world
        self.realm = realm  # whose token the client has
        self.latency_s = latency_s
        self.frame_s = frame_s  # a sender needs so long for one frame; what waits, may be overtaken
        self.deaf = [False, False]  # towards the client, towards the server
        self.loss = 0.0
        self.duplication = 0.0
        self.links: list[Link] = []

    def link(self, client: LinkEnd, server: LinkEnd) -> Link:
        """Connect."""
        link = Link(self, client, server)
        self.links.append(link)
        return link

    def cut(self, *, half_open: int | None = None) -> None:
        """Break what is connected, losing what is on its way; one end may never hear of it."""
        self.world.saw(Seen.CUTS if half_open is None else Seen.HALF_OPEN, len(self.links))
        for link in list(self.links):
            link.cut(silent_for=half_open)


class Link:
    """One connection: ordered both ways, until it is cut or goes silent."""

    def __init__(self, route: Route, client: LinkEnd, server: LinkEnd) -> None:
        self._route = route
        self.ends = [client, server]
        self.alive = True
        self._last = [0.0, 0.0]

    def send(self, to: int, frame: Frame) -> None:
        """Put a frame on its way; the network may lose or repeat it."""
        route, world = self._route, self._route.world
        if not self.alive or route.deaf[to]:
            return
        if route.loss and world.chance(route.loss):
            world.saw(Seen.LOST_FRAMES)
            world.note("network", "loses a frame")
            return
        copies = 2 if route.duplication and world.chance(route.duplication) else 1
        if copies > 1:
            world.saw(Seen.REPEATED_FRAMES)
        for _ in range(copies):
            arrival = world.now + route.latency_s * (0.5 + world.rng.random())
            self._last[to] = arrival = max(arrival, self._last[to])
            world.on(arrival, self._deliver, to, frame)

    def _deliver(self, to: int, frame: Frame) -> None:
        if self.alive and not self._route.deaf[to]:
            self.ends[to].on_frame(self, frame)

    def cut(self, *, by: int | None = None, silent_for: int | None = None) -> None:
        """End it. Who did it knows; the other is told, if the network lets the news through."""
        if not self.alive:
            return
        self.alive = False
        self._route.links.remove(self)
        for side in (CLIENT, SERVER):
            if side not in (by, silent_for) and not self._route.deaf[side]:
                self._route.world.at(self._route.latency_s, self.ends[side].on_cut, self)
