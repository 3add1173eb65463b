"""The Lieutenant actor: messages in, messages out, with fake workers and fake Commanders."""

from __future__ import annotations

import asyncio
import hashlib
import os
import platform
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from goliath.actors import memory_watch
from goliath.actors.filesending import GONE
from goliath.actors.installer import InstallError, Packages
from goliath.actors.lieutenant import LieutenantActor
from goliath.actors.mailbox import MAILBOX_MAX
from goliath.actors.occupancy import Measured
from goliath.actors.page import PageState
from goliath.actors.process import ExitReport, ProcessEvents
from goliath.actors.reception import Drain, EndWork, SessionUp, TokenRevoked, WorkerHeard
from goliath.actors.spec import INITIALIZER, WorkerSpec
from goliath.actors.system import ActorSystem
from goliath.actors.tenancy import Tenancy
from goliath.actors.vitals import PROBE_MAX_BYTES
from goliath.actors.workshop import Workshop
from goliath.config import TransportConfig
from goliath.core.ids import SessionId, WorkerId
from goliath.core.node import Node
from goliath.core.policy import BIG_BYTES
from goliath.transport import (
    call_messages as call_msg,
    memory,
    messages as msg,
    worker_messages as worker_msg,
)
from goliath.transport.message import Message
from goliath.transport.payload import Bundle
from goliath.transport.versions import package_versions
from tests.actors.desks import flat
from tests.actors.runtime import turns, until

DATA = b"print('hello')\n"
DIGEST = hashlib.sha256(DATA).hexdigest()


class FakeProcess:
    """A worker that does what the test says."""

    def __init__(self, worker: WorkerId, spec: WorkerSpec, events: ProcessEvents) -> None:
        self.worker = worker
        self.pid = 1000 + worker
        self.spec = spec
        self.heard: list[Any] = []
        self.killed = self.dismissed = self.paused = self.unheard = False
        self.pauses = 0
        self.now = PageState()
        self._events = events
        self._ended = False

    def send(self, message: Message) -> None:
        self.heard.append(message)

    control = send

    def kill(self) -> None:
        self.killed = True
        asyncio.get_running_loop().call_soon(self.end)

    def dismiss(self) -> None:
        self.dismissed = True
        asyncio.get_running_loop().call_soon(self.end)

    def end(self, **report: Any) -> None:
        if not self._ended:
            self._ended = True
            self._events.on_worker_exit(self.worker, ExitReport(page=self.now, **report))

    def pause_output(self) -> None:
        self.paused = True

    def resume_output(self) -> None:
        self.paused = False

    def pause_calls(self) -> None:
        self.unheard = True
        self.pauses += 1

    def resume_calls(self) -> None:
        self.unheard = False

    def drain_output(self) -> None:
        pass

    def pages(self) -> list[PageState]:
        return [self.now]

    def say(self, message: Message) -> None:
        self._events.on_worker_message(self.worker, message)

    def print(self, text: bytes) -> None:
        self._events.on_worker_output(self.worker, "stdout", text)

    def run(self) -> worker_msg.RunRange:
        """The last range it was given."""
        return next(m for m in reversed(self.heard) if isinstance(m, worker_msg.RunRange))

    def do(self) -> None:
        """Finish what it was given."""
        range_ = self.run()
        self.say(
            worker_msg.Progress(
                range_.serial, range_.lo, range_.hi, 10, True, payload=range_.payload
            )
        )


class FakeNursery:
    """Forks fakes."""

    def __init__(self) -> None:
        self.processes: list[FakeProcess] = []
        self.starts = 0
        self.fences: list[str] = []
        self.fork_error: OSError | None = None

    async def start(self) -> None:
        self.starts += 1

    def fork(
        self,
        worker: WorkerId,
        spec: WorkerSpec,
        events: ProcessEvents,
        session: str,
        _tenancy: Tenancy | None = None,
    ) -> FakeProcess:
        self.fences.append(session)
        if self.fork_error is not None:
            raise self.fork_error
        self.processes.append(FakeProcess(worker, spec, events))
        return self.processes[-1]

    def preload(self, modules: Any) -> None:
        """Fakes import nothing."""


class FakeCommander:
    """The other end of a session."""

    def __init__(self, channel: memory.MemoryChannel) -> None:
        self.channel = channel
        self.heard: list[Any] = []
        self.closed = False
        self.while_reading = lambda: None  # nothing else reaches this end meanwhile
        channel.attach(self)

    def on_message(self, message: Message) -> None:
        self.heard.append(message)
        self.while_reading()

    def on_closed(self, error: Exception | None) -> None:
        self.closed = True

    def on_writable(self) -> None:
        pass

    def say(self, *messages: Message) -> None:
        for message in messages:
            self.channel.send(message)

    async def next(self, kind: type) -> Any:
        """The first message of this kind, taken out."""
        await until(lambda: any(isinstance(message, kind) for message in self.heard))
        found = next(message for message in self.heard if isinstance(message, kind))
        self.heard.remove(found)
        return found


class FakeGauge:
    """Of memory: it shows what the test says."""

    def __init__(self) -> None:
        self.used = 10
        self.workers: list[int] = []
        self.looks = 0

    def measure(self, workers: Iterable[int], _shared: Iterable[int]) -> Measured:
        self.workers = list(workers)
        self.looks += 1
        return Measured(self.used, 100)


