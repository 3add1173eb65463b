"""Batches that have been given to a node and cannot be sent yet: what they take is elsewhere.

For the mind, such a batch is on its node, and as long as it is not, it is answered for from here.
Those of an actor are sent in the order of their group: behind one that waits, the next ones wait.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from goliath.actors.deposits import Deposit
from goliath.actors.desk import Parcel
from goliath.core.commands import Assign
from goliath.core.ids import Attempt, BatchId, JobId, NodeId
from goliath.record import record

Key = tuple[NodeId, BatchId, Attempt]


@record
class _Waiting:
    order: Assign
    parcel: Parcel
    in_order: bool
    missing: int  # deposits that are still to come

    def is_of(self, job: JobId, group: str) -> bool:
        """Whether it is one of these calls."""
        return self.order.job == job and self.parcel.group == group


class Shipping:
    """See the module's description. It lives in the loop's thread.

    Args:
        send: sends a batch now. All that it takes is known, or kept on its node.
    """

    def __init__(self, send: Callable[[Assign, Parcel], None]) -> None:
        self._send = send
        self._waiting: dict[Key, _Waiting] = {}  # in the order in which they were assigned

    def __len__(self) -> int:
        return len(self._waiting)

    def ship(self, order: Assign, parcel: Parcel, *, in_order: bool) -> None:
        """Send a batch as soon as what its calls take is there."""
        far = [d for d in parcel.deposits if not (d.known or d.is_on(order.node))]
        if not far and not (in_order and self._is_behind(order.job, parcel.group)):
            self._send(order, parcel)
            return
        key = order.node, order.batch, order.attempt
        self._waiting[key] = _Waiting(order, parcel, in_order, len(far))
        for deposit in far:
            assert isinstance(deposit, Deposit), "what goes along is known"
            deposit.when_known(partial(self._on_known, key))

    def _is_behind(self, job: JobId, group: str) -> bool:
        return any(waiting.is_of(job, group) for waiting in self._waiting.values())

    def _on_known(self, key: Key) -> None:
        waiting = self._waiting.get(key)
        if waiting is None:
            return
        waiting.missing -= 1
        if waiting.in_order:
            self._send_ready(waiting.order.job, waiting.parcel.group)
        elif not waiting.missing:
            del self._waiting[key]
            self._send(waiting.order, waiting.parcel)

    def _send_ready(self, job: JobId, group: str) -> None:
        """Send what of an actor's group nothing holds up any more."""
        for key, waiting in list(self._waiting.items()):
            if waiting.is_of(job, group):
                if waiting.missing:
                    return
                del self._waiting[key]
                self._send(waiting.order, waiting.parcel)

    def take_back(self, node: NodeId, batch: BatchId, attempt: Attempt) -> Assign | None:
        """Do not send a batch; None if it was sent, or never came."""
        waiting = self._waiting.pop((node, batch, attempt), None)
        if waiting is None:
            return None
        if waiting.in_order:
            self._send_ready(waiting.order.job, waiting.parcel.group)
        return waiting.order

    def take_back_all(self, node: NodeId) -> list[Assign]:
        """Do not send what is for this node."""
        keys = [key for key in self._waiting if key[0] == node]
        return [self._waiting.pop(key).order for key in keys]
