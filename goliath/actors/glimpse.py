"""What a call was given, as text, for the error that ends it: read without running the user's code.

Nobody but the Commander can say that of a call whose process is gone. It has the arguments as
bytes, and its loop is no place for imports, or for a ``__setstate__`` or ``__repr__`` that may do
anything. So there is a stand-in for every class but the plainest.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from functools import partial
from typing import Any

from goliath.actors.desk import Parcel
from goliath.actors.failures import called
from goliath.errors import describe, size_text
from goliath.transport import serialization
from goliath.transport.columns import COLUMNS, decode_columns
from goliath.transport.inert import load_inert
from goliath.transport.keepsakes import Keepsake
from goliath.transport.rows import decode_rows

READ_MAX_BYTES = 4 << 20  # of a parcel; it takes 10 ms
_PART_CHARACTERS = 60  # of an attribute
_PLAIN = {
    "builtins": {"complex", "object", "range", "slice"},
    "datetime": {"date", "datetime", "time", "timedelta", "timezone"},
    "decimal": {"Decimal"},
    "pathlib": {"Path", "PosixPath", "PurePath", "PurePosixPath", "PureWindowsPath", "WindowsPath"},
    "uuid": {"UUID"},
}
_CONTAINERS = {
    "builtins": {"bytearray", "dict", "frozenset", "list", "set"},
    "collections": {"Counter", "OrderedDict", "defaultdict", "deque"},
}
"""Of what else they are made than of these, takes as long as somebody likes, such as a range."""
_CONTENTS = (list, tuple, dict, set, frozenset, bytes, str, type, type(None))
_OPAQUE = {"_make_function": "function", "_frombuffer": "ndarray"}  # cloudpickle's and NumPy's
_LOADERS = {("_pickle", "loads"), (serialization.__name__, "load_value")}  # of `Pickled`
_SKELETONS = frozenset({"_make_skeleton_class", "_make_skeleton_enum"})  # cloudpickle's


def call_given(name: str, parcel: Parcel, call: int, *, method: bool) -> str:
    """One call of a parcel as text, cut at 200 characters; ``method``: of an actor."""
    if len(parcel.payload) > READ_MAX_BYTES:
        return f"{name}(… {size_text(len(parcel.payload))} of arguments)"
    try:
        args, kwargs = _arguments(parcel, call)
    except Exception:  # noqa: BLE001 - whatever a stand-in is no good for
        return f"{name}(…)"
    return called(name, args, kwargs, method=method)


def _arguments(parcel: Parcel, call: int) -> tuple[tuple[Any, ...], dict[str, Any]]:
    if parcel.form == COLUMNS:
        split, names, columns = decode_columns(parcel.payload)
        values = [column[call] for column in columns]
        return tuple(values[:split]), dict(zip(names, values[split:], strict=True))
    row = decode_rows(parcel.payload)[call]
    places = row[1] if isinstance(row, tuple) else ()
    taken = [parcel.deposits[place] for place in places]
    beside = [each for each in taken if isinstance(each, Keepsake)]
    args, kwargs = load_inert(row, _find, beside)
    return args, kwargs


class _Named(type):
    def __repr__(cls) -> str:
        return cls.__name__


class _StandIn(metaclass=_Named):
    """An object of a class that was not looked up: takes whatever it is told."""

    opaque = False  # whether what it is made of says nothing
    shown: tuple[str, tuple[Any, ...]]
    state: Any = None

    def __new__(cls, *args: Any, **_: Any) -> _StandIn:
        self = super().__new__(cls)
        # What makes objects of a class is told the class first: show that one.
        made = args[0] if args and isinstance(args[0], _Named) else None
        self.shown = (cls.__name__, () if cls.opaque else args)
        if made is not None:
            self.shown = (made.__name__, ())
        return self

    def __call__(self, *args: Any, **_: Any) -> _StandIn:
        return self

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def append(self, _item: Any) -> None:
        """Of a list."""

    def extend(self, _items: Any) -> None:
        """Of a list."""

    def __setitem__(self, _key: Any, _value: Any) -> None:
        """Of a dictionary."""

    def __repr__(self) -> str:
        name, args = self.shown
        if isinstance(self.state, dict):
            parts = [f"{key}={describe(at, _PART_CHARACTERS)}" for key, at in self.state.items()]
            return f"{name}({', '.join(parts)})"
        if args and self.state is None:
            return f"{name}({', '.join(describe(arg, _PART_CHARACTERS) for arg in args)})"
        return f"<{name}>"


def _find(module: str, name: str) -> Any:
    if name in _PLAIN.get(module, ()):
        return getattr(importlib.import_module(module), name)
    if name in _CONTAINERS.get(module, ()):
        return partial(_contained, getattr(importlib.import_module(module), name))
    if name in _SKELETONS:
        return lambda _kind, own, *_: _stand_in(own)
    if (module, name) in _LOADERS:
        return lambda payload: load_inert(payload, _find)
    if module.startswith("goliath.actors.") and name == "_restored":
        return lambda task_id, *_: _stand_in(f"<{task_id}>")  # of a ref, or of a handle
    return _stand_in(_OPAQUE.get(name, name), opaque=name in _OPAQUE)


def _contained(kind: Callable[..., Any], *contents: Any) -> Any:
    if not all(isinstance(each, _CONTENTS) for each in contents[:1]):
        raise TypeError(f"a {kind} of {type(contents[0])}")
    return kind(*contents)


def _stand_in(name: str, *, opaque: bool = False) -> _Named:
    return _Named(name.rpartition(".")[2], (_StandIn,), {"opaque": opaque})
