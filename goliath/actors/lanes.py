"""Ranges of coroutine functions that run at the same time: each is a *lane*, a task of one loop.

The main thread enters the loop with the first lane and leaves it with the last. Meanwhile the call
socket is read in the loop, so that further lanes can begin. The calls of a lane run one after
another, as everywhere: what is finished of a range is reported, split and revoked in the same way.

No signal strikes in here. Whoever interrupts a lane has the loop cancel its task, and the call sees
an `asyncio.CancelledError` at its ``await``.
"""

from __future__ import annotations

import importlib
import threading
from contextlib import suppress
from contextvars import ContextVar
from functools import partial
from typing import Any, Protocol

from goliath.actors.calls import Function
from goliath.actors.coroutines import must_be_awaited
from goliath.actors.execution import Range
from goliath.transport.blocking import BlockingPipe
from goliath.transport.payload import Bundle, parts_of
from goliath.transport.serialization import SCALARS
from goliath.transport.worker_messages import DefineFunction, ForgetFunction, RunRange

WAIT_REFUSED = (
    "this call cannot wait for others: too many calls on this node do (GOLIATH_WAITING_MAX); "
    "nest them less deeply"
)

current: ContextVar[Lane | None] = ContextVar("goliath-lane", default=None)
"""The lane whose call runs: also in the tasks that the call has begun, and in its `to_thread`."""


class Ward(Protocol):
    """The worker, as far as its lanes need it."""

    def lock(self) -> threading.Lock:
        """Held while calls are read."""

    def function(self, digest: str) -> Function:
        """One that was defined."""

    def learn(self, message: DefineFunction | ForgetFunction) -> None:
        """A function is defined, or forgotten."""

    def begin_lane(self, lane: Lane) -> bool:
        """Its first call is about to start; False if the range was revoked."""

    def answer_for(self, lane: Lane) -> None:
        """It is over, and others go on."""

    def report_range(self, range_: Range) -> None:
        """Send what has finished of it."""

    def say(self, serial: int, index: int, slot: int) -> None:
        """Write into the page which of its calls starts now."""


class Lane:
    """One range: ``slot`` is its place on the page."""

    __slots__ = (
        "_awaits",
        "_pending",
        "_refused",
        "_struck",
        "_ward",
        "function",
        "message",
        "range",
        "slot",
        "task",
    )

    def __init__(self, message: RunRange, function: Function, ward: Ward) -> None:
        self.task: Any = None
        self.message = message
        self.function = function
        self.range = Range(message)
        self.slot = 0
        self._ward = ward
        self._pending: Any = None
        self._awaits = self._struck = self._refused = False

    async def run(self) -> None:
        """Run what is left of the range; never raises on account of user code."""
        range_, ward, message, function = self.range, self._ward, self.message, self.function
        range_.begin()
        callee = function.callee or function.load()
        with ward.lock():
            calls = range_.open(message, callee)
        arguments = (callee.call, range_.values.append, self._take, *calls.sources)
        while not range_.exhausted:
            if message.careful:
                ward.say(range_.serial, range_.next_index, self.slot)
            try:
                calls.one(*arguments)
                if self._pending is not None:
                    self._box(await self._awaited())
            except GeneratorExit:
                raise  # the loop is closed beneath it
            except BaseException as exc:  # noqa: BLE001 - a call may raise anything, SystemExit too
                refused, self._refused = self._refused, False
                if self._was_struck(exc):
                    if not refused:
                        range_.forget_unfinished()
                        return
                    exc = RecursionError(WAIT_REFUSED)
                range_.fail(exc, function.name, callee.retry_on)
            if message.careful and not range_.exhausted:
                ward.report_range(range_)
                ward.say(range_.serial, -1, self.slot)  # only now: see `worker._EachCall`

    def _take(self, value: Any) -> None:
        if must_be_awaited(value):
            self._pending = value
        else:
            self._box(value)

    async def _awaited(self) -> Any:
        pending, self._pending = self._pending, None
        self._awaits = True
        try:
            return await pending
        finally:
            self._awaits = False

    def _box(self, value: Any) -> None:
        if type(value) in SCALARS:
            self.range.values.append(value)
            return
        self.range.box(value)
        if self.range.must_spill:
            self._ward.report_range(self.range)

    def _was_struck(self, exc: BaseException) -> bool:
        """Whether a call ended because it was cancelled from here. The next one can be, anew."""
        while self.task.cancelling():
            self.task.uncancel()
        struck, self._struck = self._struck, False
        return struck and isinstance(exc, importlib.import_module("asyncio").CancelledError)

    # -- orders, in the loop's thread ----------------------------------------------------

    def interrupt(self, index: int) -> None:
        """Cancel the call that runs, if it is that one or ``index`` is below 0; start no other."""
        if index >= 0 and (not self._awaits or self.range.next_index != index):
            return
        with self._ward.lock():
            self.range.interrupt()
        self._refused = False
        self._strike()

    def refuse_wait(self) -> None:
        """Cancel the call that waits for others: it may not."""
        if not self.range.stopped:
            self._refused = True
            self._strike()

    def _strike(self) -> None:
        if self._awaits:
            self._struck = True
            self.task.cancel()


