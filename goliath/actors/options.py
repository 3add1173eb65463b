"""The keywords of ``run`` and its kin: their names, their defaults, and what they come to."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence, Sized
from typing import TYPE_CHECKING, Any, Literal, TypedDict

from goliath.actors.checks import (
    RetryExceptions,
    check_ranges,
    check_speculate,
    checked_resources,
    checked_static,
    classes_of,
)
from goliath.actors.job import Plan
from goliath.actors.packing import pack
from goliath.actors.progress import Progress, reporter_for
from goliath.actors.surroundings import surroundings
from goliath.actors.task import CONCURRENCY, is_coroutine_function
from goliath.core.batch import JobOptions
from goliath.transport.functions import dump_function

if TYPE_CHECKING:
    from goliath.actors.logbook import Logbook


class RunOptions(TypedDict, total=False):
    """Keywords common to ``run``, ``imap`` and their twins; see ``Commander.run``."""

    static: Mapping[str, Any] | None
    return_exceptions: bool
    timeout: float | None
    max_retries: int
    retry_exceptions: RetryExceptions
    batch_size: int | Literal["auto"]
    num_cpus: float
    resources: Mapping[str, float] | None
    env_vars: Mapping[str, str] | None
    requirements: Sequence[str] | None
    initializer: Callable[..., Any] | None
    initargs: tuple[Any, ...]
    speculate: bool
    progress: Progress | None
    checkpoint: str | os.PathLike[str] | None


def make_plan(
    function: Callable[..., Any],
    args: object,
    files: Iterable[str | os.PathLike[str]],
    *,
    ordered: bool = True,
    fail_fast: bool = True,
    buffersize: int | None = None,
    static: Mapping[str, Any] | None = None,
    return_exceptions: bool = False,
    timeout: float | None = None,
    max_retries: int = 3,
    retry_exceptions: RetryExceptions = False,
    batch_size: int | Literal["auto"] = "auto",
    num_cpus: float = 1,
    resources: Mapping[str, float] | None = None,
    env_vars: Mapping[str, str] | None = None,
    requirements: Sequence[str] | None = None,
    initializer: Callable[..., Any] | None = None,
    initargs: tuple[Any, ...] = (),
    speculate: bool = False,
    progress: Progress | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
) -> Plan:
    """Check the keywords and pickle the function.

    Raises:
        TypeError: ``function`` is not callable, or a keyword is of the wrong type.
        ValueError: a keyword is out of range.
        SerializationError: something cannot be pickled.
    """
    if not callable(function):
        raise TypeError(f"function is of type {type(function).__name__}, which cannot be called")
    check_ranges(timeout, max_retries, batch_size, num_cpus, buffersize)
    check_speculate(speculate, max_retries)
    common = checked_static(static)
    around = surroundings(
        files,
        env_vars=env_vars,
        cpus=num_cpus,
        requirements=requirements,
        initializer=initializer,
        initargs=initargs,
    )
    retry_on = classes_of(retry_exceptions)
    pickled, around = pack(
        around,
        lambda shipped, needs: dump_function(
            function, static=common, retry_on=retry_on, shipped=shipped, needs=needs
        ),
    )
    options = JobOptions(
        function=pickled.digest,
        environment=around.key,
        max_retries=max_retries,
        timeout_s=timeout,
        cpus=num_cpus,
        resources=checked_resources(resources),
        batch_size=None if batch_size == "auto" else batch_size,
        retry_exceptions=bool(retry_on),
        watched=buffersize is not None or not ordered,
        concurrency=CONCURRENCY if is_coroutine_function(function) else 1,
        speculate=speculate,
    )
    total = len(args) if isinstance(args, Sized) else None
    logbook = None
    if checkpoint is not None:
        told_by = function, common, around, initializer, initargs
        logbook = _logbook(checkpoint, told_by, prompt=buffersize is not None)
    return Plan(
        function,
        common,
        pickled,
        around,
        options,
        total,
        ordered,
        return_exceptions,
        fail_fast,
        buffersize,
        logbook,
        reporter_for(progress, pickled.name),
    )


def _logbook(path: Any, common: tuple[Any, ...], *, prompt: bool) -> Logbook:
    if not isinstance(path, str | os.PathLike):
        raise TypeError(f"checkpoint={path!r}; it is the path of a file")
    # Here, because it imports sqlite3, which other runs do not need.
    from goliath.actors.logbook import Common, Logbook

    return Logbook(path, Common(*common), prompt=prompt)
