"""Worker processes seen from the Lieutenant: they answer, they end, and they end completely."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from typing import Any

import pytest

from goliath.actors.nursery import Nursery
from goliath.actors.spec import WorkerSpec
from goliath.config import NodeConfig
from goliath.core.ids import WorkerId
from goliath.testing.processes import alive, look, until
from goliath.transport.worker_messages import DefineFunction, WorkerReady
from tests.actors.workshop import Owner, Workshop, workshop

pytestmark = pytest.mark.slow


async def test_calls_come_back_in_order_with_their_values() -> None:
    async with workshop() as shop:
        process = await shop.fork()
        outcomes = await shop.run(process, str_sum, [{"bar": i, "baz": 1} for i in range(1000)])
        assert outcomes.values == {i: f"{i}1" for i in range(1000)}
        assert outcomes.failures == {}
        assert not outcomes.final.dirty


def str_sum(bar: int, baz: int) -> str:
    return str(bar) + str(baz)


async def test_a_range_runs_only_its_part_of_the_payload() -> None:
    async with workshop() as shop:
        process = await shop.fork()
        rows = [{"x": i} for i in range(10)]
        outcomes = await shop.run(process, lambda x: x, rows, lo=3, hi=7)
        assert outcomes.values == {3: 3, 4: 4, 5: 5, 6: 6}


async def test_payloads_bigger_than_every_buffer_pass_both_ways() -> None:
    async with workshop() as shop:
        process = await shop.fork()
        blob = os.urandom(1024) * (24 * 1024)
        outcomes = await shop.run(process, lambda x: x + b"!", [{"x": blob}])
        assert outcomes.values == {0: blob + b"!"}
        outcomes = await shop.run(process, lambda x: x, [{"x": 1}])
        assert outcomes.values == {0: 1}


async def test_ranges_may_be_queued_in_the_socket() -> None:
    async with workshop() as shop:
        process = await shop.fork(ready=False)
        serials = [shop.start(process, lambda x: x * 2, [{"x": n}]) for n in range(50)]
        assert await shop.next(process) == WorkerReady()
        got = [(await shop.gather(process, serial)).values for serial in serials]
        assert got == [{0: n * 2} for n in range(50)]


async def test_prints_arrive_before_the_result_and_tell_the_streams_apart() -> None:
    def speak(x: int) -> int:
        print("out", x)
        print("err", x, file=sys.stderr)
        print("rest", end="")
        return x

    async with workshop() as shop:
        process = await shop.fork()
        await shop.run(process, speak, [{"x": 1}, {"x": 2}])
        assert shop.owner.output[process.worker, "stdout"] == b"out 1\nrestout 2\nrest"
        assert shop.owner.output[process.worker, "stderr"] == b"err 1\nerr 2\n"
        assert shop.owner.log[-1][1] == "message"


async def test_a_worker_that_prints_for_ever_waits_while_its_output_is_paused() -> None:
    def chatter() -> None:
        while True:
            os.write(1, b"x" * 99 + b"\n")

    async with workshop() as shop:
        process = await shop.fork()
        process.pause_output()
        shop.start(process, chatter, [{}])
        pid = process.pid
        assert pid is not None
        await asyncio.to_thread(until, lambda: sleeping_in_write(pid), 5, "it waits")
        assert not shop.owner.output
        process.resume_output()
        await shop.owner.until(lambda: len(shop.owner.output[process.worker, "stdout"]) > 200_000)
        process.kill()
        await shop.owner.exit_of(process)


def sleeping_in_write(pid: int) -> bool:
    with open(f"/proc/{pid}/wchan") as file:
        return "pipe" in file.read()


@pytest.mark.parametrize(
    ("end", "sig", "code"),
    [
        (lambda: os._exit(7), None, 7),
        (lambda: os.kill(os.getpid(), signal.SIGKILL), signal.SIGKILL, None),
        (lambda: os.abort(), signal.SIGABRT, None),
    ],
    ids=["os._exit", "kill -9", "abort"],
)
async def test_a_death_is_told_once_with_its_cause(end: Any, sig: Any, code: Any) -> None:
    async with workshop() as shop:
        process = await shop.fork()
        shop.start(process, end, [{}])
        report = await shop.owner.exit_of(process)
        assert (report.pid, report.signal, report.exit_code) == (process.pid, sig, code)
        assert report.page.serial == 1
        assert not report.oom


async def test_a_segfault_leaves_the_stack_in_the_last_words() -> None:
    def crash() -> None:
        import ctypes

        print("about to crash", file=sys.stderr)
        ctypes.string_at(0)

    async with workshop() as shop:
        process = await shop.fork()
        shop.start(process, crash, [{}])
        report = await shop.owner.exit_of(process)
        assert report.signal == signal.SIGSEGV
        assert "about to crash" in report.stderr_tail
        assert "Segmentation fault" in report.stderr_tail
        assert "string_at" in report.stderr_tail


async def test_what_was_said_before_a_death_is_heard_before_it() -> None:
    def last_words(x: int) -> str:
        if x == 3:
            print("goodbye")
            os._exit(1)
        return "v" * 100_000

    async with workshop() as shop:
        process = await shop.fork()
        serial = shop.start(process, last_words, [{"x": i} for i in range(5)], careful=True)
        await shop.owner.exit_of(process)
        reported = [await shop.next(process) for _ in range(3)]
        assert [(m.serial, m.lo, m.hi) for m in reported] == [  # type: ignore[attr-defined]
            (serial, 0, 1),
            (serial, 1, 2),
            (serial, 2, 3),
        ]
        assert shop.owner.output[process.worker, "stdout"] == b"goodbye\n"
        report = shop.owner.exits[process.worker][0]
        assert (report.page.serial, report.page.index) == (serial, 3)


async def test_a_kill_is_seen_within_a_tenth_of_a_second() -> None:
    async with workshop() as shop:
        process = await shop.fork()
        assert process.pid is not None
        start = time.monotonic()
        os.kill(process.pid, signal.SIGKILL)
        report = await shop.owner.exit_of(process)
        assert time.monotonic() - start < 0.1
        assert report.signal == signal.SIGKILL


async def test_a_process_can_be_killed_before_it_is_born() -> None:
    async with workshop() as shop:
        process = await shop.fork(ready=False)
        process.kill()
        report = await shop.owner.exit_of(process)
        assert report.signal == signal.SIGKILL


async def test_a_dismissed_worker_runs_its_exit_functions() -> None:
    def remember() -> None:
        import atexit

        atexit.register(lambda: print("tidied up"))

    async with workshop() as shop:
        process = await shop.fork()
        await shop.run(process, remember, [{}])
        process.dismiss()
        report = await shop.owner.exit_of(process)
        assert report.exit_code == 0
        assert shop.owner.output[process.worker, "stdout"] == b"tidied up\n"


async def test_the_page_tells_which_call_runs_without_asking_the_worker() -> None:
    def wait(x: int) -> None:
        if x == 2:
            time.sleep(30)

    async with workshop() as shop:
        process = await shop.fork()
        serial = shop.start(process, wait, [{"x": i} for i in range(5)], careful=True)
        await shop.next(process)
        await shop.next(process)
        await asyncio.to_thread(until, lambda: [page.index for page in process.pages()] == [2], 5)
        (page,) = process.pages()
        assert (page.serial, page.index) == (serial, 2)
        assert abs(page.started_at - time.clock_gettime(time.CLOCK_BOOTTIME)) < 5
        process.kill()
        await shop.owner.exit_of(process)


@pytest.mark.parametrize("number", [100, 101], ids=["calls", "control"])
async def test_hostile_frames_end_the_worker(number: int) -> None:
    def forge() -> None:
        import socket

        socket.socket(fileno=os.dup(number)).sendall(b"\x0a" + bytes(7) + b"garbage!!!")
        time.sleep(30)

    async with workshop() as shop:
        process = await shop.fork()
        shop.start(process, forge, [{}])
        report = await shop.owner.exit_of(process)
        assert "its socket failed" in report.stderr_tail


async def test_a_worker_that_closes_its_own_socket_is_replaced_not_waited_for() -> None:
    async with workshop() as shop:
        process = await shop.fork()
        shop.start(process, lambda: os.closerange(3, 1000), [{}])
        report = await shop.owner.exit_of(process)
        assert report.pid == process.pid


async def test_everything_a_worker_started_dies_with_it(kill: Any) -> None:
    def family() -> list[int]:
        sleep = ["sleep", "60"]
        group = subprocess.Popen(sleep)
        escaped = subprocess.Popen(sleep, start_new_session=True)
        forked = os.fork()
        if forked == 0:
            os.setsid()
            time.sleep(60)
        return [group.pid, escaped.pid, forked]

    async with workshop() as shop:
        process = await shop.fork()
        outcomes = await shop.run(process, family, [{}])
        relatives = [look(pid) for pid in outcomes.values[0]]
        assert all(relative and alive(relative) for relative in relatives)
        assert process.pid is not None
        kill(process.pid)
        await shop.owner.exit_of(process)
        for relative in relatives:
            assert relative is not None
            await asyncio.to_thread(until, lambda one=relative: not alive(one), 2, str(relative))


async def test_a_fork_inside_a_call_does_not_answer_twice() -> None:
    def doubled() -> int:
        os.fork()
        return 1

    async with workshop() as shop:
        process = await shop.fork()
        assert (await shop.run(process, doubled, [{}])).values == {0: 1}
        assert (await shop.run(process, lambda: 2, [{}])).values == {0: 2}


async def test_closing_kills_everybody_and_tells_of_everyone() -> None:
    shop = Workshop()
    await shop.nursery.start()
    processes = [await shop.fork() for _ in range(3)]
    processes.append(await shop.fork(ready=False))
    shop.start(processes[0], lambda: time.sleep(60), [{}])
    start = time.monotonic()
    await shop.nursery.close()
    assert time.monotonic() - start < 1
    assert [len(shop.owner.exits[p.worker]) for p in processes] == [1, 1, 1, 1]
    assert shop.zygote_exits == 0


@pytest.fixture(scope="module")
def uvloop_has_run() -> None:
    """libuv keeps a pipe for signals from its first loop to the end of the process."""
    import uvloop

    uvloop.run(asyncio.sleep(0))


@pytest.mark.usefixtures("uvloop_has_run")
async def test_it_works_on_uvloop_too() -> None:
    await asyncio.to_thread(_on_uvloop)


def _on_uvloop() -> None:
    import uvloop

    async def run() -> None:
        async with workshop() as shop:
            process = await shop.fork()
            blob = "x" * 3_000_000
            outcomes = await shop.run(process, lambda x: x, [{"x": blob}, {"x": 1}])
            assert outcomes.values == {0: blob, 1: 1}
            assert process.pid is not None
            os.kill(process.pid, signal.SIGKILL)
            assert (await shop.owner.exit_of(process)).signal == signal.SIGKILL

    uvloop.run(run())


async def test_a_fork_without_a_zygote_is_told_as_an_exit() -> None:
    owner = Owner()
    nursery = Nursery(NodeConfig(), lambda: None)
    process = nursery.fork(WorkerId(1), WorkerSpec(), owner, "s")
    process.send(DefineFunction("d", "f", b""))
    report = await owner.exit_of(process)
    assert report.pid is None
    assert "another one is started" in report.stderr_tail
    await nursery.close()
