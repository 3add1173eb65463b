"""A client of a Lieutenant, written from ``docs/protocol.md`` alone: it imports no Goliath, and has
one batch run. ``python independent_client.py HOST PORT < TOKEN_FILE`` prints what comes of it."""

from __future__ import annotations

import hashlib
import hmac
import io
import json
import os
import pickle
import struct
import sys
import zlib
from base64 import urlsafe_b64decode
from typing import Any

import cloudpickle
from websockets.sync.client import connect

Header = dict[str, Any]
SILENCE_MAX_S, UNNUMBERED = 15.0, ("ack", "ping", "bye")


def keys(token: str) -> tuple[str, bytes, bytes]:
    """``kid``, client key, server key."""
    secret = urlsafe_b64decode(token.strip().removeprefix("glt1_") + "=")
    extracted = hmac.digest(bytes(32), secret, "sha256")
    infos = b"goliath kid\x01", b"goliath client mac\x01", b"goliath server mac\x01"
    kid, client_key, server_key = (hmac.digest(extracted, info, "sha256") for info in infos)
    return kid[:8].hex(), client_key, server_key


def lp(*parts: bytes) -> bytes:
    return b"".join(struct.pack(">I", len(part)) + part for part in parts)


def transcript(hello: bytes, challenge: bytes, binding: str) -> bytes:
    return hashlib.sha256(lp(b"goliath-auth-v1", hello, challenge, binding.encode())).digest()


def seal(key: bytes, role: bytes, th: bytes, body: bytes) -> bytes:
    return hmac.digest(key, lp(role, th, body), "sha256") + body


def pack(header: Header, payload: bytes = b"") -> bytes:
    text = json.dumps(header).encode()
    checksum = zlib.crc32(payload, zlib.crc32(text)) or 1
    return struct.pack("<II", len(text), checksum) + text + payload


def unpack(frame: bytes) -> tuple[Header, bytes]:
    size, checksum = struct.unpack_from("<II", frame)
    if checksum != (zlib.crc32(frame[8:]) or 1):
        raise ConnectionError("a frame was damaged")
    return json.loads(frame[8 : 8 + size]), frame[8 + size :]


class PlainData(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError(f"{module}.{name} is no plain data")


def plain(data: bytes) -> Any:
    return PlainData(io.BytesIO(data)).load()


def outcomes(decoded: Any) -> list[Any]:
    """Results, and as text what was raised, in the order of the calls."""
    values, boxed, failures = (decoded, {}, {}) if isinstance(decoded, list) else decoded
    elsewhere = {at: plain(pickled) for at, pickled in boxed.items()}
    elsewhere |= {at: f"{each['type']}: {each['message']}" for at, each in failures.items()}
    return [elsewhere.get(at, value) for at, value in enumerate(values)]


class Client:
    """A session with a Lieutenant on loopback, which lasts as long as its connection."""

    def __init__(self, host: str, port: int, token: str) -> None:
        self.url, self.binding = f"ws://{host}:{port}/goliath/v1", f"loopback:{port}"
        self.keys, self.client_id = keys(token), os.urandom(8).hex()
        self.sent = self.seen = 0
        self.log_in()

    def log_in(self, last_session: list[Any] | None = None) -> Header:
        kid, client_key, server_key = self.keys
        self.link = connect(self.url, compression=None, proxy=None).__enter__()
        python = ".".join(map(str, sys.version_info[:2]))
        about = {"client_id": self.client_id, "py": python, "cloudpickle": cloudpickle.__version__}
        about |= {"kid": kid, "nc": os.urandom(32).hex(), "last_session": last_session}
        hello = json.dumps({"t": "hello", "v": 1, "proto": 1, "bind": self.binding, **about})
        self.link.send(hello.encode())
        th = transcript(hello.encode(), self.link.recv(5, decode=False), self.binding)
        self.link.send(seal(client_key, b"client", th, json.dumps({"seen": self.seen}).encode()))
        welcome = self.link.recv(5, decode=False)
        if not hmac.compare_digest(seal(server_key, b"server", th, welcome[32:]), welcome):
            raise ConnectionError("the Lieutenant could not prove that it has the token")
        if (granted := json.loads(welcome[32:]))["refused"]:
            raise ConnectionError(granted["refused"])
        return granted

    def send(self, kind: str, payload: bytes = b"", **fields: Any) -> None:
        self.sent += kind not in UNNUMBERED
        number = {"s" if kind in UNNUMBERED else "q": self.sent, "a": self.seen}
        self.link.send(pack({"t": kind, **fields, **number}, payload))

    def hear(self) -> tuple[Header, bytes]:
        return unpack(self.link.recv(SILENCE_MAX_S, decode=False))

    def receive(self) -> tuple[Header, bytes]:
        """The next frame that has a number."""
        while True:
            header, payload = self.hear()
            if header["t"] == "bye" or max(header.get("q", 0) - 1, header.get("s", 0)) > self.seen:
                raise ConnectionError(f"it has ended the session, or frames were lost: {header}")
            if header.get("q") == self.seen + 1:
                self.seen += 1
                self.send("ack")
                return header, payload

    def run(self, function: Any, calls: list[Header]) -> list[Any]:
        """Results and failures, in the order of the calls."""
        shipped = cloudpickle.dumps((function, {}, ()), protocol=5)
        names = {"function": hashlib.sha256(shipped).hexdigest(), "environment": "e1"}
        self.send("function", shipped, digest=names["function"], name=function.__name__)
        self.send("environment", environment="e1", files=[], variables={})
        rows = pickle.dumps([pickle.dumps(((), call), 5) for call in calls], 5)
        self.send("assign", rows, form="rows", batch=1, attempt=1, lo=0, hi=len(calls), **names)
        found: dict[int, Any] = {}
        while len(found) < len(calls):
            header, payload = self.receive()
            if header["t"] in ("returned", "environment-failed"):
                raise RuntimeError(f"calls were not run: {header}")
            if header["t"] == "done":
                found |= enumerate(outcomes(plain(payload)), header["lo"])
        return [found[number] for number in range(len(calls))]


def square(n: int) -> Any:
    if n == 13:
        raise ValueError(f"not {n}")
    return n * n if n % 2 else {"square": n * n}


if __name__ == "__main__":
    client = Client(sys.argv[1], int(sys.argv[2]), sys.stdin.read())
    print(*client.run(square, [{"n": n} for n in range(1000)]), sep="\n")
    client.send("bye")
    client.link.close()
