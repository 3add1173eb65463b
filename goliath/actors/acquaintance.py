"""What a node was told once, and what of it may be forgotten: functions, environments.

Whatever a job uses is kept. What no job uses is kept for the next one, within bounds: a
Commander may live for months, and each run of a closure, or with another ``static=``, is
another function.
"""

from __future__ import annotations

from collections.abc import Collection

FUNCTIONS_KEPT = 64
FUNCTIONS_KEPT_BYTES = 16 * 1024 * 1024
ENVIRONMENTS_KEPT = 8


class Acquaintance:
    """Things by their names, in the order in which the node heard of them.

    Args:
        kept: how many may be kept that nobody uses.
        kept_bytes: how big they may be together.
    """

    def __init__(self, kept: int, kept_bytes: int = FUNCTIONS_KEPT_BYTES) -> None:
        self._kept = kept
        self._kept_bytes = kept_bytes
        self._sizes: dict[str, int] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._sizes

    def add(self, name: str, nbytes: int = 0) -> None:
        """The node has been told of it."""
        self._sizes[name] = nbytes

    def discard(self, name: str) -> bool:
        """The node is to forget it; False if it never heard of it."""
        return self._sizes.pop(name, None) is not None

    def forget_surplus(self, in_use: Collection[str]) -> list[str]:
        """What the node is to forget now: of what nobody uses, the oldest."""
        unused = [name for name in self._sizes if name not in in_use]
        count, nbytes = len(unused), sum(self._sizes[name] for name in unused)
        surplus = []
        for name in unused:
            if count <= self._kept and nbytes <= self._kept_bytes:
                break
            count -= 1
            nbytes -= self._sizes.pop(name)
            surplus.append(name)
        return surplus