class House:
    """A Lieutenant with everything around it."""

    def __init__(
        self,
        system: ActorSystem,
        slots: int,
        resources: dict[str, float],
        gauge: FakeGauge | None = None,
    ) -> None:
        self.nursery = FakeNursery()
        self.workshop = Workshop()
        self.drained = asyncio.Event()
        self.actor = LieutenantActor(
            Node(slots, resources),
            self.nursery,  # type: ignore[arg-type]
            self.workshop,
            on_drained=self.drained.set,
            occupancy=gauge,  # type: ignore[arg-type]
            check=True,
        )
        self.system = system
        self.ref = system.spawn(lambda: self.actor, "lieutenant")
        self._sessions = 0

    def commander(self, realm: str = "") -> FakeCommander:
        """One more, logged in."""
        self._sessions += 1
        ours, theirs = memory.pair(TransportConfig(), through_codec=True)
        self.ref.tell(SessionUp(SessionId(f"s{self._sessions}"), ours, realm))
        return FakeCommander(theirs)

    async def worker(self, number: int = 0) -> FakeProcess:
        """The worker forked as the n-th, ready to work."""
        await until(lambda: len(self.nursery.processes) > number)
        process = self.nursery.processes[number]
        process.say(worker_msg.WorkerReady())
        return process

    def alive(self) -> bool:
        return self.ref._cell.alive

    def directories(self) -> list[Path]:
        return sorted(self.workshop.root.glob("job-*"))

    def contents(self) -> list[Path]:
        """Of files, complete or not."""
        return sorted(self.workshop.root.glob("store/*/*"))


@asynccontextmanager
async def a_house(
    slots: int = 2,
    resources: dict[str, float] | None = None,
    gauge: FakeGauge | None = None,
) -> AsyncIterator[House]:
    failures: list[BaseException] = []
    system = ActorSystem(on_failure=failures.append)
    house = House(system, slots, resources or {}, gauge)
    try:
        yield house
        assert not failures, failures
        assert house.alive(), "the Lieutenant has ended"
    finally:
        async with asyncio.timeout(5):
            await system.stop()
        house.workshop.close()


FUNCTION = worker_msg.DefineFunction("f", "foo", b"pickled")
ENVIRONMENT = msg.DefineEnvironment("e", [], {"A": "1"})


def assign(batch: int = 1, lo: int = 0, hi: int = 3, **changes: Any) -> msg.AssignBatch:
    fields = {"function": "f", "environment": "e", "form": "rows", "payload": b"calls"}
    return msg.AssignBatch(batch, 1, lo, hi, **{**fields, **changes})


# -- messages out for messages in ------------------------------------------------------


async def test_a_batch_is_run_by_a_worker_in_its_environment_and_reported():
    async with a_house() as house:
        commander = house.commander()
        commander.say(FUNCTION, ENVIRONMENT, assign())
        worker = await house.worker()
        assert worker.spec.variables["A"] == "1"
        assert worker.spec.variables["OMP_NUM_THREADS"] == "1"
        assert Path(worker.spec.cwd).parent == house.workshop.root
        await until(lambda: len(worker.heard) == 2)
        assert worker.heard == [
            FUNCTION,
            worker_msg.RunRange(1, 0, 3, "f", "rows", payload=b"calls"),
        ]
        worker.do()
        done = await commander.next(msg.RangeDone)
        assert (done.batch, done.attempt, done.lo, done.hi) == (1, 1, 0, 3)
        assert (done.worker, bytes(done.payload)) == (1, b"calls")


async def a_kept_result(commander: FakeCommander, worker: FakeProcess) -> int:
    """Of the first call that the worker runs: its key."""
    range_ = worker.run()
    worker.say(
        worker_msg.Progress(
            range_.serial,
            0,
            1,
            10,
            True,
            deposits=[[0, 5]],
            payload=Bundle(b"outcomes", [b"value"]),
        )
    )
    done = await commander.next(msg.RangeDone)
    assert bytes(done.payload) == b"outcomes"
    ((call, size, key),) = done.deposits
    assert (call, size) == (0, 5)
    return int(key)


async def test_a_big_result_is_kept_given_to_calls_that_take_it_and_sent_when_it_is_asked_for():
    async with a_house(slots=1) as house:
        commander = house.commander()
        commander.say(FUNCTION, ENVIRONMENT, assign(hi=1, keep_over=4))
        worker = await house.worker()
        await until(lambda: len(worker.heard) == 2)
        assert worker.run().keep_over == 4
        key = await a_kept_result(commander, worker)
        commander.say(
            assign(2, hi=1, deposits=[[key, 5], [0, 2]], payload=Bundle(b"calls", [b"ab"])),
            msg.FetchDeposit(key),
            msg.ForgetDeposits([key]),
        )
        assert await commander.next(msg.DepositSent) == msg.DepositSent(key, b"value")
        await until(lambda: len(worker.heard) == 3)
        range_ = worker.run()
        assert (range_.deposits, flat(range_.payload)) == ([5, 2], b"callsvalueab")
        house.ref.tell(Drain())
        worker.do()
        await house.drained.wait()


async def test_a_result_that_is_kept_is_given_to_a_worker_that_asks_and_to_no_other_session():
    async with a_house(slots=1) as house:
        commander, other = house.commander(), house.commander()
        commander.say(FUNCTION, ENVIRONMENT, assign(hi=1, keep_over=4))
        worker = await house.worker()
        await until(lambda: len(worker.heard) == 2)
        key = await a_kept_result(commander, worker)
        commander.say(worker_msg.RefEnded(1, "r-1", False, key))
        await until(lambda: len(worker.heard) == 3)
        assert worker.heard[-1] == worker_msg.RefEnded(1, "r-1", False, 0, b"value")
        other.say(msg.FetchDeposit(key))
        await until(lambda: other.closed)
        commander.channel.close()
        house.ref.tell(Drain())
        await house.drained.wait()


