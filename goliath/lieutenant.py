"""The node command: ``python -m goliath.lieutenant HOST PORT [WORKERS]``.

Parses, wires, and gets out of the way. What a Lieutenant does is in
`goliath.actors.lieutenant`; how it is reached, in `goliath.transport.listener`.
"""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import os
import random
import signal
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from goliath.actors.cellar import Cellar
from goliath.actors.embedded import arena_bytes, node_installer, node_policy
from goliath.actors.fences import Fences
from goliath.actors.gatehouse import Gatehouse
from goliath.actors.lieutenant import LieutenantActor
from goliath.actors.nursery import Nursery
from goliath.actors.occupancy import Occupancy
from goliath.actors.portal import new_event_loop
from goliath.actors.reception import Drain, EndWork, NodesJoined, SessionUp
from goliath.actors.system import ActorSystem
from goliath.actors.workshop import Workshop
from goliath.clock import BootClock
from goliath.config import KIB, NodeConfig, TransportConfig
from goliath.control_groups import Estate
from goliath.core.ids import SessionId
from goliath.core.node import Node
from goliath.machine import hide_memory, machine_name, total_memory
from goliath.node_options import (
    Joining,
    LieutenantOptions,
    RefusedConfigurationError,
    options_from,
    read_arguments,
)
from goliath.transport.credentials import RuntimeFile
from goliath.transport.guard import door_limits
from goliath.transport.handshake import SESSION
from goliath.transport.identity import Identity
from goliath.transport.keys import fingerprint_of, tls_binding
from goliath.transport.malloc import keep_freed_memory
from goliath.transport.private_files import cache_directory
from goliath.transport.sockets import why_not_bound
from goliath.transport.tls import without_authorities

if TYPE_CHECKING:
    from goliath.transport.channel import Channel
    from goliath.transport.handshake import Peer
    from goliath.transport.joiner import Joiner
    from goliath.transport.lobby import Waiting
    from goliath.transport.sessions import GrantedSessions

OK, REFUSED, CANNOT_BIND, NOT_LET_IN, BROKEN = 0, 2, 3, 4, 70

ADDED_MAX_BYTES = 64 * KIB
"""What a Lieutenant adds at most to what a worker has said, when it passes that on."""

SILENT_S = 0.5
"""Whoever has stopped a node and sees nothing for longer wants to know what it waits for."""

_log = logging.getLogger("goliath.lieutenant")


