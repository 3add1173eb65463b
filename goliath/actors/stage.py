"""The actor in its own process: the one instance, and how its methods are called."""

from __future__ import annotations

import os
from typing import Any

from goliath.errors import GoliathError

BEGIN = "__init__"
"""What is called first, when the actor is made."""

LIFE_VARIABLE = "GOLIATH_ACTOR_LIFE"
"""Set in the environment of its process: counts how often it was made."""

instance: Any = None
actor_id: str | None = None
reconstructed = False


class ActorExit(BaseException):
    """Raised by ``exit_actor`` through the method that called it."""


class Methods:
    """What the calls of an actor call: it takes the method's name before its arguments."""

    def __init__(self, cls: type, actor: str) -> None:
        self._cls = cls
        self._actor = actor
        self.__qualname__ = cls.__qualname__.rpartition("<locals>.")[2]

    def __call__(self, method: str, /, *args: Any, **kwargs: Any) -> Any:
        """Call a method of the instance, or make it."""
        global instance, actor_id, reconstructed
        if method == BEGIN:
            actor_id, reconstructed = self._actor, os.environ.get(LIFE_VARIABLE, "1") != "1"
            instance = self._cls(*args, **kwargs)
            return None
        if instance is None:
            raise GoliathError(f"{self.__qualname__}.{method} was called, and there is no instance")
        try:
            return getattr(instance, method)(*args, **kwargs)
        except ActorExit:
            return None
