"""TCP sockets: how they are bound, and how they are tuned."""

from __future__ import annotations

import asyncio
import errno
import socket
from typing import Any

from goliath.config import KIB, TransportConfig

NOTSENT_LOWAT_BYTES = 256 * KIB  # more in the kernel's queue would only delay control frames


async def sockets_on(host: str, port: int) -> list[socket.socket]:
    """A bound socket for each address of ``host``, all with the same port.

    Raises:
        OSError: the name does not resolve, or the port is taken.
    """
    sockets: list[socket.socket] = []
    try:
        for family, address in await _resolve(host, port):
            sock = socket.socket(family, socket.SOCK_STREAM)
            sockets.append(sock)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family is socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.bind((address[0], port, *address[2:]))
            sock.setblocking(False)
            # Port 0: the first socket chooses, the others follow.
            port = sock.getsockname()[1]
    except BaseException:
        for sock in sockets:
            sock.close()
        raise
    return sockets


async def _resolve(host: str, port: int) -> list[tuple[socket.AddressFamily, tuple[Any, ...]]]:
    options: dict[str, Any] = {"type": socket.SOCK_STREAM, "flags": socket.AI_PASSIVE}
    try:
        # A number needs no resolver, and so no thread.
        numeric = options | {"flags": options["flags"] | socket.AI_NUMERICHOST}
        found = socket.getaddrinfo(host or None, port, **(numeric if host else options))
    except socket.gaierror:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, **options)
    return [(family, address) for family, _, _, _, address in found]


def why_not_bound(exc: OSError) -> str:
    """What to tell somebody who cannot listen where he wants to."""
    if exc.errno == errno.EADDRINUSE:
        return "another program listens there; choose another port, or 0 for a free one"
    if exc.errno == errno.EACCES:
        return "this user may not listen there; choose a port above 1023"
    return exc.strerror or str(exc)


def tune(sock: Any, config: TransportConfig) -> None:
    """Small frames at once, a short queue in the kernel, and an end to waiting for the dead."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        patience_ms = int(config.tcp_user_timeout_s * 1000)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, patience_ms)
    if hasattr(socket, "TCP_NOTSENT_LOWAT"):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, NOTSENT_LOWAT_BYTES)
