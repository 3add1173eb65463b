"""The way into a loop's thread, for those who must not import a loop: workers, among others."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from goliath.errors import GoliathError


class PortalClosedError(GoliathError):
    """The background loop has ended, or belongs to the parent of this forked process."""


class Poster(Protocol):
    """A way into the loop's thread."""

    def post(self, function: Callable[..., object], *args: Any) -> None:
        """See `Portal.post`."""

    def inside(self) -> bool:
        """See `Portal.inside`."""
