"""What can be asked of an actor: everybody who has a handle of it knows that."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from functools import lru_cache
from typing import Any, Literal

from goliath.actors.checks import STREAMING
from goliath.core.batch import CONCURRENCY_MAX
from goliath.record import frozen

DEFAULT_GROUP = ""
"""In which methods run that are in no other concurrency group."""


@frozen
class Method:
    """One method.

    Attributes:
        num_returns: how many results it returns; ``"streaming"``: items, one by one.
        group: the concurrency group in which it runs.
    """

    num_returns: int | Literal["streaming"] = 1
    group: str = DEFAULT_GROUP


@frozen
class Repertoire:
    """All methods, by their names.

    Attributes:
        methods: all of them, by their names.
        groups: if there are any, how many calls of each, the default one included, may run at once.
    """

    methods: Mapping[str, Method] = field(default_factory=dict)
    groups: Mapping[str, int] = field(default_factory=dict)

    def __reduce__(self) -> Any:
        # With every handle: left to itself, pickle takes 5 µs a method, and as long to read it.
        methods = [(name, each.num_returns, each.group) for name, each in self.methods.items()]
        return _rebuilt, (tuple(methods), tuple(self.groups.items()))

    def check_group(self, name: str, group: str) -> None:
        """Look whether there is a group in an actor class of this name.

        Raises:
            ValueError: there is none.
        """
        if group == DEFAULT_GROUP or group in self.groups:
            return
        named = [repr(known) for known in self.groups if known != DEFAULT_GROUP]
        raise ValueError(
            f"{name} has no concurrency group {group!r}, it has {', '.join(named) or 'none'}; name "
            f"another, or give the class concurrency_groups={{{group!r}: ...}}"
        )

    @classmethod
    def of(cls, data: Any) -> Repertoire:
        """From what `dataclasses.asdict` made of one, and came from somewhere.

        Raises:
            TypeError: it did not.
        """
        if not isinstance(data, dict) or data.keys() != cls.__dataclass_fields__.keys():
            raise TypeError(f"a repertoire of {data!r}")
        methods, groups = data["methods"], data["groups"]
        if not isinstance(groups, dict) or not _are_groups(groups):
            raise TypeError(f"groups={groups!r}")
        if not isinstance(methods, dict) or not all(
            _is_method(method, groups) for method in methods.values()
        ):
            raise TypeError(f"methods={methods!r}")
        return cls({name: Method(**method) for name, method in methods.items()}, groups)


@lru_cache(maxsize=256)
def _rebuilt(
    methods: tuple[tuple[str, int | Literal["streaming"], str], ...],
    groups: tuple[tuple[str, int], ...],
) -> Repertoire:
    return Repertoire({name: Method(count, group) for name, count, group in methods}, dict(groups))


def is_limit(value: object) -> bool:
    """Whether so many calls may run at once."""
    return type(value) is int and 1 <= value <= CONCURRENCY_MAX


def _are_groups(groups: Mapping[str, object]) -> bool:
    return all(map(is_limit, groups.values())) and (not groups or DEFAULT_GROUP in groups)


def _is_method(data: Any, groups: Mapping[str, int]) -> bool:
    if not isinstance(data, dict) or data.keys() != Method.__dataclass_fields__.keys():
        return False
    count, group = data["num_returns"], data["group"]
    return (count == STREAMING or (type(count) is int and count >= 1)) and (
        group == DEFAULT_GROUP or group in groups
    )
