"""The node command: ``python -m goliath.lieutenant HOST PORT [WORKERS]``.

Parses, wires, and gets out of the way. What a Lieutenant does is in
`goliath.actors.lieutenant`; how it is reached, in `goliath.transport.listener`.
"""

from __future__ import annotations

import asyncio
import errno
import gc
import json
import logging
import os
import signal
import sys
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from goliath.actors.embedded import arena_bytes, node_policy
from goliath.actors.gatehouse import Gatehouse
from goliath.actors.lieutenant import LieutenantActor
from goliath.actors.nursery import Nursery
from goliath.actors.portal import new_event_loop
from goliath.actors.reception import Drain, SessionUp
from goliath.actors.system import ActorSystem
from goliath.actors.workshop import Workshop
from goliath.clock import BootClock
from goliath.config import NodeConfig, TransportConfig
from goliath.core.ids import SessionId
from goliath.core.node import Node
from goliath.machine import hide_memory
from goliath.node_options import (
    LieutenantOptions,
    RefusedConfigurationError,
    options_from,
    parser,
)
from goliath.transport.credentials import RuntimeFile
from goliath.transport.keys import fingerprint_of, tls_binding
from goliath.transport.malloc import keep_freed_memory

if TYPE_CHECKING:
    from goliath.transport.channel import Channel
    from goliath.transport.handshake import Peer
    from goliath.transport.listener import Listener

OK, REFUSED, CANNOT_BIND, BROKEN = 0, 2, 3, 70

_log = logging.getLogger("goliath.lieutenant")


class _Server:
    """One Lieutenant from start to end."""

    def __init__(self, options: LieutenantOptions) -> None:
        self._options = options
        self._ended = asyncio.Event()
        self._signals = 0
        self._failure: BaseException | None = None

    async def serve(self) -> int:
        """Run until told to stop; the exit code."""
        options = self._options
        config = NodeConfig.from_environ()
        workshop = Workshop()
        nursery = Nursery(config, lambda: actor.zygote_died())
        # The zygote first: it makes itself ready while aiohttp is imported.
        await nursery.start()
        system = ActorSystem(on_failure=self._on_failure)
        policy = node_policy(config, options.tasks_per_worker_max, options.bytes_per_worker_max)
        mind = Node(options.workers, options.resources, policy, options.devices)
        actor = LieutenantActor(
            mind,
            nursery,
            workshop,
            on_drained=self._ended.set,
            arena_bytes=arena_bytes(config),
            weighs=options.bytes_per_worker_max is not None,
        )
        self._ref = system.spawn(lambda: actor, "lieutenant")
        try:
            return await self._listen()
        finally:
            await system.stop()
            await nursery.close()
            workshop.close()

    async def _listen(self) -> int:
        from goliath.transport.listener import Listener

        options = self._options
        gatehouse = Gatehouse(options.token, options.token_file, self._ref.tell)
        listener = Listener(
            options.host,
            options.port,
            gatehouse.tokens(),
            options.tls,
            TransportConfig.from_environ(),
            BootClock(),
            on_session=partial(self._on_session, gatehouse),
            limits=lambda kid: {
                "slots": gatehouse.slots(kid, options.workers),
                "resources": options.resources,
            },
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
            self._catch_signals()
            gc.collect()
            gc.freeze()
            print(
                f"goliath lieutenant ready on {options.host}:{listener.port}, "
                f"{options.workers} workers, pid {os.getpid()}",
                flush=True,
            )
            await self._until_end(listener)
        finally:
            if host_here is not None:
                runtime.remove()
            await listener.close()
        return BROKEN if self._failure is not None else OK

    def _on_session(self, gatehouse: Gatehouse, channel: Channel, peer: Peer) -> None:
        entry = gatehouse.entry(peer.kid)
        name = entry.name if entry is not None else "?"
        _log.info("%s has logged in with the token %r", peer.address, name)
        self._ref.tell(SessionUp(SessionId(peer.session_id), channel, peer.kid))

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

    async def _until_end(self, listener: Listener) -> None:
        await self._told.wait()
        if self._failure is not None:
            return
        await listener.stop_accepting()
        self._ref.tell(Drain())
        try:
            async with asyncio.timeout(self._options.drain_timeout_s):
                await self._ended.wait()
        except TimeoutError:
            _log.warning(
                "calls still ran after %g s of draining; they are ended now",
                self._options.drain_timeout_s,
            )

    def _on_failure(self, error: BaseException) -> None:
        self._failure = self._failure or error
        _log.critical("broken, please report this: %s", error, exc_info=error)
        self._ended.set()
        if hasattr(self, "_told"):
            self._told.set()


def _cannot_start(options: LieutenantOptions, exc: OSError) -> int:
    place = f"{options.host}:{options.port}"
    if exc.errno == errno.EADDRINUSE:
        reason = "another program listens there; choose another port, or 0 for a free one"
    elif exc.errno == errno.EACCES:
        reason = "this user may not listen there; choose a port above 1023"
    else:
        reason = exc.strerror or str(exc)
    print(f"goliath lieutenant: cannot listen on {place}: {reason}", file=sys.stderr)
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


def _configure_logging(level: str, format_: str) -> None:
    handler = logging.StreamHandler()
    if format_ == "json":
        handler.setFormatter(_JsonFormatter())
    else:
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=level.upper(), handlers=[handler])


def main(argv: Sequence[str] | None = None, program: str = "python -m goliath.lieutenant") -> int:
    """Run a Lieutenant until it is told to stop; its exit code."""
    arguments = parser(program).parse_args(argv)
    keep_freed_memory()
    hide_memory()
    _configure_logging(arguments.log_level, arguments.log_format)
    try:
        options = options_from(arguments)
    except RefusedConfigurationError as exc:
        print(f"{program}: {exc}", file=sys.stderr)
        return REFUSED
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        return runner.run(_Server(options).serve())


if __name__ == "__main__":
    sys.exit(main())
