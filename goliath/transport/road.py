"""The way to whoever listens at an address: a websocket, and what a login over it is bound to."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from typing import Any, Protocol, Self, cast
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
from aiohttp import ClientWSTimeout, TCPConnector

from goliath.config import TransportConfig
from goliath.errors import (
    AuthenticationError,
    ConnectionError,  # noqa: A004
    GoliathError,
)
from goliath.transport.address import Address, is_loopback
from goliath.transport.busy import BUSY, RETRY_AFTER, RETRY_AFTER_S, BannedError, BusyError
from goliath.transport.connection import CLOSE_OK
from goliath.transport.credentials import Credentials
from goliath.transport.keys import ca_binding, fingerprint_of, guards, plain_binding, tls_binding
from goliath.transport.sockets import tune
from goliath.transport.tls import client_tls
from goliath.transport.token import Token
from goliath.transport.websocket import (
    BANNED,
    CLOSE_MAX_S,
    PATH,
    ClientSocket,
    WebSocketLink,
    message_limit,
)

REMEDY = "give the one in its token file with token=, token_file= or GOLIATH_TOKEN_FILE"


class Road(Protocol):
    """How links to one Lieutenant come about. Whoever keeps a session with it (`dialer`) need not
    know who dials whom: the ends of a link and the ends of a session are different roles."""

    @property
    def name(self) -> str:
        """What messages call the Lieutenant."""

    async def __aenter__(self) -> Self:
        """Before the first link."""

    async def __aexit__(self, *exc_info: object) -> None:
        """After the last one."""

    async def open(self) -> tuple[WebSocketLink, str]:
        """A new link, and what the login over it is bound to. Closing it is the caller's part.

        Raises:
            GoliathError: there is none; the message is for the user.
        """

    def token(self) -> Token:
        """The secret to prove; asked for when there is a link.

        Raises:
            AuthenticationError: there is none.
        """

    def refusal(self, binding: str) -> str:
        """What to tell the user when the token was refused."""

    def process(self) -> int | None:
        """The Lieutenant's pid, if it is on this machine and says so."""


