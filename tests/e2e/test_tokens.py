"""Named tokens from outside: made, listed, limited, revoked; logins that are kept."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import goliath
from goliath import Commander
from goliath.testing.processes import until
from tests.e2e.calls import add, nap
from tests.lieutenants import Lieutenant, command


def goliath_command(*arguments: str, said: str = "") -> subprocess.CompletedProcess[str]:
    """Run ``goliath …`` to its end."""
    return command(*arguments, module="goliath", said=said)


@pytest.fixture
def tokens(tmp_path: Path) -> Path:
    """The Lieutenant's token file, not made yet."""
    return tmp_path / "tokens"


def new(tokens: Path, name: str, *more: str) -> str:
    """A named token, as its holder is given it."""
    made = goliath_command("token", "new", "--name", name, "--token-file", str(tokens), *more)
    assert made.returncode == 0, made.stderr
    return made.stdout.strip()


@pytest.fixture(autouse=True)
def no_login_is_kept(private_home: Path) -> Iterator[None]:
    yield
    (private_home / "home/.local/state/goliath/logins.json").unlink(missing_ok=True)


def test_a_token_is_printed_once_and_never_listed(tokens: Path) -> None:
    alice, bob = new(tokens, "alice"), new(tokens, "bob", "--max-workers", "4")
    assert alice.startswith("glt1_")
    assert alice != bob
    assert tokens.stat().st_mode & 0o777 == 0o600
    listed = goliath_command("token", "list", "--token-file", str(tokens))
    assert listed.stdout.split() == ["alice", "bob", "max-workers=4"]
    as_json = goliath_command("token", "list", "--token-file", str(tokens), "--json")
    assert json.loads(as_json.stdout) == [
        {"name": "alice", "max_workers": None},
        {"name": "bob", "max_workers": 4},
    ]
    again = goliath_command("token", "new", "--name", "bob", "--token-file", str(tokens))
    assert (again.returncode, again.stdout) == (1, "")
    assert "goliath token revoke bob" in again.stderr
    for secret in (alice, bob):
        assert secret not in listed.stdout + as_json.stdout + again.stderr


def test_without_a_file_named_tokens_are_in_the_state_directory_and_the_node_finds_them(
    lieutenant, private_home: Path
) -> None:
    made = goliath_command("token", "new", "--name", "alice")
    file = private_home / "home/.local/state/goliath/tokens"
    try:
        node = lieutenant(1)
        with Commander([node.address], token=made.stdout.strip()) as commander:
            assert commander.run(add, [(1, 1)]) == [2]
        assert goliath_command("token", "revoke", "alice").stdout == "revoked alice\n"
        assert goliath_command("token", "list").stdout == f"no tokens in {file}\n"
    finally:
        file.unlink()


@pytest.mark.parametrize(
    "arguments",
    [
        ["token", "new", "--max-workers", "2"],
        ["token", "new", "--name", "a b"],
        ["token", "new", "--name", "alice", "--max-workers", "0"],
        ["login", "nowhere"],
    ],
)
def test_wrong_usage_is_refused_in_words(arguments: list[str]) -> None:
    run = goliath_command(*arguments)
    assert run.returncode == 2
    assert run.stdout == ""
    assert "Traceback" not in run.stderr


