"""From a fresh fork to a worker: takes off the zygote and puts on what a `WorkerSpec` asks for."""

from __future__ import annotations

import faulthandler
import fcntl
import os
import resource
import signal
import site
import socket
import sys
import time
import traceback
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import NoReturn

from goliath.actors.page import Page
from goliath.actors.spec import TAG_VARIABLE, WorkerSpec, mark_worker
from goliath.actors.worker import become_worker
from goliath.transport.arena import Arena

FDS_PER_WORKER = 5
"""Call socket, control socket, stdout, stderr, page: in this order. And the arena, if any."""

_HIGH_FD = 100  # out of the way of user code that closes "all" low descriptors
_HEADROOM = 16  # above that, where there may be so few descriptors that it has to be lower
_OOM_SCORE = "500"  # when memory runs out, workers go before the Lieutenant


def leave_zygote(zygotes_fds: Iterable[int]) -> None:
    """What comes first after the fork, whatever the process is to do."""
    with last_words():
        os.setsid()
        _default_signals()
        for fd in zygotes_fds:
            os.close(fd)
        _write_about_self("oom_score_adj", _OOM_SCORE)
        mark_worker()
        _fresh_main()


def live(spec: WorkerSpec, tag: str, fds: list[int], rlimits: Mapping[str, int]) -> NoReturn:
    """Be a worker, from there to the end of the process."""
    with last_words():
        _set_limits(rlimits)
        calls, control, stdout, stderr, page, *arena = _moved_up(fds)
        _attach_stdio(stdout, stderr)
        name_process("goliath-worker")
        _set_environment(spec, tag)
        _set_path(spec)
        faulthandler.enable(stderr)
        shared = Page(page)
        os.close(page)
        status = become_worker(
            socket.socket(fileno=calls),
            socket.socket(fileno=control),
            shared,
            (stdout, stderr),
            spec,
            # That of its own Lieutenant; it need not be sealed if nothing is to be written there.
            Arena.join(arena[0], spec.arena, trusted=not spec.region) if arena else None,
        )
        os._exit(status)
    raise AssertionError("nobody lives after that")


@contextmanager
def last_words() -> Iterator[None]:
    """What is raised in here ends the process: nothing may climb back into the zygote's loop."""
    try:
        yield
    except BaseException:  # noqa: BLE001 - as was just said
        os.write(2, traceback.format_exc().encode(errors="replace"))
        os._exit(os.EX_SOFTWARE)


def _set_limits(rlimits: Mapping[str, int]) -> None:
    """For this process and whatever it starts; never more than it has been given itself."""
    for name, amount in rlimits.items():
        kind = getattr(resource, name, None)
        if kind is None:
            continue  # of another system
        hard = resource.getrlimit(kind)[1]
        limit = amount if hard == resource.RLIM_INFINITY else min(amount, hard)
        resource.setrlimit(kind, (limit, limit))


def _default_signals() -> None:
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # until the worker's own handler is there


def _moved_up(fds: Collection[int]) -> list[int]:
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    # Never among the standard streams, which are put in their places next.
    lowest = _HIGH_FD if limit < 0 else max(min(_HIGH_FD, limit - _HEADROOM), 3)
    moved = []
    for fd in fds:
        moved.append(fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, lowest))
        os.close(fd)
    return moved


def _attach_stdio(stdout: int, stderr: int) -> None:
    null = os.open(os.devnull, os.O_RDONLY)
    if null != 0:
        os.dup2(null, 0)
        os.close(null)
    os.dup2(stdout, 1)
    os.dup2(stderr, 2)


def name_process(name: str) -> None:
    """What ``ps`` and ``top`` call this process."""
    _write_about_self("comm", name)


def _write_about_self(file: str, text: str) -> None:
    try:
        fd = os.open(f"/proc/self/{file}", os.O_WRONLY)
    except OSError:
        return
    try:
        os.write(fd, text.encode())
    except OSError:
        return  # a sandbox may refuse it; nothing depends on it
    finally:
        os.close(fd)


def _set_environment(spec: WorkerSpec, tag: str) -> None:
    for name, value in spec.variables.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
    os.environ[TAG_VARIABLE] = tag
    if "TZ" in spec.variables:
        time.tzset()
    if spec.cwd:
        os.chdir(spec.cwd)


def _set_path(spec: WorkerSpec) -> None:
    """The job's directories stand behind the standard library, so they cannot shadow it, and
    before installed packages, so these cannot hide them."""
    if spec.sys_path_exact:
        sys.path[:] = spec.sys_path_exact
    library = os.path.dirname(os.__file__)
    standard = (library, os.path.join(library, "lib-dynload"))
    behind = max((place for place, entry in enumerate(sys.path) if entry in standard), default=-1)
    sys.path[behind + 1 : behind + 1] = [*spec.sys_path, *_site_paths(spec)]
    if spec.library:
        sys.path.insert(0, spec.library)


def _site_paths(spec: WorkerSpec) -> list[str]:
    """The directories of packages, and those that they add (by ``.pth`` files)."""
    before, sys.path[:] = sys.path[:], []
    for directory in spec.site:
        site.addsitedir(directory)
    found, sys.path[:] = sys.path[:], before
    return found


def _fresh_main() -> None:
    """A ``__main__`` of its own, so that nothing of the zygote's is taken for the user's."""
    sys.argv = [""]
    main = type(sys)("__main__")
    main.__dict__["__builtins__"] = __builtins__
    sys.modules["__main__"] = main
