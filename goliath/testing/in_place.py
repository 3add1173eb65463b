"""Every call at once, in this process: `inline`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from goliath import runtime
from goliath.actors import crossing
from goliath.transport import serialization


@contextmanager
def inline(*, strict: bool = True) -> Iterator[None]:
    """Have all calls made at once, in this process: those of remote functions and of actors, and
    the runs of Commanders, which connect to nothing.

    ::

        >>> import goliath
        >>> from goliath.testing import inline
        >>> @goliath.remote
        ... def append(items, item):
        ...     items.append(item)
        ...     return items
        >>> with inline():
        ...     mine = [1]
        ...     goliath.get(append.remote(mine, 2)), mine
        ([1, 2], [1])
        >>> with inline():
        ...     append.remote([], (n for n in "no"))
        Traceback (most recent call last):
            ...
        goliath...SerializationError: argument [1], a generator (<generator object ...

    No process is started: ``timeout``, ``max_retries``, ``env_vars``, ``initializer`` and ``files``
    are checked and have no effect. What has to do with processes is for `local_cluster`.

    Args:
        strict: pickle and read again each function, argument and result, as if it went to a worker
            and back: what cannot be sent fails here as it would there, and what a call
            changes about its arguments or its globals is not seen by its caller. False: hand
            over the very objects, as ``goliath.init(local_mode=True)`` does.

    Raises:
        RuntimeError: Goliath is initialized already; `goliath.shutdown` comes first.
    """
    runtime.begin_here(crossing.Strict() if strict else crossing.Direct())
    try:
        with serialization.classes_left_alone():
            yield
    finally:
        runtime.shutdown()
