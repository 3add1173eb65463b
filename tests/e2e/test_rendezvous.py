"""A Lieutenant that all can reach brings nodes and Commanders together that have no other way."""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest

from goliath import Commander
from goliath.testing.processes import until
from goliath.transport.token import Token
from tests.e2e.calls import add, nap, pid
from tests.faults import promises
from tests.faults.namespace import Namespace
from tests.faults.network import network
from tests.faults.promises import Journal
from tests.faults.running import Running
from tests.joining import JoinedNode
from tests.lieutenants import Lieutenant
from tests.tokens import ANOTHER, TLS_FLAGS, TOKEN, written


def url(node: Lieutenant) -> str:
    return f"ws://{node.host}:{node.port}"


def alive(commander: Commander) -> list[str]:
    return [info.address for info in commander.nodes() if info.alive]


def there(commander: Commander, nodes: int) -> None:
    until(lambda: len(alive(commander)) == nodes, 30, f"{nodes} nodes are there")


def both_are_used(joined: JoinedNode, commander: Commander) -> None:
    """Both workers of a node; of 300 quick calls those that are forked late may get none."""

    def used() -> set[int]:
        pids = set(commander.run(pid, [(n,) for n in range(300)], batch_size=1))
        return pids & {seen.pid for seen in joined.worker_processes()}

    until(lambda: len(used()) == 2, 20, "its workers are used")


def test_commanders_of_its_token_see_the_nodes_and_have_them_work(lieutenant, joins) -> None:
    meeting = lieutenant(1)
    joined = joins(url(meeting), 2)
    with Commander([meeting.address]) as one, Commander([meeting.address]) as two:
        for commander in (one, two):
            there(commander, 2)
            both_are_used(joined, commander)
        late = joins(url(meeting), 1)
        there(one, 3)
        there(two, 3)
        late.stop()
        there(one, 2)
        until(lambda: len(two.nodes()) == 2, 30, "it is forgotten")


