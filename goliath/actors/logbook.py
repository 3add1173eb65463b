"""What a run with a checkpoint looks up before its calls are sent, and writes down after them.

All of it is done in the caller's thread, which waits for results anyway: so an error is raised
where it can be caught, and a commit never holds up the loop. The price is that nothing is written
while that thread is held in the user's own code: a slow generator, an ``on_result``.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from reprlib import Repr
from typing import Any

from goliath.actors.checkpoint import Checkpoint
from goliath.actors.surroundings import Surroundings
from goliath.core.resumption import DELAY_S, Resumption
from goliath.errors import SerializationError
from goliath.record import frozen
from goliath.transport.fingerprints import Fingerprints
from goliath.transport.functions import function_name
from goliath.transport.outcomes import results_of, unbox
from goliath.transport.payload import Payload
from goliath.transport.rows import Row

_TEXT_MAX = 200  # characters of the arguments that are kept for people


@frozen
class Common:
    """What all calls of a run have in common: with anything else, it is another run."""

    function: Callable[..., Any]
    static: Mapping[str, Any]
    surroundings: Surroundings
    initializer: Callable[..., Any] | None
    initargs: tuple[Any, ...]

    def digest(self, prints: Fingerprints) -> bytes:
        """Its fingerprint."""
        around = self.surroundings
        files = tuple((file.path, file.sha256) for file in around.contents)
        variables = tuple(sorted(around.variables.items()))
        static = tuple(sorted(self.static.items(), key=lambda item: item[0]))
        whole = self.function, static, files, variables, self.initializer, self.initargs
        return prints.of(whole)


class Logbook:
    """The logbook of one run.

    Args:
        path: the checkpoint.
        common: what its calls have in common.
        prompt: write what came before any of it is handed on.

    Raises:
        SerializationError: what its calls have in common has no fingerprint.
    """

    def __init__(
        self, path: str | os.PathLike[str], common: Common, *, prompt: bool = False
    ) -> None:
        self._path = path
        self._prints = Fingerprints(common.surroundings.shipped_modules)
        self._name = function_name(common.function)
        try:
            self._digest = common.digest(self._prints)
        except Exception as exc:
            raise SerializationError(
                f"{self._name} cannot be kept in a checkpoint: it, or what its calls have in "
                f"common, cannot be told from others ({type(exc).__name__}: {exc}); make it "
                "smaller and simpler, or run it without a checkpoint"
            ) from exc
        self._mind = Resumption(0.0 if prompt else DELAY_S)
        self._file: Checkpoint | None = None

    @property
    def stride(self) -> int:
        """How many calls to look up at a time."""
        return self._mind.stride

    def begin(self) -> None:
        """See `Attendant.begin`. Errors as of `Checkpoint`."""
        self._file = Checkpoint(self._path)
        self._file.begin(self._digest, self._name)

    def sift(self, first: int, rows: list[Row]) -> Iterator[tuple[list[Any], list[Row]]]:
        """Part the next calls into results of those that are known, and calls to be made.

        Args:
            first: the index of the first of them.
            rows: the calls.
        """
        assert self._file is not None
        prints = [self._prints.of_row(row) for row in rows]
        before = self._file.count([key for key in prints if key is not None])
        keys = self._mind.number(prints, before)
        known = _unpickled(self._file.find([key for key in keys if key is not None]))
        for lo, hi, is_known in self._mind.sift(keys, known):
            if is_known:
                yield [known[key] for key in keys[lo:hi] if key is not None], []
            else:
                for place in range(lo, hi):
                    self._mind.send(first + place, keys[place], _shown(rows[place]))
                yield [], rows[lo:hi]

    def finished(self, first: int, payload: Payload, without: Collection[int]) -> None:
        """Outcomes have come for the calls from ``first`` on, those at ``without`` no results."""
        results = results_of(payload)
        self._mind.finish(
            [(first + place, bytes(value)) for place, value in results if place not in without],
            time.monotonic(),
        )
        for place in without:
            self._mind.fail(first + place, first + place + 1)

    def failed(self, lo: int, hi: int) -> None:
        """Calls ``lo`` to ``hi`` have no results."""
        self._mind.fail(lo, hi)

    def attend(self, done: int, total: int | None) -> float | None:
        """See `Attendant.attend`."""
        due_in = self._mind.due_in(time.monotonic())
        if due_in == 0.0:
            self._write()
            return None
        return due_in

    def _write(self) -> None:
        if self._file is not None and self._mind.unwritten():
            self._file.write(self._mind.unwritten())
            self._mind.written()

    def end(self, done: int, total: int | None) -> None:
        """See `Attendant.end`."""
        if self._file is not None:
            try:
                self._write()
            finally:
                self._file.close()


def _unpickled(found: Mapping[bytes, bytes]) -> dict[bytes, Any]:
    """The results that can still be read; a call whose result cannot is made again."""
    values = {}
    for key, pickled in found.items():
        value, problem = unbox(pickled)
        if problem is None:
            values[key] = value
    return values


class _Short(Repr):
    """As much of a value as helps to know it again, and no ``__repr__`` of the user's."""

    def __init__(self) -> None:
        super().__init__()
        self.maxstring = self.maxlong = self.maxother = 80

    def repr_instance(self, x: Any, level: int) -> str:
        return f"<{type(x).__name__}>"


_short = _Short().repr


def _shown(row: Any) -> str:
    if isinstance(row, tuple):
        parts: Sequence[str] = [_short(value) for value in row]
    elif isinstance(row, Mapping):
        parts = [f"{name}={_short(value)}" for name, value in row.items()]
    else:
        return ""
    return ", ".join(parts)[:_TEXT_MAX]
