"""Nodes that dial a door, and Commanders that reach them there: over real sockets, in one loop."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from goliath.actors.scrutiny import are_nodes
from goliath.clock import BootClock
from goliath.config import MIB, TransportConfig
from goliath.errors import AuthenticationError, ConnectionError as NoConnection, GoliathError
from goliath.transport.address import Address
from goliath.transport.credentials import Credentials
from goliath.transport.dialer import Dialer
from goliath.transport.handshake import SESSION
from goliath.transport.host import Stay
from goliath.transport.joined import RelayedRoad, SummonedRoad
from goliath.transport.joiner import Joiner
from goliath.transport.keys import Keys, plain_binding
from goliath.transport.listener import Listener
from goliath.transport.lobby import ANSWER, JOIN, RELAY, Lobby, Waiting, splice
from goliath.transport.proof import call_on
from goliath.transport.road import DirectRoad, Road
from goliath.transport.sessions import GrantedSessions
from goliath.transport.tls import ServerTls
from goliath.transport.token import Token
from goliath.transport.websocket import WebSocketLink
from tests.transport.ends import (
    TLS,
    TOKEN,
    WHY_NONSENSE,
    Sessions,
    bulk,
    control,
    dialing,
    nonsense,
)
from tests.transport.gateways import Authority, connecting, ending_tls
from tests.transport.proxy import Proxy, proxying

pytestmark = pytest.mark.slow

FAST = TransportConfig(
    refusal_delay_s=0.02,
    ping_interval_s=0.1,
    silence_max_s=1.5,
    session_kill_s=8.0,
    session_lost_s=10.0,
    reconnect_min_s=0.01,
    reconnect_max_s=0.05,
)
HASTY = replace(FAST, handshake_max_s=1.0)  # who is not there is not waited for
CLOCK = BootClock()
OTHER = Token(bytes(range(1, 33)))
KID = Keys.of(TOKEN).kid


@dataclass
class Host:
    """Whoever listens: a door with a lobby, what it was told of nodes, and news of that."""

    lobby: Lobby
    listener: Listener
    lists: list[list[Waiting]] = field(default_factory=list)
    news: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def port(self) -> int:
        return self.listener.port

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(10):
            while not condition():
                self.news.clear()
                await self.news.wait()

    async def until_wanted(self) -> None:
        """Until somebody wants a link."""
        await self.until(lambda: self.lobby._summoned)

    async def node(self) -> Waiting:
        """The only one, when it has joined."""
        await self.until(lambda: self.lists and len(self.lists[-1]) == 1)
        return self.lists[-1][0]


@asynccontextmanager
async def hosting(
    config: TransportConfig = FAST,
    *,
    tls: ServerTls | None = None,
    tokens: tuple[Token, ...] = (TOKEN,),
    public_name: str = "",
) -> AsyncIterator[Host]:
    def on_change(_kid: str, waiting: list[Waiting]) -> None:
        host.lists.append(waiting)
        host.news.set()

    class Told(Lobby):
        async def summon(self, kid: str, node: str) -> WebSocketLink:
            asyncio.get_running_loop().call_soon(host.news.set)
            return await super().summon(kid, node)

    lobby = Told(config, CLOCK, on_change=on_change)
    hosts = {JOIN: lobby, ANSWER: lobby, RELAY: lobby}
    listener = Listener(
        "127.0.0.1", 0, tokens, tls, config, CLOCK, hosts=hosts, public_name=public_name
    )
    host = Host(lobby, listener)
    await listener.start()
    try:
        yield host
    finally:
        await listener.close()


@dataclass
class Node:
    """A node that joins: its sessions, and how it fares."""

    sessions: Sessions = field(default_factory=Sessions)
    joined: int = 0
    troubles: list[Exception] = field(default_factory=list)
    ended: asyncio.Task[Exception] | None = None
    news: asyncio.Event = field(default_factory=asyncio.Event)

    def on_joined(self) -> None:
        self.joined += 1
        self.news.set()

    def on_trouble(self, error: Exception) -> None:
        self.troubles.append(error)
        self.news.set()

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(10):
            while not condition():
                self.news.clear()
                await self.news.wait()


def way(
    port: int, token: Token = TOKEN, *, scheme: str | None = None, **options: object
) -> DirectRoad:
    address = Address("127.0.0.1", port, scheme)
    return DirectRoad(address, Credentials(token), FAST, **options)  # type: ignore[arg-type]


def through(proxy: Proxy, host: Host) -> DirectRoad:
    """Through a proxy on another port, which the binding of a real one would refuse."""
    road = way(proxy.port)
    road._binding = lambda _: plain_binding(host.port, loopback=True)  # type: ignore[method-assign]
    return road


@asynccontextmanager
async def joining(
    road: Road, name: str = "lab", node_id: str = "0123456789abcdef"
) -> AsyncIterator[Node]:
    node = Node()
    node.sessions.granted = GrantedSessions(FAST, CLOCK, on_session=node.sessions.on_session)
    joiner = Joiner(
        road,
        node.sessions.granted,
        FAST,
        CLOCK,
        random.Random(1),
        node=node_id,
        name=name,
        on_joined=node.on_joined,
        on_trouble=node.on_trouble,
    )
    async with asyncio.TaskGroup() as tasks:
        node.ended = tasks.create_task(joiner.run())
        try:
            yield node
        finally:
            await node.sessions.granted.send_away(lambda kid: False)
            node.ended.cancel()


def commander(road: Road, near: Sessions) -> Dialer:
    return Dialer(
        road, FAST, CLOCK, random.Random(2), on_session=near.on_session, on_trouble=near.on_trouble
    )


def relayed(port: int, node: Waiting, token: Token = TOKEN, **options: object) -> RelayedRoad:
    return RelayedRoad("lab/1", node.id, way(port, token, **options), FAST, CLOCK)  # type: ignore[arg-type]


def summoned(host: Host, node: Waiting) -> SummonedRoad:
    return SummonedRoad("lab/1", node.id, lambda: TOKEN, node.kid, host.lobby)


WAYS = {"relayed": lambda host, node: relayed(host.port, node), "summoned": summoned}


@pytest.fixture(params=WAYS.values(), ids=list(WAYS))
def road_to(request: pytest.FixtureRequest) -> Callable[[Host, Waiting], Road]:
    """Both ways to a node: through a rendezvous, and from one's own door."""
    return request.param


