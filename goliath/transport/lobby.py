"""Nodes that have dialed in: they wait behind a door, and dial again for each link that is wanted.

::

    node ── join ──────────► door        and stays on that line (`standby`)
    Commander ── relay ────► door        "a link to that node, please"
                             door ── {"t": "dial", "ticket"} ──► node
    node ── answer, ticket ► door        a second connection
    Commander ◄══ bytes, both ways ══► node       and over it an ordinary login, end to end

All three log in at the door, by the same token. Where the door is a Commander's own, there is no
relay: it takes the link that the node has dialed for itself.
"""

from __future__ import annotations

import asyncio
import re
import secrets
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from functools import partial

from goliath.clock import Clock
from goliath.config import TransportConfig
from goliath.errors import ConnectionError, ProtocolError  # noqa: A004
from goliath.record import frozen
from goliath.transport.connection import CLOSE_OK
from goliath.transport.handshake import Caller, ServerHandshake
from goliath.transport.host import Stay
from goliath.transport.standby import Standby
from goliath.transport.websocket import WebSocketLink

JOIN, ANSWER, RELAY = "join", "answer", "relay"
"""What one may come for: ``[JOIN, name]``, ``[ANSWER, ticket]``, ``[RELAY, node]``."""

SUMMONS_SHARE = 0.8
"""What a node has to dial again, of the time for a login: the rest is left to say why not."""

OURS = range(4000, 5000)
"""Codes that one end closes a link with to tell the other why; these are passed on."""

_ID = re.compile(r"[0-9a-f]{16}")
_NO_NAME = re.compile(r"[^A-Za-z0-9._-]")
NAME_MAX = 64


@frozen
class Waiting:
    """A node that has joined.

    Attributes:
        kid: of the token that it has proved.
        id: its own random name.
        name: what people call it; it may not be the only one of that name.
    """

    kid: str
    id: str
    name: str


_Key = tuple[str, str]
"""A token's name and a node's: what the holder of another token says of a node is not about it."""


