"""`Executor`: a ``concurrent.futures.Executor`` whose workers are those of a Commander.

Example:
    >>> from goliath import Executor
    >>> with Executor(workers=2) as executor:
    ...     future = executor.submit(pow, 2, 10)
    ...     list(executor.map(abs, [-1, -2])), future.result()
    ([1, 2], 1024)

A call goes the way of `Commander.submit`. Its future ends in a thread of the executor's own, the
*finisher*: results are unpickled and callbacks called there, because both may take their time and
the loop's thread has none; all connections live in it.
"""

from __future__ import annotations

import atexit
import logging
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Executor as ExecutorBase, Future
from contextlib import closing
from functools import partial
from hashlib import sha256
from itertools import islice
from queue import SimpleQueue
from types import BuiltinFunctionType, FunctionType, ModuleType, NoneType
from typing import Any, ParamSpec, TypeVar

from goliath import runtime
from goliath.actors import crossing
from goliath.actors.object_ref import ObjectRef, made_here
from goliath.actors.spec import in_worker
from goliath.commander import Commander
from goliath.errors import SerializationError
from goliath.transport.functions import function_name
from goliath.transport.modules import Needs
from goliath.transport.pickled import Pickled
from goliath.transport.serialization import dump_value

P = ParamSpec("P")
T = TypeVar("T")

_log = logging.getLogger("concurrent.futures")
_withdrawing = threading.RLock()
"""Held between withdrawing a call and writing that down in its future."""


