"""What this machine has, as far as a process may know."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

VISIBLE_DEVICES = "CUDA_VISIBLE_DEVICES"
"""Which GPUs CUDA shows to a process, by their ids."""

_MEMORY_LIMITS = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)
_NVIDIA = Path("/proc/driver/nvidia/gpus")


def usable_cpus() -> int:
    """CPUs this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def total_memory(limits: Iterable[Path] = _MEMORY_LIMITS) -> int:
    """Bytes of memory that this machine has, or this container may use."""
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for limit in limits:
        with suppress(OSError, ValueError):  # there is none, or it says "max"
            total = min(total, int(limit.read_text()))
    return total


def process_exists(pid: int) -> bool:
    """Whether there is a process with this id, of whatever user, that has not ended. A zombie has:
    its parent may be a script that never asks."""
    if pid <= 0:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    try:
        state = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0]
    except (OSError, IndexError):
        return True  # this is no Linux, or it has ended just now
    return state != b"Z"


def gpu_ids(
    count: int | None = None, environ: Mapping[str, str] | None = None, driver: Path = _NVIDIA
) -> tuple[str, ...]:
    """The GPUs this process may use, by the names that CUDA knows them by.

    Args:
        count: only so many of them; by default those that are visible, or else all there are.
        environ: with ``CUDA_VISIBLE_DEVICES``, or not; default: this process's.
        driver: the folder in which NVIDIA's driver has an entry for each.

    Raises:
        ValueError: ``CUDA_VISIBLE_DEVICES`` names fewer than ``count``.
    """
    said = (os.environ if environ is None else environ).get(VISIBLE_DEVICES)
    if said is None:
        if count is None:
            count = len(list(driver.iterdir())) if driver.is_dir() else 0
        return tuple(map(str, range(count)))
    names: list[str] = []
    for name in map(str.strip, said.split(",")):
        if name in ("", "-1", "NoDevFiles"):  # what stands behind it, CUDA does not see either
            break
        if name not in names:
            names.append(name)
    if count is not None and count > len(names):
        raise ValueError(
            f"{count} GPUs were asked for, and {VISIBLE_DEVICES}={said!r} shows {len(names)}; "
            "ask for fewer, or show more"
        )
    return tuple(names[:count])
