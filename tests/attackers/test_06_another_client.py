"""Attacker 6: another client of the node, or code of his in a worker, who would forge results."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from goliath import Commander, GoliathError, ObjectRef
from goliath.testing.processes import until
from goliath.transport.token import Token
from tests.e2e.calls import nap, pid
from tests.fuzz.campaign import Campaign, feed_again
from tests.fuzz.targets import TARGETS, Case
from tests.independent_client import plain
from tests.independent_session import Session
from tests.lieutenants import Lieutenant
from tests.tokens import written
from tests.watch.recording import Recording, record


@pytest.fixture(scope="module")
def recording(private_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Recording:
    return record(tmp_path_factory.mktemp("recording"))


# -- the Lieutenant never unpickles ----------------------------------------------------------


@pytest.mark.timeout(120)
def test_a_lieutenant_unpickles_nothing_whatever_passes_through_it(recording: Recording) -> None:
    assert recording.unsaid == set(), "messages that tests.watch.everything leaves unsaid"
    for pickles in recording.pickles:
        # What the watch itself has read, to see that it would be noticed.
        alarm, found = pickles[:2], pickles[2:]
        assert [noted["what"] for noted in alarm] == ["loads", "collections.Counter"]
        assert found == []
    said = [line for error in recording.errors for line in error.splitlines()]
    assert [line for line in said if " of memory are used: " not in line] == []


# -- whatever real frames are made into, it is refused -----------------------------------------

SPOILED = 20_000


@pytest.mark.timeout(180)
def test_twenty_thousand_spoiled_frames_are_refused_and_do_no_harm(
    recording: Recording, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL, "goliath")  # each refusal is a line
    tallies = Campaign(recording, SPOILED, seed=6).run()
    found = [finding for tally in tallies.values() for finding in tally.findings]
    commands = [f"python -m benchmarks fuzz --replay {finding.text()}" for finding in found[:3]]
    assert not found, "\n".join([found[0].error, *commands])
    assert sum(tally.spoiled for tally in tallies.values()) >= SPOILED
    for target, tally in tallies.items():
        assert tally.refused > 0, target
        assert tally.slowest_s < 0.05, (target, tally.slowest and tally.slowest.text())


def test_a_defect_is_found_and_found_again_by_its_text_alone(
    recording: Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def breaks_at_odd_lengths(case: Case) -> int:
        for frame in case:
            assert frame[3:4] in (b"", b"\0"), "a header of 16 MiB"  # it may be cut short
        return 0

    monkeypatch.setitem(TARGETS, "decoder", breaks_at_odd_lengths)
    found = Campaign(recording, 1_000, seed=6).run_one("decoder").findings
    assert found
    assert "a header of 16 MiB" in found[0].error
    with pytest.raises(AssertionError, match="a header of 16 MiB"):
        feed_again(found[0].text())


# -- a worker belongs to one session for life ------------------------------------------------


def test_no_process_ever_runs_calls_of_two_commanders(lieutenant) -> None:
    node: Lieutenant = lieutenant(2)
    seen: list[set[int]] = []
    for _ in range(2):
        with Commander([node.address]) as one, Commander([node.address]) as other:
            ran: tuple[set[int], set[int]] = set(), set()
            for _ in range(5):
                for commander, pids in zip((one, other), ran, strict=True):
                    pids |= set(commander.run(pid, [(n,) for n in range(20)]))
            seen += ran
    for number, pids in enumerate(seen):
        assert pids
        assert not any(pids & others for others in seen[number + 1 :])


# -- a client that names what is another's ---------------------------------------------------


@pytest.fixture
def tokens(tmp_path: Path) -> Iterator[tuple[Path, Token, Token]]:
    """A token file for two, who do not know each other."""
    alice, mallory = Token.make(), Token.make()
    lines = f"{alice.reveal()} alice", f"{mallory.reveal()} mallory"
    return written(tmp_path / "tokens", *lines), alice, mallory


def forged(client: Session, number: int, worker: int) -> None:
    """Whatever could be said of somebody else's batch, worker or result."""
    results = b"\x80\x05]\x94(K\x00e."  # a list of a zero
    ranges = {"batch": number, "attempt": 1, "lo": 0, "hi": 1}
    client.send("cancel", batch=number, attempt=1, force=True)
    client.send("done", results, **ranges, elapsed_us=1, worker=worker)
    client.send("returned", **ranges, why="cancelled")
    client.send("surrendered", asked=1, ranges=[[number, 1, 0, 1]])
    client.send("progress", results, serial=number, lo=0, hi=1, elapsed_us=1, final=True)
    client.send("ref-ended", results, worker=worker, ref=f"t-{number}", failed=False)
    client.send("item", results, worker=worker, task="t", index=0, awaited=False, refs=[])
    client.send("interrupt", serial=number)
    client.send("worker-left", worker=worker)
    client.send("forget", environment="e1")
    client.send("forget-function", digest="f" * 64)
    client.send("forget-deposits", keys=[number])
    client.send("kill-resident", environment=f"e{number}.1")


