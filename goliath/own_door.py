"""A Commander's own door: the one port at which nodes join it that it cannot dial."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from goliath.actors.gatehouse import Gatehouse
from goliath.actors.link import Place
from goliath.actors.reception import SessionUp, TokenLimited, TokenRevoked
from goliath.clock import BootClock
from goliath.config import TransportConfig
from goliath.errors import AuthenticationError, ConnectionError  # noqa: A004
from goliath.transport.address import Address, host_here
from goliath.transport.certificate import own_certificate
from goliath.transport.credentials import COMMANDER, Credentials, RuntimeFile
from goliath.transport.sockets import why_not_bound
from goliath.transport.tls import ServerTls
from goliath.transport.token import Token

if TYPE_CHECKING:
    from goliath.transport.joined import SummonedRoad
    from goliath.transport.listener import Listener
    from goliath.transport.lobby import Lobby, Waiting

OnListed = Callable[[list[Place]], None]


class OwnDoor:
    """See `goliath.actors.link.Door`. It has the tokens, the certificate and, for nodes of the same
    user on the same machine, the runtime file that a Lieutenant has.

    Args:
        listen: where; port 0 is any free one.
        credentials: what the Commander was told about tokens.
        public_name: host name and path prefix of the proxy before it that ends the TLS, if there is
            one.
    """

    def __init__(
        self, listen: Address, credentials: Credentials, public_name: tuple[str, str] = ("", "")
    ) -> None:
        self._listen = listen
        self._credentials = credentials
        self._public_name, self._prefix = public_name
        self._listener: Listener | None = None
        self._lobby: Lobby | None = None
        self._gatehouse: Gatehouse | None = None
        self._runtime: RuntimeFile | None = None
        self._waiting: dict[str, list[Waiting]] = {}

    def __repr__(self) -> str:
        return f"<OwnDoor {self.address}>"

    @property
    def port(self) -> int:
        """The real one, once it is open."""
        return self._listen.port if self._listener is None else self._listener.port

    @property
    def host(self) -> str:
        """As it was given."""
        return self._listen.host

    @property
    def address(self) -> str:
        """See `Door.address`."""
        return str(Address(self.host, self.port))

    @property
    def is_open(self) -> bool:
        """Whether nodes may come."""
        return self._listener is not None

    async def open(self, on_listed: OnListed, on_revoked: Callable[[str], None]) -> None:
        """See `Door.open`."""
        # Here, because it imports aiohttp.
        from goliath.transport.listener import Listener
        from goliath.transport.lobby import ANSWER, JOIN, Lobby

        def on_token(news: TokenLimited | TokenRevoked | SessionUp) -> None:
            if isinstance(news, TokenRevoked):  # how much a node does is for this end to say
                on_revoked(news.realm)

        def on_change(kid: str, waiting: list[Waiting]) -> None:
            self._waiting[kid] = waiting
            on_listed(
                [
                    Place.of(node.id, node.name, realm=node.kid)
                    for nodes in self._waiting.values()
                    for node in nodes
                ]
            )

        config, clock, listen = TransportConfig.from_environ(), BootClock(), self._listen
        try:
            tokens = self._credentials.accepted_at(listen, self._public_name)
            gatehouse = Gatehouse(*tokens, on_token)
            tls = None if listen.loopback else _tls()
            lobby = Lobby(config, clock, on_change=on_change)
            listener = Listener(
                listen.host,
                listen.port,
                gatehouse.tokens(),
                tls,
                config,
                clock,
                hosts={JOIN: lobby, ANSWER: lobby},
                renewed=gatehouse.renewed,
                public_name=self._public_name,
                prefix=self._prefix,
            )
            await listener.start()
        except (OSError, ValueError) as exc:
            reason = why_not_bound(exc) if isinstance(exc, OSError) else str(exc)
            raise ConnectionError(f"cannot listen for nodes on {listen}: {reason}") from exc
        self._listener, self._lobby, self._gatehouse = listener, lobby, gatehouse
        here = host_here(listen.host)
        if here is not None:
            self._runtime = RuntimeFile(listener.port)
            self._runtime.write(
                gatehouse.own.token,
                scheme="wss" if tls else "ws",
                host=here,
                port=listener.port,
                role=COMMANDER,
            )

    def road(self, place: Place) -> SummonedRoad:
        """The way to a node that waits here."""
        from goliath.transport.joined import SummonedRoad

        assert self._lobby is not None, "it is open"
        token = partial(self._token, place)
        return SummonedRoad(place.address, place.node, token, place.realm, self._lobby)

    def _token(self, place: Place) -> Token:
        assert self._gatehouse is not None, "it is open"
        entry = self._gatehouse.entry(place.realm)
        if entry is None:
            raise AuthenticationError(f"the token that {place.address} has joined with was revoked")
        return entry.token

    async def close(self) -> None:
        """See `Door.close`."""
        listener, self._listener = self._listener, None
        if self._runtime is not None:
            self._runtime.remove()
        if listener is not None:
            await listener.close()


def _tls() -> ServerTls:
    certificate = own_certificate()
    return ServerTls(certificate, certificate)
