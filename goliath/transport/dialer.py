"""A Commander's session with one Lieutenant: log in, carry it over a link, and again."""

from __future__ import annotations

import asyncio
import random
import secrets
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

from goliath.clock import Clock
from goliath.config import TransportConfig
from goliath.errors import (
    ConnectionError,  # noqa: A004
    GoliathError,
    LocalError,
    ProtocolError,
)
from goliath.machine import process_exists
from goliath.transport.backoff import Backoff
from goliath.transport.channel import Channel
from goliath.transport.connection import (
    CLOSE_NONSENSE,
    CLOSE_OK,
    CLOSE_PROTOCOL,
    SessionChannel,
)
from goliath.transport.handshake import (
    KILLS_AFTER,
    MESSAGE_MAX,
    ClientHandshake,
    Peer,
    Ticket,
    Welcome,
)
from goliath.transport.keys import NONCE_BYTES, fingerprint_of
from goliath.transport.proof import Answer, prove
from goliath.transport.protocol import SessionProtocol, Side
from goliath.transport.road import Road
from goliath.transport.serialization import own_versions
from goliath.transport.token import Token
from goliath.transport.versions import Versions
from goliath.transport.websocket import CLOSE_MAX_S, WebSocketLink, may_compress

LOST_PER_KILL = 1.25  # a session is given up so many times as late as its work is killed

WORKERS_GONE_S = 2.0
"""After which the workers of a Lieutenant that has died are surely dead, too: twice the promise."""


