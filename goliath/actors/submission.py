"""Single calls: one standing job for each function, and a slotted ref for each call.

A ref costs 0.11 µs; a ``concurrent.futures.Future`` 0.7 to 2.1 µs and an asyncio one a
loop. So futures are made when somebody asks for one. Outcomes are unpickled by whoever asks
first, in his own thread.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, Generic, TypeVar

from goliath.actors import desk
from goliath.actors.bell import LoopBell, ThreadBell
from goliath.actors.job import job_ids
from goliath.actors.outcomes import Setback, Where, explain, rebuild
from goliath.actors.portal import Portal
from goliath.actors.ref import AskableRef
from goliath.actors.surroundings import Surroundings
from goliath.core.batch import JobOptions
from goliath.core.ids import JobId
from goliath.errors import GetTimeoutError
from goliath.transport import serialization
from goliath.transport.messages import Payload
from goliath.transport.serialization import Function

T = TypeVar("T")

_lock = threading.Lock()
"""Guards the waiters of all calls; held for a few instructions."""


class _Call:
    """One call on its way: what is shared by its ref, its standing job and its waiters."""

    __slots__ = ("_error", "_news", "_value", "_waiters", "done", "index", "name")

    def __init__(self, name: str, index: int) -> None:
        self.name = name
        self.index = index
        self.done = False
        self._news: tuple[Payload, int, Where] | None = None
        self._value: Any = None
        self._error: BaseException | None = None
        self._waiters: list[Callable[[], None]] = []

    def settle(self, payload: Payload, place: int, where: Where) -> None:
        self._news = (payload, place, where)
        self._finish()

    def set_value(self, value: Any) -> None:
        self._value = value
        self._finish()

    def fail(self, error: BaseException) -> None:
        self._error = error
        self._finish()

    def _finish(self) -> None:
        with _lock:
            self.done = True
            waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            waiter()

    def when_done(self, waiter: Callable[[], None]) -> None:
        """Have ``waiter`` called once, from any thread, or now."""
        with _lock:
            if not self.done:
                self._waiters.append(waiter)
                return
        waiter()

    def stop_waiting(self, waiter: Callable[[], None]) -> None:
        """Forget a waiter that has lost its patience."""
        with _lock, suppress(ValueError):
            self._waiters.remove(waiter)

    def value(self) -> Any:
        """The value, or the exception raised; only when done."""
        news = self._news
        if news is not None:
            payload, place, where = news
            values, failures = serialization.decode_outcomes(payload)
            if place in failures:
                self._error = rebuild(failures[place], where, self.index)
            else:
                self._value = values[place]
            self._news = None
        if self._error is not None:
            raise self._error
        return self._value


class ObjectRef(Generic[T]):
    """The promise of one call's result (the term is Ray's).

    Await it in any running loop, or ask for `result` in any thread.

    Attributes:
        task_id: names the call in every message about it.
        name: of the function.
    """

    __slots__ = ("__weakref__", "_call", "name", "task_id")

    def __init__(self, call: _Call, task_id: str) -> None:
        self._call = call
        self.task_id = task_id
        self.name = call.name

    def __repr__(self) -> str:
        state = "done" if self._call.done else "pending"
        return f"<ObjectRef {self.task_id} of {self.name}, {state}>"

    def done(self) -> bool:
        """Whether the call has ended, in whatever way."""
        return self._call.done

    def result(self, timeout: float | None = None) -> T:
        """The value of the call; waits for it.

        Args:
            timeout: seconds to wait; default for ever.

        Raises:
            GetTimeoutError: the time passed. The call itself goes on.
            BaseException: whatever the call raised, or what ended it.
        """
        call = self._call
        if not call.done:
            bell = ThreadBell()
            call.when_done(bell.ring)
            try:
                rung = bell.wait(timeout)
            finally:
                call.stop_waiting(bell.ring)
            if not rung:
                raise GetTimeoutError(
                    f"{self.name} ({self.task_id}) had no result within {timeout:g} s; it goes on: "
                    "ask again, or give it a timeout= of its own to end it"
                )
        return call.value()  # type: ignore[no-any-return]  # T is what the user's function returns

    def __await__(self) -> Generator[Any, None, T]:
        return self._wait().__await__()

    async def _wait(self) -> T:
        if not self._call.done:
            bell = LoopBell()
            self._call.when_done(bell.ring)
            try:
                await bell.wait()
            finally:
                self._call.stop_waiting(bell.ring)
        return self._call.value()  # type: ignore[no-any-return]  # as above

    def future(self) -> Future[T]:
        """A real ``concurrent.futures.Future`` of the same result."""
        future: Future[T] = Future()
        future.set_running_or_notify_cancel()

        def finish() -> None:
            try:
                future.set_result(self._call.value())
            except BaseException as exc:  # noqa: BLE001 - it belongs to whoever asks the future
                future.set_exception(exc)

        self._call.when_done(finish)
        return future


def made_here(function: Callable[..., T], args: tuple[Any, ...], kwargs: Any) -> ObjectRef[T]:
    """The ref of a call that is made at once, in this thread."""
    call = _Call(serialization.function_name(function), 0)
    try:
        call.set_value(function(*args, **kwargs))
    except Exception as exc:  # noqa: BLE001 - it belongs to whoever asks for the result
        call.fail(exc)
    return ObjectRef(call, "here-0")


class Submission:
    """The standing job of one function: every call is a parcel of its own."""

    def __init__(
        self,
        function: Function,
        surroundings: Surroundings,
        options: JobOptions,
        portal: Portal,
        commander: AskableRef,
    ) -> None:
        self.id = JobId(next(job_ids))
        self._function = function
        self._portal = portal
        self._commander = commander
        self._calls: dict[int, _Call] = {}
        self._next = 0
        # Reentrant: a signal handler of the user's may submit, too, at any moment.
        self._lock = threading.RLock()
        self._closed = False
        self._broken: Exception | None = None
        job = desk.OpenJob(self.id, self, function, surroundings, options, fed=False)
        portal.post(desk.open_job, commander, job)

    def _post(self, message: Any) -> None:
        self._portal.post(self._commander.tell, message)

    def submit(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> ObjectRef[Any] | None:
        """Send one call off; None if it was closed before.

        Raises:
            SerializationError: an argument cannot be pickled.
        """
        form, payload = serialization.encode_call(args, kwargs)
        with self._lock:
            if self._closed:
                return None
            index = self._next
            self._next += 1
            call = _Call(self._function.name, index)
            if self._broken is None:
                self._calls[index] = call
                self._post(desk.SubmitParcel(desk.Parcel(self.id, index, 1, form, payload)))
            else:
                call.fail(self._broken)
        return ObjectRef(call, f"{self.id}-{index}")

    def close(self) -> None:
        """No more calls; those on their way go on."""
        with self._lock:
            if not self._closed:
                self._closed = True
                self._post(desk.ExhaustJob(self.id))

    # -- what the Commander actor says, in the loop's thread ----------------------------

    def on_demand(self, batches: int, calls: int) -> None:
        """Single calls go off when they are made."""

    def on_settled(
        self, parcel: int, lo: int, hi: int, payload: Payload, excepted: Sequence[int], where: Where
    ) -> None:
        """See `desk.Owner.on_settled`."""
        if lo not in excepted:
            self._calls.pop(parcel).settle(payload, 0, where)

    def on_failed(self, parcel: int, lo: int, hi: int, setback: Setback, where: Where) -> None:
        """See `desk.Owner.on_failed`."""
        self._calls.pop(parcel).fail(explain(setback, where, parcel))

    def on_broken(self, error: Exception) -> None:
        """See `desk.Owner.on_broken`."""
        with self._lock:
            self._broken = self._broken or error
            calls, self._calls = self._calls, {}
        for call in calls.values():
            call.fail(error)
