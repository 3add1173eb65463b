"""Tokens and where they are found."""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path

import pytest

from goliath.errors import AuthenticationError
from goliath.transport.address import Address
from goliath.transport.credentials import (
    Credentials,
    RuntimeFile,
    Token,
    read_token_file,
    running_here,
)

HERE = Address("127.0.0.1", 8080)
THERE = Address("lab1", 8080)


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    return {"XDG_RUNTIME_DIR": str(tmp_path), "HOME": str(tmp_path / "home")}


def private(path: Path, text: str) -> Path:
    path.write_text(text)
    path.chmod(0o600)
    return path


def test_a_token_survives_its_text_form():
    token = Token.make()
    assert Token.parse(token.reveal() + "\n") == token
    assert token.reveal().startswith("glt1_")
    assert len(token.reveal()) == 48


def test_a_token_tells_nothing_and_does_not_travel():
    token = Token.make()
    assert repr(token) == str(token) == f"{token}" == "<token>"
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(token)
    assert repr(Credentials(token=token.reveal())) == "<credentials>"


@pytest.mark.parametrize(
    "text",
    ["", "secret", "glt1_", "glt1_abc", "glt1_!!!", "glt1_" + "A" * 43, "glt2_" + "k" * 43],
)
def test_a_weak_or_malformed_token_is_refused_and_not_repeated(text: str):
    with pytest.raises(AuthenticationError) as refusal:
        Token.parse(text)
    assert len(text) < 5 or text.removeprefix("glt1_")[:4] not in str(refusal.value) or not text[5:]


def test_a_token_file_open_to_others_is_refused_with_the_remedy(tmp_path: Path):
    path = private(tmp_path / "token", Token.make().reveal())
    assert read_token_file(path)
    path.chmod(0o640)
    with pytest.raises(AuthenticationError, match=r"mode 0640 .*chmod 600"):
        read_token_file(path)


def test_a_token_file_that_is_missing_or_not_text_is_named(tmp_path: Path):
    with pytest.raises(AuthenticationError, match="nowhere cannot be read"):
        read_token_file(tmp_path / "nowhere")
    path = tmp_path / "binary"
    path.write_bytes(b"\xff\xfe")
    path.chmod(0o600)
    with pytest.raises(AuthenticationError, match="binary cannot be read"):
        read_token_file(path)


def test_the_order_is_given_then_file_then_environment_then_runtime_file(
    tmp_path: Path, environ: dict[str, str]
):
    tokens = [Token.make() for _ in range(5)]
    texts = [token.reveal() for token in tokens]
    RuntimeFile(8080, environ=environ).write(tokens[4], scheme="ws", host="x", port=8080)
    file = private(tmp_path / "one", texts[1])
    assert Credentials(environ=environ).token_for(HERE) == tokens[4]
    environ["GOLIATH_TOKEN"] = texts[3]
    assert Credentials(environ=environ).token_for(HERE) == tokens[3]
    environ["GOLIATH_TOKEN_FILE"] = str(private(tmp_path / "two", texts[2]))
    assert Credentials(environ=environ).token_for(HERE) == tokens[2]
    assert Credentials(token_file=file, environ=environ).token_for(HERE) == tokens[1]
    assert Credentials(texts[0], file, environ).token_for(HERE) == tokens[0]


def test_a_mapping_gives_each_lieutenant_its_own_token(environ: dict[str, str]):
    one, two = Token.make(), Token.make()
    credentials = Credentials({"lab1:8080": one.reveal(), "[::1]:9": two}, environ=environ)
    assert credentials.token_for(THERE) == one
    assert credentials.token_for(Address("::1", 9)) == two
    with pytest.raises(AuthenticationError, match=r"no token for lab2:1: .*token_file="):
        credentials.token_for(Address("lab2", 1))


def test_without_any_token_the_message_says_what_to_do(environ: dict[str, str]):
    with pytest.raises(AuthenticationError, match="start it as the same user"):
        Credentials(environ=environ).token_for(HERE)


def test_a_runtime_file_is_private_and_says_what_a_commander_needs(environ: dict[str, str]):
    token = Token.make()
    file = RuntimeFile(8080, environ=environ)
    file.write(token, scheme="wss", host="127.0.0.1", port=8080, name="lab")
    assert file.path == Path(environ["XDG_RUNTIME_DIR"]) / "goliath" / "8080.json"
    assert file.path.stat().st_mode & 0o777 == 0o600
    assert file.path.parent.stat().st_mode & 0o777 == 0o700
    assert [path.name for path in file.path.parent.iterdir()] == ["8080.json"]
    assert file.read() == {
        "token": token.reveal(),
        "scheme": "wss",
        "host": "127.0.0.1",
        "port": 8080,
        "pid": os.getpid(),
        "name": "lab",
    }
    assert Credentials(environ=environ).scheme_for(HERE) == "wss"
    file.remove()
    assert file.read() is None
    file.remove()


def test_without_a_runtime_directory_it_is_in_the_home(tmp_path: Path):
    file = RuntimeFile(1, environ={"HOME": str(tmp_path)})
    assert file.path == tmp_path / ".local/state/goliath/run/1.json"


def test_the_file_of_a_dead_lieutenant_is_ignored_and_overwritten(environ: dict[str, str]):
    file = RuntimeFile(8080, environ=environ)
    file.write(Token.make(), scheme="ws", host="x", port=8080)
    record = json.loads(file.path.read_text())
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    private(file.path, json.dumps(record | {"pid": pid}))
    assert file.read() is None
    with pytest.raises(AuthenticationError):
        Credentials(environ=environ).token_for(HERE)
    file.remove()
    assert file.path.exists()
    file.write(Token.make(), scheme="ws", host="x", port=8080)
    assert file.read() is not None


def test_the_lieutenants_that_run_here_are_known_by_their_files(environ: dict[str, str]):
    assert running_here(environ) == []
    for port, host in ((8080, "127.0.0.1"), (9090, "::1")):
        RuntimeFile(port, environ=environ).write(Token.make(), scheme="ws", host=host, port=port)
    folder = RuntimeFile(1, environ=environ).path.parent
    private(folder / "7070.json", '{"pid": -1, "host": "127.0.0.1"}')
    private(folder / "notes.json", "{}")
    assert running_here(environ) == ["127.0.0.1:8080", "[::1]:9090"]


@pytest.mark.parametrize("text", ["", "[]", "{", '{"pid": "1"}', '{"pid": -1}'])
def test_a_spoilt_runtime_file_is_none(environ: dict[str, str], text: str):
    file = RuntimeFile(8080, environ=environ)
    file.path.parent.mkdir(parents=True)
    private(file.path, text)
    assert file.read() is None


def test_the_scheme_is_as_the_url_says_else_by_the_address(environ: dict[str, str]):
    credentials = Credentials(environ=environ)
    assert credentials.scheme_for(HERE) == "ws"
    assert credentials.scheme_for(THERE) == "wss"
    assert credentials.scheme_for(Address("lab1", 80, "ws")) == "ws"
    assert credentials.scheme_for(Address("127.0.0.1", 443, "wss")) == "wss"
