"""What tells one value from another, in this process and in every later one.

A pickle cannot: it knows which parts were the same object (two equal strings may be one or
two), writes sets in an order that differs from process to process, and has the line numbers and
the file of a function in it. So values are walked as pickle walks them, and what is met is
hashed: scalars by type and value, sets in the order of their elements' fingerprints, other
objects by what ``__reduce_ex__`` says of them. A dict is told by its items in their order, for a
function can see it.

**Functions and classes** that would be sent by value (see `serialization`) are what they do: code
without lines and file names, defaults, what they have closed over, and the globals they name,
other functions among them. So moving a function, or editing what it does not use, changes
nothing. Those that nodes import are told by their names, and a module of the user's own by its
name and its file.

**Not stable from process to process:** objects that reduce to something that is not (an address,
the time, a counter), and dicts and lists that were made in the order of a set.
"""

from __future__ import annotations

import copyreg
import dis
import hashlib
import sys
from collections.abc import Callable, Collection, Container, Iterator, Mapping
from pathlib import Path
from types import CodeType, FunctionType, MappingProxyType, ModuleType
from typing import Any

from goliath.transport.modules import is_users_own
from goliath.transport.rows import Row
from goliath.transport.serialization import SCALARS, dump_value

_HEAP_TYPE = 1 << 9  # of ``__flags__``: a class that was made at run time
_READS = frozenset(("LOAD_GLOBAL", "LOAD_NAME"))
_UNTOLD = frozenset(
    (
        # What a class has for being one, where it stands, and what is said about it.
        *("__dict__", "__weakref__", "__module__", "__doc__", "__annotations__", "__annotate__"),
        *("__annotate_func__", "__annotations_cache__", "__firstlineno__", "__static_attributes__"),
        # What was made of its body: the methods, which are told, have the same.
        *("_abc_impl", "__dataclass_fields__", "__dataclass_params__"),
    )
)


class Fingerprints:
    """Those of one run.

    Args:
        shipped: names of modules that travel as files, and are told by these.
    """

    def __init__(self, shipped: Container[str] = ()) -> None:
        self.shipped = shipped
        self._definitions: dict[int, tuple[object, bytes]] = {}  # the object, to keep its id

    def of(self, value: object) -> bytes:
        """16 bytes: equal for equal values.

        Raises:
            Exception: whatever is raised by a part that cannot be pickled.
        """
        return _Walk(self).digest(value)

    def of_row(self, row: Row) -> bytes | None:
        """That of a call's arguments, whatever the order of its keywords; None if it has none,
        because it is no call, or cannot be pickled."""
        try:
            text = _as_text(row)
            if text is not None:
                return _hashed(text.encode("utf-8", "surrogatepass"))
            if isinstance(row, tuple):
                return self.of(("tuple", *row))
            return self.of(("mapping", *sorted(row.items(), key=_name)))
        except Exception:  # noqa: BLE001 - a user's __reduce__ may raise anything
            return None

    def of_definition(self, thing: Any) -> bytes:
        """That of a function or class that is sent by value, and of all that it uses."""
        known = self._definitions.get(id(thing))
        if known is None:
            known = self._definitions[id(thing)] = thing, _Walk(self, inside=True).digest(thing)
        return known[1]


def _hashed(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=16).digest()


def _name(item: tuple[str, Any]) -> str:
    return item[0]


def _as_text(row: Row) -> str | None:
    """The arguments, if they are exact scalars (1 µs where a walk takes 10); else None."""
    try:
        if type(row) is tuple and SCALARS.issuperset(map(type, row)):
            return repr(row)
        if type(row) is dict and SCALARS.issuperset(map(type, row.values())):
            return repr(sorted(row.items()))
    except ValueError:  # an int that has too many digits to be shown
        return None
    return None


