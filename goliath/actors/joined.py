"""Which nodes have joined where, as far as a Commander has been told."""

from __future__ import annotations

from collections.abc import Sequence

from goliath.actors.link import Place


class JoinedNodes:
    """All lists that were told, the last one of each Lieutenant and of the Commander's own door."""

    def __init__(self) -> None:
        self._lists: dict[str, dict[str, Place]] = {}

    def __contains__(self, address: str) -> bool:
        return any(address in listed for listed in self._lists.values())

    def listed(self, via: str, places: Sequence[Place]) -> tuple[list[Place], list[str]]:
        """Take note of a list; who is new on it, and the addresses that are not any more."""
        before = self._lists.get(via, {})
        now = self._lists[via] = {place.address: place for place in places}
        new = [place for address, place in now.items() if address not in before]
        return new, [address for address in before if address not in now]

    def of_realm(self, realm: str) -> list[str]:
        """The addresses of those that have joined the Commander itself with that token."""
        return [
            address for address, place in self._lists.get("", {}).items() if place.realm == realm
        ]
