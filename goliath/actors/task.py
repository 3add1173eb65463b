"""A function as it is to be called: what its single calls have in common."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from goliath.actors.checks import RetryExceptions, check_ranges, classes_of, needs
from goliath.actors.streamed import Streamed
from goliath.core.batch import JobOptions
from goliath.core.ids import NodeId
from goliath.transport import serialization
from goliath.transport.serialization import Function


@dataclass(frozen=True, slots=True)
class NodeAffinitySchedulingStrategy:
    """Run the calls on one node (the term is Ray's).

    Attributes:
        node_id: as in `NodeInfo.node_id`.
        soft: whether they may run elsewhere if that node is gone, or too small.
    """

    node_id: str
    soft: bool = False


STRATEGIES = ("DEFAULT", "SPREAD")
Strategy = Literal["DEFAULT", "SPREAD"] | NodeAffinitySchedulingStrategy


@dataclass(frozen=True, slots=True, eq=False)
class Task:
    """The options are those of ``Commander.run``; ``name`` is what messages call the function.

    With ``streaming``, the items that the function makes are wanted one by one.
    """

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
    streaming: bool = False

    def __post_init__(self) -> None:
        if not callable(self.function):
            raise TypeError(f"{self.function!r} cannot be called")
        check_ranges(self.timeout, self.max_retries, "auto", self.num_cpus, None)
        needs(self.resources, self.num_gpus, self.memory)
        classes_of(self.retry_exceptions)
        if type(self.priority) is not int:
            raise TypeError(f"priority={self.priority!r}; it is an integer")
        strategy = self.scheduling_strategy
        if not isinstance(strategy, NodeAffinitySchedulingStrategy) and strategy not in STRATEGIES:
            raise ValueError(
                f"scheduling_strategy={strategy!r}; it is 'DEFAULT', 'SPREAD' or a "
                "NodeAffinitySchedulingStrategy"
            )

    def pickled(self, shipped: Collection[str] = ()) -> Function:
        """The function as it travels; ``shipped`` are modules that go by name.

        Raises:
            SerializationError: it cannot be pickled.
        """
        retry_on = classes_of(self.retry_exceptions)
        called = Streamed(self.function) if self.streaming else self.function
        function = serialization.dump_function(called, retry_on=retry_on, shipped=shipped)
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
        )
