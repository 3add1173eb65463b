"""How a node keeps detached actors: takes them on, has them called, makes them again, ends them.

Their processes belong to the *house*, a session of the node's own that ends with no Commander.
Whoever finds an actor sends its calls as batches of his own session, and has the answers: so
Commanders are served in turn, and nothing of one of them is told to another.

The house makes the actor itself, by a batch of its own, in the first life as in all others: nobody
else need be there. What comes before that is a promise: an actor that was *adopted* stays.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import field
from itertools import count

from goliath.core.crew import Crew
from goliath.core.fairness import DeficitRoundRobin
from goliath.core.ids import HOUSE, Attempt, BatchId, SessionId
from goliath.core.node_events import (
    Adopt,
    BatchArrived,
    DetachArrived,
    Evict,
    InterruptRange,
    NodeCommand,
    Release,
    ReportEnvironmentBroken,
    ReportReturned,
    ResidentKillArrived,
    Succeed,
)
from goliath.core.policy import NodePolicy, RestartIntensity
from goliath.core.queues import Queues
from goliath.core.residents import Resident, Residents, id_of
from goliath.core.work import Session, Work, Worker, WorkerState
from goliath.errors import KILLED, LEFT
from goliath.record import record

REVOKED = "its token was revoked"
ENDED = "its process has ended"
RAISED = "its __init__ raised"
UNKNOWN = "no such actor lives on this node any more"


@record
class Residency:
    """Part of the node's mind."""

    queues: Queues
    crew: Crew
    fair: DeficitRoundRobin
    policy: NodePolicy
    residents: Residents = field(default_factory=Residents)
    _arriving: dict[tuple[SessionId, str], DetachArrived] = field(default_factory=dict)
    _numbers: Iterator[int] = field(default_factory=lambda: count(1))

    # -- coming --------------------------------------------------------------------------

    def arrive(self, session: Session, event: DetachArrived) -> Iterator[NodeCommand]:
        """A Commander wants an actor taken on; its files may still be on their way."""
        refusal = self._refusal(session, event)
        if refusal:
            yield from self._refuse(event, refusal)
        elif event.environment in session.ready:
            yield from self._take_on(session, event)
        else:
            self._arriving[session.id, event.environment] = event

    def _refusal(self, session: Session, event: DetachArrived) -> str:
        key = (event.session, event.batch, event.attempt)
        if self.queues.tombstones.pop(key, self) is None:
            return "cancelled"
        if event.environment in session.broken:
            return "environment"
        known = self.residents.heir(event.environment) is not None
        fits = self.crew.could_ever_run(self._making_of(_resident(event, session, self.policy)))
        return "unstarted" if known or not fits or self.queues.draining else ""

    @staticmethod
    def _refuse(event: DetachArrived, why: str) -> Iterator[NodeCommand]:
        key = (event.session, event.batch, event.attempt)
        yield ReportReturned(*key, 0, 1, why)
        yield Release(*key)

    def environment_ready(self, session: Session, environment: str) -> Iterator[NodeCommand]:
        """What was awaited for an actor is there."""
        event = self._arriving.pop((session.id, environment), None)
        if event is not None:
            yield from self.arrive(session, event)

    def environment_broken(self, session: Session, environment: str) -> Iterator[NodeCommand]:
        """What was awaited for an actor cannot be had."""
        event = self._arriving.pop((session.id, environment), None)
        if event is not None:
            yield from self._refuse(event, "environment")

    def cancel(self, key: tuple[SessionId, BatchId, Attempt]) -> Iterator[NodeCommand]:
        """An actor that was not taken on yet is not wanted any more."""
        for place, event in list(self._arriving.items()):
            if (event.session, event.batch, event.attempt) == key:
                del self._arriving[place]
                yield from self._refuse(event, "cancelled")

    def drain(self) -> Iterator[NodeCommand]:
        """Nobody is taken on any more."""
        while self._arriving:
            _, event = self._arriving.popitem()
            yield from self._refuse(event, "unstarted")

    def _take_on(self, session: Session, event: DetachArrived) -> Iterator[NodeCommand]:
        other = self.residents.named(session.realm, event.namespace, event.name)
        if other is not None:
            taken = f"there is an actor called {event.name!r} already"
            heir = other.environment if event.get_if_exists else ""
            yield ReportEnvironmentBroken(session.id, event.environment, taken, heir)
            yield from self._refuse(event, "environment")
            return
        resident = _resident(event, session, self.policy)
        self.residents.add(resident)
        session.ready.discard(event.environment)
        key = (event.session, event.batch, event.attempt)
        yield Adopt(*key, event.environment)
        yield ReportReturned(*key, 0, 1, "adopted")
        self._make(resident)

    def _make(self, resident: Resident) -> None:
        """Have ``__init__`` called, as soon as there is room for the process."""
        house = self.queues.sessions.get(HOUSE)
        if house is None:
            house = self.queues.sessions[HOUSE] = Session(HOUSE)
            self.fair.join(HOUSE)
        house.ready.add(resident.environment)
        work = self._making_of(resident)
        self.queues.open(work)
        self.queues.enqueue(house, self.queues.cut(work, 0, 1))

    def _making_of(self, resident: Resident) -> Work:
        making = BatchId(next(self._numbers))
        work = Work(
            (HOUSE, making, Attempt(1)),
            HOUSE,
            resident.environment,
            careful=False,
            timeout_s=None,
            cpus=0.0,
            resources={},
            linger_s=1.0,  # it is one call: nothing of it is reported before its end
            depth=0,
            actor=True,
            concurrency=1,
            group="",
            group_limit=0,
        )
        _run_by(resident, work)
        return work

    # -- being called --------------------------------------------------------------------

    def admit(self, session: Session, work: Work) -> bool:
        """Whether a batch is for an actor that lives here, and may be called by this session;
        it then takes what the actor takes, whatever it says itself."""
        resident = self.residents.at(work.environment)
        if resident is None or resident.realm != session.realm:
            return False
        _run_by(resident, work)
        return True

    def turn_away(self, session: Session, event: BatchArrived) -> Iterator[NodeCommand]:
        """A batch was meant for an earlier life of an actor, or for one that has ended."""
        heir = self.residents.heir(event.environment)
        successor, why = "", UNKNOWN
        if heir is not None and heir.realm == session.realm:
            successor, why = heir.environment, ENDED
        key = (event.session, event.batch, event.attempt)
        yield ReportEnvironmentBroken(session.id, event.environment, why, successor)
        yield ReportReturned(*key, event.lo, event.hi, "environment")
        yield Release(*key)

    def receives(self, environment: str) -> bool:
        """Whether calls for this environment may be begun."""
        resident = self.residents.at(environment)
        return resident is not None and resident.made

    def made(self, worker: Worker, now: float, *, raised: bool) -> Iterator[NodeCommand]:
        """``__init__`` has returned, or raised."""
        resident = self.residents.at(worker.environment)
        if resident is None:
            return
        resident.made = not raised
        if raised:
            yield from self._end(resident, RAISED, now)

    def called(self, worker: Worker, now: float) -> Iterator[NodeCommand]:
        """A call has ended; it may be the one by which the actor left."""
        resident = self.residents.at(worker.environment)
        if resident is not None and resident.leaving and worker.state is WorkerState.LEAVING:
            yield from self._end(resident, LEFT, now)

    def failed_to_start(self, worker: Worker, error: str, now: float) -> Iterator[NodeCommand]:
        """The surroundings of the process cannot be had: nor could they in another life."""
        resident = self.residents.at(worker.environment)
        if resident is not None:
            yield from self._end(resident, error, now)

    def leave(self, session: SessionId) -> Iterator[NodeCommand]:
        """A Commander has gone: nobody wants to know what his calls would have returned."""
        for place in [place for place in self._arriving if place[0] == session]:
            del self._arriving[place]
        for worker in self.crew.workers.values():
            if worker.session != HOUSE or worker.state is not WorkerState.BUSY:
                continue
            for unit in worker.units:
                if unit.piece is not None and unit.piece.work.session == session:
                    unit.piece.work.cancelled = True
                    yield InterruptRange(worker.id, unit.serial)

    # -- going ---------------------------------------------------------------------------

    def kill(
        self, session: Session, event: ResidentKillArrived, now: float
    ) -> Iterator[NodeCommand]:
        """A Commander has had enough of an actor, or of its process."""
        resident = self.residents.heir(event.environment)
        if resident is None or resident.realm != session.realm:
            return
        if not event.restart:
            yield from self._end(resident, KILLED, now)
            return
        host = self.crew.host(HOUSE, resident.environment)
        if host is not None and host.state is not WorkerState.LEAVING:
            yield self.crew.kill(host, now)

    def end_all(self, realm: str, now: float) -> Iterator[NodeCommand]:
        """Nobody may call the actors of this realm any more."""
        for resident in [each for each in self.residents if each.realm == realm]:
            yield from self._end(resident, REVOKED, now)

    def leaves(self, worker: Worker) -> None:
        """An actor has said itself that it will end."""
        resident = self.residents.at(worker.environment)
        if resident is not None:
            resident.leaving = True

    def died(self, worker: Worker, now: float) -> Iterator[NodeCommand]:
        """The process of an actor is gone."""
        resident = self.residents.at(worker.environment)
        if resident is None:
            return
        if resident.leaving:
            yield from self._end(resident, LEFT, now)
        elif self.queues.draining or not self._may_live_again(resident, now):
            yield from self._end(resident, ENDED, now)
        else:
            before, resident.life = resident.environment, resident.life + 1
            resident.made = False
            self.queues.sessions[HOUSE].ready.discard(before)
            yield Succeed(before, resident.environment)
            yield from self._announce(resident, before, ENDED, resident.environment)
            self._make(resident)

    @staticmethod
    def _may_live_again(resident: Resident, now: float) -> bool:
        """One that dies again and again before it is made would be all that the node does."""
        if not resident.made and not resident.stillbirths.allows(now):
            return False
        return resident.restarts.allows(now)

    def _end(self, resident: Resident, why: str, now: float) -> Iterator[NodeCommand]:
        environment = resident.environment
        self.residents.remove(resident)
        host = self.crew.host(HOUSE, environment)
        if host is not None:
            if host.state is not WorkerState.LEAVING:
                yield self.crew.kill(host, now)
            # Not when it is gone: those whose calls ran must hear of these before they hear
            # that there is no actor any more.
            for unit in list(host.units):
                if unit.piece is not None:
                    unit.waiting = False
                    piece = self.crew.release(unit, now)
                    yield from self.queues.give_back(piece, "crashed", -1, host.id)
        yield from self._announce(resident, environment, why, "")
        house = self.queues.sessions[HOUSE]
        house.ready.discard(environment)
        yield from self.queues.break_environment(house, environment)
        yield Evict(environment, why)
        if not len(self.residents):
            del self.queues.sessions[HOUSE]
            self.fair.leave(HOUSE)

    def _announce(
        self, resident: Resident, environment: str, why: str, successor: str
    ) -> Iterator[NodeCommand]:
        """Tell everybody who may know the actor, then give back what waits for this life."""
        for session in self.queues.sessions.values():
            if session.id == HOUSE or session.realm != resident.realm:
                continue
            raised = why == RAISED
            yield ReportEnvironmentBroken(session.id, environment, why, successor, raised)
            yield from self.queues.break_environment(session, environment)

    # -- what others may know ---------------------------------------------------------------

    def state_of(self, resident: Resident) -> str:
        """``"starting"``, ``"restarting"``, ``"busy"`` or ``"idle"``."""
        if not resident.made:
            return "starting" if resident.life == 1 else "restarting"
        host = self.crew.host(HOUSE, resident.environment)
        return "busy" if host is not None and host.state is WorkerState.BUSY else "idle"

    def pending(self, resident: Resident) -> int:
        """How many calls of it are on the node, running or not."""
        pieces = [p for s in self.queues.sessions.values() if s.id != HOUSE for p in s.queue]
        host = self.crew.host(HOUSE, resident.environment)
        if host is not None:
            pieces += [unit.piece for unit in host.units if unit.piece is not None]
        environment = resident.environment
        return sum(
            len(p) for p in pieces if p.work.environment == environment and p.work.session != HOUSE
        )

    def check(self) -> None:
        """Raise `AssertionError` if the books do not agree with each other."""
        house = self.queues.sessions.get(HOUSE)
        environments = {resident.environment for resident in self.residents}
        assert (house is None) == (not environments), "a house, and nobody lives in it"
        assert house is None or house.ready == environments, "the house is not furnished for all"
        for resident in self.residents:
            host = self.crew.host(HOUSE, resident.environment)
            assert host is not None or not resident.made, f"{resident.id} was made of nothing"


def _resident(event: DetachArrived, session: Session, policy: NodePolicy) -> Resident:
    return Resident(
        id_of(event.environment),
        session.realm,
        event.name,
        event.namespace,
        event.cpus,
        event.resources,
        event.concurrency,
        event.groups,
        RestartIntensity.of_actor(event.max_restarts, event.restart_window_s),
        RestartIntensity(policy.restart_max, policy.restart_window_s),
    )


def _run_by(resident: Resident, work: Work) -> None:
    """A batch is for this actor: it takes no more and no less than the process has."""
    work.resident = work.actor = True
    work.careful, work.timeout_s = False, None
    work.cpus, work.resources = resident.cpus, resident.resources
    work.concurrency = resident.concurrency
    if work.group not in resident.groups:
        work.group = ""
    work.group_limit = resident.groups.get(work.group, 0)
