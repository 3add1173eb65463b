"""Calls of an actor that were on their way when its process died, and which may be made again."""

from __future__ import annotations

from itertools import groupby

from goliath.actors.outcomes import Setback, Where
from goliath.actors.submission import Sent
from goliath.core.commands import Verdict
from goliath.record import record


@record
class Struck:
    """Calls ``lo <= i < hi`` of a parcel that was on its way."""

    parcel: int
    lo: int
    hi: int
    setback: Setback
    where: Where

    @property
    def begun(self) -> bool:
        """Whether they may have been."""
        return self.setback.verdict is not Verdict.GONE


class Tries:
    """How often each call was begun that has not ended, if its process has died under it.

    Args:
        retries: how often one may be begun again; -1: always.
    """

    def __init__(self, retries: int) -> None:
        self._retries = retries
        self._made: dict[tuple[str, int], int] = {}  # by `_key`

    def __len__(self) -> int:
        return len(self._made)

    def spans(self, struck: Struck, sent: Sent) -> list[tuple[int, int, bool]]:
        """From which call to which, and whether these may go again: some may have been struck
        before."""
        spans = []
        calls = range(struck.lo, struck.hi)
        for again, run in groupby(calls, lambda call: self._count(struck, sent, call)):
            first, *rest = run
            spans.append((first, first + len(rest) + 1, again))
        return spans

    def _count(self, struck: Struck, sent: Sent, call: int) -> bool:
        if not struck.begun:
            return True
        key = _key(sent, call)
        tries = self._made[key] = self._made.get(key, 0) + 1
        return self._retries < 0 or tries <= self._retries

    def forget(self, sent: Sent, lo: int, hi: int) -> None:
        """Calls have ended."""
        if self._made:
            for call in range(lo, hi):
                self._made.pop(_key(sent, call), None)


def _key(sent: Sent, call: int) -> tuple[str, int]:
    """Which call of a parcel is meant: workers number theirs, each under names of its own."""
    return sent.calls.job, sent.calls.first + sent.offset + call
