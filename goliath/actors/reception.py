"""What the Lieutenant actor is told: by its channels, its workers, and the node command."""

from __future__ import annotations

from dataclasses import dataclass

from goliath.actors.process import ExitReport
from goliath.core.ids import SessionId, WorkerId
from goliath.transport.channel import Channel
from goliath.transport.messages import Message


@dataclass(slots=True)
class SessionUp:
    """A Commander has logged in, by the token that ``realm`` names."""

    session: SessionId
    channel: Channel
    realm: str = ""


@dataclass(slots=True)
class SessionHeard:
    """A Commander said something."""

    session: SessionId
    message: Message


@dataclass(slots=True)
class SessionDown:
    """A Commander has left, or was not heard from for too long."""

    session: SessionId
    error: Exception | None


@dataclass(slots=True)
class SessionWritable:
    """A Commander has read what was waiting for it."""

    session: SessionId


@dataclass(slots=True)
class WorkerHeard:
    """A worker said something."""

    worker: WorkerId
    message: Message


@dataclass(slots=True)
class WorkerGone:
    """A worker process has ended."""

    worker: WorkerId
    report: ExitReport


@dataclass(slots=True)
class Drain:
    """Finish what runs, take nothing new."""
