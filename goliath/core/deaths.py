"""Who answers for the death of a worker: the call that ran, or nobody, if several did."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from goliath.core.ids import Serial
from goliath.core.node_events import NodeCommand
from goliath.core.queues import Queues
from goliath.core.work import Piece, Worker, WorkerState


def settle(
    queues: Queues, worker: Worker, begun: Mapping[Serial, int], *, unborn: bool = False
) -> Iterator[NodeCommand]:
    """Give back or requeue what a dead worker had.

    Args:
        queues: where it goes.
        worker: has died.
        begun: the ranges that were running in it, with the call that ran, as its page tells.
        unborn: whether it never lived, so that nothing of an actor's was begun either.
    """
    running = [(unit, unit.piece) for unit in worker.units if unit.piece is not None]
    if worker.actor and not unborn:  # whichever it was: none of them is made twice
        for _, piece in running:
            yield from queues.give_back(piece, "crashed", -1, worker.id)
        return
    struck = [unit for unit, piece in running if _has_begun(unit, piece, begun)]
    # It was killed on account of one of them.
    spared = worker.state is WorkerState.LEAVING and any(
        unit.overdue is not None or piece.work.cancelled for unit, piece in running
    )
    for unit, piece in reversed(running):  # what is queued anew goes to the front
        why = "bystander" if spared else "crashed"
        if piece.work.cancelled:
            yield from queues.give_back(piece, "cancelled")
        elif unit not in struck:
            yield from queues.requeue(piece)  # it died between two calls: nobody's doing
        elif unit.overdue is not None:
            # It may have ended while the kill was on its way; then that struck the next.
            why = "timeout" if unit.overdue == piece.lo else "bystander"
            yield from queues.give_back_first(piece, why, piece.lo, worker.id)
        elif piece.work.careful or len(piece) == 1:
            guilty = piece.lo if len(struck) == 1 else -1
            yield from queues.give_back_first(piece, why, guilty, worker.id)
        else:
            yield from queues.give_back(piece, why, -1, worker.id)


def _has_begun(worker: Worker, piece: Piece, begun: Mapping[Serial, int]) -> bool:
    index = begun.get(worker.serial)
    if index is None or piece.lo >= piece.hi:
        return False
    return not piece.work.careful or index >= piece.lo
