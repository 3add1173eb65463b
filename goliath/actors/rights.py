"""JSON with file descriptors over a unix socket: how the Lieutenant and its zygote talk.

Each record is a u32 length (little endian) and JSON. Its descriptors travel with its first
byte, by ``SCM_RIGHTS``, and arrive as fresh ones.
"""

from __future__ import annotations

import array
import os
import socket
import struct
from collections.abc import Iterable, Iterator
from typing import Any

import orjson

_LENGTH = struct.Struct("<I")
_FDS_MAX = 16
_CLOEXEC = getattr(socket, "MSG_CMSG_CLOEXEC", 0)


def pack_record(data: dict[str, Any]) -> bytes:
    """A record as bytes, without its descriptors."""
    body = orjson.dumps(data)
    return _LENGTH.pack(len(body)) + body


def send_with_fds(sock: socket.socket, data: bytes | memoryview, fds: list[int]) -> int:
    """Send what the socket takes, and copies of the descriptors; returns how many bytes it took."""
    rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))
    return sock.sendmsg([data], [rights] if fds else [])


def receive_with_fds(sock: socket.socket, size: int) -> tuple[bytes, list[int]]:
    """Up to ``size`` bytes and the descriptors that came with them."""
    data, fds, _, _ = socket.recv_fds(sock, size, _FDS_MAX, _CLOEXEC)
    if not _CLOEXEC:
        for fd in fds:
            os.set_inheritable(fd, False)
    return data, fds


def close_all(fds: Iterable[int]) -> None:
    """Close descriptors."""
    for fd in fds:
        os.close(fd)


class Records:
    """Cuts a byte stream into records."""

    __slots__ = ("_data",)

    def __init__(self) -> None:
        self._data = b""

    def feed(self, data: bytes) -> Iterator[dict[str, Any]]:
        """The records that are complete now."""
        self._data += data
        while len(self._data) >= _LENGTH.size:
            end = _LENGTH.size + _LENGTH.unpack_from(self._data)[0]
            if len(self._data) < end:
                return
            body, self._data = self._data[_LENGTH.size : end], self._data[end:]
            yield orjson.loads(body)
