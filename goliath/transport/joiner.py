"""A node that nobody can dial: it dials a door itself, waits there, and again for each link.

What it is asked for over such a link is what it would be asked for at a door of its own: a session,
after an ordinary login with the Commander. Only who has dialed is different.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable
from typing import Any

from goliath.clock import Clock
from goliath.config import TransportConfig
from goliath.errors import (
    AuthenticationError,
    ConnectionError,  # noqa: A004
    GoliathError,
    ProtocolError,
    VersionMismatchError,
)
from goliath.transport.backoff import Backoff
from goliath.transport.connection import CLOSE_OK, CLOSE_PROTOCOL
from goliath.transport.handshake import SESSION
from goliath.transport.host import Host
from goliath.transport.keys import Keyring, joined_binding
from goliath.transport.lobby import ANSWER, JOIN
from goliath.transport.porter import Porter
from goliath.transport.proof import call_on
from goliath.transport.road import Road
from goliath.transport.serialization import own_versions
from goliath.transport.standby import Standby
from goliath.transport.token import Token
from goliath.transport.websocket import WebSocketLink

logger = logging.getLogger("goliath.joiner")

ANSWERS_MAX = 256
"""Links at once: a Commander needs one, and whoever asks for more has gone mad."""


class Joiner:
    """Keeps a node at a door, through cuts and restarts, for as long as it is let in.

    Args:
        road: the way to the door.
        host: takes in the Commanders.
        config: timers and limits.
        clock: tells ``now``.
        rng: spreads the attempts of many nodes.
        node: its own random name (`identity`).
        name: what people call this node.
        on_joined: called each time that it has joined.
        on_trouble: called with the error of each attempt that failed and will be repeated.
    """

    def __init__(
        self,
        road: Road,
        host: Host,
        config: TransportConfig,
        clock: Clock,
        rng: random.Random,
        *,
        node: str,
        name: str,
        on_joined: Callable[[], None],
        on_trouble: Callable[[Exception], None],
    ) -> None:
        self._road = road
        self._porter = Porter({SESSION: host}, self._keyring, config, own_versions())
        self._config = config
        self._clock = clock
        self._backoff = Backoff(config, rng)
        self._name = name
        self._on_joined = on_joined
        self._on_trouble = on_trouble
        self._id = node
        self._token: Token | None = None
        self._answers: set[asyncio.Task[None]] = set()

    def __repr__(self) -> str:
        return f"<Joiner {self._name} at {self._road.name}>"

    async def run(self) -> Exception:
        """Join, and join again, until cancelled, or nothing but a human can help: why that is."""
        async with self._road:
            try:
                return await self._keep_joining()
            finally:
                for task in self._answers:
                    task.cancel()
                if self._answers:
                    await asyncio.wait(self._answers)
                await asyncio.sleep(0)  # closed transports tell so a turn later

    async def _keep_joining(self) -> Exception:
        while True:
            try:
                await self._wait_there()
            except (AuthenticationError, VersionMismatchError) as exc:
                return exc
            except (GoliathError, OSError) as exc:
                self._backoff.failed(exc)
                self._on_trouble(exc)
            await asyncio.sleep(self._backoff.delay_s())

    async def _call(self, *wish: str) -> WebSocketLink:
        return await call_on(
            self._road, self._find_token, wish, self._id, self._config, self._clock
        )

    def _find_token(self) -> Token:
        try:
            self._token = self._road.token()
        except AuthenticationError as exc:
            # A Commander on this machine leaves one when it starts: there may be one next time.
            raise ConnectionError(str(exc)) from exc
        return self._token

    async def _wait_there(self) -> None:
        link = await self._call(JOIN, self._name)
        began_at, code = self._clock.now(), CLOSE_OK
        try:
            self._on_joined()
            await Standby(link, self._config, self._clock).run(self._on_said)
            self._backoff.ended(self._clock.now() - began_at)
            self._on_trouble(ConnectionError(f"{self._road.name} has ended the connection"))
        except ProtocolError:
            code = CLOSE_PROTOCOL
            raise
        finally:
            await link.close(code)

    def _on_said(self, said: dict[str, Any]) -> None:
        ticket = said.get("ticket")
        if said.get("t") != "dial" or type(ticket) is not str:
            return  # of a newer door: nothing we could act on
        if len(self._answers) >= ANSWERS_MAX:
            logger.warning("%s asks for more than %d links at once", self._road.name, ANSWERS_MAX)
            return
        # Owned by `run`, which cancels it at its end.
        task = asyncio.get_running_loop().create_task(self._answer(ticket))
        self._answers.add(task)
        task.add_done_callback(self._answers.discard)

    async def _answer(self, ticket: str) -> None:
        try:
            link = await self._call(ANSWER, ticket)
        except (GoliathError, OSError) as exc:
            logger.warning("no link for a Commander: %s", exc)
            return
        await self._porter.receive(link, (joined_binding(self._id),), self._road.name)

    def _keyring(self) -> Keyring:
        assert self._token is not None, "it has logged in"
        return Keyring([self._token], decoy=Token.make())
