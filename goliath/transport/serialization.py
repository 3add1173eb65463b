"""Values to bytes and back: the only file that pickles.

**Calls.** Where every argument of a chunk is an exact scalar, calls travel as *columns*: one
pickle for the chunk (197 ns a call against 418 for a list of dicts and 2,200 for one
cloudpickle each). Everything else travels as *rows*, one pickle a call: in one pickle, a
list shared by two calls would become one object in the worker.

**Functions.** A function of ``__main__``, or of a module that is neither installed nor
shipped with the job, travels by value: a node has no copy of the user's own modules.
Installed and shipped modules travel by reference, and the node imports them. Which modules
a pickle needs by name is noted for whoever ships them (`Needs`).

**Buffers.** What numpy, Arrow and others hold in one piece of memory stays out of the pickle: it
is copied once, behind it (`envelope`), and looked at where it arrives. So whoever gets such a value
may read it and not write it, however small it is.

**Outcomes.** Exact scalars share one pickle. Any other value was pickled right after its
call returned, before the next call could change it.
"""

from __future__ import annotations

import io
import os
import pickle
import struct
import sys
import threading
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import wraps
from itertools import count, repeat
from operator import itemgetter
from types import FunctionType, ModuleType, NoneType
from typing import Any, ClassVar

import cloudpickle

from goliath.errors import (
    ObjectLostError,
    RemoteTraceback,
    SerializationError,
    TaskError,
    describe,
)
from goliath.record import frozen
from goliath.transport.envelope import APART_BYTES, enclosed, opened, shared
from goliath.transport.keepsakes import Keepsake, recollection
from goliath.transport.messages import Bundle, Payload, Piece, parts_of
from goliath.transport.modules import Needs, is_users_own
from goliath.transport.versions import Versions

SCALARS = frozenset((int, float, str, bytes, bool, NoneType, complex))
"""Types whose exact instances are immutable and hold nothing: safe to share a pickle."""

COLUMNS, ROWS = "columns", "rows"
PROTOCOL = 5
DIGEST_BYTES = 32  # of SHA-256
_PLAIN = pickle.PROTO  # what every pickle begins with

Row = Mapping[str, Any] | tuple[Any, ...]
Columns = tuple[int, tuple[str, ...], tuple[list[Any], ...]]
"""How many positional columns, the names of the keyword columns, and all the columns."""


def own_versions() -> Versions:
    """Of this process: what decides whether it can read the pickles of another."""
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    return Versions(python, str(cloudpickle.__version__))


# -- any one value --------------------------------------------------------------------


class _NotPlainError(Exception):
    """The value holds something that plain pickle might send by a name the node lacks."""


class _PlainPickler(pickle.Pickler):
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


def _dumped(
    value: Any,
    shipped: Container[str],
    needs: Needs | None = None,
    beside: list[Keepsake] | None = None,
) -> Piece:
    """By cloudpickle: a pickle, in an envelope if there are buffers."""
    file = io.BytesIO()
    pickler = _ByValuePickler(file, shipped, needs)
    pickler.dump(value)
    return _enclosed(file, pickler.buffers, beside)


def _enclosed(
    file: io.BytesIO,
    buffers: Sequence[pickle.PickleBuffer],
    beside: list[Keepsake] | None = None,
) -> Piece:
    """What was pickled, with what was kept out of it."""
    if not buffers:
        return file.getvalue()
    return enclosed(file.getbuffer(), [buffer.raw() for buffer in buffers], beside)


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
    if _is_flat(value):
        return pickle.dumps(value, PROTOCOL)
    buffer = io.BytesIO()
    try:
        _PlainPickler(buffer, PROTOCOL).dump(value)
    except _NotPlainError:
        return _dumped(value, shipped, needs, beside)
    return buffer.getvalue()


def _is_flat(value: Any) -> bool:
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
    if payload[:1] == _PLAIN:  # as most are: to open it would take 0.4 µs
        return pickle.loads(payload)
    pickled, buffers = opened(payload)
    return pickle.loads(pickled, buffers=buffers)


def _is_apart(payload: Piece) -> bool:
    """Whether it is worth the while not to pickle it with others."""
    return type(payload) is memoryview and len(payload) >= APART_BYTES