def test_what_a_client_says_of_the_work_of_another_is_said_of_nothing(lieutenant, tokens) -> None:
    file, alice, mallory = tokens
    node: Lieutenant = lieutenant(2, "--token-file", str(file))
    with Commander([node.address], token=alice.reveal()) as commander:
        kept = commander.submit(bytes, 150_000)
        refs = [commander.submit(nap, 0.5 + n / 100) for n in range(4)]
        until(lambda: len(node.worker_processes()) == 2, 30, "they run")
        attacker = Session("127.0.0.1", node.port, mallory.reveal())
        for number in range(10):
            forged(attacker, number, worker=number)
        attacker.send("ask-status")
        assert attacker.receive()[0]["t"] == "status", "all of it has been read"
        assert [ref.result() for ref in refs] == [0.5 + n / 100 for n in range(4)]
        assert kept.result() == bytes(150_000)
        assert {seen.pid for seen in node.worker_processes()} >= set(commander.run(pid, [(0,)])), (
            "its workers live on"
        )
        attacker.leave()


def test_the_big_result_of_another_is_nobody_elses(lieutenant, tokens) -> None:
    file, alice, mallory = tokens
    node: Lieutenant = lieutenant(2, "--token-file", str(file))
    with Commander([node.address], token=alice.reveal()) as commander:
        kept = commander.submit(bytes, 150_000)
        until(kept.done, 30, "it is on the node")
        for key in range(1, 5):
            attacker = Session("127.0.0.1", node.port, mallory.reveal())
            attacker.send("fetch-deposit", key=key)
            with pytest.raises(ConnectionError, match="ended the session"):
                attacker.receive()
            attacker.link.close()
        assert kept.result() == bytes(150_000)


def test_the_session_of_another_is_not_to_be_had_even_by_its_name(lieutenant, tokens) -> None:
    file, alice, mallory = tokens
    node: Lieutenant = lieutenant(1, "--token-file", str(file))
    honest = Session("127.0.0.1", node.port, alice.reveal())
    for token, client_id in ((mallory, honest.client_id), (alice, "another")):
        thief = Session("127.0.0.1", node.port, token.reveal())
        thief.client_id, thief.ticket = client_id, honest.ticket
        with pytest.raises(ConnectionError, match="the session is lost"):
            thief.resume()
        thief.link.close()
    honest.send("ask-status")
    assert honest.receive()[0]["t"] == "status", "it goes on"
    honest.leave()


# -- code in a worker that forges frames -----------------------------------------------------


def forge(text: str) -> str:
    """Write results of whatever may run on the node into the sockets of the worker that runs it."""
    import json
    import socket
    import stat
    import struct

    payload = b"\x80\x05]\x94\x8c\x06forged\x94a."  # ["forged"]
    for fd in map(int, os.listdir("/proc/self/fd")):
        try:
            if not stat.S_ISSOCK(os.fstat(fd).st_mode):
                continue
        except OSError:
            continue
        with socket.socket(fileno=os.dup(fd)) as mine:
            for serial in range(1, 100):
                ran = {"serial": serial, "lo": 0, "hi": 1, "elapsed_us": 1, "final": False}
                header = json.dumps({"t": "progress", **ran}).encode()
                frame = struct.pack("<II", len(header), 0) + header + payload
                try:
                    mine.sendall(struct.pack("<I", len(frame)) + frame)
                except OSError:
                    break
    time.sleep(0.2)
    return text


def attacker_gets(ref: ObjectRef[str]) -> str:
    """The outcome of a call that has forged its own."""
    try:
        return ref.result()
    except GoliathError:
        return "an error"


def test_a_call_that_forges_the_results_of_others_can_forge_its_own_only(lieutenant) -> None:
    node: Lieutenant = lieutenant(2)
    with Commander([node.address]) as honest, Commander([node.address]) as attacker:
        refs = [honest.submit(nap, 0.4) for _ in range(6)]
        until(lambda: node.worker_processes(), 30, "one of them runs")
        bad = [attacker.submit(forge, "honest") for _ in range(3)]
        assert [ref.result() for ref in refs] == [0.4] * 6
        outcomes = [attacker_gets(ref) for ref in bad]
        assert "honest" not in outcomes, "nothing was forged"
        assert set(outcomes) <= {"forged", "an error"}
        assert honest.run(nap, [(0.01,)] * 10) == [0.01] * 10
    assert "Traceback" not in node.err


def test_plain_data_is_all_that_the_forged_results_are() -> None:
    assert plain(b"\x80\x05]\x94(K\x00e.") == [0]
    assert plain(b"\x80\x05]\x94\x8c\x06forged\x94a.") == ["forged"]
