"""Attacker 8: another user of the machine, or another program, that looks for the token."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from goliath import Commander
from goliath.actors.gatehouse import Gatehouse
from goliath.errors import AuthenticationError
from goliath.node_options import options_from, parser
from goliath.testing.processes import until
from goliath.transport.credentials import Credentials
from goliath.transport.handshake import ClientHandshake, ServerHandshake
from goliath.transport.keys import Keyring, Keys
from goliath.transport.logins import Login
from goliath.transport.serialization import own_versions
from goliath.transport.token import Token
from goliath.transport.token_file import NamedToken, WatchedTokens
from tests.e2e.calls import add
from tests.lieutenants import COMMAND
from tests.tokens import written


def secrets_of(token: Token) -> list[bytes]:
    """All forms in which it could be seen, and the keys that are as good."""
    text, keys = token.reveal(), Keys.of(token)
    raw = [token.secret, keys.client, keys.server]
    return [text.removeprefix("glt1_").encode(), *(r.hex().encode() for r in raw)]


def legible(pid: int) -> bytes:
    """What ``ps`` and its like can see of a process."""
    seen = b""
    for name in ("cmdline", "environ", "comm", "status"):
        try:
            seen += Path(f"/proc/{pid}/{name}").read_bytes()
        except OSError:
            continue
    return seen


@pytest.mark.parametrize("given", ["file", "made at the start", "named"])
def test_no_process_and_no_log_shows_it(lieutenant, tmp_path: Path, given: str) -> None:
    token = Token.make()
    file = written(tmp_path / "token", token.reveal() + (" alice" if given == "named" else ""))
    flags = () if given == "made at the start" else ("--token-file", str(file))
    node = lieutenant(2, *flags, "--log-level", "debug", launcher=COMMAND)
    with Commander([node.address]) as commander:
        assert commander.run(add, [(1, 1)]) == [2]
        with (
            Commander([node.address], token=Token.make().reveal()) as stranger,
            pytest.raises(AuthenticationError, match="refused the token"),
        ):
            stranger.run(add, [(1, 1)])
        runtime = Token.parse(node.runtime()["token"])
        processes = [node.pid, os.getpid(), *(seen.pid for seen in node.family())]
        assert len(processes) > 3
        for secret in (*secrets_of(token), *secrets_of(runtime)):
            for pid in processes:
                assert secret not in legible(pid), pid
            assert secret.decode() not in node.out + node.err
    assert "refused a login" in node.err


def test_one_that_was_given_in_the_environment_goes_no_further(lieutenant) -> None:
    token = Token.make()
    node = lieutenant(2, launcher=COMMAND, env={"GOLIATH_TOKEN": token.reveal()})
    with Commander([node.address], token=token.reveal()) as commander:
        assert commander.run(_environment, [()]) == [[]]
        for seen in node.family():
            for secret in secrets_of(token):
                assert secret not in legible(seen.pid)


def _environment() -> list[str]:
    import os

    return [name for name in os.environ if name.startswith("GOLIATH_TOKEN")]


def test_files_with_tokens_are_for_their_user_alone(lieutenant) -> None:
    node = lieutenant(1, launcher=COMMAND)
    file = node.runtime_file()
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.parent.stat().st_mode & 0o777 == 0o700


def test_nothing_that_holds_it_shows_it_when_it_is_printed(tmp_path: Path) -> None:
    token = Token.make()
    file = written(tmp_path / "token", token.reveal())
    keyring = Keyring([token], Token.make())
    versions = own_versions()
    watched = WatchedTokens(file)
    told: list[object] = []
    arguments = parser().parse_args(["127.0.0.1", "0", "1", "--token-file", str(file)])
    holders = [
        token,
        Keys.of(token),
        keyring,
        NamedToken("alice", token, 3),
        watched,
        watched.entries,
        Login(token, "sha256:ab"),
        Credentials(token, file),
        Credentials({"lab:1": token.reveal()}),
        Gatehouse(None, watched, told.append),
        options_from(arguments),
        ClientHandshake(token, "b", nonce=bytes(32), client_id="me", versions=versions),
        ServerHandshake(keyring, ("b",), nonce=bytes(32), versions=versions),
        Commander(["127.0.0.1:1"], token=token.reveal()),
        told,
    ]
    for holder in holders:
        for shown in (repr(holder), str(holder), f"{holder}"):
            for secret in secrets_of(token):
                assert secret.decode() not in shown, type(holder)


# -- its memory ----------------------------------------------------------------------------


def dumps_core(command: list[str], until_ready: str, folder: Path) -> bool:
    """Whether a process leaves its memory to whoever finds the file, when it is aborted."""
    folder.mkdir()

    def allow_cores() -> None:
        hard = resource.getrlimit(resource.RLIMIT_CORE)[1]
        resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))

    out = folder / "out"
    with out.open("wb") as file:
        process = subprocess.Popen(
            command, stdout=file, stderr=file, cwd=folder, preexec_fn=allow_cores
        )
    until(lambda: until_ready in out.read_text() or process.poll() is not None, 20, "ready")
    os.kill(process.pid, signal.SIGABRT)
    _, status = os.waitpid(process.pid, 0)
    process.returncode = -signal.SIGABRT  # it has been waited for
    assert os.WTERMSIG(status) == signal.SIGABRT
    return os.WCOREDUMP(status)


def test_a_lieutenant_that_crashes_leaves_no_core(tmp_path: Path, private_home: Path) -> None:
    plain = [sys.executable, "-c", "import time; print('ready', flush=True); time.sleep(60)"]
    node = [sys.executable, "-m", "goliath.lieutenant", "127.0.0.1", "0", "1"]
    if resource.getrlimit(resource.RLIMIT_CORE)[1]:
        assert dumps_core(plain, "ready", tmp_path / "plain"), "cores are off: this proves nothing"
    assert not dumps_core(node, "ready on", tmp_path / "node")
    for left in (private_home / "run/goliath").glob("*.json"):
        left.unlink()


def test_its_memory_is_hidden_and_that_of_its_workers_is_not(lieutenant) -> None:
    node = lieutenant(1, launcher=COMMAND)
    with Commander([node.address]) as commander:
        assert commander.run(_dumpable, [()]) == [1]
        # Whose memory is hidden belongs to root, as far as /proc is concerned.
        script = f"import os; os.setuid(65534); open('/proc/{node.pid}/environ').read()"
        spied = subprocess.run([sys.executable, "-c", script], capture_output=True, check=False)
        assert b"PermissionError" in spied.stderr


def _dumpable() -> int:
    import ctypes

    return ctypes.CDLL(None).prctl(3, 0, 0, 0, 0)
