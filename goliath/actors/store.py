"""A node's store of file contents by SHA-256: a part for each token, the least used go first.

**One part for each token.** "Which of these do you lack?" is an oracle: who may ask it of
everybody's contents learns who has which file, and by naming a digest would be given what he has
never had. So contents count as here only for whoever has sent them by the same token. Two tokens
that send the same file keep it twice.

**A digest is a promise.** What is in the store was hashed when it came, and is hashed again when it
is used: a disk may lie, and other programs of this user can write there. What does not keep the
promise is forgotten, and asked for again. Contents get their name when they are complete, by
renaming; what was on its way when a Lieutenant died is removed by the next one.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import logging
import os
import shutil
from collections.abc import Iterable
from itertools import count
from pathlib import Path

from goliath.errors import ProtocolError
from goliath.transport.private_files import make_private_directory

FILE_MAX_BYTES = 16 << 30

_PART = ".part"
_PIECE_BYTES = 1 << 20

_log = logging.getLogger("goliath.lieutenant")

Name = tuple[str, str]
"""The realm that contents belong to, and their digest."""


class ContentsLostError(Exception):
    """What was in the store is not there any more, or is not what it was."""


class Store:
    """See the module's description. Paths are touched by whatever thread, the books by one.

    Args:
        folder: where it is; made if it is not there.
        max_bytes: what is kept; more only while a job that needs it is being set up.

    Raises:
        OSError: the folder cannot be used.
        BlockingIOError: another process uses it.
    """

    def __init__(self, folder: Path, max_bytes: int) -> None:
        make_private_directory(folder)
        self._folder = folder
        self._max_bytes = max_bytes
        self._numbers = count(1)
        self._arriving: dict[tuple[str, str], _Arrival] = {}  # by sender and digest
        self._lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._sizes = self._take_stock()  # the least recently used first
        except BaseException:
            os.close(self._lock)
            raise
        self.trim()

    def _take_stock(self) -> dict[Name, int]:
        found: list[tuple[float, Name, int]] = []
        for realm in [entry for entry in self._folder.iterdir() if entry.is_dir()]:
            for file in list(realm.iterdir()):
                if file.name.endswith(_PART):
                    file.unlink(missing_ok=True)
                else:
                    status = file.stat()
                    found.append((status.st_mtime, (realm.name, file.name), status.st_size))
        return {name: size for _, name, size in sorted(found)}

    def size_of(self, realm: str, digest: str) -> int | None:
        """Bytes of these contents; None if they are not here."""
        return self._sizes.get((_part_of(realm), digest))

    def lacks(self, realm: str, digests: Iterable[str]) -> set[str]:
        """Those that this realm has not sent, or that are kept no longer."""
        lacking = set()
        for digest in digests:
            name = _part_of(realm), digest
            size = self._sizes.pop(name, None)
            if size is None:
                lacking.add(digest)
            else:
                self._sizes[name] = size  # the last to go
        return lacking

    def add_piece(
        self,
        realm: str,
        sender: str,
        digest: str,
        offset: int,
        size: int,
        piece: bytes | memoryview,
    ) -> bool:
        """Take in one piece of contents; whether they are complete now. Several senders may
        send the same contents at once.

        Raises:
            ProtocolError: out of order, too long, or not what the digest promises.
            OSError: the disk is full.
        """
        part = _part_of(realm)
        if offset == 0:
            self.abort(sender, digest)
            check_digest(digest)
            make_private_directory(self._folder / part)
            path = self._folder / part / f"{digest}.{next(self._numbers)}{_PART}"
            self._arriving[sender, digest] = _Arrival(path, size)
        arrival = self._arriving.get((sender, digest))
        if arrival is None:
            raise ProtocolError(f"a piece of a file at {offset} without its beginning")
        try:
            arrival.add(offset, piece)
            if not arrival.complete:
                return False
            arrival.finish(digest, self._folder / part / digest)
        except BaseException:
            self.abort(sender, digest)
            raise
        del self._arriving[sender, digest]
        self._sizes.pop((part, digest), None)
        self._sizes[part, digest] = size
        return True

    def abort(self, sender: str, digest: str) -> None:
        """The rest of these contents will not come."""
        arrival = self._arriving.pop((sender, digest), None)
        if arrival is not None:
            arrival.abandon()

    def forget_sender(self, sender: str) -> None:
        """Nothing more will come from there."""
        for known, digest in list(self._arriving):
            if known == sender:
                self.abort(sender, digest)

    def copy(self, realm: str, digest: str, target: int) -> None:
        """Write contents to a file descriptor. Blocking; may be called in a thread.

        Raises:
            ContentsLostError: they are not there any more, or were changed.
            OSError: they cannot be written.
        """
        path = self._folder / _part_of(realm) / digest
        try:
            source = path.open("rb")
        except FileNotFoundError:
            raise ContentsLostError(digest) from None
        checked = hashlib.sha256()
        with source, os.fdopen(target, "wb", closefd=False) as out:
            while piece := source.read(_PIECE_BYTES):
                checked.update(piece)
                out.write(piece)
            with contextlib.suppress(OSError):
                os.utime(source.fileno())
        if checked.hexdigest() != digest:
            _log.warning("%s was changed on the disk; it is fetched again", path)
            raise ContentsLostError(digest)

    def forget_realm(self, realm: str) -> None:
        """Nobody can ask for these any more."""
        part = _part_of(realm)
        for name in [name for name in self._sizes if name[0] == part]:
            self._remove(name)

    def trim(self) -> None:
        """Evict what is beyond the limit. Call it when no job is being furnished."""
        total = sum(self._sizes.values())
        for name in list(self._sizes):
            if total <= self._max_bytes:
                break
            total -= self._sizes[name]
            self._remove(name)

    def _remove(self, name: Name) -> None:
        self._sizes.pop(name, None)
        part, digest = name
        (self._folder / part / digest).unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            (self._folder / part).rmdir()  # only if that was the last

    def close(self) -> None:
        """End what is on its way; what is complete stays."""
        for sender, digest in list(self._arriving):
            self.abort(sender, digest)
        os.close(self._lock)


class _Arrival:
    """Contents on their way in."""

    def __init__(self, path: Path, size: int) -> None:
        if not 0 <= size <= FILE_MAX_BYTES:
            raise ProtocolError(f"a file of {size} bytes; the limit is {FILE_MAX_BYTES}")
        self._path = path
        self._size = size
        self._got = 0
        self._hash = hashlib.sha256()
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        self._file = os.fdopen(os.open(path, flags, 0o600), "wb")

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


def open_store(kept: Path | None, passing: Path, max_bytes: int) -> Store:
    """The store that is kept, if there is to be one and nobody else uses it; else one in a
    directory that goes with this process."""
    if kept is not None:
        try:
            return Store(kept, max_bytes)
        except BlockingIOError:
            _log.info("another Lieutenant uses %s; this one keeps its files only for itself", kept)
        except OSError as exc:
            _log.warning("files are not kept for the next Lieutenant: %s", exc)
    return Store(passing, max_bytes)


def _part_of(realm: str) -> str:
    """The folder of a realm: its name says nothing of the token."""
    return hashlib.sha256(b"goliath store " + realm.encode()).hexdigest()[:32]


def check_digest(digest: str) -> None:
    """Refuse what is no SHA-256, and so no name of a file of ours.

    Raises:
        ProtocolError: it is none.
    """
    if len(digest) != 64 or set(digest) - set("0123456789abcdef"):
        raise ProtocolError("the contents of a file are named by something that is no SHA-256")


def remove_tree(path: Path) -> None:
    """Remove a directory with all that is in it, as far as possible."""
    shutil.rmtree(path, ignore_errors=True)
