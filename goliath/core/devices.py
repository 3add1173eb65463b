"""Which of a node's devices (GPUs) a call gets.

A call takes whole devices, or a share of one. Shares are counted in ten-thousandths, as Ray
does it: a sum of floats would not come out even.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

GPU = "GPU"
"""The resource that is not only an amount, but certain devices."""

WHOLE = 10_000

Grant = Mapping[str, int]
"""How much of which devices somebody has."""


def is_share(amount: float) -> bool:
    """Whether so much can be asked for: whole devices, or less than one."""
    return amount >= 0 and (amount < 1 or amount % 1 == 0)


def calls_at_once(devices: float, amount: float) -> int:
    """How many calls that ask for ``amount`` (above 0) can have it at once."""
    if amount >= 1:
        return int(devices / amount)
    return int(devices) * (WHOLE // _parts(amount))


def choose(devices: Sequence[str], held: Iterable[Grant], amount: float) -> Grant | None:
    """The devices for a call: the first that are free, or the fullest that has room for a share.

    Args:
        devices: all there are, in the order in which they are given out.
        held: what others have.
        amount: as `is_share` allows it.

    Returns:
        None if there is not enough.
    """
    if not amount:
        return {}
    used = dict.fromkeys(devices, 0)
    for grant in held:
        for device, parts in grant.items():
            used[device] += parts
    if amount < 1:
        wanted = _parts(amount)
        fitting = [device for device in devices if used[device] + wanted <= WHOLE]
        return {max(fitting, key=used.__getitem__): wanted} if fitting else None
    free = [device for device in devices if not used[device]]
    return dict.fromkeys(free[: int(amount)], WHOLE) if len(free) >= amount else None


def _parts(amount: float) -> int:
    return max(round(amount * WHOLE), 1)
