"""The directories of a node: a store of file contents by digest, and one directory for each job.

Everything lies under one private directory that goes when the Lieutenant goes. What a
Lieutenant that was killed left behind is swept by the next one.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterable, Sequence
from itertools import count
from pathlib import Path, PurePosixPath

from goliath.errors import ProtocolError
from goliath.machine import process_exists

STORE_MAX_BYTES = 1 << 30
"""What is kept of contents for the next job; the oldest go first."""

FILE_MAX_BYTES = 16 << 30

ATTEMPTS = 100


class Workshop:
    """The node's directory."""

    def __init__(self) -> None:
        self._root = _make_root(Path(tempfile.gettempdir(), f"goliath-{os.getuid()}"))
        self._store = self._root / "store"
        self._store.mkdir()
        self._numbers = count(1)
        self._sizes: dict[str, int] = {}  # of stored contents, the oldest first
        self._arriving: dict[tuple[str, str], _Arrival] = {}  # by sender and digest

    @property
    def root(self) -> Path:
        """Where it all is."""
        return self._root

    def lacks(self, files: Iterable[Sequence[str | int]]) -> set[str]:
        """Digests of contents that are not here, of ``[path, mode, sha256, size]`` records.

        Raises:
            ProtocolError: a record that no honest Commander sends.
        """
        wanted = {_checked(record)[2] for record in files}
        return {digest for digest in wanted if digest not in self._sizes}

    def add_piece(
        self, sender: str, digest: str, offset: int, size: int, piece: bytes | memoryview
    ) -> bool:
        """Take in one piece of contents; whether they are complete now. Several senders may
        send the same contents at once.

        Raises:
            ProtocolError: out of order, too long, or not what the digest promises.
            OSError: the disk is full.
        """
        if offset == 0:
            self.abort(sender, digest)
            _check_digest(digest)
            path = self._store / f"{digest}.{next(self._numbers)}.part"
            self._arriving[sender, digest] = _Arrival(path, size)
        arrival = self._arriving.get((sender, digest))
        if arrival is None:
            raise ProtocolError(f"a piece of a file at {offset} without its beginning")
        try:
            arrival.add(offset, piece)
            if not arrival.complete:
                return False
            arrival.finish(digest, self._store / digest)
        except BaseException:
            self.abort(sender, digest)
            raise
        del self._arriving[sender, digest]
        self._sizes[digest] = size
        return True

    def abort(self, sender: str, digest: str) -> None:
        """The rest of these contents will not come."""
        arrival = self._arriving.pop((sender, digest), None)
        if arrival is not None:
            arrival.abandon()

    def forget(self, sender: str) -> None:
        """Nothing more will come from there."""
        for known, digest in list(self._arriving):
            if known == sender:
                self.abort(sender, digest)

    def new_directory(self) -> Path:
        """An empty directory."""
        path = self._root / f"job-{next(self._numbers)}"
        path.mkdir()
        return path

    def furnish(self, directory: Path, files: Iterable[Sequence[str | int]]) -> None:
        """Put copies of stored contents where the records say (copies: a job may change
        its own). Blocking; may be run in a thread.

        Raises:
            OSError: the disk is full, or the contents were just evicted.
        """
        for record in files:
            path, mode, digest, _ = _checked(record)
            target = directory.joinpath(*PurePosixPath(path).parts)
            target.parent.mkdir(parents=True, exist_ok=True)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0)
            with (
                open(self._store / digest, "rb") as source,
                os.fdopen(os.open(target, flags, 0o600), "wb") as out,
            ):
                shutil.copyfileobj(source, out, 1 << 20)
                os.fchmod(out.fileno(), mode & 0o777 | 0o400)

    def trim(self) -> None:
        """Evict the oldest contents beyond the limit. Call it when no job is being furnished."""
        while sum(self._sizes.values()) > STORE_MAX_BYTES:
            digest = next(iter(self._sizes))
            del self._sizes[digest]
            (self._store / digest).unlink(missing_ok=True)

    def remove(self, directory: Path) -> None:
        """A job's directory is not needed any more."""
        _remove_tree(directory)

    def close(self) -> None:
        """Remove everything."""
        for sender, digest in list(self._arriving):
            self.abort(sender, digest)
        _remove_tree(self._root)
        with contextlib.suppress(OSError):
            self._root.parent.rmdir()  # only if no other Lieutenant is there


class _Arrival:
    """Contents on their way in."""

    def __init__(self, path: Path, size: int) -> None:
        if not 0 <= size <= FILE_MAX_BYTES:
            raise ProtocolError(f"a file of {size} bytes; the limit is {FILE_MAX_BYTES}")
        self._path = path
        self._size = size
        self._got = 0
        self._hash = hashlib.sha256()
        self._file = path.open("wb")

    @property
    def complete(self) -> bool:
        return self._got == self._size

    def add(self, offset: int, piece: bytes | memoryview) -> None:
        if offset != self._got or offset + len(piece) > self._size:
            raise ProtocolError(f"a piece at {offset} where {self._got} of {self._size} are here")
        self._file.write(piece)
        self._hash.update(piece)
        self._got += len(piece)

    def finish(self, digest: str, target: Path) -> None:
        self._file.close()
        if self._hash.hexdigest() != digest:
            raise ProtocolError("a file changed on the Commander's side while it was sent")
        self._path.rename(target)

    def abandon(self) -> None:
        with contextlib.suppress(OSError):  # a full disk refuses what is still to be written
            self._file.close()
        self._path.unlink(missing_ok=True)


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
    if not (isinstance(mode, int) and isinstance(size, int)):
        raise ProtocolError("a file record without mode or size")
    parts = path.split("/")
    if not path or {"", ".", ".."} & set(parts) or "\0" in path or len(path) > 4096:
        raise ProtocolError(f"a file may not be put at {path!r}")
    _check_digest(digest)
    return path, mode, digest, size


def _check_digest(digest: str) -> None:
    if len(digest) != 64 or set(digest) - set("0123456789abcdef"):
        raise ProtocolError("the contents of a file are named by something that is no SHA-256")


def _make_root(base: Path) -> Path:
    """A directory of this process's own, once what the dead have left is swept away."""
    for _ in range(ATTEMPTS):
        base.mkdir(mode=0o700, exist_ok=True)
        try:
            _check_private(base)
            _sweep(base)
            return Path(tempfile.mkdtemp(prefix=f"{os.getpid()}-", dir=base))
        except FileNotFoundError:
            continue  # the last other Lieutenant there has just removed it
    raise FileNotFoundError(f"{base} is removed as often as it is made; set TMPDIR")


def _check_private(base: Path) -> None:
    status = base.lstat()
    if not base.is_dir() or base.is_symlink() or status.st_uid != os.getuid():
        raise PermissionError(f"{base} belongs to somebody else; remove it, or set TMPDIR")
    base.chmod(0o700)


def _sweep(base: Path) -> None:
    """Remove what dead Lieutenants left."""
    for entry in base.iterdir():
        pid = entry.name.partition("-")[0]
        if pid.isdigit() and not process_exists(int(pid)):
            _remove_tree(entry)


def _remove_tree(path: Path) -> None:
    shutil.rmtree(path, ignore_errors=True)
