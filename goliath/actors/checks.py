"""What a user may say in an option, and what he is told if he says something else."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal

from goliath.actors.scrutiny import are_amounts
from goliath.core.batch import ACTORS, MEMORY
from goliath.core.devices import GPU, is_share
from goliath.errors import describe

RetryExceptions = bool | Iterable[type[BaseException]]

STREAMING: Literal["streaming"] = "streaming"
"""For ``num_returns``: as many items as the call makes, each as soon as it is made."""


def checked_count(num_returns: Any) -> Any:
    """A ``num_returns``.

    Raises:
        ValueError: it is none.
    """
    if num_returns == STREAMING or (type(num_returns) is int and num_returns >= 1):
        return num_returns
    raise ValueError(f"num_returns={num_returns!r}; it is a positive integer or {STREAMING!r}")


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
        TypeError: it is no number.
        ValueError: it is out of range. Both name the option and what it may be.
    """
    if timeout is not None:
        _check(timeout, lambda: timeout > 0, "timeout", "a positive number of seconds, or None")
    if not isinstance(max_retries, int) or max_retries < 0:
        raise ValueError(f"max_retries={max_retries!r}; it is 0 or a positive integer")
    if batch_size != "auto" and (not isinstance(batch_size, int) or batch_size < 1):
        raise ValueError(f"batch_size={batch_size!r}; it is 'auto' or a positive integer")
    _check(num_cpus, lambda: num_cpus >= 0, "num_cpus", "0 or a positive number")
    if buffersize is not None:
        _check(buffersize, lambda: buffersize >= 1, "buffersize", "a positive integer, or None")


def check_workers(workers: Any) -> None:
    """Refuse what is no number of slots; errors as of `check_ranges`."""
    if workers is not None:
        _check(workers, lambda: workers >= 1, "workers", "a number, and at least one is needed")


def _check(value: Any, holds: Callable[[], bool], name: str, what: str) -> None:
    said = f"{name}={describe(value)}; it is {what}"
    try:
        fine = holds()
    except TypeError:  # it cannot be compared with a number
        raise TypeError(said) from None
    if not fine:
        raise ValueError(said)


def checked_static(static: Any) -> dict[str, Any]:
    """The keyword arguments that all calls have in common.

    Raises:
        TypeError: they are none.
    """
    if static is None:
        return {}
    if not isinstance(static, Mapping) or not all(isinstance(name, str) for name in static):
        raise TypeError(f"static={describe(static)}; it maps names of arguments to their values")
    return dict(static)


def checked_requirements(requirements: Any) -> tuple[str, ...] | None:
    """A ``requirements``: what pip's command line takes, less its options.

    Raises:
        TypeError: it is no list of strings.
        ValueError: one of them is empty, or an option.
    """
    if requirements is None:
        return None
    if not isinstance(requirements, list | tuple):
        raise TypeError(f"requirements={requirements!r}; it is a list such as ['numpy>=2']")
    for one in requirements:
        if not isinstance(one, str):
            raise TypeError(f"requirements has {one!r}; it is a list of strings such as 'numpy>=2'")
        if is_option(one):
            raise ValueError(f"requirements has {one!r}, which is no package such as 'numpy>=2'")
    return tuple(requirements)


def is_option(requirement: str) -> bool:
    """Whether an installer might take it for something else than a package."""
    return not requirement.strip() or requirement.strip().startswith("-") or "\n" in requirement


def check_speculate(speculate: Any, max_retries: int) -> None:
    """Refuse what cannot be.

    Raises:
        TypeError: it is no bool.
        ValueError: calls may be made at most once.
    """
    if not isinstance(speculate, bool):
        raise TypeError(f"speculate={speculate!r}; it is True or False")
    if speculate and max_retries == 0:
        raise ValueError(
            "speculate=True makes slow calls a second time, and max_retries=0 promises that none "
            "is made twice; leave one of the two out"
        )


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
    if "CPU" in wanted:
        raise ValueError(f"resources={resources!r}; CPUs are asked for with num_cpus")
    if not is_share(wanted.get(GPU, 0.0)):
        raise ValueError(
            f"a call cannot have {wanted[GPU]:g} GPUs; it takes a whole number of them, or a "
            "fraction of one"
        )
    return wanted


def needs(resources: Any, num_gpus: Any, memory: Any) -> dict[str, float]:
    """What a call takes of its node beside CPUs, by name; what it takes none of is left out.

    Raises:
        ValueError: an option is out of range; names the option.
    """
    wanted = checked_resources(resources)
    if ACTORS in wanted:
        raise ValueError(f"resources={resources!r}; each actor takes one of {ACTORS}, nothing else")
    if memory is not None and type(memory) is not int:
        raise ValueError(f"memory={memory!r}; it is a number of bytes, such as 2 * 1024**3")
    for name, keyword, amount in ((GPU, "num_gpus", num_gpus), (MEMORY, "memory", memory or 0)):
        if name in wanted:
            raise ValueError(f"resources={resources!r}; {name} is asked for with {keyword}")
        if not are_amounts({name: amount}):
            raise ValueError(f"{keyword}={amount!r}; it is 0 or a positive number")
        if amount:
            wanted[name] = amount
    return checked_resources(wanted)


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