async def test_a_piece_that_is_kept_for_a_commander_is_given_to_his_calls_and_forgotten():
    async with a_house(slots=1) as house:
        commander = house.commander()
        commander.say(FUNCTION, ENVIRONMENT, msg.KeepPiece(-2, b"piece"))
        for number in (1, 2):
            commander.say(assign(number, hi=1, deposits=[[-2, 5]]))
        commander.say(msg.ForgetPieces([-2, -7]))
        worker = await house.worker()
        for _ in range(2):
            await until(lambda: isinstance(worker.heard[-1], worker_msg.RunRange))
            range_ = worker.run()
            assert (range_.deposits, flat(range_.payload)) == ([5], b"callspiece")
            worker.do()
            await commander.next(msg.RangeDone)
        commander.say(assign(3, hi=1, deposits=[[-2, 5]]))
        await until(lambda: commander.closed)


async def test_what_one_commander_has_a_node_keep_no_other_can_name():
    async with a_house(slots=1) as house:
        one, other = house.commander(), house.commander()
        one.say(msg.KeepPiece(-2, b"piece"))
        other.say(FUNCTION, ENVIRONMENT, assign(deposits=[[-2, 5]]))
        await until(lambda: other.closed)
        assert not one.closed


async def test_a_function_is_sent_to_a_worker_once():
    async with a_house(slots=1) as house:
        commander = house.commander()
        commander.say(FUNCTION, ENVIRONMENT, assign(1), assign(2))
        worker = await house.worker()
        await until(lambda: len(worker.heard) == 2)
        worker.do()
        await until(lambda: len(worker.heard) == 3)
        assert [type(m) for m in worker.heard] == [
            worker_msg.DefineFunction,
            worker_msg.RunRange,
            worker_msg.RunRange,
        ]


async def test_an_initializer_is_sent_before_anything_else():
    async with a_house() as house:
        commander = house.commander()
        environment = msg.DefineEnvironment("e", [], {}, initializer=True, payload=b"init")
        commander.say(FUNCTION, environment, assign())
        worker = await house.worker()
        assert worker.heard[0] == worker_msg.DefineFunction(INITIALIZER, INITIALIZER, b"init")
        assert worker.spec.has_initializer


async def test_a_worker_that_dies_is_described_to_its_commander():
    async with a_house() as house:
        commander = house.commander()
        commander.say(FUNCTION, ENVIRONMENT, assign(hi=1))
        worker = await house.worker()
        worker.now = PageState(1, 0, 0.0)
        worker.end(pid=17, signal=11, stderr_tail="Segmentation fault", peak_bytes=5, limit_bytes=9)
        returned = await commander.next(msg.RangeReturned)
        assert (returned.why, returned.guilty) == ("crashed", 0)
        assert returned.report == {
            "worker": 1,
            "pid": 17,
            "signal": 11,
            "exit_code": None,
            "stderr_tail": "Segmentation fault",
            "oom": False,
            "peak": 5,
            "limit": 9,
        }


async def test_what_a_worker_prints_goes_to_the_commander_it_works_for():
    async with a_house() as house:
        commander, other = house.commander(), house.commander()
        commander.say(FUNCTION, ENVIRONMENT, assign())
        worker = await house.worker()
        await until(lambda: worker.heard)
        worker.print(b"hello\n")
        output = await commander.next(msg.Output)
        assert (output.stream, output.function, output.worker) == ("stdout", "foo", 1)
        assert bytes(output.payload) == b"hello\n"
        assert other.heard == []


async def test_a_commander_that_does_not_read_makes_its_workers_wait_with_their_output():
    async with a_house() as house:
        commander = house.commander()
        commander.say(FUNCTION, ENVIRONMENT, assign())
        worker = await house.worker()
        await until(lambda: worker.heard)
        paused = []

        def flood() -> None:
            commander.while_reading = lambda: None
            for _ in range(65):
                worker.print(bytes(1 << 20))
            paused.append(worker.paused)

        commander.while_reading = flood
        worker.print(b"the first line\n")
        assert paused == [True]
        await until(lambda: not worker.paused)


async def test_a_commander_that_does_not_read_makes_its_workers_wait_with_what_they_ask():
    async with a_house() as house:
        commander = house.commander()
        commander.say(FUNCTION, ENVIRONMENT, assign())
        worker = await house.worker()
        await until(lambda: worker.heard)

        def flood() -> None:
            commander.while_reading = lambda: None
            for _ in range(70):
                house.actor.receive(
                    WorkerHeard(worker.worker, call_msg.StoreValue(0, "r", [], bytes(1 << 20)))
                )

        commander.while_reading = flood
        worker.say(call_msg.StoreValue(0, "r", [], b"the first"))
        await until(lambda: worker.pauses)
        await until(lambda: not worker.unheard)


async def test_a_cancelled_batch_is_interrupted_and_by_force_killed():
    async with a_house(slots=1) as house:
        commander = house.commander()
        commander.say(FUNCTION, ENVIRONMENT, assign(1), assign(2))
        worker = await house.worker()
        await until(lambda: worker.heard)
        commander.say(msg.CancelBatch(2, 1))
        assert (await commander.next(msg.RangeReturned)).why == "cancelled"
        commander.say(msg.CancelBatch(1, 1))
        await until(lambda: worker_msg.Interrupt(1) in worker.heard)
        assert not worker.killed
        commander.say(msg.CancelBatch(1, 1, force=True))
        await until(lambda: worker.killed)
        assert (await commander.next(msg.RangeReturned)).why == "cancelled"