class _Server:
    """One Lieutenant from start to end."""

    def __init__(self, options: LieutenantOptions) -> None:
        self._options = options
        transport = TransportConfig.from_environ()
        most = min(transport.message_max_bytes, total_memory() // 2)  # it is gathered in memory
        self._transport = replace(transport, message_max_bytes=most)
        self._ended = asyncio.Event()
        self._signals = 0
        self._failure: BaseException | None = None

    async def serve(self) -> int:
        """Run until told to stop; the exit code."""
        options = self._options
        config = NodeConfig.from_environ()
        # Where the token goes with this process, nobody could ask for what was left.
        kept = options.token is not None or options.token_file is not None
        workshop = Workshop(
            config.store_bytes,
            cache_directory() / "files" if kept else None,
            node_installer(config) if options.allow_install else None,
        )
        allowed = options.allowance
        fences = Fences(allowed, Estate)
        most = self._transport.message_max_bytes - ADDED_MAX_BYTES
        nursery = Nursery(config, lambda: actor.zygote_died(), fences, most)
        # The zygote first: it makes itself ready while aiohttp is imported.
        await nursery.start()
        with without_authorities():
            import aiohttp  # noqa: F401 - now, before anything else of it is imported
        system = ActorSystem(on_failure=self._on_failure)
        cellar = Cellar([workshop.root, cache_directory()], config.spill_bytes)
        policy = node_policy(
            config, options.tasks_per_worker_max, options.bytes_per_worker_max, cellar.limit
        )
        mind = Node(options.workers, options.resources, policy, options.devices)
        actor = LieutenantActor(
            mind,
            nursery,
            workshop,
            on_drained=self._ended.set,
            cellar=cellar,
            occupancy=Occupancy(allowed.node_bytes or total_memory(), fences.memory, serves=True),
            arena_bytes=arena_bytes(config, allowed.node_bytes, allowed.session_bytes),
            weighs=options.bytes_per_worker_max is not None,
            limits=[*door_limits(self._transport), *fences.limits()],
            files_max_bytes=allowed.session_file_bytes,
        )
        self._ref = system.spawn(lambda: actor, "lieutenant")
        try:
            return await (self._listen() if options.join is None else self._join(options.join))
        finally:
            await system.stop()
            await nursery.close()
            fences.close()
            cellar.close()
            workshop.close()

    async def _listen(self) -> int:
        from goliath.transport.listener import Listener
        from goliath.transport.lobby import ANSWER, JOIN, RELAY, Lobby
        from goliath.transport.sessions import GrantedSessions

        options = self._options
        gatehouse = Gatehouse(options.token, options.token_file, self._ref.tell)
        clock = BootClock()
        sessions = GrantedSessions(
            self._transport,
            clock,
            on_session=partial(self._on_session, gatehouse),
            limits=lambda kid: self._limits(gatehouse.slots(kid, options.workers)),
        )
        lobby = Lobby(self._transport, clock, on_change=partial(self._on_nodes_joined, gatehouse))
        listener = Listener(
            options.host,
            options.port,
            gatehouse.tokens(),
            options.tls,
            self._transport,
            clock,
            hosts={SESSION: sessions, JOIN: lobby, ANSWER: lobby, RELAY: lobby},
            renewed=gatehouse.renewed,
            public_name=options.public_name,
            prefix=options.path_prefix,
        )
        try:
            await listener.start()
        except OSError as exc:
            return _cannot_start(options, exc)
        runtime = RuntimeFile(listener.port)
        host_here = options.host_here
        if host_here is not None:
            runtime.write(
                gatehouse.own.token,
                scheme="wss" if options.tls else "ws",
                host=host_here,
                port=listener.port,
            )
        if options.tls is not None:
            _log.info("certificate %s", fingerprint_of(tls_binding(options.tls.certificate())))
        try:
            self._settle_down()
            self._say(f"ready on {options.host}:{listener.port}")
            await self._told.wait()
            await listener.stop_accepting()
            await self._drain()
        finally:
            if host_here is not None:
                runtime.remove()
            self._ref.tell(EndWork())
            await listener.close()
        return BROKEN if self._failure is not None else OK

    async def _join(self, joining: Joining) -> int:
        from goliath.transport.joiner import Joiner
        from goliath.transport.road import DirectRoad
        from goliath.transport.sessions import GrantedSessions

        transport, clock = self._transport, BootClock()
        address, place = joining.address, str(joining.address)
        sessions = GrantedSessions(
            transport,
            clock,
            on_session=self._on_session_there,
            limits=lambda kid: self._limits(self._options.workers),
        )
        outage, identity = Outage(place), Identity.take()

        def on_joined() -> None:
            outage.over()
            self._say(f"joined {place}")

        joiner = Joiner(
            DirectRoad(
                address,
                joining.credentials,
                transport,
                tls=joining.tls,
                whom="Commander or Lieutenant",
                remedy="start this node with the right one: --token-file or GOLIATH_TOKEN_FILE",
            ),
            sessions,
            transport,
            clock,
            random.Random(),
            node=identity.id,
            name=machine_name(),
            on_joined=on_joined,
            on_trouble=outage.note,
        )
        self._settle_down()
        try:
            return await self._until_sent_away(joiner, sessions)
        finally:
            identity.release()

    async def _until_sent_away(self, joiner: Joiner, sessions: GrantedSessions) -> int:
        async with asyncio.TaskGroup() as tasks:
            joined = tasks.create_task(joiner.run())
            told = tasks.create_task(self._told.wait())
            await asyncio.wait({joined, told}, return_when=asyncio.FIRST_COMPLETED)
            told.cancel()
            if joined.done():
                print(f"goliath lieutenant: not let in: {joined.result()}", file=sys.stderr)
                return NOT_LET_IN
            sessions.drain()
            await self._drain()
            self._ref.tell(EndWork())
            await sessions.send_away(lambda kid: False)
            joined.cancel()
        return BROKEN if self._failure is not None else OK

    def _on_session_there(self, channel: Channel, peer: Peer) -> None:
        _log.info("a Commander has logged in by way of %s", peer.address)
        self._ref.tell(SessionUp(SessionId(peer.session_id), channel, peer.kid))

    def _limits(self, slots: int) -> dict[str, Any]:
        return {"slots": slots, "resources": self._options.resources}

    def _settle_down(self) -> None:
        self._catch_signals()
        gc.collect()
        gc.freeze()

    def _say(self, what: str) -> None:
        workers = self._options.workers
        print(f"goliath lieutenant {what}, {workers} workers, pid {os.getpid()}", flush=True)

    def _on_nodes_joined(self, gatehouse: Gatehouse, kid: str, waiting: list[Waiting]) -> None:
        entry = gatehouse.entry(kid)
        names = ", ".join(node.name for node in waiting) or "nobody"
        _log.info("joined with the token %r: %s", entry.name if entry is not None else "?", names)
        self._ref.tell(NodesJoined(kid, [[node.id, node.name] for node in waiting]))

    def _on_session(self, gatehouse: Gatehouse, channel: Channel, peer: Peer) -> None:
        entry = gatehouse.entry(peer.kid)
        name = entry.name if entry is not None else "?"
        _log.info("%s has logged in with the token %r", peer.address, name)
        gatehouse.let_in(SessionUp(SessionId(peer.session_id), channel, peer.kid))

    def _catch_signals(self) -> None:
        loop = asyncio.get_running_loop()
        self._told = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_signal, number)

    def _on_signal(self, number: int) -> None:
        self._signals += 1
        _log.info("signal %d: %s", number, "draining" if self._signals == 1 else "ending now")
        self._told.set()
        if self._signals > 1:
            self._ended.set()

    async def _drain(self) -> None:
        if self._failure is not None:
            return
        self._ref.tell(Drain())
        most = self._options.drain_timeout_s
        silent = min(SILENT_S, most)
        if await self._has_ended(silent):
            return
        if most > silent:
            _log.warning(
                "draining: calls still run, and have up to %g s; a second signal ends them now",
                most,
            )
        if not await self._has_ended(most - silent):
            _log.warning("calls still ran after %g s of draining; they are ended now", most)

    async def _has_ended(self, within_s: float) -> bool:
        try:
            async with asyncio.timeout(within_s):
                await self._ended.wait()
        except TimeoutError:
            return False
        return True

    def _on_failure(self, error: BaseException) -> None:
        self._failure = self._failure or error
        _log.critical("broken, please report this: %s", error, exc_info=error)
        self._ended.set()
        if hasattr(self, "_told"):
            self._told.set()


