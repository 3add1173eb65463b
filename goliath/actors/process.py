"""One worker process as the Lieutenant sees it: send, listen, kill, and hear of its end once.

A pidfd tells of the death at once, whoever holds copies of the sockets; the zygote tells
how it died; and what the dead have left in their sockets is read before anyone is told.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import signal
import socket
from collections.abc import Callable, Sequence
from dataclasses import field
from typing import Protocol

from goliath.actors.dump import Shortener
from goliath.actors.line import Line
from goliath.actors.output import OutputPipe
from goliath.actors.page import Page, PageState
from goliath.actors.postmortem import Report
from goliath.actors.tenancy import Tenancy
from goliath.core.ids import WorkerId
from goliath.machine import resident_bytes
from goliath.record import frozen
from goliath.transport.message import Message
from goliath.transport.worker_messages import LetGo

STATUS_WAIT_S = 0.2  # for the zygote's word on how it ended, once the process is dead
LEAVE_MAX_S = 2.0  # for a worker to end by itself when it was asked to


@frozen
class ExitReport:
    """How a worker ended.

    Attributes:
        pid: None if it was never born.
        signal: what killed it; None if it exited, or if nobody knows.
        exit_code: what it exited with; None if it was killed, or if nobody knows.
        stderr_tail: its last words.
        oom: whether it was probably killed because the memory was used up.
        peak_bytes: the memory it had at most; None if nobody knows.
        limit_bytes: the memory that it and everything beside it could have.
        page: which call it was running.
        others: and which at the same time.
    """

    pid: int | None = None
    signal: int | None = None
    exit_code: int | None = None
    stderr_tail: str = ""
    oom: bool = False
    peak_bytes: int | None = None
    limit_bytes: int | None = None
    page: PageState = field(default_factory=PageState)
    others: Sequence[PageState] = ()

    def to_report(self) -> Report:
        """What the Commander is told of it."""
        return {
            "pid": self.pid,
            "signal": self.signal,
            "exit_code": self.exit_code,
            "stderr_tail": self.stderr_tail,
            "oom": self.oom,
            "peak": self.peak_bytes,
            "limit": self.limit_bytes,
        }


class ProcessEvents(Protocol):
    """What the owner of processes is told, in the loop's thread."""

    def on_worker_message(self, worker: WorkerId, message: Message) -> None:
        """The next message of the worker."""

    def on_worker_output(self, worker: WorkerId, stream: str, data: bytes) -> None:
        """It printed on ``"stdout"`` or ``"stderr"``: whole lines if possible, at most 64 KiB."""

    def on_worker_exit(self, worker: WorkerId, exit: ExitReport) -> None:  # noqa: A002 - its name
        """It is dead: once, behind all its messages and output."""


@frozen
class ParentEnds:
    """What the parent keeps of the descriptors a worker is born with."""

    calls: socket.socket
    control: socket.socket
    stdout: int
    stderr: int
    page: Page


class MemoryGauge(Protocol):
    """What the kernel does about memory."""

    def explains_a_kill(self) -> bool:
        """Whether it has killed a process for memory that was not asked for yet."""

    def limit_bytes(self) -> int:
        """From how much on it does so."""


