"""What a node runs out of: disk, shared memory, descriptors, processes. It goes on, and says so."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import socket
import ssl
import stat
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from goliath import Commander, GoliathError, RuntimeEnvSetupError, get, wait
from goliath.testing.processes import living, until
from goliath.transport.tls import client_tls
from tests.e2e.calls import nap, same
from tests.faults import promises
from tests.faults.promises import MIB, Journal
from tests.lieutenants import Lieutenant
from tests.tokens import TLS_FLAGS

SMALL = 8 * MIB
SMALL_DISKS = f"""
import ctypes, os, pathlib, sys, tempfile
libc = ctypes.CDLL(None, use_errno=True)
CLONE_NEWNS, MS_REC, MS_PRIVATE = 0x20000, 0x4000, 0x40000
folder = os.environ["TMPDIR"].encode()
for failed in (
    libc.unshare(CLONE_NEWNS),
    libc.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None),
    libc.mount(b"tmpfs", folder, b"tmpfs", 0, b"size={SMALL}"),
    libc.mount(b"tmpfs", b"/dev/shm", b"tmpfs", 0, b"size={SMALL}"),
):
    if failed:
        raise OSError(ctypes.get_errno(), "no private disks")
from goliath.lieutenant import main
sys.exit(main(sys.argv[1:]))
"""


def fill(folder: str) -> int:
    """Write until there is no room; how much there was."""
    path, written = os.path.join(folder, "filler"), 0
    with open(path, "wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            written += file.write(bytes(1 << 16))
    return written


def room(folder: str) -> int:
    return os.statvfs(folder).f_bavail * os.statvfs(folder).f_frsize


SMALL_CELLAR = SMALL_DISKS.replace(
    "from goliath.lieutenant",
    "from goliath.actors import cellar\ncellar.is_in_memory = lambda _: False  # this disk is one\n"
    "from goliath.lieutenant",
)


def test_results_for_which_the_disk_has_no_room_go_to_their_commander():
    bounds = {"GOLIATH_DEPOT_BYTES": str(MIB), "GOLIATH_SPILL_BYTES": str(1024 * MIB)}
    with (
        Lieutenant(2, launcher=("-c", SMALL_CELLAR), env=bounds) as own,
        Commander([own.address]) as commander,
    ):
        refs = [commander.submit(bytes, MIB - 1) for _ in range(100)]
        wait(refs, num_returns=100)
        until(lambda: bool(commander.nodes()[0].kept), 30)
        kept = commander.nodes()[0].kept
        assert kept["memory"] <= 66 * MIB, "what was to be written when there was room, and no more"
        assert 0 < kept["disk"] <= SMALL
        assert [len(value) for value in get(refs)] == [MIB - 1] * 100
        assert own.process.poll() is None


def test_disk_full_is_a_typed_error_and_the_node_goes_on(tmp_path: Path):
    (tmp_path / "big.bin").write_bytes(bytes(2 * SMALL))
    (tmp_path / "small.txt").write_text("hello")
    with Lieutenant(2, launcher=("-c", SMALL_DISKS)) as own, Commander([own.address]) as commander:
        with pytest.raises(RuntimeEnvSetupError, match="No space left on device"):
            commander.run(same, [(1,)], [tmp_path / "big.bin"])
        # The room is there again, and so is the node.
        assert commander.run(same, [(1,)], [tmp_path / "small.txt"]) == [1]
        assert own.process.poll() is None


def test_dev_shm_full_disturbs_neither_big_values_nor_the_birth_of_workers(tmp_path: Path):
    with Lieutenant(2, launcher=("-c", SMALL_DISKS)) as own, Commander([own.address]) as commander:
        assert commander.run(fill, [("/dev/shm",)])[0] >= SMALL // 2
        assert commander.run(room, [("/dev/shm",)]) == [0]  # it is full
        value = bytes(4 * SMALL)
        assert commander.run(same, [(value,)], env_vars={"NEW": "WORKER"}) == [value]
        assert own.process.poll() is None


# -- descriptors -------------------------------------------------------------------------

_FEW_FILES = """
import resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (160, 160))
from goliath.lieutenant import main
sys.exit(main(sys.argv[1:]))
"""


def test_a_node_with_few_descriptors_can_start_workers(journal: Journal):
    tight = _FEW_FILES.replace("160", "48")
    with Lieutenant(1, launcher=("-c", tight)) as own, Commander([own.address]) as commander:
        calls = [(journal.path, n) for n in range(3)]
        promises.every_call_has_one_outcome(commander.run(promises.execute, calls), 3)
        # Out of the way of code that closes "all" low ones, as far as there is such a thing.
        assert min(commander.run(sockets_of_a_worker, [()])[0]) >= 32


def sockets_of_a_worker() -> list[int]:
    found = []
    for fd in range(48):
        with contextlib.suppress(OSError):
            found += [fd] * stat.S_ISSOCK(os.fstat(fd).st_mode)
    return found


_HOARDER = """
import os, resource, signal, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (200, 200))
hoard = []
def grab(*_):
    try:
        while True:
            hoard.append(os.open(os.devnull, os.O_RDONLY))
    except OSError:
        pass
def release(*_):
    while hoard:
        os.close(hoard.pop())