class Lobby:
    """A `Host` of nodes that have dialed in, and of Commanders that want a link to one.

    Args:
        config: timers and limits.
        clock: tells ``now``.
        on_change: told of a token's nodes whenever one has come or gone.
    """

    def __init__(
        self,
        config: TransportConfig,
        clock: Clock,
        *,
        on_change: Callable[[str, list[Waiting]], None],
    ) -> None:
        self._config = config
        self._clock = clock
        self._on_change = on_change
        self._waiting: dict[_Key, tuple[Waiting, Standby]] = {}
        self._summoned: dict[str, tuple[_Key, asyncio.Future[WebSocketLink]]] = {}
        self._links: dict[WebSocketLink, str] = {}  # all there are, by the names of their tokens
        self._draining = False

    def __repr__(self) -> str:
        return f"<Lobby with {len(self._waiting)} nodes>"

    def drain(self) -> None:
        """See `Host.drain`. The nodes that wait may still be reached."""
        self._draining = True

    async def send_away(self, knows: Callable[[str], bool]) -> None:
        """See `Host.send_away`."""
        for key, answered in self._summoned.values():
            if not knows(key[0]) and not answered.done():
                answered.set_exception(ConnectionError("it ends"))
        async with asyncio.TaskGroup() as goodbyes:
            for link, kid in list(self._links.items()):
                if not knows(kid):
                    goodbyes.create_task(link.close(CLOSE_OK, "it ends"))

    async def admit(
        self, link: WebSocketLink, handshake: ServerHandshake, caller: Caller, address: str
    ) -> Stay | None:
        """See `Host.admit`."""
        try:
            match caller.wish:
                case (str(wish), str(name)) if wish == JOIN:
                    return await self._join(link, handshake, caller, name)
                case (str(wish), str(ticket)) if wish == ANSWER:
                    return await self._answer(link, handshake, caller, ticket)
                case (str(wish), str(node)) if wish == RELAY:
                    return await self._relay(link, handshake, caller, node)
            raise ConnectionError("this is not how one asks for a node")
        except ConnectionError as refusal:
            await link.send_bytes(handshake.refuse(str(refusal)))
        return None

    def _staying(self, link: WebSocketLink, kid: str, stay: Stay) -> Stay:
        """That, and meanwhile the link is known here."""

        async def known() -> str | None:
            self._links[link] = kid
            try:
                return await stay()
            finally:
                del self._links[link]

        return known

    # -- nodes that wait -----------------------------------------------------------------------

    async def _join(
        self, link: WebSocketLink, handshake: ServerHandshake, caller: Caller, name: str
    ) -> Stay:
        key = caller.kid, caller.client_id
        if not _ID.fullmatch(caller.client_id):
            # Commanders would not believe a Lieutenant that tells them of such a one.
            raise ConnectionError("a node calls itself by 16 hexadecimal digits")
        if self._draining:
            raise ConnectionError("it is ending, and takes no more nodes; a later try will do")
        full = Counter(kid for kid, _ in self._waiting)[caller.kid] >= self._config.joined_max
        if full and key not in self._waiting:
            raise ConnectionError(
                f"{self._config.joined_max} nodes have joined it with this token already; that is "
                "GOLIATH_JOINED_MAX there"
            )
        node = Waiting(*key, _NO_NAME.sub("-", name)[:NAME_MAX] or "node")
        await link.send_bytes(handshake.grant())
        line = Standby(link, self._config, self._clock)
        return self._staying(link, caller.kid, partial(self._wait, key, node, line))

    async def _wait(self, key: _Key, node: Waiting, line: Standby) -> None:
        before = self._waiting.get(key)
        self._waiting[key] = node, line
        if before is None:
            self._tell(node.kid)
        else:
            before[1].abort()  # the newest wins: it has dialed again because that one is broken
        try:
            for ticket in [t for t, (wanted, _) in self._summoned.items() if wanted == key]:
                await self._ask(key, ticket)
            await line.run(lambda said: None)  # of a newer node: nothing we could act on
        finally:
            if self._waiting.get(key) == (node, line):
                del self._waiting[key]
                self._tell(node.kid)

    def _tell(self, kid: str) -> None:
        self._on_change(kid, [node for node, _ in self._waiting.values() if node.kid == kid])

    # -- links to them -------------------------------------------------------------------------

    async def summon(self, kid: str, node: str) -> WebSocketLink:
        """A new link to a node that waits, or comes soon. Closing it is the caller's part.

        Raises:
            ConnectionError: it is not there, or does not dial.
        """
        key, ticket = (kid, node), secrets.token_hex(16)
        patience_s = SUMMONS_SHARE * self._config.handshake_max_s
        answered: asyncio.Future[WebSocketLink] = asyncio.get_running_loop().create_future()
        self._summoned[ticket] = key, answered
        try:
            async with asyncio.timeout(patience_s):
                await self._ask(key, ticket)
                return await answered
        except TimeoutError:
            _let_go(answered)
            if key in self._waiting:
                raise ConnectionError(f"it did not dial again within {patience_s:g} s") from None
            raise ConnectionError("it has not joined, or has left") from None
        except asyncio.CancelledError:
            _let_go(answered)
            raise
        finally:
            self._summoned.pop(ticket, None)

    async def _ask(self, key: _Key, ticket: str) -> None:
        """Have a node dial, if it is there. One whose line breaks meanwhile is asked once more when
        it is back: after a cut, it and whoever wants it dial at the same time."""
        if key in self._waiting:
            with suppress(OSError):
                await self._waiting[key][1].say({"t": "dial", "ticket": ticket})

    async def _answer(
        self, link: WebSocketLink, handshake: ServerHandshake, caller: Caller, ticket: str
    ) -> Stay:
        key, answered = self._summoned.get(ticket, (None, None))
        if answered is None or key != (caller.kid, caller.client_id):
            raise ConnectionError("nobody waits for that link any more")
        await link.send_bytes(handshake.grant())

        async def hand_over() -> None:
            if not answered.done():  # nor given up meanwhile
                answered.set_result(link)
                await link.until_closed()

        return self._staying(link, caller.kid, hand_over)

    async def _relay(
        self, link: WebSocketLink, handshake: ServerHandshake, caller: Caller, node: str
    ) -> Stay:
        far = await self.summon(caller.kid, node)
        try:
            await link.send_bytes(handshake.grant())
        except BaseException:
            far.abort()
            raise
        return self._staying(link, caller.kid, partial(splice, link, far))


def _let_go(answered: asyncio.Future[WebSocketLink]) -> None:
    """Nobody wants the link any more, which may have come this very moment."""
    if answered.done() and not answered.cancelled() and answered.exception() is None:
        answered.result().abort()


async def splice(one: WebSocketLink, other: WebSocketLink) -> None:
    """Pass messages on, both ways and unread, until either link ends; then end the other one.

    A link whose other end does not read is not read from: nothing gathers here.
    """
    pumps = [
        asyncio.get_running_loop().create_task(_pump(source, target))
        for source, target in ((one, other), (other, one))
    ]
    try:
        await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for pump in pumps:
            pump.cancel()
        await asyncio.wait(pumps)
        said = [link.close_code or CLOSE_OK for link in (one, other)]
        code = max(code if code in OURS else CLOSE_OK for code in said)
        for link in (one, other):
            await link.close(code)


async def _pump(source: WebSocketLink, target: WebSocketLink) -> None:
    try:
        while (message := await source.receive()) is not None:
            await target.send_bytes(message)
    except (OSError, ProtocolError):
        return
