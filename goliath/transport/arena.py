"""Memory that several processes map: one writes a stretch of it, the others read it in place.

An *arena* is a memfd, so it has no name that anybody could open, and no mount of a fixed size
behind it (``/dev/shm`` has 64 MiB in many containers); where there are none, a file (see
`goliath.transport.backing`). It is cut into *regions*, and each has one writer, who alone decides
which stretches of it are taken: no lock is shared between processes, and a process that is killed
leaves no books behind that somebody would have to put right.

**How long a stretch is taken.** A stretch is a *block*: an object with a buffer of its own. All
that reads it, be it a numpy array or a slice of a memoryview, keeps its exporter alive: that is
how the buffer protocol works. So a block is free when the object is gone, and no sooner.

Nothing is written before the kernel has set the memory aside (``fallocate``): to touch what it
cannot provide would be a SIGBUS. Where there is no room, whoever asks gets None, and goes the way
through the heap and the sockets.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from weakref import finalize

from goliath.config import KIB, MIB
from goliath.core.allotment import GRAIN, Allotment
from goliath.transport import malloc
from goliath.transport.backing import Backing, ForeignArenaError, set_aside
from goliath.transport.payload import Bundle, Payload, Piece

WORTH_BYTES = 64 * KIB
"""Smaller buffers travel within the message. To copy them takes 10 µs; to lend a block and hear
that it is free again takes as long, and a message."""

MOVED_BYTES = MIB
"""Bytes that are in the heap, and not in pieces, are moved to the arena from so many on: a smaller
frame is written to a socket in the same time."""

WARM_BYTES = 1024 * MIB
"""What a region keeps of memory that nobody uses: cold memory costs ten times a copy."""

WARM_S = 10.0
"""... and for how long, once nobody takes any."""

GROWS_BY_BYTES = MIB
"""What is set aside at a time while a block is written: 1 ms."""

_COPIED_AT_ONCE = 4 * MIB  # and then others may have the GIL, or be waited for

SHARED_BYTES = 8 * MIB
"""So much is copied by two threads: one core alone does not use up what memory can do (8.5 GB/s,
and two 12 to 16, of a virtual machine). 64 arrays of 16 MiB reach workers 1.3 times as fast."""

_PUNCH = 0x03  # FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE
_MAP_NORESERVE = 0x4000
_MAP_FAILED = ctypes.c_void_p(-1).value


Shield = Callable[[], AbstractContextManager[None]]


class Arena:
    """One arena as this process has it: mapped for reading.

    Args:
        backing: its memory; owned from now on.
        limits: the bytes of each region, multiples of a page.
    """

    def __init__(self, backing: Backing, limits: Sequence[int]) -> None:
        self.backing = backing
        self.fd = fd = backing.fd
        self.limits = tuple(limits)
        self.size = sum(limits)
        self.address = _mapped(fd, 0, self.size, mmap.PROT_READ)
        _at_end(self, _unmap, self.address, self.size)
        self._close = finalize(self, backing.close)
        self._close.atexit = False  # what was submitted is still made then, by workers yet to come

    def __repr__(self) -> str:
        return f"<Arena of {len(self.limits)} regions, {self.size} bytes at most>"

    @classmethod
    def make(cls, limits: Sequence[int]) -> Arena | None:
        """A new one; None where that cannot be."""
        limits = [max(limit // GRAIN, 1) * GRAIN for limit in limits]
        backing = Backing.make(sum(limits))
        if backing is None:
            return None
        try:
            return cls(backing, limits)
        except OSError:
            backing.close()
            return None

    @classmethod
    def join(cls, fd: int, limits: Sequence[int], *, trusted: bool = False) -> Arena:
        """One that another process has made. If it is none, its descriptor is closed.

        Args:
            fd: its descriptor.
            limits: of its regions.
            trusted: whether that process is, so that it need not be sealed.

        Raises:
            ForeignArenaError: it could shrink beneath its readers, or has another size.
            OSError: it cannot be mapped.
        """
        try:
            if not limits or min(limits) <= 0 or any(limit % GRAIN for limit in limits):
                raise ForeignArenaError(f"an arena of {limits}")
            return cls(Backing.joined(fd, sum(limits), trusted=trusted), limits)
        except BaseException:
            os.close(fd)
            raise

    def borrowed(self, offset: int, size: int) -> memoryview:
        """A block in somebody else's region.

        Raises:
            ForeignArenaError: it is not within the arena.
        """
        if not (offset >= 0 and 0 < size <= self.size - offset):
            raise ForeignArenaError(f"{size} bytes at {offset} of {self.size}")
        return _block(self, self.address, offset, size)

    def region(self, number: int, shield: Shield = nullcontext) -> Region:
        """One of its regions, which this process writes, and no other (see `Region`)."""
        return Region(self, number, shield)

    def start_of(self, region: int) -> int:
        """Where a region begins."""
        return sum(self.limits[:region])

    def clear(self, region: int) -> None:
        """Give the memory of a region that nobody uses back to the system."""
        if self._close.alive:
            _punch(self.fd, self.start_of(region), self.limits[region])

    def close(self) -> None:
        """Nobody else is to map it. What is looked at stays."""
        self._close()


class Region:
    """The part of an arena that this process writes. Any thread may use it.

    Args:
        arena: whose part it is.
        number: which.
        shield: keeps away what may raise in this thread at any moment, where there is such a thing.

    Attributes:
        on_given: called when nobody looks at a block any more, from any thread and from finalizers.
    """

    def __init__(self, arena: Arena, number: int, shield: Shield = nullcontext) -> None:
        self._shield = shield
        self.on_given: Callable[[], None] = _nobody_asks
        self.arena = arena
        self._number = number
        self._start = arena.start_of(number)
        self._limit = arena.limits[number]
        self._address = _mapped(
            arena.fd, self._start, self._limit, mmap.PROT_READ | mmap.PROT_WRITE
        )
        _at_end(self, _unmap, self._address, self._limit)
        self._allotment = Allotment(self._limit)
        self._backed = 0  # bytes from the start that the kernel has set aside
        self._growing: int | None = None  # where the block begins that is not all set aside yet
        self._idle = False  # nothing was taken since it was last looked at
        self._given: deque[int] = deque()  # by finalizers, which may take no lock
        self._lock = threading.RLock()
        self._busy = False
        self._pid = os.getpid()
        self.closed = False

    def __repr__(self) -> str:
        return f"<Region of {self._limit} bytes, {self._allotment.used} of them used>"

    @property
    def used_bytes(self) -> int:
        """What is taken now."""
        with self._lock:
            self._collect()
            return self._allotment.used

    def take(self, size: int, *, grows: bool = False) -> memoryview | None:
        """A block to be written; None if there is no room for it.

        Args:
            size: of it.
            grows: it is written from its beginning to its end, and `grow` is called before. So
                nothing is set aside for what was only announced, and nobody waits for all of it.
        """
        if self.closed or os.getpid() != self._pid:
            return None
        with self._shield(), self._lock:
            if self._busy:
                return None  # a signal handler in the middle of another
            self._busy = True
            try:
                at = self._taken(size, grows)
            finally:
                self._busy = False
            return None if at is None else self._made(at, size)

    def _made(self, at: int, size: int) -> memoryview:
        view = _block(self.arena, self._address - self._start, self._start + at, size)
        # The region lives as long as its blocks: it is what they are mapped by.
        _at_end(view.obj, _give, self, at)
        return view

    def _taken(self, size: int, grows: bool) -> int | None:
        self._collect()
        self._idle = False
        at = self._allotment.take(size)
        if at is None:
            return None
        end = self._allotment.end_of(at)
        if end <= self._backed:
            return at
        # What grows is the last of all: nothing behind it is set aside before it is.
        if self._growing is None:
            if grows:
                self._growing = at
                return at
            if self._back(end):
                return at
        self._allotment.give(at)
        return None

    def grow(self, block: memoryview, end: int) -> bool:
        """Have the kernel set memory aside for the first ``end`` bytes of a block; whether it
        does."""
        with self._lock:
            at = offset_of(block) - self._start
            if self._growing != at:
                return True  # it was all there
            if self.closed:
                return False
            whole = self._allotment.end_of(at)
            if at + end > self._backed:
                ahead = -(-(at + end + GROWS_BY_BYTES) // GRAIN) * GRAIN
                if not self._back(min(ahead, whole)):
                    return False
            if self._backed >= whole:
                self._growing = None
            return True

    def _collect(self) -> None:
        while self._given:
            at = self._given.popleft()
            if at == self._growing:
                self._growing = None
            self._allotment.give(at)
        kept = max(self._allotment.top, WARM_BYTES)
        if self._backed > 2 * kept:
            self._keep(kept)

    def _keep(self, size: int) -> None:
        """Give the memory from there on back to the system."""
        if not self.closed:
            _punch(self.arena.fd, self._start + size, self._backed - size)
            self._backed = size

    @property
    def is_warm(self) -> bool:
        """Whether it keeps memory that nobody uses."""
        return self._backed > self._allotment.top or bool(self._given)

    def cool(self) -> None:
        """To be called every `WARM_S` seconds while it is warm: if nobody takes anything any more,
        it gives back what it keeps."""
        with self._lock:
            if self._busy:
                return
            self._collect()
            if self._idle:
                self._shrink()
            self._idle = True

    def shrink(self) -> None:
        """Give back at once what nobody looks at behind the last block that somebody does."""
        with self._lock:
            if not self._busy:
                self._collect()
                self._shrink()

    def _shrink(self) -> None:
        if self._backed > self._allotment.top:
            self._keep(self._allotment.top)

    def _back(self, end: int) -> bool:
        """Have the kernel set memory aside up to there; whether it does."""
        if end > self._backed:
            if not set_aside(self.arena.fd, self._start + self._backed, end - self._backed):
                return False
            self._backed = end
        return True

    def close(self) -> None:
        """No more blocks; those that are taken stay."""
        self.closed = True
        if not self.used_bytes:
            self.arena.clear(self._number)


def _give(region: Region, at: int) -> None:
    region._given.append(at)
    region.on_given()


def _nobody_asks() -> None:
    """Whoever takes the next block finds it."""


# -- blocks ---------------------------------------------------------------------------


def _block(arena: Arena, base: int, offset: int, size: int) -> memoryview:
    """What keeps a stretch, and the memory it is in, as long as anybody looks at it."""
    whole = -(-size // GRAIN) * GRAIN  # ctypes makes a class for each length
    block: ctypes.Array[ctypes.c_ubyte] = (ctypes.c_ubyte * whole).from_address(base + offset)
    block.arena = arena  # type: ignore[attr-defined]  # ctypes has room for it
    block.offset = offset  # type: ignore[attr-defined]
    return memoryview(block).cast("B")[:size]


def is_in(arena: Arena, payload: Piece) -> bool:
    """Whether this memory is the arena's."""
    return type(payload) is memoryview and getattr(payload.obj, "arena", None) is arena