def kept(payload: Piece) -> Piece:
    """A value as it can be kept: copied, unless it has memory of its own."""
    return payload if type(payload) is bytes or _is_apart(payload) else bytes(payload)


# -- functions ------------------------------------------------------------------------


@frozen
class Function:
    """A pickled function: ``digest`` is the SHA-256 of ``payload``, in hexadecimal."""

    digest: str
    name: str
    payload: Piece


@frozen
class LoadedFunction:
    """A function in a worker, with what is common to all its calls."""

    call: Callable[..., Any]
    static: dict[str, Any]
    retry_on: tuple[type[BaseException], ...]


def dump_function(
    function: Callable[..., Any],
    *,
    static: Mapping[str, Any] | None = None,
    retry_on: tuple[type[BaseException], ...] = (),
    shipped: Container[str] = (),
    needs: Needs | None = None,
) -> Function:
    """Pickle a function with its static keywords.

    Args:
        function: any callable.
        static: keyword arguments common to all calls.
        retry_on: exception classes after which a call is tried again.
        shipped: names of modules that travel as files.
        needs: is told what must be importable where it is read.

    Raises:
        SerializationError: names the part that cannot be pickled.
    """
    name = function_name(function)
    parts = (function, dict(static or {}), retry_on)
    known = getattr(function, "needs", None)
    if needs is not None and type(known) is Needs:  # it was pickled before, by somebody who noted
        needs.names |= known.names
        needs.origins |= known.origins
    try:
        payload = _dump_parts(parts, shipped, needs)
    except Exception as exc:
        culprit = find_culprit(static or {}, "static") or _function_culprit(function)
        raise SerializationError(
            f"{name} cannot be sent to a worker: {culprit or 'it'} cannot be pickled "
            f"({type(exc).__name__}: {exc}); create it inside the function instead"
        ) from exc
    return Function(_digest(payload), name, payload)


def _digest(payload: Piece) -> str:
    """A name for it. To read what is big for that takes five times as long as to copy it."""
    if _is_apart(payload):
        return os.urandom(DIGEST_BYTES).hex()
    import hashlib  # OpenSSL, 1.4 MiB of which no worker has any use

    return hashlib.sha256(payload).hexdigest()


def _dump_parts(parts: tuple[Any, ...], shipped: Container[str], needs: Needs | None) -> Piece:
    try:
        return _dumped(parts, shipped, needs)
    except Exception:
        # By value, a function takes the globals it names along. One of them may not be
        # picklable, in a module that the node can import all the same, once it is there.
        name = getattr(parts[0], "__module__", "__main__")
        if name == "__main__":
            raise
        if needs is not None:
            needs.names.add(name)
            needs.origins.add(name)
        return bytes(cloudpickle.dumps(parts, PROTOCOL))


def load_function(payload: Piece) -> LoadedFunction:
    """The function that `dump_function` wrote."""
    call, static, retry_on = load_value(payload)
    return LoadedFunction(call, static, retry_on)


def dump_initializer(
    initializer: Callable[..., Any],
    initargs: tuple[Any, ...],
    shipped: Container[str] = (),
    needs: Needs | None = None,
) -> Piece:
    """Pickle what runs once in each worker of a job; errors as in `dump_function`."""
    try:
        return _dump_parts((initializer, tuple(initargs)), shipped, needs)
    except Exception as exc:
        culprit = find_culprit(tuple(initargs), "initargs") or _function_culprit(initializer)
        raise SerializationError(
            f"the initializer {function_name(initializer)} cannot be sent to a worker: "
            f"{culprit or 'it'} cannot be pickled ({type(exc).__name__}: {exc})"
        ) from exc


def load_initializer(payload: Piece) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    """The function and its arguments that `dump_initializer` wrote."""
    initializer, initargs = load_value(payload)
    return initializer, initargs


def function_name(function: Callable[..., Any]) -> str:
    """How a function is called in messages and prefixes; the innermost of partials."""
    inner = getattr(function, "func", function)
    name = getattr(inner, "__qualname__", None) or type(inner).__qualname__
    return str(name).rpartition("<locals>.")[2]


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


_TEXTS = frozenset((str, bytes))
_SHORT_BYTES = 64  # of a string that is written out wherever it stands

