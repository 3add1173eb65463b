"""Which calls of an actor may be made again after its process has died under them."""

from __future__ import annotations

from itertools import groupby

from goliath.actors.desk import Failed
from goliath.actors.submission import Sent


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

    def spans(self, struck: Failed, sent: Sent) -> list[tuple[int, int, bool]]:
        """From which call to which, and whether these may go again: some may have been struck
        before."""
        spans = []
        calls = range(struck.lo, struck.hi)
        for again, run in groupby(calls, lambda call: self._count(struck, sent, call)):
            first, *rest = run
            spans.append((first, first + len(rest) + 1, again))
        return spans

    def _count(self, struck: Failed, sent: Sent, call: int) -> bool:
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
