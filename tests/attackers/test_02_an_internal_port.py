"""Attacker 2: somebody who looks for a port that was meant for the inside. There is none."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import goliath
from goliath import Commander
from goliath.testing.processes import until
from tests.e2e.calls import nap
from tests.lieutenants import Lieutenant

LISTENING = "0A"  # of a TCP socket, in /proc/net/tcp
ACCEPTING = 0x10000  # of a Unix socket, in /proc/net/unix


def sockets_of(pid: int) -> set[str]:
    """The inodes of the sockets that a process has open."""
    found = set()
    for fd in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # of this very listing
            match = re.fullmatch(r"socket:\[(\d+)\]", os.readlink(fd))
            if match:
                found.add(match[1])
    return found


def internet_sockets(pid: int) -> dict[str, tuple[str, int]]:
    """State and local port of each TCP or UDP socket where the process lives, by inode."""
    found = {}
    for table in ("tcp", "tcp6", "udp", "udp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            port = int(fields[1].rpartition(":")[2], 16)
            found[fields[9]] = (fields[3] if table.startswith("tcp") else "udp", port)
    return found


def accepting_unix_sockets(pid: int) -> set[str]:
    """The inodes of the Unix sockets to which anybody could connect."""
    lines = Path(f"/proc/{pid}/net/unix").read_text().splitlines()[1:]
    return {fields[6] for fields in map(str.split, lines) if int(fields[3], 16) & ACCEPTING}


def held(pids: Iterable[int]) -> dict[int, list[tuple[str, int]]]:
    """The Internet sockets that each process holds."""
    return {
        pid: [known for inode, known in internet_sockets(pid).items() if inode in sockets_of(pid)]
        for pid in pids
    }


@goliath.remote
class Actor:
    def ready(self) -> int:
        return os.getpid()


def test_a_lieutenant_listens_on_its_one_port_and_its_workers_have_no_socket_of_the_internet(
    lieutenant,
) -> None:
    node: Lieutenant = lieutenant(2)
    with Commander([node.address]) as commander:
        goliath.init(node.address)
        try:
            actor = Actor.remote()
            refs = [commander.submit(nap, 1.0) for _ in range(2)]
            pids = {goliath.get(actor.ready.remote())}
            until(lambda: len(node.worker_processes()) >= 3, 30, "two workers and an actor")
            pids |= {seen.pid for seen in node.family()}
            sockets = held([node.pid, *pids])
            assert [port for state, port in sockets.pop(node.pid) if state == LISTENING] == [
                node.port
            ]
            assert len(sockets) >= 4, "the zygote, two workers and an actor"
            assert not any(sockets.values()), sockets
            for pid in (node.pid, *pids):
                assert sockets_of(pid), "each has its end of a socketpair"
                assert not sockets_of(pid) & accepting_unix_sockets(pid)
            for ref in refs:
                ref.result()
        finally:
            goliath.shutdown()


def test_an_embedded_lieutenant_listens_nowhere() -> None:
    with Commander(workers=1) as commander:
        assert commander.run(nap, [(0.01,)]) == [0.01]
        mine = internet_sockets(os.getpid())
        ours = [mine[inode] for inode in sockets_of(os.getpid()) if inode in mine]
        assert [port for state, port in ours if state in (LISTENING, "udp")] == []
