"""Which nodes have joined where: what is told of it, believed, and made of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from goliath.actors import desk
from goliath.actors.cluster import Cluster
from goliath.actors.joined import JoinedNodes
from goliath.actors.link import Place
from goliath.actors.printing import Printer
from goliath.actors.reception import NodesJoined
from goliath.actors.scrutiny import NODES_MAX, are_nodes
from goliath.config import TransportConfig
from goliath.errors import ConnectionError as NoConnection
from goliath.testing.processes import until
from goliath.transport import memory, messages as msg
from tests.actors.runtime import until as soon
from tests.actors.test_cluster import GOOD, FakeDialer, FakeNode, run
from tests.actors.test_commander import a_house as a_commander
from tests.actors.test_lieutenant import a_house as a_lieutenant

ONE = ["1" * 16, "lab"]
TWO = ["2" * 16, "lab"]
PLACES = [Place.of(*ONE, via="a:1"), Place.of(*TWO, via="a:1")]


# -- the book ------------------------------------------------------------------------------


def test_a_list_says_who_is_new_and_who_has_gone():
    book = JoinedNodes()
    one, two = PLACES
    assert book.listed("a:1", [one]) == ([one], [])
    assert book.listed("a:1", [one, two]) == ([two], [])
    assert book.listed("b:1", [one]) == ([one], [])
    assert book.listed("a:1", []) == ([], [one.address, two.address])
    assert (one.address in book, two.address in book) == (True, False)


def test_those_at_the_door_itself_are_known_by_their_realms():
    book = JoinedNodes()
    mine = Place.of(*ONE, realm="r")
    book.listed("", [mine, Place.of(*TWO, realm="q")])
    book.listed("a:1", [Place.of("3" * 16, "x", via="a:1")])
    assert book.of_realm("r") == [mine.address] == ["lab/11111111"]


@pytest.mark.parametrize(
    "nodes",
    [
        [1],
        [["1" * 16]],
        [["1" * 16, "lab", "more"]],
        [[1, "lab"]],
        [["1" * 15, "lab"]],
        [["G" * 16, "lab"]],
        [["1" * 16, ""]],
        [["1" * 16, "lab\n"]],
        [["1" * 16, "a b"]],
        [["1" * 16, "x" * 65]],
        [ONE] * (NODES_MAX + 1),
    ],
    ids=str,
)
def test_nodes_that_cannot_be_are_not_believed(nodes: list[Any]):
    assert not are_nodes(nodes)
    assert are_nodes([ONE, TWO])


# -- the Lieutenant tells, the Commander hears ---------------------------------------------


async def test_a_lieutenant_tells_those_of_the_same_token_alone():
    async with a_lieutenant() as house:
        mine, others = house.commander("r"), house.commander("q")
        house.ref.tell(NodesJoined("r", [ONE]))
        assert await mine.next(msg.JoinedNodes) == msg.JoinedNodes([ONE])
        late = house.commander("r")
        assert await late.next(msg.JoinedNodes) == msg.JoinedNodes([ONE])
        house.ref.tell(NodesJoined("r", []))
        for commander in (mine, late):
            assert await commander.next(msg.JoinedNodes) == msg.JoinedNodes([])
        later = house.commander("r")
        later.say(msg.AskStatus())
        await later.next(msg.Status)
        assert later.heard == []
        assert others.heard == []


async def test_a_commander_takes_note_of_the_nodes_that_have_joined_a_lieutenant():
    async with a_commander() as house:
        node = house.node()
        node.say(msg.JoinedNodes([ONE, TWO]))
        await soon(lambda: len(house.news) == 2)
        assert house.news[1] == desk.NodesListed("a:1", PLACES)


async def test_a_lieutenant_that_lists_what_cannot_be_loses_its_session():
    async with a_commander() as house:
        node = house.node()
        node.say(msg.JoinedNodes([["../etc", "passwd"]]))
        await soon(lambda: node.closed)
        assert "nodes that have joined it, which cannot be" in str(house.news[-1].error)


# -- what a cluster makes of it --------------------------------------------------------------


class FakeDoor:
    """A Commander's own door, at which the test says who waits."""

    def __init__(self) -> None:
        self.address = "127.0.0.1:9"
        self.on_listed: Callable[[list[Place]], None] = lambda places: None
        self.on_revoked: Callable[[str], None] = lambda realm: None
        self.waiting: list[Place] = []
        self.closed = False

    async def open(self, on_listed: Any, on_revoked: Any) -> None:
        self.on_listed, self.on_revoked = on_listed, on_revoked
        on_listed(self.waiting)

    async def close(self) -> None:
        self.closed = True


class Net:
    """A cluster with a door, and whatever it dials."""

    def __init__(self, *addresses: str, timeout_s: float = 5.0) -> None:
        self.door = FakeDoor()
        self.nodes: list[FakeNode] = []
        self.last: Any = None
        self.dialed: list[Place] = []
        self.dialers: list[FakeDialer] = []
        self.cluster = Cluster(
            addresses,
            self.dial,
            door=self.door,
            workers=0,
            connect_timeout_s=timeout_s,
            printer=Printer("off"),
            name="test-cluster",
        )

    def dial(self, place: Place, on_session: Any, on_trouble: Any) -> FakeDialer:
        self.dialed.append(place)
        self.dialers.append(FakeDialer(on_session, on_trouble, GOOD, self.nodes, False))
        return self.dialers[-1]

    def lists(self, *places: Place) -> None:
        assert self.cluster._portal is not None
        self.cluster._portal.call(self._list(places))

    async def _list(self, places: tuple[Place, ...]) -> None:
        self.door.on_listed(list(places))

    def revokes(self, realm: str) -> None:
        assert self.cluster._portal is not None
        self.cluster._portal.post(self.door.on_revoked, realm)

    def alive(self) -> list[str]:
        return [info.address for info in self.cluster.nodes() if info.alive]


