"""The keywords of ``run`` and its kin: their names, their defaults, and what they come to."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sized
from typing import Any, Literal, TypedDict

from goliath.actors.job import Plan
from goliath.actors.scrutiny import are_amounts
from goliath.actors.surroundings import surroundings
from goliath.core.batch import JobOptions
from goliath.transport import serialization

RetryExceptions = bool | Iterable[type[BaseException]]


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
    initializer: Callable[..., Any] | None
    initargs: tuple[Any, ...]


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
    initializer: Callable[..., Any] | None = None,
    initargs: tuple[Any, ...] = (),
) -> Plan:
    """Check the keywords and pickle the function.

    Raises:
        TypeError: ``function`` is not callable, or a keyword is of the wrong type.
        ValueError: a keyword is out of range.
        SerializationError: something cannot be pickled.
    """
    if not callable(function):
        raise TypeError(f"function is a {type(function).__name__}, which cannot be called")
    check_ranges(timeout, max_retries, batch_size, num_cpus, buffersize)
    around = surroundings(
        files, env_vars=env_vars, cpus=num_cpus, initializer=initializer, initargs=initargs
    )
    retry_on = classes_of(retry_exceptions)
    pickled = serialization.dump_function(
        function, static=static, retry_on=retry_on, shipped=around.shipped_modules
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
    )
    total = len(args) if isinstance(args, Sized) else None
    return Plan(
        function,
        dict(static or {}),
        pickled,
        around,
        options,
        total,
        ordered,
        return_exceptions,
        fail_fast,
        buffersize,
    )


def check_deadline(deadline: Any) -> None:
    """Refuse what is no number of seconds.

    Raises:
        TypeError: it is no number.
        ValueError: it is negative.
    """
    if deadline is None:
        return
    if isinstance(deadline, bool) or not isinstance(deadline, int | float):
        raise TypeError(f"deadline={deadline!r}; it is a number of seconds, or None")
    if not deadline >= 0:
        raise ValueError(f"deadline={deadline!r}; it is 0 or a positive number of seconds")


def check_ranges(
    # Any: what a user passed may be anything, whatever the signature says.
    timeout: Any,
    max_retries: Any,
    batch_size: Any,
    num_cpus: Any,
    buffersize: Any,
) -> None:
    """Refuse what cannot be.

    Raises:
        ValueError: names the option and what it may be.
    """
    if timeout is not None and not timeout > 0:
        raise ValueError(f"timeout={timeout!r}; it is a positive number of seconds, or None")
    if not isinstance(max_retries, int) or max_retries < 0:
        raise ValueError(f"max_retries={max_retries!r}; it is 0 or a positive integer")
    if batch_size != "auto" and (not isinstance(batch_size, int) or batch_size < 1):
        raise ValueError(f"batch_size={batch_size!r}; it is 'auto' or a positive integer")
    if not num_cpus >= 0:
        raise ValueError(f"num_cpus={num_cpus!r}; it is 0 or a positive number")
    if buffersize is not None and buffersize < 1:
        raise ValueError(f"buffersize={buffersize!r}; it is a positive integer, or None")


def checked_resources(resources: Any) -> dict[str, float]:
    """Resources by their names.

    Raises:
        ValueError: they are not.
    """
    wanted = dict(resources or {})
    if not are_amounts(wanted) or float("inf") in wanted.values():
        raise ValueError(
            f"resources={resources!r}; it maps names to numbers that are 0 or positive"
        )
    return wanted


def classes_of(wanted: Any) -> tuple[type[BaseException], ...]:
    """The exception classes that ``retry_exceptions`` means.

    Raises:
        TypeError: one of them is no exception class.
    """
    if isinstance(wanted, bool):
        return (Exception,) if wanted else ()
    classes = tuple(wanted) if isinstance(wanted, Iterable) else (wanted,)
    for cls in classes:
        if not (isinstance(cls, type) and issubclass(cls, BaseException)):
            raise TypeError(f"retry_exceptions holds {cls!r}, which is no exception class")
    return classes