# -- calls ----------------------------------------------------------------------------


class UnpicklableRowError(Exception):
    """Row ``position`` of a chunk cannot be sent; ``error`` is what its caller should see."""

    def __init__(self, position: int, error: SerializationError) -> None:
        super().__init__(position, error)
        self.position = position
        self.error = error


def encode_columns(rows: Sequence[Row]) -> bytes | None:
    """A chunk of calls as columns; None unless all rows have the first one's keys (or length)
    and hold exact scalars only. What comes back therefore vouches for the keys of every row."""
    kinds: list[type | None] = []
    columns = _columns(rows, kinds)
    return None if columns is None else _dump_lists(columns, columns[2], kinds)


class FarRow:
    """The row of a call that takes big things which are not in it.

    Args:
        row: its pickle.
        beside: those, in the order of their places: what stands for them where it was made.
    """

    __slots__ = ("beside", "row")

    def __init__(self, row: Piece, beside: Sequence[Any]) -> None:
        self.row = row
        self.beside = beside


EncodedRow = Piece | tuple[Piece, list[int]]
"""The pickle of a call; of one that takes something beside it, also the places of that."""


def encode_rows(
    rows: Sequence[Row], shipped: Container[str] = (), beside: list[Keepsake] | None = None
) -> Payload:
    """A chunk of calls with a pickle each.

    Args:
        rows: mappings (keyword arguments) or tuples (positional ones).
        shipped: names of modules that travel as files.
        beside: gets what is not in the chunk, because nodes may have it; None: all is.

    Raises:
        UnpicklableRowError: tells which row, and names the argument.
    """
    far = beside is not None
    pickled = [_dump_row(row, place, shipped, far=far) for place, row in enumerate(rows)]
    return _bundled(pickled, beside)


def _bundled(rows: Sequence[Any], beside: list[Any] | None) -> Payload:
    """Calls with a pickle each; in the place of one that travels beside them is its number."""
    if beside is not None and FarRow in map(type, rows):
        return _bundled_far(rows, beside)
    pieces = [row for row in rows if _is_apart(row)]
    if not pieces:
        return pickle.dumps(rows, PROTOCOL)
    numbers = count()
    main = [next(numbers) if _is_apart(row) else row for row in rows]
    return Bundle(pickle.dumps(main, PROTOCOL), pieces)


def _bundled_far(rows: Sequence[Piece | FarRow], beside: list[Any]) -> Payload:
    """The same of calls some of which take what is in no row, and goes ``beside`` all of them,
    once however many take it."""
    pieces: list[Piece] = []
    main: list[Any] = []
    numbers = {id(each): place for place, each in enumerate(beside)}
    for row in rows:
        pickled = row.row if isinstance(row, FarRow) else row
        encoded: Any = pickled
        if _is_apart(pickled):
            encoded = len(pieces)
            pieces.append(pickled)
        if isinstance(row, FarRow):
            for each in row.beside:
                if id(each) not in numbers:
                    numbers[id(each)] = len(beside)
                    beside.append(each)
            encoded = encoded, [numbers[id(each)] for each in row.beside]
        main.append(encoded)
    whole = pickle.dumps(main, PROTOCOL)
    return Bundle(whole, pieces) if pieces else whole


def encode_single(
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    shipped: Container[str] = (),
    beside: list[Keepsake] | None = None,
) -> Piece:
    """One call with any mixture of arguments, as it is now; ``beside``: see `dump_value`.

    Raises:
        SerializationError: an argument cannot be pickled.
    """
    try:
        return dump_value((args, kwargs), shipped, None, beside)
    except Exception as exc:
        raise _row_error(args, kwargs, exc) from exc


def encode_call(
    args: tuple[Any, ...], kwargs: dict[str, Any], shipped: Container[str] = ()
) -> Piece | FarRow:
    """The same for whoever sends it to nodes, which may have some of it.

    Raises:
        SerializationError: an argument cannot be pickled.
    """
    beside: list[Keepsake] = []
    row = encode_single(args, kwargs, shipped, beside)
    return FarRow(row, beside) if beside else row


