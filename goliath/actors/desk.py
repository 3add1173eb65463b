"""What the Commander actor and the owners of jobs say to each other.

An owner (a `job.Job` in some thread of the user's, or the `submission` of single calls)
tells the actor the first half of these; the actor calls the owner's `Owner` methods, always in
the loop's thread.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import field
from typing import Any, Protocol

from goliath.actors.deposits import Deposit, Taken
from goliath.actors.link import Place
from goliath.actors.obituary import obituary
from goliath.actors.outcomes import Setback, Where
from goliath.actors.ref import AskableRef
from goliath.actors.sightings import Then
from goliath.actors.surroundings import Surroundings
from goliath.core.batch import JobOptions
from goliath.core.commands import Verdict
from goliath.core.ids import JobId
from goliath.errors import TaskCancelledError
from goliath.record import record
from goliath.transport.channel import Channel
from goliath.transport.functions import Function
from goliath.transport.message import Message, Origin
from goliath.transport.payload import Payload


@record
class Settled:
    """Outcomes of calls ``lo <= i < hi`` of a parcel, but for those in ``excepted``.

    ``parcel`` is the index of its first call. ``held`` are the refs in the outcomes, to be kept
    until they have been read. ``deposits`` are results that are not among them, by their calls:
    they are on their node.
    """

    parcel: int
    lo: int
    hi: int
    payload: Payload
    excepted: Sequence[int]
    where: Where
    held: Sequence[object] = ()
    deposits: Mapping[int, Deposit] | None = None


@record
class Failed:
    """Calls ``lo <= i < hi`` of a parcel have no outcome of their own."""

    parcel: int
    lo: int
    hi: int
    setback: Setback
    where: Where

    @property
    def begun(self) -> bool:
        """Whether they may have been."""
        return self.setback.verdict is not Verdict.GONE


class Owner(Protocol):
    """Who wants the outcomes of a job."""

    def on_demand(self, batches: int, calls: int) -> None:
        """``batches`` more parcels of ``calls`` calls are wanted."""

    def on_settled(self, settled: Settled) -> None:
        """Some calls have ended with outcomes of their own."""

    def on_failed(self, failed: Failed) -> None:
        """Some calls have none."""

    def on_broken(self, error: Exception) -> None:
        """The Commander itself has ended: nothing will come any more."""


@record
class OpenJob:
    """A user wants calls of one function made."""

    job: JobId
    owner: Owner
    function: Function
    surroundings: Surroundings
    options: JobOptions
    total: int | None = None
    keeps: bool = False  # whether big results may stay on their nodes
    on_abandoned: Callable[[Setback], None] = lambda _setback: None  # of an actor
    on_ended: Callable[[], None] = lambda: None  # likewise
    detaches: Mapping[str, object] | None = None  # its one call makes a detached actor of this spec
    resident: bool = False  # its calls are for a detached actor, whom its node knows


def open_job(commander: AskableRef, job: OpenJob) -> None:
    """Have the Commander take a job on, in its loop's thread.

    It is a question, because there is a moment in which an owner does not know that the
    Commander has just ended: then he must not wait for outcomes.
    """

    def on_answer(answer: asyncio.Future[Any]) -> None:
        refusal = None if answer.cancelled() else answer.exception()
        if refusal is None:
            return
        if refusal.__cause__ is not None:
            job.owner.on_broken(obituary("the Commander", refusal.__cause__))
        else:
            job.owner.on_broken(
                TaskCancelledError("the Commander was closed before it had taken the call on")
            )

    commander.ask(job).add_done_callback(on_answer)


@record
class Parcel:
    """An encoded chunk of calls; ``first`` is the index of its first call in its job."""

    job: JobId
    first: int
    calls: int
    form: str
    payload: Payload
    origin: Origin = field(default_factory=list)
    group: str = ""  # of an actor's calls
    open_calls: int = 0
    deposits: Sequence[Taken] = ()  # what its calls take beside their rows


@record
class SubmitParcel:
    """Calls that are ready to be sent."""

    parcel: Parcel


@record
class ExhaustJob:
    """No further parcel will come."""

    job: JobId


@record
class CancelJob:
    """Nobody wants the rest."""

    job: JobId
    force: bool = False


@record
class CancelCall:
    """Nobody wants one call of a parcel."""

    job: JobId
    parcel: int
    call: int
    force: bool = False
    recursive: bool = True


@record
class CancelAll:
    """Nobody wants anything."""


@record
class FindActors:
    """A wish to hear, once, which detached actors there are on all nodes; with a ``name``: of those
    that are called so."""

    then: Then
    name: str = ""
    namespace: str = ""


@record
class KillResident:
    """End a detached actor, or (``restart``) its process."""

    node: str
    environment: str
    restart: bool


@record
class TellWhenIdle:
    """A wish to hear, once, that no job is open (any more)."""

    tell: Callable[[], None]


@record
class BreakDown:
    """What the Commander runs on is broken: whoever waits for it waits in vain."""

    error: Exception


@record
class NodeUp:
    """A new session with a Lieutenant."""

    address: str
    channel: Channel
    server_id: str
    python: str
    slots: int
    resources: dict[str, float]
    rtt_s: float = 0.0
    embedded: bool = False


@record
class NodeTrouble:
    """An attempt to reach a Lieutenant failed; it will be repeated."""

    address: str
    error: Exception


@record
class NodesListed:
    """The nodes that have joined somewhere, all of them: at the Lieutenant of that address or, if
    there is none, at this Commander's own door."""

    via: str
    places: Sequence[Place]


@record
class NodeGone:
    """A node that had joined has left, and its session is over: it may never come back."""

    address: str


@record
class NodeHeard:
    """A Lieutenant said something."""

    node: str
    message: Message


@record
class NodeDown:
    """A session has ended for good."""

    node: str
    error: Exception | None


@record
class NodeWritable:
    """A session that was congested has room again."""

    node: str


@record
class DescribeNodes:
    """A question: what is known of every Lieutenant (`NodeInfo`s)."""


NewsOfNodes = NodeUp | NodeTrouble | NodeDown | NodesListed
