"""The peers: the standard library's two process pools, with two workers each."""

import signal
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.pool import Pool

from benchmarks import tasks

WORKERS = 2


def _leave_interrupts_to_the_parent() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


# Both fork: that is what they do by default on Linux up to Python 3.13, and the faster start.
# Make them before a Commander exists: a fork copies the locks of its threads as they stand.


@contextmanager
def pool() -> Iterator[Pool]:
    """``multiprocessing.Pool(2)``, warm."""
    peer = get_context("fork").Pool(WORKERS, _leave_interrupts_to_the_parent)
    try:
        peer.map(tasks.whoami, range(2 * WORKERS), chunksize=1)
        yield peer
    finally:
        peer.terminate()
        peer.join()


@contextmanager
def executor() -> Iterator[ProcessPoolExecutor]:
    """``ProcessPoolExecutor(2)``, warm."""
    peer = ProcessPoolExecutor(
        WORKERS, mp_context=get_context("fork"), initializer=_leave_interrupts_to_the_parent
    )
    try:
        list(peer.map(tasks.whoami, range(2 * WORKERS)))
        yield peer
    finally:
        peer.shutdown(cancel_futures=True)


def pids_of(peer: Pool) -> list[int]:
    """The worker processes of a pool."""
    return [process.pid for process in peer._pool]
