"""The limits in force on a node: what each is, how much it allows, and who sees to it.

A Lieutenant knows them from its start and tells whoever asks (`Status.limits`), so that an operator
can see what holds on this machine, and what does not, and why.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields
from enum import StrEnum
from typing import Any, Self

from goliath.record import record


class Enforcer(StrEnum):
    """Who sees to it that a limit is kept."""

    GOLIATH = "goliath"
    CGROUP_V1 = "cgroup v1"
    CGROUP_V2 = "cgroup v2"
    RLIMIT = "rlimit"
    NOBODY = "nobody"


@record
class Limit:
    """One of them.

    Attributes:
        name: such as ``"processes per session"``; the same on all nodes.
        amount: how much is allowed; None if there is no limit.
        unit: of the amount: ``"bytes"``, ``"s"``, or what is counted.
        enforced_by: see `Enforcer`; a string, because another version may know others.
        why: what there is to say about that, such as why it is not enforced better; or nothing.
    """

    name: str
    amount: float | None
    unit: str
    enforced_by: str
    why: str = ""

    @property
    def in_force(self) -> bool:
        """Whether there is such a limit, and somebody enforces it."""
        return self.amount is not None and self.enforced_by != Enforcer.NOBODY

    def to_json(self) -> dict[str, object]:
        """As JSON-able data."""
        return {**asdict(self), "enforced_by": str(self.enforced_by)}

    @classmethod
    def from_json(cls, data: Any) -> Self:
        """From what `to_json` returned, maybe in another version.

        Raises:
            ValueError: it is nothing of the kind.
        """
        if not isinstance(data, Mapping):
            raise ValueError(f"{data!r} describes no limit")
        known = {field.name: data[field.name] for field in fields(cls) if field.name in data}
        try:
            limit = cls(**known)
        except TypeError as exc:
            raise ValueError(f"{data!r} describes no limit") from exc
        words = (limit.name, limit.unit, limit.enforced_by, limit.why)
        if type(limit.amount) not in (int, float, type(None)) or {type(w) for w in words} != {str}:
            raise ValueError(f"{data!r} describes no limit")
        return limit
