"""The test vectors of ``docs/protocol.md``, made by the code as it is.

``python -m tests.transport.vectors`` prints them.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from goliath.config import TransportConfig
from goliath.transport.handshake import ClientHandshake, ServerHandshake, Ticket
from goliath.transport.keys import Keyring, Keys, ca_binding, plain_binding, tls_binding, transcript
from goliath.transport.message import Message
from goliath.transport.messages import AssignBatch, CancelBatch, RangeDone
from goliath.transport.protocol import SessionProtocol, Side
from goliath.transport.token import Token
from goliath.transport.versions import Versions

TOKEN = Token(bytes(range(32)))
VERSIONS = Versions("3.12", "3.1.2")
CERTIFICATE = b"a certificate, in DER"
CHUNK_BYTES = 64


def vectors() -> dict[str, Any]:
    """All of them. Text is text, bytes are in hexadecimal."""
    return {
        "keys": _keys(),
        "bindings": _bindings(),
        "login": _login(),
        "frames": _frames(),
        "parts": _parts(),
    }


def _keys() -> dict[str, str]:
    keys = Keys.of(TOKEN)
    return {
        "token": TOKEN.reveal(),
        "kid": keys.kid,
        "client key": keys.client.hex(),
        "server key": keys.server.hex(),
    }


def _bindings() -> dict[str, str]:
    return {
        "certificate": CERTIFICATE.hex(),
        "of that certificate": tls_binding(CERTIFICATE),
        "of port 8080 on loopback": plain_binding(8080, loopback=True),
        "of port 8080 elsewhere": plain_binding(8080, loopback=False),
        "of Lab.Example.org behind a proxy": ca_binding("Lab.Example.org"),
    }


def _login() -> dict[str, str]:
    binding = plain_binding(8080, loopback=True)
    near = ClientHandshake(
        TOKEN,
        binding,
        nonce=bytes(range(32, 64)),
        client_id="c1",
        versions=VERSIONS,
        ticket=Ticket("s1", 7),
        seen=12,
    )
    keyring = Keyring([TOKEN], decoy=Token(bytes(range(1, 33))))
    far = ServerHandshake(keyring, (binding,), nonce=bytes(range(64, 96)), versions=VERSIONS)
    hello = near.hello()
    challenge = far.challenge(hello)
    proof = near.prove(challenge)
    far.verify(proof)
    welcome = far.welcome(
        server_id="l1",
        incarnation=7,
        session_id="s1",
        resumed=True,
        seen=34,
        limits={"slots": 2, "resources": {}, "session_kill_s": 60.0},
    )
    return {
        "binding": binding,
        "hello": hello.decode(),
        "challenge": challenge.decode(),
        "th": transcript(hello, challenge, binding).hex(),
        "proof": proof.hex(),
        "welcome": welcome.hex(),
    }


def _end(config: TransportConfig | None = None, *, checksum: bool) -> SessionProtocol:
    end = SessionProtocol(Side.COMMANDER, "a node", config or TransportConfig(), 0.0)
    end.link_made(0, proved_at=0.0, now=0.0, checksum=checksum)
    return end


def _left(end: SessionProtocol) -> list[str]:
    frames = []
    while (frame := end.next_frame(0.0)) is not None:
        frames.append(frame.hex())
    return frames


def _sent(*messages: Message, checksum: bool = True) -> list[str]:
    end = _end(checksum=checksum)
    for message in messages:
        end.send(message)
    return _left(end)


def _frames() -> dict[str, str]:
    batch = AssignBatch(
        1, 1, 0, 3, "f" * 64, "e", "rows", timeout_s=1.5, resources={"disk": 1.0}, payload=b"calls"
    )
    pinging = _end(checksum=True)
    pinging.handle_timer(TransportConfig().ping_interval_s)
    return {
        "assign, the first frame of a session": _sent(batch)[0],
        "cancel, which has overtaken it": _sent(batch, CancelBatch(1, 1))[0],
        "assign, under TLS": _sent(batch, checksum=False)[0],
        "ping": _left(pinging)[0],
    }


def _parts() -> dict[str, Any]:
    """A message that is cut, as if a chunk had 64 bytes."""
    message = RangeDone(1, 1, 0, 2, 250, payload=b"outcomes" * 4)
    end = _end(TransportConfig(chunk_bytes=CHUNK_BYTES), checksum=True)
    end.send(message)
    return {"whole": _sent(message)[0], "in parts of 64 bytes": _left(end)}


if __name__ == "__main__":
    json.dump(vectors(), sys.stdout, indent=2)
    sys.stdout.write("\n")
