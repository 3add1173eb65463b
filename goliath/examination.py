"""Looking at a Lieutenant from here, step by step, and at this machine itself.

Each step is a fact that was looked for, and a check that `goliath.core.diagnosis` makes of it. What
a step needs of those before it is there, or it is not taken: whoever cannot be reached has no
clock. The Lieutenant answers in an ordinary session; no worker is needed, and nothing is
pickled.
"""

from __future__ import annotations

import asyncio
import importlib.util
import os
import platform
import resource
import shutil
import socket
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from goliath.config import TransportConfig
from goliath.core import diagnosis
from goliath.core.diagnosis import Check, Diagnosis, bad, doubtful, good
from goliath.errors import (
    AuthenticationError,
    ConnectionError,  # noqa: A004
    GoliathError,
    VersionMismatchError,
)
from goliath.machine import memory_groups
from goliath.transport import probing
from goliath.transport.address import Address
from goliath.transport.busy import BannedError, BusyError
from goliath.transport.channel import Channel
from goliath.transport.credentials import Credentials, running_here
from goliath.transport.handshake import Peer
from goliath.transport.keys import fingerprint_of, tls_binding
from goliath.transport.messages import AskStatus, Status, Vitals
from goliath.transport.questions import (
    PIECE_BYTES,
    Answers,
    compared,
    rate,
    round_trip,
)
from goliath.transport.token import TokenRefusedError
from goliath.transport.validity import valid_until
from goliath.transport.versions import package_versions

ROUND_TRIPS = 11  # the first ones wake whoever sleeps
THIS_MACHINE = "this machine"


class _Stop(Exception):  # noqa: N818 - nothing that comes after can be looked at
    """The last check says why there can be no further one."""


def examine(
    address: Address, credentials: Credentials, *, tls: str = "auto", timeout_s: float = 5.0
) -> Diagnosis:
    """Look at one Lieutenant.

    Args:
        address: of the Lieutenant.
        credentials: where the token is found.
        tls: ``"auto"`` or ``"ca"``, as for a Commander.
        timeout_s: the most that a step takes.
    """
    examination = _Examination(address, credentials, tls == "ca", timeout_s)
    with suppress(_Stop):
        examination.look()
    return examination.diagnosis


def examine_this_machine() -> Diagnosis:
    """Look at what a Lieutenant or a Commander would find here."""
    found = Diagnosis(THIS_MACHINE)
    found.checks = [
        good("python", f"Python {platform.python_version()}", python=platform.python_version()),
        good("packages", _listed(package_versions()), here=package_versions()),
        diagnosis.judge_shared_memory(_free_bytes("/dev/shm")),
        diagnosis.judge_descriptors(resource.getrlimit(resource.RLIMIT_NOFILE)[0]),
        _control_groups(),
        diagnosis.judge_certificate_maker(_certificate_maker()),
    ]
    return found


