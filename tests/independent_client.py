"""A client of a Lieutenant, written from ``docs/protocol.md`` alone: it imports no Goliath.

``python independent_client.py HOST PORT TOKEN_FILE [CALLS]`` ships a function, has it called,
prints the results in their order, and what the calls that failed have raised, and logs out.
"""

from __future__ import annotations

import hashlib
import hmac
import io
import json
import os
import pickle
import struct
import sys
import time
import zlib
from base64 import urlsafe_b64decode
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from importlib.metadata import version
from socket import SHUT_RDWR
from typing import Any

import cloudpickle
from websockets.sync.client import ClientConnection, connect

Header = dict[str, Any]
PING_INTERVAL_S, SILENCE_MAX_S, ACK_FRAMES, CHUNK = 5.0, 15.0, 64, 122_880


# -- the login -----------------------------------------------------------------------------


def keys(token: str) -> tuple[str, bytes, bytes]:
    """``kid``, client key, server key."""
    secret = urlsafe_b64decode(token.strip().removeprefix("glt1_") + "=")
    extracted = hmac.digest(bytes(32), secret, "sha256")

    def expand(info: bytes) -> bytes:
        return hmac.digest(extracted, info + b"\x01", "sha256")

    return (
        expand(b"goliath kid")[:8].hex(),
        expand(b"goliath client mac"),
        expand(b"goliath server mac"),
    )


def lp(*parts: bytes) -> bytes:
    return b"".join(struct.pack(">I", len(part)) + part for part in parts)


def transcript(hello: bytes, challenge: bytes, binding: str) -> bytes:
    said = lp(b"goliath-auth-v1", hello, challenge, binding.encode())
    return hashlib.sha256(said).digest()


def seal(key: bytes, role: bytes, th: bytes, body: bytes) -> bytes:
    return hmac.digest(key, lp(role, th, body), "sha256") + body


# -- frames --------------------------------------------------------------------------------


def pack(header: Header, payload: bytes = b"") -> bytes:
    text = json.dumps(header).encode()
    return (
        struct.pack("<II", len(text), zlib.crc32(payload, zlib.crc32(text)) or 1) + text + payload
    )


def unpack(frame: bytes) -> tuple[Header, bytes]:
    size, checksum = struct.unpack_from("<II", frame)
    text, payload = frame[8 : 8 + size], frame[8 + size :]
    if checksum != (zlib.crc32(payload, zlib.crc32(text)) or 1):
        raise ConnectionError("a frame was damaged")
    return json.loads(text), payload


class PlainData(pickle.Unpickler):
    """Refuses every class: outcomes are plain data."""

    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError(f"{module}.{name} is no plain data")


def plain(data: bytes) -> Any:
    return PlainData(io.BytesIO(data)).load()


# -- a session -----------------------------------------------------------------------------