def is_block(payload: Piece) -> bool:
    """Whether this memory is a block of any arena: it keeps nothing but itself."""
    return type(payload) is memoryview and hasattr(payload.obj, "arena")


def offset_of(view: memoryview) -> int:
    """Where in its arena a block is, or a part of one."""
    block = view.obj
    assert isinstance(block, ctypes.Array), "only blocks are asked for their place"
    address = ctypes.addressof(ctypes.c_ubyte.from_buffer(view))
    offset: int = block.offset + address - ctypes.addressof(block)  # type: ignore[attr-defined]
    return offset


def copy_into(view: memoryview, at: int, data: memoryview) -> None:
    """Write there, and let other threads run meanwhile."""
    # Whoever comes first takes the next part: the second thread may have to wait for a core.
    starts = iter(range(0, len(data), _COPIED_AT_ONCE))
    target = view[at : at + len(data)]
    helper = None
    if len(data) >= SHARED_BYTES and not _alone:
        helper = threading.Thread(
            target=_copy, args=(target, data, starts), name="goliath-copy", daemon=True
        )
        try:
            helper.start()
        except RuntimeError:  # there are no more threads to be had
            helper = None
    _copy(target, data, starts)
    if helper is not None:
        helper.join()


_alone = False


def copy_alone() -> None:
    """Copy with one thread from now on: there are other processes like this one, and cores enough
    for one of each."""
    global _alone
    _alone = True