MINE, OTHER = Place.of(*ONE, realm="r"), Place.of(*TWO, realm="q")


@pytest.fixture
def net():
    net = Net("a:1")
    net.cluster.start()
    yield net
    net.cluster.close()
    assert net.door.closed


def test_those_that_have_joined_are_dialed_once_and_get_work(net: Net):
    net.lists(MINE)
    net.lists(MINE, OTHER)
    net.lists(MINE, OTHER)
    until(lambda: len(net.alive()) == 3, 5, "all are there")
    assert net.dialed == [Place("a:1"), MINE, OTHER]
    assert run(net.cluster, [{"x": n} for n in range(5)]) == [0, 2, 4, 6, 8]


def test_one_that_has_left_is_kept_while_its_session_is_and_then_forgotten(net: Net):
    net.lists(MINE)
    until(lambda: len(net.alive()) == 2, 5, "it is there")
    net.lists()
    net.lists(MINE)
    assert net.dialed == [Place("a:1"), MINE], "it was back in time"
    net.lists()
    assert len(net.alive()) == 2
    assert net.cluster._portal is not None
    net.cluster._portal.post(net.nodes[1].channel.close)
    until(lambda: [info.address for info in net.cluster.nodes()] == ["a:1"], 5, "it is forgotten")
    until(net.dialers[1]._closed.is_set, 5, "it is not dialed any more")
    net.lists(MINE)
    until(lambda: len(net.alive()) == 2, 5, "it is back")
    assert len(net.dialed) == 3


def test_late_news_of_one_that_was_forgotten_do_not_bring_it_back(net: Net):
    net.lists(MINE)
    until(lambda: len(net.alive()) == 2, 5, "it is there")
    net.lists()
    portal, dialer = net.cluster._portal, net.dialers[1]
    assert portal is not None
    portal.post(net.nodes[1].channel.close)
    until(lambda: len(net.cluster.nodes()) == 1, 5, "it is forgotten")
    portal.post(dialer._on_trouble, NoConnection("it has left"))
    portal.call(again(net, dialer))
    until(lambda: len(net.alive()) == 2, 5, "a session that was made at that moment")
    portal.post(net.last.channel.close)
    until(lambda: len(net.cluster.nodes()) == 1, 5, "it is forgotten again")


def test_one_whose_token_was_revoked_is_not_used_any_more(net: Net):
    net.lists(MINE, OTHER)
    until(lambda: len(net.alive()) == 3, 5, "they are there")
    net.revokes("r")
    until(net.dialers[1]._closed.is_set, 5, "its session is ended")
    assert not net.dialers[2]._closed.is_set()


def test_a_list_of_one_that_has_joined_itself_is_no_news(net: Net):
    net.lists(MINE)
    until(lambda: len(net.nodes) == 2, 5, "it is there")
    assert net.cluster._portal is not None
    say = net.nodes[1].channel.send
    net.cluster._portal.post(say, msg.JoinedNodes([TWO]))
    net.cluster._portal.post(net.nodes[0].channel.send, msg.JoinedNodes([TWO]))
    until(lambda: len(net.dialed) == 3, 5, "the list of one that was dialed counts")
    assert net.dialed[2] == Place.of(*TWO, via="a:1")


def test_what_a_lieutenant_said_in_an_earlier_session_is_forgotten(net: Net):
    assert net.cluster._portal is not None
    net.cluster._portal.post(net.nodes[0].channel.send, msg.JoinedNodes([TWO]))
    until(lambda: len(net.alive()) == 2, 5, "it is there")
    (dialer,) = (d for d, place in zip(net.dialers, net.dialed, strict=True) if not place.node)
    net.cluster._portal.call(again(net, dialer))
    until(lambda: PLACES[1].address not in net.cluster._joined, 5, "it is no news any more")
    net.cluster._portal.post(net.nodes[1].channel.close)
    until(lambda: PLACES[1].address not in net.alive(), 5, "it has gone with its session")


async def again(net: Net, dialer: FakeDialer) -> None:
    """Another session, as after a restart of the Lieutenant."""
    ours, theirs = memory.pair(TransportConfig())
    net.last = FakeNode(theirs, lazy=False)
    dialer._on_session(ours, "server", "3.11", GOOD, 0.001)


def test_whoever_waits_for_a_first_node_hears_why_none_came():
    net = Net(timeout_s=0.5)
    net.cluster._dial = fails
    net.door.waiting = [MINE]
    try:
        with pytest.raises(NoConnection, match=r"lab/11111111 is deaf; none has joined at 127"):
            net.cluster.start()
    finally:
        net.cluster.close()


def fails(place: Place, on_session: Any, on_trouble: Any) -> FakeDialer:
    return FakeDialer(on_session, on_trouble, NoConnection(f"{place.address} is deaf"), [], False)
