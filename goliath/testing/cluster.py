"""A real cluster on this machine, for as long as a test: `local_cluster`."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from typing import Self

from goliath import runtime
from goliath.actors.portal import Portal
from goliath.commander import Commander
from goliath.testing.link import Link
from goliath.testing.node import QUICK_TIMERS, Node

DRAIN_S = 5.0
"""Calls that still run when the cluster ends are given so long."""

_LIEUTENANTS = "GOLIATH_LIEUTENANTS"
_open: list[LocalCluster] = []


def local_cluster(
    nodes: int = 2, workers: int = 2, *, env: Mapping[str, str] | None = None
) -> LocalCluster:
    """Lieutenants in processes of their own, on this machine, to be used by ``with`` or
    ``async with``. Connections, logins and workers are the real ones.

    Meanwhile, whatever names no Lieutenants uses these: `goliath.remote`, `goliath.init` and
    `Commander` without addresses. At the end, `goliath.shutdown` is called, and no process and no
    file is left.

    ::

        >>> import goliath
        >>> from goliath.testing import chaos, local_cluster
        >>> @goliath.remote
        ... def square(x):
        ...     return x * x
        >>> with local_cluster(nodes=2, workers=1) as cluster:
        ...     goliath.init()
        ...     goliath.get([square.remote(n) for n in range(4)])
        ...     killed = chaos.kill_node()
        ...     goliath.get([square.remote(n) for n in range(4)])
        <Commander of 127.0.0.2:..., 127.0.0.2:...>
        [0, 1, 4, 9]
        [0, 1, 4, 9]

    Silence is noticed sooner than elsewhere, so that tests need not wait: see `QUICK_TIMERS`. What
    the environment says itself, in variables such as ``GOLIATH_SILENCE_MAX_S``, stays.

    Args:
        nodes: how many Lieutenants.
        workers: slots of each.
        env: environment variables of the Lieutenants, and so of their workers.

    Raises:
        ValueError: ``nodes`` or ``workers`` is less than 1.
        RuntimeError: when it begins: Goliath is initialized already, and `goliath.remote` would
            not use the cluster.
        AssertionError: when it begins: a Lieutenant did not start, with what it said; when it
            ends: a Lieutenant did not end in good order.
    """
    return LocalCluster(nodes, workers, env=env)


class LocalCluster:
    """See `local_cluster`.

    Attributes:
        nodes: the Lieutenants. They can be killed and started again.
    """

    def __init__(
        self, nodes: int = 2, workers: int = 2, *, env: Mapping[str, str] | None = None
    ) -> None:
        for name, value in (("nodes", nodes), ("workers", workers)):
            if value < 1:
                raise ValueError(f"{name}={value}; at least one is needed")
        self.nodes: list[Node] = []
        self._size = nodes
        self._workers = workers
        self._env = dict(env or {})
        self._timers = {k: v for k, v in QUICK_TIMERS.items() if k not in os.environ}
        self._links: list[Link] = []
        self._portal: Portal | None = None
        self._commander: Commander | None = None
        self._environ_before: dict[str, str | None] = {}

    def __repr__(self) -> str:
        return f"<LocalCluster of {self._size} nodes with {self._workers} workers each>"

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """Of the Lieutenants, for Commanders, in any process of this user."""
        return [link.address for link in self._links]

    @property
    def commander(self) -> Commander:
        """A Commander of all Lieutenants: made when it is first asked for, closed at the end."""
        if self._commander is None:
            self._commander = Commander(self.addresses)
        return self._commander

    def link(self, node: Node) -> Link:
        """What connects a Lieutenant with its Commanders."""
        return self._links[self.nodes.index(node)]

    def restart(self, node: Node) -> Node:
        """Start a Lieutenant that has ended again, at its address. (It is another one: what it had
        is lost.)"""
        return node.start().wait_ready()

    # -- its life ------------------------------------------------------------------------

    def __enter__(self) -> Self:
        if runtime.is_initialized():
            raise RuntimeError(
                "goliath is initialized already, so remote functions would not use the local "
                "cluster; call goliath.shutdown() first"
            )
        try:
            self._begin()
        except BaseException:
            self._end(gently=False)
            raise
        return self

    def _begin(self) -> None:
        flags = ("--drain-timeout", str(DRAIN_S))
        for _ in range(self._size):
            node = Node(self._workers, *flags, env=self._env, timers=self._timers)
            self.nodes.append(node)
            node.start()
        self._portal = portal = Portal("goliath-links")
        for node in self.nodes:
            self._links.append(Link(portal, node.wait_ready().port))
        names = ",".join(f"{host}:{port}" for host, port in self.addresses)
        for variable, value in {**self._timers, _LIEUTENANTS: names}.items():
            self._environ_before[variable] = os.environ.get(variable)
            os.environ[variable] = value
        _open.append(self)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._end(gently=kind is None)

    def _end(self, *, gently: bool) -> None:
        if self in _open:
            _open.remove(self)
            runtime.shutdown()
        if self._commander is not None:
            self._commander.close()
            self._commander = None
        for variable, before in self._environ_before.items():
            if before is None:
                os.environ.pop(variable, None)
            else:
                os.environ[variable] = before
        self._environ_before.clear()
        for link in self._links:
            link.close()
        self._links.clear()
        if self._portal is not None:
            self._portal.close()
            self._portal = None
        self._end_nodes(gently=gently)

    def _end_nodes(self, *, gently: bool) -> None:
        running = [node for node in self.nodes if node.running]
        for node in running if gently else ():
            node.terminate()  # all of them, so that they drain at the same time
        errors: list[Exception] = []
        for node in self.nodes:
            try:
                node.end(gently=gently and node in running)
            except (AssertionError, OSError) as exc:
                errors.append(exc)
        self.nodes.clear()
        if errors:
            raise errors[0]

    async def __aenter__(self) -> Self:
        return await asyncio.to_thread(self.__enter__)

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        await asyncio.to_thread(self._end, gently=kind is None)


def current() -> LocalCluster:
    """The cluster that is open, the innermost of several.

    Raises:
        RuntimeError: there is none.
    """
    if not _open:
        raise RuntimeError(
            "no local cluster is open; use goliath.testing.local_cluster() in a with statement, or "
            "the fixture goliath_cluster"
        )
    return _open[-1]


def containing(node: Node) -> LocalCluster:
    """The open cluster that a Lieutenant belongs to.

    Raises:
        RuntimeError: there is none.
    """
    for cluster in _open:
        if node in cluster.nodes:
            return cluster
    raise RuntimeError(f"{node!r} belongs to no local cluster that is open; take it from its nodes")
