"""One value to bytes and back: the only file with cloudpickle.

**Plain builtins,** which most values are, go by plain pickle at C speed. A value in which it meets
anything else goes by cloudpickle, from the beginning.

**By value or by name.** A function or class of ``__main__``, or of a module that is neither
installed nor shipped with the job, travels by value: a node has no copy of the user's own modules.
Installed and shipped modules travel by reference, and the node imports them. Which modules
a pickle needs by name is noted for whoever ships them (`Needs`).

**Buffers.** What numpy, Arrow and others hold in one piece of memory stays out of the pickle: it
is copied once, behind it (`envelope`), and looked at where it arrives. So whoever gets such a value
may read it and not write it, however small it is.

**Names in pickles.** Those that were written here, some of which wait in a checkpoint, name
`load_value` and `_restored_view` as what puts them together again: these two stay in this file.

What consists of values has a file of its own: a function, a call (`rows`, or many of them as
`columns`), outcomes, an exception.
"""

from __future__ import annotations

import io
import pickle
import sys
import threading
from collections.abc import Callable, Container, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from types import FunctionType, ModuleType, NoneType
from typing import Any

import cloudpickle

from goliath.transport.envelope import APART_BYTES, enclosed, opened
from goliath.transport.keepsakes import Keepsake
from goliath.transport.modules import Needs, is_users_own
from goliath.transport.payload import Piece
from goliath.transport.versions import Versions

SCALARS = frozenset((int, float, str, bytes, bool, NoneType, complex))
"""Types whose exact instances are immutable and hold nothing: safe to share a pickle."""

PROTOCOL = 5
PLAIN = pickle.PROTO  # what every pickle begins with, and no envelope


def own_versions() -> Versions:
    """Of this process: what decides whether it can read the pickles of another."""
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    return Versions(python, str(cloudpickle.__version__))


class _NotPlainError(Exception):
    """The value holds something that plain pickle might send by a name the node lacks."""


class PlainPickler(pickle.Pickler):
    """Plain builtins only, at C speed; refuses the rest."""

    def reducer_override(self, obj: Any) -> Any:
        raise _NotPlainError(type(obj).__name__)


class _ByValuePickler(cloudpickle.Pickler):  # type: ignore[misc]  # cloudpickle has no types
    """cloudpickle that also sends the user's own, unshipped modules by value.

    The registry of cloudpickle is global, so what is added for one dump is taken away
    after it, under a lock.
    """

    _registry_lock = threading.RLock()

    def __init__(
        self, file: io.BytesIO, shipped: Container[str], needs: Needs | None = None
    ) -> None:
        self.buffers: list[pickle.PickleBuffer] = []
        super().__init__(file, protocol=PROTOCOL, buffer_callback=self.buffers.append)
        self._shipped = shipped
        self._needs = needs
        self._registered: list[Any] = []

    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, FunctionType | type):
            name = getattr(obj, "__module__", None)
            self._send_by_value(name)
            if self._needs is not None:
                self._note(self._needs, obj, name)
        elif self._needs is not None and isinstance(obj, ModuleType):
            self._needs.names.add(obj.__name__)
        elif type(obj) is memoryview:
            return _reduced_view(obj)
        elif _has_gaps(obj):
            return obj.copy().__reduce_ex__(PROTOCOL)
        return super().reducer_override(obj)

    def _send_by_value(self, name: str | None) -> None:
        if name is None or name in self._shipped:
            return
        module = is_users_own(name)
        if module is None or name in cloudpickle.list_registry_pickle_by_value():
            return
        cloudpickle.register_pickle_by_value(module)
        self._registered.append(module)

    def _note(self, needs: Needs, obj: Any, name: str | None) -> None:
        if name is not None and name != "__main__":
            if name in self._shipped:
                needs.names.add(name)
                return
            if is_users_own(name) is None and name in sys.modules:
                return  # it is installed, and finds what it needs
        if isinstance(obj, FunctionType):
            needs.note_function(obj)

    def dump(self, obj: Any) -> None:
        with self._registry_lock:
            try:
                super().dump(obj)
            finally:
                for module in self._registered:
                    cloudpickle.unregister_pickle_by_value(module)


def _reduced_view(view: memoryview) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    if not view.c_contiguous:
        return _restored_view, (view.tobytes(), view.format, view.shape)
    return _restored_view, (pickle.PickleBuffer(view), view.format, view.shape)


