"""A door: takes websockets, lets in who proves a token, and leads them to what they came for."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any, cast

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from goliath.clock import Clock
from goliath.config import TransportConfig
from goliath.transport.address import is_loopback
from goliath.transport.busy import RETRY_AFTER
from goliath.transport.doorway import Doorway, Visit
from goliath.transport.guard import Guard
from goliath.transport.host import Host
from goliath.transport.keys import Keyring, ca_binding, plain_binding, tls_binding
from goliath.transport.porter import Porter
from goliath.transport.serialization import own_versions
from goliath.transport.sockets import sockets_on, tune
from goliath.transport.tls import ServerTls
from goliath.transport.token import Token
from goliath.transport.versions import Versions
from goliath.transport.websocket import (
    BANNED,
    CLOSE_MAX_S,
    PATH,
    WebSocketLink,
    message_limit,
)

# What strangers send by HTTP is refused; a traceback for each of their mistakes helps nobody.
_http_logger = logging.getLogger("goliath.listener.http")
_http_logger.addHandler(logging.NullHandler())
_http_logger.propagate = False

SWEEP_INTERVAL_S = 0.25  # whoever is overdue may stay for so long
IDLE_INTERVAL_S = 0.7  # while there is nobody: each wake-up a second is 0.02 % of a core


class _Conversation(RequestHandler):
    """What aiohttp makes of a visit; it hears no more than so much of whoever has not logged in."""

    def __init__(self, visit: Visit, listener: Listener) -> None:
        super().__init__(
            listener.server,
            loop=asyncio.get_running_loop(),
            access_log=None,  # type: ignore[arg-type]  # documented, and annotated otherwise
            logger=_http_logger,
        )
        self.visit = visit
        self.trusted = False
        self._listener = listener

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.Protocol`."""
        self.visit.transport = cast("asyncio.Transport", transport)
        super().connection_made(transport)

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        if not self.trusted and not self._listener.hears(self.visit, len(data)):
            self.visit.end()
            return
        super().data_received(data)

    def connection_lost(self, exc: BaseException | None) -> None:
        """See `asyncio.Protocol`."""
        self._listener.leaves(self.visit)
        super().connection_lost(exc)


