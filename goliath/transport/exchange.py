"""What one end of a channel has lent to the other out of an arena, and has borrowed from it.

A piece that is lent is not sent: the other end looks at it where it is. It is kept for whoever
borrowed it until he lets go of it, which he does when nothing in his process looks at it any
more; or until his process has ended.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from itertools import count
from weakref import finalize

from goliath.errors import ProtocolError
from goliath.transport.arena import WORTH_BYTES, Arena, is_in, offset_of
from goliath.transport.backing import ForeignArenaError
from goliath.transport.payload import Piece


class Exchange:
    """See the module's description. It lends and borrows in one thread at a time.

    Args:
        arena: what both ends have mapped.
        on_surplus: called, from any thread and from finalizers, when something that was borrowed is
            not looked at any more; `surplus` says what.
    """

    def __init__(self, arena: Arena, on_surplus: Callable[[], None] = lambda: None) -> None:
        self._arena = arena
        self._on_surplus = on_surplus
        self._lent: dict[int, Piece] = {}
        self._numbers = count(1)
        self._surplus: deque[int] = deque()
        self.borrowed = 0  # pieces that are still looked at

    def __repr__(self) -> str:
        return f"<Exchange: {len(self._lent)} lent, {self.borrowed} borrowed>"

    @property
    def lent_bytes(self) -> int:
        """What the other end may be looking at."""
        return sum(map(len, self._lent.values()))

    def lend(self, piece: Piece) -> list[int] | None:
        """See `codec.Lender.lend`."""
        if len(piece) < WORTH_BYTES or not is_in(self._arena, piece):
            return None
        assert type(piece) is memoryview, "only blocks are in an arena"
        number = next(self._numbers)
        self._lent[number] = piece
        return [offset_of(piece), len(piece), number]

    def borrow(self, offset: int, size: int, number: int) -> memoryview:
        """See `codec.Lender.borrow`."""
        try:
            view = self._arena.borrowed(offset, size)
        except ForeignArenaError as exc:
            raise ProtocolError(f"a piece was lent that is in no arena: {exc}") from exc
        self.borrowed += 1
        # Not by a method: a block must not keep its exchange, which keeps blocks.
        finalize(view.obj, _note, self._surplus, number, self._on_surplus).atexit = False
        return view

    def taken_back(self, numbers: Iterable[int]) -> None:
        """See `codec.Lender.taken_back`: the other end has let go of these, or was sent none."""
        for number in numbers:
            self._lent.pop(number, None)

    def surplus(self) -> list[int]:
        """What the other end may be told now that nobody here looks at."""
        numbers = []
        while self._surplus:
            numbers.append(self._surplus.popleft())
        self.borrowed -= len(numbers)
        return numbers

    def close(self) -> None:
        """The other end is gone, with all who looked at anything."""
        self._lent.clear()


def _note(surplus: deque[int], number: int, on_surplus: Callable[[], None]) -> None:
    surplus.append(number)
    on_surplus()
