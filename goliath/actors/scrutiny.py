"""A second look at messages from outside: the codec knows a list from a number, not what is in it.

All of it costs once a batch or less; an empty list costs nothing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from goliath.actors.cargo import are_behind
from goliath.transport.payload import Payload

NODES_MAX = 4096
"""More that have joined one Lieutenant are not believed: each is dialed."""

_NODE = re.compile(r"[0-9a-f]{16} [A-Za-z0-9._-]{1,64}")


def are_calls(calls: Sequence[Any], lo: int, hi: int) -> bool:
    """Whether these are calls of ``lo <= i < hi``, each once and in order."""
    before = lo - 1
    for call in calls:
        if type(call) is not int or not before < call < hi:
            return False
        before = call
    return True


def are_ranges(ranges: Sequence[Any]) -> bool:
    """Whether each is a ``[batch, attempt, lo, hi]``."""
    return all(
        isinstance(entry, list | tuple) and len(entry) == 4 and all(type(n) is int for n in entry)
        for entry in ranges
    )


def are_numbers(values: Sequence[Any]) -> bool:
    """Whether there are whole numbers only."""
    return all(type(value) is int for value in values)


def are_deposits(
    deposits: Sequence[Any], lo: int, hi: int, payload: Payload, *, keyed: bool = False
) -> bool:
    """Whether each is a ``[call, size]`` of ``lo <= call < hi``, in order, and all are behind the
    outcomes; ``keyed``: a ``[call, size, key]``, of which those without a key are."""
    if not deposits:
        return True
    for deposit in deposits:
        if not isinstance(deposit, list) or len(deposit) != 2 + keyed or not are_numbers(deposit):
            return False
    behind = [d[1] for d in deposits if not (keyed and d[2])]
    return (
        are_calls([d[0] for d in deposits], lo, hi)
        and all(d[1] > 0 for d in deposits)
        and all(d[2] >= 0 for d in deposits if keyed)
        and are_behind(payload, behind)
    )


def are_running(calls: Sequence[Any]) -> bool:
    """Whether each is a ``[worker, pid, function, seconds]``."""
    return all(
        isinstance(call, list | tuple)
        and len(call) == 4
        and are_numbers(call[:2])
        and type(call[2]) is str
        and type(call[3]) in (int, float)
        for call in calls
    )


def are_strings(values: Sequence[Any]) -> bool:
    """Whether there are strings only."""
    return all(type(value) is str for value in values)


def are_nodes(nodes: Sequence[Any]) -> bool:
    """Whether each is the ``[id, name]`` of a node, and they are no more than there may be."""
    return len(nodes) <= NODES_MAX and all(
        isinstance(node, list)
        and len(node) == 2
        and are_strings(node)
        and _NODE.fullmatch(" ".join(node)) is not None
        for node in nodes
    )


def are_amounts(amounts: Mapping[Any, Any]) -> bool:
    """Whether names are mapped to numbers that are not negative."""
    return all(
        type(name) is str and type(amount) in (int, float) and amount >= 0
        for name, amount in amounts.items()
    )
