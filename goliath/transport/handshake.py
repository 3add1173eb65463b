"""Mutual proof of the token before anything else is said, without I/O and without dice.

::

    token = "glt1_" + base64url(32 random bytes)
    kid, Kc, Ks = HKDF-SHA256(token; "goliath kid" | "goliath client mac" | "goliath server mac")

    C→S  hello      JSON {t, v, kid, nc, proto, bind, client_id, py, cloudpickle, for, last_session,
                          zstd, span}
    S→C  challenge  JSON {t, v, ns, proto}
    C→S  proof      HMAC(Kc, lp("client") lp(th) lp(body)) + body
    S→C  welcome    HMAC(Ks, lp("server") lp(th) lp(body)) + body

    th = SHA256(lp("goliath-auth-v1") lp(hello) lp(challenge) lp(binding))

``lp`` puts a 4-byte big-endian length before its argument; a MAC is 32 raw bytes; a body is
JSON. Everything either side says is under a MAC, as raw bytes, so no two spellings of
one message are both accepted. The client proves first: a server's proof must not be an
oracle for strangers.

The client is whoever asks to be let in, and ``for`` says to what: ``["session"]`` is a Commander's
wish for a session with a Lieutenant. Who has dialed whom is of no account here.

The binding (`keys`) ties the proof to the connection, so that it cannot be relayed. The client
names in ``bind`` which one it used, and the server takes that if it is true of itself. ``zstd``:
payload may be compressed, if the welcome says so, too. ``span`` has both ends of a connection
within the machine: if the server has the same from the other side, frames need no checksums.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Any

import orjson

from goliath.errors import AuthenticationError, ConnectionError, ProtocolError  # noqa: A004
from goliath.record import frozen
from goliath.transport.keys import (
    MAC_BYTES,
    NONCE_BYTES,
    Keyring,
    Keys,
    seal,
    sealed_by,
    transcript,
)
from goliath.transport.protocol import VERSION as SESSION_VERSION
from goliath.transport.token import Token
from goliath.transport.versions import Versions

HANDSHAKE_VERSION = 1
WELCOME_MAX_BYTES = 16 * 1024  # it comes from whom the user chose to call, and lists resources
REFUSED = "authentication failed"
"""All a refused client is told, whatever was wrong."""


@frozen
class Peer:
    """Who is at the other end of a session.

    ``server_id``, ``incarnation`` and ``limits`` (``slots``, ``name``, ``resources``, …) are
    the Lieutenant's; ``client_id`` is the Commander's own random name, and ``kid`` names the token
    that it has proved, on the Lieutenant's side. On the Commander's, ``rtt_s`` is how long a
    message and its answer took, and ``certificate`` the fingerprint of the one that was proved with
    the token; empty without one.
    """

    address: str
    session_id: str
    incarnation: int
    server_id: str
    client_id: str
    python: str
    cloudpickle: str
    limits: Mapping[str, Any] = field(default_factory=dict)
    kid: str = ""
    rtt_s: float = 0.0
    certificate: str = ""


KILLS_AFTER = "session_kill_s"
"""Among the limits: when the Lieutenant kills a silent session's work, in seconds."""

MESSAGE_MAX = "message_max_bytes"
"""Among the limits: how big one message may be, arguments or results of a batch, in bytes."""


SESSION = "session"
"""The wish of a Commander: to have work done."""


@frozen
class Ticket:
    """A session that was granted before and should be taken up again."""

    session_id: str
    incarnation: int


# -- the client ------------------------------------------------------------------------


@frozen
class Welcome:
    """What a Lieutenant that has proved itself says."""

    server_id: str
    incarnation: int
    session_id: str
    resumed: bool
    seen: int
    python: str
    cloudpickle: str
    limits: Mapping[str, Any]
    zstd: bool = False
    sums: bool = True


