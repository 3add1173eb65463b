"""Pickling what runs elsewhere, and sending along the modules of the project that it needs."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from goliath.actors.surroundings import ShippedFile, Surroundings, described
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

    found = project.modules_needed(needs)
    places = {name: project.place_of(name, path) for name, path in found.items()}
    modules = _to_be_sent(found, places, around.files)
    if not modules:
        return packed, around
    around = around.with_modules(modules)
    return dump(around.shipped_modules, None), around


def _to_be_sent(
    found: Mapping[str, Path], places: Mapping[str, str], named: Sequence[ShippedFile]
) -> dict[str, ShippedFile]:
    """The modules that were found, but for packages of which the user has named all that is needed.
    If he has named a part of one, such as the data in it, the whole of it stands in one place."""
    by_place = {file.path: file for file in named}
    tops = {place.partition("/")[0] for place in places.values() if place not in by_place}
    sent = {
        name: by_place.get(place) or described(found[name], place, keep=True)
        for name, place in places.items()
        if place.partition("/")[0] in tops
    }
    known = {file.path for file in sent.values()}
    beside = [file for file in named if "/" in file.path and file.path.partition("/")[0] in tops]
    return {**sent, **{file.path: file for file in beside if file.path not in known}}
