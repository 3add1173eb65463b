"""One end of a session: the real protocol, carried by links of the fake network."""

from __future__ import annotations

from math import inf
from typing import Protocol

from goliath.config import TransportConfig
from goliath.errors import ProtocolError
from goliath.transport.message import Message
from goliath.transport.protocol import SessionOver, SessionProtocol, Side
from tests.sim.link import CLIENT, SERVER, Frame, Link, Route
from tests.sim.world import Host

CONFIG = TransportConfig()
LEAST_S = 0.001


class Owner(Protocol):
    """Whoever is spoken to through an endpoint."""

    def on_message(self, end: Endpoint, message: Message) -> None:
        """The next message."""

    def on_link_lost(self, end: Endpoint) -> None:
        """The session has no link for now."""

    def on_over(self, end: Endpoint) -> None:
        """The session has ended."""


class Endpoint:
    """A session's end: pumps frames out, takes frames in, obeys the protocol's timers."""

    def __init__(
        self,
        host: Host,
        side: Side,
        name: str,
        route: Route,
        owner: Owner,
        config: TransportConfig = CONFIG,
    ) -> None:
        self.host = host
        self.name = name
        self.over = False
        self.link: Link | None = None
        self.most_unacked = 0
        self._world = host.world
        self._to = SERVER if side is Side.COMMANDER else CLIENT
        self._route = route
        self._owner = owner
        self._pump_due = False
        self._timer_at = inf
        self.protocol = SessionProtocol(side, name, config, host.now)
        self._rearm()

    def attach(self, link: Link, peer_seen: int, proved_at: float) -> bool:
        """Go on over a new link; False if the session ended in the meantime."""
        if self.link is not None:
            self.cut()
        now = self.host.now
        try:
            self.protocol.link_made(peer_seen, proved_at=proved_at, now=now, checksum=False)
        except SessionOver:
            self.end()
            return False
        self.link = link
        link.ends[1 - self._to] = self
        self._pump_soon()
        self._rearm()
        return True

    def send(self, message: Message) -> None:
        """Say something, now or on the next link."""
        if not self.over:
            self.protocol.send(message)
            self._pump_soon()

    def leave(self) -> None:
        """Say goodbye."""
        self.protocol.leave()
        self._pump_soon()

    def on_frame(self, link: Link, frame: Frame) -> None:
        """A frame has arrived; of an earlier link it does not count."""
        if self.over or link is not self.link or self.host.asleep(self.on_frame, link, frame):
            return
        if isinstance(frame, tuple):
            return  # a login step that the network has repeated
        try:
            message = self.protocol.receive_frame(frame, self.host.now)
        except SessionOver:
            self.end()
            return
        except ProtocolError:
            self.cut()
            return
        if message is not None:
            self._owner.on_message(self, message)
        self._pump_soon()
        self._rearm()

    def on_cut(self, link: Link) -> None:
        """The network says that the link is gone."""
        if not self.over and link is self.link and not self.host.asleep(self.on_cut, link):
            self._lose_link()

    def cut(self) -> None:
        """End the link from here."""
        if self.link is not None:
            self.link.cut(by=1 - self._to)
            self._lose_link()

    def end(self) -> None:
        """The session is over."""
        if self.over:
            return
        self.over = True
        if self.link is not None:
            self.link.cut(by=1 - self._to)
            self.link = None
        self._owner.on_over(self)

    def _lose_link(self) -> None:
        self.link = None
        self.protocol.link_lost()
        self._owner.on_link_lost(self)
        self._rearm()

    def _pump_soon(self) -> None:
        if not self._pump_due and self.link is not None:
            self._pump_due = True
            self._world.at(self._route.frame_s, self._pump)

    def _pump(self) -> None:
        if self.over or self.host.asleep(self._pump):
            return
        self._pump_due = False
        try:
            while self.link is not None:
                frame = self.protocol.next_frame(self.host.now)
                if frame is None:
                    break
                self.link.send(self._to, frame)
                if self._route.frame_s:
                    self._pump_soon()
                    break
        except SessionOver:
            self.end()

    def _rearm(self) -> None:
        at = max(self.protocol.next_deadline(), self.host.now + LEAST_S)
        if not self.over and at < self._timer_at:
            self._timer_at = at
            self.host.on(at, self._on_timer, at)

    def _on_timer(self, at: float) -> None:
        if self.over or at != self._timer_at or self.host.asleep(self._on_timer, at):
            return
        self._timer_at = inf
        try:
            silent = self.protocol.handle_timer(self.host.now)
        except SessionOver:
            self.end()
            return
        if silent:
            self.cut()
        self._pump_soon()
        self._rearm()
