"""Looking at real processes: who descends from whom, who carries a mark, who is still alive."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from goliath.actors.spare import NAME as SPARE
from goliath.record import frozen

PROC = Path("/proc")


@frozen
class Seen:
    """One process as it was seen. The start time tells it from a later one of the same pid."""

    pid: int
    started: str

    def command(self) -> str:
        """Its command line, for messages only."""
        try:
            raw = (PROC / str(self.pid) / "cmdline").read_bytes()
        except OSError:
            return "(gone)"
        return raw.replace(b"\0", b" ").decode(errors="replace").strip()[:200] or "(zombie)"


def _stat(pid: int) -> list[str] | None:
    """The fields of ``/proc/<pid>/stat`` behind the command: state, ppid, …"""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()
    except OSError:
        return None


def look(pid: int) -> Seen | None:
    """The process, or None if there is none; a zombie is one."""
    stat = _stat(pid)
    return None if stat is None else Seen(pid, stat[19])


def _table() -> dict[int, tuple[int, str]]:
    table = {}
    for name in os.listdir("/proc"):
        if name.isdigit() and (stat := _stat(int(name))) is not None:
            table[int(name)] = (int(stat[1]), stat[19])
    return table


def descendants(root: int, depth: int = 1 << 30) -> set[Seen]:
    """Children of a process, and theirs, ``depth`` generations of them, zombies included."""
    table = _table()
    children: dict[int, list[int]] = {}
    for pid, (parent, _) in table.items():
        children.setdefault(parent, []).append(pid)
    found: set[Seen] = set()
    generation = [root]
    while generation and depth > 0:
        generation = [pid for parent in generation for pid in children.get(parent, ())]
        found |= {Seen(pid, table[pid][1]) for pid in generation}
        depth -= 1
    return found


def marked(mark: str) -> set[Seen]:
    """Every process in whose start environment the mark occurs, adopted orphans included."""
    needle = mark.encode()
    found = set()
    for name in os.listdir("/proc"):
        if not name.isdigit() or int(name) == os.getpid():
            continue
        try:
            with open(f"/proc/{name}/environ", "rb") as file:
                hit = needle in file.read()
        except OSError:
            continue
        if hit and (seen := look(int(name))) is not None:
            found.add(seen)
    return found


def alive(seen: Seen) -> bool:
    """Whether this very process still runs; a zombie does not."""
    stat = _stat(seen.pid)
    return stat is not None and stat[19] == seen.started and stat[0] not in "ZX"


def is_spare(seen: Seen) -> bool:
    """Whether it belongs to a zygote, which replaces it when it likes and ends it at the end."""
    stat = _stat(seen.pid)
    return stat is not None and (_name(seen.pid), _name(int(stat[1]))) == (SPARE, "goliath-zygote")


def _name(pid: int) -> str:
    """What it calls itself; nothing if it is gone."""
    try:
        return (PROC / str(pid) / "comm").read_text().strip()
    except OSError:
        return ""


def living(many: Iterable[Seen]) -> set[Seen]:
    """Those that still run."""
    return {seen for seen in many if alive(seen)}


def kill(pid: int, sig: int = signal.SIGKILL) -> None:
    """Send a signal; a process that is gone already is fine."""
    try:
        os.kill(pid, sig)
    except ProcessLookupError:
        return


def until(condition: Callable[[], object], within: float, what: str = "") -> float:
    """Wait, a bounded time, for the world to become so; returns the seconds it took.

    Raises:
        AssertionError: it did not within so many seconds; the message says ``what`` did not.
    """
    start = time.monotonic()
    pause = 0.001
    while not condition():
        waited = time.monotonic() - start
        if waited > within:
            raise AssertionError(f"not within {within} s: {what or condition}")
        time.sleep(pause)
        pause = min(pause * 1.5, 0.05)
    return time.monotonic() - start
