"""Nodes that nobody can dial: they join a Commander that listens, and are nodes like any others."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest

import goliath
from goliath import Commander, NodeInfo
from goliath.errors import AuthenticationError, ConnectionError as NoConnection
from goliath.testing.processes import until
from tests.e2e.calls import add, nap, pid
from tests.faults import promises
from tests.faults.network import network
from tests.faults.promises import Journal
from tests.faults.running import Running
from tests.joining import JoinedNode
from tests.lieutenants import Lieutenant, command
from tests.tokens import ANOTHER, TOKEN, written


@contextlib.contextmanager
def listening(**options: object) -> Iterator[tuple[Commander, str]]:
    """A Commander that listens on a free port and waits there for a first node; and its URL."""
    given = {"listen": "127.0.0.1:0", "connect_timeout": 20.0, **options}
    with ThreadPoolExecutor(1) as thread, Commander(**given) as commander:  # type: ignore[arg-type]
        connected = thread.submit(commander.connect)
        until(lambda: commander.listening or connected.done(), 30, "it listens")
        if commander.listening is None:
            connected.result()
        assert commander.listening is not None
        yield commander, f"ws://127.0.0.1:{commander.listening[1]}"
        connected.result()


def alive(commander: Commander) -> list[NodeInfo]:
    return [info for info in commander.nodes() if info.alive]


def busy_at_once(commander: Commander) -> int:
    """How many processes two calls have that take long enough to be beside each other."""

    def stay() -> int:
        time.sleep(0.2)
        return os.getpid()

    return len({ref.result(20) for ref in [commander.submit(stay) for _ in range(2)]})


# -- a Commander that listens --------------------------------------------------------------


def test_a_run_waits_for_the_first_node_and_takes_those_that_come_later(
    joins, capfd: pytest.CaptureFixture[str]
) -> None:
    with listening() as (commander, url):
        first = joins(url, 1)
        (info,) = commander.nodes()
        assert (info.alive, info.workers, info.address.count("/")) == (True, 1, 1)
        refs = [commander.submit(nap, 0.05 + n / 1e6) for n in range(40)]
        late = joins(url, 1)
        until(lambda: len(alive(commander)) == 2, 30, "the late one is there")
        assert [ref.result(20) for ref in refs] == [0.05 + n / 1e6 for n in range(40)]
        until(lambda: busy_at_once(commander) == 2, 20, "both work")
        pids = set(commander.run(pid, [(n,) for n in range(400)], batch_size=1))
        assert pids <= {seen.pid for node in (first, late) for seen in node.worker_processes()}
    told = capfd.readouterr().err
    assert f"waiting for a node to join at {url.removeprefix('ws://')}" in told


def test_without_any_node_the_first_use_says_where_one_should_have_joined() -> None:
    with Commander(listen=("127.0.0.1", 0), connect_timeout=0.3) as commander:
        with pytest.raises(NoConnection) as refusal:
            commander.run(add, [(1, 1)])
        assert commander.listening is not None
        assert str(refusal.value) == (
            "no Lieutenant was reached within 0.3 s (none has joined at 127.0.0.1:"
            f"{commander.listening[1]}: start one with `python -m goliath.lieutenant --join`, or "
            "wait longer with connect_timeout=)"
        )


def test_what_a_dialed_node_can_do_one_that_has_joined_can_do(
    joins, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Batches, files, prints, big results, cancels: over the same sessions."""
    (tmp_path / "there.txt").write_text("read there")

    def read(n: int) -> str:
        print(f"call {n}")
        return Path("there.txt").read_text()

    with listening() as (commander, url):
        joins(url, 2)
        here = os.getcwd()
        os.chdir(tmp_path)
        try:
            assert commander.run(read, [(1,), (2,)], ["there.txt"]) == ["read there"] * 2
        finally:
            os.chdir(here)
        big = commander.submit(bytes, 5_000_000)
        assert commander.submit(len, big).result(20) == 5_000_000
        assert big.result(20) == bytes(5_000_000)
        assert list(commander.imap(add, ((n, 1) for n in range(1000)))) == list(range(1, 1001))
        slow = commander.submit(nap, 60)
        until(lambda: alive(commander)[0].busy >= 1, 30, "it runs")
        commander.cancel()
        with pytest.raises(goliath.TaskCancelledError):
            slow.result(30)
    assert "call 1" in capfd.readouterr().out


