"""All actors of a Commander: those that have a name can be found by it."""

from __future__ import annotations

import threading
from itertools import count
from os import urandom
from typing import Any
from weakref import WeakValueDictionary

from goliath.actors import object_ref
from goliath.actors.blueprint import Blueprint, name_taken
from goliath.actors.dependencies import LaidOut
from goliath.actors.detached import DetachedActor
from goliath.actors.group import Group
from goliath.actors.handles import HeldGrip
from goliath.actors.portal import Poster
from goliath.actors.ref import AskableRef
from goliath.actors.sightings import Sighting
from goliath.actors.supervisor import Lifetime
from goliath.actors.surroundings import Surroundings
from goliath.actors.user_actor import UserActor
from goliath.errors import GoliathError

_numbers = count(1)


class Troupe:
    """Any thread may use it."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._named: WeakValueDictionary[tuple[str, str], HeldGrip] = WeakValueDictionary()
        self._detached: WeakValueDictionary[str, HeldGrip] = WeakValueDictionary()

    @staticmethod
    def new_id(*, detached: bool = False) -> str:
        """For an actor that is made in this process; no other's has it, if it is to outlive it."""
        return (
            f"detached_{urandom(6).hex()}-{next(_numbers)}"
            if detached
            else (f"actor-{next(_numbers)}")
        )

    def make(
        self,
        actor_id: str,
        blueprint: Blueprint,
        creation: LaidOut,
        held: list[Any],
        surroundings: Surroundings,
        portal: Poster,
        commander: AskableRef,
        group: Group | None = None,
        lifetime: Lifetime = Lifetime.TRANSIENT,
    ) -> HeldGrip:
        """Make an actor.

        Raises:
            ValueError: there is one of that name. (Of detached ones, its node says so.)
            GoliathError: its group is another Commander's.
        """
        if group is not None and group.portal is not portal:
            raise GoliathError(
                "this supervisor was made with a Commander that is closed; make another one"
            )
        key = blueprint.namespace, blueprint.name
        with self._lock:
            if blueprint.name and key in self._named:
                raise name_taken(blueprint.name)
            actor = (
                DetachedActor(
                    actor_id,
                    blueprint,
                    creation,
                    held,
                    surroundings,
                    portal,
                    commander,
                    self._ended,
                )
                if blueprint.detached
                else UserActor(
                    actor_id,
                    blueprint,
                    creation,
                    held,
                    surroundings,
                    portal,
                    commander,
                    self._ended,
                    group,
                    lifetime,
                )
            )
            if group is not None:
                portal.post(group.enter, actor)
            return self._hold(actor)

    def visit(
        self, seen: Sighting, surroundings: Surroundings, portal: Poster, commander: AskableRef
    ) -> HeldGrip:
        """The grip of a detached actor that lives somewhere."""
        with self._lock:
            known = self._detached.get(seen.id)
            if known is not None and known.actor.alive:
                return known
            return self._hold(
                DetachedActor(
                    seen.id,
                    seen.blueprint,
                    None,
                    [],
                    surroundings,
                    portal,
                    commander,
                    self._ended,
                    seen,
                )
            )

    def _hold(self, actor: UserActor) -> HeldGrip:
        grip = HeldGrip(actor)
        object_ref.register(grip)
        blueprint = actor.blueprint
        if isinstance(actor, DetachedActor):
            self._detached[actor.actor_id] = grip
        elif blueprint.name:
            self._named[blueprint.namespace, blueprint.name] = grip
        return grip

    def find(self, name: str, namespace: str) -> HeldGrip | None:
        """The actor of that name, if it is alive."""
        with self._lock:
            return self._named.get((namespace, name))

    def arriving(self, name: str, namespace: str) -> DetachedActor | None:
        """A detached actor of that name that was made here and has no node yet."""
        with self._lock:
            grips = list(self._detached.values())
        for grip in grips:
            blueprint, actor = grip.actor.blueprint, grip.actor
            if (blueprint.name, blueprint.namespace) == (name, namespace) and not actor.decided:
                return actor  # type: ignore[no-any-return]  # of those that are detached
        return None

    def _ended(self, actor: UserActor) -> None:
        blueprint = actor.blueprint
        key = blueprint.namespace, blueprint.name
        with self._lock:
            grip = self._named.get(key)
            if grip is not None and grip.actor is actor:
                del self._named[key]