class Dialer:
    """Keeps one session with one Lieutenant, through cuts, restarts and refusals.

    Args:
        road: how links to it come about, and by which token it is asked.
        config: timers and limits.
        clock: tells ``now``.
        rng: spreads the attempts of many Commanders.
        on_session: called with each *new* session; nothing is read from it until it has a
            receiver. A session that is resumed goes on unseen.
        on_trouble: called with the error of each failed attempt.
        on_reached: called when there is a websocket, before the token is proved.
    """

    def __init__(
        self,
        road: Road,
        config: TransportConfig,
        clock: Clock,
        rng: random.Random,
        *,
        on_session: Callable[[Channel, Peer], None],
        on_trouble: Callable[[Exception], None],
        on_reached: Callable[[], None] = lambda: None,
        versions: Versions | None = None,
    ) -> None:
        self._road = road
        self._config = config
        self._clock = clock
        self._backoff = Backoff(config, rng)
        self._on_session = on_session
        self._on_trouble = on_trouble
        self._on_reached = on_reached
        self._versions = versions or own_versions()
        self._client_id = secrets.token_hex(8)
        self._channel: SessionChannel | None = None
        self._ticket: Ticket | None = None
        self._link: WebSocketLink | None = None
        self._server_pid: int | None = None  # if it is on this machine
        self._gone_since: float | None = None
        self._closing = False
        self._work: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"<Dialer {self._road.name} {self._channel!r}>"

    async def run(self) -> None:
        """Dial until `close` or cancelled."""
        if self._closing:
            return
        # Owned by this call, which ends only after the task has; close() cancels it.
        work = self._work = asyncio.get_running_loop().create_task(self._keep_dialing())
        try:
            await asyncio.wait({work})
        finally:
            if not work.done():
                work.cancel()
                await asyncio.wait({work})
            if self._channel is not None:
                self._channel.end(None)
        if not work.cancelled():
            work.result()

    async def close(self) -> None:
        """Say goodbye, so that the Lieutenant ends the session now, and stop `run`."""
        self._closing = True
        work, channel = self._work, self._channel
        if channel is not None and work is not None:
            answered = channel.linked
            with suppress(TimeoutError):
                async with asyncio.timeout(CLOSE_MAX_S):
                    await channel.leave()
                    if answered:  # by the Lieutenant, which closes the link
                        await asyncio.wait({work})
        if work is not None and not work.done():
            if self._link is not None:
                self._link.abort()
            work.cancel()
            await asyncio.wait({work})

    # -- attempts --------------------------------------------------------------------------

    async def _keep_dialing(self) -> None:
        async with self._road:
            while not self._closing:
                try:
                    await self._attempt()
                except (GoliathError, OSError) as exc:
                    if isinstance(exc, LocalError):
                        raise
                    self._backoff.failed(exc)
                    self._give_up_the_dead()
                    self._on_trouble(exc)
                if not self._closing:
                    await asyncio.sleep(self._backoff.delay_s())
        await asyncio.sleep(0)  # closed transports tell so a turn later

    def _give_up_the_dead(self) -> None:
        """A Lieutenant on this machine whose process is gone is not waited for. Its workers are
        gone a second later at the latest; before, a call could run twice."""
        channel, pid = self._channel, self._server_pid
        if channel is None or channel.ended or pid is None or process_exists(pid):
            self._gone_since = None
            return
        now = self._clock.now()
        if self._gone_since is None:
            self._gone_since = now
        elif now - self._gone_since >= WORKERS_GONE_S:
            channel.end(
                ConnectionError(f"the Lieutenant at {self._road.name} (pid {pid}) has died")
            )

    async def _attempt(self) -> None:
        """One connection from dialling to its end. Returns if it ended after a login."""
        self._link, binding = await self._road.open()
        link, code, reason = self._link, CLOSE_OK, ""
        try:
            self._on_reached()
            # Looked for only now: where nobody listens, that is what has to be said.
            token = self._road.token()
            welcome, answer = await self._login(link, token, binding)
            link.compress = welcome.zstd
            link.needs_checksum = link.needs_checksum and welcome.sums
            channel = self._adopt(welcome, binding, answer.rtt_s)
            await channel.carry(link, peer_seen=welcome.seen, proved_at=answer.proved_at)
            if channel.offence:
                code, reason = CLOSE_NONSENSE, channel.offence
            self._backoff.ended(self._clock.now() - answer.proved_at)
        except ProtocolError as exc:
            code, reason = CLOSE_PROTOCOL, str(exc)
            raise
        finally:
            self._link = None
            await link.close(code, reason)

    async def _login(
        self, link: WebSocketLink, token: Token, binding: str
    ) -> tuple[Welcome, Answer]:
        channel = self._channel
        handshake = ClientHandshake(
            token,
            binding,
            nonce=secrets.token_bytes(NONCE_BYTES),
            client_id=self._client_id,
            versions=self._versions,
            ticket=self._ticket if channel is not None else None,
            seen=channel.seen if channel is not None else 0,
            zstd=may_compress(self._config) and not link.within_machine,
            span=link.span,
        )
        spoke = channel.spoke if channel is not None else lambda: None
        answer = await prove(link, handshake, self._road, binding, self._config, self._clock, spoke)
        return handshake.finish(answer.welcome), answer

    # -- sessions ----------------------------------------------------------------------------

    def _adopt(self, welcome: Welcome, binding: str, rtt_s: float) -> SessionChannel:
        """The channel the welcome is for: the one we had, or a new one."""
        old = self._channel
        if welcome.resumed:
            if old is not None and not old.ended:
                return old
            # What it was given may be somebody else's by now. The next login is for a new
            # session, and has the Lieutenant end this one.
            raise ConnectionError(
                f"the session with {self._road.name} was given up while it was being resumed; "
                "a new one will be begun"
            )
        if old is not None:
            old.end(
                ConnectionError(
                    f"{self._road.name} does not know our session any more: it was restarted, or "
                    "it heard nothing of us for too long"
                )
            )
        config = _agreeing(welcome.limits, self._config)
        protocol = SessionProtocol(Side.COMMANDER, self._road.name, config, self._clock.now())
        channel = SessionChannel(protocol, self._clock, on_ended=self._forget)
        self._channel = channel
        self._server_pid, self._gone_since = self._road.process(), None
        self._ticket = Ticket(welcome.session_id, welcome.incarnation)
        self._on_session(channel, self._peer(welcome, binding, rtt_s))
        return channel

    def _forget(self) -> None:
        self._channel = self._ticket = None

    def _peer(self, welcome: Welcome, binding: str, rtt_s: float) -> Peer:
        return Peer(
            address=self._road.name,
            session_id=welcome.session_id,
            incarnation=welcome.incarnation,
            server_id=welcome.server_id,
            client_id=self._client_id,
            python=welcome.python,
            cloudpickle=welcome.cloudpickle,
            limits=welcome.limits,
            rtt_s=rtt_s,
            certificate=fingerprint_of(binding),
        )


def _agreeing(limits: Mapping[str, Any], config: TransportConfig) -> TransportConfig:
    """Limits that go with those of a Lieutenant, whose environment may say others than ours.

    A session must be given up later than that kills its work, or one call would have two owners;
    and what is too big for it should be refused here, where it can be said of what.
    """
    kill_s, most = limits.get(KILLS_AFTER, 0.0), limits.get(MESSAGE_MAX)
    if type(kill_s) in (int, float):
        lost_s = max(config.session_lost_s, LOST_PER_KILL * kill_s)
        config = replace(config, session_lost_s=lost_s)
    if type(most) is int and most > 0:
        config = replace(config, message_max_bytes=min(config.message_max_bytes, most))
    return config
