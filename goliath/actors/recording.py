"""The journal of a crashed mind as a file, from which `goliath replay` makes it crash again.

A text of JSON lines: first what the mind was and how it crashed, then each event with its time.
There is nothing secret in it: minds see no arguments, results or tokens, and what users' code has
said (the text of an error) is replaced by its length.
"""

from __future__ import annotations

import json
import os
import re
import sys
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from itertools import count
from math import isfinite
from pathlib import Path
from typing import Any, get_args

from goliath.core import events as ev, node_events as nd, observation
from goliath.core.batch import JobOptions
from goliath.core.node import Node
from goliath.core.observation import KEPT, Journal
from goliath.core.policy import BatchPolicy, NodePolicy
from goliath.core.scheduler import Scheduler
from goliath.errors import GoliathError, VersionMismatchError
from goliath.record import frozen
from goliath.transport.private_files import make_private_directory, state_directory, write_private

FORMAT = 1
FILE_MAX_BYTES = 8 * 1024 * 1024
FILES_KEPT = 20
"""Of this user: the oldest ones are removed."""

_MINDS: dict[str, type[Scheduler | Node]] = {"Scheduler": Scheduler, "Node": Node}
_CLASSES: dict[str, Any] = {
    cls.__name__: cls
    for cls in (*get_args(ev.Event), *get_args(nd.NodeEvent), JobOptions, BatchPolicy, NodePolicy)
}
_SAID_BY_USERS = "error"
"""What fields are called that have a text from outside, which decides nothing."""
_ADDRESS = re.compile(r"\b0x[0-9a-fA-F]+")
_numbers = count(1)


@frozen
class Crash:
    """How a mind ended.

    Attributes:
        error: type and the first line of the message. pytest adds lines of all
            that it can see, which may be users' data. Addresses, which are others
            in the next process, are ``0x…``.
        frames: where it was raised, within the minds, the innermost last; empty if it was raised
            outside, while their commands were obeyed.
    """

    error: str
    frames: list[str]

    @classmethod
    def of(cls, error: BaseException) -> Crash:
        """What is kept of an exception."""
        minds, teller = Path(nd.__file__).parent, Path(observation.__file__).name
        stack = traceback.extract_tb(error.__traceback__)
        inside = [each for each in stack if Path(each.filename).parent == minds]
        where = [
            f"{Path(each.filename).name}:{each.lineno} in {each.name}"
            for each in inside
            if Path(each.filename).name != teller
        ]
        said = _ADDRESS.sub("0x…", next(iter(str(error).splitlines()), ""))
        return cls(f"{type(error).__name__}: {said[:1000]}", where)


@frozen
class Recording:
    """A crashed mind, as it can be played again.

    Attributes:
        mind: "Scheduler", a Commander's, or "Node", a Lieutenant's.
        made_of: its arguments.
        checked: whether its books were checked after each event.
        whole: whether it has all that the mind was ever told.
        entries: each event, after the time of it.
    """

    mind: str
    made_of: tuple[Any, ...]
    checked: bool
    whole: bool
    crash: Crash
    entries: list[tuple[float, Any]]

    def fresh_mind(self) -> Any:
        """Another mind, made of the same."""
        return _MINDS[self.mind](*self.made_of)


def keep(
    mind: Scheduler | Node, journal: Journal[Any], error: BaseException, *, checked: bool
) -> str:
    """Write the journal of a mind into a file; a sentence that says where. Empty if that cannot
    be done: what is told of the crash is worth more than what could be told of that."""
    directory = state_directory() / "crashes"
    path = directory / f"{type(mind).__name__.lower()}-{os.getpid()}-{next(_numbers)}.jsonl"
    try:
        text = _written(mind, journal, error, checked=checked)
        make_private_directory(directory)
        write_private(path, text)
        _forget_oldest(directory)
    except Exception as exc:  # noqa: BLE001 - in the middle of a crash nothing else may break
        return f"its journal could not be kept: {exc}"
    return (
        f"its journal is {path}: `goliath replay {path}` makes a fresh mind do the same; please "
        "send it with your report"
    )