def _copy(target: memoryview, data: memoryview, starts: Iterator[int]) -> None:
    with _Address(target) as to, _Address(data) as source:
        for start in starts:
            _memmove(to + start, source + start, min(_COPIED_AT_ONCE, len(data) - start))


def are_equal(one: memoryview, other: memoryview) -> bool:
    """Whether these, of plain bytes, hold the same; other threads run meanwhile.

    Python compares views of bytes one by one, 3 GB/s at best, and lets nobody run.
    """
    if len(one) != len(other):
        return False
    with _Address(one) as left, _Address(other) as right:
        return not _memcmp(left, right, len(one))


def moved(payload: Piece, region: Region) -> Piece:
    """It in the region, if it is big and not in that arena, and if there is room."""
    if len(payload) < WORTH_BYTES or is_in(region.arena, payload):
        return payload
    view = region.take(len(payload))
    if view is None:
        return payload
    copy_into(view, 0, memoryview(payload))
    return view


# -- where this process writes --------------------------------------------------------

_regions: list[Region] = []


def open_region(region: Region) -> None:
    """What is pickled in this process may be put there."""
    _regions.append(region)


def close_region(region: Region) -> None:
    """Nothing more is put there."""
    region.close()
    with suppress(ValueError):
        _regions.remove(region)