class Executor(ExecutorBase):
    """Makes calls on the workers of a Commander, as ``ProcessPoolExecutor`` does on its own.

    Futures are those of ``concurrent.futures``, for ``wait``, ``as_completed``, asyncio and all
    who take an executor. Inside a worker, calls are made at once and in place.

    Args:
        commander: whose workers; it is not closed by `shutdown`. ``None``: that of `goliath.init`,
            if there is one and ``workers`` is not given; else one of the executor's own, which is
            closed.
        workers: slots of that one's embedded Lieutenant; default: the usable CPUs.
    """

    def __init__(self, commander: Commander | None = None, *, workers: int | None = None) -> None:
        if commander is not None and not isinstance(commander, Commander):
            raise TypeError(
                f"commander is a {type(commander).__name__}; "
                "a number of workers is said with Executor(workers=4)"
            )
        if commander is not None and workers is not None:
            raise ValueError("workers= is for an Executor with no Commander given: it has its own")
        shared = commander or (runtime.started() if workers is None else None)
        self._commander = shared or Commander(workers=workers)
        self._finisher = _Finisher((lambda: None) if shared else self._commander.close)
        self._lock = threading.RLock()  # a signal handler of the user's may submit, too
        self._shut = False
        self._slots = 1
        # Who drops an executor without a shutdown: what it was given is finished, and then it ends.
        weakref.finalize(self, _Finisher.leave, self._finisher).atexit = False

    def __repr__(self) -> str:
        return f"<Executor on {self._commander!r}{', shut down' if self._shut else ''}>"

    @property
    def _max_workers(self) -> int:
        """The slots of all nodes, at least 1: dask, scipy and joblib size their work by it."""
        if in_worker() or crossing.mode is not None:
            return 1
        if not self._shut:
            slots = sum(node.workers for node in self._commander.nodes() if node.alive)
            self._slots = max(slots, 1)
        return self._slots

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Make one call. Function and arguments are taken as they are now.

        Returns:
            Its future. ``cancel()`` succeeds until the call has been sent to a node. What cannot
            be pickled is an exception of the future.

        Raises:
            RuntimeError: the executor was shut down.
            ConnectionError: no node was reached.
        """
        return self._submit(_as_it_is(fn), args, kwargs)

    def map(
        self,
        fn: Callable[..., T],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
        buffersize: int | None = None,
    ) -> Iterator[T]:
        """Like the builtin ``map``, but all calls are submitted at once. Closing the iterator
        cancels those that were not sent.

        Args:
            fn: a callable, taken as it is now.
            *iterables: one argument of each call from each; the shortest ends it.
            timeout: seconds from now until the last result must be there.
            chunksize: calls made as one: cheaper if they are short, but a failure, or a lost
                worker, is one of them all.
            buffersize: calls, or chunks, that may be on their way or unread; the input is pulled
                no further. Default: no limit. (In the standard library since Python 3.14.)

        Raises:
            TimeoutError: when iterating; the time has passed.
            BaseException: when iterating; what a call has raised.
        """
        if chunksize < 1:
            raise ValueError("chunksize must be >= 1.")
        if buffersize is not None and not isinstance(buffersize, int):
            raise TypeError("buffersize must be an integer or None")
        if buffersize is not None and buffersize < 1:
            raise ValueError("buffersize must be None or > 0")
        until = None if timeout is None else time.monotonic() + timeout
        rows: Iterator[tuple[Any, ...]] = zip(*iterables, strict=False)
        if chunksize == 1:
            return self._results(fn, rows, until, buffersize)
        chunks = self._results(_of_chunks(fn), _chunks(rows, chunksize), until, buffersize)
        return _flattened(chunks)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more calls. Idempotent.

        Args:
            wait: return when all calls have ended and, if it is the executor's own, the
                Commander has. Otherwise that happens in the background.
            cancel_futures: cancel the calls that have not been sent.
        """
        with self._lock:
            self._shut = True
        if cancel_futures:
            for future in self._finisher.open():
                future.cancel()
        self._finisher.close()
        if wait:
            self._finisher.join()

    def _submit(
        self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Future[Any]:
        future = _CallFuture()
        if in_worker():
            # Here: who waits for futures does not say so, and might wait for his own slot.
            future.follow(made_here(function, args, kwargs), _CallFuture.end)
            return future
        with self._lock:
            if _exiting.is_set():
                raise RuntimeError("cannot schedule new futures after interpreter shutdown")
            if self._shut:
                raise RuntimeError("cannot schedule new futures after shutdown")
            self._finisher.expect(future)  # from here on, a shutdown waits for it
        try:
            future.follow(self._commander.submit(function, *args, **kwargs), self._finisher.finish)
        except SerializationError as exc:
            future.set_exception(exc)
            self._finisher.finish(future)
        except BaseException:
            self._finisher.finish(future)
            raise
        return future

    def _results(
        self,
        function: Callable[..., Any],
        calls: Iterator[tuple[Any, ...]],
        until: float | None,
        buffersize: int | None,
    ) -> Generator[Any, None, None]:
        submit = partial(self._submit, _as_it_is(function), kwargs={})
        futures = deque(submit(args) for args in islice(calls, buffersize))
        more = iter(()) if buffersize is None else calls
        return _in_order(futures, map(submit, more), until)


# -- futures ---------------------------------------------------------------------------


class _CallFuture(Future[Any]):
    """A future that can be cancelled until its call is sent, and says so."""

    def __init__(self) -> None:
        super().__init__()
        self._ref: ObjectRef[Any] | None = None  # None: not submitted yet, or ended
        self._withdrawn = False

    def follow(self, ref: ObjectRef[Any], finish: Callable[[_CallFuture], None]) -> None:
        """Have the outcome of this call, as soon as `finish` is called."""
        self._ref = ref
        ref.when_here(partial(finish, self))

    def cancel(self) -> bool:
        """Cancel the call, if it was not sent yet; whether it is cancelled."""
        # Whoever is told by the withdrawal, `end` in another thread, waits for what is written.
        with _withdrawing:
            if self._ref is not None and not self._withdrawn:
                self._withdrawn = self._ref.withdraw()
        return self._withdrawn and super().cancel()

    def running(self) -> bool:
        """Whether the call was sent, so that it cannot be cancelled, and has not ended."""
        ref = self._ref
        return ref is not None and ref.sent() and not self._withdrawn and not self.done()

    def end(self) -> None:
        """The call has ended: take its outcome, and tell those who wait."""
        with _withdrawing:
            ref = self._ref
            if self._withdrawn:
                super().cancel()  # the other thread may not have come to it
        if ref is None or not self.set_running_or_notify_cancel():
            return
        try:
            self.set_result(ref.result())
        except BaseException as exc:  # noqa: BLE001 - it belongs to whoever asks the future
            self.set_exception(exc)
        finally:
            self._ref = None  # it would keep the results of its neighbours in memory


class _Finisher:
    """The thread in which futures end.

    It does not know the executor, which may be dropped while calls are on their way.
    """

    def __init__(self, at_end: Callable[[], object]) -> None:
        self._at_end = at_end
        self._open: set[_CallFuture] = set()
        self._ended: SimpleQueue[_CallFuture | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self.finish: Callable[[_CallFuture], None] = self._ended.put
        """Tell that the call of this future has ended. Never blocks: it is said by the loop."""

    def expect(self, future: _CallFuture) -> None:
        """`finish` will be called for it. (By one thread at a time.)"""
        self._open.add(future)
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="goliath-executor", daemon=True)
            _live.add(self)
            self._thread.start()

    def open(self) -> list[_CallFuture]:
        """The futures that have not ended."""
        return list(self._open)

    def leave(self) -> bool:
        """Nothing more will be expected; whether anything ever was. Never blocks."""
        if self._thread is None:
            return False
        self._ended.put(None)
        return True

    def close(self) -> None:
        """The same; what is to be done at the end is done, at the latest when all has ended."""
        if not self.leave():
            self._at_end()

    def join(self) -> None:
        """Wait until all has ended, unless the caller is a callback, for which that waits."""
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()

    def _run(self) -> None:
        closed = False
        while self._open or not closed:
            future = self._ended.get()
            if future is None:
                closed = True
                continue
            try:
                future.end()
            except BaseException:  # noqa: BLE001 - a callback's SystemExit ends nobody else's calls
                _log.exception("exception calling callback for %r", future)
            self._open.discard(future)
            del future  # or the last result would stay until the next one comes
        try:
            self._at_end()
        finally:
            _live.discard(self)  # not earlier: the exit of the interpreter waits for it


_live: set[_Finisher] = set()
_exiting = threading.Event()


@atexit.register
def _finish_all() -> None:
    """As in the standard library, the exit of the interpreter waits for what was submitted.
    (What is registered later is called earlier: the Commanders are closed after this.)"""
    _exiting.set()
    for finisher in list(_live):
        finisher.leave()
        finisher.join()


# -- map -------------------------------------------------------------------------------


def _in_order(
    futures: deque[Future[Any]], more: Iterator[Future[Any]], until: float | None
) -> Generator[Any, None, None]:
    try:
        while futures:
            futures.extend(islice(more, 1))
            yield _result(futures.popleft(), until)
    finally:
        for future in futures:
            future.cancel()


def _result(future: Future[Any], until: float | None) -> Any:
    try:
        return future.result(None if until is None else until - time.monotonic())
    finally:
        future.cancel()
        del future  # its exception knows this frame, and this frame would know it


def _chunks(rows: Iterator[tuple[Any, ...]], size: int) -> Iterator[tuple[Any, ...]]:
    """The arguments of so many calls, one tuple for each parameter."""
    while chunk := tuple(islice(rows, size)):
        yield tuple(zip(*chunk, strict=True))


def _of_chunks(function: Callable[..., Any]) -> Callable[..., list[Any]]:
    """Makes many calls of a function; travels by value, since workers do not import this file."""

    def chunk(*columns: Iterable[Any]) -> list[Any]:
        return list(map(function, *columns))

    chunk.__qualname__ = function_name(function)
    return chunk


def _flattened(chunks: Generator[list[Any], None, None]) -> Generator[Any, None, None]:
    with closing(chunks):
        for chunk in chunks:
            yield from chunk


# -- functions -------------------------------------------------------------------------


class _Snapshot:
    """A function as it was; equal to another if both were the same.

    A Commander pickles a function when it first meets it. That is right for plain functions, but
    not for the method of an object that has changed since, nor for a closure.
    """

    __slots__ = ("_payload", "digest", "func", "needs")

    def __init__(self, function: Callable[..., Any]) -> None:
        self.func = function  # as in a partial, so that messages have its name
        self.needs = Needs()
        self._payload = dump_value(function, needs=self.needs)
        self.digest = sha256(self._payload).digest()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.func(*args, **kwargs)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Snapshot) and self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)

    def __reduce__(self) -> Any:
        return Pickled(self._payload).__reduce__()


def _as_it_is(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function itself if nothing in it can change, else a snapshot."""
    if _is_constant(function) or in_worker():
        return function
    try:
        return _Snapshot(function)
    except Exception:  # noqa: BLE001 - the Commander tells what is wrong with it, in better words
        return function


def _is_constant(function: object) -> bool:
    if isinstance(function, FunctionType):
        return function.__closure__ is None
    if isinstance(function, BuiltinFunctionType):
        return isinstance(function.__self__, (ModuleType, type, NoneType))
    return isinstance(function, type)
