"""What the Lieutenant actor is told: by its channels, its workers, and the node command."""

from __future__ import annotations

from goliath.actors.process import ExitReport
from goliath.core.ids import SessionId, WorkerId
from goliath.record import record
from goliath.transport.channel import Channel
from goliath.transport.message import Message


@record
class SessionUp:
    """A Commander has logged in, by the token that ``realm`` names."""

    session: SessionId
    channel: Channel
    realm: str = ""


@record
class TokenLimited:
    """So many calls of the holders of a token may run at once; None: as many as there are slots."""

    realm: str
    slots: int | None


@record
class TokenRevoked:
    """A token is not accepted any more."""

    realm: str


@record
class NodesJoined:
    """Those are the nodes that wait here for the holders of a token: ``[id, name]`` of each."""

    realm: str
    nodes: list[list[str]]


@record
class SessionHeard:
    """A Commander said something."""

    session: SessionId
    message: Message


@record
class SessionDown:
    """A Commander has left, or was not heard from for too long."""

    session: SessionId
    error: Exception | None


@record
class SessionWritable:
    """A Commander has read what was waiting for it."""

    session: SessionId


@record
class WorkerHeard:
    """A worker said something."""

    worker: WorkerId
    message: Message


@record
class WorkerGone:
    """A worker process has ended."""

    worker: WorkerId
    report: ExitReport


@record
class EndWork:
    """End all that still runs. The sessions are told goodbye after that: whoever hears one gives
    its calls to other nodes at once."""


@record
class Drain:
    """Finish what runs, take nothing new."""