def encode_plain(args: tuple[Any, ...]) -> bytes | None:
    """The row of one call, if its arguments are plain builtins through and through, else None."""
    try:
        if all(map(_is_flat, args)):
            return pickle.dumps((args, {}), PROTOCOL)
        buffer = io.BytesIO()
        _PlainPickler(buffer, PROTOCOL).dump((args, {}))
    except Exception:  # noqa: BLE001 - who sends it as something else will be told what is wrong
        return None
    return buffer.getvalue()


def encode_positional(columns: Sequence[list[Any]], kinds: Sequence[type | None]) -> bytes:
    """A chunk of calls from the columns of their arguments, and the `scalar_kinds` of these."""
    return _dump_lists((len(columns), (), tuple(columns)), columns, kinds)


class Pickled:
    """A value that is pickled already: where this is unpickled, the value appears."""

    __slots__ = ("_keepsake", "payload")

    def __init__(self, payload: Piece) -> None:
        self.payload = kept(payload)
        self._keepsake: Keepsake | None = None

    def __len__(self) -> int:
        return len(self.payload)

    @property
    def is_apart(self) -> bool:
        """Whether it is so big that it should not be copied."""
        return _is_apart(self.payload)

    @classmethod
    def of(cls, value: Any) -> Pickled:
        """A plain value, pickled now."""
        return cls(pickle.dumps(value, PROTOCOL))

    def share(self) -> None:
        """Move it to where nodes can look at it, if there was no such place when it was made."""
        self.payload = shared(self.payload)

    def keepsake(self) -> Keepsake | None:
        """It as what nodes keep for as long as it is here, if there are any that have to be sent
        it."""
        if self._keepsake is None and recollection.wants(len(self.payload)):
            view = memoryview(self.payload)
            self._keepsake = recollection.keepsake_of(view, ours=True)
            self.payload = self._keepsake.payload()
        return self._keepsake

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any]]:
        pickled, buffers = opened(self.payload)
        if not buffers:
            return pickle.loads, (bytes(pickled),)
        return load_value, (pickle.PickleBuffer(self.payload),)


def freeze(name: str, value: Any, shipped: Container[str] = ()) -> Any:
    """An argument as it is now: itself if it is an exact scalar, else `Pickled`.

    Raises:
        SerializationError: it cannot be pickled; the message has its name.
    """
    if type(value) in SCALARS:
        return value
    try:
        return Pickled(dump_value(value, shipped))
    except Exception as exc:
        raise _row_error((), {name: value}, exc) from exc


def thaw(frozen: Any) -> Any:
    """What was frozen: a copy, unless it is a scalar."""
    return load_value(frozen.payload) if type(frozen) is Pickled else frozen


def pickle_of(frozen: Any) -> Piece:
    """The pickle of what was frozen."""
    return frozen.payload if type(frozen) is Pickled else pickle.dumps(frozen, PROTOCOL)


class Elsewhere:
    """In the place of a value whose pickle reaches the worker beside the row (see `load_row`).

    Args:
        place: its number among those of the row.
    """

    __slots__ = ("place",)

    def __init__(self, place: int) -> None:
        self.place = place


class _FarPickler(pickle.Pickler):
    def persistent_id(self, obj: Any) -> int | None:
        return obj.place if type(obj) is Elsewhere else None


class _FarUnpickler(pickle.Unpickler):
    def __init__(self, row: Piece, beside: Sequence[Piece | None]) -> None:
        pickled, buffers = opened(row, beside)
        super().__init__(io.BytesIO(pickled), buffers=buffers)
        self._beside = beside
        self._values: dict[int, Any] = {}  # who passes a value twice passes one object

    def persistent_load(self, place: int) -> Any:
        if place not in self._values:
            payload = self._beside[place]
            if payload is None:
                raise ObjectLostError(
                    "a result that this call takes was lost with the node that kept it; make the "
                    "call that had it again, and then this one"
                )
            self._values[place] = load_value(payload)
        return self._values[place]


def encode_frozen(args: Sequence[Any], kwargs: Mapping[str, Any], *, far: bool = False) -> Piece:
    """The row of one call whose arguments are `freeze`-d; ``far``: some of them `Elsewhere`."""
    row = (tuple(args), dict(kwargs))
    file = io.BytesIO()
    buffers: list[pickle.PickleBuffer] = []
    kind = _FarPickler if far else pickle.Pickler
    kind(file, PROTOCOL, buffer_callback=buffers.append).dump(row)
    return _enclosed(file, buffers)