async def test_a_node_tells_how_it_is_and_gives_up_what_has_not_started():
    async with a_house(slots=1) as house:
        commander = house.commander()
        commander.say(FUNCTION, ENVIRONMENT, assign(1), assign(2), assign(3))
        commander.say(msg.AskStatus(), msg.StealBatches(2))
        status = await commander.next(msg.Status)
        assert (status.busy, status.slots, status.queued, status.processes) == (1, 1, 2, 1)
        surrendered = await commander.next(msg.Surrendered)
        assert surrendered.ranges == [[3, 1, 0, 3], [2, 1, 0, 3]]


async def test_a_node_tells_what_it_is_and_answers_as_long_as_it_is_read():
    async with a_house() as house:
        commander = house.commander()
        commander.say(msg.AskVitals(), msg.Probe(7, 5, b"up"), msg.Probe(8))
        vitals = await commander.next(msg.Vitals)
        assert vitals.packages == package_versions()
        assert vitals.python == platform.python_version()
        assert 0 < vitals.memory_free < vitals.memory
        echoes = [await commander.next(msg.Echo) for _ in range(2)]
        assert [(echo.request, len(echo.payload)) for echo in echoes] == [(7, 5), (8, 0)]

        def flood() -> None:
            commander.while_reading = lambda: None
            for number in range(100):  # 64 MiB may wait; the rest is not answered, ever
                commander.say(msg.Probe(number, PROBE_MAX_BYTES))

        commander.while_reading = flood
        commander.say(msg.AskStatus())
        await commander.next(msg.Status)
        commander.say(msg.AskStatus())
        await commander.next(msg.Status)
        assert 60 <= sum(isinstance(heard, msg.Echo) for heard in commander.heard) < 70


async def test_how_short_of_memory_a_node_is_goes_to_all_its_commanders_and_once_to_the_log(
    caplog: pytest.LogCaptureFixture,
):
    gauge = FakeGauge()
    async with a_house(gauge=gauge) as house:
        one, two = house.commander(), house.commander()
        one.say(FUNCTION, ENVIRONMENT, assign(1))
        worker = await house.worker()
        await until(lambda: gauge.workers == [worker.pid])
        gauge.used = 85
        for commander in (one, two, late := house.commander()):
            said = await commander.next(msg.MemoryLevel)
            assert (said.level, said.used, said.limit) == ("strained", 85, 100)
        one.say(msg.AskStatus())
        assert (await one.next(msg.Status)).memory == {"level": 1, "used": 85, "limit": 100}
        gauge.used = 40
        assert (await late.next(msg.MemoryLevel)).level == "easy"
        assert [line.partition(": ")[2] for line in caplog.messages] == [
            "no call begins while another one runs",
            "all goes on",
        ]
        worker.do()
        await one.next(msg.RangeDone)


async def test_memory_is_looked_at_while_there_are_workers_and_once_more():
    gauge = FakeGauge()
    async with a_house(gauge=gauge) as house:
        commander = house.commander()
        commander.say(FUNCTION, ENVIRONMENT)
        assert gauge.looks == 0
        for number in range(2):
            commander.say(assign(number + 1))
            worker = await house.worker(number)
            worker.do()
            await commander.next(msg.RangeDone)
            await until(lambda: bool(gauge.workers))
            worker.end()
            await until(lambda: not gauge.workers and not house.actor._watch.running)
            looks = gauge.looks
        await turns(50)
        assert gauge.looks == looks


async def test_of_a_node_that_does_nothing_memory_is_looked_at_seldom(monkeypatch):
    monkeypatch.setattr(memory_watch, "LOOK_EVERY_S", 0.001)
    gauge = FakeGauge()
    async with a_house(gauge=gauge) as house:
        commander = house.commander()
        commander.say(FUNCTION, ENVIRONMENT, assign(1))
        worker = await house.worker()
        looks = gauge.looks
        await until(lambda: gauge.looks >= looks + 10)  # at every turn, as something runs
        worker.do()
        await commander.next(msg.RangeDone)
        looks, began = gauge.looks, time.monotonic()
        await until(lambda: gauge.looks >= looks + 3)
        assert time.monotonic() - began > memory_watch.AT_LEAST_EVERY * 0.001


async def test_what_comes_with_a_batch_is_refused_if_it_is_big_and_the_node_full():
    gauge = FakeGauge()
    async with a_house(gauge=gauge) as house:
        commander = house.commander()
        commander.say(FUNCTION, ENVIRONMENT, assign(1))
        worker = await house.worker()
        gauge.used = 97
        assert (await commander.next(msg.MemoryLevel)).level == "full"
        big = bytes(BIG_BYTES)
        static = worker_msg.DefineFunction("g", "bar", big + b"!")
        commander.say(assign(2, payload=big + b"!"), static, assign(3, function="g"))
        commander.say(assign(4, deposits=[[0, BIG_BYTES]], payload=Bundle(b"calls", [big])))
        given = [[msg.LOST - 1, BIG_BYTES + 1]]
        commander.say(msg.KeepPiece(msg.LOST - 1, big + b"!"), assign(5, deposits=given))
        for number in (2, 3, 4, 5):
            returned = await commander.next(msg.RangeReturned)
            assert (returned.batch, returned.why) == (number, "full")
            assert returned.report == {"used": 97, "limit": 100}
        commander.say(assign(6, payload=big), msg.AskStatus())
        assert (await commander.next(msg.Status)).queued == 1, "that is not too big"
        worker.do()
        await commander.next(msg.RangeDone)


async def test_a_draining_node_returns_its_queue_and_is_done_when_nothing_runs():
    async with a_house(slots=1) as house:
        commander = house.commander()
        commander.say(FUNCTION, ENVIRONMENT, assign(1), assign(2))
        worker = await house.worker()
        await until(lambda: worker.heard)
        house.ref.tell(Drain())
        await commander.next(msg.Draining)
        assert (await commander.next(msg.RangeReturned)).why == "unstarted"
        assert not house.drained.is_set()
        worker.do()
        await until(house.drained.is_set)


