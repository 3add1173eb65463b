"""What this machine has, as far as a process may know."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

PR_SET_DUMPABLE = 4  # of <sys/prctl.h>

VISIBLE_DEVICES = "CUDA_VISIBLE_DEVICES"
"""Which GPUs CUDA shows to a process, by their ids."""

_MEMORY_LIMITS = ("memory.max", "memory.limit_in_bytes")  # of cgroups 2 and 1
_MEMORY_KILLS = ("memory.events", "memory.oom_control")
_NVIDIA = Path("/proc/driver/nvidia/gpus")


def usable_cpus() -> int:
    """CPUs this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def memory_groups(
    own: Path = Path("/proc/self/cgroup"), mounted: Path = Path("/sys/fs/cgroup")
) -> list[Path]:
    """The control groups that limit the memory of this process, as far as they can be seen here:
    its own first, then those that this one is in."""
    found: list[Path] = []
    with suppress(OSError):
        for line in own.read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if controllers and "memory" not in controllers.split(","):
                continue
            top = mounted / "memory" if controllers else mounted
            # In a container its path may be that on the host, of which there is only the end.
            inner = top / path.lstrip("/")
            found += [group for group in (inner, *inner.parents) if group.is_relative_to(top)]
    return [group for group in found if any((group / name).is_file() for name in _MEMORY_LIMITS)]


def total_memory(groups: Iterable[Path] | None = None) -> int:
    """Bytes of memory that this machine has, or this container may use."""
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for group in memory_groups() if groups is None else groups:
        for name in _MEMORY_LIMITS:
            with suppress(OSError, ValueError):  # there is none, or it says "max"
                total = min(total, int((group / name).read_text()))
    return total


def memory_kills(groups: Iterable[Path] | None = None) -> int:
    """How many processes the kernel has killed because the memory was used up: of this control
    group, or else (then also those of other containers) of this machine."""
    for group in memory_groups() if groups is None else groups:
        for name in _MEMORY_KILLS:
            count = _counter(group / name, "oom_kill")
            if count is not None:
                return count
    return _counter(Path("/proc/vmstat"), "oom_kill") or 0


def _counter(file: Path, name: str) -> int | None:
    try:
        lines = file.read_text().splitlines()
    except OSError:
        return None
    return next((int(line[len(name) :]) for line in lines if line.startswith(f"{name} ")), None)


def boot_id() -> str:
    """What tells this machine, as it runs now, from all others; empty if that cannot be told."""
    with suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return ""


def hide_memory() -> None:
    """Keep other processes of this user, and core dumps, out of this process's memory: there are
    secrets in it. What it starts is not hidden. Linux only; elsewhere nothing happens."""
    import ctypes

    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)


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


def resident_bytes(pid: int) -> int:
    """Memory that a process has, without what was swapped out; 0 if it has ended, or where there is
    no ``/proc``."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_bytes().split()[1])
    except (OSError, IndexError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


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
