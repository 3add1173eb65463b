"""The faults of `test_links` once more, on a wire of the kernel's own and over TLS: packets that
nobody hears, a queue that is full, an address that is gone.

Where there can be no network namespace (it takes root) these are skipped, and say so: the proxy of
`test_links` has shown the same by then.
"""

from __future__ import annotations

import os
import random
import socket
import struct
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from goliath import Commander
from goliath.testing.processes import until
from tests.faults import promises
from tests.faults.namespace import Namespace
from tests.faults.pace import PACE, at_this_pace
from tests.faults.promises import Journal
from tests.faults.running import Running
from tests.faults.test_links import all_once_and_true, digest
from tests.lieutenants import Lieutenant
from tests.tokens import TLS_FLAGS, TOKEN, written

pytestmark = at_this_pace

ESTABLISHED = "01"
# A partition that is over when it is noticed is not to cost a session: a lost packet is sent again
# only after a second, or two.
PATIENT = {"GOLIATH_SESSION_KILL_S": "60", "GOLIATH_SESSION_LOST_S": "75"}


@pytest.fixture(scope="module")
def token_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(tmp_path_factory.mktemp("token") / "token", TOKEN)


@pytest.fixture(scope="module")
def distant(private_home: Path, wire: Namespace, token_file: Path) -> Iterator[Lieutenant]:
    """A node of two workers at the other end of the wire."""
    with Lieutenant(
        *(2, "--token-file", str(token_file), *TLS_FLAGS),
        host=wire.there,
        env=PATIENT,
        inside=wire.inside,
    ) as node:
        yield node


@pytest.fixture(autouse=True)
def patient(quick_timers: None, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in PATIENT.items():
        monkeypatch.setenv(name, value)


def links(pid: int, node: Lieutenant) -> set[tuple[str, int]]:
    """The Commander's ends of the connections that there are where a process is, or seem to be."""
    found = set()
    for line in Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]:
        _, local, remote, state, *_ = line.split()
        if state == ESTABLISHED and node.port in (end(local)[1], end(remote)[1]):
            found.add(end(remote if end(local)[1] == node.port else local))
    return found


def end(text: str) -> tuple[str, int]:
    """What the kernel writes of one end: ``0106A8C0:1F90`` is 192.168.6.1, port 8080."""
    address, _, port = text.partition(":")
    return socket.inet_ntoa(struct.pack("=I", int(address, 16))), int(port, 16)


@pytest.mark.parametrize(("up", "down"), [(True, False), (False, True)], ids=["up", "down"])
def test_packets_that_nobody_hears_are_noticed_and_the_session_resumes(
    wire: Namespace, distant: Lieutenant, token_file: Path, journal: Journal, up: bool, down: bool
) -> None:
    me, calls = os.getpid(), 200
    with Commander([distant.address], token_file=token_file) as commander:
        running = Running(commander, journal, calls, 2.2 * PACE.noticed_s / calls)
        running.finishes(10, 10)
        ((_, port),) = before = links(me, distant)
        assert links(distant.pid, distant) == before
        wire.partition(up=up, down=down)
        try:
            until(lambda: not before & links(me, distant), PACE.noticed_s, "it was cut")
        finally:
            wire.partition()
        until(lambda: links(me, distant), 30, "there is another one")
        outcomes = running.outcomes(8 * PACE.noticed_s + 20)
        ((_, other_port),) = links(me, distant)
        assert other_port != port
        assert links(distant.pid, distant) == links(me, distant), "the old one is still there"
    all_once_and_true(outcomes, calls, journal)


def test_payload_in_a_slow_queue_does_not_starve_the_heartbeat(
    wire: Namespace, distant: Lieutenant, token_file: Path
) -> None:
    """1 Mbit/s with real timers; faster, as the timers are, with those of the suite."""
    me, rate = os.getpid(), 125_000 * PACE.speed
    payload = random.Random(1).randbytes(int(2.2 * PACE.silence_s * rate))
    with Commander([distant.address], token_file=token_file) as commander:
        assert commander.run(digest, [(b"",)]) == [digest(b"")]
        before = links(me, distant)
        wire.throttle(rate)
        try:
            began = time.monotonic()
            assert commander.submit(digest, payload).result(30 * PACE.silence_s) == digest(payload)
            assert time.monotonic() - began > 2 * PACE.silence_s, "the wire was not slow"
        finally:
            wire.unthrottle()
        assert links(me, distant) == before, "the link was cut: its heartbeat was starved"


def test_a_client_that_goes_elsewhere_takes_its_session_along(
    wire: Namespace, distant: Lieutenant, token_file: Path, journal: Journal
) -> None:
    me, calls = os.getpid(), 200
    with Commander([distant.address], token_file=token_file) as commander:
        running = Running(commander, journal, calls, 2.2 * PACE.noticed_s / calls)
        running.finishes(10, 10)
        assert {host for host, _ in links(me, distant)} == {wire.here}
        wire.move()
        until(
            lambda: {host for host, _ in links(distant.pid, distant)} == {wire.here_too},
            PACE.noticed_s + 10,
            "it comes from elsewhere, and the old connection is gone",
        )
        outcomes = running.outcomes(8 * PACE.noticed_s + 20)
    all_once_and_true(outcomes, calls, journal)
    promises.executed_at_most(journal, 1)
