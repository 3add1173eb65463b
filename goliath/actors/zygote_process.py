"""Starting a zygote: light, so that one can begin with that and load everything else meanwhile."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

from goliath.actors.spec import TAG_VARIABLE
from goliath.config import MIB

SOCKET_BUFFER_BYTES = 4 * MIB
_BOOT = """
import sys
_, root, fd, pid = sys.argv
known = root in sys.path
sys.path.insert(0, root)
from goliath.actors.zygote import main
del sys.path[0]
if not known:
    sys.path.append(root)
main(int(fd), int(pid))
"""


class ZygoteProcess:
    """One that was just started, and will serve whoever has the socket. It ends with that.

    Attributes:
        process: its own.
        sock: over which it is asked.

    Raises:
        OSError: no process could be started.
    """

    def __init__(self) -> None:
        self.sock, theirs = socket.socketpair()
        with theirs:
            widen(self.sock)
            try:
                self.process = _start(theirs)
            except OSError:
                self.sock.close()
                raise
        self.sock.setblocking(False)

    def abandon(self) -> None:
        """Nobody will ask it for anything."""
        self.sock.close()
        self.process.kill()
        self.process.wait()


def _start(control: socket.socket) -> subprocess.Popen[bytes]:
    """A fresh interpreter. It finds goliath where this one did; tokens are kept from it."""
    environ = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("GOLIATH_TOKEN") and name != TAG_VARIABLE
    }
    root = str(Path(__file__).resolve().parent.parent.parent)
    fd = control.fileno()
    return subprocess.Popen(
        # -P: a module in the current directory must not be taken for one of the library.
        [sys.executable, "-P", "-c", _BOOT, root, str(fd), str(os.getpid())],
        stdin=subprocess.DEVNULL,
        pass_fds=(fd,),
        env=environ,
        start_new_session=True,
    )


def widen(sock: socket.socket) -> None:
    """Have it take a big message at once."""
    for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
        sock.setsockopt(socket.SOL_SOCKET, option, SOCKET_BUFFER_BYTES)
