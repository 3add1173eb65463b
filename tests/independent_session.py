"""A session of the independent client, with what a batch can do without: it goes on over another
connection, takes its time, and says and hears messages of any length. It, too, was written from
``docs/protocol.md`` alone."""

from __future__ import annotations

import json
from collections import deque
from socket import SHUT_RDWR
from typing import Any

from tests.independent_client import SILENCE_MAX_S, UNNUMBERED, Client, Header, pack, unpack

PING_INTERVAL_S, CHUNK, BULK = 5.0, 122_880, 1


class Session(Client):
    """What is not acknowledged is kept, for the next connection."""

    def __init__(self, host: str, port: int, token: str) -> None:
        self.kept: deque[tuple[int, bytes]] = deque()
        self.parts: dict[int, bytes] = {0: b"", BULK: b""}
        super().__init__(host, port, token)

    def log_in(self, last_session: list[Any] | None = None) -> Header:
        granted = super().log_in(last_session)
        if last_session and not granted["resumed"]:
            raise ConnectionError("the session is lost")
        self.ticket = [granted["session"], granted["incarnation"]]
        self._acknowledged(granted["seen"])
        for _, frame in self.kept:
            self.link.send(frame)
        return granted

    def resume(self) -> None:
        """Break the connection, and go on over another one."""
        self.link.socket.shutdown(SHUT_RDWR)
        self.link.close()
        self.log_in(self.ticket)

    def send(self, kind: str, payload: bytes = b"", **fields: Any) -> None:
        if kind in UNNUMBERED:
            return super().send(kind, **fields)
        header = json.dumps({"t": kind, **fields}).encode()
        whole = header + payload
        if len(whole) <= CHUNK:
            return self._say(kind, payload, **fields)
        for at in range(0, len(whole), CHUNK):
            sizes = {"l": BULK, "h": len(header), "n": len(whole), "at": at}
            self._say("part", whole[at : at + CHUNK], **sizes)
        return None

    def _say(self, kind: str, payload: bytes, **fields: Any) -> None:
        self.sent += 1
        frame = pack({"t": kind, **fields, "q": self.sent, "a": self.seen}, payload)
        self.kept.append((self.sent, frame))
        self.link.send(frame)

    def _acknowledged(self, number: int) -> None:
        while self.kept and self.kept[0][0] <= number:
            self.kept.popleft()

    def hear(self) -> tuple[Header, bytes]:
        try:
            frame = self.link.recv(PING_INTERVAL_S, decode=False)
        except TimeoutError:
            self.send("ping", n=1)
            frame = self.link.recv(SILENCE_MAX_S - PING_INTERVAL_S, decode=False)
        header, payload = unpack(frame)
        self._acknowledged(header["a"])
        return header, payload

    def receive(self) -> tuple[Header, bytes]:
        """The next message, of all its parts."""
        while True:
            header, payload = super().receive()
            if header["t"] != "part":
                return header, payload
            lane, length = header["l"], header["h"]
            self.parts[lane] += payload
            if len(self.parts[lane]) == header["n"]:
                whole, self.parts[lane] = self.parts[lane], b""
                return json.loads(whole[:length]), whole[length:]

    def leave(self) -> None:
        """Log out."""
        self.send("bye")
        self.link.close()