@dataclass(slots=True)
class _Examination:
    """One Lieutenant, and what was found out about it until now."""

    address: Address
    credentials: Credentials
    verify: bool
    timeout_s: float
    diagnosis: Diagnosis = field(init=False)

    def __post_init__(self) -> None:
        self.diagnosis = Diagnosis(str(self.address))

    def look(self) -> None:
        """Take one step after the other."""
        self._secure(self._connected())
        asyncio.run(self._talk())

    def _note(self, check: Check) -> None:
        self.diagnosis.checks.append(check)

    def _fail(self, name: str, error: object, advice: str) -> None:
        self._note(bad(name, str(error), advice))
        raise _Stop

    # -- the way there -------------------------------------------------------------------

    def _connected(self) -> socket.socket:
        """A connection to the Lieutenant, or through the proxy that the environment names."""
        from goliath.transport.road import proxy_for

        secure = self.credentials.scheme_for(self.address) == "wss"
        proxy = proxy_for(self.address) if secure else None
        if proxy is None:
            return self._reached(self.address.host, self.address.port)
        url = probing.proxy_place(proxy)
        sock = self._reached(*url)
        try:
            probing.tunnel(sock, proxy, self.address)
        except ConnectionError as exc:
            sock.close()
            advice = "it has to allow CONNECT to there, or NO_PROXY has to name the host"
            self._fail("proxy", f"the proxy {url[0]}:{url[1]} (HTTPS_PROXY): {exc}", advice)
        self._note(good("proxy", f"through {url[0]}:{url[1]} (HTTPS_PROXY)", proxy=url[0]))
        return sock

    def _reached(self, host: str, port: int) -> socket.socket:
        try:
            places = probing.resolve(host, port)
        except ConnectionError as exc:
            self._fail("name", exc, "is it spelled right? `getent hosts NAME` asks the same")
        said = ", ".join(map(str, places))
        self._note(good("name", said, host=host, addresses=[str(place) for place in places]))
        open_socket: socket.socket | None = None
        times_s: dict[str, float | None] = {}
        errors: dict[str, str] = {}
        for place in places:
            try:
                sock, times_s[str(place)] = probing.connect(place, self.timeout_s)
            except ConnectionError as exc:
                times_s[str(place)], errors[str(place)] = None, str(exc)
                continue
            if open_socket is None:
                open_socket = sock
            else:
                sock.close()
        running = running_here() if self.address.loopback else []
        self.diagnosis.checks += diagnosis.judge_connections(times_s, errors, running)
        if open_socket is None:
            raise _Stop
        return open_socket

    def _secure(self, sock: socket.socket) -> None:
        with closing(sock):
            if self.credentials.scheme_for(self.address) == "ws":
                return self._note(self._unencrypted())
            try:
                facts = probing.shake(sock, self.address.host, verify=self.verify)
            except ConnectionError as exc:
                advice = (
                    "renew it, or have this machine trust who signed it (SSL_CERT_FILE); or leave "
                    "--tls ca out, if no proxy ends the TLS there: a Lieutenant's own certificate "
                    "is proved by the token"
                    if "not trusted" in str(exc)
                    else "another program may listen there, or too many are at its door; if the "
                    f"Lieutenant was started with --insecure-plaintext, say ws://{self.address}"
                )
                self._fail("tls", exc, advice)
        try:
            pinned = self.credentials.pin_for(self.address)
        except AuthenticationError as exc:
            self._fail("tls", exc, "without it, it is not known which certificate is the right one")
        self._note(
            diagnosis.judge_certificate(
                version=facts.version,
                shown=fingerprint_of(tls_binding(facts.certificate)),
                pinned="" if self.verify else pinned,
                vouched=self.verify,
                days_left=_days_left(facts.certificate),
            )
        )
        if not self.diagnosis.usable:
            raise _Stop
        return None

    def _unencrypted(self) -> Check:
        if self.address.loopback:
            return good("tls", "none, and nothing leaves this machine", version="")
        return doubtful(
            "tls",
            "none: whoever is on the way can read what is sent",
            f"start the Lieutenant without --insecure-plaintext, and say wss://{self.address}",
            version="",
        )

    # -- the session ---------------------------------------------------------------------

    async def _talk(self) -> None:
        from goliath.transport.visit import visiting

        config = replace(
            TransportConfig.from_environ(),
            connect_timeout_s=self.timeout_s,
            handshake_max_s=self.timeout_s,
        )
        answers = Answers(self.timeout_s)
        try:
            async with visiting(
                self.address,
                self.credentials,
                answers,
                config,
                tls="ca" if self.verify else "auto",
                on_reached=self._note_websocket,
            ) as (channel, peer):
                shown = f", who shows {peer.certificate[:23]}…" if peer.certificate else ""
                self._note(good("token", f"proved by both{shown}"))
                self.diagnosis.limits = _limits_of(peer)
                await self._ask(channel, answers, peer)
        except (GoliathError, OSError) as exc:
            step = next(name for name, step in _STEPS.items() if not self._passed(step))
            self._fail(*_what_failed(step, exc))

    def _passed(self, step: str) -> bool:
        return any(check.name == step for check in self.diagnosis.checks)

    def _note_websocket(self) -> None:
        if not self._passed("websocket"):  # a session that has ended is begun again
            self._note(good("websocket", "open"))

    async def _ask(self, channel: Channel, answers: Answers, peer: Peer) -> None:
        vitals, skew_s, uncertain_s = await compared(channel, answers)
        here = platform.python_version()
        both = f"Python {here} here, {vitals.python} there"
        self._note(good("versions", both, here=here, there=vitals.python))
        theirs = {str(name): str(version) for name, version in vitals.packages.items()}
        self._note(diagnosis.judge_packages(package_versions(), theirs))
        self._note(diagnosis.judge_clock(skew_s, uncertain_s))
        times_s = [await round_trip(channel, answers) for _ in range(ROUND_TRIPS)]
        self._note(diagnosis.judge_round_trip(times_s))
        typical_s = sorted(times_s)[ROUND_TRIPS // 2]
        up = await rate(channel, answers, typical_s, 0, os.urandom(PIECE_BYTES))
        down = await rate(channel, answers, typical_s, PIECE_BYTES, b"")
        self._note(diagnosis.judge_bandwidth(up, down))
        channel.send(AskStatus())
        status = await answers.next(Status)
        # Those that are enforced on the node, if it is of a release that tells them.
        self.diagnosis.limits += [dict(limit) for limit in status.limits]
        self._note(diagnosis.judge_node(_state_of(peer, status, vitals)))


def _days_left(certificate: bytes) -> float | None:
    """How long it is valid; None if that cannot be read."""
    try:
        return (valid_until(certificate) - datetime.now(UTC)).total_seconds() / 86_400
    except ValueError:
        return None


def _what_failed(step: str, error: Exception) -> tuple[str, Exception, str]:
    """The check, what it says, and what to do."""
    match error:
        case TokenRefusedError():
            return "token", error, _REFUSED_ADVICE
        case AuthenticationError():
            return "token", error, _TOKEN_ADVICE
        case BannedError():
            return "token", error, _BANNED_ADVICE
        case VersionMismatchError():
            return "versions", error, _VERSIONS_ADVICE
        case BusyError():
            return step, error, _BUSY_ADVICE
        case _ if step == "websocket" and isinstance(error.__cause__, TimeoutError):
            return step, error, _SILENT_ADVICE
        case _:
            return step, error, _STEP_ADVICE[step]


_REFUSED_ADVICE = (
    "it is mistyped, of another Lieutenant, or was revoked: ask whoever runs it, who sees "
    "refusals in its log, and names with `goliath token list`; then `goliath login ADDRESS`, "
    "token_file= or GOLIATH_TOKEN_FILE (here: --token-file)"
)
_TOKEN_ADVICE = (
    "whoever runs the Lieutenant has it, or makes you one (`goliath token new --name YOU`); then "
    "`goliath login ADDRESS`, token_file= or GOLIATH_TOKEN_FILE (here: --token-file)"
)
_BANNED_ADVICE = (
    "wait, and then use the right token: ten wrong logins in a minute shut the door for all who "
    "share an address. Its log says who was refused"
)
_BUSY_ADVICE = (
    "try again later; on its machine, raise the limit of open files (`ulimit -n`), or give it "
    "fewer WORKERS"
)
_SILENT_ADVICE = (
    "something takes the connection there and does not answer: if it is a Lieutenant, its process "
    "is stopped, or its machine much too busy; look at it there, and start it again if need be"
)
_VERSIONS_ADVICE = (
    "no function can be sent there, and no result read here, until both ends have the same minor "
    "version of Python, and releases of Goliath that understand each other"
)
_STEPS = {"websocket": "websocket", "login": "token", "session": ""}
"""What has failed, if the check of this name was not made."""

_STEP_ADVICE = {
    "websocket": "a Lieutenant answers websockets at this port: see what listens there, and "
    "whether a proxy before it passes `Upgrade` on",
    "login": "if it does not say so itself: another program may listen there, or something between "
    "changes what is sent",
    "session": "it was there and is not any more, or is of an older release and does not know the "
    "question: see its log, and try again",
}


def _limits_of(peer: Peer) -> list[dict[str, Any]]:
    """What the welcome says."""
    units = {"slots": "calls", "session_kill_s": "s"}
    return [
        {"name": name, "amount": amount, "unit": units[name], "enforced_by": "goliath", "why": ""}
        for name, amount in peer.limits.items()
        if name in units
    ]


def _state_of(peer: Peer, status: Status, vitals: Vitals) -> dict[str, Any]:
    workers = peer.limits.get("slots")
    return {
        "workers": workers if type(workers) is int else status.slots,
        "busy": status.busy,
        "queued": status.queued,
        "processes": status.processes,
        "draining": status.draining,
        "memory_bytes": vitals.memory,
        "memory_free_bytes": vitals.memory_free,
        "platform": vitals.platform,
    }


# -- this machine --------------------------------------------------------------------------


def _listed(versions: dict[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in versions.items())


def _free_bytes(path: str) -> int | None:
    try:
        found = os.statvfs(path)
    except OSError:
        return None
    return found.f_bavail * found.f_frsize


def _control_groups() -> Check:
    groups = memory_groups()
    path = str(groups[0]) if groups else ""
    return diagnosis.judge_control_groups(path, writable=bool(path) and os.access(path, os.W_OK))


def _certificate_maker() -> str:
    if importlib.util.find_spec("cryptography") is not None:
        return "the cryptography package"
    return shutil.which("openssl") or ""