def test_remote_functions_actors_and_streams_work_on_a_node_that_has_joined(
    joins, free_port: int
) -> None:
    with ThreadPoolExecutor(1) as thread:
        made = thread.submit(goliath.init, listen=("127.0.0.1", free_port), connect_timeout=20)
        joins(f"ws://127.0.0.1:{free_port}", 2)
        try:
            made.result(20)

            @goliath.remote
            def outer(n: int) -> int:
                return goliath.get(inner.remote(n)) + 1

            @goliath.remote
            def inner(n: int) -> int:
                return 2 * n

            @goliath.remote(num_returns="streaming")
            def count(n: int) -> Iterator[int]:
                yield from range(n)

            @goliath.remote
            class Counter:
                def __init__(self, n: int) -> None:
                    self.n = n

                def add(self, k: int) -> int:
                    self.n += k
                    return self.n

            odd = goliath.get([outer.remote(n) for n in range(20)])
            assert odd == [2 * n + 1 for n in range(20)]
            assert [goliath.get(ref) for ref in count.remote(5)] == list(range(5))
            counter = Counter.remote(10)
            assert goliath.get([counter.add.remote(1) for _ in range(3)]) == [11, 12, 13]
            kept = Counter.options(name="kept", lifetime="detached").remote(1)
            assert goliath.get(kept.add.remote(1)) == 2
            found = goliath.runtime.commander().detached_actors()
            assert [actor.name for actor in found] == ["kept"]
        finally:
            goliath.shutdown()


def test_one_is_killed_one_is_cut_and_one_is_late_and_no_call_is_lost(
    joins, tmp_path: Path
) -> None:
    journal, calls = Journal(tmp_path), 150
    with listening() as (commander, url):
        port = int(url.rpartition(":")[2])
        with network(SimpleNamespace(port=port)) as net:  # type: ignore[arg-type]
            killed, cut = joins(url, 1), joins(f"ws://127.0.0.2:{port}", 1)
            until(lambda: len(alive(commander)) == 2, 30, "both are there")
            before = {info.node_id for info in commander.nodes()}
            running = Running(commander, journal, calls, 0.05)
            running.finishes(20, 20)
            net.break_links(net.proxy.cut)
            cut.wait_joined(2)
            killed.destroy()
            late = joins(url, 1)
            outcomes = running.outcomes(60)
            promises.every_call_has_one_outcome(outcomes, calls)
            promises.values_are_true(outcomes, journal)
            until(lambda: len(alive(commander)) == 2, 20, "the dead one is forgotten")
            after = {info.node_id for info in commander.nodes()}
            assert len(before & after) == 1, "the session of the one that was cut has gone on"
            assert commander.run(add, [(1, 1)]) == [2]
            cut.stop()
            late.stop()


def test_nodes_that_have_joined_rob_dialed_ones_and_are_robbed(joins, lieutenant) -> None:
    dialed = lieutenant(1)
    options = {"lieutenants": [dialed.address], "connect_timeout": 20.0}
    with listening(**options) as (commander, url):
        joined = joins(url, 1)
        until(lambda: len(alive(commander)) == 2, 30, "both are there")
        seconds = [0.4] * 2 + [0.02] * 60
        began = time.monotonic()
        assert commander.run(nap, [(s,) for s in seconds], batch_size=31) == seconds
        assert time.monotonic() - began < 0.9 * sum(seconds)
        assert dialed.worker_processes()
        assert joined.worker_processes()


