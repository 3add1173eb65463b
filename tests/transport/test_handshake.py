"""The login: who has the token gets in, and nobody else, whatever they change or repeat."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import orjson
import pytest
from hypothesis import given, settings, strategies as st

from goliath.errors import (
    AuthenticationError,
    ConnectionError as NoConnection,
    GoliathError,
    ProtocolError,
    VersionMismatchError,
)
from goliath.transport.credentials import Token
from goliath.transport.handshake import (
    REFUSED,
    Caller,
    ClientHandshake,
    ServerHandshake,
    Ticket,
    Welcome,
)
from goliath.transport.keys import (
    Keyring,
    Keys,
    ca_binding,
    plain_binding,
    seal,
    tls_binding,
    transcript,
)
from goliath.transport.versions import Versions

TOKEN = Token(bytes(range(32)))
OTHER = Token(bytes(range(1, 33)))
DECOY = Token(bytes(range(2, 34)))
VERSIONS = Versions("3.11", "3.1.2")
TLS = tls_binding(b"the certificate")


def client(
    token: Token = TOKEN, binding: str = TLS, nonce: bytes = b"c" * 32, **options: object
) -> ClientHandshake:
    return ClientHandshake(
        token,
        binding,
        nonce=nonce,
        client_id="me",
        versions=options.pop("versions", VERSIONS),  # type: ignore[arg-type]
        **options,  # type: ignore[arg-type]
    )


def server(
    *tokens: Token, binding: str = TLS, nonce: bytes = b"s" * 32, versions: Versions = VERSIONS
) -> ServerHandshake:
    keyring = Keyring(tokens or [TOKEN], DECOY)
    return ServerHandshake(keyring, (binding,), nonce=nonce, versions=versions)


def welcome_of(far: ServerHandshake, **granted: bool) -> bytes:
    return far.welcome(
        server_id="there",
        incarnation=7,
        session_id="s1",
        resumed=False,
        seen=3,
        limits={"slots": 2},
        **granted,
    )


def test_payload_is_compressed_only_if_both_ends_say_so():
    for offered in (True, False):
        for granted in (True, False):
            near, far = client(zstd=offered), server()
            caller = far.verify(near.prove(far.challenge(near.hello())))
            said = welcome_of(far, zstd=granted)
            # A Lieutenant that grants what was not asked for does not change the Commander's mind.
            assert caller.zstd is offered
            assert near.finish(said).zstd is (offered and granted)


def test_checksums_are_left_out_only_if_neither_end_sees_a_need():
    for needed_there in (True, False):
        for span in ("", "127.0.0.1:5 127.0.0.1:6"):
            near, far = client(span=span), server()
            caller = far.verify(near.prove(far.challenge(near.hello())))
            said = welcome_of(far, sums=needed_there)
            assert caller.span == span
            assert near.finish(said).sums is (not span or needed_there)


def test_whoever_says_nothing_of_checksums_needs_them():
    near, far = client(span="127.0.0.1:5 127.0.0.1:6"), server()
    said = orjson.loads(near.hello())
    del said["span"]
    hello = orjson.dumps(said)
    th = transcript(hello, far.challenge(hello), TLS)
    assert far.verify(seal(Keys.of(TOKEN).client, b"client", th, {"seen": 0})).span == ""
    challenge = server().challenge(near.hello())
    near.prove(challenge)
    th = transcript(near.hello(), challenge, TLS)
    body = orjson.loads(welcome_of(far)[hashlib.sha256().digest_size :])
    del body["sums"]
    assert near.finish(seal(Keys.of(TOKEN).server, b"server", th, body)).sums is True


Change = Callable[[bytes], bytes]


@dataclass
class Login:
    """One login, message by message, with someone in the middle who may change each."""

    near: ClientHandshake
    far: ServerHandshake
    caller: Caller | None = None
    said: Welcome | None = None
    messages: list[bytes] = field(default_factory=list)

    def run(self, *changes: Change) -> Login:
        def change(number: int, message: bytes) -> bytes:
            self.messages.append(message)
            return changes[number](message) if number < len(changes) else message

        challenge = self.far.challenge(change(0, self.near.hello()))
        proof = self.near.prove(change(1, challenge))
        self.caller = self.far.verify(change(2, proof))
        self.said = self.near.finish(change(3, welcome_of(self.far)))
        return self


def same(message: bytes) -> bytes:
    return message


def test_whoever_has_the_token_gets_in_and_both_learn_who_the_other_is():
    ticket = Ticket("s0", 6)
    login = Login(client(ticket=ticket, seen=12), server(OTHER, TOKEN)).run()
    assert login.caller == Caller(
        kid=Keys.of(TOKEN).kid,
        client_id="me",
        python="3.11",
        cloudpickle="3.1.2",
        protocol=1,
        ticket=ticket,
        seen=12,
    )
    assert login.said == Welcome("there", 7, "s1", False, 3, "3.11", "3.1.2", {"slots": 2})


def test_a_wrong_token_is_refused():
    with pytest.raises(AuthenticationError, match=f"^{REFUSED}$"):
        Login(client(OTHER), server()).run()


def test_a_wish_that_is_not_for_a_session_is_proved_granted_and_refused_likewise():
    near, far = client(wish=("join", "lab1")), server()
    caller = far.verify(near.prove(far.challenge(near.hello())))
    assert caller.wish == ("join", "lab1")
    near.heed(far.grant())
    with pytest.raises(NoConnection, match="it is full"):
        near.heed(far.refuse("it is full"))
    with pytest.raises(AuthenticationError):
        near.heed(bytes(32) + b"{}")


def test_another_wish_than_was_said_is_refused():
    def forge(hello: bytes) -> bytes:
        return orjson.dumps(orjson.loads(hello) | {"for": ["join", "lab1"]})

    with pytest.raises(AuthenticationError):
        Login(client(), server()).run(forge)


@pytest.mark.parametrize("wish", [[], "session", [1], {}])
def test_a_wish_that_is_not_in_words_is_refused(wish: object):
    far = server()
    hello = orjson.dumps(orjson.loads(client().hello()) | {"for": wish})
    challenge = far.challenge(hello)
    th = transcript(hello, challenge, TLS)
    with pytest.raises(ProtocolError, match="not said in words"):
        far.verify(seal(Keys.of(TOKEN).client, b"client", th, {"seen": 0}))


def test_the_decoy_lets_nobody_in():
    with pytest.raises(AuthenticationError, match=f"^{REFUSED}$"):
        Login(client(DECOY), server()).run()


def test_a_relay_with_another_certificate_is_refused():
    with pytest.raises(AuthenticationError):
        Login(client(binding=tls_binding(b"of the relay")), server()).run()


def test_a_relay_to_another_port_is_refused():
    near = client(binding=plain_binding(8081, loopback=True))
    with pytest.raises(AuthenticationError):
        Login(near, server(binding=plain_binding(8080, loopback=True))).run()


def test_a_client_that_trusted_a_certificate_authority_says_so_and_for_which_name():
    far = server(binding=ca_binding("Lab.example.org"))
    assert Login(client(binding=ca_binding("lab.example.org")), far).run().said is not None
    for binding in (TLS, plain_binding(8080, loopback=True)):
        near = client(binding=ca_binding("lab.example.org"))
        with pytest.raises(AuthenticationError):
            Login(near, server(binding=binding)).run()


def test_a_server_without_the_token_cannot_welcome():
    near = client()
    challenge = server(OTHER).challenge(near.hello())
    near.prove(challenge)
    forged = server(OTHER)
    login = Login(client(OTHER), forged)
    login.caller = forged.verify(login.near.prove(forged.challenge(login.near.hello())))
    with pytest.raises(AuthenticationError, match="could not prove"):
        near.finish(welcome_of(forged))


def test_a_proof_reflected_as_a_welcome_is_refused():
    near = client()
    proof = near.prove(server().challenge(near.hello()))
    with pytest.raises(AuthenticationError, match="could not prove"):
        near.finish(proof)


def test_a_proof_cannot_be_replayed_to_a_fresh_challenge():
    near = client()
    old = server()
    proof = near.prove(old.challenge(near.hello()))
    old.verify(proof)
    fresh = server(nonce=b"t" * 32)
    fresh.challenge(near.hello())
    with pytest.raises(AuthenticationError):
        fresh.verify(proof)


def test_a_welcome_cannot_be_replayed_to_a_fresh_hello():
    login = Login(client(), server())
    login.run()
    recorded_challenge = login.far.challenge(login.near.hello())
    recorded_welcome = welcome_of(login.far)
    fresh = client(nonce=b"d" * 32)
    fresh.prove(recorded_challenge)
    with pytest.raises(AuthenticationError):
        fresh.finish(recorded_welcome)


@pytest.mark.parametrize("number", range(4))
def test_no_message_with_any_bit_flipped_is_accepted(number: int):
    length = [len(client().hello()), 150, 45, 200][number]
    accepted = []
    for position in range(length):
        for bit in range(8):

            def flip(message: bytes, at: int = position, mask: int = 1 << bit) -> bytes:
                changed = bytearray(message)
                changed[at % len(changed)] ^= mask
                return bytes(changed)

            try:
                Login(client(), server()).run(*[same] * number, flip)
            except GoliathError:
                continue
            accepted.append((position, bit))
    assert accepted == []


@given(st.integers(0, 3), st.binary(max_size=300))
@settings(deadline=None)
def test_random_messages_are_typed_errors(number: int, data: bytes):
    with pytest.raises((ProtocolError, AuthenticationError, VersionMismatchError)):
        Login(client(), server()).run(*[same] * number, lambda _: data)


@pytest.mark.parametrize(
    "hello",
    [
        {},
        [],
        {"t": "hello"},
        {"t": "hello", "v": 1, "kid": 5},
        {"t": "proof", "v": 1},
    ],
)
def test_a_hello_that_is_none_is_a_protocol_error(hello: object):
    with pytest.raises(ProtocolError):
        server().challenge(orjson.dumps(hello))


def test_another_python_is_named_to_the_client_after_it_proved_itself():
    near, far = client(), server(versions=replace(VERSIONS, python="3.12"))
    caller = far.verify(near.prove(far.challenge(near.hello())))
    assert not far.compatible(caller)
    with pytest.raises(VersionMismatchError, match=r"this is Python 3\.11 .* runs Python 3\.12"):
        near.finish(far.refuse("versions"))


def test_another_handshake_version_is_named_to_the_client():
    challenge = orjson.dumps({"t": "challenge", "v": 2, "ns": "00" * 32, "proto": 1})
    with pytest.raises(VersionMismatchError, match="version 1 of the handshake protocol"):
        client().prove(challenge)


def test_a_draining_lieutenant_says_so():
    near, far = client(), server()
    far.verify(near.prove(far.challenge(near.hello())))
    with pytest.raises(GoliathError, match="takes no new session: it is draining"):
        near.finish(far.refuse("it is draining"))


def test_nothing_is_proved_to_a_stranger():
    near, far = client(OTHER), server()
    far.challenge(near.hello())
    with pytest.raises(AssertionError, match="strangers"):
        far.refuse("")


def test_every_message_of_a_login_is_under_one_kibibyte():
    near, far = client(ticket=Ticket("f" * 32, 2**48), seen=2**50), server()
    hello = near.hello()
    challenge = far.challenge(hello)
    assert max(map(len, (hello, challenge, near.prove(challenge)))) < 1024


def test_the_derivation_is_rfc_5869():
    prk = hmac.new(bytes(32), TOKEN.secret, hashlib.sha256).digest()
    kid = hmac.new(prk, b"goliath kid\x01", hashlib.sha256).digest()[:8]
    assert Keys.of(TOKEN).kid == kid.hex()
    assert "client" not in repr(Keys.of(TOKEN))
