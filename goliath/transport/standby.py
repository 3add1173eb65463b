"""The line on which a node that has joined waits until it is wanted: pings both ways, and news.

A message is a JSON object. Each end asks ``{"t": "ping"}`` every few seconds, which also keeps the
routers on the way from forgetting the connection, is answered ``{"t": "pong"}``, and cuts the line
after too long a silence. All else is for whoever owns the end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

import orjson

from goliath.clock import Clock
from goliath.config import TransportConfig
from goliath.errors import ProtocolError
from goliath.transport.websocket import WebSocketLink

_PING, _PONG = {"t": "ping"}, {"t": "pong"}
MESSAGE_MAX_BYTES = 1024


class Standby:
    """One end of such a line.

    Args:
        link: logged in; closing it is its owner's part.
        config: timers.
        clock: tells ``now``.
    """

    def __init__(self, link: WebSocketLink, config: TransportConfig, clock: Clock) -> None:
        self._link = link
        self._config = config
        self._clock = clock
        self._heard_at = clock.now()

    def abort(self) -> None:
        """Break the line."""
        self._link.abort()

    async def say(self, message: Mapping[str, Any]) -> None:
        """Send a message. A line that takes none for too long is broken.

        Raises:
            OSError: the line is broken.
        """
        try:
            async with asyncio.timeout(self._config.silence_max_s):
                await self._link.send_bytes(orjson.dumps(message))
        except TimeoutError:
            self._link.abort()
            raise ConnectionResetError("the other end does not read") from None

    async def run(self, hear: Callable[[dict[str, Any]], None]) -> None:
        """Wait, until the line has ended.

        Raises:
            ProtocolError: the other end said what cannot be.
        """
        # Owned by this call, which ends only after the task has.
        pings = asyncio.get_running_loop().create_task(self._keep_pinging())
        try:
            while (message := await self._link.receive()) is not None:
                self._heard_at = self._clock.now()
                await self._take(message, hear)
        except OSError:
            return  # it broke while something was said
        finally:
            pings.cancel()
            await asyncio.wait({pings})

    async def _take(self, message: bytes, hear: Callable[[dict[str, Any]], None]) -> None:
        try:
            said = orjson.loads(message) if len(message) <= MESSAGE_MAX_BYTES else None
        except orjson.JSONDecodeError:
            said = None
        if not isinstance(said, dict):
            raise ProtocolError("a waiting line carries small JSON objects only")
        if said == _PING:
            await self.say(_PONG)
        elif said != _PONG:
            hear(said)

    async def _keep_pinging(self) -> None:
        config = self._config
        try:
            while self._clock.now() - self._heard_at < config.silence_max_s:
                await self.say(_PING)
                await asyncio.sleep(config.ping_interval_s)
        except OSError:
            return  # the reader finds out, too
        self._link.abort()
