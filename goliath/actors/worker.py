"""A worker process: the main thread reads calls and runs them, a side thread listens for orders.

::

    Lieutenant ──call socket──▶ main thread ── DefineFunction, RunRange ─▶ user code
               ◀─────────────── WorkerReady, Progress, Yielded ◀── both threads, one lock
               ──control socket▶ side thread ── Interrupt, Split, Flush

User code runs on the main thread, where signals, plotting and KeyboardInterrupt work. Calls of
coroutine functions run there, too, many at a time (`goliath.actors.lanes`). The side thread costs
nothing while it sleeps. Orders travel apart from the calls, so an order can arrive before the range
it names; it is kept until that range begins. The lock guards the ranges at hand, the orders that
wait, and the right to send.
"""

from __future__ import annotations

import atexit
import os
import signal
import socket
import threading
import traceback
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from goliath.actors import inside, lanes, results, stage
from goliath.actors.calls import Function
from goliath.actors.coroutines import CoroutineRunner
from goliath.actors.execution import Execution, Range, Region
from goliath.actors.failures import CallInterrupted, stack_of_user
from goliath.actors.inside import RunningCall
from goliath.actors.lanes import Lane, Lanes
from goliath.actors.page import NOBODY, Page
from goliath.actors.spec import INITIALIZER, WorkerSpec
from goliath.actors.tidy import Housekeeper
from goliath.clock import BootClock
from goliath.record import record
from goliath.transport.arena import (
    WARM_S,
    Arena,
    Region as ResultRegion,
    copy_alone,
    open_region,
)
from goliath.transport.blocking import BlockingPipe
from goliath.transport.exchange import Exchange
from goliath.transport.functions import load_initializer
from goliath.transport.message import Message, Origin
from goliath.transport.worker_messages import (
    DefineFunction,
    EndWait,
    Flush,
    ForgetFunction,
    Interrupt,
    LetGo,
    PatronLeft,
    RefEnded,
    RefuseWait,
    ReportWait,
    RunRange,
    Split,
    Waiting,
    WorkerReady,
    Yielded,
)

INTERRUPT_SIGNAL = signal.SIGINT
INTERRUPT_AGAIN_S = 0.02  # a signal can arrive just before a call blocks, and be slept over
NOT_BEGUN = -1  # the whole of a range that was revoked in time
NOTHING_AT = (1 << 53) - 1
"""`Yielded.at` for a range that ended long ago: no call was given back."""
_ENDS_KEPT = 64


@record
class _Running:
    """A range that has begun and is not answered for."""

    range: Range
    message: RunRange
    lane: Lane | None
    waiting: int = 0  # threads or tasks of it that wait for other calls


