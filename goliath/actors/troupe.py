"""All actors of a Commander: those that have a name can be found by it."""

from __future__ import annotations

import threading
from itertools import count
from typing import Any
from weakref import WeakValueDictionary

from goliath.actors import object_ref
from goliath.actors.blueprint import Blueprint
from goliath.actors.dependencies import Dependencies
from goliath.actors.group import Group
from goliath.actors.handles import HeldGrip
from goliath.actors.portal import Poster
from goliath.actors.ref import AskableRef
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

    @staticmethod
    def new_id() -> str:
        """For an actor that is made in this process."""
        return f"actor-{next(_numbers)}"

    def make(
        self,
        actor_id: str,
        blueprint: Blueprint,
        creation: bytes | Dependencies,
        held: list[Any],
        surroundings: Surroundings,
        portal: Poster,
        commander: AskableRef,
        group: Group | None = None,
        lifetime: Lifetime = Lifetime.TRANSIENT,
    ) -> HeldGrip:
        """Make an actor.

        Raises:
            ValueError: there is one of that name.
            GoliathError: its group is another Commander's.
        """
        if group is not None and group.portal is not portal:
            raise GoliathError(
                "this supervisor was made with a Commander that is closed; make another one"
            )
        key = blueprint.namespace, blueprint.name
        with self._lock:
            if blueprint.name and key in self._named:
                raise ValueError(
                    f"there is an actor called {blueprint.name!r} already; choose another name, "
                    "find it by goliath.get_actor, or say get_if_exists=True"
                )
            actor = UserActor(
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
            if group is not None:
                portal.post(group.enter, actor)
            grip = HeldGrip(actor)
            object_ref.register(grip)
            if blueprint.name:
                self._named[key] = grip
            return grip

    def find(self, name: str, namespace: str) -> HeldGrip | None:
        """The actor of that name, if it is alive."""
        with self._lock:
            return self._named.get((namespace, name))

    def _ended(self, actor: UserActor) -> None:
        blueprint = actor.blueprint
        key = blueprint.namespace, blueprint.name
        with self._lock:
            grip = self._named.get(key)
            if grip is not None and grip.actor is actor:
                del self._named[key]