async def test_work_that_must_end_with_its_node_ends_before_the_goodbyes():
    async with a_house(slots=1) as house:
        commander = house.commander()
        commander.say(FUNCTION, ENVIRONMENT, assign(1), assign(2))
        worker = await house.worker()
        await until(lambda: worker.heard)
        house.ref.tell(EndWork())
        assert worker.killed
        assert not commander.closed
        commander.say(assign(3), msg.StealBatches(1), msg.AskStatus())  # not knowing that yet
        status = await commander.next(msg.Status)
        assert status.queued == 0


async def test_the_workers_and_directories_of_a_session_go_with_it():
    async with a_house() as house:
        commander = house.commander()
        commander.say(FUNCTION, ENVIRONMENT, assign())
        worker = await house.worker()
        assert house.directories()
        commander.channel.close()
        await until(lambda: worker.killed)
        await until(lambda: not house.directories())
        assert house.actor._guests == {}
        await until(lambda: house.actor._workers == {})


async def test_a_zygote_that_dies_is_replaced():
    async with a_house() as house:
        for deaths in (1, 2):
            house.actor.zygote_died()
            await until(lambda deaths=deaths: house.nursery.starts == deaths)


# -- files -----------------------------------------------------------------------------


def with_files(key: str = "e", *paths: str, digest: str = DIGEST) -> msg.DefineEnvironment:
    files: list[list[str | int]] = [[p, 0o644, digest, len(DATA)] for p in paths or ("a.py",)]
    return msg.DefineEnvironment(key, files, {})


def piece(lo: int, hi: int, size: int = len(DATA)) -> msg.FileData:
    return msg.FileData(DIGEST, lo, size, DATA[lo:hi])


async def test_files_are_asked_for_once_and_stand_in_the_job_s_own_directory():
    async with a_house() as house:
        commander = house.commander()
        commander.say(FUNCTION, with_files("e"), with_files("other"), assign())
        assert (await commander.next(msg.NeedFiles)).sha256s == [DIGEST]
        assert (await commander.next(msg.NeedFiles)).sha256s == []
        assert house.nursery.processes == []
        commander.say(piece(0, 5), piece(5, len(DATA)))
        worker = await house.worker()
        assert (Path(worker.spec.cwd) / "a.py").read_bytes() == DATA
        assert worker.spec.sys_path == [worker.spec.cwd]
        assert len(house.directories()) == 2
        commander.say(msg.ForgetEnvironment("other"))
        await until(lambda: len(house.directories()) == 1)


async def test_two_commanders_may_send_the_same_file_at_the_same_time():
    async with a_house() as house:
        one, two = house.commander(), house.commander()
        for commander in (one, two):
            commander.say(FUNCTION, with_files(), assign())
            assert (await commander.next(msg.NeedFiles)).sha256s == [DIGEST]
        one.say(piece(0, 5))
        await turns(3)
        two.say(piece(0, 3))
        await turns(3)
        one.say(piece(5, len(DATA)))
        two.say(piece(3, len(DATA)))
        await until(lambda: len(house.nursery.processes) == 2)
        for commander in (one, two):
            assert not any(isinstance(m, msg.EnvironmentFailed) for m in commander.heard)


@pytest.mark.parametrize(
    "bad",
    [
        piece(5, 9),
        msg.FileData(DIGEST, 0, GONE),
        msg.FileData(DIGEST, 0, len(DATA), b"x" * len(DATA)),
        msg.FileData(DIGEST, 0, 3, DATA),
    ],
)
async def test_a_file_that_does_not_come_as_promised_breaks_its_environment_only(bad: Any):
    async with a_house() as house:
        commander = house.commander()
        commander.say(FUNCTION, with_files("e"), msg.DefineEnvironment("good", [], {}))
        commander.say(assign(1), assign(2, environment="good"))
        await commander.next(msg.NeedFiles)
        commander.say(bad, bad)
        assert (await commander.next(msg.EnvironmentFailed)).environment == "e"
        assert (await commander.next(msg.RangeReturned)).why == "environment"
        (await house.worker()).do()
        assert (await commander.next(msg.RangeDone)).batch == 2


async def test_contents_that_nobody_asked_for_are_not_taken():
    async with a_house() as house:
        commander = house.commander()
        commander.say(msg.FileData("../../evil", 0, 3, b"abc"), piece(0, len(DATA)))
        commander.say(msg.AskStatus())
        await commander.next(msg.Status)
        assert house.contents() == []


async def test_an_upload_goes_on_when_its_job_ends_and_serves_the_next_one():
    async with a_house() as house:
        commander = house.commander()
        commander.say(FUNCTION, with_files("e"))
        await commander.next(msg.NeedFiles)
        commander.say(piece(0, 5), msg.ForgetEnvironment("e"), with_files("next"))
        assert (await commander.next(msg.NeedFiles)).sha256s == []
        commander.say(piece(5, len(DATA)), assign(environment="next"))
        worker = await house.worker()
        assert (Path(worker.spec.cwd) / "a.py").read_bytes() == DATA


async def test_a_job_may_end_while_its_directory_is_filled(monkeypatch: pytest.MonkeyPatch):
    async with a_house() as house:
        furnish = house.workshop.furnish
        gate = asyncio.Event()
        loop = asyncio.get_running_loop()

        def slowly(realm: str, directory: Path, files: Any) -> set[str]:
            asyncio.run_coroutine_threadsafe(gate.wait(), loop).result(5)
            return furnish(realm, directory, files)

        monkeypatch.setattr(house.workshop, "furnish", slowly)
        commander = house.commander()
        commander.say(with_files("e"))
        await commander.next(msg.NeedFiles)
        commander.say(piece(0, len(DATA)))
        await until(house.directories)
        commander.say(msg.ForgetEnvironment("e"), msg.AskStatus())
        await commander.next(msg.Status)
        gate.set()
        await until(lambda: not house.directories())