def settled(payload: Payload, region: Region) -> Payload:
    """The payload, what of it is big in the region, as far as there is room."""
    if isinstance(payload, Bundle):
        return Bundle(payload.main, [moved(piece, region) for piece in payload.pieces])
    return payload if len(payload) < MOVED_BYTES else moved(payload, region)


def settled_anywhere(payload: Payload) -> Payload:
    """`settled` in some region of this process, if there is any."""
    return settled(payload, _regions[0]) if _regions else payload


def moved_anywhere(payload: Piece) -> Piece:
    """It in some region, unless it is in one, or there is no room."""
    return payload if is_block(payload) or not _regions else moved(payload, _regions[0])


def room_for(size: int) -> memoryview:
    """Memory for so many bytes: shared, if there is any such that has room."""
    for region in _regions:
        view = region.take(size)
        if view is not None:
            return view
    return malloc.room_for(size)


# -- the kernel -----------------------------------------------------------------------

_libc = ctypes.CDLL(None, use_errno=True)


def _function(name: str, result: type, *arguments: type) -> Callable[..., int]:
    function = getattr(_libc, name)
    function.restype, function.argtypes = result, arguments
    found: Callable[..., int] = function
    return found


_size, _pointer, _int, _long = ctypes.c_size_t, ctypes.c_void_p, ctypes.c_int, ctypes.c_int64
_mmap = _function("mmap", _pointer, _pointer, _size, _int, _int, _int, _long)
_munmap = _function("munmap", _int, _pointer, _size)
_memcmp = _function("memcmp", _int, _pointer, _pointer, _size)
_memmove = _function("memmove", _pointer, _pointer, _pointer, _size)


class _Buffer(ctypes.Structure):
    """``Py_buffer`` (in the stable ABI since 3.11)."""

    _fields_ = (
        ("buf", _pointer),
        ("obj", ctypes.c_void_p),
        ("len", ctypes.c_ssize_t),
        ("itemsize", ctypes.c_ssize_t),
        ("readonly", _int),
        ("ndim", _int),
        ("format", ctypes.c_char_p),
        ("shape", _pointer),
        ("strides", _pointer),
        ("suboffsets", _pointer),
        ("internal", _pointer),
    )


class _Address:
    """``with _Address(view) as address``: where its memory is, which stays there meanwhile.

    ctypes itself only looks at what may be written.
    """

    __slots__ = ("_buffer", "_view")

    def __init__(self, view: memoryview) -> None:
        self._view = view
        self._buffer = _Buffer()

    def __enter__(self) -> int:
        view = ctypes.py_object(self._view)
        ctypes.pythonapi.PyObject_GetBuffer(view, ctypes.byref(self._buffer), 0)  # PyBUF_SIMPLE
        address: int = self._buffer.buf
        return address

    def __exit__(self, *exc_info: object) -> None:
        ctypes.pythonapi.PyBuffer_Release(ctypes.byref(self._buffer))


def _mapped(fd: int, offset: int, size: int, protection: int) -> int:
    """By hand, because of memory that may only be read Python's ``mmap`` does not tell where it
    is."""
    address = _mmap(None, size, protection, mmap.MAP_SHARED | _MAP_NORESERVE, fd, offset)
    if address == _MAP_FAILED:
        raise OSError(ctypes.get_errno(), f"{size} bytes of shared memory cannot be mapped")
    return address


def _unmap(address: int, size: int) -> None:
    _munmap(address, size)


def _punch(fd: int, offset: int, size: int) -> None:
    with suppress(AttributeError):
        _function("fallocate", _int, _int, _int, _long, _long)(fd, _PUNCH, offset, size)


def _at_end(of: object, function: Callable[..., None], *args: object) -> None:
    # Not at the interpreter's exit: what is mapped may be looked at up to its last moment.
    finalize(of, function, *args).atexit = False
