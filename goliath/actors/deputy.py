"""What one worker holds in its Commander's process, by the names that it uses."""

from __future__ import annotations

from dataclasses import field
from typing import Any, Protocol

from goliath.actors.object_ref import ObjectRef, find, register
from goliath.actors.requests import item_of
from goliath.actors.streams import Stream
from goliath.core.ids import JobId
from goliath.record import record
from goliath.transport.functions import Function

Caller = tuple[JobId, int, int]
"""Job, parcel, and the number of the call in it."""


class Held(Protocol):
    """What a worker can hold: the ref of a call, or the grip of an actor."""

    @property
    def task_id(self) -> str:
        """What it is called everywhere."""


@record
class _Held:
    ref: Any
    count: int = 1


@record
class Deputy:
    """For one worker: the functions it has named, what it holds, and which calls have asked."""

    functions: dict[str, tuple[Function, list[Any]]] = field(default_factory=dict)
    held: dict[str, _Held] = field(default_factory=dict)
    streams: dict[str, Stream] = field(default_factory=dict)  # of streaming calls it holds
    callers: set[Caller] = field(default_factory=set)

    def keep(self, ref: Held) -> None:
        """It holds this, once more."""
        known = self.held.get(ref.task_id)
        if known is None:
            self.held[ref.task_id] = _Held(ref)
        else:
            known.count += 1

    def drop(self, task_id: str) -> None:
        """It holds this once less."""
        known = self.held.get(task_id)
        if known is not None:
            known.count -= 1
            if not known.count:
                del self.held[task_id]
                self.streams.pop(task_id, None)

    def find_ref(self, task_id: str) -> ObjectRef[Any] | None:
        """What is called so, if it is the ref of a call or of a value."""
        found = self.find(task_id)
        return found if isinstance(found, ObjectRef) else None

    def find(self, task_id: str) -> Any:
        """What is called so, if anybody holds it."""
        known = self.held.get(task_id)
        return known.ref if known is not None else find(task_id)

    def want(self, task_id: str) -> ObjectRef[Any] | None:
        """`find_ref` for what is awaited: that makes the next item of a stream known."""
        ref = self.find_ref(task_id)
        task, index = item_of(task_id)
        if ref is None and task in self.streams:
            ref = self.streams[task].want(index)
            self.keep(ref)
            register(ref)
        return ref
