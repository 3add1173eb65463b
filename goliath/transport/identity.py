"""What a node that joins calls itself: a random name that it keeps from start to start.

So a Commander knows a node that has died and was started again, as it knows by its address one that
it dials, and does not wait for the dead one. Of several on one machine each has a name of its
own: whoever holds the lock of a file has the name in it. A name is for one boot, because a disk
may be copied, and two nodes of one name would drive each other from their door for ever.
"""

from __future__ import annotations

import fcntl
import os
import secrets
from collections.abc import Mapping
from itertools import count
from pathlib import Path
from typing import Self

from goliath.machine import boot_id, machine_name
from goliath.transport.private_files import make_private_directory, state_directory

LINE_MAX_BYTES = 256


class Identity:
    """A node's own random name, for as long as it runs.

    Attributes:
        id: 16 hexadecimal digits.
    """

    def __init__(self, id_: str, handle: int | None) -> None:
        self.id = id_
        self._handle = handle

    @classmethod
    def take(cls, environ: Mapping[str, str] | None = None, boot: str | None = None) -> Self:
        """The first that no other process of this user on this machine has now. Where no file can
        be kept it is a fresh one, which nobody will know again."""
        boot = boot_id() if boot is None else boot
        if not boot:
            return cls(secrets.token_hex(8), None)
        try:
            directory = state_directory(environ)
            make_private_directory(directory)
            for number in count():
                handle = _lock(directory / f"node-{machine_name()}-{number}")
                if handle is not None:
                    return cls(_id_in(handle, boot), handle)
            raise AssertionError("there is no end of numbers")
        except OSError:
            return cls(secrets.token_hex(8), None)

    def release(self) -> None:
        """Let another process have it. The end of this one does so, too."""
        handle, self._handle = self._handle, None
        if handle is not None:
            os.close(handle)


def _lock(path: Path) -> int | None:
    """An open file that nobody else has; None if somebody has it."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        return None
    except BaseException:
        os.close(handle)
        raise
    return handle


def _id_in(handle: int, boot: str) -> str:
    """The one that the file has, or now has, for this boot."""
    words = os.pread(handle, LINE_MAX_BYTES, 0).decode(errors="replace").split()
    if len(words) == 2 and words[0] == boot and len(words[1]) == 16:
        return words[1]
    fresh = secrets.token_hex(8)
    os.ftruncate(handle, 0)
    os.pwrite(handle, f"{boot} {fresh}\n".encode(), 0)
    return fresh
