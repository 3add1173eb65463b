"""The directories of a node: a store of file contents, and directories for the jobs made from it.

Everything lies under one private directory that goes when the Lieutenant goes. What a
Lieutenant that was killed left behind is swept by the next one. Only the store may outlive it:
where the tokens do, so that somebody can ask for what is there.
"""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
from collections.abc import Iterable, Sequence
from itertools import count
from pathlib import Path, PurePosixPath

from goliath.actors.installer import Installer
from goliath.actors.store import ContentsLostError, Store, check_digest, open_store, remove_tree
from goliath.errors import ProtocolError
from goliath.machine import process_exists

ATTEMPTS = 100


class Workshop:
    """The node's directory.

    Args:
        store_bytes: what of contents is kept for the next job.
        keep: the folder in which it is kept for the next Lieutenant, too, if it is.
        installer: installs the packages that jobs ask for; None: they may not.

    Attributes:
        store: the contents.
    """

    def __init__(
        self,
        store_bytes: int = 1 << 30,
        keep: Path | None = None,
        installer: Installer | None = None,
    ) -> None:
        self.installer = installer
        self._root = _make_root(Path(tempfile.gettempdir(), f"goliath-{os.getuid()}"))
        self.store: Store = open_store(keep, self._root / "store", store_bytes)
        self._numbers = count(1)

    @property
    def root(self) -> Path:
        """Where it all is, but for a store that is kept."""
        return self._root

    def lacks(self, realm: str, files: Iterable[Sequence[str | int]]) -> set[str]:
        """Digests of contents that are not here, of ``[path, mode, sha256, size]`` records.

        Raises:
            ProtocolError: a record that no honest Commander sends.
        """
        wanted = {digest: size for _, _, digest, size in map(_checked, files)}
        if any(self.store.size_of(realm, d) not in (None, size) for d, size in wanted.items()):
            raise ProtocolError("a file record with another size than its contents have")
        return self.store.lacks(realm, wanted)

    def new_directory(self) -> Path:
        """An empty directory."""
        path = self._root / f"job-{next(self._numbers)}"
        path.mkdir()
        return path

    def furnish(
        self, realm: str, directory: Path, files: Iterable[Sequence[str | int]]
    ) -> set[str]:
        """Put copies of stored contents where the records say (copies: a job may change
        its own). Blocking; may be run in a thread.

        Returns:
            The digests of contents that were lost in the meantime: they have to be sent again.

        Raises:
            OSError: the disk is full.
        """
        lost = set()
        for record in files:
            path, mode, digest, _ = _checked(record)
            target = directory.joinpath(*PurePosixPath(path).parts)
            target.parent.mkdir(parents=True, exist_ok=True)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
            out = os.open(target, flags, 0o600)
            try:
                self.store.copy(realm, digest, out)
                os.fchmod(out, mode & 0o777 | 0o400)
            except ContentsLostError:
                lost.add(digest)
            finally:
                os.close(out)
        return lost

    def remove(self, directory: Path) -> None:
        """A job's directory is not needed any more."""
        remove_tree(directory)

    def close(self) -> None:
        """Remove everything that is not kept."""
        if self.installer is not None:
            self.installer.close()
        self.store.close()
        remove_tree(self._root)
        with contextlib.suppress(OSError):
            self._root.parent.rmdir()  # only if no other Lieutenant is there


def _checked(record: Sequence[str | int]) -> tuple[str, int, str, int]:
    """A record whose path stays below the directory and whose digest is one.

    Raises:
        ProtocolError: it is not.
    """
    if not isinstance(record, list | tuple) or len(record) != 4:
        raise ProtocolError("a file record that is not [path, mode, sha256, size]")
    path, mode, digest, size = record
    if not (isinstance(path, str) and isinstance(digest, str)):
        raise ProtocolError("a file record without path or digest")
    if not (isinstance(mode, int) and isinstance(size, int) and size >= 0):
        raise ProtocolError("a file record without mode or size")
    parts = path.split("/")
    if not path or {"", ".", ".."} & set(parts) or "\0" in path or len(path) > 4096:
        raise ProtocolError(f"a file may not be put at {path!r}")
    check_digest(digest)
    return path, mode, digest, size


def _make_root(base: Path) -> Path:
    """A directory of this process's own, once what the dead have left is swept away."""
    for _ in range(ATTEMPTS):
        # Not by `Path.mkdir`, which looks again at what it found, and takes one that has just been
        # removed for a file.
        with contextlib.suppress(FileExistsError):
            os.mkdir(base, 0o700)
        try:
            _check_private(base)
            _sweep(base)
            return Path(tempfile.mkdtemp(prefix=f"{os.getpid()}-", dir=base))
        except FileNotFoundError:
            continue  # the last other Lieutenant there has just removed it
    raise FileNotFoundError(f"{base} is removed as often as it is made; set TMPDIR")


def _check_private(base: Path) -> None:
    status = base.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid():
        raise PermissionError(f"{base} belongs to somebody else; remove it, or set TMPDIR")
    base.chmod(0o700)


def _sweep(base: Path) -> None:
    """Remove what dead Lieutenants left."""
    for entry in base.iterdir():
        pid = entry.name.partition("-")[0]
        if pid.isdigit() and not process_exists(int(pid)):
            remove_tree(entry)
