"""Where worker processes come from: the Lieutenant's link to its zygote.

The zygote is a fresh interpreter, started with `subprocess` and never forked from here, so it
works in any user's process: it needs no ``__main__`` guard, and it is in a session of its own,
so that Ctrl-C does not reach the workers. If it dies, the workers live on, and the next
one is told to guard them.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import socket
import subprocess
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from goliath.actors.fences import Fences
from goliath.actors.line import READ_BYTES
from goliath.actors.memory_gauge import LOOK_EVERY_S
from goliath.actors.page import Page, create_page_file
from goliath.actors.process import ParentEnds, Process, ProcessEvents
from goliath.actors.rights import (
    Records,
    close_all,
    pack_record,
    receive_with_fds,
    send_with_fds,
)
from goliath.actors.spec import WorkerSpec
from goliath.actors.tenancy import Tenancy
from goliath.actors.zygote_process import ZygoteProcess, widen
from goliath.config import NodeConfig
from goliath.core.ids import WorkerId
from goliath.record import record
from goliath.transport.blocking import FRAME_MAX_BYTES

REAP_MAX_S = 1.0
_READ_BYTES = 1 << 16
CLOSE_MAX_S = 2.5  # for the zygote to end everybody; then it is killed too


class Nursery:
    """One zygote, and the processes forked from it and from the zygotes before it.

    Args:
        config: how much of a worker's last words to keep.
        on_zygote_exit: called when the zygote has died by itself; call `start` again then.
        fences: around the workers of each session; by default there are none.
        frame_max_bytes: what a worker may send at a time: it has to fit a message to a Commander.
    """

    def __init__(
        self,
        config: NodeConfig,
        on_zygote_exit: Callable[[], None],
        fences: Fences | None = None,
        frame_max_bytes: int = FRAME_MAX_BYTES,
    ) -> None:
        self._frame_max_bytes = frame_max_bytes
        self._config = config
        self._on_zygote_exit = on_zygote_exit
        self._fences = fences or Fences()
        self._processes: dict[WorkerId, Process] = {}
        self._buffer = bytearray(READ_BYTES)
        self._look: asyncio.TimerHandle | None = None
        self._preloaded: list[str] = []
        self._link: _ZygoteLink | None = None
        self._empty = asyncio.Event()
        self._empty.set()

    @property
    def zygote_pid(self) -> int | None:
        """The pid of the zygote, while there is one."""
        return self._link.pid if self._link else None

    async def start(self, zygote: ZygoteProcess | None = None) -> None:
        """Start a zygote, or take one that was started; it makes itself ready while the caller
        goes on.

        Raises:
            OSError: no process could be started.
        """
        assert self._link is None, "there is a zygote already"
        self._link = _ZygoteLink(self._on_reply, self._on_link_end, zygote or ZygoteProcess())
        for process in self._processes.values():
            if process.pid is not None:
                fds = [process.pidfd] if process.pidfd >= 0 else []
                guard = {"guard": process.worker, "pid": process.pid, "tag": process.tag}
                self._link.send({**guard, "pidfds": len(fds)}, fds)
        if self._preloaded:
            self._link.send({"preload": self._preloaded}, [])

    def preload(self, modules: Sequence[str]) -> None:
        """Have the zygote import what the workers that are forked from now on will need."""
        if not self._preloaded:
            self._preloaded = list(modules)
            if self._link is not None:
                self._link.send({"preload": self._preloaded}, [])

    def fork(
        self,
        worker: WorkerId,
        spec: WorkerSpec,
        events: ProcessEvents,
        session: str,
        tenancy: Tenancy | None = None,
    ) -> Process:
        """A new process, within the fence of a session. Returns at once; if there is no zygote
        now, it is never born.

        Args:
            worker: what it is called.
            spec: what it is told.
            events: who hears of it.
            tenancy: its part in an arena.

        Raises:
            OSError: too many open files, or there can be no fence.
        """
        tag = secrets.token_hex(8)
        fence = self._fences.enter(session)
        try:
            ends, fds = _pair_of_ends(tag, tenancy)
        except OSError:
            self._leave(session)
            raise
        process = Process(
            worker,
            tag,
            ends,
            events,
            lambda process: self._on_concluded(process, session),
            buffer=self._buffer,
            gauge=fence.gauge,
            tail_bytes=self._config.stderr_tail_bytes,
            frame_max_bytes=self._frame_max_bytes,
            tenancy=tenancy,
        )
        self._processes[worker] = process
        self._empty.clear()
        if self._look is None:
            self._keep_looking()
        if self._link is None:
            close_all(fds)
            asyncio.get_running_loop().call_soon(process.abandon)
        else:
            request = {
                "fork": worker,
                "tag": tag,
                "spec": replace(spec, frame_max_bytes=self._frame_max_bytes).to_json(),
                "group": fence.paths,
                "rlimits": self._fences.rlimits,
            }
            self._link.send(request, fds, then_close=True)
        return process

    async def close(self) -> None:
        """Kill every worker and the zygote, and bury them. All are told of first."""
        for process in self._processes.values():
            process.kill()
        if self._link is not None:
            self._link.finish()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_MAX_S):
                await self._empty.wait()
        if self._link is not None:
            await self._link.close()
            self._link = None
        for process in list(self._processes.values()):
            process.abandon(at_once=True)

    # -- news ---------------------------------------------------------------------------

    def _on_reply(self, reply: dict[str, Any], pidfds: deque[int]) -> None:
        if "forked" in reply:
            process = self._processes.get(WorkerId(reply["forked"]))
            # With too many files open, it does not arrive: then the zygote alone tells of the end.
            pidfd = pidfds.popleft() if reply.get("pidfds") and pidfds else -1
            if process is None:
                close_all([pidfd] if pidfd >= 0 else [])
            elif reply["pid"]:
                process.born(reply["pid"], pidfd)
            else:
                process.not_born(reply["error"])
        elif "exited" in reply:
            process = self._processes.get(WorkerId(reply["exited"]))
            if process is not None:
                process.ended(reply["status"], reply["peak"])

    def _on_link_end(self) -> None:
        self._link = None
        for process in list(self._processes.values()):
            process.abandon()
        self._on_zygote_exit()

    def _on_concluded(self, process: Process, session: str) -> None:
        del self._processes[process.worker]
        self._leave(session)
        if not self._processes:
            self._empty.set()
            if self._look is not None:
                self._look.cancel()
                self._look = None

    def _keep_looking(self) -> None:
        self._fences.look()
        self._look = asyncio.get_running_loop().call_later(LOOK_EVERY_S, self._keep_looking)

    def _leave(self, session: str) -> None:
        left, unneeded = self._fences.leave(session), self._fences.give_up()
        if self._link is None or self._link.gone:
            return
        if left:
            self._link.send({"clear": left}, [])
        if unneeded:
            self._link.send({"disband": unneeded, "home": self._fences.home}, [])


class _ZygoteLink:
    """The zygote's process and its control socket."""

    def __init__(
        self,
        on_reply: Callable[[dict[str, Any], deque[int]], None],
        on_end: Callable[[], None],
        zygote: ZygoteProcess,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._on_reply = on_reply
        self._on_end = on_end
        self._sock, self._process = zygote.sock, zygote.process
        self._records = Records()
        self._pidfds: deque[int] = deque()
        self._unsent: deque[_Request] = deque()
        self._finishing = False
        self._gone = asyncio.Event()
        self._loop.add_reader(self._sock, self._on_readable)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def gone(self) -> bool:
        """Whether the zygote is: nothing can be sent to it."""
        return self._gone.is_set()

    def send(self, data: dict[str, Any], fds: list[int], *, then_close: bool = False) -> None:
        """Send a request with copies of ``fds``, which are closed then if that is asked for."""
        if not then_close:
            fds = [os.dup(fd) for fd in fds]  # they may be closed before the zygote reads
        self._unsent.append(_Request(memoryview(pack_record(data)), fds))
        if len(self._unsent) == 1:
            self._push()

    def finish(self) -> None:
        """Tell the zygote to end everybody, and itself; its reports still arrive."""
        self._finishing = True
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_WR)

    async def close(self) -> None:
        """See the zygote end, or end it."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_MAX_S):
                await self._gone.wait()
        self._end()

    def _push(self) -> None:
        """Send as much as the socket takes; the rest when it takes more."""
        while self._unsent:
            request = self._unsent[0]
            try:
                sent = send_with_fds(self._sock, request.data, request.fds)
            except BlockingIOError:
                self._loop.add_writer(self._sock, self._push)
                return
            except OSError:
                sent = len(request.data)  # nobody reads it: the reading side will hear of it
            request.data = request.data[sent:]
            close_all(request.fds)
            request.fds = []
            if not len(request.data):
                self._unsent.popleft()
        self._loop.remove_writer(self._sock)

    def _on_readable(self) -> None:
        try:
            data, fds = receive_with_fds(self._sock, _READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data, fds = b"", []
        self._pidfds.extend(fds)
        if not data:
            self._end()
        for reply in self._records.feed(data):
            self._on_reply(reply, self._pidfds)

    def _end(self) -> None:
        if self._gone.is_set():
            return
        self._gone.set()
        self._loop.remove_reader(self._sock)
        self._loop.remove_writer(self._sock)
        self._sock.close()
        for request in self._unsent:
            close_all(request.fds)
        close_all(self._pidfds)
        self._process.kill()
        try:
            self._process.wait(REAP_MAX_S)
        except subprocess.TimeoutExpired:
            self._process.returncode = -9  # unkillable for now: init will bury it
        if not self._finishing:
            self._on_end()


@record
class _Request:
    """What of a request has not been sent, and the descriptors that go with its first byte."""

    data: memoryview
    fds: list[int]


def _pair_of_ends(tag: str, tenancy: Tenancy | None) -> tuple[ParentEnds, list[int]]:
    """What the parent keeps, and what the worker is born with, in the order of `birth`."""
    opened: list[int] = []
    try:
        for _ in range(2):
            opened += (sock.detach() for sock in socket.socketpair())
        for _ in range(2):
            opened += os.pipe()
        page_w = create_page_file(tag)
        opened.append(page_w)
        if tenancy is not None:
            opened.append(os.dup(tenancy.arena.backing.readers_fd))
        page = Page(page_w)
    except OSError:
        close_all(opened)
        raise
    calls, calls_w, control, control_w, stdout, stdout_w, stderr, stderr_w, *rest = opened
    ends = ParentEnds(
        socket.socket(fileno=calls), socket.socket(fileno=control), stdout, stderr, page
    )
    widen(ends.calls)
    return ends, [calls_w, control_w, stdout_w, stderr_w, *rest]