# -- links -------------------------------------------------------------------------------


async def test_a_session_goes_over_a_link_that_the_node_has_dialed(road_to):
    near = Sessions()
    async with hosting() as host, joining(way(host.port)) as far:
        node = await host.node()
        assert (node.kid, node.name) == (KID, "lab")
        async with dialing(commander(road_to(host, node), near)):
            here, there = await near.end(), await far.sessions.end()
            here.send(control(1))
            there.send(control(2))
            assert await there.received(1) == [control(1)]
            assert await here.received(1) == [control(2)]
            assert near.peers[0].session_id == far.sessions.peers[0].session_id
            assert far.sessions.peers[0].kid == KID
        await there.until(lambda: there.closed)
        assert there.closed == [None]
    assert near.troubles == []


async def test_a_session_survives_cuts_on_the_side_of_the_node(road_to):
    near = Sessions()
    async with hosting() as host, proxying(host.port) as proxy:
        road = through(proxy, host)
        async with (
            joining(road) as far,
            dialing(commander(road_to(host, await host.node()), near)),
        ):
            here, there = await near.end(), await far.sessions.end()
            rng = random.Random(3)
            for n in range(300):
                here.send(bulk(n, bytes(rng.choice((10, 1000, 30_000)))))
                there.send(bulk(n, bytes(100)))
                if n % 100 == 50:
                    await asyncio.sleep(0.01)
                    proxy.cut()
            await there.received(300)
            await here.received(300)
            assert there.batches == here.batches == list(range(300))
            assert len(near.ends) == len(far.sessions.ends) == 1
            assert far.joined >= 2


async def test_a_blackholed_node_is_noticed_and_comes_back(road_to):
    near = Sessions()
    async with hosting() as host, proxying(host.port) as proxy:
        road = through(proxy, host)
        async with (
            joining(road) as far,
            dialing(commander(road_to(host, await host.node()), near)),
        ):
            here, there = await near.end(), await far.sessions.end()
            proxy.blackhole()
            here.send(bulk(1))
            await there.received(1)
            assert len(near.ends) == 1
            assert far.joined == 2


