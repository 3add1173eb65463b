"""A login over a link, as each of its ends goes through it: four messages."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable

from goliath.clock import Clock
from goliath.config import TransportConfig
from goliath.errors import (
    ConnectionError,  # noqa: A004
    GoliathError,
    ProtocolError,
)
from goliath.record import frozen
from goliath.transport.connection import CLOSE_OK
from goliath.transport.handshake import (
    WELCOME_MAX_BYTES,
    Caller,
    ClientHandshake,
    ServerHandshake,
)
from goliath.transport.keys import NONCE_BYTES
from goliath.transport.road import Road
from goliath.transport.serialization import own_versions
from goliath.transport.token import Token, TokenRefusedError
from goliath.transport.websocket import CLOSE_UNAUTHENTICATED, WebSocketLink


@frozen
class Answer:
    """What came of it: the welcome, still to be checked; when the proof was sent; how long a
    message takes there and back."""

    welcome: bytes
    proved_at: float
    rtt_s: float


async def prove(
    link: WebSocketLink,
    handshake: ClientHandshake,
    road: Road,
    binding: str,
    config: TransportConfig,
    clock: Clock,
    on_proof: Callable[[], None] = lambda: None,
) -> Answer:
    """Say hello, prove the token, and hear the welcome.

    Args:
        on_proof: called right before the proof is sent.

    Raises:
        TokenRefusedError: the token was refused.
        ConnectionError: the other end hung up, or takes too long.
        ProtocolError: it says something else.
        VersionMismatchError: of another handshake or session protocol.
    """
    name = road.name

    async def hear(limit: int) -> bytes:
        message = await link.receive()
        if message is None:
            if link.close_code == CLOSE_UNAUTHENTICATED:
                raise TokenRefusedError(road.refusal(binding))
            raise ConnectionError(f"{name} hung up during the login")
        if len(message) > limit:
            raise ProtocolError(f"{name} sent {len(message)} bytes during the login")
        return message

    try:
        async with asyncio.timeout(config.handshake_max_s):
            began_at = clock.now()
            await link.send_bytes(handshake.hello())
            challenge = await hear(config.handshake_message_max_bytes)
            challenged_at = clock.now()
            proof = handshake.prove(challenge)
            proved_at = clock.now()
            on_proof()
            await link.send_bytes(proof)
            welcome = await hear(WELCOME_MAX_BYTES)
            # Twice, because either end may have been busy with something else.
            rtt_s = min(challenged_at - began_at, clock.now() - proved_at)
            return Answer(welcome, proved_at, rtt_s)
    except TimeoutError:
        raise ConnectionError(
            f"{name} did not finish the login in {config.handshake_max_s:g} s"
        ) from None
    except OSError as exc:
        if isinstance(exc, GoliathError):
            raise
        raise ConnectionError(f"{name} hung up during the login: {exc}") from exc


async def call_on(
    road: Road,
    token: Callable[[], Token],
    wish: tuple[str, ...],
    client_id: str,
    config: TransportConfig,
    clock: Clock,
) -> WebSocketLink:
    """Dial a door and log in for something else than a session; the link, if the wish is granted.

    Raises:
        GoliathError: there is no link, or what was asked for is refused.
    """
    link, binding = await road.open()
    try:
        handshake = ClientHandshake(
            token(),
            binding,
            nonce=secrets.token_bytes(NONCE_BYTES),
            client_id=client_id,
            versions=own_versions(),
            wish=wish,
        )
        answer = await prove(link, handshake, road, binding, config, clock)
        handshake.heed(answer.welcome)
    except BaseException:
        await link.close(CLOSE_OK)
        raise
    return link


# -- the other end -----------------------------------------------------------------------


class Nonsense(Exception):  # noqa: N818 - internal, and the name says it
    """A stranger said something that is not a login."""


class Unfinished(Exception):  # noqa: N818 - likewise
    """A stranger has left in the middle of a login, or had to, or took too long. Nothing that he
    has said was wrong, so he has not guessed a token either: only who has sent a proof has."""


async def examine(
    link: WebSocketLink, handshake: ServerHandshake, config: TransportConfig
) -> Caller:
    """Hear a hello and the proof of a token. The answer to that is the caller's part.

    Raises:
        AuthenticationError: nothing was proved.
        Nonsense: it was no login.
        Unfinished: it did not come to its end.
    """

    async def hear() -> bytes:
        message = await link.receive()
        if message is None:
            raise Unfinished("it left in the middle")
        if len(message) > config.handshake_message_max_bytes:
            raise ProtocolError(f"{len(message)} bytes before login")
        return message

    try:
        async with asyncio.timeout(config.handshake_max_s):
            await link.send_bytes(handshake.challenge(await hear()))
            return handshake.verify(await hear())
    except ProtocolError as exc:
        raise Nonsense(str(exc)) from exc
    except TimeoutError:
        raise Unfinished(f"it took longer than {config.handshake_max_s:g} s") from None
    except OSError as exc:
        raise Unfinished(str(exc)) from exc