async def test_modules_stand_apart_from_files_and_come_before_all_else():
    async with a_house() as house:
        commander = house.commander()
        modules: list[list[str | int]] = [["pkg/a.py", 0o644, DIGEST, len(DATA)]]
        around = msg.DefineEnvironment("e", [], {}, modules=modules)
        commander.say(FUNCTION, around, assign())
        await commander.next(msg.NeedFiles)
        commander.say(piece(0, len(DATA)))
        worker = await house.worker()
        assert (Path(worker.spec.library) / "pkg/a.py").read_bytes() == DATA
        assert not await asyncio.to_thread(os.listdir, worker.spec.cwd)
        assert worker.spec.sys_path == []
        commander.say(msg.ForgetEnvironment("e"))
        await until(lambda: house.directories() == [Path(worker.spec.cwd)])


async def test_packages_are_refused_where_none_may_be_installed():
    async with a_house() as house:
        commander = house.commander()
        wanting = msg.DefineEnvironment("e", [], {}, requirements=["numpy>=2"])
        commander.say(FUNCTION, wanting, msg.DefineEnvironment("good", [], {}))
        commander.say(assign(1), assign(2, environment="good"))
        failed = await commander.next(msg.EnvironmentFailed)
        assert "['numpy>=2']" in failed.error
        assert "--allow-install" in failed.error
        assert (await commander.next(msg.RangeReturned)).why == "environment"
        await house.worker()
        commander.say(msg.ForgetEnvironment("e"), wanting)
        assert (await commander.next(msg.EnvironmentFailed)).environment == "e"


async def test_a_worker_has_the_packages_of_its_job_when_they_are_there(tmp_path: Path):
    gate = asyncio.Event()

    class FakeInstaller:
        closed = False

        async def packages(self, requirements: list[str]) -> Packages:
            await gate.wait()
            if requirements == ["bad"]:
                raise InstallError("pip failed")
            return Packages(tmp_path, (str(tmp_path / "site"),))

        def close(self) -> None:
            self.closed = True

    async with a_house() as house:
        house.workshop.installer = installer = FakeInstaller()  # type: ignore[assignment]
        commander = house.commander()
        commander.say(FUNCTION, msg.DefineEnvironment("bad", [], {}, requirements=["bad"]))
        commander.say(msg.DefineEnvironment("e", [], {"A": "1"}, requirements=["numpy"]), assign())
        commander.say(msg.AskStatus())
        await commander.next(msg.Status)
        assert house.nursery.processes == []
        gate.set()
        assert "['bad'] cannot be installed: pip failed" in (
            (await commander.next(msg.EnvironmentFailed)).error
        )
        spec = (await house.worker()).spec
        assert spec.site == [str(tmp_path / "site")]
        assert spec.variables["VIRTUAL_ENV"] == str(tmp_path)
        assert str(spec.variables["PATH"]).startswith(f"{tmp_path / 'bin'}:")
    assert installer.closed


async def test_contents_stay_for_the_next_session_of_their_token_and_no_other():
    async with a_house() as house:
        one = house.commander("a token")
        one.say(with_files())
        await one.next(msg.NeedFiles)
        one.say(piece(0, len(DATA)))
        await until(house.directories)
        one.channel.close()
        await until(lambda: not house.directories())
        stranger, same = house.commander("another"), house.commander("a token")
        for commander in (stranger, same):
            commander.say(FUNCTION, with_files(), assign())
        assert (await stranger.next(msg.NeedFiles)).sha256s == [DIGEST]
        await house.worker()
        assert not any(isinstance(m, msg.NeedFiles) for m in same.heard)


async def test_contents_of_a_token_that_is_revoked_are_removed():
    async with a_house() as house:
        one = house.commander("a token")
        one.say(with_files())
        await one.next(msg.NeedFiles)
        one.say(piece(0, len(DATA)))
        await until(house.directories)
        house.ref.tell(TokenRevoked("a token"))
        await until(lambda: not house.contents())


async def test_contents_that_were_spoilt_in_the_store_are_asked_for_again():
    async with a_house() as house:
        commander = house.commander()
        commander.say(FUNCTION, with_files("e"), assign())
        await commander.next(msg.NeedFiles)
        commander.say(piece(0, len(DATA)))
        await house.worker()
        (kept,) = house.contents()
        kept.write_bytes(b"spoilt")
        commander.say(with_files("next"), assign(2, environment="next"))
        assert (await commander.next(msg.NeedFiles)).sha256s == [DIGEST]
        commander.say(piece(0, len(DATA)))
        worker = await house.worker(1)
        assert (Path(worker.spec.cwd) / "a.py").read_bytes() == DATA


async def test_half_a_file_goes_with_the_session_that_sent_it():
    async with a_house() as house:
        commander = house.commander()
        commander.say(with_files())
        await commander.next(msg.NeedFiles)
        commander.say(piece(0, 5))
        await until(house.contents)
        commander.channel.close()
        await until(lambda: not house.contents())


# -- hostile Commanders ----------------------------------------------------------------


def unchecked(message: Message, **fields: Any) -> Message:
    """A message whose insides are not what its hints say."""
    for name, value in fields.items():
        setattr(message, name, value)
    return message


