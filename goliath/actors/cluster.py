"""Everything a Commander runs on: a loop in a background thread, its actors, the ways to nodes.

Made cheaply, started at first use, closed once. Any thread may use it.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import sys
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from goliath.actors import desk
from goliath.actors.joined import JoinedNodes
from goliath.actors.last_resort import tell_of_warnings
from goliath.actors.link import CLOSE, Dialing, Door, LinkActor, Place
from goliath.actors.obituary import obituary
from goliath.actors.portal import Portal
from goliath.actors.printing import Printer, write_to
from goliath.actors.scrutiny import are_amounts
from goliath.actors.sightings import Sighting
from goliath.actors.supervisor import Lifetime
from goliath.actors.system import ActorSystem, LocalRef
from goliath.actors.troupe import Troupe
from goliath.actors.zygote_process import ZygoteProcess
from goliath.config import NodeConfig, SchedulingConfig
from goliath.errors import (
    AuthenticationError,
    ConnectionError as NoConnectionError,
    GoliathError,
    VersionMismatchError,
)
from goliath.transport.channel import Channel

if TYPE_CHECKING:
    from goliath.actors.embedded import EmbeddedLieutenant
    from goliath.actors.node_info import NodeInfo

CLOSE_MAX_S = 10.0

EMBEDDED = "embedded"
"""What the address is called of a Lieutenant that is one of this process."""

SLOTS_MAX = 65_536
"""More are not believed: what is sent ahead grows with them."""

OnSession = Callable[[Channel, str, str, dict[str, Any], float], None]
"""Channel, server id, Python version, limits, seconds there and back."""

Dial = Callable[[Place, OnSession, Callable[[Exception], None]], Dialing]
"""Makes a dialer for a place, given what to call with sessions and with troubles."""


class Cluster:
    """See the module's description.

    Args:
        addresses: of the Lieutenants that are dialed.
        dial: makes the dialers.
        door: where nodes join that cannot be dialed.
        workers: slots of the embedded Lieutenant, if none are dialed; 0: there is none.
        connect_timeout_s: how long the first use waits for a first node.
        printer: gets what workers print.
        name: of the background thread.
    """

    def __init__(
        self,
        addresses: Sequence[str],
        dial: Dial,
        *,
        door: Door | None = None,
        workers: int,
        connect_timeout_s: float,
        printer: Printer,
        name: str,
    ) -> None:
        self._addresses = tuple(addresses)
        self._dial = dial
        self._door = door
        self._workers = workers
        self._connect_timeout_s = connect_timeout_s
        self._printer = printer
        self._name = name
        self._lock = threading.RLock()
        self._portal: Portal | None = None
        self._commander: LocalRef | None = None
        self._closed = False
        self.troupe = Troupe()
        self._dialers: dict[str, Dialing] = {}
        self._joined = JoinedNodes()
        self._links: dict[str, LocalRef] = {}  # of those that have joined
        self._system: ActorSystem | None = None
        self._embedded: EmbeddedLieutenant | None = None
        # What is known of the nodes, written in the loop's thread.
        self._news = threading.Condition()
        self._up: dict[str, int] = {}
        self._troubles: dict[str, Exception] = {}
        self._said: set[str] = set()  # of which troubles users have heard
        self._missed: set[str] = set()  # they know that these are not there
        self._ready = False
        self._failure: BaseException | None = None

    # -- starting ----------------------------------------------------------------------

    def start(self) -> tuple[Portal, LocalRef]:
        """The portal and the Commander actor; connected on return.

        Raises:
            ConnectionError: no Lieutenant was reached within the timeout.
            AuthenticationError: every Lieutenant refused the token, or it was not found.
            VersionMismatchError: every Lieutenant runs another Python.
            GoliathError: the Commander is closed.
        """
        if self._ready and (running := self.running()) is not None:
            return running
        self.begin()
        self._await_first_node()
        running = self.running()
        if running is None:
            raise GoliathError(f"{self._name} was closed while it connected")
        return running

    @property
    def closed(self) -> bool:
        """Whether it was closed."""
        return self._closed

    def begin(self) -> None:
        """Dial, and open the door, without waiting for anybody; errors as those of `start` that are
        this process's own."""
        with self._lock:
            if self._closed:
                raise GoliathError(f"{self._name} is closed; make a new Commander")
            if self._portal is None:
                tell_of_warnings()
                # First of all, so that it makes itself ready while the rest is loaded.
                embedded = self._workers and not self._addresses
                zygote = ZygoteProcess() if embedded else None
                try:
                    self._portal = portal = Portal(self._name)
                except BaseException:
                    if zygote is not None:
                        zygote.abandon()
                    raise
                _open.add(self)
                try:
                    self._commander = portal.call(self._begin(zygote))
                except BaseException:
                    self._portal = None
                    self._end_all(portal)
                    raise

    def running(self) -> tuple[Portal, LocalRef] | None:
        """The portal and the Commander actor, if they have been started and not been closed.

        Raises:
            LocalError: they have broken down.
        """
        portal, commander = self._portal, self._commander
        if portal is None or commander is None:
            return None
        if self._failure is not None:
            raise obituary(self._name, self._failure)
        return portal, commander

    async def _begin(self, zygote: ZygoteProcess | None) -> LocalRef:
        channel = None
        if zygote is not None:
            from goliath.actors.embedded import EmbeddedLieutenant

            self._embedded = EmbeddedLieutenant(self._workers, NodeConfig.from_environ())
        from goliath.actors.commander import CommanderActor
        from goliath.core.policy import BatchPolicy
        from goliath.core.scheduler import Scheduler

        self._system = system = ActorSystem(on_failure=self._on_failure)
        assert self._portal is not None, "this runs in its loop"
        portal = self._portal
        config = SchedulingConfig.from_environ()
        scheduler = Scheduler(
            BatchPolicy(
                config.target_fast_s,
                config.linger_s,
                config.linger_watched_s,
                config.batch_calls_max,
                config.batch_bytes_max,
            ),
            config.window_bytes,
            config.placement_timeout_s,
            config.placement_warning_s,
        )
        if self._embedded is not None:
            channel = await self._embedded.start(system, zygote)
            resources = self._embedded.resources
        self._actor = commander = system.spawn(
            lambda: CommanderActor(
                scheduler,
                self._addresses,
                on_output=self._printer,
                on_nodes=self._on_nodes,
                portal=portal,
                troupe=self.troupe,
                on_warning=self._tell_user,
            ),
            "commander",
        )
        if channel is not None:
            python = f"{sys.version_info.major}.{sys.version_info.minor}"
            commander.tell(
                desk.NodeUp(EMBEDDED, channel, "", python, self._workers, resources, embedded=True)
            )
        for address in self._addresses:
            link = partial(self._link, Place(address), commander)
            system.spawn(link, f"link {address}", Lifetime.PERMANENT)
        if self._door is not None:
            await self._door.open(
                lambda places: self._on_nodes(desk.NodesListed("", places)), self._on_revoked
            )
        return commander

    def _link(self, place: Place, commander: LocalRef) -> LinkActor:
        address = place.address

        def on_session(
            channel: Channel, server_id: str, python: str, limits: dict[str, Any], rtt_s: float
        ) -> None:
            slots, resources = _offered(limits)
            commander.tell(
                desk.NodeUp(address, channel, server_id, python, slots, resources, rtt_s)
            )

        def on_trouble(error: Exception) -> None:
            commander.tell(desk.NodeTrouble(address, error))

        return LinkActor(
            lambda: self._dial(place, on_session, on_trouble),
            lambda dialer: self._dialers.update({address: dialer}),
        )

    # -- the nodes, as far as users have to hear of them -------------------------------

    def _on_nodes(self, news: desk.NewsOfNodes) -> None:
        with self._news:
            match news:
                case desk.NodeUp(address):
                    self._up[address] = self._up.get(address, 0) + 1
                    self._troubles.pop(address, None)
                    self._said.discard(address)
                    if address in self._missed:
                        self._missed.discard(address)
                        self._tell_user(f"going on with {address}, which is there now")
                    # What it said in an earlier life of who has joined it is no news any more.
                    self._on_listed(address, ())
                case desk.NodeTrouble(address, error):
                    self._troubles[address] = error
                    self._forget_if_gone(address)
                    self._say_troubles()
                case desk.NodeDown(node, down_error):
                    address = node.rpartition("#")[0]
                    self._up[address] -= 1
                    if down_error is not None:
                        self._missed.add(address)
                        hope = (
                            "move on" if any(self._up.values()) else "wait for a node to be there"
                        )
                        self._tell_user(f"lost {address} ({down_error}); its calls {hope}")
                    self._forget_if_gone(address)
                case desk.NodesListed(via, places):
                    self._on_listed(via, places)
            self._news.notify_all()

    def _on_listed(self, via: str, places: Sequence[Place]) -> None:
        if via and via not in self._addresses:
            return  # a node that has joined cannot be joined itself
        new, gone = self._joined.listed(via, places)
        for place in new:
            self._begin_link(place)
        for address in gone:
            self._forget_if_gone(address)

    def _begin_link(self, place: Place) -> None:
        address = place.address
        if address not in self._links:  # else it is back before its session was given up
            assert self._system is not None, "the actors run"
            link = partial(self._link, place, self._actor)
            self._links[address] = self._system.spawn(link, f"link {address}", Lifetime.TRANSIENT)

    def _forget_if_gone(self, address: str) -> None:
        """A node that had joined may come back as long as there is its session."""
        given = address in self._addresses or address == EMBEDDED
        if given or address in self._joined or self._up.get(address):
            return
        link = self._links.pop(address, None)
        if link is not None:
            link.tell(CLOSE)
        for known in (self._dialers, self._up, self._troubles):
            known.pop(address, None)
        self._said.discard(address)
        self._missed.discard(address)
        self._actor.tell(desk.NodeGone(address))

    def _on_revoked(self, realm: str) -> None:
        """No node that has joined with that token is to be used any more."""
        for address in self._joined.of_realm(realm):
            if address in self._links:
                self._links[address].tell(CLOSE)

    def _say_troubles(self) -> None:
        """Once an outage, and not while the user may yet get it as an exception."""
        if not self._ready:
            return
        for address, error in self._troubles.items():
            if address not in self._said and not self._up.get(address):
                self._said.add(address)
                self._missed.add(address)
                others = any(self._up.values())
                doing = "going on without" if others else "there is no node left; waiting for"
                self._tell_user(f"{doing} {address}{' for now' * others}: {error}")

    @staticmethod
    def _tell_user(text: str) -> None:
        write_to("stderr", f"goliath: {text}\n")

    def _await_first_node(self) -> None:
        until = time.monotonic() + self._connect_timeout_s
        with self._news:
            if self._door is not None and not (self._addresses or self._workers):
                self._tell_user(f"waiting for a node to join at {self._door.address}")
            while not any(self._up.values()):
                if self._closed or self._failure is not None:
                    return  # which is said by whoever asks for what runs
                errors = [self._troubles.get(address) for address in self._addresses]
                hopeless = (
                    self._door is None
                    and errors
                    and all(
                        isinstance(e, AuthenticationError | VersionMismatchError) for e in errors
                    )
                )
                if hopeless or not self._news.wait(until - time.monotonic()):
                    raise self._no_node()
            self._ready = not self._closed
            self._say_troubles()

    def _no_node(self) -> GoliathError:
        errors = [error for a in self._addresses if (error := self._troubles.get(a))]
        door = self._door
        if (
            door is None
            and len(errors) == len(self._addresses)
            and len({type(e) for e in errors}) == 1
        ):
            kind = type(errors[0])
            if issubclass(kind, GoliathError):
                return kind("; ".join(dict.fromkeys(map(str, errors))))
        reasons = [f"{a}: {self._troubles.get(a, 'no answer')}" for a in self._addresses]
        if door is not None:
            reasons += [str(self._troubles[a]) for a in self._links if a in self._troubles]
            reasons.append(
                f"none has joined at {door.address}: start one with `python -m goliath.lieutenant "
                "--join`, or wait longer with connect_timeout="
            )
        return NoConnectionError(
            f"no Lieutenant was reached within {self._connect_timeout_s:g} s "
            f"({'; '.join(reasons) or 'the embedded one did not start'})"
        )

    def nodes(self) -> list[NodeInfo]:
        """What is known of each Lieutenant."""
        portal, commander = self.start()
        infos: list[NodeInfo] = portal.ask(lambda: commander.ask(desk.DescribeNodes()))
        return infos

    def find_actors(self, name: str = "", namespace: str = "") -> list[Sighting]:
        """The detached actors on all nodes that can be reached; with a ``name``: of that name."""
        portal, commander = self.start()
        self._await_all_nodes()

        def ask() -> asyncio.Future[list[Sighting]]:
            answer = asyncio.get_running_loop().create_future()
            commander.tell(desk.FindActors(answer.set_result, name, namespace))
            return answer

        return portal.ask(ask)

    def kill_actors(self, name: str, namespace: str) -> list[Sighting]:
        """End the detached actors of that name, on whatever node; those that have ended."""
        seen = self.find_actors(name, namespace)
        portal, commander = self.start()
        for each in seen:
            kill = desk.KillResident(each.node, each.environment, restart=False)
            portal.post(commander.tell, kill)
        # Nobody tells that it is done, but it is before the next question is answered.
        left = {each.id for each in self.find_actors(name, namespace)}
        return [each for each in seen if each.id not in left]

    def warn_of_detached(self, name: str) -> None:
        """An embedded node cannot keep what it promises: it ends with this process."""
        if self._embedded is not None and not (self._addresses or self._door):
            self._tell_user(
                f"actor {name!r} is detached, but lives on the Lieutenant that is embedded in this "
                "process, and ends with it; it stays if you start one (goliath lieutenant "
                "127.0.0.1 0) and connect to that (goliath.init)"
            )

    def _await_all_nodes(self) -> None:
        """A node that is only just being reached may be the one that has what is asked for."""
        until = time.monotonic() + self._connect_timeout_s
        with self._news:
            while any(not self._up.get(a) and a not in self._troubles for a in self._addresses):
                if self._closed or not self._news.wait(until - time.monotonic()):
                    return

    # -- the end -----------------------------------------------------------------------

    def _on_failure(self, error: BaseException) -> None:
        told = obituary(self._name, error)
        self._tell_user(str(told))
        with self._news:
            self._failure = self._failure or error
            self._news.notify_all()
        if self._commander is not None:
            # Whatever it was that broke: nobody is to wait for ever.
            self._commander.tell(desk.BreakDown(told))

    def close(self) -> None:
        """End everything this Commander started; idempotent."""
        if self._portal is not None and self._portal.closed:
            return  # it is the parent's of this forked process, whose locks may be held for ever
        if self._portal is not None:
            self._portal.forbid_inside()
        with self._lock:
            self._closed = True
            portal, self._portal = self._portal, None
            self._ready = False
        with self._news:
            self._news.notify_all()
        if portal is not None and not portal.closed:
            self._end_all(portal)

    def close_when_idle(self) -> None:
        """Nobody can use it any more: end it, in a thread of its own, when no job is open.
        Never blocks; may be called by the garbage collector, in any thread."""
        portal, commander = self._portal, self._commander
        if portal is None or commander is None or portal.closed:
            return

        def close_soon() -> None:
            with contextlib.suppress(RuntimeError):  # the interpreter ends, and closes it itself
                threading.Thread(target=self.close, name=f"{self._name}-close").start()

        with contextlib.suppress(GoliathError):  # it is being closed
            portal.post(commander.tell, desk.TellWhenIdle(close_soon))

    def _end_all(self, portal: Portal) -> None:
        try:
            with contextlib.suppress(TimeoutError):
                portal.call(self._end(), CLOSE_MAX_S)
        finally:
            portal.close()

    async def _end(self) -> None:
        async with asyncio.TaskGroup() as goodbyes:
            for dialer in list(self._dialers.values()):
                goodbyes.create_task(dialer.close())
        if self._door is not None:
            await self._door.close()
        if self._system is not None:
            await self._system.stop()
        if self._embedded is not None:
            await self._embedded.close()


def _offered(limits: dict[str, Any]) -> tuple[int, dict[str, float]]:
    """The slots and resources that a Lieutenant says it has; it may say anything."""
    slots, resources = limits.get("slots", 1), limits.get("resources", {})
    if not isinstance(slots, int) or not isinstance(resources, dict) or not are_amounts(resources):
        return 1, {}
    return min(max(slots, 0), SLOTS_MAX), resources


_open: weakref.WeakSet[Cluster] = weakref.WeakSet()


@atexit.register
def _close_all() -> None:
    for cluster in list(_open):
        cluster.close()
