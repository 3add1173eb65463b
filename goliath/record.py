"""Plain records: slotted dataclasses that are cheap to define.

``dataclasses.dataclass`` compiles three methods for a class, which takes 0.9 ms. Messages, events
and commands are 150 classes, of which a short script uses a third. A record has its ``__init__``
compiled when the first one is made, and shares the other two. In all else it is a dataclass:
`dataclasses.fields` and `replace` work, and so do ``match`` statements.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import MISSING, Field, dataclass, field, fields
from typing import Any, TypeVar, dataclass_transform

T = TypeVar("T")

_pending: set[Any] = set()  # classes of which no record was made yet


@dataclass_transform(field_specifiers=(field,))
def record(cls: type[T]) -> type[T]:
    """``dataclass(slots=True)``, without ``__post_init__`` and fields for keywords only.

    ::

        @record
        class Steal:
            victim: str
            count: int = 1
    """
    assert not hasattr(cls, "__post_init__"), f"{cls.__name__} is too much for a record"
    made: Any = dataclass(slots=True, init=False, repr=False, eq=False)(cls)

    def first_init(self: Any, *args: Any, **kwargs: Any) -> None:
        _complete(made)
        made.__init__(self, *args, **kwargs)

    made.__init__ = first_init
    _pending.add(made)
    if "__repr__" not in cls.__dict__:
        made.__repr__ = _repr
    made.__eq__, made.__hash__ = _eq, None
    plain: type[T] = made
    return plain


def complete_all() -> None:
    """Compile now what else would be when it is needed: before a fork, once for all children."""
    for cls in list(_pending):
        _complete(cls)


def _complete(cls: Any) -> None:
    cls.__init__ = _compiled_init(cls)
    _pending.discard(cls)


def _compiled_init(cls: type[Any]) -> Callable[..., None]:
    """What `dataclasses` would have written. (It has no public function for that.)"""
    known: dict[str, Any] = {"MISSING": MISSING}
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
            body.append(f"self.{each.name} = {value}")
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


def _eq(self: Any, other: Any) -> Any:
    if type(other) is not type(self):
        return NotImplemented
    names = (each.name for each in fields(self) if each.compare)
    return all(getattr(self, name) == getattr(other, name) for name in names)