async def test_nonsense_over_a_link_that_the_node_has_dialed_is_answered_by_4400(road_to, caplog):
    near, links = Sessions(), []
    async with hosting() as host, joining(way(host.port)) as far:
        road = road_to(host, await host.node())
        open_road = road.open

        async def noted() -> tuple[WebSocketLink, str]:
            link, binding = await open_road()
            links.append(link)
            return link, binding

        road.open = noted
        async with dialing(commander(road, near)):
            (await near.end()).send(nonsense())
            (await near.end(1)).send(control(2))
            assert await (await far.sessions.end(1)).received(1) == [control(2)]
    assert links[0].close_code == 4400
    assert f"ended the session of 127.0.0.1:{host.port}: {WHY_NONSENSE}" in caplog.text


async def test_big_messages_go_through_a_rendezvous():
    near = Sessions()
    async with (
        hosting() as host,
        joining(way(host.port)) as far,
        dialing(commander(relayed(host.port, await host.node()), near)),
    ):
        here, there = await near.end(), await far.sessions.end()
        payload = random.Random(1).randbytes(20 * MIB)
        here.send(bulk(1, payload))
        await there.received(1)
        assert there.messages[0].payload == payload


async def test_one_that_does_not_read_is_not_read_for():
    """Back-pressure goes through: what a rendezvous has taken is no more than sockets hold."""

    class End:
        """Of a link: it takes a message only when there is room, and has any number to give."""

        close_code = None

        def __init__(self, room: int) -> None:
            self.given = 0
            self.taken: list[bytes] = []
            self.room = asyncio.Semaphore(room)
            self.closed: list[int] = []

        async def receive(self) -> bytes:
            await asyncio.sleep(0)
            self.given += 1
            return bytes(self.given)

        async def send_bytes(self, data: bytes) -> None:
            await self.room.acquire()
            self.taken.append(data)

        async def close(self, code: int) -> None:
            self.closed.append(code)

    fast, slow = End(0), End(3)
    task = asyncio.get_running_loop().create_task(splice(fast, slow))  # type: ignore[arg-type]
    for _ in range(100):
        await asyncio.sleep(0)
    assert (fast.given, len(slow.taken)) == (4, 3)
    slow.room.release()
    for _ in range(100):
        await asyncio.sleep(0)
    assert (fast.given, slow.taken) == (5, [bytes(n) for n in range(1, 5)])
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert fast.closed == slow.closed == [1000]


# -- who is let in ---------------------------------------------------------------------------


async def test_a_wrong_token_ends_the_joining_and_says_why():
    async with hosting() as host, joining(way(host.port, OTHER, remedy="try another")) as node:
        assert node.ended is not None
        error = await asyncio.wait_for(asyncio.shield(node.ended), 10)
        assert isinstance(error, AuthenticationError)
        assert "refused the token; try another" in str(error)
        assert node.joined == 0
        assert host.lists == []


async def test_a_node_asks_for_the_same_token_once_more_end_to_end():
    """Whoever passes the bytes on cannot let in whom the node does not."""
    near = Sessions()
    async with hosting() as host, joining(way(host.port)) as far:
        road = SummonedRoad("lab/1", (await host.node()).id, lambda: OTHER, KID, host.lobby)
        async with dialing(commander(road, near)):
            error = await near.trouble()
        assert isinstance(error, AuthenticationError)
        assert str(error) == "lab/1 refused the token that it has joined with itself"
        assert far.sessions.ends == []


async def test_a_refusal_goes_through_a_rendezvous():
    near = Sessions()

    class Confused(RelayedRoad):
        def token(self) -> Token:
            return OTHER

    async with hosting() as host, joining(way(host.port)) as far:
        node = await host.node()
        road = Confused("lab/1", node.id, way(host.port), FAST, CLOCK)
        async with dialing(commander(road, near)):
            error = await near.trouble()
        assert isinstance(error, AuthenticationError)
        assert "which has joined" in str(error)
        assert far.sessions.ends == []


async def test_whoever_listens_under_another_certificate_is_not_joined():
    async with hosting(tls=TLS) as host:
        host.listener._certificate = b"another"  # as of one who passes on what he hears
        async with joining(way(host.port, scheme="wss")) as node:
            assert node.ended is not None
            error = await asyncio.wait_for(asyncio.shield(node.ended), 10)
    assert isinstance(error, AuthenticationError)


