"""What an actor is made of: its class as it travels, and the options of whoever makes it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, field
from types import NoneType
from typing import Any

from goliath.actors.repertoire import Repertoire
from goliath.actors.scrutiny import are_amounts
from goliath.core.batch import CONCURRENCY_MAX, JobOptions
from goliath.core.ids import NodeId
from goliath.record import frozen
from goliath.transport.functions import Function

DEFAULT_NAMESPACE = ""


@frozen
class Blueprint:
    """An actor before it is made.

    Attributes:
        function: pickled `stage.Methods` of its class.
        cpus, resources: what it takes of its node for as long as it lives.
        node, soft: where it is to live, as in `JobOptions`.
        repertoire: what can be asked of it.
        max_restarts: how often it is made again after its process has died; -1: always.
        restart_window_s: seconds within which so many are too many; None: all its life.
        max_task_retries: how often a call is made again that was under way then; -1: always.
        max_pending_calls: calls that may wait; -1: any number.
        concurrency: calls that may run at once, of all groups.
        name, namespace: by which it can be found; an empty name: it cannot.
        detached: whether it belongs to its node, and outlives its Commander.
        get_if_exists: whether one that is there already will do; of a detached one.
    """

    function: Function
    cpus: float = 0.0
    resources: Mapping[str, float] = field(default_factory=dict)
    node: str | None = None
    soft: bool = False
    repertoire: Repertoire = field(default_factory=Repertoire)
    max_restarts: int = 0
    restart_window_s: float | None = None
    max_task_retries: int = 0
    max_pending_calls: int = -1
    concurrency: int = 1
    name: str = ""
    namespace: str = DEFAULT_NAMESPACE
    detached: bool = False
    get_if_exists: bool = False

    def options(self, environment: str) -> JobOptions:
        """What the scheduler has to know."""
        return JobOptions(
            function=self.function.digest,
            environment=environment,
            max_retries=0,
            cpus=self.cpus,
            resources=self.resources,
            node=None if self.node is None else NodeId(self.node),
            soft=self.soft,
            actor=True,
            concurrency=self.concurrency,
            groups=self.repertoire.groups,
            # Each of those that run at once is alone: a slow one must hold up nothing behind it.
            batch_size=1 if self.concurrency > 1 else None,
        )

    def travelling(self) -> dict[str, object]:
        """All but the function, as JSON-able data."""
        data = asdict(self)
        del data["function"]
        return data

    @classmethod
    def of(cls, function: Function, data: Mapping[str, Any]) -> Blueprint:
        """From what `travelling` returned.

        Raises:
            TypeError: it did not.
        """
        rest = dict(data)
        repertoire = Repertoire.of(rest.pop("repertoire", None))
        wrong = [name for name, value in rest.items() if not _is_right(name, value)]
        if wrong:
            raise TypeError(f"{wrong[0]}={data[wrong[0]]!r}")
        if rest.get("detached") and not rest.get("name"):
            raise TypeError("it is detached, and has no name")
        blueprint = cls(function, repertoire=repertoire, **rest)
        if sum(repertoire.groups.values()) not in (0, blueprint.concurrency):
            raise TypeError(f"groups={repertoire.groups!r} of {blueprint.concurrency}")
        return blueprint


def name_taken(name: str) -> ValueError:
    """What whoever wants to give a name is told if another actor has it."""
    return ValueError(
        f"there is an actor called {name!r} already; choose another name, find it by "
        "goliath.get_actor, or say get_if_exists=True"
    )


_TYPES: Mapping[str, tuple[type, ...]] = {
    "node": (str, NoneType),
    "soft": (bool,),
    "name": (str,),
    "namespace": (str,),
    "detached": (bool,),
    "get_if_exists": (bool,),
}
_COUNTS = ("max_restarts", "max_task_retries", "max_pending_calls")


def _is_right(name: str, value: object) -> bool:
    """Whether a field may have a value that came from somewhere."""
    if name in _TYPES:
        return type(value) in _TYPES[name]
    if name in _COUNTS:
        return type(value) is int and value >= -1
    if name == "concurrency":
        return type(value) is int and 1 <= value <= CONCURRENCY_MAX
    if name == "restart_window_s":
        return value is None or (are_amounts({name: value}) and value != 0)
    if name == "cpus":
        return are_amounts({name: value})
    if name == "resources":
        return isinstance(value, dict) and are_amounts(value)
    return False