class _Walk:
    """One fingerprint in the making.

    Objects that can hold themselves are numbered as they are met, and only named when they are met
    again. ``inside`` a definition, functions and classes are such objects, too; elsewhere they are
    told by fingerprints of their own.
    """

    def __init__(
        self,
        prints: Fingerprints,
        *,
        inside: bool = False,
        seen: dict[int, tuple[int, object]] | None = None,
    ) -> None:
        self._prints = prints
        self._inside = inside
        self._seen = seen or {}  # by id: its number, and the object itself, to keep that id its own
        self._kept: list[object] = []
        self._hash = hashlib.blake2b(digest_size=16)

    def digest(self, value: object) -> bytes:
        """The fingerprint of the only value that this is asked for."""
        self._take(value)
        return self._hash.digest()

    def _put(self, tag: str, data: bytes = b"") -> None:
        self._hash.update(b"%s %d:" % (tag.encode(), len(data)))
        self._hash.update(data)

    def _text(self, tag: str, text: str) -> None:
        self._put(tag, text.encode("utf-8", "surrogatepass"))

    def _met_before(self, value: object) -> bool:
        known = self._seen.get(id(value))
        if known is None:
            self._seen[id(value)] = len(self._seen), value
            return False
        self._put("seen", b"%d" % known[0])
        return True

    def _take(self, value: Any) -> None:
        kind = type(value)
        if kind in SCALARS:
            self._text(kind.__name__, _shown(value))
        elif kind in _CONTAINERS:
            if not self._take_flat(value):
                _CONTAINERS[kind](self, value)
        else:
            for base, take in _PARTS.items():
                if isinstance(value, base):
                    take(self, value)
                    return
            self._object(value)

    # -- containers ----------------------------------------------------------------------

    def _take_flat(self, value: Any) -> bool:
        """Take a container of exact scalars: it cannot hold itself, and whether two are one
        object makes no difference worth telling."""
        parts = (*value, *value.values()) if type(value) is dict else value
        if not SCALARS.issuperset(map(type, parts)):
            return False
        try:
            shown = sorted(map(repr, value)) if type(value) in (set, frozenset) else value
            self._text(f"flat {type(value).__name__}", repr(shown))
        except ValueError:  # an int that has too many digits to be shown
            return False
        return True

    def _tuple(self, value: tuple[Any, ...]) -> None:
        self._put("tuple", b"%d" % len(value))
        for part in value:
            self._take(part)

    def _list(self, value: list[Any]) -> None:
        if not self._met_before(value):
            self._put("list", b"%d" % len(value))
            for part in value:
                self._take(part)

    def _dict(self, value: Mapping[Any, Any]) -> None:
        if not self._met_before(value):
            self._put("dict", b"%d" % len(value))
            for key, part in value.items():
                self._take(key)
                self._take(part)

    def _set(self, value: Collection[Any]) -> None:
        self._put("set" if isinstance(value, set) else "frozenset", b"%d" % len(value))
        for digest in sorted(map(self._apart, value)):
            self._put("element", digest)

    def _apart(self, value: object) -> bytes:
        return _Walk(self._prints, inside=self._inside, seen=dict(self._seen)).digest(value)

    # -- functions, classes, modules ---------------------------------------------------------

    def _definition(self, thing: Any) -> None:
        if self._is_imported(thing):
            self._text("imported", f"{thing.__module__}.{thing.__qualname__}")
        elif not self._inside:
            self._put("definition", self._prints.of_definition(thing))
        elif not self._met_before(thing):
            if isinstance(thing, type):
                self._class(thing)
            else:
                self._function(thing)

    def _is_imported(self, thing: Any) -> bool:
        """Whether workers find it by its name, as a module that is shipped or installed has it."""
        if isinstance(thing, type) and not thing.__flags__ & _HEAP_TYPE:
            return True  # of the interpreter, though some cannot be found there
        name = getattr(thing, "__module__", None)
        if not isinstance(name, str) or name == "__main__" or self._is_own(name):
            return False
        found: Any = sys.modules.get(name)
        for part in thing.__qualname__.split("."):
            found = getattr(found, part, None)
        return found is thing

    def _is_own(self, name: str) -> bool:
        """Whether it is a module of the user's that no node has."""
        return name not in self._prints.shipped and is_users_own(name) is not None

    def _function(self, function: FunctionType) -> None:
        self._text("function", function.__qualname__)
        self._code(function.__code__)
        self._take(function.__defaults__)
        self._take(function.__kwdefaults__)
        self._take(function.__dict__)
        for cell in function.__closure__ or ():
            try:
                self._take(cell.cell_contents)
            except ValueError:
                self._put("empty cell")
        for name in sorted(set(_globals_read(function.__code__))):
            if name in function.__globals__:
                self._text("global", name)
                self._take(function.__globals__[name])

    def _code(self, code: CodeType) -> None:
        self._put("code", code.co_code)
        self._put("handlers", code.co_exceptiontable)
        counts = code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags
        names = code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars
        self._text("shape", repr((code.co_name, counts, names)))
        for constant in code.co_consts:
            self._take(constant)

    def _class(self, cls: type) -> None:
        self._text("class", cls.__qualname__)
        self._take(type(cls))
        self._take(cls.__bases__)
        for name, part in sorted(vars(cls).items()):
            if name not in _UNTOLD:
                self._text("attribute", name)
                self._take(part)

    def _wrapped(self, method: Any) -> None:
        self._text("method", type(method).__name__)
        self._take(method.__func__)

    def _property(self, value: property) -> None:
        self._put("property")
        self._tuple((value.fget, value.fset, value.fdel))

    def _module(self, module: ModuleType) -> None:
        self._text("module", module.__name__)
        if self._is_own(module.__name__) and module.__file__:
            self._put("file", hashlib.sha256(Path(module.__file__).read_bytes()).digest())

    # -- everything else ---------------------------------------------------------------------

    def _object(self, value: Any) -> None:
        if self._met_before(value):
            return
        try:
            reduced = _reduced(value)
        except Exception:  # noqa: BLE001 - a user's __reduce__ may raise anything
            self._strange(value)
            return
        if isinstance(reduced, str):
            self._text("named", f"{getattr(value, '__module__', '')}.{reduced}")
            self._take(getattr(value, "__wrapped__", None))
            return
        make, args, state, items, pairs, setter = (*reduced, *[None] * 4)[:6]
        parts = make, args, state, tuple(items or ()), tuple(pairs or ()), setter
        self._kept.append(parts)  # or the next object would have the id of one of them
        self._put("object")
        self._tuple(parts)

    def _strange(self, value: object) -> None:
        """What does not reduce. Inside a definition it is one of the things that make up a class,
        or cannot be sent; as an argument it is something of which cloudpickle knows more."""
        self._text("strange", type(value).__qualname__)
        if not self._inside:
            self._put("pickle", bytes(dump_value(value, self._prints.shipped)))