def encode_gathered(
    shape: tuple[int, tuple[str, ...]] | None, rows: Sequence[Any], beside: list[Any] | None = None
) -> tuple[str, Payload]:
    """Single calls of one shape: the form of the chunk, and its bytes.

    Args:
        shape: the number of positional arguments and the names of the others, where each row is
            the values of a call, exact scalars all of them; else None.
        rows: else what `encode_call` gave for each call.
        beside: gets what is not in the chunk; None: all is.
    """
    if shape is None:
        return ROWS, _bundled(list(rows), beside)
    columns = tuple(map(list, zip(*rows, strict=True)))
    return COLUMNS, pickle.dumps((*shape, columns), PROTOCOL)


def _dump_lists(whole: object, lists: Sequence[list[Any]], kinds: Sequence[type | None]) -> bytes:
    """Pickle what consists of these lists of exact scalars; ``kinds`` are their types, None where
    they are mixed.

    For strings, the memo of what was pickled before takes two thirds of the time (66 ns a string,
    24 without) and a fifth of reading them. Nothing in here can contain itself; but a long
    string that stands in every row must not be written as often, so they are measured first.
    """
    texts = [values for values, kind in zip(lists, kinds, strict=True) if kind in _TEXTS]
    if not texts or None in kinds or not all(map(_are_short, texts)):
        return pickle.dumps(whole, PROTOCOL)
    buffer = io.BytesIO()
    pickler = pickle.Pickler(buffer, PROTOCOL)
    pickler.fast = True
    pickler.dump(whole)
    return buffer.getvalue()


def _are_short(texts: list[Any]) -> bool:
    return sum(map(len, texts)) <= _SHORT_BYTES * len(texts)


def _columns(rows: Sequence[Row], kinds: list[type | None]) -> Columns | None:
    """The rows transposed; None unless all have the same keys and only exact scalars.

    ``kinds`` gets the type of each column, None where it is mixed.
    """
    first = rows[0]
    names: tuple[Any, ...]
    if type(first) is dict:
        names = tuple(first)
    elif type(first) is tuple:
        names = tuple(range(len(first)))
    else:
        return None
    try:
        transposed = _transposed(rows, type(first), names)
    except (KeyError, TypeError):
        return None
    found = scalar_kinds(transposed)
    if found is None:
        return None
    kinds += found
    if type(first) is tuple:
        return len(first), (), tuple(transposed)
    return 0, names, tuple(transposed)


def scalar_kinds(columns: Iterable[list[Any]]) -> list[type | None] | None:
    """The type of each column, None where it is mixed; None if not all are exact scalars."""
    kinds: list[type | None] = []
    for column in columns:
        kind = type(column[0])
        if kind in SCALARS and _all_are(kind, map(type, column), len(column)):
            kinds.append(kind)
        elif SCALARS.issuperset(map(type, column)):
            kinds.append(None)
        else:
            return None
    return kinds


def transpose(rows: Sequence[tuple[Any, ...]]) -> list[list[Any]] | None:
    """The columns of positional arguments; None if not all rows have the first one's length."""
    try:
        return _transposed(rows, tuple, tuple(range(len(rows[0]))))
    except KeyError:
        return None


def _transposed(rows: Sequence[Row], shape: type, names: tuple[Any, ...]) -> list[list[Any]]:
    """A list for each name, one pass each: zip(*map(itemgetter(a, b), rows)) is twice as slow.

    Raises:
        KeyError, TypeError: not all rows are of this shape with these names.
    """
    if not _all_are(len(names), map(len, rows), len(rows)):
        raise KeyError(names)
    if shape is dict and names:
        # It refuses what is no dict: a look at the types takes 13 ns a row, this 2 more a column.
        look_up: Callable[[Any, Any], Any] = dict.__getitem__
        return [list(map(look_up, rows, repeat(name))) for name in names]
    if not _all_are(shape, map(type, rows), len(rows)):
        raise TypeError(shape)
    return [list(map(itemgetter(name), rows)) for name in names]


