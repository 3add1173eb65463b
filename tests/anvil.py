"""What the forge of the tests (`tests.forge`) forks its processes from: it has imported what they
need, has neither thread nor loop, and ends with the process that has started it.

An order is a JSON object: ``command``, ``env``, ``cwd`` and ``limits`` (triples of `setrlimit`).
Three descriptors come with it. It says ``born`` of each process, and ``ended`` with its status.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import os
import resource
import selectors
import signal
import socket
import sys
import tempfile
import types
import warnings
from pathlib import Path
from typing import Any

from tests.forge import ORDER_MAX_BYTES

NEEDED = [
    # what a Lieutenant imports when it knows that it is one, and whose end it is
    "uvloop",
    "goliath.lieutenant",
    "goliath.transport.joiner",
    "goliath.transport.listener",
    "goliath.transport.lobby",
    "goliath.transport.road",
    "goliath.transport.sessions",
    # a Commander of some, and its actors and streams
    "goliath.actor_class",
    "goliath.actors.cluster",
    "goliath.actors.detached",
    "goliath.actors.outcomes",
    "goliath.actors.ref_generator",
    "goliath.actors.streams",
    "goliath.commander",
    "goliath.refs",
    "goliath.remote_function",
    "goliath.runtime",
    "goliath.transport.dialer",
]


class Anvil:
    """Forks what it is asked for, until there is nobody left to ask."""

    def __init__(self, asked: socket.socket) -> None:
        self._asked = asked
        self._living: dict[int, int] = {}  # by pid, the pidfd of each
        self._selector = selectors.DefaultSelector()
        self._selector.register(asked, selectors.EVENT_READ)

    def serve(self) -> dict[str, Any] | None:
        """In each process that was forked, its order; in this one None, at the end."""
        while True:
            for key, _ in self._selector.select():
                if key.fileobj is not self._asked:
                    self._bury(key.data)
                    continue
                order, fds, _, _ = socket.recv_fds(self._asked, ORDER_MAX_BYTES, 3)
                if not order:
                    return self._end()
                pid = os.fork()
                if not pid:
                    self._forget()
                    _take(fds)
                    told: dict[str, Any] = json.loads(order)
                    return told
                for fd in fds:
                    os.close(fd)
                self._living[pid] = os.pidfd_open(pid)
                self._selector.register(self._living[pid], selectors.EVENT_READ, pid)
                self._tell({"born": pid})

    def _bury(self, pid: int) -> None:
        _, status = os.waitpid(pid, 0)
        pidfd = self._living.pop(pid)
        self._selector.unregister(pidfd)
        os.close(pidfd)
        self._tell({"ended": pid, "status": status})

    def _tell(self, news: dict[str, int]) -> None:
        self._asked.send(json.dumps(news).encode())

    def _end(self) -> None:
        for pid in self._living:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)

    def _forget(self) -> None:
        self._selector.close()
        self._asked.close()
        for pidfd in self._living.values():
            os.close(pidfd)


def _take(fds: list[int]) -> None:
    for number, fd in enumerate(fds):
        os.dup2(fd, number)
        os.close(fd)


def main() -> None:
    """Serve; or, in a process that has been forked, be what was ordered."""
    asked = socket.socket(fileno=int(sys.argv[1]))
    asked.set_inheritable(False)
    exit_code: list[int] = []
    atexit.register(_leave, exit_code)  # before anything imported registers, so behind all that
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of the terminal: it is the test run's
    from goliath.transport.tls import without_authorities

    with without_authorities():
        for name in NEEDED:
            importlib.import_module(name)
    gc.collect()
    gc.freeze()  # so a collection in a child does not make it copy all of that
    order = Anvil(asked).serve()
    if order is not None:
        try:
            _become(order)
        except SystemExit as exc:
            if isinstance(exc.code, int | None):
                exit_code.append(exc.code or 0)
            raise
        exit_code.append(0)


def _leave(exit_code: list[int]) -> None:
    """Take nothing apart that the kernel does away with: an interpreter needs 40 ms for that."""
    if exit_code:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(exit_code[0])


def _become(order: dict[str, Any]) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for which, soft, hard in order["limits"]:
        resource.setrlimit(which, (soft, hard))
    os.environ.clear()
    os.environ.update(order["env"])
    os.chdir(order["cwd"])
    tempfile.tempdir = None  # it is another one with each TMPDIR
    _, *command = order["command"]
    if command[:2] == ["-W", "error"]:
        del command[:2]
        sys.warnoptions.append("error")
        warnings.simplefilter("error")
    if command[0] == "-m":
        _run_module(command[1], command[2:])
    else:
        _run_script(command)


def _run_module(name: str, arguments: list[str]) -> None:
    module = importlib.import_module(name)
    sys.path[0] = os.getcwd()
    sys.argv = [str(module.__file__), *arguments]
    sys.exit(module.main(arguments))


def _run_script(command: list[str]) -> None:
    path = os.path.abspath(command[0])
    sys.path[0] = os.path.dirname(path)
    sys.argv = command
    module = types.ModuleType("__main__")
    module.__file__ = path
    sys.modules["__main__"] = module
    exec(compile(Path(path).read_bytes(), path, "exec"), module.__dict__)


if __name__ == "__main__":
    main()