signal.signal(signal.SIGUSR1, grab)
signal.signal(signal.SIGUSR2, release)
from goliath.lieutenant import main
sys.exit(main(sys.argv[1:]))
"""


def knock(port: int, tls: ssl.SSLContext | None) -> bytes:
    """What is said to whoever asks for anything."""
    visitor = socket.create_connection(("127.0.0.1", port), timeout=5)
    with visitor if tls is None else tls.wrap_socket(visitor) as visitor:
        visitor.sendall(b"GET /goliath/v1 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        return b"".join(iter(lambda: visitor.recv(4096), b""))


@pytest.mark.parametrize("flags", [(), TLS_FLAGS], ids=["plaintext", "TLS"])
def test_fd_exhaustion_is_answered_by_busy_and_over_when_descriptors_are_back(
    strikes: promises.Strikes, flags: tuple[str, ...]
):
    tls = client_tls(verify=False) if flags else None
    with (
        Lieutenant(1, *flags, launcher=("-c", _HOARDER)) as own,
        Commander([own.address]) as early,
    ):
        assert early.run(same, [(1,)]) == [1]
        os.kill(own.pid, signal.SIGUSR1)
        until(lambda: len(os.listdir(f"/proc/{own.pid}/fd")) >= 200, 30, "no descriptor left")
        strikes.note("exhausted")
        silent = [socket.create_connection(("127.0.0.1", own.port)) for _ in range(5)]
        answer = knock(own.port, tls)  # behind those
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b"Retry-After: 1\r\n" in answer
        with pytest.raises(ConnectionError, match=r"busy.*no file descriptor left.*ulimit -n"):
            Commander([own.address], connect_timeout=1).run(same, [(1,)])
        assert early.run(same, [(2,)]) == [2], "who is in stays in"
        # A storm of them costs next to nothing, and nobody waits for the others' patience to end.
        before, began = cpu_seconds(own.pid), time.monotonic()
        storm = [knock(own.port, tls)[:12] for _ in range(40)]
        took = time.monotonic() - began
        assert set(storm) == {b"HTTP/1.1 503"}
        assert cpu_seconds(own.pid) - before < max(0.2 * took, 0.1)
        quiet = cpu_seconds(own.pid)
        time.sleep(1)  # this is the measurement: somebody waits at the door, and nothing spins
        assert cpu_seconds(own.pid) - quiet < 0.1
        for visitor in silent:
            visitor.close()
        with (
            Commander([own.address], connect_timeout=20) as late,
            ThreadPoolExecutor(1) as thread,
        ):
            waiting = thread.submit(late.run, same, [(3,)])
            os.kill(own.pid, signal.SIGUSR2)
            assert waiting.result(timeout=20) == [3]
    strikes.happened("exhausted")


def cpu_seconds(pid: int) -> float:
    """What a process has used so far, without its children."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_fd_exhaustion_lets_calls_wait_and_ends_none_of_them(journal: Journal):
    few = Lieutenant(60, "--log-level", "info", launcher=("-c", _FEW_FILES))
    with few as own, Commander([own.address], connect_timeout=5) as commander:
        calls = [(journal.path, n, 0.05) for n in range(200)]
        outcomes = commander.run(promises.execute, calls, batch_size=1)
        assert "Too many open files" in own.err
        assert len({line.pid for line in journal.lines()}) < 60
        promises.every_call_has_one_outcome(outcomes, 200)
        promises.values_are_true(outcomes, journal)
        promises.executed_at_most(journal, 1)
        assert own.process.poll() is None


# -- processes ---------------------------------------------------------------------------


def breed(path: str, n: int) -> None:
    """Grandchildren of every kind, that never end by themselves."""
    promises.begin(path, n)
    for _ in range(10):
        subprocess.Popen(["sleep", "61"])
        subprocess.Popen(["sleep", "62"], start_new_session=True)
    for _ in range(5):
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                time.sleep(60)
            time.sleep(60)
    time.sleep(0.2)
    os.kill(os.getpid(), 9)


def test_fork_bomb_grandchildren_die_with_the_worker_and_the_node_goes_on(
    lieutenant: Any, journal: Journal
):
    own = lieutenant(2)
    with Commander([own.address]) as commander:
        good = [commander.submit(nap, 0.3) for _ in range(3)]
        before = own.family()
        with pytest.raises(GoliathError):
            commander.run(breed, [(journal.path, 0)], max_retries=0)
        assert journal.unfinished() == {0: 1}
        worker = journal.lines()[0].pid
        bred = {seen for seen in own.family() - before if seen.pid != worker}
        promises.nothing_is_left(
            lambda: {seen for seen in own.family() | bred if "sleep" in seen.command()}, 3
        )
        assert [ref.result() for ref in good] == [0.3] * 3
        assert commander.run(same, [(1,)]) == [1]
        until(lambda: len(living(own.family())) <= 4, 3, "zygote and workers only")


def bomb(path: str) -> str:
    """Fork without end, within a limit: the error stays inside."""
    promises.begin(path, 0)
    uid = 54321
    resource.setrlimit(resource.RLIMIT_NPROC, (20, 20))
    os.setuid(uid)
    children = 0
    try:
        while True:
            if os.fork() == 0:
                time.sleep(60)
                os._exit(0)
            children += 1
    except BlockingIOError as error:
        return f"{type(error).__name__} after {children}"


def test_fork_bomb_is_an_error_inside_and_its_children_are_gone_when_its_worker_is(
    lieutenant: Any, journal: Journal
):
    own = lieutenant(1)
    with Commander([own.address]) as commander:
        Path(journal.path).touch(mode=0o666)
        (said,) = commander.run(bomb, [(journal.path,)], env_vars={"BOMB": "1"})
        kind, _, children = said.partition(" after ")
        assert kind == "BlockingIOError"
        assert int(children) >= 5
        bomber = journal.lines()[0].pid
        until(lambda: len(own.family()) > int(children), 30, "its children there")
        promises.Strikes().kill(bomber)
        until(lambda: len(living(own.family())) <= 2, 3, "its children gone")
        assert commander.run(same, [(1,)]) == [1]
