"""How the descriptor of an arena comes from one process of a machine to another.

By a unix socket in the abstract namespace, and only between processes of one user. Who wants it
listens under a name that nobody can guess, and says the name, a secret and the machine's boot id in
a session, where both have proved the token; who has it compares the boot id, looks whose socket
that is, and sends the secret along. So neither end takes or gives anything on the strength of a
name.
"""

from __future__ import annotations

import hmac
import os
import re
import secrets
import socket
import struct
from contextlib import suppress

from goliath.transport.arena import Arena
from goliath.transport.backing import ForeignArenaError

_NAME = re.compile(r"goliath-[0-9a-f]{32}")
_SECRET_BYTES = 32
_CREDENTIALS = struct.Struct("3i")  # pid, uid, gid
_PEER_CREDENTIALS = getattr(socket, "SO_PEERCRED", 17)


class Letterbox:
    """Where an arena may be put in.

    Attributes:
        name: of the socket.
        secret: what has to come along.

    Raises:
        OSError: there is no such thing here.
    """

    def __init__(self) -> None:
        self.name = f"goliath-{secrets.token_hex(16)}"
        self.secret = secrets.token_hex(_SECRET_BYTES)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            self._socket.bind(f"\0{self.name}")
            self._socket.listen(8)
            self._socket.setblocking(False)
        except OSError:
            self._socket.close()
            raise

    def take_out(self, limits: list[int]) -> Arena:
        """The arena that was put in before this was said.

        Args:
            limits: of its regions.

        Raises:
            ForeignArenaError: there is none, or none that can be trusted.
            OSError: it cannot be mapped.
        """
        while (found := self._next()) is not None:
            data, fds = found
            try:
                if len(fds) == 1 and hmac.compare_digest(data, self.secret.encode()):
                    return Arena.join(fds.pop(), limits)
            finally:
                for fd in fds:
                    os.close(fd)
        raise ForeignArenaError("nothing was put into the letterbox")

    def _next(self) -> tuple[bytes, list[int]] | None:
        try:
            caller, _ = self._socket.accept()
        except BlockingIOError:
            return None
        with caller:
            caller.setblocking(False)
            if not _is_of_this_user(caller):
                return b"", []
            try:
                data, fds, _, _ = socket.recv_fds(
                    caller, 2 * _SECRET_BYTES, 4, socket.MSG_CMSG_CLOEXEC
                )
            except OSError:
                return b"", []
            return data, fds

    def close(self) -> None:
        """Nothing is put in any more."""
        self._socket.close()


def put_in(arena: Arena, name: str, secret: str) -> bool:
    """Put an arena into a letterbox of this user; whether that was possible."""
    if not _NAME.fullmatch(name):
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock, suppress(OSError):
        sock.setblocking(False)
        sock.connect(f"\0{name}")
        if _is_of_this_user(sock):
            socket.send_fds(sock, [secret.encode()], [arena.fd])
            return True
    return False


def _is_of_this_user(sock: socket.socket) -> bool:
    credentials = sock.getsockopt(socket.SOL_SOCKET, _PEER_CREDENTIALS, _CREDENTIALS.size)
    _, uid, _ = _CREDENTIALS.unpack(credentials)
    return bool(uid == os.geteuid())
