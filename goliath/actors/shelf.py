"""The bytes of what a Lieutenant keeps for a session: big results, and pieces that the Commander
has given it so that calls need not take them along. (`core.depot` has the books.)

They are never read here, and go as they came: to workers with the calls that take them, and
results to the Commander when it asks.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from goliath.actors.cargo import are_behind, packed, unpacked
from goliath.actors.scrutiny import are_numbers
from goliath.core.depot import REFUSED
from goliath.core.ids import Attempt, BatchId
from goliath.transport.arena import is_block
from goliath.transport.messages import ALONG, LOST, AssignBatch, DetachActor
from goliath.transport.payload import Payload, Piece


class Shelf:
    """See the module's description."""

    __slots__ = ("_entrusted", "_kept", "_taken")

    def __init__(self) -> None:
        self._kept: dict[int, Piece] = {}
        self._entrusted = LOST  # the last key of the Commander's
        # What the calls of a batch take: kept for it, whatever is forgotten meanwhile.
        self._taken: dict[tuple[BatchId, Attempt], list[Piece | None]] = {}

    def find(self, key: int) -> Piece | None:
        """The result with this key, if it is kept."""
        return self._kept.get(key)

    def keep(self, deposits: Sequence[tuple[int, int, int]], payload: Payload) -> Payload:
        """Keep those results of a report that have a key; the payload without them."""
        outcomes, pieces = unpacked(payload, [size for _, size, _ in deposits])
        others = []
        for (_, _, key), piece in zip(deposits, pieces, strict=True):
            assert piece is not None, "sizes were looked at"
            if key == REFUSED:
                others.append(piece)
            else:  # a view of the frame would keep all that came with it
                alone = is_block(piece) or len(payload) < 2 * len(piece)
                self._kept[key] = piece if alone else bytes(piece)
        return payload if len(others) == len(pieces) else packed(outcomes, others)

    def replace(self, key: int, piece: Piece) -> None:
        """The same result, elsewhere; unless nobody wants it any more."""
        if key in self._kept:
            self._kept[key] = piece

    def entrust(self, key: int, piece: Piece) -> bool:
        """Keep a piece of the Commander's under his key; whether that is one. He counts downwards,
        and uses none twice: what was forgotten may still be on its way to the disk."""
        if key >= self._entrusted:
            return False
        self._entrusted = key
        self._kept[key] = piece
        return True

    def forget(self, keys: Iterable[int]) -> None:
        """Nobody wants these any more."""
        for key in keys:
            self._kept.pop(key, None)

    def take(self, batch: AssignBatch | DetachActor) -> bool:
        """Put by what the calls of a batch take, kept here or come along; whether that is all."""
        entries = batch.deposits
        if not all(type(e) is list and len(e) == 2 and are_numbers(e) for e in entries):
            return False
        known = all(key in (ALONG, LOST) or key in self._kept for key, _ in entries)
        along_sizes = [size for key, size in entries if key == ALONG]
        if not known or not are_behind(batch.payload, along_sizes):
            return False
        sizes = [size if key == ALONG else -1 for key, size in entries]
        batch.payload, along = unpacked(batch.payload, sizes)
        self._taken[BatchId(batch.batch), Attempt(batch.attempt)] = [
            piece if key == ALONG else self._kept.get(key)
            for (key, _), piece in zip(entries, along, strict=True)
        ]
        return True

    def cargo(self, batch: AssignBatch | DetachActor) -> tuple[list[int], Payload]:
        """The payload of a batch for a worker: with what its calls take, whose sizes these are."""
        if not batch.deposits:
            return [], batch.payload
        taken = self._taken[BatchId(batch.batch), Attempt(batch.attempt)]
        sizes = [-1 if piece is None else len(piece) for piece in taken]
        return sizes, packed(batch.payload, (piece for piece in taken if piece is not None))

    def release(self, batch: BatchId, attempt: Attempt) -> None:
        """The batch is over."""
        if self._taken:
            self._taken.pop((batch, attempt), None)
