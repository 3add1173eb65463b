"""Where the calls of each session run: their files, gathered and laid out, and their directories.

Part of the Lieutenant actor, in its own thread: what touches the disk for long runs beside it, and
what comes of that is told to the actor as any other news.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from dataclasses import field, replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, Protocol, TypeVar

from goliath.actors.checks import is_option
from goliath.actors.disk_gauge import bytes_below
from goliath.actors.filesending import GONE
from goliath.actors.installer import InstallError, Packages
from goliath.actors.scrutiny import are_strings
from goliath.actors.stage import LIFE_VARIABLE
from goliath.actors.tenant import Environment, Tenant
from goliath.actors.workshop import Workshop
from goliath.core import node_events as nd
from goliath.core.ids import HOUSE, SessionId
from goliath.errors import ProtocolError, size_text
from goliath.record import frozen
from goliath.transport import messages as msg
from goliath.transport.message import Message

T = TypeVar("T")

_log = logging.getLogger("goliath.lieutenant")

FILES_MAX = 100_000  # of a session, in all its jobs: each is an entry in some directory


MEASURE_INTERVAL_S = 2.0
MEASURE_SHARE = 0.1  # of a thread's time that goes into it, however many files there are
KILLED_WITHIN_S = 1.0  # workers, and what they have started

ASKED_AGAIN_MAX = 5
"""How often files are asked for again that were lost between their coming and their use."""

_LOST_TOO_OFTEN = "its files are lost on this node as often as they are sent; look at its disk"


class Landlord(Protocol):
    """What the premises need of the Lieutenant they belong to."""

    def decide(self, event: nd.NodeEvent) -> None:
        """Tell the mind."""

    def answer(self, session: SessionId, message: Message) -> None:
        """Tell a Commander."""

    def run(self, coroutine: Coroutine[Any, Any, None], name: str) -> None:
        """Run something as part of the actor."""

    def announce(self, news: Furnished) -> None:
        """Have the actor call `Premises.on_furnished` as soon as it has time."""

    def kill_workers(self, session: SessionId, environment: str) -> None:
        """Those of an environment; what else is to be said of it has been said."""


@frozen
class Furnished:
    """All that a job needs is in its place but for what was ``lost``; or ``error`` says why not."""

    session: SessionId
    environment: Environment
    lost: set[str] = field(default_factory=set)
    error: str = ""


class Premises:
    """The environments of all sessions.

    Args:
        workshop: the node's directories.
        landlord: whom they belong to.
        files_max_bytes: what the files of a session may have together; None: no limit.
    """

    def __init__(
        self, workshop: Workshop, landlord: Landlord, files_max_bytes: int | None = None
    ) -> None:
        self._files_max_bytes = files_max_bytes
        self._workshop = workshop
        self._landlord = landlord
        self._tenants: dict[SessionId, Tenant] = {}
        self._furnishing = 0
        self._measuring = False

    def open(self, session: SessionId, realm: str) -> None:
        """A session begins, by the token that ``realm`` names."""
        self._tenants[session] = Tenant(realm)
        if self._files_max_bytes is not None and not self._measuring:
            self._measuring = True
            self._landlord.run(self._keep_measuring(self._files_max_bytes), "measure directories")

    def close(self, session: SessionId) -> None:
        """A session has ended: remove everything of it."""
        tenant = self._tenants.pop(session)
        self._workshop.store.forget_sender(session)
        furnished = [e for e in tenant.environments.values() if e.furnished]
        self._remove([*chain.from_iterable(e.directories() for e in furnished), tenant.scratch])

    def forget_realm(self, realm: str) -> None:
        """A token is not accepted any more: nobody may ask for what came by it."""
        self._workshop.store.forget_realm(realm)

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
        named = [*said.sys_path, *said.variables, *said.variables.values(), *said.requirements]
        if not are_strings(named) or any("\0" in name for name in [*named, said.cwd]):
            raise ProtocolError("an environment whose variables or paths are no strings")
        if any(is_option(requirement) for requirement in said.requirements):
            raise ProtocolError("a requirement that is an option")
        environment = tenant.environments[said.environment] = Environment(said)
        if said.requirements and self._workshop.installer is None:
            self._break(session, environment, _may_not_install(said.requirements))
            return
        try:
            environment.lacking = self._workshop.lacks(tenant.realm, environment.records())
            self._measure(tenant, environment)
        except ProtocolError as exc:
            self._break(session, environment, str(exc))
            return
        self._ask_or_furnish(session, environment)

    def _ask_or_furnish(self, session: SessionId, environment: Environment) -> None:
        tenant = self._tenants[session]
        if environment.lacking:
            sizes = {str(digest): int(size) for _, _, digest, size in environment.records()}
            needed = environment.lacking - tenant.asked.keys()
            tenant.asked.update((digest, sizes[digest]) for digest in needed)
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
            tenant.asked.pop(said.sha256, None)
            for environment in self._waiting_for(tenant, said.sha256):
                self._break(session, environment, str(exc))
            return
        if complete:
            tenant.asked.pop(said.sha256, None)
            for environment in self._waiting_for(tenant, said.sha256):
                environment.lacking.discard(said.sha256)
                if not environment.lacking:
                    self._furnish(session, environment)

    def forget(self, session: SessionId, key: str) -> None:
        """The job is over."""
        environment = self._tenants[session].environments.pop(key, None)
        self._landlord.decide(nd.EnvironmentForgotten(session, key))
        if environment is not None and environment.furnished:
            self._remove(environment.directories())

    # -- of detached actors ---------------------------------------------------------------

    def adopt(self, session: SessionId, key: str) -> None:
        """An environment that is furnished goes over to the node, with a detached actor."""
        house = self._tenants.setdefault(HOUSE, Tenant())
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
        self._remove(self._tenants[HOUSE].environments.pop(key).directories())

    # -- laying out ------------------------------------------------------------------------

    def _keep(self, session: SessionId, said: msg.FileData) -> bool:
        store = self._workshop.store
        if said.size == GONE:
            store.abort(session, said.sha256)
            raise ProtocolError("a file vanished on the Commander's side before it was sent")
        if said.size != self._tenants[session].asked[said.sha256]:
            store.abort(session, said.sha256)
            raise ProtocolError("a file has changed its size on the Commander's side")
        realm, piece = self._tenants[session].realm, memoryview(said.payload)
        return store.add_piece(realm, session, said.sha256, said.offset, said.size, piece)

    def _measure(self, tenant: Tenant, environment: Environment) -> None:
        """Raise `ProtocolError` if the files of a session become too many, or too big together."""
        others, files = tenant.environments.values(), environment.records()
        count = sum(other.count for other in others) + len(files)
        if count > FILES_MAX:
            raise ProtocolError(f"{count} files of one Commander; {FILES_MAX} is the limit")
        size = sum(int(size) for _, _, _, size in files)
        total = sum(other.size for other in others) + size
        if self._files_max_bytes is not None and total > self._files_max_bytes:
            raise ProtocolError(
                f"the files of this Commander's jobs are {size_text(total)} together, and "
                f"{size_text(self._files_max_bytes)} is what this node allows "
                "(--max-files-per-session); ship fewer, or wait until another job has ended"
            )
        environment.count, environment.size = len(files), size

    async def _keep_measuring(self, most: int) -> None:
        """See to it that what calls write into their directories stays within the limit: the disk
        knows files, and the kernel one file at a time."""
        loop = asyncio.get_running_loop()
        pause_s = MEASURE_INTERVAL_S
        while True:
            await asyncio.sleep(pause_s)
            began_at = loop.time()
            for session, tenant in list(self._tenants.items()):
                if session != HOUSE:  # detached actors have no Commander who could be told why
                    await self._measure_written(session, tenant, most)
            pause_s = max(MEASURE_INTERVAL_S, (loop.time() - began_at) / MEASURE_SHARE)

    async def _measure_written(self, session: SessionId, tenant: Tenant, most: int) -> None:
        sizes = {path: await off_loop(bytes_below, path) for path in tenant.directories()}
        total = sum(sizes.values())
        if total <= most or self._tenants.get(session) is not tenant:
            return
        biggest = max(sizes, key=lambda path: sizes[path])
        error = (
            f"the directories of this Commander's jobs have grown to {size_text(total)} together, "
            f"and {size_text(most)} is what this node allows (--max-files-per-session); that of "
            f"this job has {size_text(sizes[biggest])}: have its calls write less, or delete what "
            "they need no more"
        )
        _log.warning("ended a job of %s: %s", session, error)
        for environment in tenant.those_in(biggest):
            self._break(session, environment, error)
            self._landlord.kill_workers(session, environment.message.environment)
        tenant.leave(biggest)
        await asyncio.sleep(KILLED_WITHIN_S)  # or they would write while it is removed
        await off_loop(self._workshop.remove, biggest)

    @staticmethod
    def _waiting_for(tenant: Tenant, sha256: str) -> list[Environment]:
        return [e for e in tenant.environments.values() if sha256 in e.lacking]

    def _furnish(self, session: SessionId, environment: Environment) -> None:
        said, tenant = environment.message, self._tenants[session]
        try:
            if not said.files and not said.cwd and tenant.scratch is None:
                tenant.scratch = self._workshop.new_directory()
            if said.files:
                environment.directory = self._workshop.new_directory()
            if said.modules:
                environment.library = self._workshop.new_directory()
        except OSError as exc:
            self._break(session, environment, str(exc))
            return
        if not environment.records() and not said.requirements:
            environment.furnished = True
            self._landlord.decide(nd.EnvironmentReady(session, said.environment))
            return
        self._furnishing += 1
        work = self._furnish_in_thread(session, tenant.realm, environment)
        self._landlord.run(work, "furnish a directory")

    async def _furnish_in_thread(
        self, session: SessionId, realm: str, environment: Environment
    ) -> None:
        said, lost, error = environment.message, set[str](), ""
        furnish = self._workshop.furnish
        try:
            if environment.directory is not None:
                lost |= await off_loop(furnish, realm, environment.directory, said.files)
            if environment.library is not None:
                lost |= await off_loop(furnish, realm, environment.library, said.modules)
            if said.requirements and not lost:
                environment.packages = await self._installed(said.requirements)
        except (OSError, ProtocolError, InstallError) as exc:
            error = str(exc)
        self._landlord.announce(Furnished(session, environment, lost, error))

    async def _installed(self, requirements: list[str]) -> Packages:
        assert self._workshop.installer is not None, "it was refused, else"
        try:
            return await self._workshop.installer.packages(requirements)
        except InstallError as exc:
            raise InstallError(f"the packages {requirements} cannot be installed: {exc}") from exc

    def on_furnished(self, news: Furnished) -> None:
        """Directories are filled, or cannot be."""
        self._furnishing -= 1
        tenant, environment = self._tenants.get(news.session), news.environment
        known = tenant and tenant.environments.get(environment.message.environment)
        if not self._furnishing:
            self._workshop.store.trim()
        if known is not environment:
            self._remove(environment.directories())  # its job ended while they were filled
        elif news.lost and not news.error and environment.tries < ASKED_AGAIN_MAX:
            environment.tries += 1
            self._remove(environment.directories())
            environment.directory = environment.library = None
            environment.lacking = set(news.lost)
            self._ask_or_furnish(news.session, environment)
        else:
            environment.furnished = True
            error = news.error or (_LOST_TOO_OFTEN if news.lost else "")
            if error:
                self._break(news.session, environment, error)
            else:
                key = environment.message.environment
                self._landlord.decide(nd.EnvironmentReady(news.session, key))

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
            await off_loop(self._workshop.remove, path)


def _may_not_install(requirements: list[str]) -> str:
    return (
        f"the job asks for the packages {requirements}, and this node installs none; start it with "
        "--allow-install, or have them installed there and say requirements=[]"
    )


async def off_loop(function: Callable[..., T], *args: Any) -> T:
    """Call ``function`` in a thread, or right here while the interpreter is exiting: then
    there are no new threads to be had, and nobody is left to be kept waiting."""
    try:
        work = asyncio.get_running_loop().run_in_executor(None, partial(function, *args))
    except RuntimeError:
        return function(*args)
    return await work
