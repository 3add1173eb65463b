"""Control groups of our own: below the one this process is in, if it may make any there.

The kernel has two kinds. In **version 1** each controller has a tree of its own, and a group may
have both processes and groups. In **version 2** there is one tree, and a group whose children are
controlled has no processes itself: so this process moves into a leaf of its own first, which only
works if it is alone in its group, as a service manager that *delegates* a group starts it.

All blocking calls here are on small files of the kernel's, and take microseconds.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from goliath.limits import Enforcer
from goliath.machine import process_exists
from goliath.record import record

MEMORY, PIDS = "memory", "pids"
CONTROLLERS = (MEMORY, PIDS)

PREFIX = "goliath-"
_LEAF = "lieutenant"
_PROCS, _SUBTREE = "cgroup.procs", "cgroup.subtree_control"
_FILES = {  # by controller and version
    (MEMORY, 1): ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes"),
    (MEMORY, 2): ("memory.max",),
    (PIDS, 1): ("pids.max",),
    (PIDS, 2): ("pids.max",),
}
_NO_SWAP = "memory.swap.max"
_GONE_MAX_S = 1.0  # for the last processes of a group to be buried by whoever has them


class NoGroupsError(Exception):
    """There can be no groups of ours; the message says why."""


@record
class Group:
    """One group, in each of the trees that its controllers are in.

    Attributes:
        folders: by controller; those of one version-2 tree are the same.
        versions: of the controllers.
    """

    folders: dict[str, Path]
    versions: dict[str, int]

    @property
    def paths(self) -> list[str]:
        """Each folder once: what `enter` takes, in whatever process."""
        return list(dict.fromkeys(map(str, self.folders.values())))

    def child(self, name: str) -> Group:
        """Make a group in this one.

        Raises:
            OSError: the kernel refuses.
        """
        made = Group({c: folder / name for c, folder in self.folders.items()}, self.versions)
        for path in made.paths:
            Path(path).mkdir(exist_ok=True)
        return made

    def limit(self, controller: str, amount: int) -> None:
        """What all processes in it may have together: bytes of memory, or processes and threads.

        Raises:
            OSError: the kernel refuses.
        """
        folder, version = self.folders[controller], self.versions[controller]
        for name in _FILES[controller, version]:
            if (folder / name).exists():  # there may be no accounting of swap
                (folder / name).write_text(str(amount))
        if controller == MEMORY and (folder / _NO_SWAP).exists():
            (folder / _NO_SWAP).write_text("0")

    def enforcer(self, controller: str) -> Enforcer:
        """Who it is that enforces such a limit."""
        return Enforcer.CGROUP_V1 if self.versions[controller] == 1 else Enforcer.CGROUP_V2


def enter(paths: Sequence[str]) -> None:
    """Move this process into a group: what it forks from now on is born there.

    Raises:
        OSError: the kernel refuses.
    """
    for path in paths:
        with open(f"{path}/{_PROCS}", "w") as file:
            file.write("0")


def members(paths: Sequence[str]) -> list[int]:
    """The processes in a group."""
    found: set[int] = set()
    for path in paths:
        with suppress(OSError), open(f"{path}/{_PROCS}") as file:
            found.update(map(int, file.read().split()))
    return sorted(found)


def remove(paths: Sequence[str]) -> bool:
    """Remove a group; False if somebody is still in it."""
    gone = True
    for path in paths:
        try:
            os.rmdir(path)
        except FileNotFoundError:
            pass
        except OSError:
            gone = False
    return gone


class Estate:
    """The groups of one Lieutenant: a node's own, and a child of that for each session.

    Args:
        own: the file that says in which groups this process is.
        mounted: where the trees are.

    Raises:
        NoGroupsError: there are none of that kind, or they belong to somebody else.
    """

    def __init__(
        self, own: Path = Path("/proc/self/cgroup"), mounted: Path = Path("/sys/fs/cgroup")
    ) -> None:
        self._name = f"{PREFIX}{os.getpid()}"
        homes = _homes(own, mounted)
        self._homes = dict.fromkeys(homes.values())
        for folder in {folder for folder, _ in self._homes}:
            _sweep(folder)
        self._moved: Path | None = None
        try:
            for folder, version in self._homes:
                if version == 2:
                    self._make_way(folder)
            top = Group(
                {controller: folder for controller, (folder, _) in homes.items()},
                {controller: version for controller, (_, version) in homes.items()},
            )
            self.node = top.child(self._name)
        except OSError as exc:
            self.close()
            raise NoGroupsError(_refusal(exc)) from exc
        self.home = [
            str(folder / self._name / _LEAF if version == 2 else folder)
            for folder, version in self._homes
        ]

    def close(self) -> None:
        """Remove all of them, once whoever was in them is gone."""
        deadline = time.monotonic() + _GONE_MAX_S
        for folder, _ in self._homes:
            if self._moved == folder:
                self._move_back(folder)
            while not _remove_below(folder / self._name) and time.monotonic() < deadline:
                time.sleep(0.005)

    # -- version 2 -------------------------------------------------------------------------

    def _make_way(self, folder: Path) -> None:
        """Leave the group, so that its children can be controlled."""
        node = folder / self._name
        node.mkdir(exist_ok=True)
        (node / _LEAF).mkdir(exist_ok=True)
        self._moved = folder
        (node / _LEAF / _PROCS).write_text(str(os.getpid()))
        for parent in (folder, node):
            (parent / _SUBTREE).write_text(" ".join(f"+{name}" for name in CONTROLLERS))

    def _move_back(self, folder: Path) -> None:
        _remove_below(folder / self._name, keep=_LEAF)
        for parent in (folder / self._name, folder):
            with suppress(OSError):
                (parent / _SUBTREE).write_text(" ".join(f"-{name}" for name in CONTROLLERS))
        with suppress(OSError):
            (folder / _PROCS).write_text(str(os.getpid()))
        self._moved = None


def _homes(own: Path, mounted: Path) -> dict[str, tuple[Path, int]]:
    """The group this process is in, with its version, for each of the controllers.

    Raises:
        NoGroupsError: one is not to be had.
    """
    try:
        lines = [line.split(":", 2) for line in own.read_text().splitlines()]
    except OSError:
        raise NoGroupsError("this system has no control groups") from None
    found: dict[str, tuple[Path, int]] = {}
    for _, names, path in lines:
        for controller in CONTROLLERS:
            if controller in names.split(","):
                found[controller] = (_inside(mounted / controller, path), 1)
    for _, names, path in lines:
        if not names:
            unified = mounted if (mounted / "cgroup.controllers").exists() else mounted / "unified"
            group = _inside(unified, path)
            with suppress(OSError):
                offered = (group / "cgroup.controllers").read_text().split()
                for controller in set(CONTROLLERS) & set(offered) - found.keys():
                    found[controller] = (group, 2)
    for controller in CONTROLLERS:
        if controller not in found:
            raise NoGroupsError(f"the control group of this process has no {controller} controller")
    return found


def _inside(top: Path, path: str) -> Path:
    """In a container a path may be that on the host, of which only the top is seen."""
    inner = top / path.lstrip("/")
    return inner if inner.is_dir() else top


def _refusal(exc: OSError) -> str:
    reason = exc.strerror or str(exc)
    return f"no control group can be made: {reason} ({exc.filename or 'cgroup'})"


def _sweep(folder: Path) -> None:
    """Remove what Lieutenants that were killed have left."""
    for path in folder.glob(f"{PREFIX}*"):
        pid = path.name.removeprefix(PREFIX)
        if pid.isdigit() and not process_exists(int(pid)):
            _remove_below(path)


def _remove_below(folder: Path, keep: str = "") -> bool:
    """Remove a group with all in it, but for one; False if there is something left."""
    with suppress(OSError):
        for path in folder.iterdir():
            if path.is_dir() and path.name != keep:
                _remove_below(path)
    return bool(keep) or remove([str(folder)])
