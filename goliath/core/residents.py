"""The detached actors that live on a node, by their names and by their environments."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from goliath.core.policy import RestartIntensity
from goliath.record import record


@dataclass(slots=True, eq=False)
class Resident:
    """One detached actor. Each of its lives has an environment of its own."""

    id: str
    realm: str
    name: str
    namespace: str
    cpus: float
    resources: Mapping[str, float]
    concurrency: int
    groups: Mapping[str, int]  # how many calls of each may run at once, if there are any
    restarts: RestartIntensity
    stillbirths: RestartIntensity  # deaths before it was made
    life: int = 1
    made: bool = False  # its ``__init__`` has run, in this life
    leaving: bool = False  # by its own wish

    @property
    def environment(self) -> str:
        """Of this life."""
        return f"{self.id}.{self.life}"


@record
class Residents:
    """All of a node."""

    _by_id: dict[str, Resident] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self._by_id)

    def __iter__(self) -> Iterator[Resident]:
        return iter(self._by_id.values())

    def add(self, resident: Resident) -> None:
        """One more."""
        assert resident.id not in self._by_id, f"{resident.id} lives here already"
        self._by_id[resident.id] = resident

    def remove(self, resident: Resident) -> None:
        """One less."""
        del self._by_id[resident.id]

    def named(self, realm: str, namespace: str, name: str) -> Resident | None:
        """The one that is called so."""
        for resident in self._by_id.values():
            if (resident.realm, resident.namespace, resident.name) == (realm, namespace, name):
                return resident
        return None

    def heir(self, environment: str) -> Resident | None:
        """The one that has this environment in this life, or had it in an earlier one."""
        return self._by_id.get(id_of(environment))

    def at(self, environment: str) -> Resident | None:
        """The one that has this environment in this life."""
        heir = self.heir(environment)
        return heir if heir is not None and heir.environment == environment else None


def id_of(environment: str) -> str:
    """The actor whose environment is called so, in whatever life."""
    return environment.rpartition(".")[0]