def _all_are(wanted: object, found: Iterable[object], count: int) -> bool:
    """Whether each of ``count`` things found is the one wanted. Counting in a list takes 13 ns
    a thing where building a set takes 34: this is done for every call."""
    return list(found).count(wanted) == count


def _dump_row(row: Row, position: int, shipped: Container[str], *, far: bool) -> Piece | FarRow:
    # A plain tuple even of a named one: its class may be unknown to the node.
    args, kwargs = (tuple(row), {}) if isinstance(row, tuple) else ((), dict(row))
    try:
        if all(map(_is_flat, args or kwargs.values())):
            return pickle.dumps((args, kwargs), PROTOCOL)
        beside: list[Keepsake] | None = [] if far else None
        pickled = dump_value((args, kwargs), shipped, None, beside)
        return FarRow(pickled, beside) if beside else pickled
    except Exception as exc:
        raise UnpicklableRowError(position, _row_error(args, kwargs, exc)) from exc


def _row_error(
    args: tuple[Any, ...], kwargs: Mapping[str, Any], exc: Exception
) -> SerializationError:
    culprit = find_culprit(kwargs, "") or find_culprit(args, "argument ")
    return SerializationError(
        f"{culprit or 'the arguments'} cannot be pickled ({type(exc).__name__}: {exc}); "
        "send something it can be made from"
    )


def decode_columns(payload: Payload) -> Columns:
    """The columns of a chunk of form ``columns``."""
    main, _ = parts_of(payload)
    columns: Columns = pickle.loads(main)
    return columns


def decode_rows(payload: Payload) -> list[EncodedRow]:
    """The calls of a chunk of form ``rows``, each still pickled."""
    main, pieces = parts_of(payload)
    rows: list[Any] = pickle.loads(main)
    return [_with_piece(row, pieces) for row in rows] if pieces else rows


def _with_piece(row: Any, pieces: Sequence[Piece]) -> EncodedRow:
    if type(row) is tuple:
        number, places = row
        return (pieces[number] if type(number) is int else number), places
    encoded: Piece = pieces[row] if type(row) is int else row
    return encoded


