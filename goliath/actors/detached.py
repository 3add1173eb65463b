"""A detached actor, as any Commander has it that has made it or found it: calls that wait for it.

The actor belongs to its node, which makes it, again and again if need be, and ends it. Here is no
more than the way there: a job whose calls are for its present life. The node says by which
environment that goes: when it has adopted the actor, and whenever a life has ended and another
begins. Then the calls that were not begun go there, as those of any actor do.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from goliath.actors import desk
from goliath.actors.bell import ThreadBell
from goliath.actors.blueprint import Blueprint, name_taken
from goliath.actors.dependencies import LaidOut
from goliath.actors.endings import Arrived
from goliath.actors.kin import ActorEnd
from goliath.actors.outcomes import Setback, Where
from goliath.actors.portal import Poster
from goliath.actors.ref import AskableRef
from goliath.actors.sightings import Sighting
from goliath.actors.surroundings import Surroundings
from goliath.actors.user_actor import UserActor, raised
from goliath.core.batch import JobOptions
from goliath.core.ids import NodeId
from goliath.core.residents import id_of
from goliath.errors import KILLED, LEFT, ActorUnavailableError
from goliath.transport.functions import Function


class DetachedActor(UserActor):
    """See the module's description; the arguments are those of a `UserActor`.

    Args:
        creation: None if it lives already:
        home: where it was seen.
    """

    def __init__(
        self,
        actor_id: str,
        blueprint: Blueprint,
        creation: LaidOut | None,
        held: list[Any],
        surroundings: Surroundings,
        portal: Poster,
        commander: AskableRef,
        on_end: Callable[[UserActor], None],
        home: Sighting | None = None,
    ) -> None:
        self._home = (home.environment, home.node) if home is not None else ("", NodeId(""))
        self._decided = home is not None  # taken on, or refused
        self._taken = False  # its name was another's
        self._bells: list[Callable[[], None]] = []
        super().__init__(
            actor_id, blueprint, creation, held, surroundings, portal, commander, on_end
        )
        # There may have been another one here before, some of whose refs are still held.
        self._task = f"{self._task}.{self.id}"

    @property
    def address(self) -> tuple[str, NodeId]:
        """The environment in which it lives, and the session with its node; or nothing."""
        return self._home

    @property
    def is_another(self) -> bool:
        """Whether there was one of its name, whose calls it makes in place of its own."""
        return id_of(self._home[0]) not in ("", self.actor_id)

    @property
    def decided(self) -> bool:
        """Whether a node has taken it on, or will not."""
        return self._decided

    @property
    def alive(self) -> bool:
        """Whether it may be called, as far as is known here."""
        return not self._dead

    # -- in the callers' threads ---------------------------------------------------------

    def when_decided(self, tell: Callable[[], None]) -> None:
        """Have ``tell`` called once, in any thread, when a node has taken it on, or will not."""
        with self._lock:
            if not self._decided:
                self._bells.append(tell)
                return
        tell()

    def await_node(self) -> None:
        """Wait until its node has taken it on: from then on it does not need this Commander.

        Raises:
            ValueError: there is another one of its name.
            GoliathError: no node has taken it on; the message says why.
        """
        bell = ThreadBell()
        self.when_decided(bell.ring)
        bell.wait()
        if self._taken:
            raise name_taken(self.blueprint.name)
        if self._home[0] == "" and self._broken is not None:
            self._broken.value(0)

    def close(self) -> None:
        """See `Submission`. Not before what was posted: it may be watched from now on."""
        self._portal.post(super().close)

    def _settle_in(self) -> None:
        with self._lock:
            self._decided, bells, self._bells = True, self._bells, []
        for ring in bells:
            ring()

    # -- its jobs: one to be taken on, then one for each life ------------------------------

    def _fresh_surroundings(self) -> Surroundings:
        return self.around if self._home[0] else super()._fresh_surroundings()

    def _options(self, environment: str) -> JobOptions:
        environment_there, node = self._home
        if not environment_there:
            # What it costs to be taken on says nothing of what its calls will.
            return replace(super()._options(environment), function="detach")
        return replace(
            super()._options(environment_there), cpus=0.0, resources={}, node=node, soft=False
        )

    def _new_job(
        self, function: Function, surroundings: Surroundings, options: JobOptions
    ) -> desk.OpenJob:
        job = super()._new_job(function, surroundings, options)
        if self._home[0]:
            job.resident = True
        else:
            job.detaches = self.blueprint.travelling()
        return job

    def on_settled(self, settled: desk.Settled) -> None:
        """See `desk.Owner.on_settled`."""
        if not self._home[0]:
            self._home = ("", NodeId(settled.where.node))
        super().on_settled(settled)

    def _on_made(self) -> None:
        """It was adopted."""
        self._live_in(f"{self.actor_id}.1", self._home[1])

    def _begin_again(self) -> None:
        """Its node does."""

    def _live_in(self, environment: str, node: NodeId) -> None:
        """Its calls go there from now on."""
        self._home = environment, node
        self._next_job()
        self._creating = None
        self._pump()
        self._settle_in()

    def _still_asks(self) -> bool:
        """See `Submission`: of an actor's end only an open job is told, and this one's does not
        come when the last handle here is gone."""
        return super()._still_asks() or bool(self.kin)

    # -- its end ---------------------------------------------------------------------------

    def _on_abandoned(self, setback: Setback) -> None:
        """Its node has said what has become of it; or the way there is lost."""
        if self._dead:
            return
        if setback.successor:
            self._last = self._cause(setback)
            self._live_in(setback.successor, NodeId(setback.node))
        elif setback.successor is None and self._home[0]:
            self._lose(setback.detail)
        elif setback.detail.endswith(LEFT):
            self._die(None, setback.detail, well=True)
        else:
            self._taken = setback.successor == "" and not self._home[0]
            self._killed = setback.detail.endswith(KILLED)
            self._last, why = self._reason(setback)
            self._die(self._last, why)

    def _reason(self, setback: Setback) -> tuple[BaseException | None, str]:
        """Why it has ended: what has struck it, or else what its node says."""
        if len(setback.payload):
            return raised(Arrived(setback.payload, 0, Where(self.name)).value, 0), ""
        if setback.report is not None or setback.successor is None:
            return self._cause(setback), ""
        return None, setback.detail

    def _lose(self, why: str) -> None:
        error = ActorUnavailableError(
            f"actor {self.name} ({self.actor_id}) cannot be reached any more: {why}. A call that "
            "was under way may have been executed. If its node is still there, so is the actor: "
            f"find it again by goliath.get_actor({self.blueprint.name!r})"
        )
        self._end_with(error, error, error)

    def _end(self, rest: Exception, error: Exception | None) -> None:
        super()._end(rest, error)
        self._settle_in()

    def kill(self, *, no_restart: bool) -> None:
        """End it at once, for all who call it."""
        kill = super().kill
        self.when_decided(lambda: kill(no_restart=no_restart))

    def _kill(self, no_restart: bool) -> None:
        if self._dead:
            return
        self._end_there(restart=not no_restart)
        if no_restart:
            self._killed = True
            self._die(None, KILLED)

    def on_link_died(self, end: ActorEnd) -> None:
        """See `Kin`."""
        strike = super().on_link_died
        self.when_decided(lambda: strike(end))

    def _die_of_link(self, end: ActorEnd) -> None:
        """See `UserActor`. It belongs to its node, which ends it: for all who call it."""
        if not self._dead:
            self._end_there(restart=False)
            super()._die_of_link(end)

    def _end_there(self, *, restart: bool) -> None:
        environment, node = self._home
        self._commander.tell(desk.KillResident(node, environment, restart=restart))
