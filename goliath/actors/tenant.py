"""A session's part of the premises: what its jobs need around their calls, and where that is."""

from __future__ import annotations

from dataclasses import field
from itertools import chain
from pathlib import Path

from goliath.actors.installer import Packages
from goliath.record import record
from goliath.transport import messages as msg


@record
class Environment:
    """What a job needs around its calls, as far as it is there.

    Attributes:
        directory: has its files, if it has any.
        library: has the modules of the user's project that it needs, if it needs any.
        packages: those that were installed for it.
    """

    message: msg.DefineEnvironment
    lacking: set[str] = field(default_factory=set)
    directory: Path | None = None
    library: Path | None = None
    packages: Packages | None = None
    furnished: bool = False  # whether nobody writes into the directories any more
    tries: int = 0
    count: int = 0  # of its files
    size: int = 0  # of all of them, in bytes

    def records(self) -> list[list[str | int]]:
        """All files that it needs."""
        return [*self.message.files, *self.message.modules]

    def directories(self) -> list[Path | None]:
        """What is to be removed with it."""
        return [self.directory, self.library]

    def forget(self, directory: Path) -> None:
        """It is removed before it."""
        if directory == self.directory:
            self.directory = None
        if directory == self.library:
            self.library = None


@record
class Tenant:
    """A session, as far as it has directories."""

    realm: str = ""
    environments: dict[str, Environment] = field(default_factory=dict)
    asked: dict[str, int] = field(default_factory=dict)  # contents that it owes us, and their size
    scratch: Path | None = None  # the current directory of jobs without files

    def directories(self) -> set[Path]:
        """Those that its calls may write into."""
        own = [e.directories() for e in self.environments.values() if e.furnished]
        return {path for path in [*chain.from_iterable(own), self.scratch] if path is not None}

    def those_in(self, directory: Path) -> list[Environment]:
        """Whose calls write into it."""
        shared = directory == self.scratch
        return [
            environment
            for environment in self.environments.values()
            if directory in environment.directories()
            or (shared and environment.directory is None and not environment.message.cwd)
        ]

    def leave(self, directory: Path) -> None:
        """It is not to be used any more."""
        for environment in self.those_in(directory):
            environment.forget(directory)
        if directory == self.scratch:
            self.scratch = None
