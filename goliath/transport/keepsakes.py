"""Big buffers that calls take, and that a node keeps because the next call may take the same.

Where a node has to be sent what it is to look at, equal buffers are sent to it once. Whoever
pickles a call has its big buffers looked up here: one that holds the same bytes as another that
is still remembered *is* that other one, a `Keepsake`, and is neither copied nor sent.

**Equal** means that all bytes were compared. An object that was seen before may have been written
since, and to read one through for a digest takes five times as long as to compare it (SHA-256 1.3
GB/s, ``memcmp`` 6 to 15). So copies are remembered instead of digests. A few bytes from all over
them lead to the right one: a buffer that is new is hardly ever compared.

**How long.** A keepsake exists as long as a call that takes it, and beyond that for `IDLE_S`
seconds after it was last taken, within ``GOLIATH_KEEPSAKE_BYTES``. When it is gone, the nodes are
told to forget it: it is their Commanders who keep the books, so nobody names what a node has
dropped.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from weakref import ref

from goliath.config import MIB, SchedulingConfig
from goliath.transport.payload import Piece

WORTH_KEEPING_BYTES = MIB
"""A smaller buffer goes along with its call: a gigabit link takes it in 8 ms, and less is not worth
a message when it is forgotten."""

IDLE_S = 10.0

_SAMPLES = 64
_SAMPLE_BYTES = 64
_CANDIDATES_MAX = 4  # with the same samples and other bytes: pathological, and compared in full

_Sample = tuple[int, bytes]


class Keepsake:
    """Bytes that nobody writes any more, as nodes are given them to be kept.

    To whoever sends a call, it is something that the call takes beside its row, as a
    `goliath.actors.deposits.Deposit` is: here, and on no node of its own.

    Args:
        piece: the bytes.
    """

    __slots__ = ("__weakref__", "_piece")

    known, kept, lost = True, False, False

    def __init__(self, piece: Piece) -> None:
        self._piece = piece

    def __repr__(self) -> str:
        return f"<Keepsake of {self.size} bytes>"

    @property
    def size(self) -> int:
        """Its bytes."""
        return len(self._piece)

    def is_on(self, _node: str) -> bool:
        """See `Deposit.is_on`."""
        return False

    def payload(self) -> Piece:
        """See `Deposit.payload`."""
        return self._piece


class Recollection:
    """The keepsakes of this process. Any thread may use it.

    Args:
        clock: seconds, from any moment on.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._limit_bytes = 0
        self._links = 0
        self._known: dict[_Sample, list[ref[Keepsake]]] = {}
        self._held: dict[Keepsake, float] = {}  # the longest unused first, and when they were used
        self._held_bytes = 0
        self._gone: deque[_Sample] = deque()  # by finalizers, which may take no lock
        self._lock = threading.RLock()  # a signal handler of the user's may make a call, too

    def __repr__(self) -> str:
        return f"<Recollection of {len(self._held)} keepsakes, {self._held_bytes} bytes>"

    def link_made(self, limit_bytes: int | None = None) -> None:
        """There is one more node that has to be sent what it is to look at.

        Args:
            limit_bytes: of what is remembered though no call takes it; default: the
                environment's.
        """
        with self._lock:
            self._links += 1
            if limit_bytes is None:
                limit_bytes = SchedulingConfig.from_environ().keepsake_bytes
            self._limit_bytes = limit_bytes

    def link_ended(self) -> None:
        """There is one less."""
        with self._lock:
            self._links -= 1
            if not self._links:
                self._held.clear()
                self._held_bytes = 0

    def wants(self, size: int) -> bool:
        """Whether buffers of so many bytes are to be looked up."""
        return WORTH_KEEPING_BYTES <= size <= self._limit_bytes and self._links > 0

    def keepsake_of(self, view: memoryview, *, ours: bool = False) -> Keepsake:
        """The keepsake with these bytes: one that there is, or a new one.

        Args:
            view: of plain bytes.
            ours: whether nobody will write them, so that they need not be copied.
        """
        sample = _sample_of(view)
        found = next((k for k in self._candidates(sample) if _are_equal(k.payload(), view)), None)
        if found is None:
            found = Keepsake(view if ours else _copied(view))
            self._remember(sample, found)
        self._hold(found)
        return found

    def _candidates(self, sample: _Sample) -> list[Keepsake]:
        with self._lock:
            known = self._known.get(sample, ())
            return [found for each in known if (found := each()) is not None][-_CANDIDATES_MAX:]

    def _remember(self, sample: _Sample, keepsake: Keepsake) -> None:
        gone = self._gone
        with self._lock:
            self._forget_gone()
            known = self._known.setdefault(sample, [])
            known.append(ref(keepsake, lambda _: gone.append(sample)))

    def _forget_gone(self) -> None:
        while self._gone:
            sample = self._gone.popleft()
            left = [each for each in self._known.get(sample, ()) if each() is not None]
            if left:
                self._known[sample] = left
            else:
                self._known.pop(sample, None)

    def _hold(self, keepsake: Keepsake) -> None:
        with self._lock:
            if not self._links:
                return
            if self._held.pop(keepsake, None) is None:
                self._held_bytes += keepsake.size
            self._held[keepsake] = self._clock()
            while self._held_bytes > self._limit_bytes:
                self._drop(next(iter(self._held)))

    def _drop(self, keepsake: Keepsake) -> None:
        del self._held[keepsake]
        self._held_bytes -= keepsake.size

    @property
    def is_warm(self) -> bool:
        """Whether it remembers anything."""
        return bool(self._held)

    def cool(self) -> None:
        """Forget what no call takes, and none has taken for `IDLE_S` seconds."""
        with self._lock:
            until = self._clock() - IDLE_S
            while self._held:
                keepsake = next(iter(self._held))
                if self._held[keepsake] > until:
                    break
                self._drop(keepsake)
            self._forget_gone()


recollection = Recollection()
"""What is pickled in this process is looked up here."""


def _sample_of(view: memoryview) -> _Sample:
    """What equal buffers have in common, and others hardly ever: 10 µs, however long they are."""
    size = len(view)
    step = max((size - _SAMPLE_BYTES) // (_SAMPLES - 1), 1)
    places = range(0, max(size - _SAMPLE_BYTES, 0) + 1, step)
    return size, b"".join([view[at : at + _SAMPLE_BYTES] for at in places])


# Whoever has nothing big need not wait for ctypes to be imported: 7 ms.


def _copied(view: memoryview) -> memoryview:
    from goliath.transport.arena import copy_into, room_for

    target = room_for(len(view))
    copy_into(target, 0, view)
    return target


def _are_equal(one: Piece, other: memoryview) -> bool:
    from goliath.transport.arena import are_equal

    return one is other or are_equal(memoryview(one), other)
