"""What a Lieutenant keeps for the detached actors on its node: see `goliath.core.residency`.

Function and arguments of ``__init__`` are kept as they came, to make the actor again without
whoever made it first. The Commanders whose calls it runs are its *patrons*: what it asks while it
runs one of their calls is theirs to answer, so each has a number by which its process names him.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import field
from itertools import count

from goliath.actors.blueprint import Blueprint
from goliath.core.ids import HOUSE, SessionId
from goliath.core.residents import Resident, id_of
from goliath.errors import ProtocolError
from goliath.record import record
from goliath.transport import messages as msg, worker_messages as worker_msg
from goliath.transport.functions import Function
from goliath.transport.payload import Payload

FIRST_LIFE = ".1"


@record
class Lodger:
    """A detached actor, or one that wants to become one."""

    function: worker_msg.DefineFunction
    making: msg.DetachActor
    blueprint: Blueprint
    cargo: tuple[list[int], Payload]  # the payload of its making, with what that takes
    maker: SessionId = HOUSE  # who hears what it prints while it is made
    since: float = 0.0

    @classmethod
    def of(cls, function: worker_msg.DefineFunction, making: msg.DetachActor) -> Lodger:
        """From what a Commander says.

        Raises:
            ProtocolError: no honest one says this.
        """
        travelled = Function(function.digest, function.name, b"")
        try:
            blueprint = Blueprint.of(travelled, making.spec)
        except TypeError as exc:
            raise ProtocolError(f"a detached actor of {making.spec!r} ({exc})") from exc
        named = blueprint.detached and blueprint.name
        if (
            not named
            or not id_of(making.environment)
            or not making.environment.endswith(FIRST_LIFE)
        ):
            raise ProtocolError(f"a detached actor without a name, or of {making.environment!r}")
        return cls(function, making, blueprint, ([], making.payload))

    def told(self, resident: Resident, state: str, pending: int, now: float) -> dict[str, object]:
        """What whoever asks for it is told."""
        return {
            "environment": resident.environment,
            "class": self.function.name,
            "digest": self.function.digest,
            "spec": self.making.spec,
            "state": state,
            "pending": pending,
            "age_s": now - self.since,
        }


@record
class Residence:
    """The lodgers by the environments they have now, and the numbers of patrons."""

    _lodgers: dict[str, Lodger] = field(default_factory=dict)
    _patrons: dict[SessionId, int] = field(default_factory=dict)
    _numbers: Iterator[int] = field(default_factory=lambda: count(1))

    def adopt(self, environment: str, lodger: Lodger, now: float) -> None:
        """It lives here from now on."""
        lodger.since = now
        self._lodgers[environment] = lodger

    def succeed(self, environment: str, successor: str) -> None:
        """It lives on in another environment."""
        self._lodgers[successor] = self._lodgers.pop(environment)

    def evict(self, environment: str) -> Lodger:
        """It has ended."""
        return self._lodgers.pop(environment)

    def __getitem__(self, environment: str) -> Lodger:
        return self._lodgers[environment]

    def names(self) -> list[str]:
        """What those who live here are called."""
        return [lodger.blueprint.name for lodger in self._lodgers.values()]

    def patron(self, session: SessionId) -> int:
        """The number of a Commander. None has 0: nobody answers what ``__init__`` asks, which is
        the node's own, and may run when no Commander is there."""
        if session not in self._patrons:
            self._patrons[session] = next(self._numbers)
        return self._patrons[session]

    def leave(self, session: SessionId) -> int | None:
        """The number of a Commander who has gone, if he had one."""
        return self._patrons.pop(session, None)
