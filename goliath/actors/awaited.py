"""What who has a ref can wait for: the end of its call, or its value in this process."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from goliath.actors.endings import Kept

if TYPE_CHECKING:
    from goliath.actors.object_ref import ObjectRef


class Awaited(Protocol):
    """What somebody waits for."""

    def on_done(self) -> None:
        """The call has ended."""

    def stop(self) -> None:
        """He does not wait any more."""

    def complaint(self, timeout: float) -> str:
        """What there is to say of it after so many seconds."""


class Ending:
    """Somebody waits for the end of a call."""

    __slots__ = ("_ref", "on_done")

    def __init__(self, ref: ObjectRef[Any], waiter: Callable[[], None]) -> None:
        self._ref = ref
        self.on_done = waiter

    def stop(self) -> None:
        """See `Awaited.stop`."""
        self._ref.stop_waiting(self.on_done)

    def complaint(self, timeout: float) -> str:
        """See `Awaited.complaint`."""
        return (
            f"{self._ref.name} ({self._ref.task_id}) had no result within {timeout:g} s; it goes "
            "on: ask again, or give it a timeout= of its own to end it"
        )


class Arrival:
    """Somebody waits for the value of a call: if it is kept on a node, it is fetched at once."""

    __slots__ = ("_ref", "_waiter")

    def __init__(self, ref: ObjectRef[Any], waiter: Callable[[], None]) -> None:
        self._ref = ref
        self._waiter = waiter

    def on_done(self) -> None:
        """See `Awaited.on_done`."""
        outcome = self._ref._outcome
        if type(outcome) is Kept:
            outcome.deposit.when_known(self._waiter)
        else:
            self._waiter()

    def stop(self) -> None:
        """See `Awaited.stop`."""
        self._ref.stop_waiting(self.on_done)
        outcome = self._ref._outcome
        if type(outcome) is Kept:
            outcome.deposit.stop_waiting(self._waiter)

    def complaint(self, timeout: float) -> str:
        """See `Awaited.complaint`."""
        outcome = self._ref._outcome
        if type(outcome) is not Kept:
            return Ending(self._ref, self._waiter).complaint(timeout)
        return (
            f"{self._ref.name} ({self._ref.task_id}) has ended, and its result had not come from "
            f"{outcome.deposit.node} within {timeout:g} s; ask again"
        )