class Worker:
    """The process's one worker; `serve` returns when the Lieutenant has closed the call socket.

    It is the `inside.Host` of the code that runs in it, and the `Ward` of its lanes.
    """

    def __init__(
        self,
        calls: socket.socket,
        control: socket.socket,
        page: Page,
        outputs: tuple[int, int],
        spec: WorkerSpec,
        arena: Arena | None,
    ) -> None:
        self.node = spec.node
        self.worker = spec.worker
        copy_alone()
        self._exchange = None if arena is None else Exchange(arena)
        self._region_of_results: ResultRegion | None = None
        if arena is not None and spec.region:
            # An interrupt must not strike while the books are half written.
            self._region_of_results = arena.region(spec.region, self.undisturbed)
            open_region(self._region_of_results)
        self._pipe = BlockingPipe(calls, spec.frame_max_bytes, self._exchange)
        self._control = BlockingPipe(control, spec.frame_max_bytes, self._exchange)
        results.fit_into(spec.frame_max_bytes)
        self._page = page
        self._clock = BootClock()
        self._functions: dict[str, Function] = {}
        self._coroutines = CoroutineRunner()
        self._region = Region()
        self._lock = threading.Lock()
        self._execution = Execution(self._region, self._coroutines, self._lock, self.report)
        self._running: dict[int, _Running] = {}  # by serial: more than one only if they are lanes
        self._lanes = Lanes(self, self._pipe, keeps=spec.actor)
        self._slots_used = 0  # of the page
        self._slots_free: list[int] = []
        self._leaving = False
        self._wait_refused = False
        self._begun = 0  # the serial of the newest range; they only grow
        self._ends: OrderedDict[int, int] = OrderedDict()
        self._early_splits: dict[int, list[int]] = {}
        self._early_interrupts: set[int] = set()
        self._revoked: set[int] = set()  # ranges that must not begin any more
        self._waits = 0  # that were reported
        self._strike = 0  # the serial that the next signal is meant for
        self._forked_away = False
        signal.signal(INTERRUPT_SIGNAL, self._on_interrupt)
        os.register_at_fork(after_in_child=self._on_fork)
        threading.Thread(target=self._listen, name="goliath-control", daemon=True).start()
        self._actor = spec.actor
        self._origin: Origin = []  # of an actor: of the last range that somebody asked for
        self._housekeeper = Housekeeper(outputs, self._coroutines.close, keeps=spec.actor)
        inside.host = self
        inside.threads_of_calls.add(threading.get_ident())

    # -- the main thread --------------------------------------------------------------------

    def serve(self, *, has_initializer: bool) -> int:
        """Run what comes until the other end closes; returns what to exit with."""
        if has_initializer and not self._initialize():
            return 1
        self._send(WorkerReady())
        while (message := self._pipe.receive_soon()) is not None:
            match message:
                case RunRange():
                    run = self._run_lanes if message.concurrent else self._run
                    if run(message):
                        return 0  # what it left behind cannot be cleaned: others go on
                case DefineFunction() | ForgetFunction():
                    self.learn(message)
                case _:
                    raise AssertionError(f"a worker cannot be sent {message!r}")
            del message  # what it was lent goes with it
            self._let_go()
        return 0

    def _let_go(self) -> None:
        """Tell of what was lent and is not looked at any more."""
        if self._exchange is not None and self._exchange.borrowed:
            with self._lock:
                numbers = self._exchange.surplus()
                if numbers:
                    self._send_locked(LetGo(numbers))

    def _initialize(self) -> bool:
        message = self._pipe.receive()
        if not isinstance(message, DefineFunction) or message.digest != INITIALIZER:
            return False  # closed before it was sent
        try:
            initializer, args = load_initializer(message.payload)
            initializer(*args)
        except BaseException:  # noqa: BLE001 - an initializer may raise anything
            self._housekeeper.flush()
            self._send(WorkerReady(error=traceback.format_exc()))
            return False
        self._housekeeper.flush()
        return True

    def _run(self, message: RunRange) -> bool:
        """Run a range; whether this process should run no other."""
        function = self._functions[message.function]
        range_ = Range(message)
        if not self._begin(_Running(range_, message, None)):
            return False
        self._page.write(range_.serial, NOBODY, 0.0)
        each = None
        if message.careful or function.untidy or not function.vetted:
            each = _EachCall(self, range_, function, message.careful)
        self._execution.run(range_, message, function, each)
        function.vetted = True
        return self._conclude(range_, function, dirty=each is not None and each.dirty)

    def _run_lanes(self, message: RunRange) -> bool:
        """Run a range, and what comes to be run beside it; whether this process should run no
        other."""
        self._slots_used, self._slots_free = 0, []
        lane = self._coroutines.run(self._lanes.serve(message))
        return lane is not None and self._conclude(lane.range, lane.function, lane.slot)

    def _conclude(
        self, range_: Range, function: Function, slot: int = 0, *, dirty: bool = False
    ) -> bool:
        """Answer for a range, then tidy up; whether this process should run no other.

        Tidying takes as long as a small range, and nobody need wait for it: it only has to be
        done when the next range begins, or when this process ends.
        """
        left_behind, busy = self._housekeeper.settle()
        dirty = dirty or busy or self._leaving
        self._answer(range_, slot, dirty=dirty)
        changed, lost = self._housekeeper.restore()
        if left_behind or changed:
            function.untidy = True
        if lost and not dirty:
            # The node takes this worker for clean and may have handed it more. It sees the end
            # of the socket, and does not wait for what still runs here at the exit.
            self._pipe.finish()
        return dirty or lost

    def _answer(self, range_: Range, slot: int, *, dirty: bool) -> None:
        with self._lock:
            del self._running[range_.serial]
            progress = range_.progress(final=True, dirty=dirty)
            assert progress is not None, "a final progress always says something"
            self._ends[range_.serial] = range_.end
            while len(self._ends) > _ENDS_KEPT:
                self._ends.popitem(last=False)  # serials only grow
            self._send_locked(progress)
        # Not before: whoever dies up to here has begun the range and may have lost its outcomes.
        # From here on nobody is to blame: what the node has handed ahead has another serial.
        self._page.write(0, NOBODY, 0.0, slot)
        if inside.after_report is not None:
            inside.after_report()

    def tidy(self, function: Function) -> bool:
        """Clean up behind a function; whether something could not be cleaned.

        A function that needed it once runs call by call from then on, so that its calls
        do not disturb each other either.
        """
        left_behind, busy = self._housekeeper.settle()
        changed, lost = self._housekeeper.restore()
        if left_behind or changed:
            function.untidy = True
        return busy or lost

    def _begin(self, running: _Running) -> bool:
        """Whether a range may be run; it may have been revoked."""
        range_, serial = running.range, running.range.serial
        with self._lock:
            self._begun = serial
            if serial in self._revoked:
                self._revoked.discard(serial)
                self._ends[serial] = range_.lo
                return False
            self._running[serial] = running
            if self._actor and running.message.origin:
                self._origin = running.message.origin
            if self._early_interrupts:
                if serial in self._early_interrupts:
                    range_.interrupt()
                self._early_interrupts = {s for s in self._early_interrupts if s > serial}
            if self._early_splits:
                for keep in self._early_splits.pop(serial, ()):
                    self._send_locked(Yielded(serial, range_.give_back(keep)))
        return True

    def report(self) -> None:
        """Send what has finished and was not sent."""
        with self._lock:
            for running in self._running.values():
                self._report_locked(running.range)

    def say(self, serial: int, index: int, slot: int = 0) -> None:
        """Write into the page which call starts now."""
        self._page.write(serial, index, self._clock.now(), slot)

    # -- see `lanes.Ward` ---------------------------------------------------------------

    def lock(self) -> threading.Lock:
        """See `Ward.lock`."""
        return self._lock

    def function(self, digest: str) -> Function:
        """See `Ward.function`."""
        return self._functions[digest]

    def learn(self, message: DefineFunction | ForgetFunction) -> None:
        """See `Ward.learn`."""
        if isinstance(message, DefineFunction):
            self._functions[message.digest] = Function(message)
        else:
            self._functions.pop(message.digest, None)

    def begin_lane(self, lane: Lane) -> bool:
        """See `Ward.begin_lane`."""
        if not self._begin(_Running(lane.range, lane.message, lane)):
            return False
        if self._slots_free:
            lane.slot = self._slots_free.pop()
        else:
            lane.slot, self._slots_used = self._slots_used, self._slots_used + 1
        self._page.write(lane.range.serial, NOBODY, 0.0, lane.slot)
        return True

    def answer_for(self, lane: Lane) -> None:
        """See `Ward.answer_for`. What it has left behind is put right with the last of them."""
        self._housekeeper.flush()
        self._answer(lane.range, lane.slot, dirty=self._leaving)
        self._slots_free.append(lane.slot)

    def report_range(self, range_: Range) -> None:
        """See `Ward.report_range`."""
        self._housekeeper.flush()
        with self._lock:
            self._report_locked(range_)

    # -- see `inside.Host` --------------------------------------------------------------

    def running_call(self) -> RunningCall | None:
        """See `inside.Host.running_call`."""
        running = self._at_hand()
        if running is None or len(running.message.origin) < 4:
            return None
        range_, message = running.range, running.message
        job, parcel, task, number, *patron = message.origin
        index = range_.next_index
        task_id = f"{task}-{int(number) + index}"
        return RunningCall(
            int(job),
            int(parcel),
            index,
            task_id,
            message.attempt,
            range_.stopped,
            int(patron[0]) if patron else 0,
        )

    def between_calls(self) -> RunningCall | None:
        """See `inside.Host.between_calls`."""
        if not self._origin:
            return None
        job, patron = int(self._origin[0]), self._origin[4:]
        return RunningCall(job, inside.NO_CALL, 0, "", 0, False, int(patron[0]) if patron else 0)

    def _at_hand(self) -> _Running | None:
        """The range of the call that asks; None if it cannot be told, or there is none."""
        lane = lanes.current.get()
        if lane is not None:
            return self._running.get(lane.range.serial)
        running = list(self._running.values())
        return running[0] if len(running) == 1 else None

    def in_loop(self) -> bool:
        """See `inside.Host.in_loop`."""
        in_main = threading.get_ident() == threading.main_thread().ident
        return self._lanes.running and in_main and not stage.is_being_made()

    def tell(self, message: Message) -> None:
        """See `inside.Host.tell`."""
        with self.undisturbed():
            self._send(message)

    def waits(self) -> int:
        """See `inside.Host.waits`: what this range has not begun is given back first."""
        with self.undisturbed(), self._lock:
            running = self._at_hand()
            if running is None:
                return 0
            running.waiting += 1
            range_ = running.range
            if running.waiting == 1:
                end = range_.end
                if not self._actor and range_.give_back(keep=1) < end:
                    self._send_locked(Yielded(range_.serial, range_.end))
                self._report_locked(range_)
                self._send_locked(Waiting(range_.serial, True))
            return range_.serial

    @contextmanager
    def long_wait(self, refs: list[str], enough: int) -> Iterator[None]:
        """See `inside.Host.long_wait`."""
        call = self.running_call()
        if call is None or threading.get_ident() not in inside.threads_of_calls:
            yield
            return
        with self._lock:
            self._waits += 1
            number = self._waits
        where = stack_of_user().encode()
        try:
            self.tell(ReportWait(call.patron, number, call.job, call.task_id, refs, enough, where))
            yield
        finally:
            self.tell(EndWait(call.patron, number))

    def leave_soon(self) -> None:
        """See `inside.Host.leave_soon`."""
        with self.undisturbed(), self._lock:
            self._leaving = True
            for running in self._running.values():
                running.range.give_back(keep=1)

    def goes_on(self, waiting: int) -> None:
        """See `inside.Host.goes_on`."""
        with self.undisturbed(), self._lock:
            running = self._running.get(waiting)
            if running is not None:
                running.waiting -= 1
                if not running.waiting:
                    self._send_locked(Waiting(waiting, False))

    @contextmanager
    def undisturbed(self) -> Iterator[None]:
        """See `inside.Host.undisturbed`: half a message must not be sent, for one."""
        if threading.get_ident() != threading.main_thread().ident:
            yield
            return
        serial, self._region.serial = self._region.serial, 0
        try:
            yield
        finally:
            self._region.serial = serial

    def leave(self) -> None:
        """End the process politely: what user code registered to run at exit runs."""
        self._coroutines.close()
        atexit._run_exitfuncs()
        self._housekeeper.flush()

    # -- the side thread ----------------------------------------------------------------

    def _listen(self) -> None:
        """Obey orders. The end of the control socket is the end of the process."""
        try:
            while True:
                try:
                    message = self._control.receive(self._patience())
                except TimeoutError:
                    self._signal()
                    self._cool()
                    continue
                if message is None:
                    break
                if isinstance(message, LetGo):
                    if self._exchange is not None:
                        self._exchange.taken_back(message.numbers)
                    continue
                if isinstance(message, RefEnded | PatronLeft):
                    if inside.on_told is not None:
                        inside.on_told(message)  # without the lock: it may call user code
                    continue
                with self._lock:
                    self._obey(message)
        except OSError:
            pass  # the Lieutenant is gone, so nobody is left to tell
        except BaseException:  # noqa: BLE001 - a worker without ears must not go on
            traceback.print_exc()
            os._exit(os.EX_SOFTWARE)
        os._exit(0)

    def _patience(self) -> float | None:
        """How long to wait for an order."""
        if self._strike:
            return INTERRUPT_AGAIN_S
        region = self._region_of_results
        return WARM_S if region is not None and region.is_warm else None

    def _cool(self) -> None:
        if self._region_of_results is not None and not self._strike:
            self._region_of_results.cool()

    def _obey(self, message: Message) -> None:
        match message:
            case Split(serial=serial, keep=keep):
                self._split(serial, keep)
            case Flush(serial=serial):
                for running in self._running.values():
                    if serial in (0, running.range.serial):
                        self._report_locked(running.range)
            case Interrupt(serial=serial, index=index):
                self._interrupt(serial, index)
            case RefuseWait(serial=serial):
                self._refuse_wait(serial)
            case _:
                raise AssertionError(f"a worker cannot be ordered {message!r}")

    def _split(self, serial: int, keep: int) -> None:
        """Answer now if the range runs or has ended, else give all of it away or keep the order."""
        running = self._running.get(serial)
        if running is not None:
            at = running.range.give_back(keep)
        elif serial <= self._begun:
            at = self._ends.get(serial, NOTHING_AT)
        elif keep == 0:
            self._revoked.add(serial)
            at = NOT_BEGUN
        else:
            self._early_splits.setdefault(serial, []).append(keep)
            return
        self._send_locked(Yielded(serial, at))

    def _interrupt(self, serial: int, index: int) -> None:
        running = self._running.get(serial)
        if running is None:
            if serial > self._begun:
                self._early_interrupts.add(serial)
        elif running.lane is not None:
            self._lanes.order(running.lane, "interrupt", index)
        else:
            running.range.interrupt()
            self._strike = serial
            self._signal()

    def _refuse_wait(self, serial: int) -> None:
        running = self._running.get(serial)
        if running is None:
            return
        if running.lane is not None:
            self._lanes.order(running.lane, "refuse_wait")
        else:
            self._wait_refused = True
            self._strike = serial
            self._signal()

    def _signal(self) -> None:
        if self._strike in self._running:
            signal.pthread_kill(threading.main_thread().ident or 0, INTERRUPT_SIGNAL)
        else:
            self._strike = 0

    def _on_interrupt(self, _signal: int, _frame: FrameType | None) -> None:
        """On the main thread, between any two instructions: strike only inside a call."""
        if self._strike and self._region.serial == self._strike:
            self._strike = 0  # once: cleaning up after it must not be struck again
            refused, self._wait_refused = self._wait_refused, False
            running = self._running.get(self._region.serial)
            if refused and not (running and running.range.stopped):
                raise RecursionError(lanes.WAIT_REFUSED)
            raise CallInterrupted("this call was cancelled")

    # -- both -------------------------------------------------------------------------------

    def _report_locked(self, range_: Range) -> None:
        progress = range_.progress(final=False)
        if progress is not None:
            self._send_locked(progress)

    def _send(self, message: Message) -> None:
        with self._lock:
            self._send_locked(message)

    def _send_locked(self, message: Message) -> None:
        if self._forked_away:
            # User code forked, and the child came back out of the call: it is not the worker.
            os._exit(0)
        try:
            self._pipe.send(message)
        except OSError:
            os._exit(1)  # the Lieutenant is gone

    def _on_fork(self) -> None:
        """In a child that user code forked: hold nothing that keeps the worker's death secret."""
        self._forked_away = True
        inside.host = None
        self._lock = self._execution.lock = threading.Lock()
        for pipe in (self._pipe, self._control):
            pipe.close()