class ClientHandshake:
    """The half of whoever asks: `hello`, `prove`, then `finish` or, without a session, `heed`.

    Args:
        token: the secret to prove.
        binding: of the connection, see the module.
        nonce: 32 fresh random bytes.
        client_id: the client's own random name.
        versions: of this Python and its libraries.
        wish: what it has come for, and whatever has to be said of that.
        ticket: the session to take up again, if there is one.
        seen: the last frame seen in it.
        zstd: whether payload may be compressed on this connection.
        span: its ends, if it is within the machine.
    """

    def __init__(
        self,
        token: Token,
        binding: str,
        *,
        nonce: bytes,
        client_id: str,
        versions: Versions,
        wish: tuple[str, ...] = (SESSION,),
        ticket: Ticket | None = None,
        seen: int = 0,
        zstd: bool = False,
        span: str = "",
    ) -> None:
        self._keys = Keys.of(token)
        self._binding = binding
        self._versions = versions
        self._seen = seen
        self._zstd = zstd
        self._span = span
        self._th = b""
        self._hello = orjson.dumps(
            {
                "t": "hello",
                "v": HANDSHAKE_VERSION,
                "kid": self._keys.kid,
                "nc": nonce.hex(),
                "proto": SESSION_VERSION,
                "bind": binding,
                "client_id": client_id,
                "py": versions.python,
                "cloudpickle": versions.cloudpickle,
                "for": wish,
                "last_session": ticket and [ticket.session_id, ticket.incarnation],
                "zstd": zstd,
                "span": span,
            }
        )

    def hello(self) -> bytes:
        """The first message."""
        return self._hello

    def prove(self, challenge: bytes) -> bytes:
        """The answer to a challenge.

        Raises:
            ProtocolError: it is none.
            VersionMismatchError: of another handshake or session protocol.
        """
        fields = _fields(challenge, {"t": str, "v": int, "ns": str, "proto": int})
        if fields["t"] != "challenge":
            raise ProtocolError(f"a challenge was expected, not {fields['t']!r}")
        self._versions.check_protocol("handshake", HANDSHAKE_VERSION, fields["v"])
        self._th = transcript(self._hello, challenge, self._binding)
        return seal(self._keys.client, b"client", self._th, {"seen": self._seen})

    def finish(self, welcome: bytes) -> Welcome:
        """Check the server's proof and read what it grants.

        Raises:
            AuthenticationError: it could not prove that it has the token.
            VersionMismatchError: it refuses this Python or this protocol.
            ConnectionError: it is draining and takes no new session.
        """
        body = self._proved(welcome)
        self._versions.check_protocol("session", SESSION_VERSION, body["proto"])
        self._versions.check_python(body["py"])
        if body["refused"]:
            raise ConnectionError(f"the Lieutenant takes no new session: {body['refused']}")
        return _read_welcome(welcome[MAC_BYTES:], zstd=self._zstd, within=bool(self._span))

    def heed(self, welcome: bytes) -> None:
        """Check the server's proof, and whether it grants a wish that is not for a session.

        Raises:
            AuthenticationError: it could not prove that it has the token.
            ConnectionError: it refuses; the message says why.
        """
        refused = self._proved(welcome)["refused"]
        if refused:
            raise ConnectionError(refused)

    def _proved(self, welcome: bytes) -> dict[str, Any]:
        if not sealed_by(self._keys.server, b"server", self._th, welcome):
            raise AuthenticationError(
                "the Lieutenant could not prove that it has the token: another program may be "
                "listening in its place; nothing was sent to it"
            )
        return _fields(welcome[MAC_BYTES:], {"refused": str, "py": str, "proto": int})


def _read_welcome(body: bytes, *, zstd: bool, within: bool) -> Welcome:
    fields = _fields(
        body,
        {
            "server_id": str,
            "incarnation": int,
            "session": str,
            "resumed": bool,
            "seen": int,
            "py": str,
            "cloudpickle": str,
            "limits": dict,
        },
    )
    return Welcome(
        server_id=fields["server_id"],
        incarnation=fields["incarnation"],
        session_id=fields["session"],
        resumed=fields["resumed"],
        seen=fields["seen"],
        python=fields["py"],
        cloudpickle=fields["cloudpickle"],
        limits=fields["limits"],
        zstd=zstd and fields.get("zstd") is True,
        sums=not within or fields.get("sums") is not False,
    )


# -- the server ------------------------------------------------------------------------


@frozen
class Caller:
    """What a client said of itself, and proved; ``wish`` begins with what it has come for."""

    kid: str
    client_id: str
    python: str
    cloudpickle: str
    protocol: int
    ticket: Ticket | None
    seen: int
    wish: tuple[str, ...] = (SESSION,)
    zstd: bool = False
    span: str = ""