class DirectRoad:
    """Straight to an address, or through the proxy that the environment names.

    Args:
        address: of whoever listens.
        credentials: where the token is found; asked again for every attempt.
        config: timers and limits.
        tls: ``"auto"`` proves the certificate of whoever listens by the login, ``"ca"`` has a
            certificate authority vouch for it (needed behind a proxy that ends the TLS; the
            Lieutenant has to be started with ``--public-name`` and the host of the address).
        whom: who is to be found there.
        remedy: what to do where the token is refused.
    """

    def __init__(
        self,
        address: Address,
        credentials: Credentials,
        config: TransportConfig,
        *,
        tls: str = "auto",
        whom: str = "Lieutenant",
        remedy: str = REMEDY,
    ) -> None:
        if tls not in ("auto", "ca"):
            raise ValueError(f"tls={tls!r}; it is 'auto' or 'ca'")
        self._address = address
        self._credentials = credentials
        self._config = config
        self._verify = tls == "ca"
        self._whom = whom
        self._remedy = remedy
        self._http: aiohttp.ClientSession | None = None

    def __repr__(self) -> str:
        return f"<DirectRoad {self._address}>"

    @property
    def name(self) -> str:
        """See `Road.name`."""
        return str(self._address)

    async def __aenter__(self) -> Self:
        self._http = aiohttp.ClientSession(
            connector=TCPConnector(limit=0, force_close=True, socket_factory=self._make_socket),
            cookie_jar=aiohttp.DummyCookieJar(),
            ws_response_class=ClientSocket,
        )
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        assert self._http is not None, "it was entered"
        await self._http.close()

    def token(self) -> Token:
        """See `Road.token`."""
        return self._credentials.token_for(self._address)

    def process(self) -> int | None:
        """See `Road.process`."""
        return self._credentials.process_at(self._address)

    # -- links -------------------------------------------------------------------------------

    async def open(self) -> tuple[WebSocketLink, str]:
        """See `Road.open`."""
        assert self._http is not None, "it was entered"
        address = self._address
        secure = self._credentials.scheme_for(address) == "wss"
        url = f"{'wss' if secure else 'ws'}://{address}{address.prefix}{PATH}"
        proxy = proxy_for(address) if secure else None
        try:
            async with asyncio.timeout(self._config.connect_timeout_s):
                websocket = await self._http.ws_connect(
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
        try:
            self._check_pin(binding)
        except BaseException:
            await link.close(CLOSE_OK)
            raise
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

    # -- what went wrong ---------------------------------------------------------------------

    def _no_connection(self, exc: Exception, proxy: str | None, *, secure: bool) -> GoliathError:
        """An error of the libraries below, in words for whoever waits for an answer."""
        address = self._address
        where = f"no {self._whom.lower()} at {address}"
        match exc:
            case aiohttp.ClientProxyConnectionError() | aiohttp.ClientHttpProxyError():
                text = f"{where}: {_proxy_trouble(exc, proxy or '')}"
            case aiohttp.ClientConnectorDNSError():
                text = f"the name {address.host!r} does not resolve; is it spelled right?"
            case aiohttp.WSServerHandshakeError():
                return _refusal(exc, str(address), where)
            case aiohttp.ClientConnectorCertificateError():
                text = f"{where}: its certificate is not trusted: {exc.certificate_error}"
            case aiohttp.ClientConnectorError(os_error=ConnectionResetError()) if secure:
                text = (
                    f"{where}: it hung up before any TLS was spoken; too many may be at its door, "
                    "or it is ending, or it is another program; it is tried again"
                )
            case aiohttp.ClientConnectorSSLError() | ssl.SSLError():
                text = f"{where}: it does not speak TLS; use ws://{address} if that is intended"
            case aiohttp.ServerDisconnectedError() | aiohttp.ClientResponseError():
                wants = "" if secure else f"does it want wss://{address}? Or "
                text = f"{where}: it hung up; {wants}are too many at its door already?"
            case TimeoutError():
                text = f"{where}: no answer within {self._config.connect_timeout_s:g} s"
            case aiohttp.ClientConnectorError(os_error=OSError() as cause):
                reason = os.strerror(cause.errno) if cause.errno else str(cause)
                text = f"{where}: {reason}; is it running there?"
            case _:
                text = f"{where}: {exc!r}; is it running there?"
        return ConnectionError(text)

    def refusal(self, binding: str) -> str:
        """See `Road.refusal`."""
        text = f"the {self._whom} at {self._address} refused the token; {self._remedy}"
        if binding.startswith("tls-server-end-point:"):
            text += (
                '; if a proxy before it ends the TLS, give tls="ca" (a node: --tls ca) here, and '
                f"--public-name {self._address.host} to the Lieutenant (a Commander: public_name=)"
            )
        elif binding.startswith("ca:"):
            text += (
                f'; with tls="ca", it must have been started with --public-name '
                f"{self._address.host} (a Commander: with public_name=)"
            )
        else:
            text += (
                ", and if the way there is an `ssh -L` tunnel or a container's port map, use the "
                "same port number at both ends"
            )
        return text


def proxy_for(address: Address) -> str | None:
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


def _refusal(exc: aiohttp.WSServerHandshakeError, name: str, where: str) -> ConnectionError:
    """An answer by HTTP, in words."""
    said = exc.headers.get(RETRY_AFTER, "") if exc.headers is not None else ""
    if exc.status == BUSY:
        return BusyError(
            f"the lieutenant at {name} is busy, and takes no connections: it has no file "
            "descriptor left; it is tried again. If that lasts, raise its limit (ulimit -n), or "
            "have it do less (WORKERS)",
            float(said) if said.isdecimal() else RETRY_AFTER_S,
        )
    if exc.status == BANNED:
        return BannedError(f"{where} for us: {_ban_text(said)}")
    hint = _HTTP_HINTS.get(exc.status, _NO_HINT)
    return ConnectionError(f"{where}: it answered HTTP {exc.status}; {hint}")


def _ban_text(seconds: str) -> str:
    """To somebody honest, who may share the address with whoever has failed."""
    wait = f"{int(seconds)} s" if seconds.isdecimal() else "a minute"
    return (
        f"too many logins from this network address have failed, ours or those of others who share "
        f"it; it lets nobody from here in for another {wait}, and is tried again until then"
    )


_HTTP_HINTS = {
    403: "is the host name in the address another one than the Lieutenant's?",
    404: "something else listens on that port, or the address needs a path prefix",
    502: "the proxy before it does not reach it",
}
_NO_HINT = "something else may be listening on that port"
