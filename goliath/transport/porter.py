"""The porter: has whoever comes over a link log in, leads him to his host, and closes behind."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from functools import partial
from typing import Any

from goliath.config import TransportConfig
from goliath.errors import AuthenticationError, ProtocolError
from goliath.transport.connection import CLOSE_NONSENSE, CLOSE_OK, CLOSE_PROTOCOL
from goliath.transport.handshake import REFUSED, Caller, ServerHandshake
from goliath.transport.host import Host, Stay
from goliath.transport.keys import NONCE_BYTES, Keyring, guards
from goliath.transport.proof import Nonsense, Unfinished, examine
from goliath.transport.versions import Versions
from goliath.transport.websocket import CLOSE_UNAUTHENTICATED, WebSocketLink

logger = logging.getLogger("goliath.porter")

NOT_HERE = "what was asked for is not to be had here: is it a Lieutenant that you mean to reach?"


async def _answer_at_once() -> None:
    """A refusal that has no consequences."""


class Porter:
    """Of a door, or of a node that has none and was called by one.

    Args:
        hosts: who takes in those that have proved a token, by what they have come for (`Caller`).
        keyring: the tokens that are let in now.
        config: timers and limits.
        versions: of this Python and its libraries.
    """

    def __init__(
        self,
        hosts: Mapping[str, Host],
        keyring: Callable[[], Keyring],
        config: TransportConfig,
        versions: Versions,
    ) -> None:
        self._hosts = hosts
        self._keyring = keyring
        self._config = config
        self._versions = versions

    def __repr__(self) -> str:
        return f"<Porter for {', '.join(self._hosts)}>"

    async def receive(
        self,
        link: WebSocketLink,
        bindings: tuple[str, ...],
        whence: str,
        *,
        on_proved: Callable[[], None] = lambda: None,
        on_refused: Callable[[], Coroutine[Any, Any, None]] = _answer_at_once,
    ) -> None:
        """Look after a link until its end.

        Args:
            link: just made.
            bindings: what is true of it, the usual one first.
            whence: where it comes from.
            on_proved: called when a token has been proved.
            on_refused: awaited before a login that was wrong is answered; not for one that was
                not finished.
        """
        code, reason = CLOSE_OK, ""
        try:
            stay = await self._let_in(link, bindings, whence, on_proved)
            offence = await stay() if stay is not None else None
            if offence:
                logger.warning("ended the session of %s: %s", whence, offence)
                code, reason = CLOSE_NONSENSE, offence
        except (AuthenticationError, Nonsense) as exc:
            logger.warning("refused a login from %s: %r", whence, exc)
            await on_refused()
            code, reason = CLOSE_UNAUTHENTICATED, REFUSED
        except Unfinished as exc:
            # No warning: whoever fills the log by that is kept from it by no ban.
            logger.info("a login from %s came to nothing: %s", whence, exc)
            code, reason = CLOSE_UNAUTHENTICATED, REFUSED
        except ProtocolError as exc:
            logger.warning("cut a link to %s: %s", whence, exc)
            code, reason = CLOSE_PROTOCOL, str(exc)
        except Exception:
            # Not the peer's fault: the session's receiver failed, and its session has ended.
            logger.exception("the session of %s ended by an error here", whence)
        finally:
            await link.close(code, reason)

    async def _let_in(
        self,
        link: WebSocketLink,
        bindings: tuple[str, ...],
        whence: str,
        on_proved: Callable[[], None],
    ) -> Stay | None:
        handshake = ServerHandshake(
            self._keyring(),
            bindings,
            nonce=secrets.token_bytes(NONCE_BYTES),
            versions=self._versions,
        )
        caller = await examine(link, handshake, self._config)
        link.needs_checksum = not guards(handshake.binding)
        on_proved()
        # It has proved itself: whatever takes too long from now on, it is no failed login.
        return await self._admit(link, handshake, caller, whence)

    async def _admit(
        self, link: WebSocketLink, handshake: ServerHandshake, caller: Caller, whence: str
    ) -> Stay | None:
        """Lead the caller to what it has come for; None if it is turned away."""
        if not self._knows(caller.kid):
            raise AuthenticationError(REFUSED)  # it was revoked a moment ago
        host, stay = self._hosts.get(caller.wish[0]), None
        with suppress(TimeoutError, OSError):
            async with asyncio.timeout(self._config.handshake_max_s):
                if host is not None:
                    stay = await host.admit(link, handshake, caller, whence)
                else:
                    await link.send_bytes(handshake.refuse(NOT_HERE))
        if host is None or stay is None or self._knows(caller.kid):
            return stay
        return partial(self._send_away, host, stay)

    async def _send_away(self, host: Host, stay: Stay) -> str | None:
        """The token was revoked while its holder was let in: when all others of it were sent away,
        his host did not have him yet. Now it has, and he is told as they were."""
        # Owned by this call, which ends only after the task has. It begins behind the stay.
        goodbye = asyncio.get_running_loop().create_task(host.send_away(self._knows))
        try:
            return await stay()
        finally:
            await asyncio.wait({goodbye})

    def _knows(self, kid: str) -> bool:
        return self._keyring().find(kid)[1]
