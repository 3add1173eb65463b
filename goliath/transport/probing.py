"""Trying the way to a Lieutenant step by step, without logging in: name, connection, TLS.

Blocking sockets, because whoever looks has nothing else to do, and each step has its deadline.
"""

from __future__ import annotations

import base64
import os
import socket
import ssl
import time
from typing import Any
from urllib.parse import unquote, urlsplit

from goliath.errors import ConnectionError  # noqa: A004
from goliath.record import frozen
from goliath.transport.address import Address
from goliath.transport.tls import client_tls

_ANSWER_MAX_BYTES = 64 * 1024


@frozen
class Place:
    """One address that a name stands for."""

    family: int
    where: tuple[Any, ...]

    def __str__(self) -> str:
        return str(self.where[0])


@frozen
class TlsFacts:
    """What a TLS server has shown; ``certificate`` is DER."""

    version: str
    certificate: bytes


def resolve(host: str, port: int) -> list[Place]:
    """What the name stands for, each address once.

    Raises:
        ConnectionError: nothing.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (socket.gaierror, UnicodeError) as exc:
        reason = exc.strerror if isinstance(exc, socket.gaierror) else str(exc)
        raise ConnectionError(f"the name {host!r} does not resolve ({reason})") from exc
    return list(dict.fromkeys(Place(family, where) for family, _, _, _, where in found))


def connect(place: Place, timeout_s: float) -> tuple[socket.socket, float]:
    """A connection to there, with seconds for all that follows, and how long it took.

    Raises:
        ConnectionError: refused, no way there, or no answer in time.
    """
    began_at = time.perf_counter()
    sock = socket.socket(place.family, socket.SOCK_STREAM)
    try:
        sock.settimeout(timeout_s)
        sock.connect(place.where)
    except TimeoutError as exc:
        sock.close()
        raise ConnectionError(f"no answer within {timeout_s:g} s") from exc
    except OSError as exc:
        sock.close()
        raise ConnectionError(os.strerror(exc.errno) if exc.errno else str(exc)) from exc
    return sock, time.perf_counter() - began_at


def proxy_place(proxy: str) -> tuple[str, int]:
    """Host and port in the URL of a proxy."""
    parts = urlsplit(proxy)
    return parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)


def tunnel(sock: socket.socket, proxy: str, address: Address) -> None:
    """Ask a proxy to connect to there.

    Raises:
        ConnectionError: it does not.
    """
    parts = urlsplit(proxy)
    lines = [f"CONNECT {address} HTTP/1.1", f"Host: {address}"]
    if parts.username:
        name = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        lines.append(f"Proxy-Authorization: Basic {base64.b64encode(name.encode()).decode()}")
    answer = b""
    try:
        sock.sendall("\r\n".join([*lines, "", ""]).encode())
        while b"\r\n\r\n" not in answer and len(answer) < _ANSWER_MAX_BYTES:
            # One by one: what comes behind the answer is not ours to read.
            if not (byte := sock.recv(1)):
                break
            answer += byte
    except OSError as exc:
        raise ConnectionError(f"it does not answer: {exc}") from exc
    status = answer.partition(b"\r\n")[0].decode("latin-1")
    if status.split(" ")[1:2] != ["200"]:
        raise ConnectionError(f"it answered {status!r} to CONNECT {address}")


def shake(sock: socket.socket, host: str, *, verify: bool) -> TlsFacts:
    """Begin TLS on a connection, and close it.

    Args:
        verify: whether an authority has to vouch for the certificate.

    Raises:
        ConnectionError: the other end speaks no TLS, or an older one, or its certificate is not
            trusted.
    """
    needs = "TLS" if verify else "TLS 1.3"
    try:
        with client_tls(verify=verify).wrap_socket(sock, server_hostname=host) as secure:
            certificate = secure.getpeercert(binary_form=True)
            return TlsFacts(secure.version() or "", certificate or b"")
    except ssl.SSLCertVerificationError as exc:
        reason = exc.verify_message or str(exc)
        raise ConnectionError(f"its certificate is not trusted: {reason}") from exc
    except TimeoutError as exc:
        raise ConnectionError("it takes the connection, and does not answer to TLS") from exc
    except (ConnectionResetError, ssl.SSLEOFError) as exc:
        raise ConnectionError(f"it hung up before any {needs} was spoken") from exc
    except OSError as exc:  # ssl.SSLError is one
        reason = getattr(exc, "reason", None) or exc.strerror or str(exc)
        raise ConnectionError(f"it does not speak {needs} ({reason})") from exc
