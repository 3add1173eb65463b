"""What can be asked of an actor: everybody who has a handle of it knows that."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from goliath.actors.checks import STREAMING


@dataclass(frozen=True, slots=True)
class Method:
    """One method.

    Attributes:
        num_returns: how many results it returns; ``"streaming"``: items, one by one.
    """

    num_returns: int | Literal["streaming"] = 1


@dataclass(frozen=True, slots=True)
class Repertoire:
    """All methods, by their names."""

    methods: Mapping[str, Method] = field(default_factory=dict)

    @classmethod
    def of(cls, data: Any) -> Repertoire:
        """From what `dataclasses.asdict` made of one, and came from somewhere.

        Raises:
            TypeError: it did not.
        """
        methods = data.get("methods") if isinstance(data, dict) else None
        if not isinstance(methods, dict) or not all(map(_is_method, methods.values())):
            raise TypeError(f"a repertoire of {data!r}")
        return cls({name: Method(**method) for name, method in methods.items()})


def _is_method(data: Any) -> bool:
    if not isinstance(data, dict) or data.keys() != Method.__dataclass_fields__.keys():
        return False
    count = data["num_returns"]
    return count == STREAMING or (type(count) is int and count >= 1)