class Process:
    """A worker process. Made by `goliath.actors.nursery.Nursery.fork`.

    Messages may be sent at once: its sockets hold them until it is born.
    """

    def __init__(
        self,
        worker: WorkerId,
        tag: str,
        ends: ParentEnds,
        events: ProcessEvents,
        on_concluded: Callable[[Process], None],
        *,
        buffer: bytearray,
        gauge: MemoryGauge,
        tail_bytes: int,
        frame_max_bytes: int,
        tenancy: Tenancy | None = None,
    ) -> None:
        self.worker = worker
        self.tag = tag
        self.pid: int | None = None
        self.pidfd = -1
        self._loop = loop = asyncio.get_running_loop()
        self._events = events
        self._on_concluded = on_concluded
        self._gauge = gauge
        self._page = ends.page
        self._tenancy = tenancy
        lender = None if tenancy is None else tenancy.begin(loop, self._let_go)
        most = frame_max_bytes
        self._calls = Line(
            loop, ends.calls, buffer, self._on_message, self._on_line_end, most, lender
        )
        self._control = Line(
            loop, ends.control, buffer, self._on_message, self._on_control_end, most, lender
        )
        self._stdout = OutputPipe(loop, ends.stdout, self._printer("stdout"))
        self._stderr = OutputPipe(
            loop, ends.stderr, self._printer("stderr", Shortener()), tail_bytes
        )
        self._printed = select.poll()
        for fd in (ends.stdout, ends.stderr):
            self._printed.register(fd, select.POLLIN)
        self._killed = False  # by us, so that it was not the kernel
        self._dead = False
        self._orphaned = False
        self._status: int | None = None
        self._peak_bytes: int | None = None
        self._failure = ""
        self._timer: asyncio.TimerHandle | None = None
        self.concluded = False

    def __repr__(self) -> str:
        state = "ended" if self.concluded else "dead" if self._dead else "alive"
        return f"<Process of worker {self.worker}, pid {self.pid}, {state}>"

    # -- what its owner may do --------------------------------------------------------------

    def send(self, message: Message) -> None:
        """Send on the call socket: `DefineFunction`, `RunRange`. Never blocks."""
        self._calls.send(message)

    def control(self, message: Message) -> None:
        """Send an order, which overtakes calls: `Interrupt`, `Split`, `Flush`. Never blocks."""
        self._control.send(message)

    @property
    def unsent_bytes(self) -> int:
        """What waits here because the worker does not read its calls."""
        return self._calls.unsent_bytes

    def kill(self) -> None:
        """End it by SIGKILL, as soon as it has a pid if it has none yet."""
        if self._dead or self.concluded:
            return
        self._killed = True
        if self.pid is not None:
            self._signal(signal.SIGKILL)

    def dismiss(self) -> None:
        """Let an idle worker end by itself; it is killed if it takes too long."""
        self._calls.finish()
        if self._timer is None and not self._dead:
            self._timer = self._loop.call_later(LEAVE_MAX_S, self.kill)

    def drain_output(self) -> None:
        """Read now what it has printed so far, so that it comes before what follows."""
        self._stdout.drain()
        self._stderr.drain()

    def pause_output(self) -> None:
        """Stop reading what it prints, so that it has to wait."""
        self._stdout.pause()
        self._stderr.pause()

    def resume_output(self) -> None:
        """Go on reading what it prints."""
        self._stdout.resume()
        self._stderr.resume()

    def pause_calls(self) -> None:
        """Stop reading what it says on the call socket, so that it has to wait."""
        self._calls.pause()

    def resume_calls(self) -> None:
        """Go on reading what it says."""
        self._calls.resume()

    def pages(self) -> list[PageState]:
        """What it is doing now, without asking it: all ranges that are running."""
        return self._page.read_all()

    def resident_bytes(self) -> int:
        """How much memory it has; 0 if it is not there."""
        return 0 if self.pid is None else resident_bytes(self.pid)

    # -- what the nursery tells it ----------------------------------------------------------

    def born(self, pid: int, pidfd: int) -> None:
        """The zygote has forked it."""
        self.pid, self.pidfd = pid, pidfd
        if self.concluded:
            self._release_pidfd()
            return
        if pidfd >= 0:
            self._loop.add_reader(pidfd, self._on_death)
        if self._killed:
            self._signal(signal.SIGKILL)

    def not_born(self, reason: str) -> None:
        """There will be no such process."""
        self._failure = reason
        self._conclude()

    def ended(self, status: int, peak_bytes: int | None = None) -> None:
        """The zygote has buried it; ``status`` is what `os.waitpid` returned."""
        self._status, self._peak_bytes = status, peak_bytes
        self._on_death()

    def abandon(self, *, at_once: bool = False) -> None:
        """The zygote is gone: nobody will say how this process ends, or whether it was born."""
        self._orphaned = True
        if self.pid is None:
            self.not_born("the process that forks workers has died; another one is started")
        elif self._dead or at_once:
            self._conclude()

    # -- how it ends --------------------------------------------------------------------------

    def _on_death(self) -> None:
        if self._status is not None:
            self._conclude()
        elif not self._dead:
            self._dead = True
            self._loop.remove_reader(self.pidfd)
            self._cancel_timer()
            if self._orphaned:
                self._end_group()
                self._conclude()
            else:
                self._timer = self._loop.call_later(STATUS_WAIT_S, self._conclude)

    def _on_line_end(self, error: Exception | None) -> None:
        """It is dying, has closed its socket, or sent what no worker sends: in any case, over."""
        self._failure = self._failure or (f"its socket failed: {error}" if error else "")
        if self.pid is not None and not self._dead:
            # If it is exiting already, this does not change its exit status.
            self._signal(signal.SIGKILL)
        elif self.pid is None:
            self._killed = True

    def _on_control_end(self, error: Exception | None) -> None:
        """It ends with the process, or its end changes nothing; what no worker sends is no end."""
        if error is not None:
            self._on_line_end(error)

    def _signal(self, number: int) -> None:
        with contextlib.suppress(OSError):
            if self.pidfd >= 0:
                signal.pidfd_send_signal(self.pidfd, number)
            elif self.pid is not None:
                os.kill(self.pid, number)

    def _end_group(self) -> None:
        """What the zygote would have done: end what the worker started."""
        if self.pid is not None:
            with contextlib.suppress(OSError):
                os.killpg(self.pid, signal.SIGKILL)

    def _conclude(self) -> None:
        """Read what is left, let everything go, and tell."""
        if self.concluded:
            return
        self.concluded = self._dead = True
        self._cancel_timer()
        self._release_pidfd()
        self._calls.drain()
        for end in (self._calls, self._control, self._stdout, self._stderr):
            end.close()
        report = self._report()
        self._page.close()
        if self._tenancy is not None:
            self._tenancy.end()
        self._on_concluded(self)
        self._events.on_worker_exit(self.worker, report)

    def _report(self) -> ExitReport:
        code = None if self._status is None else os.waitstatus_to_exitcode(self._status)
        killer = -code if code is not None and code < 0 else None
        tail = self._stderr.tail.decode(errors="replace")
        pages = self._page.read_all() or [PageState()]
        return ExitReport(
            pid=self.pid,
            signal=killer,
            exit_code=None if killer else code,
            stderr_tail="\n".join(filter(None, (tail, self._failure))),
            oom=killer == signal.SIGKILL and not self._killed and self._gauge.explains_a_kill(),
            peak_bytes=self._peak_bytes,
            limit_bytes=self._gauge.limit_bytes(),
            page=pages[0],
            others=pages[1:],
        )

    def _release_pidfd(self) -> None:
        if self.pidfd >= 0:
            self._loop.remove_reader(self.pidfd)
            os.close(self.pidfd)
            self.pidfd = -1

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # -- what it says ---------------------------------------------------------------------------

    def _let_go(self, numbers: list[int]) -> None:
        self._control.send(LetGo(numbers))

    def _on_message(self, message: Message) -> None:
        if type(message) is LetGo:
            if self._tenancy is not None:
                self._tenancy.taken_back(message.numbers)
            return
        # A poll takes 0.7 µs, where two reads that find nothing take 8.
        if self._printed.poll(0) or self._stdout.unfinished or self._stderr.unfinished:
            self.drain_output()
        self._events.on_worker_message(self.worker, message)

    def _printer(
        self, stream: str, edit: Callable[[bytes], bytes] = bytes
    ) -> Callable[[bytes], None]:
        def on_text(text: bytes) -> None:
            if edited := edit(text):
                self._events.on_worker_output(self.worker, stream, edited)

        return on_text