async def test_over_tls_all_is_the_same():
    near = Sessions()
    async with hosting(tls=TLS) as host, joining(way(host.port, scheme="wss")) as far:
        node = await host.node()
        async with dialing(commander(relayed(host.port, node, scheme="wss"), near)):
            (await near.end()).send(bulk(1, bytes(MIB)))
            assert (await (await far.sessions.end()).received(1))[0].payload == bytes(MIB)


async def test_an_authority_may_vouch_for_the_door():
    async with hosting(tls=TLS) as host, joining(way(host.port, scheme="wss", tls="ca")) as node:
        await node.until(lambda: node.troubles)
        assert "certificate is not trusted" in str(node.troubles[0])


async def test_behind_a_proxy_that_ends_the_tls_an_authority_vouches_for_all_three(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    authority = Authority(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
    near = Sessions()
    async with (
        hosting(public_name="localhost") as host,
        ending_tls(host.port, authority.sign("localhost")) as proxy,
    ):
        address = Address("localhost", proxy.port, "wss")

        def by_name() -> DirectRoad:
            return DirectRoad(address, Credentials(TOKEN), FAST, tls="ca")

        async with joining(by_name()) as far:
            node = await host.node()
            road = RelayedRoad("lab/1", node.id, by_name(), FAST, CLOCK)
            async with dialing(commander(road, near)):
                (await near.end()).send(control(1))
                assert await (await far.sessions.end()).received(1) == [control(1)]


async def test_a_node_behind_a_proxy_asks_that_for_its_way_out(monkeypatch: pytest.MonkeyPatch):
    near, far_away = Sessions(), Address("meeting.example.test", 8080)
    name = far_away.host
    async with hosting(tls=TLS, public_name=name) as host, connecting(host.port) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy.port}")
        async with (
            joining(DirectRoad(far_away, Credentials(TOKEN), FAST)) as far,
            dialing(commander(summoned(host, await host.node()), near)),
        ):
            (await near.end()).send(control(1))
            assert await (await far.sessions.end()).received(1) == [control(1)]
        asked = "CONNECT meeting.example.test:8080 HTTP/1.1"
        assert proxy.asked == [asked, asked], "for the line, and for the link"


@pytest.mark.parametrize(
    ("wish", "why"),
    [
        ((SESSION,), "is it a Lieutenant that you mean to reach"),
        (("dance",), "is it a Lieutenant that you mean to reach"),
        ((JOIN,), "not how one asks"),
        ((JOIN, "lab"), "calls itself by 16 hexadecimal digits"),
        ((JOIN, "a", "b"), "not how one asks"),
        ((ANSWER, "no such ticket"), "nobody waits for that link"),
        ((RELAY, "no such node"), "has not joined, or has left"),
    ],
)
async def test_what_is_not_to_be_had_is_refused_in_words(wish: tuple[str, ...], why: str):
    async with hosting(HASTY) as host, way(host.port) as road:
        with pytest.raises(NoConnection, match=why):
            await call_on(road, road.token, wish, "me", FAST, CLOCK)


async def test_a_ticket_is_for_the_node_that_was_asked_alone():
    """Somebody else with the same token, who has overheard it, cannot take the link."""
    async with hosting() as host, way(host.port) as road:
        line = await call_on(road, road.token, (JOIN, "lab"), "0" * 16, FAST, CLOCK)
        node = await host.node()
        async with asyncio.TaskGroup() as tasks:
            wanted = tasks.create_task(host.lobby.summon(KID, node.id))
            ticket = await asked(line)
            with pytest.raises(NoConnection, match="nobody waits"):
                await call_on(road, road.token, (ANSWER, ticket), "1" * 16, FAST, CLOCK)
            link = await call_on(road, road.token, (ANSWER, ticket), "0" * 16, FAST, CLOCK)
            far = await wanted
        with pytest.raises(NoConnection, match="nobody waits"):
            await call_on(road, road.token, (ANSWER, ticket), "0" * 16, FAST, CLOCK)
        for each in (link, far, line):
            await each.close(1000)


async def test_a_token_has_room_for_so_many_nodes_and_each_may_come_back():
    config = replace(FAST, joined_max=2)
    async with hosting(config, tokens=(TOKEN, OTHER)) as host, way(host.port) as road:
        lines = [
            await call_on(road, road.token, (JOIN, "lab"), str(n) * 16, FAST, CLOCK) for n in (1, 2)
        ]
        await host.until(lambda: host.lists and len(host.lists[-1]) == 2)
        with pytest.raises(NoConnection, match="2 nodes have joined it with this token already"):
            await call_on(road, road.token, (JOIN, "lab"), "3" * 16, FAST, CLOCK)
        lines.append(await call_on(road, road.token, (JOIN, "lab"), "1" * 16, FAST, CLOCK))
        assert await ends(lines[0]), "the newest wins"
        async with way(host.port, OTHER) as other:
            lines.append(await call_on(other, other.token, (JOIN, "x"), "1" * 16, FAST, CLOCK))
            await host.until(lambda: [node.name for node in host.lists[-1]] == ["x"])
            for line in lines:
                line.abort()
                await line.close(1000)


async def test_what_a_lobby_lists_is_what_commanders_believe():
    async with hosting() as host, way(host.port) as road:
        line = await call_on(road, road.token, (JOIN, "l\u00e4b 7\n" * 40), "1" * 16, FAST, CLOCK)
        node = await host.node()
        assert are_nodes([[node.id, node.name]])
        assert node.name.startswith("l-b-7-")
        line.abort()
        await line.close(1000)


async def ends(link) -> bool:
    async with asyncio.timeout(5):
        while await link.receive() is not None:
            continue
    return True


async def test_one_that_was_started_again_is_known_and_its_dead_session_not_waited_for(road_to):
    near = Sessions()
    async with hosting() as host, joining(way(host.port)) as first:
        node = await host.node()
        dialer = commander(road_to(host, node), near)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(dialer.run())
            here = await near.end()
            assert first.sessions.granted is not None
            # It dies without a word: its sessions do not say goodbye.
            first.sessions.granted._sessions.clear()
            assert first.ended is not None
            first.ended.cancel()
            await asyncio.wait({first.ended})
            async with joining(way(host.port)) as second:
                await near.end(1)
                await here.until(lambda: here.closed)
                assert "does not know our session any more" in str(here.closed[0])
                await second.sessions.end()
                await dialer.close()


# -- coming and going ------------------------------------------------------------------------


async def test_one_that_leaves_is_reported_at_once():
    async with hosting() as host:
        async with joining(way(host.port)):
            await host.node()
        began = asyncio.get_running_loop().time()
        await host.until(lambda: host.lists[-1] == [])
        assert asyncio.get_running_loop().time() - began < 0.3


async def test_one_that_says_nothing_any_more_is_reported_after_the_silence():
    async with hosting() as host, way(host.port) as road:
        line = await call_on(road, road.token, (JOIN, "lab"), "1" * 16, FAST, CLOCK)
        await host.node()
        await host.until(lambda: host.lists[-1] == [])  # nobody has answered a ping
        assert await ends(line)
        await line.close(1000)


async def test_one_that_does_not_dial_again_is_not_waited_for(road_to):
    near = Sessions()
    async with hosting(replace(HASTY, silence_max_s=60.0)) as host, way(host.port) as road:
        line = await call_on(road, road.token, (JOIN, "lab"), "1" * 16, FAST, CLOCK)
        async with dialing(commander(road_to(host, await host.node()), near)):
            assert "it did not dial again within 0.8 s" in str(await near.trouble())
        line.abort()
        await line.close(1000)


async def test_one_that_comes_while_it_is_wanted_is_reached_at_once(road_to):
    """After a cut, both dial at the same time."""
    near, gone = Sessions(), Waiting(KID, "0123456789abcdef", "lab")
    async with hosting() as host:
        road = road_to(host, gone)
        async with dialing(commander(road, near)):
            await host.until_wanted()
            async with joining(way(host.port)) as far:
                await near.end()
                await far.sessions.end()
        assert near.troubles == []


async def test_one_whose_line_breaks_while_it_is_wanted_is_asked_once_more():
    async with hosting() as host, way(host.port) as road:
        lines = [await call_on(road, road.token, (JOIN, "lab"), "1" * 16, FAST, CLOCK)]
        await host.node()
        async with asyncio.TaskGroup() as tasks:
            wanted = tasks.create_task(host.lobby.summon(KID, "1" * 16))
            tickets = [await asked(lines[0])]
            lines.append(await call_on(road, road.token, (JOIN, "lab"), "1" * 16, FAST, CLOCK))
            tickets.append(await asked(lines[1]))
            assert tickets[0] == tickets[1]
            answer = (ANSWER, tickets[1])
            link = await call_on(road, road.token, answer, "1" * 16, FAST, CLOCK)
            await wanted
        for each in (*lines, link, wanted.result()):
            await each.close(1000)


async def asked(line) -> str:
    """The ticket for which a node is to dial."""
    async with asyncio.timeout(5):
        while (said := await line.receive()) is not None:
            if b"ticket" in said:
                return said.decode().split('"')[-2]
    raise AssertionError("the line has ended")


async def test_a_door_that_closes_waits_for_nobody_who_is_wanted():
    near, gone = Sessions(), Waiting(KID, "0" * 16, "lab")
    async with hosting() as host, dialing(commander(relayed(host.port, gone), near)):
        await host.until_wanted()
        began = asyncio.get_running_loop().time()
        await host.listener.close()
        assert asyncio.get_running_loop().time() - began < 1.0
        assert "it ends" in str(await near.trouble())


async def test_nonsense_on_the_line_ends_it():
    async with hosting() as host, way(host.port) as road:
        for nonsense in (b"x", b"[]", b"{" + b" " * 2000 + b"}"):
            line = await call_on(road, road.token, (JOIN, "lab"), "1" * 16, FAST, CLOCK)
            await line.send_bytes(nonsense)
            assert await ends(line)
            assert line.close_code == 4409
            await line.close(1000)


async def test_a_node_ignores_what_a_newer_door_may_say():
    async with hosting() as host, joining(way(host.port)) as node:
        waiting = await host.node()
        await host.lobby._waiting[KID, waiting.id][1].say({"t": "dance"})
        await host.lobby._waiting[KID, waiting.id][1].say({"t": "dial"})
        link = await host.lobby.summon(KID, waiting.id)
        assert node.joined == 1
        await link.close(1000)


async def test_a_door_that_drains_takes_no_more_nodes_and_still_leads_to_those_it_has():
    near = Sessions()
    async with hosting() as host, joining(way(host.port)) as far:
        node = await host.node()
        await host.listener.stop_accepting()
        async with joining(way(host.port)) as late:
            await late.until(lambda: late.troubles)
            assert "is ending, and takes no more nodes" in str(late.troubles[0])
        async with dialing(commander(relayed(host.port, node), near)):
            (await near.end()).send(control(1))
            assert await (await far.sessions.end()).received(1) == [control(1)]


async def test_a_door_that_closes_ends_all_links_at_once(road_to):
    near = Sessions()
    async with (
        hosting() as host,
        joining(way(host.port)) as far,
        dialing(commander(road_to(host, await host.node()), near)),
    ):
        await near.end()
        await far.sessions.end()
        began = asyncio.get_running_loop().time()
        await host.listener.close()
        assert asyncio.get_running_loop().time() - began < 1.5
        await far.until(lambda: far.troubles)
        assert isinstance(far.troubles[0], GoliathError)
        assert "has ended the connection" in str(far.troubles[0])


async def test_a_token_that_is_revoked_while_its_node_is_let_in_keeps_the_node_out():
    async with hosting() as host:
        admit = host.lobby.admit

        async def revoked_meanwhile(*args: Any) -> Stay | None:
            stay = await admit(*args)
            await host.listener._accept([OTHER])
            return stay

        host.lobby.admit = revoked_meanwhile  # type: ignore[method-assign]
        async with joining(way(host.port)) as node:
            assert node.ended is not None
            error = await asyncio.wait_for(asyncio.shield(node.ended), 5)
            assert isinstance(error, AuthenticationError)
        await host.until(lambda: not host.lists or host.lists[-1] == [])


async def test_a_revoked_token_ends_its_lines_and_links_and_no_others():
    near = Sessions()
    async with (
        hosting(tokens=(TOKEN, OTHER)) as host,
        joining(way(host.port)) as revoked,
        joining(way(host.port, OTHER)) as other,
    ):
        await host.until(lambda: len({n.kid for nodes in host.lists for n in nodes}) == 2)
        node = next(n for nodes in host.lists for n in nodes if n.kid == KID)
        async with dialing(commander(relayed(host.port, node), near)):
            await near.end()
            await host.listener._accept([OTHER])
            assert revoked.ended is not None
            error = await asyncio.wait_for(asyncio.shield(revoked.ended), 10)
            assert isinstance(error, AuthenticationError)
            assert isinstance(await near.trouble(), AuthenticationError)
        assert (other.joined, other.troubles) == (1, [])
