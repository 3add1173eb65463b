"""The process that workers are forked from, and that buries them: small and single-threaded.

A fork takes 1.3 ms and its memory is shared, while a new interpreter takes 80 ms and
15 MiB. It must not happen in a process with threads and an event loop, so it happens here.

The zygote is also the **guardian** of its workers. When the Lieutenant is gone, however it
went, the control socket ends, and every worker dies by SIGKILL, which reaches even one that
is stopped or holds the GIL. When a worker is gone, all it started goes too. When the zygote is
gone, the workers live on, and its successor is told to guard them.

A worker is born into the control group of its session. To have the kernel move a process takes
10 ms, so it is the zygote that moves, and only when it forks for another session than before.

Over `goliath.actors.rights` it is asked, and answers, with the descriptors in brackets::

    {"fork": worker, "tag": ..., "spec": ..., "group": [path, ...], "rlimits": {...}}
        [birth.FDS_PER_WORKER, and the arena if it has one]
    {"clear": [path, ...]}
    {"disband": [path, ...], "home": [path, ...]}
    {"preload": [module, ...]}
    {"guard": worker, "pid": ..., "tag": ..., "pidfds": 0 or 1} [pidfd]

    {"forked": worker, "pid": ..., "pidfds": 0 or 1} [pidfd]
    {"forked": worker, "pid": 0, "error": ...}
    {"exited": worker, "pid": ..., "status": as of waitpid, "peak": bytes of memory, at most}
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import select
import signal
import socket
import time
from collections import deque
from typing import Any

from goliath import control_groups
from goliath.actors import birth, strays
from goliath.actors.rights import (
    Records,
    close_all,
    pack_record,
    receive_with_fds,
    send_with_fds,
)
from goliath.actors.spare import Spare
from goliath.actors.spec import WorkerSpec
from goliath.config import KIB
from goliath.record import complete_all, frozen
from goliath.transport.codec import prepare
from goliath.transport.malloc import keep_freed_memory
from goliath.transport.worker_messages import (
    DefineFunction,
    Flush,
    Progress,
    RunRange,
    Split,
    WorkerReady,
    Yielded,
)

SPARE_AFTER_MS = 50
"""Without a request. In the middle of many it would be one more to wait for."""

SPARE_KEPT_MS = 2000
"""Without a request or a worker. Whoever makes one actor after the other has made the next."""

END_MAX_S = 2.0  # for burying everybody; then init has to do the rest
_READ_BYTES = 1 << 16


@frozen
class _Guarded:
    """A living worker; ``pidfd`` only of those that another zygote forked."""

    worker: int
    pid: int
    tag: str
    pidfd: int = -1


class _LieutenantGoneError(Exception):
    """The control socket has ended."""


class Zygote:
    """Forks, guards and buries."""

    def __init__(self, control: socket.socket, lieutenant: int) -> None:
        self._control = control
        self._poll = select.poll()
        self._guarded: dict[int, _Guarded] = {}
        self._records = Records()
        self._fds: deque[int] = deque()  # of requests, in their order
        self._own_fds = [control.fileno()]
        self._group: list[str] = []  # that this process is in
        self._clearing: list[list[str]] = []  # in which nobody may be
        self._disbanding: list[list[str]] = []  # ... and which nobody needs
        self._spare: Spare | None = None
        self._wants_spare = False
        self._lieutenant_fd = _pidfd(lieutenant)
        self._adopts = strays.adopt_orphans()
        self._waker, self._woken = socket.socketpair()
        self._prepare()

    def _prepare(self) -> None:
        for sock in (self._waker, self._woken):
            sock.setblocking(False)
            self._own_fds.append(sock.fileno())
        for number in (signal.SIGCHLD, signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            # Not SIG_IGN: that would be inherited by whatever a worker executes.
            signal.signal(number, lambda _signal, _frame: None)
        signal.set_wakeup_fd(self._waker.fileno(), warn_on_full_buffer=False)
        self._poll.register(self._control, select.POLLIN)
        self._poll.register(self._woken, select.POLLIN)
        if self._lieutenant_fd >= 0:
            self._own_fds.append(self._lieutenant_fd)
            self._poll.register(self._lieutenant_fd, select.POLLIN)

    def run(self) -> None:
        """Serve until the Lieutenant is gone, then end everybody."""
        try:
            while True:
                ready = self._poll.poll(self._patience_ms())
                for fd, _ in ready:
                    self._attend(fd)
                if not ready and self._wants_spare:
                    self._make_spare()
                elif not ready:
                    self._dismiss_spare()  # a node that is idle again is as small as it was
        except _LieutenantGoneError:
            self._end_all()

    def _attend(self, fd: int) -> None:
        if fd == self._control.fileno():
            self._take_request()
        elif fd == self._woken.fileno():
            with contextlib.suppress(BlockingIOError):
                self._woken.recv(4096)
            self._bury()
        elif fd == self._lieutenant_fd:
            # Its socket may live on in a process it forked; it does not.
            raise _LieutenantGoneError
        else:
            self._foster_child_ended(fd)

    # -- requests -------------------------------------------------------------------------

    def _take_request(self) -> None:
        try:
            data, fds = receive_with_fds(self._control, _READ_BYTES)
        except OSError as exc:
            raise _LieutenantGoneError from exc
        if not data:
            raise _LieutenantGoneError
        self._fds.extend(fds)
        for request in self._records.feed(data):
            if "fork" in request:
                spec = WorkerSpec.from_json(request["spec"])
                count = birth.FDS_PER_WORKER + bool(spec.arena)
                self._fork(request, spec, [self._fds.popleft() for _ in range(count)])
            elif "clear" in request:
                self._clearing.append(request["clear"])
                self._clear_groups()
            elif "disband" in request:
                self._disband(request["disband"], request["home"])
            elif "preload" in request:
                self._dismiss_spare()
                for name in request["preload"]:
                    importlib.import_module(name)
                gc.freeze()
            else:
                self._guard(request)

    def _fork(self, request: dict[str, Any], spec: WorkerSpec, fds: list[int]) -> None:
        worker, tag = request["fork"], request["tag"]
        self._wants_spare = spec.actor  # whoever has made one will make another
        try:
            self._enter(request["group"])
            pid = self._employed(request, fds) or os.fork()
        except OSError as exc:
            close_all(fds)
            self._reply({"forked": worker, "pid": 0, "error": f"cannot fork: {exc}"}, [])
            return
        if pid == 0:
            birth.leave_zygote(self._own_fds)
            birth.live(spec, tag, fds, request["rlimits"])
        # At once: a copy of a worker's sockets in here would keep its end from being seen.
        close_all(fds)
        self._guarded[pid] = _Guarded(worker, pid, tag)
        pidfd = _pidfd(pid)  # taken here, where the pid cannot be anybody else's yet
        passed = [pidfd] if pidfd >= 0 else []
        self._reply({"forked": worker, "pid": pid, "pidfds": len(passed)}, passed)
        close_all(passed)

    # -- the spare ------------------------------------------------------------------------

    def _patience_ms(self) -> int | None:
        """Until there is to be a spare, or none any more."""
        if self._wants_spare:
            return SPARE_AFTER_MS
        return SPARE_KEPT_MS if self._spare is not None and not self._guarded else None

    def _make_spare(self) -> None:
        """Have one for whoever comes next, which is in most cases whoever came last."""
        self._wants_spare = False  # whatever becomes of it: only work is a reason for another
        if self._spare is not None:
            return
        with contextlib.suppress(OSError):
            self._spare = Spare(self._group, self._own_fds)
            self._own_fds.append(self._spare.fd)

    def _employed(self, request: dict[str, Any], fds: list[int]) -> int:
        """The pid of the spare, if that is the worker now; else 0."""
        spare = self._spare
        if spare is None:
            return 0
        employed = spare.group == request["group"] and spare.employ(request, fds)
        self._dismiss_spare()
        return spare.pid if employed else 0

    def _is_spare(self, pid: int) -> bool:
        return self._spare is not None and self._spare.pid == pid

    def _dismiss_spare(self) -> None:
        """There is none from now on; one that was not employed ends."""
        if self._spare is not None:
            self._own_fds.remove(self._spare.fd)
            self._spare.dismiss()
            self._spare = None

    def _guard(self, request: dict[str, Any]) -> None:
        pidfd = self._fds.popleft() if request["pidfds"] else -1
        self._guarded[request["pid"]] = _Guarded(
            request["guard"], request["pid"], request["tag"], pidfd
        )
        if pidfd >= 0:
            self._own_fds.append(pidfd)
            self._poll.register(pidfd, select.POLLIN)

    def _enter(self, group: list[str]) -> None:
        """Be in a control group, so that what is forked is."""
        if group in self._clearing:
            self._clear_groups()
            # Whoever is there from now on may be.
            self._clearing = [other for other in self._clearing if other != group]
        if group != self._group:
            control_groups.enter(group)
            self._group = group

    def _disband(self, group: list[str], home: list[str]) -> None:
        """A group is needed no more: it goes when all that are in it have."""
        if group == self._group:
            with contextlib.suppress(OSError):
                self._enter(home)
        if self._spare is not None and self._spare.group == group:
            self._dismiss_spare()
        self._clearing.append(group)
        self._disbanding.append(group)
        self._clear_groups()

    def _clear_groups(self) -> None:
        """Kill whoever the last worker of a session has left; those that are not children of this
        process may take a while to be gone."""
        for group in self._clearing:
            for pid in control_groups.members(group):
                if pid != os.getpid() and not self._is_spare(pid):
                    _kill(pid)
        for group in list(self._disbanding):
            if control_groups.remove(group):
                self._disbanding.remove(group)
                self._clearing = [other for other in self._clearing if other != group]

    def _reply(self, data: dict[str, Any], fds: list[int]) -> None:
        try:
            send_with_fds(self._control, pack_record(data), fds)
        except OSError as exc:
            raise _LieutenantGoneError from exc

    # -- deaths -----------------------------------------------------------------------------

    def _bury(self) -> None:
        """Reap every child that has ended, and end what the dead have left."""
        while (ended := _reap_with_group()) is not None:
            pid, status, peak = ended
            if self._is_spare(pid):
                self._dismiss_spare()
            guarded = self._guarded.pop(pid, None)
            if guarded is not None:
                self._wants_spare = True  # another will have to take its place, now or next time
                news = {"exited": guarded.worker, "pid": pid, "status": status, "peak": peak}
                self._reply(news, [])
        if self._adopts:
            self._kill_strays()
        self._clear_groups()

    def _kill_strays(self) -> None:
        """Kill adopted children of dead workers, each of which comes here with its own in turn.

        One that does not tell whose it is lives until no worker is left that may need it.
        """
        living = {guarded.tag for guarded in self._guarded.values()}
        for pid in strays.children():
            if pid in self._guarded or self._is_spare(pid):
                continue
            tag = strays.tag_of(pid)
            if tag not in living and (tag or not living):
                _kill(pid)

    def _foster_child_ended(self, pidfd: int) -> None:
        self._poll.unregister(pidfd)
        self._own_fds.remove(pidfd)
        os.close(pidfd)
        for guarded in [g for g in self._guarded.values() if g.pidfd == pidfd]:
            _kill_group(guarded.pid)
            del self._guarded[guarded.pid]

    def _end_all(self) -> None:
        for guarded in self._guarded.values():
            if guarded.pidfd >= 0:
                with contextlib.suppress(OSError):
                    signal.pidfd_send_signal(guarded.pidfd, signal.SIGKILL)
            _kill_group(guarded.pid)
        deadline = time.monotonic() + END_MAX_S
        while time.monotonic() < deadline:
            with contextlib.suppress(_LieutenantGoneError):
                self._bury()
            remaining = strays.children()
            if not remaining and not any(g.pidfd < 0 for g in self._guarded.values()):
                return
            for pid in remaining:
                _kill(pid)
            time.sleep(0.001)


def _reap_with_group() -> tuple[int, int, int] | None:
    """Reap one child that has ended and kill its process group: its pid, status and the memory it
    had at most; None if there is none."""
    try:
        if not hasattr(os, "waitid"):  # macOS
            pid, status, usage = os.wait4(-1, os.WNOHANG)
            if pid:
                _kill_group(pid)
            return (pid, status, usage.ru_maxrss) if pid else None
        ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        if ended is None:
            return None
        # Killed while the leader is unburied: until then the number names this group only.
        _kill_group(ended.si_pid)
        pid, status, usage = os.wait4(ended.si_pid, 0)
        return pid, status, usage.ru_maxrss * KIB
    except ChildProcessError:
        return None


def _pidfd(pid: int) -> int:
    try:
        return os.pidfd_open(pid)
    except (AttributeError, OSError):
        return -1


def _kill(pid: int) -> None:
    with contextlib.suppress(OSError):
        os.kill(pid, signal.SIGKILL)


def _kill_group(pid: int) -> None:
    with contextlib.suppress(OSError):
        os.killpg(pid, signal.SIGKILL)


def main(control_fd: int, lieutenant: int) -> None:
    """Be a zygote: everything a worker needs is imported by now, and shared by all of them."""
    os.set_inheritable(control_fd, False)
    birth.name_process("goliath-zygote")
    keep_freed_memory()
    complete_all()
    prepare(DefineFunction, RunRange, Progress, WorkerReady, Yielded, Split, Flush)
    gc.collect()
    gc.freeze()
    if os.getppid() == lieutenant:  # else it is gone already
        Zygote(socket.socket(fileno=control_fd), lieutenant).run()