HOSTILE: dict[str, Callable[[], list[Message]]] = {
    "unknown function": lambda: [assign(function="g")],
    "unknown environment": lambda: [assign(environment="x")],
    "batch sent twice": lambda: [assign(7), assign(7)],
    "batch without calls": lambda: [assign(lo=3, hi=3)],
    "batch before the first call": lambda: [assign(lo=-1, hi=3)],
    "batch backwards": lambda: [assign(lo=3, hi=1)],
    "resources of words": lambda: [unchecked(assign(), resources={"gpu": "two"})],
    "resources of lists": lambda: [unchecked(assign(), resources={"gpu": [1]})],
    "resources of nothing": lambda: [unchecked(assign(), resources={"gpu": None})],
    "resources of truth": lambda: [unchecked(assign(), resources={"gpu": True})],
    "a GPU and a half": lambda: [assign(resources={"GPU": 1.5})],
    "negative resources": lambda: [assign(resources={"gpu": -1.0})],
    "negative cpus": lambda: [assign(cpus=-1.0)],
    "no time": lambda: [assign(timeout_s=0.0)],
    "negative time": lambda: [assign(timeout_s=-1.0)],
    "environment defined twice": lambda: [ENVIRONMENT],
    "variables of numbers": lambda: [
        unchecked(msg.DefineEnvironment("x", [], {}), variables={"A": 1})
    ],
    "variables of lists": lambda: [
        unchecked(msg.DefineEnvironment("x", [], {}), variables={"A": ["b"]})
    ],
    "variables with a zero": lambda: [msg.DefineEnvironment("x", [], {"A\0": "b"})],
    "paths of numbers": lambda: [unchecked(msg.DefineEnvironment("x", [], {}), sys_path=[1, None])],
    "packages by numbers": lambda: [
        unchecked(msg.DefineEnvironment("x", [], {}), requirements=[1])
    ],
    "packages that are options": lambda: [
        msg.DefineEnvironment("x", [], {}, requirements=["--index-url=https://evil.example"])
    ],
    "a directory with a zero": lambda: [msg.DefineEnvironment("x", [], {}, cwd="a\0b")],
    "takes what is not kept": lambda: [assign(deposits=[[7, 5]])],
    "takes more than comes along": lambda: [assign(deposits=[[0, 6]])],
    "takes words": lambda: [unchecked(assign(), deposits=["abc"])],
    "fetches what is not kept": lambda: [msg.FetchDeposit(7)],
    "gives workers what is not kept": lambda: [worker_msg.RefEnded(1, "r-1", False, 7)],
    "forgets words": lambda: [unchecked(msg.ForgetDeposits([]), keys=["a"])],
    "has something kept under another's key": lambda: [msg.KeepPiece(7, b"x")],
    "has nothing kept as lost": lambda: [msg.KeepPiece(-1, b"x")],
    "has two things kept under a key": lambda: [msg.KeepPiece(-2, b"x"), msg.KeepPiece(-2, b"y")],
    "forgets pieces by words": lambda: [unchecked(msg.ForgetPieces([]), keys=[["a"]])],
    "forgets results as pieces": lambda: [msg.ForgetPieces([7])],
    "asks for a longer echo than there is": lambda: [msg.Probe(1, PROBE_MAX_BYTES + 1)],
    "asks for less than nothing": lambda: [msg.Probe(1, -1)],
}


@pytest.mark.parametrize("name", HOSTILE)
async def test_a_commander_that_breaks_the_rules_loses_its_session_and_nobody_else(name: str):
    async with a_house() as house:
        honest, hostile = house.commander(), house.commander()
        for commander in (honest, hostile):
            commander.say(FUNCTION, ENVIRONMENT)
        hostile.say(*HOSTILE[name]())
        await until(lambda: hostile.closed)
        honest.say(assign())
        await until(lambda: any(not p.killed for p in house.nursery.processes))
        worker = next(p for p in house.nursery.processes if not p.killed)
        worker.say(worker_msg.WorkerReady())
        worker.do()
        assert (await honest.next(msg.RangeDone)).batch == 1
        assert not honest.closed


HARMLESS: dict[str, Callable[[], list[Message]]] = {
    "cancel of nothing": lambda: [msg.CancelBatch(99, 99), msg.CancelBatch(-1, -1, force=True)],
    "steal of nothing": lambda: [
        msg.StealBatches(-5),
        msg.StealBatches(0),
        msg.StealBatches(10**9),
    ],
    "forget of nothing": lambda: [msg.ForgetEnvironment("x")],
    "forget in use": lambda: [assign(), msg.ForgetEnvironment("e")],
    "piece of nothing": lambda: [msg.FileData("x", -1, -5, b"")],
    "more than there is": lambda: [assign(cpus=1e9), assign(2, resources={"gpu": 1.0})],
    "messages for others": lambda: [
        msg.Draining(),
        worker_msg.WorkerReady(),
        worker_msg.Yielded(1, 1),
    ],
    "files by numbers": lambda: [
        unchecked(msg.DefineEnvironment("x", [], {}), files=[5, "abcd", None, ["a"]])
    ],
    "files that climb": lambda: [
        msg.DefineEnvironment("x", [["../a", 0o644, DIGEST, 1]], {}),
        msg.DefineEnvironment("y", [["a", 0o644, "../x", 1]], {}),
    ],
    "modules that climb": lambda: [
        msg.DefineEnvironment("x", [], {}, modules=[["../a.py", 0o644, DIGEST, 1]]),
        unchecked(msg.DefineEnvironment("y", [], {}), modules=[5]),
    ],
}


