"""A bad network between a real Commander and a real node: the proxy, in a thread of its own.

It listens on another loopback address and on the same port as the node, because the login
is bound to the port.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from goliath import Commander
from goliath.testing.processes import until
from tests.lieutenants import Lieutenant
from tests.transport.proxy import Flow, Proxy, proxying
from tests.transport.spoiling import Spoiler

T = TypeVar("T")
HOST = "127.0.0.2"


class Network:
    """What lies between, and what goes wrong there. Any thread may ask for it."""

    def __init__(self, proxy: Proxy, loop: asyncio.AbstractEventLoop) -> None:
        self.proxy = proxy
        self._loop = loop
        self._struck: list[Flow] = []

    @property
    def address(self) -> tuple[str, int]:
        """Where a Commander finds the node."""
        return HOST, self.proxy.port

    def happened(self, what: str) -> int:
        """How often."""
        return self.proxy.happened[what]

    def do(self, action: Callable[[], T]) -> T:
        """Run something of the proxy's in its loop."""

        async def act() -> T:
            return action()

        return asyncio.run_coroutine_threadsafe(act(), self._loop).result(30)

    def break_links(self, how: Callable[[], None]) -> float:
        """Do that to the connections there are; returns when."""
        assert any(not flow.ended for flow in self.proxy.flows), "there is nothing to be broken"
        at = time.monotonic()
        self.do(how)
        return at

    def broken(self) -> bool:
        """Whether the connections that there were at the last `deafen` have ended at both ends."""
        return all(flow.ended for flow in self._struck)

    def reconnected(self, connections: int, within: float) -> float:
        """Wait until there have been so many; returns the seconds it took."""
        return until(
            lambda: self.happened("connected") >= connections, within, "connected once more"
        )

    def deafen(self, *, up: bool = False, down: bool = False) -> None:
        """From now on, nothing arrives at the node (up) or at the Commander (down)."""

        def swallow() -> None:
            self.proxy.up.deaf, self.proxy.down.deaf = up, down
            self._struck = [flow for flow in self.proxy.flows if not flow.ended]

        self.do(swallow)

    def slow_down(self, *, latency_s: float = 0.0, bytes_per_s: float = 0.0) -> None:
        """Both ways, also on the connections there are."""
        for way in (self.proxy.up, self.proxy.down):
            way.latency_s, way.bytes_per_s = latency_s, bytes_per_s


@contextmanager
def network(
    node: Lieutenant, *, up: Spoiler | None = None, down: Spoiler | None = None
) -> Iterator[Network]:
    """A network in front of a node; spoilers have to be there before the first connection."""
    started = threading.Event()
    made: list[Network] = []
    ending = asyncio.Event()

    async def live() -> None:
        async with proxying(node.port, HOST, node.port) as proxy:
            proxy.up.spoiler, proxy.down.spoiler = up, down
            made.append(Network(proxy, asyncio.get_running_loop()))
            started.set()
            await ending.wait()

    thread = threading.Thread(target=asyncio.run, args=(live(),), name="network")
    thread.start()
    try:
        assert started.wait(10), "the network did not start"
        yield made[0]
    finally:
        if made:
            made[0].do(ending.set)
        thread.join()


def alive(commander: Commander) -> set[tuple[str, int]]:
    """The addresses of the nodes with which there is a session."""
    return {
        (host, int(port))
        for info in commander.nodes()
        if info.alive
        for host, _, port in [info.address.rpartition(":")]
    }
