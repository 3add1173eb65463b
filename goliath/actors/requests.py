"""What calls in workers ask of their Commander, read with suspicion: a worker may say anything.

Everything here raises `ProtocolError` for what no honest worker says, and
`ObjectLostError` for a ref that nobody held any more.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from math import isfinite
from types import NoneType
from typing import Any

from goliath.actors.dependencies import Dependencies
from goliath.actors.scrutiny import are_amounts, are_strings
from goliath.core.batch import CONCURRENCY_MAX, JobOptions
from goliath.errors import ObjectLostError, ProtocolError
from goliath.transport import call_messages as call_msg
from goliath.transport.payload import Piece
from goliath.transport.pickled import Pickled

DIGITS_MAX = 16
"""Of a number that anything is called by."""

Find = Callable[[str], Any]
"""The ref with a task id; None if nobody holds it."""


def row_of(said: call_msg.NestedCall | call_msg.NestedActor, find: Find) -> Piece | Dependencies:
    """The arguments of a call, to be sent; or what they depend on."""
    if not said.arguments:
        return bytes(said.payload)
    args: list[Any] = []
    kwargs: dict[str, Any] = {}
    for name, value in _arguments(said, find):
        if name:
            kwargs[name] = value
        else:
            args.append(value)
    return Dependencies(args, kwargs)


def _arguments(
    said: call_msg.NestedCall | call_msg.NestedActor, find: Find
) -> Iterator[tuple[str, Any]]:
    view, at = memoryview(said.payload), 0
    for argument in said.arguments:
        match argument:
            case [str(name), int(size)] if 0 <= size <= len(view) - at:
                yield name, Pickled(view[at : at + size])
                at += size
            case [str(name), str(task_id)]:
                ref = find(task_id)
                if ref is None:
                    raise ObjectLostError(
                        f"argument {name or task_id}: its result was freed, as nobody held it"
                    )
                yield name, ref
            case _:
                raise ProtocolError(f"an argument of a nested call is {argument!r}")


def options_of(said: call_msg.NestedCall, parent: JobOptions, environment: str) -> JobOptions:
    """The options of a call: what its maker chose, in an environment."""
    for name, value in said.options.items():
        if not _may_be(name, value):
            raise ProtocolError(f"option {name} of a nested call is {value!r}")
    chosen: dict[str, Any] = {**said.options}
    chosen["priority"] = parent.priority + chosen.get("priority", 0)
    return JobOptions(
        function=said.function,
        environment=environment,
        depth=parent.depth + 1,
        **chosen,
    )


_TYPES = {
    "retry_exceptions": (bool,),
    "priority": (int,),
    "spread": (bool,),
    "soft": (bool,),
    "node": (str, NoneType),
}


def _may_be(name: str, value: Any) -> bool:
    if name in _TYPES:
        return type(value) in _TYPES[name]
    if name == "concurrency":
        return type(value) is int and 1 <= value <= CONCURRENCY_MAX
    if name == "max_retries":
        return type(value) is int and value >= 0
    if name == "timeout_s":
        return type(value) in (int, float) and value > 0
    if name == "cpus":
        return are_amounts({name: value}) and isfinite(value)
    if name == "resources":
        return isinstance(value, dict) and are_amounts(value)
    return False


def checked_ids(task_ids: list[str]) -> list[str]:
    """Task ids that are strings."""
    if not are_strings(task_ids):
        raise ProtocolError("refs without their task ids")
    return task_ids


def checked_id(task_id: str) -> str:
    """A task id that a ref could have."""
    number = task_id.rpartition("-")[2]
    if not number.isdecimal() or len(number) > DIGITS_MAX:
        raise ProtocolError(f"a ref is called {task_id!r}")
    return task_id


def checked_group(said: call_msg.NestedCall, groups: Collection[str]) -> str:
    """The concurrency group of a call: one that its actor has."""
    if said.group and said.group not in groups:
        raise ProtocolError(f"a call in a group that its actor does not have, {said.group!r}")
    return said.group


def item_of(task_id: str) -> tuple[str, int]:
    """The streaming call, and the number of its item, that is meant; else no call: ``""``."""
    task, _, index = task_id.rpartition(".item-")
    return (task, int(index)) if index.isdecimal() and len(index) <= DIGITS_MAX else ("", 0)