def _shown(value: Any) -> str:
    """An exact scalar as text, any other of its type having another."""
    return hex(value) if type(value) is int else repr(value)


def _globals_read(code: CodeType) -> Iterator[str]:
    """The names that it, and what is defined in it, looks up outside of it."""
    for step in dis.get_instructions(code):
        if step.opname in _READS:
            yield step.argval
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _globals_read(constant)


def _reduced(value: Any) -> str | tuple[Any, ...]:
    reducer = copyreg.dispatch_table.get(type(value))
    if reducer is not None:
        return reducer(value)
    reduced: str | tuple[Any, ...] = value.__reduce_ex__(4)
    return reduced


_CONTAINERS: dict[type, Callable[[_Walk, Any], None]] = {
    tuple: _Walk._tuple,
    list: _Walk._list,
    dict: _Walk._dict,
    set: _Walk._set,
    frozenset: _Walk._set,
}
_PARTS: dict[type, Callable[[_Walk, Any], None]] = {
    FunctionType: _Walk._definition,
    type: _Walk._definition,
    ModuleType: _Walk._module,
    CodeType: _Walk._code,
    MappingProxyType: _Walk._dict,
    property: _Walk._property,
    staticmethod: _Walk._wrapped,
    classmethod: _Walk._wrapped,
}