class Listener:
    """Accepts whoever proves a token.

    Args:
        host: name or address to listen on.
        port: or 0 for any free one.
        tokens: whoever proves one of them is let in.
        renewed: asked several times a second: other tokens, from now on, or None. Sessions whose
            token is not among them any more are closed.
        tls: certificate and key, or None for plaintext.
        config: timers and limits.
        clock: tells ``now``.
        hosts: who takes in those that have proved a token, by what they have come for (`Caller`).
        public_name: the host name that clients know it by, if a proxy ends the TLS before it.
        prefix: a path that may stand before ``/goliath/v1``: some proxies take it off, some do not.
    """

    def __init__(
        self,
        host: str,
        port: int,
        tokens: Iterable[Token],
        tls: ServerTls | None,
        config: TransportConfig,
        clock: Clock,
        *,
        hosts: Mapping[str, Host],
        renewed: Callable[[], Iterable[Token] | None] = lambda: None,
        public_name: str = "",
        prefix: str = "",
        versions: Versions | None = None,
    ) -> None:
        self._host = host
        self._port = port
        self._tls = tls
        self._config = config
        self._clock = clock
        self._hosts = hosts
        self._renewed = renewed
        self._public_name = public_name.lower()
        self._paths = {PATH, prefix.rstrip("/") + PATH}
        self._keyring = Keyring(tokens, decoy=Token.make())
        self._porter = Porter(hosts, lambda: self._keyring, config, versions or own_versions())
        self._certificate = tls.certificate() if tls is not None else None
        self._guard: Guard[Visit] = Guard(config)
        self._serving = 0
        self._quiet = asyncio.Event()
        self._quiet.set()
        self.server = web.Server(self._handle)
        self._doorway: Doorway | None = None
        self._sweeper: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"<Listener {self._host}:{self._port} for {', '.join(self._hosts)}>"

    @property
    def port(self) -> int:
        """The port it listens on; the real one after `start`."""
        return self._port

    async def start(self) -> None:
        """Begin to listen.

        Raises:
            OSError: the name does not resolve, or the port is taken.
        """
        context = self._tls.context() if self._tls is not None else None
        sockets = await sockets_on(self._host, self._port)
        self._port = sockets[0].getsockname()[1]
        # Not by an aiohttp runner, which takes whoever comes, for as long as he likes.
        self._doorway = Doorway(
            sockets,
            self._config,
            context,
            admit=self._admit_visit,
            protocol=lambda visit: _Conversation(visit, self),
            gone=self.leaves,
        )
        # Owned by the listener: close() ends it.
        self._sweeper = asyncio.get_running_loop().create_task(self._sweep())

    async def stop_accepting(self) -> None:
        """Refuse new sessions. The ones that exist go on, and may still be resumed."""
        for host in self._every_host():
            host.drain()

    async def close(self) -> None:
        """Say goodbye to everyone and free the port; takes about a second at most."""
        await self.stop_accepting()
        if self._sweeper is not None:
            self._sweeper.cancel()
            with suppress(asyncio.CancelledError):
                await self._sweeper
        await self._send_away(lambda kid: False)
        if self._doorway is not None:
            await self._doorway.close()
            self._doorway = None
        for visit in self._guard.strangers():
            visit.end()
        # Before the shutdown, which makes aiohttp deaf to the answers to our goodbyes.
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_MAX_S):
                await self._quiet.wait()
        await self.server.shutdown(CLOSE_MAX_S)

    # -- before the login ------------------------------------------------------------------

    def _admit_visit(self, visit: Visit) -> bool:
        leaves = self._guard.admit(visit, visit.address, self._clock.now())
        if leaves is not None and leaves is not visit:
            leaves.end()
        return leaves is not visit

    def hears(self, visit: Visit, size: int) -> bool:
        """Whether a stranger may say so many bytes more."""
        visit.heard_bytes += size
        return visit.heard_bytes <= self._config.unauthenticated_max_bytes

    def leaves(self, visit: Visit) -> None:
        """It is over."""
        self._guard.forget(visit)

    async def _sweep(self) -> None:
        while True:
            strangers = self._guard.strangers()
            await asyncio.sleep(SWEEP_INTERVAL_S if strangers else IDLE_INTERVAL_S)
            for visit in self._guard.overdue(self._clock.now()):
                visit.end()
            tokens = self._renewed()
            if tokens is not None:
                await self._accept(tokens)

    async def _accept(self, tokens: Iterable[Token]) -> None:
        """Let these in from now on, and send away whose token is not among them."""
        self._keyring = Keyring(tokens, decoy=Token.make())
        await self._send_away(lambda kid: self._keyring.find(kid)[1])

    async def _send_away(self, knows: Callable[[str], bool]) -> None:
        async with asyncio.TaskGroup() as goodbyes:
            for host in self._every_host():
                goodbyes.create_task(host.send_away(knows))

    def _every_host(self) -> list[Host]:
        """Each once: one may be there for several purposes."""
        return list({id(host): host for host in self._hosts.values()}.values())

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        conversation = cast("_Conversation", request.protocol)
        objection = self._objection(request)
        if objection is None:
            objection = await self._ban(conversation.visit)
        if objection is not None:
            objection.force_close()
            return objection
        websocket: web.WebSocketResponse[Any] = web.WebSocketResponse(
            compress=False, max_msg_size=message_limit(self._config), timeout=CLOSE_MAX_S
        )
        await websocket.prepare(request)
        transport = request.transport
        if transport is not None and _is_open(transport):
            tune(transport.get_extra_info("socket"), self._config)
            link = WebSocketLink(websocket, transport, secure=self._tls is not None)
            await self._serve(link, conversation, transport)
        return websocket

    async def _serve(
        self, link: WebSocketLink, conversation: _Conversation, transport: asyncio.Transport
    ) -> None:
        visit = conversation.visit

        def on_proved() -> None:
            conversation.trusted = True
            self._guard.trust(visit)

        async def on_refused() -> None:
            self._guard.failed(visit.address, self._clock.now())
            await asyncio.sleep(self._config.refusal_delay_s)

        port = transport.get_extra_info("sockname")[1]
        self._serving += 1
        self._quiet.clear()
        try:
            await self._porter.receive(
                link,
                self._bindings(port),
                visit.address,
                on_proved=on_proved,
                on_refused=on_refused,
            )
        finally:
            self._serving -= 1
            if not self._serving:
                self._quiet.set()

    def _objection(self, request: web.BaseRequest) -> web.Response | None:
        """Why a request is refused before it becomes a websocket."""
        hosts = request.headers.getall("Host", [])
        if request.path not in self._paths:
            return _refusal(404, f"there is nothing here; a Commander asks for {PATH}")
        if request.headers.get("Origin") is not None:
            return _refusal(403, "requests of web pages are refused")
        if len(hosts) != 1 or not self._knows_host(hosts[0]):
            return _refusal(403, "requests under another host name are refused")
        if request.headers.get("Upgrade", "").lower() != "websocket":
            return _refusal(426, "this is for websockets only")
        return None

    async def _ban(self, visit: Visit) -> web.Response | None:
        """The refusal of an address that has failed too often, as slow as that of a login."""
        wait_s = math.ceil(self._guard.wait_s(visit.address, self._clock.now()))
        if not wait_s:
            return None
        await asyncio.sleep(self._config.refusal_delay_s)
        text = f"too many failed logins from this address; try again in {wait_s} s"
        return _refusal(BANNED, text, {RETRY_AFTER: str(wait_s)})

    def _knows_host(self, host: str) -> bool:
        """On loopback a name that is not ours is a web page's trick (DNS rebinding)."""
        if not is_loopback(self._host):
            return True
        name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
        known = name == self._host or name.lower() == self._public_name
        return known or is_loopback(name.strip("[]"))

    def _bindings(self, port: int) -> tuple[str, ...]:
        vouched = (ca_binding(self._public_name),) if self._public_name else ()
        if self._certificate is not None:
            return tls_binding(self._certificate), *vouched
        return plain_binding(port, loopback=True), plain_binding(port, loopback=False), *vouched


def _is_open(transport: asyncio.BaseTransport | None) -> bool:
    """Whether it can be asked for anything: a closed TLS transport raises at every question."""
    return transport is not None and not transport.is_closing()


def _refusal(status: int, text: str, headers: Mapping[str, str] | None = None) -> web.Response:
    return web.Response(status=status, text=text + "\n", headers=headers)
