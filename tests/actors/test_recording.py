"""Journals of crashed minds: what is in their files, and that a fresh mind does the same."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from goliath.actors import recording
from goliath.actors.recording import Crash, keep, plain, read
from goliath.core import events as ev, node_events as nd
from goliath.core.batch import JobOptions
from goliath.core.ids import Attempt, BatchId, JobId, NodeId, SessionId
from goliath.core.node import Node
from goliath.core.observation import Journal, replay
from goliath.core.scheduler import Scheduler
from goliath.errors import GoliathError, VersionMismatchError
from goliath.replaying import replay_file
from tests.sim.cluster import Cluster

SESSION = SessionId("s")


@pytest.fixture(autouse=True)
def state(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    return tmp_path / "goliath" / "crashes"


def tell(mind: Any, *events: Any, journal: Journal[Any] | None = None) -> tuple[Any, Exception]:
    """Tell a mind until it breaks, as its actor would."""
    journal = journal or Journal()
    for now, event in enumerate(events):
        journal.note(float(now), event)
        try:
            mind.handle(event, float(now))
        except Exception as exc:  # noqa: BLE001 - it is what is to be kept
            return journal, exc
    return journal, RuntimeError("obeying a command has failed")


def kept(mind: Any, journal: Journal[Any], error: Exception) -> Path:
    """The file that the sentence names."""
    said = keep(mind, journal, error, checked=True)
    found = re.search(r"its journal is (\S+): `goliath replay \1`", said)
    assert found is not None, said
    return Path(found[1])


def crashed() -> Path:
    """The journal of a node that was told twice of the same session."""
    opened = nd.SessionOpened(SESSION, "kid")
    mind = Node(2, {"licence": 1.0}, devices=("0",))
    return kept(mind, *tell(mind, opened, nd.EnvironmentReady(SESSION, "env"), opened))


def test_a_fresh_mind_ends_as_the_crashed_one_did(capsys: pytest.CaptureFixture[str]):
    path = crashed()
    assert path.stat().st_mode & 0o777 == 0o600
    assert replay_file(path, as_json=False) == 0
    out = capsys.readouterr().out
    assert "1.000000 EnvironmentReady(session='s', environment='env')" in out
    assert "in _on_opened" in out
    assert "AssertionError: session s opened twice" in out
    assert "it ends as it did, after 3 events" in out


def test_programs_get_an_object_a_line(capsys: pytest.CaptureFixture[str]):
    assert replay_file(crashed(), as_json=True) == 0
    *steps, end = map(json.loads, capsys.readouterr().out.splitlines())
    assert [step["event"]["type"] for step in steps] == [
        "SessionOpened",
        "EnvironmentReady",
        "SessionOpened",
    ]
    assert end["same"] is True
    assert end["crash"] == end["recorded"] == "AssertionError: session s opened twice"


def test_addresses_in_a_message_are_no_difference():
    first, second = (Crash.of(RuntimeError(f"no {object()!r}\nbut {'a' * 9}")) for _ in range(2))
    assert first == second
    assert first.error == "RuntimeError: no <object object at 0x…>"


def test_an_error_without_a_message_is_kept():
    assert Crash.of(RuntimeError()).error == "RuntimeError: "


def test_a_crash_outside_of_the_mind_is_told_from_one_within(capsys: pytest.CaptureFixture[str]):
    mind = Scheduler()
    journal, error = tell(mind, ev.NodeJoined(NodeId("a#1"), 2))
    assert replay_file(kept(mind, journal, error), as_json=False) == 0
    out = capsys.readouterr().out
    assert "the mind bears all 1 events: the crash was outside of it" in out
    assert "obeying a command has failed" in out


def test_a_mind_that_was_mended_does_not_end_as_it_did(capsys: pytest.CaptureFixture[str]):
    mind = Node(2)
    journal, _ = tell(mind, nd.SessionOpened(SESSION))
    try:
        raise_in_a_mind()
    except AssertionError as exc:
        path = kept(mind, journal, exc)
    assert replay_file(path, as_json=False) == 1
    assert "it bears all of it now; it ended with AssertionError" in capsys.readouterr().out


def raise_in_a_mind() -> None:
    Node(1).handle(nd.SessionOpened(SESSION), 0.0)
    broken = Node(1)
    broken.handle(nd.SessionOpened(SESSION), 0.0)
    broken.handle(nd.SessionOpened(SESSION), 0.0)


def test_what_users_code_has_said_is_not_in_the_file():
    mind = Scheduler()
    journal, error = tell(
        mind,
        ev.JobOpened(JobId(1), JobOptions(environment="env", retry_exceptions=True), 3),
        ev.EnvironmentBroken("env", "on a#1: ValueError: my password is 12345"),
    )
    path = kept(mind, journal, error)
    assert "12345" not in path.read_text()
    assert read(path).entries[1][1].error == "<40 characters>"


def test_a_mind_that_was_told_too_much_leaves_its_last_words_only():
    mind, journal = Node(1), Journal[Any](kept=2, whole=3)
    journal, error = tell(mind, *[nd.NodeTimerFired()] * 5, journal=journal)
    path = kept(mind, journal, error)
    assert len(read(path).entries) == 2
    with pytest.raises(GoliathError, match="only the last 2 events of a mind that was told more"):
        replay_file(path, as_json=False)


def test_a_file_does_not_grow_without_bound(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(recording, "FILE_MAX_BYTES", 1000)
    mind = Node(1)
    journal, error = tell(mind, *[nd.NodeTimerFired()] * 400)
    found = read(kept(mind, journal, error))
    assert not found.whole
    assert len(found.entries) == recording.KEPT


def test_the_oldest_files_are_removed(state: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(recording, "FILES_KEPT", 3)
    paths = [crashed() for _ in range(5)]
    assert sorted(state.iterdir()) == sorted(paths[2:])


def test_a_place_that_cannot_be_written_is_said_and_hides_nothing(tmp_path: Path):
    (tmp_path / "goliath").write_text("a file in its way")
    said = keep(Node(1), Journal(), RuntimeError("the crash"), checked=False)
    assert said.startswith("its journal could not be kept: ")


@pytest.mark.parametrize("text", ["", "nonsense", "{}", "[1, 2]", '{"goliath": 1}'])
def test_another_file_is_refused_with_its_name(tmp_path: Path, text: str):
    path = tmp_path / "other.jsonl"
    path.write_text(text)
    with pytest.raises(GoliathError, match=r"other.jsonl is not the journal of a crashed mind"):
        read(path)


def test_a_damaged_journal_is_refused():
    path = crashed()
    path.write_text(path.read_text()[:-10])
    with pytest.raises(GoliathError, match="or is damaged"):
        read(path)


def test_the_journal_of_another_version_is_refused():
    path = crashed()
    path.write_text(path.read_text().replace('"goliath": "', '"goliath": "9.', 1))
    with pytest.raises(VersionMismatchError, match=r"was written by Goliath 9\..*replay it with"):
        read(path)


def test_whatever_a_command_holds_is_plain_for_programs():
    done = nd.ReportDone(SESSION, BatchId(1), Attempt(1), 0, 1, 0.5, 7)
    assert plain(done)["type"] == "ReportDone"
    assert plain(nd.NodeWakeAt(float("inf"))) == {"type": "NodeWakeAt", "deadline": "inf"}


OF_TEXTS = ("ReportEnvironmentBroken", "Fail", "Abandoned", "Evict")
"""Commands that pass on what users' code has said, which is not kept."""


def commands_of(trace: list[str], name: str) -> list[str]:
    """What a mind of the simulation has commanded; of a node's, since it was booted."""
    lines = [line[20:] for line in trace if line[11:].startswith(f"{name} ")]
    boots = [place for place, line in enumerate(lines) if line == "boots"]
    since = lines[boots[-1] + 1 :] if boots else lines
    return [line[4:] for line in since if line.startswith("    ")]


def tellable(commands: list[str]) -> Iterator[str]:
    return (each for each in commands if not each.startswith(OF_TEXTS))


@pytest.mark.parametrize("seed", [0, 7, 13, 22])
def test_what_a_mind_decided_in_a_whole_run_is_decided_again(seed: int):
    trace: list[str] = []
    cluster = Cluster(seed, trace.append)
    cluster.run()
    minds = [(each.name, each.scheduler, each.journal) for each in cluster.commanders]
    minds += [(each.name, each.node, each.journal) for each in cluster.lieutenants]
    for name, mind, journal in minds:
        found = read(kept(mind, journal, RuntimeError("the end")))
        steps = list(replay(found.fresh_mind(), found.entries, check=True))
        again = [repr(command) for _, _, commands in steps for command in commands]
        assert list(tellable(again)) == list(tellable(commands_of(trace, name)))