class Client:
    """A session with a Lieutenant on loopback."""

    def __init__(self, host: str, port: int, token: str) -> None:
        self.url, self.binding = f"ws://{host}:{port}/goliath/v1", f"loopback:{port}"
        self.kid, self.client_key, self.server_key = keys(token)
        self.client_id = os.urandom(8).hex()
        self.session: list[Any] | None = None
        self.sent = self.seen = self.unanswered = self.pings = 0
        self.kept: deque[tuple[int, Header, bytes]] = deque()  # until they are acknowledged
        self.parts: dict[int, bytes] = {0: b"", 1: b""}
        self.links = ExitStack()
        self.login()

    def login(self) -> None:
        """Begin a session, or take it up again over a new connection."""
        dialled = connect(self.url, compression=None, proxy=None, max_size=CHUNK + 65_536)
        self.link: ClientConnection = self.links.enter_context(dialled)
        about = {"client_id": self.client_id, "last_session": self.session}
        python = f"{sys.version_info.major}.{sys.version_info.minor}"
        about |= {"py": python, "cloudpickle": version("cloudpickle")}
        known = {"kid": self.kid, "nc": os.urandom(32).hex(), "bind": self.binding}
        hello = json.dumps({"t": "hello", "v": 1, "proto": 1, **known, **about}).encode()
        self.link.send(hello)
        challenge = self.link.recv(timeout=5)
        assert isinstance(challenge, bytes), "a text message"
        th = transcript(hello, challenge, self.binding)
        seen = json.dumps({"seen": self.seen}).encode()
        self.link.send(seal(self.client_key, b"client", th, seen))
        welcome = self.link.recv(timeout=5)
        assert isinstance(welcome, bytes), "a text message"
        if not hmac.compare_digest(seal(self.server_key, b"server", th, welcome[32:]), welcome):
            raise ConnectionError("the Lieutenant could not prove that it has the token")
        said = json.loads(welcome[32:])
        if said["refused"] or (self.session and not said["resumed"]):
            raise ConnectionError(said["refused"] or "the session is lost")
        self.session, self.limits = [said["session"], said["incarnation"]], said["limits"]
        self.heard_at = self.pinged_at = time.monotonic()
        self._acknowledged(said["seen"])
        for number, header, payload in self.kept:
            self.link.send(pack({**header, "q": number, "a": self.seen}, payload))

    def resume(self) -> None:
        """Break the connection, and go on over another one."""
        self.link.socket.shutdown(SHUT_RDWR)
        self.links.close()
        self.login()

    def send(self, kind: str, payload: bytes = b"", **fields: Any) -> None:
        header = {"t": kind, **fields}
        text = json.dumps(header).encode()
        if len(text) + len(payload) <= CHUNK:
            return self._send(header, payload)
        whole, sizes = text + payload, {"h": len(text), "n": len(text) + len(payload)}
        for at in range(0, len(whole), CHUNK):
            lane = {"t": "part", "l": 1, "at": at}  # all that is sent with a payload is bulk
            self._send({**lane, **sizes}, whole[at : at + CHUNK])
        return None

    def _send(self, header: Header, payload: bytes) -> None:
        self.sent += 1
        self.kept.append((self.sent, header, payload))
        self.unanswered = 0
        self.link.send(pack({**header, "q": self.sent, "a": self.seen}, payload))

    def _tell(self, kind: str, **fields: Any) -> None:
        self.unanswered = 0
        self.link.send(pack({"t": kind, "a": self.seen, "s": self.sent, **fields}))

    def _acknowledged(self, number: int) -> None:
        while self.kept and self.kept[0][0] <= number:
            self.kept.popleft()

    def receive(self) -> tuple[Header, bytes]:
        """The next message."""
        while True:
            now = time.monotonic()
            if now - self.heard_at > SILENCE_MAX_S:
                self.resume()
            elif now - self.pinged_at >= PING_INTERVAL_S:
                self.pings, self.pinged_at = self.pings + 1, now
                self._tell("ping", n=self.pings)
            try:
                frame = self.link.recv(timeout=PING_INTERVAL_S / 5)
            except TimeoutError:
                continue
            message = self._heard(*unpack(frame))  # type: ignore[arg-type]
            if self.unanswered >= ACK_FRAMES:
                self._tell("ack")
            if message is not None:
                return message

    def _heard(self, header: Header, payload: bytes) -> tuple[Header, bytes] | None:
        self.heard_at = time.monotonic()
        self._acknowledged(header["a"])
        if header["t"] == "bye":
            raise ConnectionError("the Lieutenant has ended the session; its log says why")
        number = header.get("q", 0)
        if max(number - 1, header.get("s", 0)) > self.seen:
            raise ConnectionError("some frames were lost")
        if number <= self.seen:
            return None  # it has no number, or was seen before
        self.seen, self.unanswered = number, self.unanswered + 1
        if header["t"] != "part":
            return header, payload
        whole = self.parts[header["l"]] = self.parts[header["l"]] + payload
        if len(whole) < header["n"]:
            return None
        self.parts[header["l"]] = b""
        return json.loads(whole[: header["h"]]), whole[header["h"] :]

    def leave(self) -> None:
        """Log out."""
        self._tell("bye")
        self.links.close()

    # -- batches -----------------------------------------------------------------------

    def run(self, function: Any, calls: list[dict[str, Any]], batch_size: int = 100) -> list[Any]:
        """Results, or the failures that stand for them, in the order of the calls."""
        shipped = cloudpickle.dumps((function, {}, ()), protocol=5)
        digest = hashlib.sha256(shipped).hexdigest()
        self.send("function", shipped, digest=digest, name=function.__name__)
        self.send("environment", environment="e1", files=[], variables={})
        for first in range(0, len(calls), batch_size):
            rows = [pickle.dumps(((), row), 5) for row in calls[first : first + batch_size]]
            names = {"function": digest, "environment": "e1", "form": "rows"}
            numbers = {"batch": first, "attempt": 1, "lo": 0, "hi": len(rows)}
            self.send("assign", pickle.dumps(rows, 5), **names, **numbers)
        results: dict[int, Any] = {}
        while len(results) < len(calls):
            header, payload = self.receive()
            if header["t"] == "done":
                results.update(outcomes(header["batch"] + header["lo"], plain(payload)))
            elif header["t"] in ("returned", "environment-failed"):
                raise RuntimeError(f"calls were not run: {header}")
        return [results[index] for index in range(len(calls))]


def outcomes(first: int, decoded: Any) -> Iterable[tuple[int, Any]]:
    """Results and failures by the number of their call."""
    values, boxed, failures = (decoded, {}, {}) if isinstance(decoded, list) else decoded
    for place, value in enumerate(values):
        if place in failures:
            failure = failures[place]
            yield first + place, f"{failure['type']}: {failure['message']}"
        else:
            yield first + place, plain(boxed[place]) if place in boxed else value


def square(n: int) -> Any:
    """What is shipped: it returns plain data, and does not like 13."""
    if n == 13:
        raise ValueError(f"not {n}")
    return n * n if n % 2 else {"square": n * n}


def main(host: str, port: str, token_file: str, calls: str = "1000") -> Iterator[str]:
    with open(token_file) as file:
        client = Client(host, int(port), file.read())
    for result in client.run(square, [{"n": n} for n in range(int(calls))]):
        yield str(result)
    client.leave()


if __name__ == "__main__":
    for line in main(*sys.argv[1:]):
        print(line)
