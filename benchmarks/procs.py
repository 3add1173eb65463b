"""What processes cost: CPU seconds, memory, and what the rest of the machine did meanwhile."""

import os
import resource
import socket
import struct
import time
from collections.abc import Iterable
from typing import Self

MIB = 2**20
TICK = os.sysconf("SC_CLK_TCK")
_PPID, _CHILD_USER, _CHILD_SYSTEM = 1, 13, 14  # fields of /proc/<pid>/stat after the name


def _stat(pid: int) -> list[str]:
    with open(f"/proc/{pid}/stat") as file:
        text = file.read()
    return text[text.rindex(")") + 2 :].split()


def children_of() -> dict[int, list[int]]:
    """Every parent of the machine with its children."""
    found: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            found.setdefault(int(_stat(int(name))[_PPID]), []).append(int(name))
        except OSError:
            continue  # it ended since the listing
    return found


def tree(root: int) -> list[int]:
    """``root`` and its descendants."""
    children = children_of()
    found, todo = [], [root]
    while todo:
        pid = todo.pop()
        found.append(pid)
        todo.extend(children.get(pid, ()))
    return found


def cpu_s(pid: int) -> float:
    """CPU seconds of a process and of the children it has buried.

    The process's own part comes from its CPU clock, which counts nanoseconds where
    /proc/<pid>/stat counts ticks of 10 ms; a batch of 100,000 calls costs only a few ticks.
    """
    if pid == os.getpid():
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        return time.process_time() + usage.ru_utime + usage.ru_stime
    try:
        own = time.clock_gettime((~pid << 3) | 2)  # CPUCLOCK_SCHED of the whole process
        fields = _stat(pid)
    except OSError:
        return 0.0
    return own + (int(fields[_CHILD_USER]) + int(fields[_CHILD_SYSTEM])) / TICK


def cpu_of_all_s(pids: Iterable[int]) -> float:
    return sum(cpu_s(pid) for pid in pids)


def _kib(path: str, field: str) -> int:
    with open(path) as file:
        for line in file:
            if line.startswith(field):
                return int(line.split()[1])
    raise LookupError(f"no {field} in {path}")


def pss_mib(pid: int) -> float:
    """Proportional set size: pages shared with other processes count in equal parts."""
    return _kib(f"/proc/{pid}/smaps_rollup", "Pss:") / 1024


def rss_mib(pid: int) -> float:
    return _kib(f"/proc/{pid}/status", "VmRSS:") / 1024


def peak_rss_mib(pid: int) -> float:
    return _kib(f"/proc/{pid}/status", "VmHWM:") / 1024


def _machine_busy_s() -> float:
    """CPU seconds the machine has spent on anything; idle and waiting for disks left out."""
    with open("/proc/stat") as file:
        fields = [int(x) for x in file.readline().split()[1:9]]
    user, nice, system, _idle, _iowait, irq, softirq, steal = fields
    return (user + nice + system + irq + softirq + steal) / TICK


class Neighbours:
    """How many cores processes outside this benchmark kept busy: distrust figures where many."""

    def __enter__(self) -> Self:
        self._start = time.monotonic()
        self._busy = _machine_busy_s()
        self._own = cpu_of_all_s(tree(os.getpid()))
        self.cores = 0.0
        return self

    def __exit__(self, *_: object) -> None:
        own = max(0.0, cpu_of_all_s(tree(os.getpid())) - self._own)
        elapsed = time.monotonic() - self._start
        self.cores = max(0.0, _machine_busy_s() - self._busy - own) / elapsed


def passed_bytes(*ports: int) -> int:
    """What the kernel has carried, both ways, on this process's connections to these ports: what
    is written in ``struct tcp_info`` as acknowledged and as received."""
    passed = 0
    for fd in os.listdir("/proc/self/fd"):
        try:
            if not os.readlink(f"/proc/self/fd/{fd}").startswith("socket:"):
                continue
            with socket.socket(fileno=os.dup(int(fd))) as sock:
                if sock.family == socket.AF_INET and sock.getpeername()[1] in ports:
                    info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 136)
                    passed += sum(struct.unpack_from("<QQ", info, 120))
        except OSError:
            continue  # closed since the listing, or not connected
    return passed
