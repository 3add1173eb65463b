"""The items of a streaming call, in the process of its Commander: what has come of them, what is
wanted, and how far its worker may go on.

Items come in order. A call that runs again, because its worker died in it, begins with the first
item again, and those that had come before are dropped.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from itertools import count
from typing import Any
from weakref import WeakValueDictionary, ref as weak

from goliath.actors.endings import Broken, Inherited, NoValueError, Outcome
from goliath.actors.gathering import Gathering
from goliath.actors.object_ref import ObjectRef
from goliath.actors.portal import PortalClosedError, Poster
from goliath.actors.ref_generator import WINDOW, Over
from goliath.errors import ObjectLostError, ProtocolError, TaskCancelledError

_numbers = count()


def new_task_id() -> str:
    """Of a streaming call that is made in this process."""
    return f"stream-{next(_numbers)}"


class Stream:
    """The items of one call; see `ref_generator.Items`.

    It keeps what is made and not wanted yet, up to a window of items. Once wanted, an item is
    kept by its ref, as any result. When nobody holds the stream itself any more, its call is called
    off.

    Args:
        name: of the function.
        task_id: of the call. Items that come are for the stream of this name.
        portal: the way into the loop's thread.
    """

    call: ObjectRef[int]

    def __init__(self, name: str, task_id: str, portal: Poster) -> None:
        self._calls = Gathering(name, f"{task_id}.item", 0)
        self._portal = portal
        # Reentrant: who is told that an item has come may ask for the next one at once.
        self._lock = threading.RLock()
        self._made = 0
        self._wanted = 0
        self._ready: dict[int, ObjectRef[Any]] = {}  # made, and not wanted yet
        self._unsaid: dict[int, Callable[[], None]] = {}  # to be called when an item is wanted
        self._ending: Outcome | None = None  # instead of the item after the last one
        _open[task_id] = self

    def __del__(self) -> None:
        call = getattr(self, "call", None)
        if call is not None and not call.done():
            with suppress(PortalClosedError):  # then all calls are ended
                self._portal.post(_give_up, call, self._calls)  # a finalizer must take no lock

    def follow(self, call: ObjectRef[int]) -> None:
        """This is the call. It does not keep the stream alive."""
        self.call = call
        this = weak(self)

        def end() -> None:
            stream = this()
            if stream is not None:
                stream._end(*call.ending())

        call.when_done(end)

    # -- whoever takes the items ---------------------------------------------------------

    def want(self, index: int) -> ObjectRef[Any]:
        """See `Items.want`."""
        with self._lock:
            self._wanted = max(self._wanted, index + 1)
            ref = self._ready.pop(index, None)
            if ref is None:
                ref = ObjectRef(self._calls, index, self._known(index))
            due = [self._unsaid.pop(place) for place in list(self._unsaid) if place <= index]
        for say in due:
            with suppress(PortalClosedError):  # then the call is ended, and that is told
                say()
        return ref

    def cancel(self, *, force: bool, recursive: bool) -> bool:
        """See `Items.cancel`."""
        return self.call.cancel(force=force, recursive=recursive)

    @property
    def over(self) -> bool:
        """Whether the call has ended: whatever may still come of it is dropped."""
        return self._ending is not None

    def _known(self, index: int) -> Outcome | None:
        """What is known of an item that is not ready."""
        if index < self._made:
            return Broken(ObjectLostError(f"{self._calls.job}-{index} was freed: nobody held it"))
        if index > self._made:
            return self._ending and Over()
        return self._ending

    # -- in the loop's thread ------------------------------------------------------------

    def add(self, index: int, item: Outcome, when_wanted: Callable[[], None] | None) -> None:
        """An item has come.

        Args:
            index: its number.
            item: its value.
            when_wanted: called, in any thread, once this item is wanted, or now if it is.

        Raises:
            ProtocolError: the items before it have not come, or it is further ahead than it may.
        """
        with self._lock:
            if self._ending is not None:
                return
            if index > self._made or index >= self._wanted + WINDOW:
                raise ProtocolError(
                    f"item {index} of {self._calls.job}, after {self._made} items of which "
                    f"{self._wanted} were wanted"
                )
            if index == self._made:
                self._made += 1
                if index < self._wanted:
                    self._calls.settle(index, index + 1, item)
                else:
                    self._ready[index] = ObjectRef(self._calls, index, item)
            if when_wanted is not None and index >= self._wanted:
                self._unsaid[index] = when_wanted
                return
        if when_wanted is not None:
            when_wanted()

    def _end(self, outcome: Outcome, number: int) -> None:
        """The call has ended, and all items that it has made have come before."""
        with self._lock:
            try:
                made = outcome.frozen(number)
            except NoValueError:
                self._ending = Inherited(outcome, number)
            else:
                self._ending = Over()
                if type(made) is not int or made > self._made:
                    lost = f"{self._calls.name} made {made} items, and {self._made} have come"
                    self._ending = Broken(ObjectLostError(f"{lost}; call it again"))
            self._unsaid.clear()
            for index in sorted(self._calls.refs):
                ending = self._known(index)
                assert ending is not None
                self._calls.settle(index, index + 1, ending)


def _give_up(call: ObjectRef[int], items: Gathering) -> None:
    """Nobody can take the items of a call any more, though one may have been waited for."""
    call.cancel()
    error = TaskCancelledError(f"{call.name} was cancelled: its items were not wanted any more")
    for index in list(items.refs):
        items.settle(index, index + 1, Broken(error))


_open: WeakValueDictionary[str, Stream] = WeakValueDictionary()


def find(task_id: str) -> Stream | None:
    """The stream of a call, if anybody wants its items."""
    return _open.get(task_id)