class ServerHandshake:
    """The half of whoever is asked: `challenge`, `verify`, then `welcome`, `grant` or `refuse`.

    Args:
        keyring: the tokens it accepts.
        bindings: what is true of this connection, the usual one first.
        nonce: 32 fresh random bytes.
        versions: of this Python and its libraries.

    Once the client is verified, ``binding`` is the one that both have used.
    """

    def __init__(
        self, keyring: Keyring, bindings: tuple[str, ...], *, nonce: bytes, versions: Versions
    ) -> None:
        self._keyring = keyring
        self._bindings = bindings
        self._nonce = nonce
        self._versions = versions
        self._said: Mapping[str, Any] = {}
        self._keys: Keys | None = None
        self._known = False
        self._th = b""
        self.binding = ""

    def challenge(self, hello: bytes) -> bytes:
        """The answer to a hello.

        Raises:
            ProtocolError: it is none.
        """
        said = _fields(
            hello,
            {
                "t": str,
                "v": int,
                "kid": str,
                "nc": str,
                "proto": int,
                "bind": str,
                "client_id": str,
                "py": str,
                "cloudpickle": str,
            },
        )
        if said["t"] != "hello" or len(said["nc"]) != 2 * NONCE_BYTES:
            raise ProtocolError("a hello was expected")
        self._said = said
        self._keys, self._known = self._keyring.find(said["kid"])
        challenge = orjson.dumps(
            {
                "t": "challenge",
                "v": HANDSHAKE_VERSION,
                "ns": self._nonce.hex(),
                "proto": SESSION_VERSION,
            }
        )
        claimed = said["bind"]
        self.binding = claimed if claimed in self._bindings else self._bindings[0]
        self._th = transcript(hello, challenge, self.binding)
        return challenge

    def verify(self, proof: bytes) -> Caller:
        """Check the client's proof.

        Raises:
            AuthenticationError: wrong token, wrong binding, or tampered with.
            ProtocolError: proved, but nonsense.
        """
        assert self._keys is not None, "verify() comes after challenge()"
        # The comparison comes first, so that an unknown token costs as much as a wrong one.
        if not sealed_by(self._keys.client, b"client", self._th, proof) or not self._known:
            raise AuthenticationError(REFUSED)
        seen = _fields(proof[MAC_BYTES:], {"seen": int})["seen"]
        said = self._said
        return Caller(
            kid=said["kid"],
            client_id=said["client_id"],
            python=said["py"],
            cloudpickle=said["cloudpickle"],
            protocol=said["proto"],
            ticket=_ticket(said.get("last_session")),
            seen=seen,
            wish=_wish(said.get("for", [SESSION])),
            zstd=said.get("zstd") is True,
            span=str(said.get("span", "")),
        )

    def compatible(self, caller: Caller) -> bool:
        """Whether functions can be exchanged with the caller."""
        return caller.protocol == SESSION_VERSION and self._versions.same_python(caller.python)

    def welcome(
        self,
        *,
        server_id: str,
        incarnation: int,
        session_id: str,
        resumed: bool,
        seen: int,
        limits: Mapping[str, Any],
        zstd: bool = False,
        sums: bool = True,
    ) -> bytes:
        """The last message: this side's proof, and the session that is granted."""
        return self._sealed(
            refused="",
            server_id=server_id,
            incarnation=incarnation,
            session=session_id,
            resumed=resumed,
            seen=seen,
            limits=dict(limits),
            zstd=zstd,
            sums=sums,
        )

    def grant(self) -> bytes:
        """The last message to a caller whose wish was not for a session: this side's proof."""
        return self._sealed(refused="")

    def refuse(self, reason: str) -> bytes:
        """The last message to a caller that has the token and is not let in all the same."""
        return self._sealed(refused=reason)

    def _sealed(self, **body: Any) -> bytes:
        assert self._keys is not None, "an answer comes after verify()"
        assert self._known, "nothing is proved to strangers"
        body |= {
            "py": self._versions.python,
            "cloudpickle": self._versions.cloudpickle,
            "proto": SESSION_VERSION,
        }
        return seal(self._keys.server, b"server", self._th, body)


def _ticket(said: object) -> Ticket | None:
    match said:
        case [str(session_id), int(incarnation)]:
            return Ticket(session_id, incarnation)
        case _:
            return None


def _wish(said: object) -> tuple[str, ...]:
    """Raises: ProtocolError."""
    if not isinstance(said, list) or not said or not all(type(word) is str for word in said):
        raise ProtocolError("what a hello is for is not said in words")
    return tuple(said)


def _fields(message: bytes, types: Mapping[str, type]) -> dict[str, Any]:
    """The JSON object of a message with fields of these types (others are ignored)."""
    try:
        fields = orjson.loads(message)
    except orjson.JSONDecodeError as exc:
        raise ProtocolError("a login message is not JSON") from exc
    if not isinstance(fields, dict):
        raise ProtocolError("a login message is not a JSON object")
    for name, kind in types.items():
        if type(fields.get(name)) is not kind:
            raise ProtocolError(f"a login message has no {kind.__name__} {name!r}")
    return fields
