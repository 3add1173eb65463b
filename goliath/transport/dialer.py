"""A Commander's way to one Lieutenant: dial, log in, carry the session, and again."""

from __future__ import annotations

import asyncio
import os
import random
import secrets
import socket
import ssl
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any, cast
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
from aiohttp import ClientWSTimeout, TCPConnector

from goliath.clock import Clock
from goliath.config import TransportConfig
from goliath.errors import (
    AuthenticationError,
    ConnectionError,  # noqa: A004
    GoliathError,
    LocalError,
    ProtocolError,
    VersionMismatchError,
)
from goliath.machine import process_exists
from goliath.transport.address import Address, is_loopback
from goliath.transport.channel import Channel
from goliath.transport.connection import CLOSE_OK, CLOSE_PROTOCOL, SessionChannel
from goliath.transport.credentials import Credentials
from goliath.transport.handshake import (
    KILLS_AFTER,
    WELCOME_MAX_BYTES,
    ClientHandshake,
    Peer,
    Ticket,
    Welcome,
)
from goliath.transport.keys import (
    NONCE_BYTES,
    ca_binding,
    fingerprint_of,
    guards,
    plain_binding,
    tls_binding,
)
from goliath.transport.protocol import SessionProtocol, Side
from goliath.transport.sockets import tune
from goliath.transport.tls import client_tls
from goliath.transport.token import Token
from goliath.transport.versions import Versions
from goliath.transport.websocket import (
    CLOSE_MAX_S,
    CLOSE_UNAUTHENTICATED,
    PATH,
    ClientSocket,
    WebSocketLink,
    message_limit,
)

HOPELESS = 32  # so many failed attempts, or one that only a human can help
SETTLED_S = 1.0  # a link that lived so long was a success: the next attempt is an early one

LOST_PER_KILL = 1.25  # a session is given up so many times as late as its work is killed

WORKERS_GONE_S = 2.0
"""After which the workers of a Lieutenant that has died are surely dead, too: twice the promise."""