class _EachCall:
    """Careful mode, and functions that leave a mess: what happens around every single call."""

    __slots__ = ("_careful", "_function", "_range", "_worker", "dirty")

    def __init__(self, worker: Worker, range_: Range, function: Function, careful: bool) -> None:
        self._worker = worker
        self._range = range_
        self._function = function
        self._careful = careful
        self.dirty = False

    def before(self) -> None:
        if self._careful:
            self._worker.say(self._range.serial, self._range.next_index)

    def after(self) -> None:
        if self._range.exhausted:
            return  # the range is answered for and tidied up after at once
        self.dirty = self._worker.tidy(self._function) or self.dirty
        if self._careful:
            self._worker.report()
            # Only now: a worker that dies before has begun this call, for all that is known,
            # and a call that may run once must not be taken for one that never did.
            self._worker.say(self._range.serial, NOBODY)

    def goes_on(self) -> bool:
        return self._careful or self._function.untidy


def become_worker(
    calls: socket.socket,
    control: socket.socket,
    page: Page,
    outputs: tuple[int, int],
    spec: WorkerSpec,
    arena: Arena | None = None,
) -> int:
    """Be a worker until the Lieutenant has had enough; returns what to exit with."""
    worker = Worker(calls, control, page, outputs, spec, arena)
    try:
        status = worker.serve(has_initializer=spec.has_initializer)
    except OSError:
        return 1  # user code closed the socket, or the Lieutenant is gone: nothing can be said
    worker.leave()
    return status
