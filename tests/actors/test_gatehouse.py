"""What a Lieutenant is told of those who come in by a token, and of the token."""

from __future__ import annotations

from pathlib import Path

from goliath.actors.gatehouse import Gatehouse
from goliath.actors.reception import SessionUp, TokenLimited, TokenRevoked
from goliath.config import TransportConfig
from goliath.core.ids import SessionId
from goliath.transport import memory
from goliath.transport.keys import Keys
from goliath.transport.token import Token
from goliath.transport.token_file import WatchedTokens
from tests.tokens import ANOTHER, TOKEN, written

KID, OTHER = (Keys.of(Token.parse(token)).kid for token in (TOKEN, ANOTHER))


def session(kid: str) -> SessionUp:
    return SessionUp(SessionId(f"of {kid}"), memory.pair(TransportConfig())[0], kid)


def renewed(gatehouse: Gatehouse) -> list[Token] | None:
    """What it finds in its file, which nobody writes any more."""
    return gatehouse.renewed() or gatehouse.renewed()


async def test_a_session_is_reported_and_a_revoked_token_after_it(tmp_path: Path):
    tokens, told = written(tmp_path / "tokens", f"{TOKEN} alice", f"{ANOTHER} bob"), list[object]()
    gatehouse = Gatehouse(None, WatchedTokens(tokens), told.append)
    hers = session(KID)
    gatehouse.let_in(hers)
    assert told == [hers]
    written(tokens, f"{ANOTHER} bob max-workers=2")
    assert renewed(gatehouse) == [gatehouse.own.token, Token.parse(ANOTHER)]
    assert told == [hers, TokenRevoked(KID), TokenLimited(OTHER, 2)]


async def test_whoever_is_let_in_while_his_token_is_revoked_is_reported_and_revoked_at_once(
    tmp_path: Path,
):
    """In this order: nothing that his session says is done then, wherever it goes on meanwhile."""
    tokens, told = written(tmp_path / "tokens", f"{TOKEN} alice", f"{ANOTHER} bob"), list[object]()
    gatehouse = Gatehouse(None, WatchedTokens(tokens), told.append)
    written(tokens, f"{ANOTHER} bob")
    renewed(gatehouse)
    told.clear()
    hers, his = session(KID), session(OTHER)
    gatehouse.let_in(hers)
    gatehouse.let_in(his)
    assert told == [hers, TokenRevoked(KID), his]