class Dialer:
    """Keeps one session with one Lieutenant, through cuts, restarts and refusals.

    Args:
        address: of the Lieutenant.
        credentials: where the token is found; asked again for every attempt.
        config: timers and limits.
        clock: tells ``now``.
        rng: spreads the attempts of many Commanders.
        on_session: called with each *new* session; nothing is read from it until it has a
            receiver. A session that is resumed goes on unseen.
        on_trouble: called with the error of each failed attempt.
        tls: ``"auto"`` proves the Lieutenant's certificate by the login, ``"ca"`` has a
            certificate authority vouch for it (needed behind a proxy that ends the TLS; the
            Lieutenant has to be started with ``--public-name`` and the host of the address).
    """

    def __init__(
        self,
        address: Address,
        credentials: Credentials,
        config: TransportConfig,
        clock: Clock,
        rng: random.Random,
        *,
        on_session: Callable[[Channel, Peer], None],
        on_trouble: Callable[[Exception], None],
        tls: str = "auto",
        versions: Versions | None = None,
    ) -> None:
        if tls not in ("auto", "ca"):
            raise ValueError(f"tls={tls!r}; it is 'auto' or 'ca'")
        self._address = address
        self._credentials = credentials
        self._config = config
        self._clock = clock
        self._rng = rng
        self._on_session = on_session
        self._on_trouble = on_trouble
        self._verify = tls == "ca"
        self._versions = versions or Versions.current()
        self._client_id = secrets.token_hex(8)
        self._channel: SessionChannel | None = None
        self._ticket: Ticket | None = None
        self._link: WebSocketLink | None = None
        self._attempts = 0
        self._server_pid: int | None = None  # if it is on this machine
        self._gone_since: float | None = None
        self._closing = False
        self._work: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"<Dialer {self._address} {self._channel!r}>"

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
        connector = TCPConnector(limit=0, force_close=True, socket_factory=self._make_socket)
        async with aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            ws_response_class=ClientSocket,
        ) as http:
            while not self._closing:
                try:
                    await self._attempt(http)
                except (GoliathError, OSError) as exc:
                    if isinstance(exc, LocalError):
                        raise
                    self._attempts += 1
                    self._give_up_the_dead()
                    self._report(exc)
                if not self._closing:
                    await asyncio.sleep(self._backoff())
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
            channel.end(ConnectionError(f"the Lieutenant at {self._address} (pid {pid}) has died"))

    def _report(self, exc: Exception) -> None:
        if isinstance(exc, AuthenticationError | VersionMismatchError):
            self._attempts = HOPELESS
        self._on_trouble(exc)

    def _backoff(self) -> float:
        """Full jitter: a random part of a time that doubles."""
        config = self._config
        if self._attempts >= HOPELESS:
            return config.reconnect_max_s
        limit = config.reconnect_min_s * 2.0**self._attempts
        return self._rng.uniform(0, min(config.reconnect_max_s, limit))

    async def _attempt(self, http: aiohttp.ClientSession) -> None:
        """One connection from dialling to its end. Returns if it ended after a login."""
        self._link, binding = await self._connect(http)
        link, code, reason = self._link, CLOSE_OK, ""
        try:
            self._check_pin(binding)
            # Looked for only now: where nobody listens, that is what has to be said.
            token = self._credentials.token_for(self._address)
            welcome, proved_at, rtt_s = await self._login(link, token, binding)
            channel = self._adopt(welcome, binding, rtt_s)
            await channel.carry(link, peer_seen=welcome.seen, proved_at=proved_at)
            settled = self._clock.now() - proved_at >= SETTLED_S
            self._attempts = 0 if settled else self._attempts + 1
        except ProtocolError as exc:
            code, reason = CLOSE_PROTOCOL, str(exc)[:100]
            raise
        finally:
            self._link = None
            await link.close(code, reason)

    # -- the connection ----------------------------------------------------------------------

    async def _connect(self, http: aiohttp.ClientSession) -> tuple[WebSocketLink, str]:
        address = self._address
        secure = self._credentials.scheme_for(address) == "wss"
        url = f"{'wss' if secure else 'ws'}://{address}{address.prefix}{PATH}"
        proxy = _proxy_for(address) if secure else None
        try:
            async with asyncio.timeout(self._config.connect_timeout_s):
                websocket = await http.ws_connect(
                    url,
                    ssl=client_tls(verify=self._verify) if secure else True,
                    proxy=proxy,
                    compress=0,
                    max_msg_size=message_limit(self._config),
                    timeout=ClientWSTimeout(ws_close=CLOSE_MAX_S),
                )
        except (aiohttp.ClientError, OSError, TimeoutError) as exc:
            raise self._no_connection(exc, proxy, secure=secure) from exc
        client = cast("ClientSocket", websocket)
        if client.transport is None or client.transport.is_closing():
            raise ConnectionError(f"{address} took the connection and dropped it again")
        link, binding = (
            WebSocketLink(client, client.transport, secure=secure),
            self._binding(client),
        )
        link.needs_checksum = not guards(binding)
        return link, binding

    def _make_socket(self, info: Any) -> socket.socket:
        sock = socket.socket(info[0], info[1], info[2])
        tune(sock, self._config)
        return sock

    def _binding(self, websocket: ClientSocket) -> str:
        tls: ssl.SSLObject | None = websocket.get_extra_info("ssl_object")
        if tls is None:
            peer = websocket.get_extra_info("peername")
            return plain_binding(self._address.port, loopback=is_loopback(peer[0]))
        if self._verify:
            return ca_binding(self._address.host)
        return tls_binding(tls.getpeercert(binary_form=True) or b"")

    def _check_pin(self, binding: str) -> None:
        """After ``goliath login`` the certificate must be the one that was proved then."""
        pin = self._credentials.pin_for(self._address)
        shown = fingerprint_of(binding)
        if pin and shown != pin:
            raise AuthenticationError(
                f"{self._address} shows {shown or 'no certificate'}, and at `goliath login` it was "
                f"{pin}: another machine may be listening in its place, and no proof was sent to "
                "it. Ask whoever runs it, who finds the certificate in its log (--log-level info); "
                f"if it was changed on purpose, run `goliath logout {self._address}` and log in "
                "again"
            )

    def _no_connection(self, exc: Exception, proxy: str | None, *, secure: bool) -> GoliathError:
        """An error of the libraries below, in words for whoever waits for an answer."""
        address = self._address
        where = f"no lieutenant at {address}"
        match exc:
            case aiohttp.ClientProxyConnectionError() | aiohttp.ClientHttpProxyError():
                text = f"{where}: {_proxy_trouble(exc, proxy or '')}"
            case aiohttp.ClientConnectorDNSError():
                text = f"the name {address.host!r} does not resolve; is it spelled right?"
            case aiohttp.WSServerHandshakeError(status=status):
                text = f"{where}: it answered HTTP {status}; {_HTTP_HINTS.get(status, _NO_HINT)}"
            case aiohttp.ClientConnectorCertificateError():
                text = f"{where}: its certificate is not trusted: {exc.certificate_error}"
            case aiohttp.ClientConnectorSSLError() | ssl.SSLError():
                text = f"{where}: it does not speak TLS; use ws://{address} if that is intended"
            case aiohttp.ServerDisconnectedError() | aiohttp.ClientResponseError():
                text = f"{where}: it hung up; {'' if secure else f'does it want wss://{address}?'}"
            case TimeoutError():
                text = f"{where}: no answer within {self._config.connect_timeout_s:g} s"
            case aiohttp.ClientConnectorError(os_error=OSError() as cause):
                reason = os.strerror(cause.errno) if cause.errno else str(cause)
                text = f"{where}: {reason}; is it running there?"
            case _:
                text = f"{where}: {exc!r}; is it running there?"
        return ConnectionError(text)

    # -- the login ---------------------------------------------------------------------------

    async def _login(
        self, link: WebSocketLink, token: Token, binding: str
    ) -> tuple[Welcome, float, float]:
        """The welcome, when the proof was sent, and how long it takes there and back."""
        channel = self._channel
        handshake = ClientHandshake(
            token,
            binding,
            nonce=secrets.token_bytes(NONCE_BYTES),
            client_id=self._client_id,
            versions=self._versions,
            ticket=self._ticket if channel is not None else None,
            seen=channel.seen if channel is not None else 0,
        )
        try:
            async with asyncio.timeout(self._config.handshake_max_s):
                began_at = self._clock.now()
                await link.send_bytes(handshake.hello())
                limit = self._config.handshake_message_max_bytes
                challenge = await self._hear(link, limit, binding)
                challenged_at = self._clock.now()
                proof = handshake.prove(challenge)
                proved_at = self._clock.now()
                if channel is not None:
                    channel.spoke()
                await link.send_bytes(proof)
                welcome = await self._hear(link, WELCOME_MAX_BYTES, binding)
                # Twice, because either end may have been busy with something else.
                rtt_s = min(challenged_at - began_at, self._clock.now() - proved_at)
                return handshake.finish(welcome), proved_at, rtt_s
        except TimeoutError:
            raise ConnectionError(
                f"{self._address} did not finish the login in {self._config.handshake_max_s:g} s"
            ) from None
        except OSError as exc:
            if isinstance(exc, GoliathError):
                raise
            raise ConnectionError(f"{self._address} hung up during the login: {exc}") from exc

    async def _hear(self, link: WebSocketLink, limit: int, binding: str) -> bytes:
        message = await link.receive()
        if message is None:
            if link.close_code == CLOSE_UNAUTHENTICATED:
                raise AuthenticationError(self._refusal(binding))
            raise ConnectionError(f"{self._address} hung up during the login")
        if len(message) > limit:
            raise ProtocolError(f"{self._address} sent {len(message)} bytes during the login")
        return message

    def _refusal(self, binding: str) -> str:
        text = (
            f"the Lieutenant at {self._address} refused the token; give the one in its token "
            "file with token=, token_file= or GOLIATH_TOKEN_FILE"
        )
        if binding.startswith("tls-server-end-point:"):
            text += (
                '; if a proxy before it ends the TLS, give tls="ca" here, and --public-name '
                f"{self._address.host} to the Lieutenant"
            )
        elif binding.startswith("ca:"):
            text += (
                f'; with tls="ca", it must have been started with --public-name '
                f"{self._address.host}"
            )
        else:
            text += (
                ", and if the way there is an `ssh -L` tunnel or a container's port map, use the "
                "same port number at both ends"
            )
        return text

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
                f"the session with {self._address} was given up while it was being resumed; "
                "a new one will be begun"
            )
        if old is not None:
            old.end(
                ConnectionError(
                    f"{self._address} does not know our session any more: it was restarted, or it "
                    "heard nothing of us for too long"
                )
            )
        config = _outlasting(welcome.limits, self._config)
        protocol = SessionProtocol(Side.COMMANDER, str(self._address), config, self._clock.now())
        channel = SessionChannel(protocol, self._clock, on_ended=self._forget)
        self._channel = channel
        self._server_pid, self._gone_since = self._credentials.process_at(self._address), None
        self._ticket = Ticket(welcome.session_id, welcome.incarnation)
        self._on_session(channel, self._peer(welcome, binding, rtt_s))
        return channel

    def _forget(self) -> None:
        self._channel = self._ticket = None

    def _peer(self, welcome: Welcome, binding: str, rtt_s: float) -> Peer:
        return Peer(
            address=str(self._address),
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


def _outlasting(limits: Mapping[str, Any], config: TransportConfig) -> TransportConfig:
    """Timers that give a session up later than that Lieutenant kills its work: its environment may
    say another time than ours, and one call would have two owners."""
    kill_s = limits.get(KILLS_AFTER, 0.0)
    if type(kill_s) not in (int, float):
        return config
    return replace(config, session_lost_s=max(config.session_lost_s, LOST_PER_KILL * kill_s))


def _proxy_for(address: Address) -> str | None:
    """The proxy that the environment names for encrypted connections (``HTTPS_PROXY``), unless
    the address is one of its exceptions (``NO_PROXY``), or on this machine."""
    if address.loopback or proxy_bypass(address.host):
        return None
    return getproxies().get("https")


def _proxy_trouble(exc: Exception, proxy: str) -> str:
    # Without user and password: this text goes into logs.
    parts = urlsplit(proxy)
    name = f"the proxy {parts.hostname}:{parts.port or parts.scheme} (HTTPS_PROXY)"
    if isinstance(exc, aiohttp.ClientHttpProxyError):
        return (
            f"{name} answered HTTP {exc.status}; it has to allow CONNECT to there, or NO_PROXY "
            "has to name the host"
        )
    return f"{name} cannot be reached; is HTTPS_PROXY right, or should NO_PROXY name the host?"


_HTTP_HINTS = {
    403: "is the host name in the address another one than the Lieutenant's?",
    404: "something else listens on that port, or the address needs a path prefix",
    429: "too many failed logins from here; wait a minute",
    502: "the proxy before it does not reach it",
}
_NO_HINT = "something else may be listening on that port"
