"""Real faults in a `local_cluster`: processes that are killed, links that are cut.

Each says what it has done when it is done, so that a test can assert that it really happened.

::

    >>> import os
    >>> from goliath.testing import chaos, local_cluster
    >>> def pid():
    ...     return os.getpid()
    >>> with local_cluster(nodes=1, workers=1) as cluster:
    ...     [before] = cluster.commander.run(pid, [()])
    ...     killed = chaos.kill_worker()
    ...     [after] = cluster.commander.run(pid, [()])
    >>> killed == before, before == after
    (True, False)

``where`` is a `LocalCluster`, or one `Node` of it; by default the cluster that is open, the
innermost of several.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from goliath.testing.cluster import LocalCluster, containing, current
from goliath.testing.link import Link
from goliath.testing.node import Node
from goliath.testing.processes import Seen, alive, kill, until

Where = LocalCluster | Node | None
T = TypeVar("T")

PATIENCE_S = 10.0
"""So long is waited for something to break: a worker is forked when a call needs it, and a
Commander connects when it is first used."""


def kill_worker(where: Where = None) -> int:
    """SIGKILL a worker process, or the process of an actor: the one that has lived longest.

    Returns:
        Its pid; the process is dead.

    Raises:
        AssertionError: there was none for ten seconds; make a call first.
    """
    victim = _awaited(lambda: _oldest_worker(where), "a worker to kill; make a call first")
    kill(victim.pid)
    until(lambda: not alive(victim), PATIENCE_S, f"worker {victim.pid} dead")
    return victim.pid


def kill_node(where: Where = None) -> int:
    """SIGKILL a Lieutenant: the first that runs. Its workers end within a second. It stays away
    until `LocalCluster.restart`.

    Returns:
        Its pid; the process is dead.

    Raises:
        AssertionError: none runs.
    """
    running = [node for node in _nodes(where) if node.running]
    assert running, "no Lieutenant runs that could be killed; start one by LocalCluster.restart"
    return running[0].kill()


def cut_link(where: Where = None) -> int:
    """Reset all connections between Commanders and a Lieutenant: the first that has any. Commanders
    connect again at once, and sessions go on.

    Returns:
        How many connections were reset, at least one.

    Raises:
        AssertionError: there was none for ten seconds; use a Commander first.
    """
    return _awaited(lambda: _first(where, Link.cut), "a connection to cut; use a Commander first")


def blackhole_link(where: Where = None) -> int:
    """Have all connections between Commanders and a Lieutenant swallow what is sent, both ways: the
    first that has any. Neither end is told, and new connections are good ones.

    Returns:
        How many connections swallow, at least one.

    Raises:
        AssertionError: there was none for ten seconds; use a Commander first.
    """
    return _awaited(lambda: _first(where, Link.swallow), "a connection; use a Commander first")


def _cluster(where: Where) -> LocalCluster:
    if isinstance(where, Node):
        return containing(where)
    return current() if where is None else where


def _nodes(where: Where) -> list[Node]:
    return [where] if isinstance(where, Node) else _cluster(where).nodes


def _oldest_worker(where: Where) -> Seen | None:
    found = [seen for node in _nodes(where) for seen in node.worker_processes()]
    return min(found, key=lambda seen: (int(seen.started), seen.pid), default=None)


def _first(where: Where, strike: Callable[[Link], int]) -> int:
    cluster = _cluster(where)
    return next(filter(None, (strike(cluster.link(node)) for node in _nodes(where))), 0)


def _awaited(look: Callable[[], T | None], what: str) -> T:
    found: list[T] = []

    def is_there() -> bool:
        seen = look()
        if seen:
            found.append(seen)
        return bool(found)

    until(is_there, PATIENCE_S, f"there was {what}")
    return found[0]