class Lanes:
    """All lanes of a worker, as long as there are any.

    Args:
        ward: the worker.
        pipe: where further ranges come from.
        keeps: whether the loop goes on without any, because what an actor has begun in it is
            part of what it is.
    """

    def __init__(self, ward: Ward, pipe: BlockingPipe, *, keeps: bool = False) -> None:
        self._keeps = keeps
        self._ended = False
        self._ward = ward
        self._pipe = pipe
        self._active = 0
        self._last: Lane | None = None
        self._tasks: set[Any] = set()
        self._loop: Any = None
        self._bug: BaseException | None = None  # which the loop would only log
        self._idle: Any = None

    @property
    def running(self) -> bool:
        """Whether the main thread is in the loop."""
        return self._loop is not None

    async def serve(self, first: RunRange) -> Lane | None:
        """Run a lane, and those that come meanwhile.

        Returns:
            The last one, which is not answered for; None if it was revoked.
        """
        asyncio = importlib.import_module("asyncio")  # see `coroutines`
        self._loop = loop = asyncio.get_running_loop()
        self._idle = asyncio.Event()
        self._last = None
        self._start(first)
        self._read()  # what has arrived with it
        loop.add_reader(self._pipe, self._on_readable)
        try:
            while self._goes_on():
                with suppress(asyncio.CancelledError):  # a call cancels every task that it can see
                    await self._idle.wait()
        finally:
            loop.remove_reader(self._pipe)
            self._loop = None
        if self._bug is not None:
            raise self._bug
        return self._last

    def _goes_on(self) -> bool:
        wanted = self._active or (self._keeps and not self._ended)
        if wanted:
            self._idle.clear()
        return bool(wanted) and self._bug is None

    def order(self, lane: Lane, name: str, *args: Any) -> None:
        """Have a lane obey, from any thread."""
        loop = self._loop
        if loop is not None:
            with suppress(RuntimeError):  # it was closed, so there is nothing to be interrupted
                loop.call_soon_threadsafe(getattr(lane, name), *args)

    def _on_readable(self) -> None:
        try:
            self._read()
        except BaseException as exc:  # noqa: BLE001 - a worker that cannot hear must not go on
            self._break_down(exc)

    def _break_down(self, exc: BaseException) -> None:
        self._bug = exc
        self._idle.set()

    def _read(self) -> None:
        try:
            while (message := self._pipe.receive_now()) is not None:
                match message:
                    case RunRange(concurrent=True):
                        self._start(message)
                    case DefineFunction() | ForgetFunction():
                        self._ward.learn(message)
                    case _:
                        raise AssertionError(f"a worker with lanes cannot be sent {message!r}")
        except BlockingIOError:
            return
        if self._loop is not None:
            self._loop.remove_reader(self._pipe)  # the end; what runs may finish
        self._ended = True
        self._idle.set()

    def _start(self, message: RunRange) -> None:
        main, pieces = parts_of(message.payload)
        # What is beside it stays; itself may be a view of a buffer that is used again.
        message.payload = Bundle(bytes(main), pieces) if pieces else bytes(main)
        lane = Lane(message, self._ward.function(message.function), self._ward)
        self._active += 1
        self._idle.clear()
        if self._last is not None:
            lane_before, self._last = self._last, None
            self._ward.answer_for(lane_before)
        self._run_task(lane)

    def _run_task(self, lane: Lane) -> None:
        task = lane.task = self._loop.create_task(self._run(lane))
        self._tasks.add(task)  # the loop itself holds tasks weakly
        task.add_done_callback(partial(self._on_done, lane))

    def _on_done(self, lane: Lane, task: Any) -> None:
        self._tasks.discard(task)
        if task.cancelled():
            self._run_task(lane)  # another call has done that, before this one began
        elif task.exception() is not None:
            self._break_down(task.exception())

    async def _run(self, lane: Lane) -> None:
        current.set(lane)
        begun = self._ward.begin_lane(lane)
        if begun:
            await lane.run()
        self._active -= 1
        if self._active or self._keeps:
            if begun:
                self._ward.answer_for(lane)
            return
        self._last = lane if begun else None
        self._idle.set()