def test_a_node_that_drains_hands_its_work_over_and_is_forgotten(joins) -> None:
    with listening() as (commander, url):
        leaving, staying = joins(url, 1), joins(url, 1)
        until(lambda: len(alive(commander)) == 2, 30, "both are there")
        calls = [(0.05 + n / 1e6,) for n in range(40)]
        with ThreadPoolExecutor(1) as thread:
            running = thread.submit(commander.run, nap, calls)
            until(lambda: leaving.worker_processes(), 30, "it works")
            leaving.stop()
            assert running.result(30) == [seconds for (seconds,) in calls]
        until(lambda: len(commander.nodes()) == 1, 30, "it is forgotten")
        assert staying.running


def test_a_node_waits_for_the_next_commander(joins, free_port: int) -> None:
    url = f"ws://127.0.0.1:{free_port}"
    node = JoinedNode(url, 1)
    try:
        until(lambda: "Connection refused" in node.err, 20, "it says that nobody is there")
        assert node.out == ""
        for times in (1, 2):
            with Commander(listen=("127.0.0.1", free_port), connect_timeout=20) as commander:
                assert commander.run(add, [(times, 1)]) == [times + 1]
            assert node.joins() == times, "each has a token of its own, and it finds each"
        until(lambda: not node.worker_processes(), 30, "their work is over")
        node.stop()
    finally:
        node.discard()


# -- who may join ----------------------------------------------------------------------------


def test_a_wrong_token_is_said_so_and_ends_the_node_with_an_exit_code_of_its_own(
    token_file: Path, tmp_path: Path
) -> None:
    wrong = written(tmp_path / "wrong", ANOTHER)
    with Commander(listen="127.0.0.1:0", workers=1, token_file=token_file) as commander:
        commander.connect()
        assert commander.listening is not None
        url = f"ws://127.0.0.1:{commander.listening[1]}"
        run = command("--join", url, "--token-file", str(wrong))
        assert run.returncode == 4, run.stderr
        assert run.stdout == ""
        assert f"127.0.0.1:{commander.listening[1]} refused the token" in run.stderr
        assert "--token-file" in run.stderr
        assert "Traceback" not in run.stderr
        assert ANOTHER not in run.stderr
        assert len(commander.nodes()) == 1  # the embedded one


def test_a_commander_that_comes_for_work_to_a_commander_is_told_so() -> None:
    with Commander(listen="127.0.0.1:0", workers=1) as commander:
        commander.connect()
        assert commander.listening is not None
        with (
            Commander([commander.listening], connect_timeout=1) as other,
            pytest.raises(NoConnection, match="is it a Lieutenant that you mean to reach"),
        ):
            other.connect()


def test_a_token_of_several_can_be_revoked_and_its_nodes_are_sent_away(
    joins, tmp_path: Path
) -> None:
    tokens = written(tmp_path / "tokens", f"{TOKEN} one", f"{ANOTHER} two")
    first, second = written(tmp_path / "a", TOKEN), written(tmp_path / "b", ANOTHER)
    with listening(token_file=tokens) as (commander, url):
        joins(url, 1, "--token-file", str(first))
        with JoinedNode(url, 1, "--token-file", str(second)) as revoked:
            until(lambda: len(alive(commander)) == 2, 30, "both are there")
            written(tokens, f"{TOKEN} one")
            until(lambda: len(commander.nodes()) == 1, 30, "its node is not used any more")
            assert revoked.process.wait(30) == 4
            assert "refused the token" in revoked.err
            assert commander.run(add, [(1, 1)]) == [2]


def test_a_public_name_is_of_a_commander_that_listens_and_needs_a_token() -> None:
    with pytest.raises(ValueError, match="of a Commander that has listen="):
        Commander(workers=1, public_name="laptop.example.org")
    for none in ("", "wss://laptop", "laptop:8080", "/prefix"):
        with pytest.raises(ValueError, match="is no host name with or without a path"):
            Commander(listen="127.0.0.1:0", public_name=none)
    said = "laptop.example.org can be reached from other machines, and there is no token"
    with (
        Commander(listen="127.0.0.1:0", public_name="laptop.example.org") as commander,
        pytest.raises(AuthenticationError, match=said),
    ):
        commander.connect()


