"""Who may come in: addresses, tokens, certificates, and what is refused with which words."""

from __future__ import annotations

import os
import socket
import threading
import time
from pathlib import Path

import pytest

import goliath
from goliath import Commander
from tests.e2e.calls import add
from tests.lieutenants import Lieutenant, command
from tests.tokens import ANOTHER, TLS_FLAGS, TOKEN

# -- who may come in ---------------------------------------------------------------------


@pytest.mark.parametrize("given", [{"token": ANOTHER}, {"token": "mapping"}])
def test_a_wrong_token_is_one_clear_sentence(node: Lieutenant, given: dict[str, object]) -> None:
    if given["token"] == "mapping":
        given = {"token": {f"127.0.0.1:{node.port}": ANOTHER}}
    with (
        Commander([node.address], connect_timeout=1.5, **given) as commander,
        pytest.raises(goliath.AuthenticationError) as caught,
    ):
        commander.run(add, [(1, 1)])
    assert str(node.port) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert ANOTHER not in str(caught.value)


def test_something_that_is_no_token_is_refused_at_once(node: Lieutenant) -> None:
    with (
        pytest.raises(goliath.AuthenticationError),
        Commander([node.address], token="password", connect_timeout=1.5) as commander,
    ):
        commander.run(add, [(1, 1)])


def test_no_lieutenant_at_the_address_is_a_connection_error_with_the_address(
    free_port: int,
) -> None:
    start = time.monotonic()
    with (
        Commander([("127.0.0.1", free_port)], connect_timeout=0.5) as commander,
        pytest.raises(ConnectionError) as caught,
    ):
        commander.run(add, [(1, 1)])
    assert isinstance(caught.value, goliath.ConnectionError)
    assert f"127.0.0.1:{free_port}" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert time.monotonic() - start < 3


def test_a_name_that_does_not_resolve_is_a_connection_error_with_the_name() -> None:
    with (
        Commander([("no-such-host.invalid", 9)], token=TOKEN, connect_timeout=2) as commander,
        pytest.raises(goliath.ConnectionError, match=r"no-such-host\.invalid"),
    ):
        commander.run(add, [(1, 1)])


