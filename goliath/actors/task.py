"""A function as it is to be called: what its single calls have in common."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, field, replace
from inspect import iscoroutinefunction
from typing import Any, Literal

from goliath.actors.checks import (
    RetryExceptions,
    check_ranges,
    checked_requirements,
    classes_of,
    needs,
)
from goliath.actors.streamed import Streamed
from goliath.core.batch import CONCURRENCY_MAX, JobOptions
from goliath.core.ids import NodeId
from goliath.transport.functions import Function, dump_function, function_name
from goliath.transport.modules import Needs


@dataclass(frozen=True, slots=True)
class NodeAffinitySchedulingStrategy:
    """Run the calls on one node (the term is Ray's).

    Attributes:
        node_id: as in `NodeInfo.node_id`.
        soft: whether they may run elsewhere if that node is gone, or too small.
    """

    node_id: str
    soft: bool = False


CONCURRENCY = 100
"""Calls of a coroutine function that may run in one worker at the same time, usually."""

STRATEGIES = ("DEFAULT", "SPREAD")
Strategy = Literal["DEFAULT", "SPREAD"] | NodeAffinitySchedulingStrategy


@dataclass(frozen=True, slots=True, eq=False)
class Task:
    """The options are those of ``Commander.run``; ``name`` is what messages call the function, and
    ``max_concurrency`` how many calls may run in one worker at a time: 100 of a coroutine function,
    1 of any other. With ``streaming``, the items that the function makes are wanted one by one."""

    function: Callable[..., Any]
    num_cpus: float = 1
    num_gpus: float = 0
    memory: int | None = None
    resources: Mapping[str, float] = field(default_factory=dict)
    max_retries: int = 3
    retry_exceptions: RetryExceptions = False
    timeout: float | None = None
    name: str | None = None
    priority: int = 0
    scheduling_strategy: Strategy = "DEFAULT"
    max_concurrency: int | None = None
    requirements: Sequence[str] | None = None
    streaming: bool = False

    def __post_init__(self) -> None:
        if not callable(self.function):
            raise TypeError(f"{self.function!r} cannot be called")
        check_ranges(self.timeout, self.max_retries, "auto", self.num_cpus, None)
        needs(self.resources, self.num_gpus, self.memory)
        classes_of(self.retry_exceptions)
        checked_requirements(self.requirements)
        if type(self.priority) is not int:
            raise TypeError(f"priority={self.priority!r}; it is an integer")
        strategy = self.scheduling_strategy
        if not isinstance(strategy, NodeAffinitySchedulingStrategy) and strategy not in STRATEGIES:
            raise ValueError(
                f"scheduling_strategy={strategy!r}; it is 'DEFAULT', 'SPREAD' or a "
                "NodeAffinitySchedulingStrategy"
            )
        self._check_concurrency()

    def _check_concurrency(self) -> None:
        most = self.max_concurrency
        if most is None:
            return
        if type(most) is not int or not 1 <= most <= CONCURRENCY_MAX:
            raise ValueError(
                f"max_concurrency={most!r}; it is an integer from 1 to {CONCURRENCY_MAX}"
            )
        if most > 1 and not is_coroutine_function(self.function):
            raise ValueError(
                f"max_concurrency={most} is for async functions, and "
                f"{function_name(self.function)} is none: write it with async def, "
                "or have more workers"
            )

    @property
    def concurrency(self) -> int:
        """How many calls may run in one worker at the same time."""
        if self.max_concurrency is not None:
            return self.max_concurrency
        return CONCURRENCY if is_coroutine_function(self.function) else 1

    def pickled(self, shipped: Container[str] = (), needs: Needs | None = None) -> Function:
        """The function as it travels; ``shipped`` are modules that go by name, and ``needs`` is
        told of those that it needs.

        Raises:
            SerializationError: it cannot be pickled.
        """
        retry_on = classes_of(self.retry_exceptions)
        called = Streamed(self.function) if self.streaming else self.function
        function = dump_function(called, retry_on=retry_on, shipped=shipped, needs=needs)
        return function if self.name is None else replace(function, name=self.name)

    def options(self, function: str, environment: str) -> JobOptions:
        """What the scheduler has to know; ``function`` is its digest."""
        node, soft = None, False
        if isinstance(self.scheduling_strategy, NodeAffinitySchedulingStrategy):
            node = NodeId(self.scheduling_strategy.node_id)
            soft = self.scheduling_strategy.soft
        return JobOptions(
            function=function,
            environment=environment,
            max_retries=self.max_retries,
            timeout_s=self.timeout,
            cpus=self.num_cpus,
            resources=needs(self.resources, self.num_gpus, self.memory),
            retry_exceptions=bool(classes_of(self.retry_exceptions)),
            priority=self.priority,
            spread=self.scheduling_strategy == "SPREAD",
            node=node,
            soft=soft,
            concurrency=self.concurrency,
        )


def is_coroutine_function(function: Callable[..., Any]) -> bool:
    """Whether calls of it are to be awaited: ``async def``, also as a method or a ``__call__``."""
    return iscoroutinefunction(function) or iscoroutinefunction(
        getattr(function, "__call__", None)  # noqa: B004 - of an instance, not whether there is one
    )
