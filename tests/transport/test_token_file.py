"""The Lieutenant's token file: what stands in it, who changes it, and when a change counts."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from goliath.errors import AuthenticationError
from goliath.transport.token import Token
from goliath.transport.token_file import (
    DEFAULT,
    NamedToken,
    WatchedTokens,
    add_token,
    parse_tokens,
    read_token_file,
    read_tokens,
    remove_token,
)

ONE, TWO = Token(bytes(range(32))), Token(bytes(range(1, 33)))
ALICE, BOB = NamedToken("alice", ONE), NamedToken("bob", TWO, 4)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "tokens"


def write(path: Path, *lines: str) -> None:
    path.write_text("".join(f"{line}\n" for line in lines))
    path.chmod(0o600)


def test_a_line_is_a_token_and_maybe_a_name_and_maybe_a_quota(path: Path):
    write(path, "# who may come in", "", ALICE.line(), f"  {TWO.reveal()}  bob   max-workers=4 ")
    assert read_tokens(path) == [ALICE, BOB]


def test_a_token_alone_has_the_name_default_and_is_a_commanders_file(path: Path):
    write(path, ONE.reveal())
    assert read_tokens(path) == [NamedToken(DEFAULT, ONE)]
    assert read_token_file(path) == ONE


def test_a_commander_takes_no_file_with_several_tokens(path: Path):
    write(path, ALICE.line(), BOB.line())
    with pytest.raises(AuthenticationError, match=r"several tokens \(alice, bob\)"):
        read_token_file(path)
    write(path)
    with pytest.raises(AuthenticationError, match="has no token"):
        read_token_file(path)


@pytest.mark.parametrize(
    "line",
    [
        "hunter2",
        "glt1_short",
        f"{ONE.reveal()} a/b",
        f"{ONE.reveal()} alice max-workers=0",
        f"{ONE.reveal()} alice max-workers=2 more",
        f"{ONE.reveal()} alice workers=2",
        f"alice {ONE.reveal()}",
        f"{TWO.reveal()} bob",
        f"{TWO.reveal()} alice",
    ],
)
def test_a_wrong_line_is_named_by_its_number_and_not_repeated(line: str):
    text = f"{TWO.reveal()} bob\n{ONE.reveal()} x\n" if "alice" not in line else ""
    with pytest.raises(AuthenticationError, match=r"line \d+ of the token file F") as refusal:
        parse_tokens(f"{text}{line}\n{ALICE.line()}\n{ALICE.line()}\n", "F")
    for token in (ONE, TWO):
        assert token.reveal() not in str(refusal.value)
    assert "hunter2" not in str(refusal.value)


def test_tokens_are_added_and_removed_and_the_rest_stays(path: Path):
    add_token(path, ALICE)
    assert path.stat().st_mode & 0o777 == 0o600
    path.write_text(f"# hers\n{ALICE.line()}")  # without a newline at its end
    add_token(path, BOB)
    assert path.read_text() == f"# hers\n{ALICE.line()}\n{BOB.line()}\n"
    with pytest.raises(AuthenticationError, match="called 'alice'"):
        add_token(path, NamedToken("alice", TWO))
    remove_token(path, "alice")
    assert path.read_text() == f"# hers\n{BOB.line()}\n"
    with pytest.raises(AuthenticationError, match="no token called 'alice'; it has bob"):
        remove_token(path, "alice")
    assert [file.name for file in path.parent.iterdir()] == ["tokens"]


def test_a_link_to_the_file_stays_a_link(path: Path):
    link = path.with_name("link")
    link.symlink_to(path)
    add_token(link, ALICE)
    remove_token(link, "alice")
    assert link.is_symlink()


def test_a_file_open_to_others_is_not_added_to(path: Path):
    add_token(path, ALICE)
    path.chmod(0o640)
    with pytest.raises(AuthenticationError, match="chmod 600"):
        add_token(path, BOB)


def test_a_change_counts_when_it_has_settled_and_once(path: Path):
    write(path, ALICE.line())
    watched = WatchedTokens(path)
    assert [watched.look(), watched.entries] == [False, [ALICE]]
    add_token(path, BOB)
    assert [watched.look(), watched.look(), watched.look()] == [False, True, False]
    assert watched.entries == [ALICE, BOB]
    path.touch()
    assert [watched.look(), watched.look()] == [False, False]


@pytest.mark.parametrize("spoil", ["gone", "open", "wrong"])
def test_a_file_that_cannot_be_used_changes_nothing_and_is_complained_of_once(
    path: Path, spoil: str
):
    write(path, ALICE.line())
    watched = WatchedTokens(path)
    if spoil == "gone":
        path.unlink()
    elif spoil == "open":
        path.chmod(0o644)
    else:
        path.write_text("nonsense\n")
    assert watched.look() is False
    with pytest.raises(AuthenticationError, match=str(path)):
        watched.look()
    assert watched.look() is False
    assert watched.entries == [ALICE]
    write(path, BOB.line())
    os.utime(path, ns=(1, 1))  # whatever the clock says
    assert [watched.look(), watched.look()] == [False, True]
    assert watched.entries == [BOB]


def test_an_empty_file_revokes_all(path: Path):
    write(path, ALICE.line())
    watched = WatchedTokens(path)
    write(path)
    assert [watched.look(), watched.look(), watched.entries] == [False, True, []]