def test_something_else_at_the_address_is_no_lieutenant(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

        def answer() -> None:
            server.settimeout(0.1)
            while not stop.is_set():
                try:
                    connection, _ = server.accept()
                except TimeoutError:
                    continue
                with connection:
                    connection.settimeout(1)
                    connection.recv(4096)
                    connection.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")

        stop = threading.Event()
        thread = threading.Thread(target=answer)
        thread.start()
        try:
            with (
                Commander([("127.0.0.1", port)], token=TOKEN, connect_timeout=1) as commander,
                pytest.raises(goliath.GoliathError, match=str(port)),
            ):
                commander.run(add, [(1, 1)])
        finally:
            stop.set()
            thread.join()


def test_addresses_come_in_three_forms(node: Lieutenant) -> None:
    for address in (
        ("127.0.0.1", node.port),
        f"127.0.0.1:{node.port}",
        f"ws://127.0.0.1:{node.port}",
        f"localhost:{node.port}",
    ):
        with Commander([address]) as commander:
            assert commander.run(add, [(1, 1)]) == [2]


@pytest.mark.parametrize("address", ["nonsense", ("host",), 5, ("host", "port"), "http://x:1"])
def test_what_is_no_address_is_refused_with_the_forms_that_are(address: object) -> None:
    with pytest.raises((ValueError, TypeError), match="host"), Commander([address]) as commander:
        commander.run(add, [(1, 1)])


# -- off loopback ------------------------------------------------------------------------


def test_off_loopback_without_a_token_it_refuses_and_says_how() -> None:
    run = command("0.0.0.0", "0", "1")
    assert run.returncode == 2
    assert "--token-file" in run.stderr
    assert "Traceback" not in run.stderr


def test_off_loopback_it_makes_itself_a_certificate_and_a_commander_needs_the_token_only(
    lieutenant, token_file: Path, private_home: Path
) -> None:
    own = lieutenant(1, "--token-file", str(token_file), host="0.0.0.0")
    # Of another machine the Commander knows nothing but address and token.
    away = socket.gethostbyname(socket.gethostname())
    address = f"wss://127.0.0.1:{own.port}" if away.startswith("127.") else (away, own.port)
    with Commander([address], token_file=token_file) as commander:
        assert commander.run(add, [(n, n) for n in range(100)]) == [2 * n for n in range(100)]
    (kept,) = (private_home / "home/.local/state/goliath").glob("certificate-*.pem")
    assert kept.stat().st_mode & 0o777 == 0o600
    made = kept.read_bytes()
    own.stop()
    lieutenant(1, "--token-file", str(token_file), host="0.0.0.0")
    assert kept.read_bytes() == made


def test_off_loopback_a_commander_on_the_same_machine_needs_nothing(
    lieutenant, token_file: Path
) -> None:
    own = lieutenant(1, "--token-file", str(token_file), host="0.0.0.0")
    assert own.runtime()["scheme"] == "wss"
    with Commander([("127.0.0.1", own.port)]) as commander:
        assert commander.run(add, [(1, 1)]) == [2]


def test_off_loopback_nobody_is_answered_in_plaintext(lieutenant, token_file: Path) -> None:
    own = lieutenant(1, "--token-file", str(token_file), host="0.0.0.0")
    with (
        Commander(
            [f"ws://127.0.0.1:{own.port}"], token_file=token_file, connect_timeout=1
        ) as commander,
        pytest.raises(goliath.ConnectionError, match="wss://"),
    ):
        commander.run(add, [(1, 1)])


@pytest.mark.parametrize("flag", ["--tls-cert", "--tls-key"])
def test_half_a_certificate_is_refused(token_file: Path, flag: str) -> None:
    run = command("0.0.0.0", "0", "1", "--token-file", str(token_file), flag, "nothing.pem")
    assert run.returncode == 2
    assert "go together" in run.stderr


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_a_certificate_that_is_none_is_refused_in_words(token_file: Path, host: str) -> None:
    given = ["--tls-cert", str(token_file), "--tls-key", str(token_file)]
    run = command(host, "0", "1", "--token-file", str(token_file), *given)
    assert run.returncode == 2
    assert str(token_file) in run.stderr
    assert "give a certificate and its key" in run.stderr
    assert "Traceback" not in run.stderr


def test_where_nothing_can_make_a_certificate_it_refuses_and_says_what_can(
    token_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # No package of this name, no program on the path, and none made before.
    (tmp_path / "cryptography.py").write_text("raise ImportError")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}")
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    run = command("0.0.0.0", "0", "1", "--token-file", str(token_file))
    assert run.returncode == 2
    assert "goliath[tls]" in run.stderr
    assert "--tls-cert" in run.stderr
    assert "Traceback" not in run.stderr


def test_a_public_name_without_a_token_is_refused() -> None:
    run = command("127.0.0.1", "0", "1", "--public-name", "lab.example.org")
    assert run.returncode == 2
    assert "--token-file" in run.stderr


@pytest.mark.parametrize("name", ["", "wss://lab", "lab:8080", "a b", "/prefix"])
def test_a_public_name_that_is_none_is_refused(name: str) -> None:
    run = command("127.0.0.1", "0", "1", "--public-name", name)
    assert run.returncode == 2
    assert "lab.example.org" in run.stderr


def test_a_token_file_that_others_can_read_is_refused(token_file: Path) -> None:
    token_file.chmod(0o644)
    run = command("127.0.0.1", "0", "1", "--token-file", str(token_file))
    assert run.returncode == 2
    assert "chmod 600" in run.stderr


def test_a_weak_token_is_refused(token_file: Path) -> None:
    token_file.write_text("hunter2\n")
    run = command("127.0.0.1", "0", "1", "--token-file", str(token_file))
    assert run.returncode == 2
    assert "token" in run.stderr
    assert "hunter2" not in run.stderr


def test_with_a_token_and_plaintext_allowed_it_serves_all_interfaces(
    lieutenant, token_file: Path
) -> None:
    own = lieutenant(1, "--token-file", str(token_file), "--insecure-plaintext", host="0.0.0.0")
    with Commander([f"ws://127.0.0.1:{own.port}"], token_file=token_file) as commander:
        assert commander.run(add, [(1, 1)]) == [2]


def test_with_a_certificate_the_link_is_encrypted_and_needs_no_ca(
    lieutenant, token_file: Path
) -> None:
    own = lieutenant(
        1,
        *("--token-file", str(token_file)),
        *TLS_FLAGS,
        host="0.0.0.0",
    )
    with Commander([f"wss://127.0.0.1:{own.port}"], token=TOKEN) as commander:
        assert commander.run(add, [(n, n) for n in range(100)]) == [2 * n for n in range(100)]


def test_on_loopback_with_a_certificate_the_runtime_file_tells_the_scheme(lieutenant) -> None:
    own = lieutenant(1, *TLS_FLAGS)
    assert own.runtime()["scheme"] == "wss"
    with Commander([own.address]) as commander:
        assert commander.run(add, [(1, 1)]) == [2]