@pytest.mark.parametrize("name", HARMLESS)
async def test_what_makes_no_sense_but_harms_nobody_is_survived(name: str):
    async with a_house() as house:
        commander = house.commander()
        commander.say(FUNCTION, ENVIRONMENT, *HARMLESS[name](), msg.AskStatus())
        await commander.next(msg.Status)
        assert not commander.closed


# -- hostile workers -------------------------------------------------------------------


def progress(serial: int, lo: int, hi: int, **fields: Any) -> Message:
    return unchecked(worker_msg.Progress(serial, lo, hi, 10, True), **fields)


FORGED: dict[str, Message] = {
    "another range": progress(99, 0, 3),
    "calls it was not given": progress(1, 0, 4),
    "calls backwards": progress(1, 2, 1),
    "not from the beginning": progress(1, 1, 3),
    "negative time": progress(1, 0, 3, elapsed_us=-(10**12)),
    "words to be retried": progress(1, 0, 3, retryable=["a"]),
    "strangers to be retried": progress(1, 0, 3, retryable=[7]),
    "big results of strangers": progress(1, 0, 3, deposits=[[3, 5]], payload=bytes(9)),
    "bigger results than there are": progress(1, 0, 3, deposits=[[0, 5]], payload=bytes(4)),
    "big words": progress(1, 0, 3, deposits=["a"]),
    "twice to be retried": progress(1, 0, 3, retryable=[1, 1]),
    "truths to be retried": progress(1, 0, 3, retryable=[True]),
    "lists to be retried": progress(1, 0, 3, retryable=[[1]]),
    "refs that are lists": progress(1, 0, 3, refs=[[1]]),
    "an order": assign(),
    "a secret": worker_msg.DefineFunction("f", "evil", b"pickle"),
    "results of its own": msg.RangeDone(1, 1, 0, 3, 10),
    "output of its own": msg.Output("stdout", "f", 1, b"x"),
}


@pytest.mark.parametrize("name", FORGED)
async def test_a_worker_that_forges_messages_costs_its_own_calls_only(name: str):
    async with a_house(slots=2) as house:
        commander = house.commander()
        commander.say(FUNCTION, ENVIRONMENT, assign(1), assign(2))
        bad, good = await house.worker(0), await house.worker(1)
        await until(lambda: good.heard)
        bad.now = PageState(1)
        bad.say(FORGED[name])
        await until(lambda: bad.killed)
        good.do()
        assert (await commander.next(msg.RangeDone)).batch == 2
        returned = await commander.next(msg.RangeReturned)
        assert (returned.batch, returned.why) == (1, "crashed")
        assert not commander.closed


@pytest.mark.slow
async def test_a_worker_that_talks_without_end_does_not_fill_the_mailbox():
    async with a_house(slots=2) as house:
        commander = house.commander()
        commander.say(FUNCTION, ENVIRONMENT, assign(1), assign(2))
        bad, good = await house.worker(0), await house.worker(1)
        await until(lambda: good.heard)
        house.ref._cell._busy = True  # so that all of it has to wait
        for _ in range(MAILBOX_MAX // 5000 + 1):
            for _ in range(5000):
                bad.say(worker_msg.Yielded(1, 99))
            house.ref._cell._busy = False
            await turns(1)
        good.do()
        assert (await commander.next(msg.RangeDone)).batch == 2


async def test_what_a_dead_or_unknown_worker_says_is_not_heard():
    async with a_house() as house:
        commander = house.commander()
        commander.say(FUNCTION, ENVIRONMENT, assign(hi=1))
        worker = await house.worker()
        worker.end()
        await until(lambda: len(house.nursery.processes) == 2)
        worker.do()
        worker.print(b"from the grave")
        worker.say(worker_msg.WorkerReady("I am not well"))
        (await house.worker(1)).do()
        await commander.next(msg.RangeDone)


async def test_an_initializer_that_fails_breaks_its_environment():
    async with a_house() as house:
        commander = house.commander()
        commander.say(FUNCTION, ENVIRONMENT, assign())
        await until(lambda: house.nursery.processes)
        house.nursery.processes[0].say(worker_msg.WorkerReady("ValueError: no such table"))
        failed = await commander.next(msg.EnvironmentFailed)
        assert (failed.environment, failed.error) == ("e", "ValueError: no such table")
        assert (await commander.next(msg.RangeReturned)).why == "environment"


@pytest.mark.slow
async def test_a_node_without_descriptors_left_fails_the_job_and_lives():
    async with a_house() as house:
        house.nursery.fork_error = OSError(24, "Too many open files")
        commander = house.commander()
        commander.say(FUNCTION, ENVIRONMENT, assign())
        assert (await commander.next(msg.EnvironmentFailed)).environment == "e"
        house.nursery.fork_error = None
        commander.say(msg.DefineEnvironment("better", [], {}), assign(2, environment="better"))
        (await house.worker()).do()
        assert (await commander.next(msg.RangeDone)).batch == 2


async def test_a_function_may_be_forgotten_and_defined_again():
    async with a_house(slots=1) as house:
        commander = house.commander()
        commander.say(FUNCTION, ENVIRONMENT, assign(1))
        worker = await house.worker()
        await until(lambda: worker.heard)
        worker.do()
        await commander.next(msg.RangeDone)
        commander.say(worker_msg.ForgetFunction("f"), FUNCTION, assign(2))
        await until(lambda: len(worker.heard) == 5)
        assert worker.heard[2:4] == [worker_msg.ForgetFunction("f"), FUNCTION]
        assert worker.run().serial == 2


async def test_a_function_in_use_cannot_be_forgotten():
    async with a_house() as house:
        commander = house.commander()
        commander.say(FUNCTION, ENVIRONMENT, assign(), worker_msg.ForgetFunction("f"))
        await until(lambda: commander.closed)