class Outage:
    """While a node that dials out is not let in or does not get there: said once, in the log."""

    def __init__(self, place: str) -> None:
        self._place = place
        self._said = ""

    def note(self, error: Exception) -> None:
        """An attempt has failed, and will be repeated."""
        if str(error) != self._said:
            self._said = str(error)
            _log.warning("not at %s, and dialing again until it answers: %s", self._place, error)

    def over(self) -> None:
        """It has got there."""
        self._said = ""


def _cannot_start(options: LieutenantOptions, exc: OSError) -> int:
    place = f"{options.host}:{options.port}"
    print(f"goliath lieutenant: cannot listen on {place}: {why_not_bound(exc)}", file=sys.stderr)
    return CANNOT_BIND


class _JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        fields = {
            "time": self.formatTime(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)
        return json.dumps(fields)


_ANOTHER_PYTHON = "run the one into which Goliath was installed, such as .venv/bin/python"


def _configure_logging(level: str, format_: str) -> None:
    handler = logging.StreamHandler()
    if format_ == "json":
        handler.setFormatter(_JsonFormatter())
    else:
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=level.upper(), handlers=[handler])


def main(argv: Sequence[str] | None = None, program: str = "python -m goliath.lieutenant") -> int:
    """Run a Lieutenant until it is told to stop; its exit code."""
    arguments = read_arguments(argv, program)
    keep_freed_memory()
    hide_memory()
    _configure_logging(arguments.log_level, arguments.log_format)
    try:
        options = options_from(arguments)
    except RefusedConfigurationError as exc:
        print(f"{program}: {exc}", file=sys.stderr)
        return REFUSED
    try:
        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            return runner.run(_Server(options).serve())
    except ModuleNotFoundError as exc:
        if exc.name != "aiohttp":
            raise
        print(f"{program}: {sys.executable} has no {exc.name}; {_ANOTHER_PYTHON}", file=sys.stderr)
        return REFUSED


if __name__ == "__main__":
    sys.exit(main())
