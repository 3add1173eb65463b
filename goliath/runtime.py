"""The Commander behind `goliath.remote`: started when it is first needed, or by `init`.

::

    >>> import goliath
    >>> commander = goliath.init(workers=2)
    >>> goliath.is_initialized(), goliath.cluster_resources()["CPU"]
    (True, 2.0)
    >>> goliath.shutdown()
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterable, Sequence
from itertools import count
from typing import TYPE_CHECKING, Any, TypeVar

from goliath.actors import crossing, nested
from goliath.actors.blueprint import Blueprint
from goliath.actors.failures import EVERYTHING
from goliath.actors.handles import ActorHandle, LocalGrip
from goliath.actors.object_ref import ObjectRef, resolved, stored
from goliath.actors.ref_generator import ObjectRefGenerator
from goliath.actors.spec import in_worker
from goliath.actors.supervisor import Lifetime, Strategy
from goliath.actors.task import Task
from goliath.core.policy import RestartIntensity
from goliath.errors import GoliathError
from goliath.machine import usable_cpus

if TYPE_CHECKING:  # a worker that makes nested calls must stay small
    from weakref import ReferenceType

    from goliath.actors.group import Group
    from goliath.actors.node_info import NodeInfo
    from goliath.actors.submission import Submission
    from goliath.commander import Commander, Target_

T = TypeVar("T")

_local_actors = count(1)
_lock = threading.RLock()
_commander: Commander | None = None


def _forget() -> None:
    """A forked process has no Commander: its connections stayed with the parent."""
    global _commander
    _commander, crossing.mode = None, None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


_HERE = {"address": "lieutenants", "num_cpus": "workers"}


def init(
    lieutenants: Target_ | Iterable[Target_] | None = None,
    *,
    workers: int | None = None,
    local_mode: bool = False,
    **options: Any,
) -> Commander | None:
    """Choose where remote functions run, and connect.

    Without it, the first ``.remote()`` uses the Lieutenants in ``GOLIATH_LIEUTENANTS``, or starts
    an embedded one. Inside a worker it does nothing.

    Args:
        lieutenants: one address or several, as for `Commander`; ``None``: as without `init`.
        workers: slots of the embedded Lieutenant; default: the usable CPUs.
        local_mode: run everything at once and in this process, so that a debugger works.
        **options: further keywords of `Commander`: ``token``, ``tls``, ``output``, ...

    Returns:
        The Commander; ``None`` in local mode and inside a worker.

    Raises:
        RuntimeError: it was called before; `shutdown` comes first.
        ConnectionError: no Lieutenant was reached.
        AuthenticationError: every Lieutenant refused the token.
    """
    global _commander
    if in_worker():
        return None
    for name in options.keys() & _HERE:
        raise TypeError(f"init() has no {name}=; what Ray calls so is {_HERE[name]}= here")
    with _lock:
        if local_mode:
            begin_here(crossing.Direct())
            return None
        if is_initialized():
            raise _initialized()
        from goliath.commander import Commander

        commander = Commander(lieutenants, workers=workers, **options)
        try:
            commander.connect()
        except BaseException:
            commander.close()
            raise
        _commander = commander
        return commander


def shutdown() -> None:
    """End what `init` or the first ``.remote()`` began, and what is in flight. Idempotent."""
    global _commander
    with _lock:
        commander, _commander, crossing.mode = _commander, None, None
    if commander is not None:
        commander.close()


def is_initialized() -> bool:
    """Whether there is something that `shutdown` would end. Inside a worker: always."""
    return in_worker() or runs_here() or _commander is not None


def runs_here() -> bool:
    """Whether calls are made at once, in this thread."""
    return crossing.mode is not None


def begin_here(mode: crossing.Crossing) -> None:
    """Make calls in this process, until `shutdown`.

    Raises:
        RuntimeError: there is a Commander already.
    """
    with _lock:
        if is_initialized():
            raise _initialized()
        crossing.mode = mode


def _initialized() -> RuntimeError:
    return RuntimeError(
        "goliath is initialized already (the first .remote() does it, too); call "
        "goliath.shutdown() first, or goliath.init() earlier"
    )


def sends_calls() -> bool:
    """Whether calls made here are sent off by a Commander of this process."""
    return not (runs_here() or in_worker())


def submit(task: Task, args: tuple[Any, ...], kwargs: dict[str, Any]) -> ObjectRef[Any]:
    """Have a call made: by the Commander of the surrounding session in a worker."""
    if in_worker():
        return nested.calls().submit(task, args, kwargs)
    return commander().submit_task(task, args, kwargs)


def line_of(task: Task) -> ReferenceType[Submission] | None:
    """Where the calls of a task wait that are made in this process, if any were.

    It is safe to use for as long as it takes calls, whatever becomes of the Commander.
    """
    return _commander.line_of(task) if _commander is not None else None


def stream(task: Task, args: tuple[Any, ...], kwargs: dict[str, Any]) -> ObjectRefGenerator[Any]:
    """Have a call made whose items are wanted one by one."""
    if in_worker():
        return nested.calls().stream(task, args, kwargs)
    return commander().submit_stream(task, args, kwargs)


def put(value: T) -> ObjectRef[T]:
    """Keep a copy of a value (see `goliath.refs.put`)."""
    return nested.calls().put(value) if in_worker() else stored(value)


def make_actor(
    cls: type,
    pickle: Callable[..., Blueprint],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    group: Group | None = None,
    lifetime: Lifetime = Lifetime.TRANSIENT,
    *,
    detached: bool = False,
    requirements: Sequence[str] | None = None,
) -> ActorHandle:
    """Make an actor; ``pickle`` makes its blueprint, given its id."""
    if runs_here():
        repertoire = pickle("local", ()).repertoire
        instance = crossing.way().sent(cls, *resolved(args, kwargs))()
        local = LocalGrip(f"local-{next(_local_actors)}", instance)
        return ActorHandle(local, repertoire)
    if in_worker():
        made: list[Blueprint] = []

        def dump(actor_id: str) -> Blueprint:
            made.append(pickle(actor_id, EVERYTHING))
            return made[0]

        nested_grip = nested.calls().make_actor(cls, dump, args, kwargs)
        return ActorHandle(nested_grip, made[0].repertoire)
    grip, repertoire = commander().make_actor(
        pickle, args, kwargs, group, lifetime, detached=detached, requirements=requirements
    )
    return ActorHandle(grip, repertoire)


def make_group(name: str, strategy: Strategy, intensity: RestartIntensity) -> Group | None:
    """Make a group of actors; None in local mode, where nothing dies that could be restarted."""
    if in_worker():
        raise GoliathError(
            "a Supervisor is made in the process of the Commander, not in a task or an actor: make "
            "it there and pass the handles, or let actors die together by goliath.link"
        )
    return None if runs_here() else commander().make_group(name, strategy, intensity)


def find_actor(name: str, namespace: str) -> ActorHandle | None:
    """The actor of that name, if there is one."""
    if runs_here():
        return None
    if in_worker():
        found = nested.calls().find_actor(name, namespace)
        return None if found is None else ActorHandle(*found)
    known = commander().find_actor(name, namespace)
    return None if known is None else ActorHandle(known, known.actor.blueprint.repertoire)


def leave_actor() -> None:
    """The actor that runs here ends with the call at hand."""
    if not runs_here():
        nested.calls().leave_actor()


def started() -> Commander | None:
    """The Commander, if there is one."""
    return _commander


def commander() -> Commander:
    """The Commander, started now if there is none; that is told on stderr."""
    found = _commander
    if found is not None:
        return found
    with _lock:
        if not is_initialized():
            named = os.environ.get("GOLIATH_LIEUTENANTS", "").strip()
            init()
            what = (
                f"connected to {named} (GOLIATH_LIEUTENANTS)"
                if named
                else f"started an embedded cluster of {usable_cpus()} workers"
            )
            sys.stderr.write(f"goliath: {what}; goliath.init() chooses another\n")
        assert _commander is not None, "local mode makes its calls itself"
        return _commander


def nodes() -> list[NodeInfo]:
    """What is known of each Lieutenant, those that are down included."""
    if runs_here():
        return []
    return nested.calls().nodes() if in_worker() else commander().nodes()


def cluster_resources() -> dict[str, float]:
    """What all Lieutenants that can be reached offer together: ``{"CPU": 4.0, ...}``."""
    total = {"CPU": 0.0}
    for node in nodes():
        if node.alive:
            total["CPU"] += node.workers
            for name, amount in node.resources.items():
                total[name] = total.get(name, 0.0) + amount
    return total


def available_resources() -> dict[str, float]:
    """What of that was free, by whomever it is used, when the nodes were last heard."""
    free = {"CPU": 0.0}
    for node in nodes():
        if node.alive:
            free["CPU"] += max(node.workers - node.busy, 0.0)
            for name, amount in node.resources.items():
                left = amount - node.used.get(name, 0.0)
                free[name] = free.get(name, 0.0) + max(left, 0.0)
    return free
