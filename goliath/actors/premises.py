"""Where the calls of each session run: their files, gathered and laid out, and their directories.

Part of the Lieutenant actor, in its own thread: what touches the disk for long runs beside it, and
what comes of that is told to the actor as any other news.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from goliath.actors.filesending import GONE
from goliath.actors.scrutiny import are_strings
from goliath.actors.stage import LIFE_VARIABLE
from goliath.actors.workshop import Workshop
from goliath.core import node_events as nd
from goliath.core.ids import HOUSE, SessionId
from goliath.errors import ProtocolError
from goliath.record import record
from goliath.transport import messages as msg
from goliath.transport.messages import Message

_log = logging.getLogger("goliath.lieutenant")


@dataclass(frozen=True, slots=True)
class DirectoryFurnished:
    """The files of a job stand in their places; or ``error`` says why not."""

    session: SessionId
    environment: str
    directory: Path
    error: str = ""


class Landlord(Protocol):
    """What the premises need of the Lieutenant they belong to."""

    def decide(self, event: nd.NodeEvent) -> None:
        """Tell the mind."""

    def answer(self, session: SessionId, message: Message) -> None:
        """Tell a Commander."""

    def run(self, coroutine: Coroutine[Any, Any, None], name: str) -> None:
        """Run something as part of the actor."""

    def announce(self, news: DirectoryFurnished) -> None:
        """Have the actor call `Premises.on_furnished` as soon as it has time."""


@record
class Environment:
    """What a job needs around its calls, as far as it is there."""

    message: msg.DefineEnvironment
    lacking: set[str] = field(default_factory=set)
    directory: Path | None = None
    furnished: bool = False  # whether nobody writes into the directory any more


@record
class _Tenant:
    environments: dict[str, Environment] = field(default_factory=dict)
    asked: set[str] = field(default_factory=set)  # contents that it owes us
    scratch: Path | None = None  # the current directory of jobs without files


class Premises:
    """The environments of all sessions.

    Args:
        workshop: the node's directories.
        landlord: whom they belong to.
    """

    def __init__(self, workshop: Workshop, landlord: Landlord) -> None:
        self._workshop = workshop
        self._landlord = landlord
        self._tenants: dict[SessionId, _Tenant] = {}
        self._furnishing = 0

    def open(self, session: SessionId) -> None:
        """A session begins."""
        self._tenants[session] = _Tenant()

    def close(self, session: SessionId) -> None:
        """A session has ended: remove everything of it."""
        tenant = self._tenants.pop(session)
        self._workshop.forget(session)
        directories = [e.directory for e in tenant.environments.values() if e.furnished]
        self._remove([*directories, tenant.scratch])

    def find(self, session: SessionId, key: str) -> Environment | None:
        """An environment that was defined and not forgotten."""
        return self._tenants[session].environments.get(key)

    def directory(self, session: SessionId, environment: Environment) -> str:
        """The current directory of its calls."""
        scratch = self._tenants[session].scratch
        return str(environment.directory or environment.message.cwd or scratch or "")

    # -- what a Commander says -----------------------------------------------------------

    def define(self, session: SessionId, said: msg.DefineEnvironment) -> None:
        """A job has an environment of its own.

        Raises:
            ProtocolError: no honest Commander says this.
        """
        tenant = self._tenants[session]
        if said.environment in tenant.environments:
            raise ProtocolError("an environment defined twice")
        named = [*said.sys_path, *said.variables, *said.variables.values()]
        if not are_strings(named) or any("\0" in name for name in [*named, said.cwd]):
            raise ProtocolError("an environment whose variables or paths are no strings")
        environment = tenant.environments[said.environment] = Environment(said)
        try:
            environment.lacking = self._workshop.lacks(said.files)
        except ProtocolError as exc:
            self._break(session, environment, str(exc))
            return
        if environment.lacking:
            needed = environment.lacking - tenant.asked
            tenant.asked |= needed
            self._landlord.answer(session, msg.NeedFiles(sorted(needed)))
        else:
            self._furnish(session, environment)

    def receive(self, session: SessionId, said: msg.FileData) -> None:
        """A piece of a file that was asked for."""
        tenant = self._tenants[session]
        if said.sha256 not in tenant.asked:
            return  # the rest of what has failed already, or what nobody wanted
        try:
            complete = self._keep(session, said)
        except (OSError, ProtocolError) as exc:
            tenant.asked.discard(said.sha256)
            for environment in self._waiting_for(tenant, said.sha256):
                self._break(session, environment, str(exc))
            return
        if complete:
            tenant.asked.discard(said.sha256)
            for environment in self._waiting_for(tenant, said.sha256):
                environment.lacking.discard(said.sha256)
                if not environment.lacking:
                    self._furnish(session, environment)

    def forget(self, session: SessionId, key: str) -> None:
        """The job is over."""
        environment = self._tenants[session].environments.pop(key, None)
        self._landlord.decide(nd.EnvironmentForgotten(session, key))
        if environment is not None and environment.furnished:
            self._remove([environment.directory])

    # -- of detached actors ---------------------------------------------------------------

    def adopt(self, session: SessionId, key: str) -> None:
        """An environment that is furnished goes over to the node, with a detached actor."""
        house = self._tenants.setdefault(HOUSE, _Tenant())
        environment = house.environments[key] = self._tenants[session].environments.pop(key)
        if environment.directory is None and not environment.message.cwd and house.scratch is None:
            try:
                house.scratch = self._workshop.new_directory()
            except OSError as exc:
                _log.warning("detached actors have no directory to be in: %s", exc)

    def succeed(self, key: str, successor: str) -> None:
        """A detached actor lives on, in the same surroundings."""
        house = self._tenants[HOUSE].environments
        environment = house[successor] = house.pop(key)
        said = environment.message
        variables = {**said.variables, LIFE_VARIABLE: successor.rpartition(".")[2]}
        environment.message = replace(said, environment=successor, variables=variables)

    def evict(self, key: str) -> None:
        """A detached actor has ended."""
        self._remove([self._tenants[HOUSE].environments.pop(key).directory])

    # -- laying out ------------------------------------------------------------------------

    def _keep(self, session: SessionId, said: msg.FileData) -> bool:
        if said.size == GONE:
            self._workshop.abort(session, said.sha256)
            raise ProtocolError("a file vanished on the Commander's side before it was sent")
        return self._workshop.add_piece(
            session, said.sha256, said.offset, said.size, memoryview(said.payload)
        )

    @staticmethod
    def _waiting_for(tenant: _Tenant, sha256: str) -> list[Environment]:
        return [e for e in tenant.environments.values() if sha256 in e.lacking]

    def _furnish(self, session: SessionId, environment: Environment) -> None:
        said, tenant = environment.message, self._tenants[session]
        try:
            if not said.files:
                environment.furnished = True
                if not said.cwd and tenant.scratch is None:
                    tenant.scratch = self._workshop.new_directory()
                self._landlord.decide(nd.EnvironmentReady(session, said.environment))
                return
            environment.directory = self._workshop.new_directory()
        except OSError as exc:
            self._break(session, environment, str(exc))
            return
        self._furnishing += 1
        work = self._furnish_in_thread(session, said, environment.directory)
        self._landlord.run(work, "furnish a directory")

    async def _furnish_in_thread(
        self, session: SessionId, said: msg.DefineEnvironment, directory: Path
    ) -> None:
        error = ""
        try:
            await _off_loop(self._workshop.furnish, directory, said.files)
        except (OSError, ProtocolError) as exc:
            error = str(exc)
        self._landlord.announce(DirectoryFurnished(session, said.environment, directory, error))

    def on_furnished(self, news: DirectoryFurnished) -> None:
        """A directory is filled, or cannot be."""
        self._furnishing -= 1
        if not self._furnishing:
            self._workshop.trim()
        tenant = self._tenants.get(news.session)
        environment = tenant.environments.get(news.environment) if tenant is not None else None
        if environment is None or environment.directory != news.directory:
            self._remove([news.directory])  # its job ended while it was filled
            return
        environment.furnished = True
        if news.error:
            self._break(news.session, environment, news.error)
        else:
            self._landlord.decide(nd.EnvironmentReady(news.session, news.environment))

    def _break(self, session: SessionId, environment: Environment, error: str) -> None:
        environment.lacking.clear()
        key = environment.message.environment
        self._landlord.decide(nd.EnvironmentBroke(session, key, error))

    def _remove(self, directories: list[Path | None]) -> None:
        paths = [path for path in directories if path is not None]
        if paths:
            self._landlord.run(self._remove_in_thread(paths), "remove directories")

    async def _remove_in_thread(self, paths: list[Path]) -> None:
        for path in paths:
            await _off_loop(self._workshop.remove, path)


async def _off_loop(function: Callable[..., None], *args: Any) -> None:
    """Call ``function`` in a thread, or right here while the interpreter is exiting: then
    there are no new threads to be had, and nobody is left to be kept waiting."""
    try:
        work = asyncio.get_running_loop().run_in_executor(None, partial(function, *args))
    except RuntimeError:
        function(*args)
    else:
        await work
