"""A Commander's way to one Lieutenant: dials, logs in, resumes, and dials again."""

from __future__ import annotations

from typing import Protocol

from goliath.core.ids import NodeId
from goliath.transport import dialer
from goliath.transport.handshake import KILLS_AFTER
from goliath.transport.message import Message
from goliath.transport.protocol import Side
from tests.sim.endpoint import CONFIG, Endpoint
from tests.sim.lieutenant import Lieutenant
from tests.sim.link import CLIENT, SERVER, Frame, Link, Route
from tests.sim.tally import Seen
from tests.sim.world import Host


class PeerOwner(Protocol):
    """The Commander, as its peers see it."""

    def on_joined(self, peer: Peer) -> None:
        """There is a new session."""

    def on_lost(self, peer: Peer, node: NodeId) -> None:
        """A session is gone for good."""

    def on_message(self, peer: Peer, message: Message) -> None:
        """A node speaks."""


class Peer:
    """Keeps one session alive, or makes another."""

    def __init__(self, host: Host, lieutenant: Lieutenant, route: Route, owner: PeerOwner) -> None:
        self.lieutenant = lieutenant
        self.end: Endpoint | None = None
        self.node = NodeId("")
        self._host = host
        self._world = host.world
        self._route = route
        self._owner = owner
        self._joined = 0
        self._dials = 0
        self._proved_at = 0.0
        self._link: Link | None = None  # that is logging in
        self._session_name = ""

    @property
    def rtt_s(self) -> float:
        """What the login has measured, about."""
        return 2.0 * self._route.latency_s

    def dial(self) -> None:
        """Try to connect; try again if nothing has come of it in time."""
        if self._host.asleep(self.dial) or self._linked():
            return
        self._hang_up()
        self._dials += 1
        self._world.at(CONFIG.connect_timeout_s, self._give_up, self._dials)
        self._link = self._route.link(self, self.lieutenant)
        self._speak(("hello",))

    def _linked(self) -> bool:
        return self.end is not None and self.end.link is not None

    def _give_up(self, dial: int) -> None:
        if dial == self._dials and not self._linked():
            self._hang_up()
            self.dial_later()

    def dial_later(self) -> None:
        """With full jitter."""
        low, high = CONFIG.reconnect_min_s, CONFIG.reconnect_max_s
        self._world.at(self._world.rng.uniform(low, high), self.dial)

    def _hang_up(self) -> None:
        if self._link is not None:
            self._link.cut(by=CLIENT)
            self._link = None

    def _speak(self, frame: Frame) -> None:
        assert self._link is not None
        self._link.send(SERVER, frame)

    def on_frame(self, link: Link, frame: Frame) -> None:
        """A step of the login."""
        if link is not self._link or self._host.asleep(self.on_frame, link, frame):
            return
        if isinstance(frame, bytes):
            return  # the welcome before it was lost
        if frame[0] == "challenge":
            self._proved_at = self._host.now
            seen = 0
            if self.end is not None:
                # Only the proof keeps the other end's session alive: were a hello to count, a
                # stopped Lieutenant, whose kernel still takes it, would never be given up.
                self.end.protocol.spoke(self._host.now)
                seen = self.end.protocol.seen
            self._speak(("proof", self._route, self._session_name, seen))
        else:
            _, session, seen, limits = frame
            assert isinstance(session, str)
            assert isinstance(seen, int)
            assert isinstance(limits, dict)
            self._on_welcome(link, session, seen, limits)

    def _on_welcome(
        self, link: Link, session: str, server_seen: int, limits: dict[str, float]
    ) -> None:
        self._link = None
        if self.end is not None and session != self._session_name:
            self.end.end()  # the Lieutenant does not know it any more
        elif self.end is None and session == self._session_name:
            link.cut(by=CLIENT)  # it was given up while this login was on its way
            self._session_name = ""
            self.dial_later()
            return
        if self.end is None:
            self._joined += 1
            self._session_name = session
            self.node = NodeId(f"{self.lieutenant.name}#{self._joined}")
            config = dialer._agreeing(limits, CONFIG)
            name = self.node
            self.end = Endpoint(self._host, Side.COMMANDER, name, self._route, self, config)
            self._note_skew(limits)
            self.end.attach(link, server_seen, self._proved_at)
            self._owner.on_joined(self)
        elif self.end.attach(link, server_seen, self._proved_at):
            self._world.saw(Seen.RESUMED)
        else:
            link.cut(by=CLIENT)

    def _note_skew(self, limits: dict[str, float]) -> None:
        if self._host.rate != self.lieutenant.rate:
            self._world.saw(Seen.SKEWED_CLOCKS)
        if limits[KILLS_AFTER] != CONFIG.session_kill_s:
            self._world.saw(Seen.SKEWED_LEASES)

    def on_cut(self, link: Link) -> None:
        """The link went before the login was done; `_give_up` will see to it."""
        if link is self._link:
            self._link = None

    # -- the session -----------------------------------------------------------------------

    def on_message(self, end: Endpoint, message: Message) -> None:
        """The node says something."""
        if end is self.end:
            self._owner.on_message(self, message)

    def on_link_lost(self, end: Endpoint) -> None:
        """Resume over another one."""
        self.dial_later()

    def on_over(self, end: Endpoint) -> None:
        """The session is lost; another may be had."""
        if end is self.end:
            self.end = None
            self._session_name = ""
            self._world.saw(Seen.LOST_SESSIONS)
            self._owner.on_lost(self, NodeId(end.name))
            self.dial_later()
