"""Which detached actors there are: what nodes answer to a Commander who asks them all at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from goliath.actors.blueprint import Blueprint
from goliath.core.ids import NodeId
from goliath.core.residents import id_of
from goliath.errors import ProtocolError
from goliath.record import frozen, record
from goliath.transport import messages as msg
from goliath.transport.functions import Function


@dataclass(frozen=True, slots=True)
class ActorInfo:
    """What a node says of a detached actor.

    Attributes:
        name, namespace: by which it is found.
        class_name: of its class.
        node: address of its node, such as ``"lab1:8080"``.
        pid: of its process there; None while there is none.
        state: ``"starting"`` or ``"restarting"`` (its ``__init__`` has not returned), ``"busy"`` or
            ``"idle"``.
        pending: its calls that are on the node, running or not, of any Commander.
        age_s: seconds since it was made first.
    """

    name: str
    namespace: str
    class_name: str
    node: str
    pid: int | None
    state: str
    pending: int
    age_s: float


@frozen
class Sighting:
    """A detached actor, as its node has described it.

    Attributes:
        node: the session with its node, where it may be called.
        environment: of its present life.
        blueprint: what handles are made of.
        state: ``"starting"``, ``"restarting"``, ``"busy"`` or ``"idle"``.
        pid: of its process; None while there is none.
        pending: calls of it that are on its node, of any Commander.
        age_s: seconds since it was made first.
    """

    node: NodeId
    environment: str
    blueprint: Blueprint
    state: str
    pid: int | None
    pending: int
    age_s: float

    @property
    def id(self) -> str:
        """Of the actor."""
        return id_of(self.environment)

    @property
    def info(self) -> ActorInfo:
        """What a user may know of it."""
        blueprint = self.blueprint
        return ActorInfo(
            blueprint.name,
            blueprint.namespace,
            blueprint.function.name,
            self.node.rpartition("#")[0],
            self.pid,
            self.state,
            self.pending,
            self.age_s,
        )

    @classmethod
    def of(cls, node: NodeId, told: Mapping[str, Any]) -> Sighting:
        """From what a node says.

        Raises:
            ProtocolError: no honest one says this.
        """
        try:
            texts = [told[name] for name in ("environment", "class", "digest", "state")]
            pid, pending, age_s = told["pid"], told["pending"], told["age_s"]
            environment, name, digest, state = texts
            if not all(type(text) is str for text in texts) or type(pending) is not int:
                raise TypeError(told)
            if type(age_s) not in (int, float) or not (pid is None or type(pid) is int):
                raise TypeError(told)
            blueprint = Blueprint.of(Function(digest, name, b""), told["spec"])
        except (KeyError, TypeError, AttributeError) as exc:
            raise ProtocolError(f"a detached actor that is {told!r}") from exc
        return cls(node, environment, blueprint, state, pid, pending, age_s)


Then = Callable[[Sequence[Sighting]], None]


@record
class _Enquiry:
    then: Then
    awaited: set[NodeId]
    found: list[Sighting] = field(default_factory=list)


class Enquiries:
    """Those under way. Each ends when all nodes that were asked have answered, or are gone."""

    def __init__(self) -> None:
        self._numbers = count(1)
        self._open: dict[int, _Enquiry] = {}

    def begin(
        self, nodes: Sequence[NodeId], name: str, namespace: str, then: Then
    ) -> msg.AskActors:
        """What these nodes are to be asked; ``then`` is called with what they have answered."""
        number = next(self._numbers)
        self._open[number] = _Enquiry(then, set(nodes))
        self._maybe_end(number)
        return msg.AskActors(number, name, namespace)

    def answered(self, node: NodeId, said: msg.Actors) -> None:
        """A node has answered.

        Raises:
            ProtocolError: no honest one answers so.
        """
        enquiry = self._open.get(said.request)
        if enquiry is not None and node in enquiry.awaited:
            enquiry.found += [Sighting.of(node, told) for told in said.actors]
            enquiry.awaited.discard(node)
            self._maybe_end(said.request)

    def node_left(self, node: NodeId) -> None:
        """It will not answer any more."""
        for number, enquiry in list(self._open.items()):
            enquiry.awaited.discard(node)
            enquiry.found = [seen for seen in enquiry.found if seen.node != node]
            self._maybe_end(number)

    def close(self) -> None:
        """Nobody will answer any more."""
        for enquiry in self._open.values():
            enquiry.awaited.clear()
        for number in list(self._open):
            self._maybe_end(number)

    def _maybe_end(self, number: int) -> None:
        enquiry = self._open[number]
        if not enquiry.awaited:
            del self._open[number]
            enquiry.then(sorted(enquiry.found, key=lambda seen: seen.node))
