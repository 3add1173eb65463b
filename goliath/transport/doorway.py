"""Takes connections off a listening socket, and has each looked at before anything is done for it.

asyncio's servers accept whoever comes, and tell of him when his TLS handshake is done: those who
never finish one would be counted by nobody. Here each is a `Visit` from the moment he has come.
"""

from __future__ import annotations

import asyncio
import resource
import socket
import ssl
from collections.abc import Callable, Sequence
from contextlib import suppress

from goliath.config import TransportConfig
from goliath.transport.busy import EXHAUSTED, BusySign

BACKLOG = 128
_ACCEPTED_AT_ONCE = 32  # then it is somebody else's turn in the loop


class Visit:
    """One connection, from its first moment on.

    Attributes:
        address: of the other end.
        heard_bytes: what it has said so far.
    """

    __slots__ = ("_sock", "address", "heard_bytes", "transport")

    def __init__(self, sock: socket.socket, address: str) -> None:
        self._sock = sock
        self.address = address
        self.heard_bytes = 0
        self.transport: asyncio.Transport | None = None

    def __repr__(self) -> str:
        return f"<Visit of {self.address}>"

    @property
    def number(self) -> int:
        """Of its descriptor. The kernel gives the lowest that is free: all below are in use."""
        return self._sock.fileno()

    def end(self) -> None:
        """Break it now."""
        if self.transport is not None:
            self.transport.abort()
            return
        with suppress(OSError):  # in the middle of a TLS handshake, which fails by this
            self._sock.shutdown(socket.SHUT_RDWR)


class Doorway:
    """Some listening sockets.

    Args:
        sockets: bound ones; closed with it.
        config: how long a TLS handshake may take, and how many descriptors are kept.
        context: of TLS, or None.
        admit: says whether a visit may go on; if not, it is ended.
        protocol: makes what speaks with it.
        gone: told of a visit whose TLS handshake has failed: no protocol will tell.
    """

    def __init__(
        self,
        sockets: Sequence[socket.socket],
        config: TransportConfig,
        context: ssl.SSLContext | None,
        *,
        admit: Callable[[Visit], bool],
        protocol: Callable[[Visit], asyncio.Protocol],
        gone: Callable[[Visit], None],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._sockets = sockets
        self._config = config
        self._context = context
        self._admit = admit
        self._protocol = protocol
        self._gone = gone
        self._openings: set[asyncio.Task[None]] = set()
        self._sign = BusySign(context)
        for sock in sockets:
            sock.listen(BACKLOG)
            self._listen(sock)

    async def close(self) -> None:
        """Take nobody any more, and drop those that are not through the door."""
        self._sign.close()
        for sock in self._sockets:
            self._loop.remove_reader(sock)
            sock.close()
        for opening in self._openings:
            opening.cancel()
        if self._openings:
            await asyncio.wait(self._openings)

    def _accept(self, listening: socket.socket) -> None:
        for _ in range(_ACCEPTED_AT_ONCE):
            try:
                sock, peer = listening.accept()
            except BlockingIOError:
                return
            except OSError as exc:
                if exc.errno not in EXHAUSTED:
                    continue  # it has left already
                self._sign.take_over(listening, self._pause(listening))
                return
            sock.setblocking(False)
            visit = Visit(sock, str(peer[0]))
            if visit.number >= self._numbers_for_strangers():
                self._sign.dismiss(sock, self._pause(listening))
                return
            if self._admit(visit):
                # Owned by the doorway: close() ends it.
                opening = self._loop.create_task(self._open(visit, sock))
                self._openings.add(opening)
                opening.add_done_callback(self._openings.discard)
            else:
                sock.close()

    def _numbers_for_strangers(self) -> int:
        """Descriptors from this one on are kept for workers, and for those who have logged in."""
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        return limit - min(self._config.descriptor_reserve, limit // 8)

    def _listen(self, listening: socket.socket) -> None:
        self._loop.add_reader(listening, self._accept, listening)

    def _pause(self, listening: socket.socket) -> Callable[[], None]:
        """It would be told again at once, and could do nothing. What ends the pause."""
        self._loop.remove_reader(listening)
        return lambda: self._listen(listening)

    async def _open(self, visit: Visit, sock: socket.socket) -> None:
        patience = self._config.handshake_max_s if self._context is not None else None
        try:
            await self._loop.connect_accepted_socket(
                lambda: self._protocol(visit),
                sock,
                ssl=self._context,
                ssl_handshake_timeout=patience,
            )
        except (OSError, asyncio.CancelledError):
            # Among them those of TLS, and the timeout. Whoever cancels it closes the doorway.
            self._gone(visit)
            sock.close()
