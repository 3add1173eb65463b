"""Plain records, frozen or not: slotted dataclasses that are cheap to define.

``dataclasses.dataclass`` compiles three to five methods for a class, which takes 0.9 ms. Messages,
events, commands and what they are made of are 200 classes, of which a short script uses a third.
These have their ``__init__`` compiled when the first one is made, and share the others. In all else
they are dataclasses: `dataclasses.fields` and `replace` work, and so do ``match`` statements.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import MISSING, Field, FrozenInstanceError, dataclass, field, fields
from operator import attrgetter
from typing import Any, NoReturn, TypeVar, dataclass_transform

T = TypeVar("T")

_pending: set[Any] = set()  # classes of which none was made yet
_looks: dict[type[Any], Callable[[Any], Any]] = {}
_set = object.__setattr__


@dataclass_transform(field_specifiers=(field,))
def record(cls: type[T]) -> type[T]:
    """``dataclass(slots=True)``, without ``__post_init__`` and fields for keywords only.

    ::

        @record
        class Steal:
            victim: str
            count: int = 1
    """
    made: type[T] = _made(cls, None)
    return made


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def frozen(cls: type[T]) -> type[T]:
    """``dataclass(frozen=True, slots=True)``, likewise (the name is attrs').

    ::

        @frozen
        class Place:
            host: str
            port: int = 8080
    """
    made: Any = _made(cls, _hash)
    made.__setattr__ = _refuse_to_set
    made.__delattr__ = _refuse_to_delete
    made.__getstate__ = _getstate
    made.__setstate__ = _setstate
    plain: type[T] = made
    return plain


def _made(cls: type[Any], hashed: Callable[[Any], int] | None) -> Any:
    assert not hasattr(cls, "__post_init__"), f"{cls.__name__} is too much for a record"
    if cls.__doc__ is None:
        cls.__doc__ = cls.__name__  # else `dataclass` writes one, and reads signatures for it: 5 ms
    made: Any = dataclass(slots=True, init=False, repr=False, eq=False)(cls)

    def first_init(self: Any, *args: Any, **kwargs: Any) -> None:
        _complete(made, frozen=hashed is not None)
        made.__init__(self, *args, **kwargs)

    made.__init__ = first_init
    _pending.add((made, hashed is not None))
    if "__repr__" not in cls.__dict__:
        made.__repr__ = _repr
    made.__eq__, made.__hash__ = _eq, hashed
    return made


def complete_all() -> None:
    """Compile now what else would be when it is needed: before a fork, once for all children."""
    for cls, frozen in list(_pending):
        _complete(cls, frozen=frozen)


def _complete(cls: Any, *, frozen: bool) -> None:
    cls.__init__ = _compiled_init(cls, frozen=frozen)
    _pending.discard((cls, frozen))


def _compiled_init(cls: type[Any], *, frozen: bool) -> Callable[..., None]:
    """What `dataclasses` would have written. (It has no public function for that.)"""
    known: dict[str, Any] = {"MISSING": MISSING, "set_": _set}
    parameters, body = ["self"], ["pass"]
    for each in fields(cls):
        assert not each.kw_only, f"{cls.__name__}.{each.name} is for keywords only"
        value = _default(each, known)
        if each.init:
            parameters.append(each.name if value is None else f"{each.name}={value}")
            value = each.name
            if f"make_{each.name}" in known:
                value = f"make_{each.name}() if {each.name} is MISSING else {each.name}"
        elif value == "MISSING":
            value = f"make_{each.name}()"
        if value is not None:
            body.append(
                f"set_(self, {each.name!r}, {value})" if frozen else f"self.{each.name} = {value}"
            )
    source = f"def __init__({', '.join(parameters)}):\n " + "\n ".join(body)
    # Not the text itself: to run one, perhaps at the exit, makes CPython forget that a Ctrl-C has
    # ended the script, and with which status it has to exit.
    exec(compile(source, "<record>", "exec"), known)
    init: Callable[..., None] = known["__init__"]
    init.__qualname__ = f"{cls.__qualname__}.__init__"
    return init


def _default(each: Field[Any], known: dict[str, Any]) -> str | None:
    """The name under which a field's default is ``known``; None if it has none."""
    if each.default_factory is not MISSING:
        known[f"make_{each.name}"] = each.default_factory
        return "MISSING"
    if each.default is MISSING:
        return None
    known[f"default_{each.name}"] = each.default
    return f"default_{each.name}"


def _repr(self: Any) -> str:
    shown = (f"{each.name}={getattr(self, each.name)!r}" for each in fields(self) if each.repr)
    return f"{type(self).__qualname__}({', '.join(shown)})"


def _compared(self: Any) -> Any:
    """What tells it from others of its class."""
    cls = type(self)
    look = _looks.get(cls)
    if look is None:
        names = [each.name for each in fields(cls) if each.compare]
        look = _looks[cls] = attrgetter(*names) if names else lambda _: ()
    return look(self)


def _eq(self: Any, other: Any) -> Any:
    if type(other) is not type(self):
        return NotImplemented
    return _compared(self) == _compared(other)


def _hash(self: Any) -> int:
    return hash(_compared(self))


def _refuse_to_set(_: Any, name: str, __: Any) -> NoReturn:
    raise FrozenInstanceError(f"cannot assign to field {name!r}")


def _refuse_to_delete(_: Any, name: str) -> NoReturn:
    raise FrozenInstanceError(f"cannot delete field {name!r}")


def _getstate(self: Any) -> list[Any]:
    return [getattr(self, each.name) for each in fields(self)]


def _setstate(self: Any, state: list[Any]) -> None:
    for each, was in zip(fields(self), state, strict=True):
        _set(self, each.name, was)