def _has_gaps(obj: Any) -> bool:
    """Whether it is a numpy array whose memory is not in one piece. numpy would put it into the
    pickle: copied more often, and to be written by whoever gets it, as no other array is."""
    kind = type(obj)
    if kind.__name__ != "ndarray" or kind.__module__ != "numpy":
        return False
    return not (obj.flags.c_contiguous or obj.flags.f_contiguous)


def _restored_view(data: Piece, format_: str, shape: tuple[int, ...]) -> memoryview:
    view = memoryview(data)
    if 0 in shape or (format_, len(shape)) == ("B", 1):
        return view
    shaped: Any = view.cast("B")
    return shaped.cast(format_, shape)  # type: ignore[no-any-return]  # to what it was


def dump_value(
    value: Any,
    shipped: Container[str] = (),
    needs: Needs | None = None,
    beside: list[Keepsake] | None = None,
) -> Piece:
    """One value as bytes. If it has big buffers, as a `memoryview` of shared memory.

    ``needs`` is told what must be importable where it is read. ``beside`` gets what is not among
    the bytes, because nodes may have it; None: all is.

    Raises:
        Exception: whatever pickling raises; the caller knows what the value is for.
    """
    if is_flat(value):
        return pickle.dumps(value, PROTOCOL)
    buffer = io.BytesIO()
    try:
        PlainPickler(buffer, PROTOCOL).dump(value)
    except _NotPlainError:
        return dump_by_value(value, shipped, needs, beside)
    return buffer.getvalue()


def dump_by_value(
    value: Any,
    shipped: Container[str],
    needs: Needs | None = None,
    beside: list[Keepsake] | None = None,
) -> Piece:
    """By cloudpickle: a pickle, in an envelope if there are buffers."""
    file = io.BytesIO()
    pickler = _ByValuePickler(file, shipped, needs)
    pickler.dump(value)
    return in_envelope(file, pickler.buffers, beside)


def dump_by_name(value: Any) -> bytes:
    """By cloudpickle: what is in a module goes by its name, whoever's that is."""
    return bytes(cloudpickle.dumps(value, PROTOCOL))


def in_envelope(
    file: io.BytesIO,
    buffers: Sequence[pickle.PickleBuffer],
    beside: list[Keepsake] | None = None,
) -> Piece:
    """What was pickled, with what was kept out of it."""
    if not buffers:
        return file.getvalue()
    return enclosed(file.getbuffer(), [buffer.raw() for buffer in buffers], beside)


def is_flat(value: Any) -> bool:
    """Whether it is a scalar or one plain container of scalars: then nothing in it can need
    more than plain pickle, and 0.3 µs find that out where a pickler of its own takes 1.2."""
    kind = type(value)
    if kind in SCALARS:
        return True
    if kind is list or kind is tuple or kind is set or kind is frozenset:
        return SCALARS.issuperset(map(type, value))
    if kind is dict:
        return SCALARS.issuperset(map(type, value)) and SCALARS.issuperset(
            map(type, value.values())
        )
    return False


def load_value(payload: Piece) -> Any:
    """The value that `dump_value` wrote. Its buffers are looked at where they are."""
    if payload[:1] == PLAIN:  # as most are: to open it would take 0.4 µs
        return pickle.loads(payload)
    pickled, buffers = opened(payload)
    return pickle.loads(pickled, buffers=buffers)


def is_apart(payload: Piece) -> bool:
    """Whether it is worth the while not to pickle it with others."""
    return type(payload) is memoryview and len(payload) >= APART_BYTES


def kept(payload: Piece) -> Piece:
    """A value as it can be kept: copied, unless it has memory of its own."""
    return payload if type(payload) is bytes or is_apart(payload) else bytes(payload)


@contextmanager
def classes_left_alone() -> Iterator[None]:
    """For whoever reads what this very process has pickled.

    A class that travels by value is found when it is read where it came from, and cloudpickle gives
    it the attributes that came along all the same: its methods are then copies, with
    copies of their globals. Here it stays what it is.
    """
    cloud: Any = cloudpickle.cloudpickle
    given = cloud._class_setstate

    @wraps(given)  # it is pickled by name
    def keep(cls: type, _state: Any) -> type:
        return cls

    cloud._class_setstate = keep
    try:
        yield
    finally:
        cloud._class_setstate = given
