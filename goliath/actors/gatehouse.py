"""Who may come in by which token: names, quotas, and what becomes of those that are revoked."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable

from goliath.actors.reception import SessionUp, TokenLimited, TokenRevoked
from goliath.errors import AuthenticationError
from goliath.transport.keys import Keys
from goliath.transport.token import Token
from goliath.transport.token_file import DEFAULT, NamedToken, WatchedTokens

_log = logging.getLogger("goliath.lieutenant")

OWN = "own"
"""What the token is called that a Lieutenant makes for its own user on its own machine."""


class Gatehouse:
    """The tokens of one Lieutenant.

    Args:
        given: the only token, if they are not in a file.
        file: the file they are in.
        tell: is told of quotas, of revoked tokens, and of sessions.
    """

    def __init__(
        self,
        given: NamedToken | None,
        file: WatchedTokens | None,
        tell: Callable[[TokenLimited | TokenRevoked | SessionUp], None],
    ) -> None:
        self._file = file
        self._tell = tell
        entries = [given] if given is not None else file.entries if file is not None else []
        unnamed = [entry for entry in entries if entry.name == DEFAULT]
        # For whoever starts it: the token without a name or, if all have one, another.
        self.own = unnamed[0] if unnamed else NamedToken(OWN, Token.make())
        self._fixed = [given] if given is not None else [] if unnamed else [self.own]
        self._known: dict[str, NamedToken] = {}
        self._learn()

    def tokens(self) -> list[Token]:
        """Those that are let in now."""
        return [entry.token for entry in self._known.values()]

    def entry(self, kid: str) -> NamedToken | None:
        """The token of this name, which its keys have."""
        return self._known.get(kid)

    def slots(self, kid: str, slots: int) -> int:
        """How many of so many slots its holders may use."""
        entry = self._known.get(kid)
        quota = entry.workers_max if entry is not None else None
        return slots if quota is None else min(slots, quota)

    def let_in(self, session: SessionUp) -> None:
        """Somebody has logged in, and his session is there."""
        self._tell(session)
        if session.realm not in self._known:
            # Revoked while he was let in: that was told when his session was not known yet. The
            # transport sends him away, but what he says before he hears that must not be done.
            self._tell(TokenRevoked(session.realm))

    def renewed(self) -> list[Token] | None:
        """Other tokens than before, if the file has changed."""
        try:
            if self._file is None or not self._file.look():
                return None
        except AuthenticationError as exc:
            _log.error("the tokens stay as they are: %s", exc)
            return None
        self._learn()
        _log.info("tokens now: %s", ", ".join(entry.name for entry in self._known.values()))
        return self.tokens()

    def _learn(self) -> None:
        before, now = self._known, self._current()
        self._known = now
        for kid in before.keys() - now.keys():
            _log.warning("the token %r was revoked", before[kid].name)
            self._tell(TokenRevoked(kid))
        for kid, entry in now.items():
            known = before.get(kid)
            if entry.workers_max != (known.workers_max if known is not None else None):
                self._tell(TokenLimited(kid, entry.workers_max))

    def _current(self) -> dict[str, NamedToken]:
        listed: Iterable[NamedToken] = self._file.entries if self._file is not None else ()
        return {Keys.of(entry.token).kid: entry for entry in (*self._fixed, *listed)}
