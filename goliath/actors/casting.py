"""What a class of actors has to offer, and where its methods run: in the main thread of the
process one by one, or beside each other in threads, or in a loop."""

from __future__ import annotations

import inspect
from collections.abc import Collection, Mapping
from typing import Any

from goliath.actors.checks import STREAMING
from goliath.actors.repertoire import DEFAULT_GROUP, Method, Repertoire, is_limit
from goliath.core.batch import CONCURRENCY_MAX
from goliath.record import frozen

MARK = "__goliath_method__"
"""The attribute of a method that has options: its ``num_returns``, or None, and its group."""


@frozen
class Cast:
    """A class and its options, looked through.

    Attributes:
        repertoire: what can be called.
        concurrency: how many calls may run at once.
        threads: in how many threads, if any.
        awaited: the methods that run in the loop all the same.
    """

    repertoire: Repertoire
    concurrency: int
    threads: int
    awaited: Collection[str]


def cast(
    cls: Any,
    max_concurrency: int | None,
    concurrency_groups: Mapping[str, int] | None,
    leaves_out: Collection[Any],
) -> Cast:
    """Look a class through.

    Args:
        cls: of the instances.
        max_concurrency: as in `ActorOptions`; None: as is usual.
        concurrency_groups: as in `ActorOptions`.
        leaves_out: functions that are no methods of actors.

    Raises:
        ValueError: a limit is out of range, or a method is in a group that there is not.
    """
    _check("max_concurrency", 1 if max_concurrency is None else max_concurrency)
    groups = _checked_groups(concurrency_groups)
    awaited = _awaited(cls)
    room = max(CONCURRENCY_MAX - sum(groups.values()), 1) if awaited else 1
    most = room if max_concurrency is None else max_concurrency
    total = most + sum(groups.values())
    if total > CONCURRENCY_MAX:
        raise ValueError(
            f"concurrency_groups={groups!r} and {most} in the default group are {total} calls at "
            f"once; all of them together are at most {CONCURRENCY_MAX}"
        )
    limits = {DEFAULT_GROUP: most, **groups} if groups else {}
    threads = 0 if total == 1 or (awaited and not groups) else total
    return Cast(_repertoire(cls, limits, leaves_out), total, threads, awaited)


def _check(what: str, limit: object) -> None:
    if not is_limit(limit):
        raise ValueError(f"{what}={limit!r}; it is an integer from 1 to {CONCURRENCY_MAX}")


def _checked_groups(groups: Any) -> dict[str, int]:
    if not isinstance(groups or {}, Mapping):
        raise ValueError(f"concurrency_groups={groups!r}; it maps names to numbers of calls")
    for name, limit in (groups or {}).items():
        if type(name) is not str or name == DEFAULT_GROUP:
            raise ValueError(f"concurrency_groups has {name!r}; a group has a name")
        _check(f"concurrency_groups[{name!r}]", limit)
    return dict(groups or {})


def _repertoire(cls: type, limits: Mapping[str, int], leaves_out: Collection[Any]) -> Repertoire:
    """What can be called of an instance: everything but what Python itself calls."""
    repertoire = Repertoire(
        {
            name: _method(member)
            for name, member in inspect.getmembers(cls, callable)
            if not (name.startswith("__") and name.endswith("__") and name != "__call__")
            and getattr(member, "__func__", None) not in leaves_out
        },
        limits,
    )
    for name, known in repertoire.methods.items():
        repertoire.check_group(f"the class of {cls.__name__}.{name}", known.group)
    return repertoire


def _method(member: Any) -> Method:
    num_returns, group = getattr(member, MARK, (None, DEFAULT_GROUP))
    if num_returns is None:
        streams = inspect.isgeneratorfunction(member) or inspect.isasyncgenfunction(member)
        num_returns = STREAMING if streams else 1
    return Method(num_returns, group)


def _awaited(cls: type) -> frozenset[str]:
    return frozenset(
        name
        for name, member in inspect.getmembers(cls)
        if inspect.iscoroutinefunction(member) or inspect.isasyncgenfunction(member)
    )
