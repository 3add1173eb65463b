"""What this machine has, as far as a process may know."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

PR_SET_DUMPABLE = 4  # of <sys/prctl.h>

VISIBLE_DEVICES = "CUDA_VISIBLE_DEVICES"
"""Which GPUs CUDA shows to a process, by their ids."""

_MEMORY_LIMITS = ("memory.max", "memory.limit_in_bytes")  # of cgroups 2 and 1
_MEMORY_USED = ("memory.current", "memory.usage_in_bytes")
_MEMORY_KILLS = ("memory.events", "memory.oom_control")
_FILES_CACHED = ("total_active_file", "total_inactive_file", "active_file", "inactive_file")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
MOUNTS = Path("/proc/self/mountinfo")
_NVIDIA = Path("/proc/driver/nvidia/gpus")


def machine_name() -> str:
    """What this machine is called, fit to be part of a file's name."""
    return re.sub(r"[^A-Za-z0-9.-]", "_", platform.node()) or "localhost"


def boot_id() -> str:
    """Another text after each start of this machine; empty where there is none."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


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


def free_memory(groups: Iterable[Path] | None = None) -> int:
    """Bytes of it that processes could still have, or those of this container."""
    free = total_memory(groups)
    available = _counter(Path("/proc/meminfo"), "MemAvailable:")
    if available is not None:
        free = min(free, available * 1024)
    for group in memory_groups() if groups is None else groups:
        for limit in _MEMORY_LIMITS:
            with suppress(OSError, ValueError):
                free = min(free, int((group / limit).read_text()) - group_memory(group))
    return max(0, free)


def group_memory(group: Path) -> int:
    """Bytes that the processes of a control group have; without contents of files that are cached
    for them, which the kernel drops when it needs the room. 0 if there is no such group."""
    used = 0
    for name in _MEMORY_USED:
        with suppress(OSError, ValueError):
            used = int((group / name).read_text())
    with suppress(OSError, ValueError):
        lines = (line.split() for line in (group / "memory.stat").read_text().splitlines())
        said = {name: int(number) for name, number in lines}
        # Of version 1 "total" is with the groups within, and the others are without them.
        names = _FILES_CACHED[:2] if _FILES_CACHED[0] in said else _FILES_CACHED[2:]
        used -= sum(said.get(name, 0) for name in names)
    return max(0, used)


def private_bytes(pid: int) -> int:
    """Memory that a process has allocated for itself, without files that it has mapped; 0 if it has
    ended, or where there is no ``/proc``. A tenth of the price of `resident_bytes`."""
    try:
        with open(f"/proc/{pid}/statm") as file:
            _, resident, shared, *_ = file.read().split()
    except (OSError, ValueError):
        return 0
    return (int(resident) - int(shared)) * _PAGE_BYTES


def is_in_memory(folder: Path, mounts: Path = MOUNTS) -> bool:
    """Whether the files of a folder are in memory, as in a ``tmpfs``.

    Raises:
        OSError: there is no such folder.
    """
    return file_system_of(folder, mounts) in ("tmpfs", "ramfs")


def file_system_of(folder: Path, mounts: Path = MOUNTS) -> str:
    """What kind of file system a folder is on; empty if nobody knows.

    Raises:
        OSError: there is no such folder.
    """
    device = os.stat(folder).st_dev
    number = f"{os.major(device)}:{os.minor(device)}"
    with suppress(OSError):
        for line in mounts.read_text().splitlines():
            mount, _, kind = line.partition(" - ")
            if mount.split()[2] == number:
                return kind.split()[0]
    return ""


def memory_kills(groups: Iterable[Path] | None = None) -> int:
    """How many processes the kernel has killed because the memory was used up: of this control
    group, or else (then also those of other containers) of this machine."""
    for group in memory_groups() if groups is None else groups:
        for name in _MEMORY_KILLS:
            count = _counter(group / name, "oom_kill")
            if count is not None:
                return count
    return _counter(Path("/proc/vmstat"), "oom_kill") or 0


def tasks_max() -> int:
    """How many processes and threads there can be at once, of everybody here."""
    found = [32768]  # the kernel's default
    for file in ("threads-max", "pid_max"):
        with suppress(OSError, ValueError):
            found.append(int(Path("/proc/sys/kernel", file).read_text()))
    return min(found[1:] or found)


def tasks_of_user() -> int:
    """How many processes and threads the user of this process has."""
    own, found = os.getuid(), 0
    with suppress(OSError):
        for entry in os.scandir("/proc"):
            if entry.name.isdigit():
                with suppress(OSError):  # it has ended just now
                    if entry.stat().st_uid == own:
                        found += len(os.listdir(f"{entry.path}/task"))
    return found


def _counter(file: Path, name: str) -> int | None:
    try:
        lines = file.read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) for line in lines if line.startswith(f"{name} ")), None)


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
    """Memory that a process has for itself, without what was swapped out, and without what it
    shares (arguments that it looks at are not its own); 0 if it has ended, or where there is no
    ``/proc``."""
    try:
        said = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    own = re.findall(r"^Rss(?:Anon|File):\s*(\d+) kB$", said, re.M)
    return sum(map(int, own)) * 1024


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