def test_what_a_dialed_node_can_do_one_behind_a_rendezvous_can_do(
    lieutenant, joins, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    meeting = lieutenant(1)
    joins(url(meeting), 1)
    (tmp_path / "there.txt").write_text("read there")
    monkeypatch.chdir(tmp_path)

    def read(size: int) -> tuple[str, bytes]:
        return Path("there.txt").read_text(), bytes(size)

    with Commander([meeting.address]) as commander:
        there(commander, 2)
        results = commander.run(read, [(1_000_000,)] * 8, ["there.txt"], batch_size=1)
        assert results == [("read there", bytes(1_000_000))] * 8
        refs = [commander.submit(nap, 60) for _ in range(2)]
        until(lambda: sum(info.busy for info in commander.nodes()) >= 2, 30, "both run")
        commander.cancel()
        assert [type(ref.future().exception(30)).__name__ for ref in refs] == [
            "TaskCancelledError"
        ] * 2


def test_other_tokens_neither_see_nor_reach_the_nodes(lieutenant, joins, tmp_path: Path) -> None:
    tokens = written(tmp_path / "tokens", f"{TOKEN} one", f"{ANOTHER} two")
    mine = written(tmp_path / "mine", TOKEN)
    meeting = lieutenant(1, "--token-file", str(tokens))
    joins(url(meeting), 1, "--token-file", str(mine))
    with (
        Commander([meeting.address], token=TOKEN) as friend,
        Commander([meeting.address], token=ANOTHER) as stranger,
    ):
        there(friend, 2)
        stranger.connect()
        assert stranger.run(add, [(1, 1)]) == [2]
        assert len(stranger.nodes()) == 1


def test_cuts_on_either_side_of_the_rendezvous_cost_no_call(
    lieutenant, joins, tmp_path: Path
) -> None:
    meeting, journal, calls = lieutenant(1), Journal(tmp_path), 150
    with network(meeting) as net:
        joined = joins(f"ws://{net.address[0]}:{net.address[1]}", 1)
        with Commander([meeting.address]) as commander:
            there(commander, 2)
            before = {info.node_id for info in commander.nodes()}
            running = Running(commander, journal, calls, 0.04)
            for times in (2, 3):
                running.finishes(20, 20)
                net.break_links(net.proxy.cut)
                joined.wait_joined(times)
            outcomes = running.outcomes(60)
            promises.every_call_has_one_outcome(outcomes, calls)
            promises.values_are_true(outcomes, journal)
            promises.executed_at_most(journal, 1)
            assert {info.node_id for info in commander.nodes()} == before, "a session was lost"


def test_a_rendezvous_that_is_restarted_is_joined_again_and_the_sessions_resume(
    lieutenant, joins, token_file: Path, tmp_path: Path
) -> None:
    flags = ("--token-file", str(token_file))
    meeting = lieutenant(1, *flags)
    joined = joins(url(meeting), 1, *flags, env={"GOLIATH_SESSION_KILL_S": "30"})
    journal, calls = Journal(tmp_path), 60
    with Commander([meeting.address], token_file=token_file) as commander:
        there(commander, 2)
        (node,) = (info for info in commander.nodes() if "/" in info.address)
        running = Running(commander, journal, calls, 0.1)
        running.finishes(10, 20)
        meeting.stop()
        meeting.start().wait_ready()
        joined.wait_joined(2)
        outcomes = running.outcomes(60)
        promises.every_call_has_one_outcome(outcomes, calls)
        promises.values_are_true(outcomes, journal)
        promises.executed_at_most(journal, 1)
        there(commander, 2)
        assert node.node_id in {info.node_id for info in commander.nodes()}, (
            "it was another session"
        )


def test_a_node_that_is_killed_is_reported_at_once_and_its_calls_move_on(lieutenant, joins) -> None:
    meeting = lieutenant(1, "--log-level", "info")
    with ExitStack() as stack:
        killed = stack.enter_context(JoinedNode(url(meeting), 1))
        commander = stack.enter_context(Commander([meeting.address]))
        there(commander, 2)
        refs = [commander.submit(nap, 0.1) for _ in range(20)]
        until(lambda: killed.worker_processes(), 30, "it works")
        began = time.monotonic()
        killed.destroy()
        until(
            lambda: "joined with the token 'own': nobody" in meeting.err,
            5,
            "its leaving is noticed",
        )
        assert time.monotonic() - began < 1.5
        assert [ref.result(30) for ref in refs] == [0.1] * 20
        until(lambda: len(commander.nodes()) == 1, 30, "it is forgotten")


def test_a_node_that_is_killed_and_started_again_is_not_waited_for(
    lieutenant, joins, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one that is dialed: what it was given moves on as soon as it answers again."""
    for name, value in (("KILL", "60"), ("LOST", "75")):
        monkeypatch.setenv(f"GOLIATH_SESSION_{name}_S", value)
    meeting = lieutenant(1)
    with (
        JoinedNode(url(meeting), 1, env={"GOLIATH_SESSION_KILL_S": "60"}) as node,
        Commander([meeting.address]) as commander,
    ):
        there(commander, 2)
        before = set(alive(commander))
        refs = [commander.submit(nap, 0.5) for _ in range(6)]
        until(lambda: node.worker_processes(), 30, "it works")
        node.destroy()
        node.start().wait_ready()
        assert [ref.result(30) for ref in refs] == [0.5] * 6
        there(commander, 2)
        assert set(alive(commander)) == before, "it has the same name as before"


def test_a_revoked_token_sends_its_nodes_away(lieutenant, tmp_path: Path) -> None:
    tokens = written(tmp_path / "tokens", f"{TOKEN} one", f"{ANOTHER} two")
    mine = written(tmp_path / "mine", TOKEN)
    meeting = lieutenant(1, "--token-file", str(tokens))
    with JoinedNode(url(meeting), 1, "--token-file", str(mine)) as node:
        written(tokens, f"{ANOTHER} two")
        assert node.process.wait(30) == 4
        assert "refused the token" in node.err


def test_another_certificate_than_at_the_login_is_refused(
    lieutenant, tmp_path: Path, token_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``goliath login`` on the node's machine pins the certificate for it, too."""
    from goliath.login import log_in
    from goliath.transport.address import Address

    flags = ("--token-file", str(token_file))
    meeting = lieutenant(1, *flags, *TLS_FLAGS)
    meeting.runtime_file().unlink()  # as on another machine
    place = f"wss://127.0.0.1:{meeting.port}"
    log_in(Address.parse(place), Token.parse(TOKEN))
    with JoinedNode(place, 1) as node:  # by what was saved
        assert node.joins() == 1
    meeting.process.terminate()
    assert meeting.process.wait(30) == 0
    other = Lieutenant(1, *flags, host="0.0.0.0", port=meeting.port)  # with one of its own
    try:
        other.wait_ready()
        node = JoinedNode(place, 1)
        try:
            assert node.process.wait(20) == 4
            assert "another machine may be listening in its place" in node.err
            assert node.joins() == 0
        finally:
            node.discard()
    finally:
        other.end(gently=True)


# -- a node that nobody can reach ------------------------------------------------------------


def listens_nowhere(node: JoinedNode) -> bool:
    return not [
        connection
        for seen in [node.pid, *(seen.pid for seen in node.family())]
        for connection in psutil.Process(seen).net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    ]


def test_a_node_on_a_machine_without_an_open_port_works_through_a_rendezvous(
    wire: Namespace, joins, token_file: Path
) -> None:
    flags = ("--token-file", str(token_file))
    with Lieutenant(1, *flags, *TLS_FLAGS, host=wire.here) as meeting:
        node = joins(f"wss://{wire.here}:{meeting.port}", 2, *flags, inside=wire.inside)
        with Commander([meeting.address], token_file=token_file) as commander:
            there(commander, 2)
            both_are_used(node, commander)
            assert listens_nowhere(node)
            assert commander.submit(bytes, 3_000_000).result(20) == bytes(3_000_000)


def test_a_node_on_a_machine_without_an_open_port_joins_a_commander(
    wire: Namespace, token_file: Path, free_port: int
) -> None:
    flags = ("--token-file", str(token_file))
    node = JoinedNode(f"wss://{wire.here}:{free_port}", 2, *flags, inside=wire.inside)
    try:
        with (
            ThreadPoolExecutor(1) as thread,
            Commander(
                listen=(wire.here, free_port), token_file=token_file, connect_timeout=20
            ) as commander,
        ):
            assert thread.submit(commander.run, add, [(1, 1)]).result(30) == [2]
            assert listens_nowhere(node)
            certificate = Path(os.environ["XDG_STATE_HOME"], "goliath")
            assert list(certificate.glob("certificate-*.pem"))
            wire.partition(up=True)
            try:
                ref = commander.submit(add, 2, 2)
                until(lambda: node.joins() == 1, 1, "it had joined")
            finally:
                wire.partition()
            assert ref.result(30) == 4
        node.stop()
    finally:
        node.discard()
