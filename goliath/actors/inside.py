"""Inside a worker process: what the code that runs there can reach of its worker."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Protocol

from goliath.errors import GoliathError
from goliath.record import frozen
from goliath.transport.message import Message

NO_CALL = -1
"""The parcel of what an actor does while none of its calls runs."""


@frozen
class RunningCall:
    """The call that runs: in the worker's main thread, or in a task of the loop there.

    Attributes:
        job, parcel, index: what its Commander calls it.
        task_id: names it in messages, as ``ObjectRef.task_id`` does.
        attempt: counts the assignments of its batch, from 1.
        cancelled: whether it was interrupted, or will be.
        patron: of a detached actor, the number of the Commander whose call it is; else 0.
    """

    job: int
    parcel: int
    index: int
    task_id: str
    attempt: int
    cancelled: bool
    patron: int = 0


class Host(Protocol):
    """The worker, to the code that runs in it. All methods may be called from any thread."""

    node: str
    worker: int

    def running_call(self) -> RunningCall | None:
        """What runs; None at start, when nobody's call does."""

    def between_calls(self) -> RunningCall | None:
        """In the process of an actor: who makes calls while none of its own runs."""

    def in_loop(self) -> bool:
        """Whether this thread runs the loop in which calls run beside each other. (Nothing runs
        beside the ``__init__`` of an actor.)"""

    def tell(self, message: Message) -> None:
        """Have the Lieutenant pass something on to the Commander."""

    def leave_soon(self) -> None:
        """This process ends after the call at hand."""

    def waits(self) -> int:
        """The running call waits for others from now on; gives what `goes_on` wants to know."""

    def goes_on(self, waiting: int) -> None:
        """It does not wait any more."""

    def undisturbed(self) -> AbstractContextManager[None]:
        """No interrupt strikes the main thread in it; one that comes meanwhile strikes later."""

    def long_wait(self, refs: list[str], enough: int) -> AbstractContextManager[None]:
        """To be entered by a thread that has waited for long and will as long as it takes: its
        Commander looks whether it is a deadlock, if it is the very thread in which a call runs."""


host: Host | None = None
"""None in a process that is no worker."""

on_told: Callable[[Message], None] | None = None
"""Who hears, in the worker's side thread, what the Commander has to say to the running code."""

after_report: Callable[[], None] | None = None
"""Called in the main thread when the outcome of a range has been sent."""


threads_of_calls: set[int] = set()
"""In which calls run: when one of these waits, its call does."""


def refuse_to_block(timeout: float | None) -> None:
    """To be called before a thread waits for calls.

    Raises:
        GoliathError: it runs a loop with other calls in it, which would wait with it: perhaps the
            very one that is waited for.
    """
    blocks = timeout is None or timeout > 0
    if blocks and host is not None and host.in_loop():
        raise GoliathError(
            "a coroutine function must not block its worker, in which other calls run, until a "
            "call has ended: await the ref, or give the function max_concurrency=1"
        )
