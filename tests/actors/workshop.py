"""Real worker processes for tests: fork one, hand it ranges, gather what comes back."""

from __future__ import annotations

import asyncio
import os
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

from goliath.actors.fences import Fences
from goliath.actors.nursery import Nursery
from goliath.actors.process import ExitReport, Process
from goliath.actors.spec import WorkerSpec
from goliath.config import NodeConfig
from goliath.core.ids import WorkerId
from goliath.testing.processes import Seen, descendants, is_spare, until
from goliath.transport.columns import COLUMNS, encode_columns
from goliath.transport.functions import dump_function
from goliath.transport.message import Message
from goliath.transport.outcomes import decode_outcomes
from goliath.transport.rows import ROWS, encode_rows
from goliath.transport.worker_messages import (
    DefineFunction,
    Progress,
    RunRange,
    WorkerReady,
    Yielded,
)

WAIT_S = 10.0


@dataclass
class Outcomes:
    """What became of the calls of one range."""

    values: dict[int, Any] = field(default_factory=dict)
    failures: dict[int, dict[str, Any]] = field(default_factory=dict)
    parts: list[Progress] = field(default_factory=list)
    yielded: list[int] = field(default_factory=list)

    @property
    def final(self) -> Progress:
        """The message that freed the worker."""
        return self.parts[-1]

    def add(self, part: Progress) -> None:
        """Take in one message, and insist that no call is reported twice or passed over."""
        assert part.lo == (self.parts[-1].hi if self.parts else part.lo)
        self.parts.append(part)
        values, failures = decode_outcomes(part.payload)
        assert len(values) == part.hi - part.lo
        for place, value in enumerate(values):
            index = part.lo + place
            assert index not in self.values
            self.values[index] = value
            if place in failures:
                self.failures[index] = failures[place]


class Owner:
    """What a Lieutenant would be told about its workers, kept for the test to look at."""

    def __init__(self) -> None:
        self.inboxes: dict[int, asyncio.Queue[Message]] = defaultdict(asyncio.Queue)
        self.output: dict[tuple[int, str], bytes] = defaultdict(bytes)
        self.log: list[tuple[int, str, Any]] = []
        self.exits: dict[int, list[ExitReport]] = defaultdict(list)
        self._changed = asyncio.Event()

    def on_worker_message(self, worker: WorkerId, message: Message) -> None:
        assert not self.exits[worker], "nothing may come after the end"
        self.log.append((worker, "message", message))
        self.inboxes[worker].put_nowait(message)
        self._changed.set()

    def on_worker_output(self, worker: WorkerId, stream: str, data: bytes) -> None:
        assert 0 < len(data) <= 64 * 1024
        assert not self.exits[worker], "nothing may come after the end"
        self.log.append((worker, stream, data))
        self.output[worker, stream] += data
        self._changed.set()

    def on_worker_exit(self, worker: WorkerId, exit: ExitReport) -> None:  # noqa: A002
        self.exits[worker].append(exit)
        assert len(self.exits[worker]) == 1, "an end is told once"
        self._changed.set()

    async def until(self, condition: Callable[[], Any]) -> Any:
        """Wait for news to make ``condition`` true; returns what it was."""
        async with asyncio.timeout(WAIT_S):
            while not (found := condition()):
                self._changed.clear()
                await self._changed.wait()
        return found

    async def exit_of(self, process: Process) -> ExitReport:
        """How a process ended."""
        await self.until(lambda: self.exits[process.worker])
        return self.exits[process.worker][0]


class Workshop:
    """A nursery with an owner, and short words for what tests do with it."""

    def __init__(self, fences: Fences | None = None) -> None:
        self.owner = Owner()
        self.zygote_exits = 0
        self.nursery = Nursery(NodeConfig(), self._on_zygote_exit, fences)
        self._workers = count(1)
        self._serials = count(1)
        self._known: set[tuple[int, str]] = set()

    def _on_zygote_exit(self) -> None:
        self.zygote_exits += 1
        self.owner._changed.set()

    async def fork(
        self, spec: WorkerSpec | None = None, *, ready: bool = True, session: str = "s"
    ) -> Process:
        """A worker that is ready."""
        worker = WorkerId(next(self._workers))
        process = self.nursery.fork(worker, spec or WorkerSpec(), self.owner, session)
        if ready:
            message = await self.next(process)
            assert message == WorkerReady(), message
            # It may be ready before the zygote has said that it was born.
            async with asyncio.timeout(WAIT_S):
                while process.pid is None:  # noqa: ASYNC110 - a Process tells nobody of its birth
                    await asyncio.sleep(0)
        return process

    async def next(self, process: Process) -> Message:
        """Its next message."""
        async with asyncio.timeout(WAIT_S):
            return await self.owner.inboxes[process.worker].get()

    def start(
        self,
        process: Process,
        function: Callable[..., Any],
        rows: Sequence[Any],
        *,
        careful: bool = False,
        concurrent: bool = False,
        lo: int = 0,
        hi: int | None = None,
        **options: Any,
    ) -> int:
        """Send a range; returns its serial."""
        pickled = dump_function(function, **options)
        if (process.worker, pickled.digest) not in self._known:
            self._known.add((process.worker, pickled.digest))
            process.send(DefineFunction(pickled.digest, pickled.name, pickled.payload))
        form, payload = encode_calls(rows)
        serial = next(self._serials)
        end = len(rows) if hi is None else hi
        process.send(
            RunRange(
                serial,
                lo,
                end,
                pickled.digest,
                form,
                careful,
                concurrent=concurrent,
                payload=payload,
            )
        )
        return serial

    async def gather(self, process: Process, serial: int) -> Outcomes:
        """Everything the worker says about a range, until its final word."""
        outcomes = Outcomes()
        while not (outcomes.parts and outcomes.final.final):
            message = await self.next(process)
            match message:
                case Progress():
                    assert message.serial == serial
                    outcomes.add(message)
                case Yielded():
                    outcomes.yielded.append(message.at)
                case _:
                    raise AssertionError(message)
        return outcomes

    async def run(
        self, process: Process, function: Callable[..., Any], rows: Sequence[Any], **options: Any
    ) -> Outcomes:
        """Send a range and gather its outcomes."""
        return await self.gather(process, self.start(process, function, rows, **options))


def encode_calls(rows: Sequence[Any]) -> tuple[str, bytes]:
    """Rows as a Commander would send them."""
    columns = encode_columns(rows)
    if columns is not None:
        return COLUMNS, columns
    return ROWS, encode_rows(rows)


@asynccontextmanager
async def workshop(fences: Fences | None = None) -> AsyncIterator[Workshop]:
    """A workshop with a zygote; closed, and everybody in it ended, behind the test."""
    shop = Workshop(fences)
    await shop.nursery.start()
    try:
        yield shop
    finally:
        await shop.nursery.close()


async def spare_of(shop: Workshop) -> Seen:
    """The process that its zygote has forked ahead, as soon as it has a name."""
    zygote = shop.nursery.zygote_pid
    assert zygote is not None

    def found() -> list[Seen]:
        return [seen for seen in descendants(zygote, 1) if is_spare(seen)]

    await asyncio.to_thread(until, found, WAIT_S, "there is a spare")
    return found()[0]


def fds_of(pid: int) -> set[str]:
    """What the descriptors of a process lead to."""
    folder = Path(f"/proc/{pid}/fd")
    return {os.readlink(folder / name) for name in os.listdir(folder)}