def _written(
    mind: Scheduler | Node, journal: Journal[Any], error: BaseException, *, checked: bool
) -> str:
    entries = list(journal)
    lines = [json.dumps([now, _packed(event)]) for now, event in entries]
    whole = journal.whole and sum(map(len, lines)) < FILE_MAX_BYTES
    crash = Crash.of(error)
    header = {
        "goliath": _version(),
        "format": FORMAT,
        "python": sys.version.split()[0],
        "mind": type(mind).__name__,
        "made_of": [_packed(each) for each in mind.made_of()],
        "checked": checked,
        "whole": whole,
        "crash": {"error": crash.error, "frames": crash.frames},
    }
    return "\n".join([json.dumps(header), *(lines if whole else lines[-KEPT:])]) + "\n"


def _version() -> str:
    # The package is there, since this is one of its modules; to import it would go upstairs.
    return str(sys.modules["goliath"].__version__)


def _forget_oldest(directory: Path) -> None:
    files = sorted(directory.glob("*.jsonl"), key=lambda path: path.stat().st_mtime_ns)
    for path in files[:-FILES_KEPT]:
        path.unlink(missing_ok=True)


def read(path: Path) -> Recording:
    """What `keep` has written.

    Raises:
        VersionMismatchError: another version of Goliath did.
        GoliathError: it is no such file.
        OSError: it cannot be read.
    """
    try:
        lines = iter(path.read_text(encoding="utf-8").splitlines())
        header = json.loads(next(lines))
        _check_version(path, header)
        crash = header["crash"]
        return Recording(
            header["mind"],
            tuple(_unpacked(each) for each in header["made_of"]),
            header["checked"],
            header["whole"],
            Crash(crash["error"], crash["frames"]),
            [(now, _unpacked(event)) for now, event in map(json.loads, lines)],
        )
    except (ValueError, KeyError, TypeError, StopIteration) as exc:
        raise GoliathError(
            f"{path} is not the journal of a crashed mind, or is damaged ({exc!r}); the message of "
            "the crash says what the file is called"
        ) from exc


def _check_version(path: Path, header: Mapping[str, Any]) -> None:
    theirs, ours = (header["goliath"], header["format"]), (_version(), FORMAT)
    if theirs != ours:
        raise VersionMismatchError(
            f"{path} was written by Goliath {theirs[0]}, and this is {ours[0]}, whose minds may "
            f"decide otherwise; replay it with that version (pip install goliath=={theirs[0]})"
        )


# -- values as JSON --------------------------------------------------------------------------


def _packed(value: Any) -> Any:
    """A value of an event: scalars as they are, the rest as a list that begins with its kind."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, tuple):
        return ["tuple", *map(_packed, value)]
    if isinstance(value, list):
        return ["list", *map(_packed, value)]
    if isinstance(value, Mapping):
        return ["map", *([_packed(key), _packed(each)] for key, each in value.items())]
    assert type(value).__name__ in _CLASSES, f"{value!r} is nothing that a mind is told"
    return [type(value).__name__, {name: _packed(each) for name, each in _shown(value)}]


def _shown(value: Any) -> Iterator[tuple[str, Any]]:
    for each in fields(value):
        said = getattr(value, each.name)
        if each.name == _SAID_BY_USERS and said:
            said = f"<{len(said)} characters>"
        yield each.name, said


def _unpacked(value: Any) -> Any:
    if not isinstance(value, list):
        return value
    kind, *parts = value
    match kind:
        case "tuple":
            return tuple(map(_unpacked, parts))
        case "list":
            return list(map(_unpacked, parts))
        case "map":
            return {_unpacked(key): _unpacked(each) for key, each in parts}
        case _:
            (shown,) = parts
            return _CLASSES[kind](**{name: _unpacked(each) for name, each in shown.items()})


def plain(value: Any) -> Any:
    """A value as JSON for programs: records are objects with a ``type``."""
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, float) and not isfinite(value):
        return str(value)
    if is_dataclass(value) and not isinstance(value, type):
        return {"type": type(value).__name__} | {n: plain(each) for n, each in _shown(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(each) for each in value]
    return value
