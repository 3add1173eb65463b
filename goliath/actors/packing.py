"""Pickling what runs elsewhere, and sending along the modules of the project that it needs."""

from __future__ import annotations

from collections.abc import Callable, Container
from typing import TypeVar

from goliath.actors.surroundings import Surroundings, described
from goliath.transport.modules import Needs

T = TypeVar("T")

Dump = Callable[[Container[str], Needs | None], T]
"""Pickles something, given which modules travel as files, and who is told what else it needs."""


def pack(around: Surroundings, dump: Dump[T]) -> tuple[T, Surroundings]:
    """Pickle something for a job that has these surroundings.

    A module that has to be importable there goes as a file, and so everything in it by name: by
    value as well, a class of it would be two classes there. So it is pickled again if there are
    any.

    Returns:
        What was pickled, and the surroundings with the modules that it needs.

    Raises:
        ValueError: see `project.modules_needed`.
        SerializationError: it cannot be pickled.
    """
    needs = Needs()
    packed = dump(around.shipped_modules, needs)
    if not needs.names:
        return packed, around
    # Here, because few functions import anything themselves.
    from goliath.actors import project

    named = around.shipped_modules.packages
    found = project.without(project.modules_needed(needs), named)
    if not found:
        return packed, around
    modules = {
        name: described(path, project.place_of(name, path), keep=True)
        for name, path in found.items()
    }
    around = around.with_modules(modules)
    return dump(around.shipped_modules, None), around