def test_off_loopback_a_commander_needs_a_token() -> None:
    with (
        Commander(listen="0.0.0.0:0") as commander,
        pytest.raises(AuthenticationError, match=r"goliath token new > FILE.*token_file= here"),
    ):
        commander.connect()


def test_off_loopback_there_is_tls_and_a_certificate_that_is_kept_from_start_to_start(
    joins, token_file: Path, free_port: int
) -> None:
    url = f"wss://127.0.0.1:{free_port}"
    listen = ("0.0.0.0", free_port)
    with ThreadPoolExecutor(1) as thread:
        run = thread.submit(once, listen, token_file)
        node = joins(url, 1, "--token-file", str(token_file))
        assert run.result(30) == [2]
        certificates = list(Path(os.environ["XDG_STATE_HOME"], "goliath").glob("certificate-*.pem"))
        kept = [path.read_bytes() for path in certificates]
        assert len(kept) == 1
        assert once(listen, token_file) == [2]
        assert [path.read_bytes() for path in certificates] == kept
        assert node.joins() == 2


def once(listen: tuple[str, int], tokens: Path) -> list[int]:
    with Commander(listen=listen, token_file=tokens, connect_timeout=20) as commander:
        return commander.run(add, [(1, 1)])


def test_a_port_that_is_taken_is_said_so(node: Lieutenant) -> None:
    said = f"cannot listen for nodes on 127.0.0.1:{node.port}: another program listens there"
    with Commander(listen=node.address) as commander, pytest.raises(NoConnection, match=said):
        commander.connect()


@pytest.mark.parametrize("listen", ["9000", "wss://0.0.0.0:9000", ("lab", 70000), 9000, ":1"])
def test_a_place_to_listen_at_that_is_none_is_refused(listen: object) -> None:
    with pytest.raises(ValueError, match="write"):
        Commander(listen=listen)  # type: ignore[arg-type]


# -- the command ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--join", "ws://127.0.0.1:1", "127.0.0.1", "8080"], "leave HOST and PORT out"),
        (["--join", "ws://127.0.0.1:1", "many"], "'many' is no number from 1 up"),
        (["--join", "http://127.0.0.1:1"], "is not the address of a Lieutenant"),
        (["--join", "ws://127.0.0.1:1", "--insecure-plaintext"], "for a node that listens"),
        (["--join", "ws://127.0.0.1:1", "--public-name", "lab"], "for a node that listens"),
        (["127.0.0.1", "0", "--tls", "ca"], "--tls goes with --join"),
        (["--join", "wss://lab.example.org"], "no token for lab.example.org:443"),
        ([], "HOST and PORT are needed, unless there is --join"),
    ],
)
def test_wrong_usage_of_join_exits_with_2_and_says_why(arguments: list[str], why: str) -> None:
    run = command(*arguments)
    assert (run.returncode, run.stdout) == (2, "")
    assert why in " ".join(run.stderr.split())
    assert "Traceback" not in run.stderr


def test_sigterm_ends_a_node_that_has_not_joined_at_once(free_port: int) -> None:
    node = JoinedNode(f"ws://127.0.0.1:{free_port}", 1)
    try:
        until(lambda: "dialing again" in node.err, 20, "it tries")
        began = time.monotonic()
        node.process.send_signal(signal.SIGTERM)
        assert node.process.wait(30) == 0
        assert time.monotonic() - began < 10
    finally:
        node.discard()


def test_a_commander_listens_when_it_is_asked_where():
    commander = Commander(listen=("127.0.0.1", 0), connect_timeout=60)
    try:
        where = commander.listening
        assert where is not None
        with socket.create_connection(where, timeout=5):
            assert commander.listening == where
    finally:
        commander.close()
    assert commander.listening is None