def test_a_quota_is_what_a_commander_sees_and_what_the_node_allows(
    lieutenant, tokens: Path
) -> None:
    alice = new(tokens, "alice", "--max-workers", "1")
    node = lieutenant(3, "--token-file", str(tokens))
    with Commander([node.address], token=alice) as first, Commander([node.address]) as own:
        assert [info.workers for info in (*_nodes(first), *_nodes(own))] == [1, 3]
        with Commander([node.address], token=alice) as second:
            # Two Commanders of one token share its quota.
            spans: list[tuple[float, float]] = []
            threads = [
                threading.Thread(target=lambda c=c: spans.extend(c.run(_span, [(0.2,)] * 3)))
                for c in (first, second)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
    spans.sort()
    assert len(spans) == 6
    assert all(end <= begin for (_, end), (begin, _) in itertools.pairwise(spans))


def _nodes(commander: Commander) -> list[goliath.NodeInfo]:
    commander.connect()
    return commander.nodes()


def _span(seconds: float) -> tuple[float, float]:
    import time

    begin = time.monotonic()
    time.sleep(seconds)
    return begin, time.monotonic()


def test_a_new_token_counts_without_a_restart_and_a_revoked_one_ends_its_sessions(
    lieutenant, tokens: Path
) -> None:
    alice = new(tokens, "alice")
    node: Lieutenant = lieutenant(2, "--token-file", str(tokens))
    bob = new(tokens, "bob")
    with (
        Commander([node.address], token=bob, connect_timeout=10) as his,
        Commander([node.address], token=alice) as hers,
    ):
        until(lambda: "bob" not in _refused(his), 30, "the new token to count")
        assert his.run(add, [(1, 1)]) == [2]
        ref = hers.submit(nap, 60)
        until(lambda: node.family() and hers.nodes()[0].busy, 30, "her call to run")
        assert goliath_command("token", "revoke", "alice", "--token-file", str(tokens)).stdout
        until(lambda: not hers.nodes()[0].alive, 30, "her session to end")
        until(lambda: "refused the token" in (hers.nodes()[0].error or ""), 30, "her refusal")
        assert his.run(add, [(2, 2)]) == [4]
        goliath.cancel(ref)
    assert "the token 'alice' was revoked" in node.err


def _refused(commander: Commander) -> str:
    try:
        commander.connect()
    except goliath.GoliathError as exc:
        return f"bob: {exc}"
    return ""


def test_detached_actors_are_those_of_a_name_and_end_when_it_is_revoked(
    lieutenant, tokens: Path
) -> None:
    alice, bob = new(tokens, "alice"), new(tokens, "bob")
    node = lieutenant(2, "--token-file", str(tokens))
    for token in (alice, bob):
        script = (
            "import goliath, os\n"
            "@goliath.remote\n"
            "class Box:\n"
            "    def mine(self): return os.getpid()\n"
            f"goliath.init('127.0.0.1:{node.port}')\n"
            "box = Box.options(name='box', lifetime='detached').remote()\n"
            "print(goliath.get(box.mine.remote()))\n"
        )
        made = subprocess.run(
            [sys.executable, "-c", script],
            env={**os.environ, "GOLIATH_TOKEN": token},
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert made.returncode == 0, made.stderr
    with Commander([node.address], token=bob) as his:
        (box,) = his.detached_actors()
        assert len(node.family()) >= 2
        goliath_command("token", "revoke", "alice", "--token-file", str(tokens))
        until(lambda: "revoked" in node.err, 30, "the revocation")
        assert [actor.pid for actor in his.detached_actors()] == [box.pid]
        actors = {seen.pid for seen in node.family()}
        assert box.pid in actors


# -- logins --------------------------------------------------------------------------------


def test_a_login_is_kept_with_the_certificate_and_a_changed_one_is_a_hard_error(
    lieutenant, tokens: Path, private_home: Path
) -> None:
    alice = new(tokens, "alice")
    given = ("--token-file", str(tokens))
    node = lieutenant(1, *given, host="0.0.0.0")
    address = f"wss://localhost:{node.port}"
    wrong = goliath_command("login", address, said=goliath_command("token", "new").stdout)
    assert wrong.returncode == 1
    assert "Traceback" not in wrong.stderr
    done = goliath_command("login", address, said=alice + "\n")
    assert done.returncode == 0, done.stderr
    assert "sha256:" in done.stdout
    assert alice not in done.stdout + done.stderr
    node.runtime_file().unlink()  # as on another machine
    with Commander([address]) as commander:
        assert commander.run(add, [(1, 1)]) == [2]
    node.destroy()
    (certificate,) = (private_home / "home/.local/state/goliath").glob("certificate-*.pem")
    certificate.unlink()
    changed = lieutenant(1, *given, host="0.0.0.0", port=node.port)
    changed.runtime_file().unlink()
    with (
        Commander([address], connect_timeout=2) as commander,
        pytest.raises(goliath.AuthenticationError, match="goliath logout"),
    ):
        commander.run(add, [(1, 1)])
    again = goliath_command("login", address, said=alice + "\n")
    assert again.returncode == 1
    assert "goliath logout" in again.stderr
    assert goliath_command("logout", f"localhost:{node.port}").returncode == 0
    assert goliath_command("login", address, said=alice + "\n").returncode == 0


def test_nothing_is_saved_of_a_lieutenant_that_is_not_there(
    free_port: int, private_home: Path
) -> None:
    token = goliath_command("token", "new").stdout
    run = goliath_command("login", f"127.0.0.1:{free_port}", said=token)
    assert run.returncode == 1
    assert f"no lieutenant at 127.0.0.1:{free_port}" in run.stderr
    assert not (private_home / "home/.local/state/goliath/logins.json").exists()
