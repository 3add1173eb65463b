"""The sessions that a Lieutenant has granted: begun, resumed by the next link, ended."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from goliath.clock import Clock
from goliath.config import TransportConfig
from goliath.errors import ConnectionError  # noqa: A004
from goliath.record import frozen
from goliath.transport.channel import Channel
from goliath.transport.connection import SessionChannel
from goliath.transport.handshake import KILLS_AFTER, MESSAGE_MAX, Caller, Peer, ServerHandshake
from goliath.transport.host import Stay
from goliath.transport.protocol import SessionProtocol, Side
from goliath.transport.websocket import WebSocketLink, may_compress


@frozen
class _Held:
    """A session and to whom it was given."""

    channel: SessionChannel
    kid: str
    client_id: str


class GrantedSessions:
    """A `Host` of Commanders. Whether they have dialed or were dialed is nothing to it.

    Args:
        config: timers and limits.
        clock: tells ``now``.
        on_session: called with each new session; nothing is read from it until it has a
            receiver. Resumed sessions are not reported.
        limits: called for each login with the name of its token (`Peer.kid`); what it returns is
            told to the Commander (``slots``, …).
    """

    def __init__(
        self,
        config: TransportConfig,
        clock: Clock,
        *,
        on_session: Callable[[Channel, Peer], None],
        limits: Callable[[str], Mapping[str, Any]] = lambda kid: {},
    ) -> None:
        self._config = config
        self._clock = clock
        self._on_session = on_session
        self._limits = limits
        self._server_id = secrets.token_hex(8)
        self._incarnation = secrets.randbits(48)
        self._sessions: dict[str, _Held] = {}
        self._draining = False

    def __repr__(self) -> str:
        return f"<GrantedSessions {len(self._sessions)}>"

    def __len__(self) -> int:
        return len(self._sessions)

    def drain(self) -> None:
        """See `Host.drain`. The sessions that exist go on, and may still be resumed."""
        self._draining = True

    async def send_away(self, knows: Callable[[str], bool]) -> None:
        """See `Host.send_away`."""
        async with asyncio.TaskGroup() as goodbyes:
            for held in list(self._sessions.values()):
                if not knows(held.kid):
                    goodbyes.create_task(held.channel.leave())

    async def admit(
        self, link: WebSocketLink, handshake: ServerHandshake, caller: Caller, address: str
    ) -> Stay | None:
        """Take up the caller's session or grant a new one; None if it is turned away."""
        session_id, held = self._find(caller)
        refusal = "" if handshake.compatible(caller) else "other versions"
        if held is None and self._draining:
            refusal = refusal or "it is draining; another one, or a later try, will do"
        if refusal:
            await link.send_bytes(handshake.refuse(refusal))
            return None
        compress = link.compress = caller.zstd and may_compress(self._config)
        if link.is_memory(caller.span):
            link.needs_checksum = False
        resumed, session_id = held is not None, session_id or secrets.token_hex(16)
        welcome = handshake.welcome(
            server_id=self._server_id,
            incarnation=self._incarnation,
            session_id=session_id,
            resumed=resumed,
            seen=held.channel.seen if held is not None else 0,
            limits={
                **self._limits(caller.kid),
                KILLS_AFTER: self._config.session_kill_s,
                MESSAGE_MAX: self._config.message_max_bytes,
            },
            zstd=compress,
            sums=link.needs_checksum,
        )
        await link.send_bytes(welcome)
        # After the welcome has left: a session that nobody knows of must not exist.
        if held is None:
            channel, seen = self._open(session_id, caller, address), 0
        else:
            channel, seen = held.channel, caller.seen
        proved_at = self._clock.now()

        async def stay() -> str:
            await channel.carry(link, peer_seen=seen, proved_at=proved_at)
            return channel.offence

        return stay

    def _find(self, caller: Caller) -> tuple[str, _Held | None]:
        """The session the caller may take up again: granted here, to it, for the same token."""
        ticket = caller.ticket
        held = self._sessions.get(ticket.session_id) if ticket is not None else None
        if (
            ticket is None
            or held is None
            or ticket.incarnation != self._incarnation
            or (held.kid, held.client_id) != (caller.kid, caller.client_id)
        ):
            return "", None
        return ticket.session_id, held

    def _open(self, session_id: str, caller: Caller, address: str) -> SessionChannel:
        for held in list(self._sessions.values()):
            if (held.kid, held.client_id) == (caller.kid, caller.client_id):
                # Another node may have its work by now: this machine has been asleep, with a
                # clock that stood still, or it would have ended the session before.
                held.channel.end(
                    ConnectionError(f"{address} has given its session up and begun another one")
                )
        protocol = SessionProtocol(Side.LIEUTENANT, address, self._config, self._clock.now())
        channel = SessionChannel(
            protocol, self._clock, on_ended=partial(self._sessions.__delitem__, session_id)
        )
        self._sessions[session_id] = _Held(channel, caller.kid, caller.client_id)
        peer = Peer(
            address=address,
            session_id=session_id,
            incarnation=self._incarnation,
            server_id=self._server_id,
            client_id=caller.client_id,
            python=caller.python,
            cloudpickle=caller.cloudpickle,
            kid=caller.kid,
        )
        self._on_session(channel, peer)
        return channel