def load_row(
    row: EncodedRow, beside: Sequence[Piece | None] = ()
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The positional and keyword arguments of one call.

    Args:
        row: the call.
        beside: the pickles of the values that are `Elsewhere` in it, and its buffers that nodes may
            have had; None for one that is lost.

    Raises:
        ObjectLostError: it takes one that is lost.
    """
    if isinstance(row, tuple):
        row, places = row
        beside = [beside[place] for place in places]
    if not beside and row[:1] == _PLAIN:
        args, kwargs = pickle.loads(row)
    else:
        args, kwargs = _FarUnpickler(row, beside).load()
    return args, kwargs


INERT_MAX_BYTES = 64 << 10
"""Of what is read without running it, without its buffers: 30 ms."""


class _InertUnpickler(pickle._Unpickler):
    """In Python: that of C takes 16 GiB and half a minute for six bytes, if these name a place of
    its memo that is far off. It has no say in what is built, either."""

    dispatch: ClassVar[dict[int, Any]] = dict(pickle._Unpickler.dispatch)
    stack: list[Any]
    read: Callable[[int], bytes]
    append: Callable[[Any], None]

    def __init__(
        self, row: Piece, find: Callable[[str, str], Any], beside: Iterable[Piece]
    ) -> None:
        pickled, buffers = opened(row, beside)
        super().__init__(io.BytesIO(pickled), buffers=buffers)
        self._find = find
        self._bytes = len(pickled)
        if self._bytes > INERT_MAX_BYTES:
            raise pickle.UnpicklingError(f"{self._bytes} bytes are too many to be looked through")

    def load_build(self) -> None:
        """What is no stand-in keeps its attributes; above all classes and modules do."""
        state = self.stack.pop()
        built = self.stack[-1]
        take = getattr(type(built), "__setstate__", None)
        if take is not None:
            take(built, state)

    def load_bytearray8(self) -> None:
        """Its size is set aside before anybody sees whether it is there."""
        (size,) = struct.unpack("<Q", self.read(8))
        if size > self._bytes:
            raise pickle.UnpicklingError(f"a bytearray of {size} bytes in {self._bytes}")
        self.append(bytearray(self.read(size)))

    dispatch[pickle.BUILD[0]] = load_build
    dispatch[pickle.BYTEARRAY8[0]] = load_bytearray8

    def find_class(self, module: str, name: str) -> Any:
        return self._find(module, name)

    def persistent_load(self, _place: int) -> Any:
        return self._find("", "result of another call")


def load_inert(
    row: EncodedRow, find: Callable[[str, str], Any], beside: Sequence[Keepsake] = ()
) -> Any:
    """A value as `dump_value` wrote it, or a row, in which ``find(module, name)`` stands for each
    class or function: nothing is imported, and none of the user's code runs.

    Args:
        row: it.
        find: see above.
        beside: its buffers that are not in it.

    Raises:
        Exception: whatever comes of it where ``find`` gives something that cannot do what is asked.
    """
    pickled = row[0] if isinstance(row, tuple) else row
    return _InertUnpickler(pickled, find, [each.payload() for each in beside]).load()


# -- outcomes -------------------------------------------------------------------------

FailureRecord = dict[str, Any]
"""A call's exception as plain data: ``kind`` (``"raised"`` or ``"serialization"``), ``type``,
``message``, ``traceback``, ``call`` (the call as text, cut) and ``pickle`` (bytes or None)."""


def encode_outcomes(
    values: list[Any], boxed: dict[int, Piece], failures: dict[int, FailureRecord]
) -> Payload:
    """Outcomes of consecutive calls. ``values`` has exact scalars, and None where a key of
    ``boxed`` (a pickle of its own) or ``failures`` stands; keys count from 0 in ``values``."""
    if boxed or failures:
        pieces = [pickled for pickled in boxed.values() if _is_apart(pickled)]
        if not pieces:
            return pickle.dumps((values, boxed, failures), PROTOCOL)
        numbers = count()
        inside = {
            place: next(numbers) if _is_apart(pickled) else pickled
            for place, pickled in boxed.items()
        }
        return Bundle(pickle.dumps((values, inside, failures), PROTOCOL), pieces)
    kind = type(values[0]) if values else None
    if kind in _TEXTS and _all_are(kind, map(type, values), len(values)):
        return _dump_lists(values, (values,), (kind,))
    return pickle.dumps(values, PROTOCOL)


def decode_outcomes(payload: Payload) -> tuple[list[Any], dict[int, FailureRecord]]:
    """The values, and the failures by their place among them (where the value is None)."""
    values, boxed, failures = read_outcomes(payload)
    for place, pickled in boxed.items():
        values[place], failure = unbox(pickled)
        if failure is not None:
            failures[place] = failure
    return values, failures


def results_of(payload: Payload) -> Iterator[tuple[int, Piece]]:
    """The pickle of each result among outcomes, with its place there."""
    values, boxed, failures = read_outcomes(payload)
    for place, value in enumerate(values):
        if place in boxed:
            yield place, boxed[place]
        elif place not in failures:
            yield place, pickle.dumps(value, PROTOCOL)


def is_long(value: Any, over: int) -> bool:
    """Whether it is a string of more than so many characters, or bytes."""
    return type(value) in _TEXTS and len(value) > over


def set_apart(values: list[Any], boxed: dict[int, Piece], over: int) -> dict[int, Piece]:
    """Take the pickles of results of more than ``over`` bytes out of what is to be encoded.

    Returns:
        The pickles, by place. None stands in their places.
    """
    apart = {place: boxed.pop(place) for place in list(boxed) if len(boxed[place]) > over}
    for place, value in enumerate(values):
        if is_long(value, over):
            apart[place], values[place] = pickle.dumps(value, PROTOCOL), None
    return dict(sorted(apart.items()))


def read_outcomes(
    payload: Payload,
) -> tuple[list[Any], dict[int, Piece], dict[int, FailureRecord]]:
    """The same with the results that are no scalars still in their boxes: nothing in this can
    run code of the user's."""
    main, pieces = parts_of(payload)
    decoded = pickle.loads(main)
    if type(decoded) is list:
        return decoded, {}, {}
    values, boxed, failures = decoded
    if pieces:
        boxed = {
            place: pieces[pickled] if type(pickled) is int else pickled
            for place, pickled in boxed.items()
        }
    return values, boxed, failures


def unbox(pickled: Piece) -> tuple[Any, FailureRecord | None]:
    """A result; or None and what is to be told instead, if it cannot be rebuilt here."""
    try:
        return (pickle.loads if pickled[:1] == _PLAIN else load_value)(pickled), None
    except Exception as exc:  # noqa: BLE001 - a user's __setstate__ may raise anything
        return None, serialization_record(
            f"its result cannot be rebuilt here ({type(exc).__name__}: {exc}); "
            "return plain data, or make its class importable on this side"
        )


def serialization_record(message: str, call: str = "") -> FailureRecord:
    """The record of a `SerializationError`."""
    return {
        "kind": "serialization",
        "type": "SerializationError",
        "message": message,
        "traceback": "",
        "call": call,
        "pickle": None,
    }


def dump_exception(exc: BaseException, shipped: Container[str] = ()) -> bytes | None:
    """The exception as bytes, if it survives the way there and back; else None.

    Classes with arguments of their own often pickle well and fail to unpickle
    (``multiprocessing.Pool`` hangs on them): so the way back is tried here.
    """
    try:
        payload = bytes(dump_value(exc, shipped))
        back = load_value(payload)
    except Exception:  # noqa: BLE001 - a user's __reduce__ may raise anything
        return None
    return payload if type(back).__qualname__ == type(exc).__qualname__ else None


def load_exception(payload: bytes) -> BaseException | None:
    """The exception that `dump_exception` wrote; None if it cannot be rebuilt here."""
    try:
        exc = load_value(payload)
    except Exception:  # noqa: BLE001 - its class may be missing here, or raise anything
        return None
    return exc if isinstance(exc, BaseException) else None


def dump_error(exc: BaseException) -> bytes:
    """An exception that was raised here, with the text of its cause, for another process."""
    text = str(exc.__cause__.text) if isinstance(exc.__cause__, RemoteTraceback) else ""
    record = (dump_exception(exc), type(exc).__qualname__, str(exc), text)
    return pickle.dumps(record, PROTOCOL)


def load_error(payload: Piece) -> BaseException:
    """The exception that `dump_error` wrote; a `TaskError` if it cannot be rebuilt here."""
    pickled, name, message, text = pickle.loads(payload)
    exc = None if pickled is None else load_exception(pickled)
    if exc is None:
        exc = TaskError(
            f"{name}: {message}", type_name=name, remote_message=message, remote_traceback=text
        )
    if text:
        exc.__cause__ = RemoteTraceback(text)
    return exc


# -- who is to blame ------------------------------------------------------------------


def find_culprit(value: Any, path: str, depth: int = 6) -> str | None:
    """The innermost part of ``value`` that cannot be pickled, as ``path`` and what it is."""
    if depth == 0 or _pickles(value):
        return None
    for step, part in _parts(value):
        inner = find_culprit(part, _join(path, step), depth - 1)
        if inner is not None:
            return inner
    return f"{path or 'it'}, a {type(value).__name__} ({describe(value, 80)}),"


def _pickles(value: Any) -> bool:
    try:
        dump_value(value)
    except Exception:  # noqa: BLE001 - that is the question
        return False
    return True


def _join(path: str, step: str) -> str:
    return step.strip(".[]'") if not path else f"{path}{step}"


def _parts(value: Any) -> list[tuple[str, Any]]:
    if isinstance(value, Mapping):
        return [(f"[{key!r}]", part) for key, part in value.items()]
    if isinstance(value, list | tuple | set | frozenset):
        return [(f"[{place}]", part) for place, part in enumerate(value)]
    return [(f".{name}", part) for name, part in getattr(value, "__dict__", {}).items()]


def _function_culprit(function: Callable[..., Any]) -> str | None:
    inner = getattr(function, "func", function)
    if not isinstance(inner, FunctionType):
        return find_culprit(inner, type(inner).__name__)
    names = inner.__code__.co_freevars
    for name, cell in zip(names, inner.__closure__ or (), strict=False):
        found = find_culprit(cell.cell_contents, f"the closure variable {name}", depth=3)
        if found:
            return found
    for name in inner.__code__.co_names:
        if name in inner.__globals__:
            found = find_culprit(inner.__globals__[name], f"the global {name}", depth=3)
            if found:
                return found
    return None
