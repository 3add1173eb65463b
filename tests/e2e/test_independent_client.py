"""Whoever has read ``docs/protocol.md`` can write a client: here one meets a real Lieutenant."""

from __future__ import annotations

import ast
import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

from goliath.errors import ProtocolError
from goliath.testing.processes import until
from tests import independent_client, independent_session
from tests.e2e.calls import stamp, stamped
from tests.independent_client import Client, Header
from tests.independent_session import Session
from tests.lieutenants import Lieutenant
from tests.tokens import TOKEN
from tests.transport.vectors import vectors

FILES = [Path(module.__file__) for module in (independent_client, independent_session)]
LINES_MAX = 150


def wanted(n: int) -> str:
    return "ValueError: not 13" if n == 13 else str(n * n if n % 2 else {"square": n * n})


@pytest.fixture
def client(node: Lieutenant):
    client = Client("127.0.0.1", node.port, node.runtime()["token"])
    yield client
    client.link.close()


@pytest.fixture
def session(node: Lieutenant):
    session = Session("127.0.0.1", node.port, node.runtime()["token"])
    yield session
    session.link.close()


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_it_is_short_and_imports_nothing_of_goliath(file: Path) -> None:
    text = file.read_text()
    assert len(text.splitlines()) <= LINES_MAX
    imported = {
        name.split(".")[0]
        for statement in ast.walk(ast.parse(text))
        for name in (
            [alias.name for alias in statement.names]
            if isinstance(statement, ast.Import)
            else [statement.module or ""]
            if isinstance(statement, ast.ImportFrom)
            else []
        )
    }
    assert "goliath" not in imported
    assert imported - sys.stdlib_module_names <= {"cloudpickle", "websockets", "tests"}


def test_a_thousand_calls_of_a_shipped_function_come_back_in_order(
    lieutenant, token_file: Path, tmp_path: Path
) -> None:
    node = lieutenant(2, "--token-file", str(token_file))
    run = subprocess.run(
        [sys.executable, "-P", str(FILES[0]), "127.0.0.1", str(node.port)],
        input=TOKEN,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=40,
        check=False,
    )
    assert (run.returncode, run.stderr) == (0, "")
    assert run.stdout.splitlines() == [wanted(n) for n in range(1000)]
    until(lambda: not node.worker_processes(), 5, "its workers are gone: it has logged out")
    assert "ended" not in node.err


def test_it_goes_on_over_another_connection_and_nothing_runs_twice(
    session: Session, tmp_path: Path
) -> None:
    def stamp_slowly(folder: str, name: str) -> str:
        import time

        time.sleep(0.02)  # longer than a result waits for others: each is told of by itself
        return stamp(folder, name)

    calls = [{"folder": str(tmp_path), "name": str(n)} for n in range(50)]
    real_receive, heard = session.receive, 0

    def receive() -> tuple[Header, bytes]:
        nonlocal heard
        heard += 1
        if heard in (1, 5):
            session.resume()
        return real_receive()

    session.receive = receive  # type: ignore[method-assign]
    assert session.run(stamp_slowly, calls) == [str(n) for n in range(50)]
    assert heard > 5
    assert [stamped(str(tmp_path), str(n)) for n in range(50)] == [1] * 50
    session.leave()


def test_messages_bigger_than_a_chunk_travel_both_ways(session: Session) -> None:
    def echo(text: str) -> str:
        return text

    text = "x" * 500_000
    assert session.run(echo, [{"text": text}] * 2) == [text] * 2
    session.leave()


def test_it_pings_while_a_call_takes_its_time(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nap(seconds: float) -> float:
        import time

        time.sleep(seconds)
        return seconds

    # Those of this node, which a test can wait for, and cuts a connection that is silent.
    monkeypatch.setattr(independent_session, "PING_INTERVAL_S", 0.3)
    monkeypatch.setattr(independent_session, "SILENCE_MAX_S", 1.5)
    assert session.run(nap, [{"seconds": 4.0}]) == [4.0]
    session.leave()


def test_nonsense_is_answered_by_what_is_wrong_with_it(client: Client, node: Lieutenant) -> None:
    client.send("assign", batch="one")
    with pytest.raises(Exception, match=r"assign\.batch is a str, not int"):
        client.receive()
    assert client.link.close_code == 4400
    assert "ended the session of 127.0.0.1: assign.batch is a str, not int" in node.err
    assert ProtocolError.__name__ not in node.err


def test_what_no_honest_client_says_is_answered_by_goodbye_and_logged(
    client: Client, node: Lieutenant
) -> None:
    names = {"function": "f" * 64, "environment": "e", "form": "rows"}
    client.send("assign", batch=1, attempt=1, lo=0, hi=1, **names)
    with pytest.raises(ConnectionError, match="ended the session"):
        client.receive()
    assert "a batch of a function or environment never defined" in node.err


def test_the_vectors_of_the_page_are_what_it_makes_too() -> None:
    made = vectors()
    kid, client_key, server_key = independent_client.keys(made["keys"]["token"])
    assert [kid, client_key.hex(), server_key.hex()] == [
        made["keys"][name] for name in ("kid", "client key", "server key")
    ]
    login = made["login"]
    hello, challenge = login["hello"].encode(), login["challenge"].encode()
    th = independent_client.transcript(hello, challenge, login["binding"])
    assert th.hex() == login["th"]
    for key, role, name in ((client_key, b"client", "proof"), (server_key, b"server", "welcome")):
        message = bytes.fromhex(login[name])
        assert independent_client.seal(key, role, th, message[32:]) == message
    certificate = bytes.fromhex(made["bindings"]["certificate"])
    digest = hashlib.sha256(certificate).hexdigest()
    assert made["bindings"]["of that certificate"] == f"tls-server-end-point:{digest}"


def test_it_reads_the_frames_of_the_page() -> None:
    made = vectors()
    frames = {name: bytes.fromhex(frame) for name, frame in made["frames"].items()}
    header, payload = independent_client.unpack(frames["assign, the first frame of a session"])
    assert (header["t"], header["q"], header["a"], payload) == ("assign", 1, 0, b"calls")
    assert independent_client.unpack(frames["ping"])[0] == {"t": "ping", "n": 1, "s": 0, "a": 0}
    with pytest.raises(ConnectionError):
        independent_client.unpack(frames["assign, under TLS"])
    whole, payload = independent_client.unpack(bytes.fromhex(made["parts"]["whole"]))
    parts = [
        independent_client.unpack(bytes.fromhex(p)) for p in made["parts"]["in parts of 64 bytes"]
    ]
    gathered = b"".join(piece for _, piece in parts)
    size = parts[0][0]["h"]
    del whole["q"], whole["a"]
    assert (json.loads(gathered[:size]), gathered[size:]) == (whole, payload)
