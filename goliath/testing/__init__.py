"""For the tests of those who use Goliath: calls in place, real clusters, and real faults.

::

    >>> from goliath import Commander
    >>> from goliath.testing import inline
    >>> with inline():                        # in this process, pickled both ways all the same
    ...     Commander().run(divmod, [(7, 2)])
    [(3, 1)]

- `inline`: every call at once, in this process; what would not reach a worker fails here, too.
- `local_cluster`: Lieutenants in processes of their own, on this machine, with real connections.
- `chaos`: kills workers and Lieutenants of such a cluster, and cuts its links.
- With pytest, the fixtures ``goliath_inline`` and ``goliath_cluster`` are there by themselves
  (`goliath.testing.plugin`). pytest is not needed for anything else.

Importing this is cheap: what it names is loaded when it is first used, as everywhere in Goliath.
"""

from __future__ import annotations

TYPE_CHECKING = False  # importing typing would take longer than all the rest
if TYPE_CHECKING:
    from goliath.testing.cluster import (
        LocalCluster as LocalCluster,
        local_cluster as local_cluster,
    )
    from goliath.testing.in_place import inline as inline
    from goliath.testing.node import QUICK_TIMERS as QUICK_TIMERS, Node as Node

_HOMES = {
    "LocalCluster": "goliath.testing.cluster",
    "Node": "goliath.testing.node",
    "QUICK_TIMERS": "goliath.testing.node",
    "inline": "goliath.testing.in_place",
    "local_cluster": "goliath.testing.cluster",
}

__all__ = ["chaos", *sorted(_HOMES)]


def __getattr__(name: str) -> object:
    from importlib import import_module

    if name == "chaos":
        return import_module("goliath.testing.chaos")
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'goliath.testing' has no attribute {name!r}")
    value = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
