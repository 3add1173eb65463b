"""How short a node is of memory, and what it does not begin therefore.

Above ``pause_share`` of what it may have, a node is *strained*: no process is started, and no
worker is given anything new. What runs goes on, results go out, calls of living actors begin (to
them it may fall to free memory), and the deposits that nobody uses go to the disk; workers
that have nothing to do leave. Above ``refuse_share`` it is *full*: what is big is not taken on
either.

It never stands still for ever. Others may have the memory, or what runs may keep it for days, or
wait for what does not begin. So one piece at a time goes on where nothing else runs; and where the
strain has lasted for ``strain_patience_s``, one at a time beside what runs, and another one when
that has taken as long.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

from goliath.core.crew import Crew
from goliath.core.policy import BIG_BYTES, Level, NodePolicy
from goliath.core.work import Piece

EASED_SHARE = 0.05
"""A level is left so far below where it began: what has just been freed is not taken at once."""


@dataclass(slots=True)
class Pressure:
    """See the module's description."""

    crew: Crew
    policy: NodePolicy
    level: Level = Level.EASY
    used_bytes: int = 0
    limit_bytes: int = 0
    _since: float = 0.0  # when the strain began
    _latest: Piece | None = None  # what was begun last under it, and when
    _begun_at: float = -inf

    def measured(self, used_bytes: int, limit_bytes: int, now: float) -> bool:
        """So much of so much is used; whether that is another level."""
        self.used_bytes, self.limit_bytes = used_bytes, limit_bytes
        before, self.level = self.level, self._level_of(used_bytes, limit_bytes)
        if before is Level.EASY and self.level is not Level.EASY:
            self._since, self._latest, self._begun_at = now, None, -inf
        return self.level is not before

    def _level_of(self, used: int, limit: int) -> Level:
        bounds = {Level.FULL: self.policy.refuse_share, Level.STRAINED: self.policy.pause_share}
        for level, share in bounds.items():
            if used > (share - EASED_SHARE * (self.level >= level)) * limit:
                return level
        return Level.EASY

    def refuses(self, nbytes: int) -> bool:
        """Whether something so big is not taken on."""
        return self.level is Level.FULL and nbytes > BIG_BYTES

    def holds_back(self, now: float) -> bool:
        """Whether nothing may begin now, but calls of living actors."""
        if self.level is Level.EASY:
            return False
        busy = lingers = False
        for unit in self.crew.units():
            if unit.piece is not None and not unit.waiting:
                busy = busy or not unit.actor
                lingers = lingers or unit.piece is self._latest
        if not busy and not lingers:
            return False
        patience_s = self.policy.strain_patience_s
        if now < self._since + patience_s:
            return True
        return lingers and now < self._begun_at + patience_s

    def began(self, piece: Piece, now: float) -> None:
        """Something was begun all the same."""
        if self.level is not Level.EASY:
            self._latest, self._begun_at = piece, now

    def next_at(self, now: float) -> float:
        """When more may begin, if nothing happens until then."""
        if self.level is Level.EASY:
            return inf
        patience_s = self.policy.strain_patience_s
        ends = (self._since + patience_s, self._begun_at + patience_s)
        return min((at for at in ends if at > now), default=inf)
