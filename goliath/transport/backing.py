"""Where the memory of an arena comes from: a sealed memfd or, where there is none, a file.

A memfd is sealed: nobody who has its descriptor can make it shorter beneath those who look at it,
which would be a SIGBUS for them. A file cannot be sealed. So it has no name, and whoever is not
trusted gets a descriptor by which it can be read only, and neither written nor cut. (Code of the
same user that means harm finds a way around that. It could kill them, too.)

Memory is set aside before it is touched: what a file system cannot provide would be a SIGBUS, too.
File systems that may need new blocks for what is written a second time (btrfs, ZFS) cannot promise
that, so files are made only where it is known that they can (`_KEEP_THEIR_WORD`).
"""

from __future__ import annotations

import fcntl
import os
from typing import Self

from goliath.machine import file_system_of
from goliath.record import frozen

_SEALS = 0x07  # F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW
_ADD_SEALS, _GET_SEALS = 1033, 1034  # of fcntl, which names them on Linux only
_KEEP_THEIR_WORD = frozenset({"tmpfs", "ramfs", "ext2", "ext3", "ext4", "xfs"})


class ForeignArenaError(Exception):
    """What was handed over as an arena is none that can be trusted."""


@frozen
class Backing:
    """Attributes:
    fd: to map it by.
    readers_fd: for those who may only read; the same if it is sealed.
    """

    fd: int
    readers_fd: int

    @property
    def is_sealed(self) -> bool:
        """Whether those who have its descriptor cannot harm each other by it."""
        return self.fd == self.readers_fd

    @classmethod
    def make(cls, size: int) -> Self | None:
        """A new one of so many bytes, none of them set aside; None where that cannot be."""
        try:
            fd = os.memfd_create("goliath-arena", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        except (AttributeError, OSError):  # not on Linux; or forbidden, by a filter
            return cls._made_in_a_file(size)
        try:
            os.truncate(fd, size)
            # What has this size has it for ever: nobody can make a reader of it die of SIGBUS.
            fcntl.fcntl(fd, _ADD_SEALS, _SEALS)
        except OSError:
            os.close(fd)
            return None
        return cls(fd, fd)

    @classmethod
    def _made_in_a_file(cls, size: int) -> Self | None:
        # Here: nobody needs it where there are memfds.
        import tempfile

        from goliath.transport.private_files import make_private_directory, runtime_directory

        folder = runtime_directory()
        fds: list[int] = []
        try:
            make_private_directory(folder)
            if file_system_of(folder) not in _KEEP_THEIR_WORD:
                return None
            fd, path = tempfile.mkstemp(prefix=".goliath-arena-", dir=folder)
            fds.append(fd)
            try:
                fds.append(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
            finally:
                os.unlink(path)
            os.fchmod(fd, 0o400)  # nobody opens it anew, by way of /proc, and writes by mistake
            os.truncate(fd, size)
        except OSError:
            for each in fds:
                os.close(each)
            return None
        return cls(*fds)

    @classmethod
    def joined(cls, fd: int, size: int, *, trusted: bool) -> Self:
        """One that another process has made.

        Args:
            fd: its descriptor.
            size: what it must have.
            trusted: whether its maker is, so that it need not be sealed.

        Raises:
            ForeignArenaError: it could shrink beneath its readers, or has another size.
            OSError: the descriptor is no such one.
        """
        if os.fstat(fd).st_size != size:
            raise ForeignArenaError("an arena of another size")
        if not trusted and fcntl.fcntl(fd, _GET_SEALS) != _SEALS:
            raise ForeignArenaError("an arena that may shrink")
        return cls(fd, fd)

    def close(self) -> None:
        """Nobody else is to map it."""
        for fd in {self.fd, self.readers_fd}:
            os.close(fd)


def set_aside(fd: int, at: int, size: int) -> bool:
    """Have memory of a backing provided, from there on; whether it is."""
    try:
        os.posix_fallocate(fd, at, size)
    except OSError:
        return False
    return True
