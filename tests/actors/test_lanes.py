"""Ranges that run at the same time in one real worker process, seen from its parent."""

from __future__ import annotations

import asyncio
import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from goliath.actors.page import NOBODY, PageState
from goliath.actors.process import Process
from goliath.testing import processes
from goliath.transport.outcomes import read_outcomes
from goliath.transport.worker_messages import Flush, Interrupt, Progress, RefuseWait, Split, Yielded
from tests.actors.workshop import Workshop, workshop


def begin(
    shop: Workshop, process: Process, function: Callable[..., Any], *rows: Any, **kwargs: Any
) -> int:
    """Have rows run as a lane."""
    return shop.start(process, function, list(rows), concurrent=True, **kwargs)


async def hear(shop: Workshop, process: Process) -> Progress:
    """What it reports next."""
    message = await shop.next(process)
    assert isinstance(message, Progress), message
    return message


def values(progress: Progress) -> list[Any]:
    return list(read_outcomes(progress.payload)[0])


async def nap(seconds: float, x: int = 0) -> int:
    await asyncio.sleep(seconds)
    return x


def saying(path: Path) -> Callable[..., Any]:
    """A coroutine function that naps, and says on its way what becomes of it."""
    return functools.partial(_say, str(path))


async def _say(path: str, seconds: float) -> str:
    try:
        _write(path, "begun")
        await asyncio.sleep(seconds)
    except asyncio.CancelledError:
        _write(path, "cancelled")
        raise
    return path


def _write(path: str, text: str) -> None:
    with open(path, "w") as file:
        file.write(text)


async def until(condition: Callable[[], bool]) -> None:
    await asyncio.to_thread(processes.until, condition, 10)


async def until_begun(path: Path) -> None:
    await until(lambda: path.exists() and path.read_text() == "begun")


async def test_ranges_end_in_their_own_time() -> None:
    async with workshop() as shop:
        process = await shop.fork()
        slow = begin(shop, process, nap, (0.5, 1))
        quick = begin(shop, process, nap, (0.01, 2))
        first, second = await hear(shop, process), await hear(shop, process)
        assert [(p.serial, p.final, values(p)) for p in (first, second)] == [
            (quick, True, [2]),
            (slow, True, [1]),
        ]


async def test_the_calls_of_one_range_run_one_after_another() -> None:
    async def note(x: int, seen: list[str] = []) -> str:  # noqa: B006 - kept on purpose
        seen.append(f"{x} begins")
        await asyncio.sleep(0.01)
        seen.append(f"{x} ends")
        return ", ".join(seen)

    async with workshop() as shop:
        process = await shop.fork()
        begin(shop, process, note, (1,), (2,))
        outcomes = await hear(shop, process)
        assert values(outcomes)[-1] == "1 begins, 1 ends, 2 begins, 2 ends"


async def test_a_plain_range_runs_when_the_last_of_them_has_ended() -> None:
    async with workshop() as shop:
        process = await shop.fork()
        begin(shop, process, nap, (0.01, 1))
        await hear(shop, process)
        assert (await shop.run(process, abs, [(-3,)])).values == {0: 3}
        begin(shop, process, nap, (0.01, 4))
        assert values(await hear(shop, process)) == [4]


async def test_what_has_finished_of_one_is_reported_and_the_rest_given_back_on_demand() -> None:
    async with workshop() as shop:
        process = await shop.fork()
        other = begin(shop, process, nap, (30, 9))
        serial = begin(shop, process, nap, (0.01, 1), (0.3, 2), (30, 3), (30, 4))
        await asyncio.sleep(0.15)
        process.control(Flush(serial))
        said = await hear(shop, process)
        assert (said.serial, said.lo, said.hi, said.final) == (serial, 0, 1, False)
        process.control(Split(serial, 1))
        assert await shop.next(process) == Yielded(serial, 2)
        said = await hear(shop, process)
        assert (said.serial, said.lo, said.hi, said.final) == (serial, 1, 2, True)
        process.control(Interrupt(other))
        assert (await hear(shop, process)).serial == other


async def test_one_is_interrupted_at_its_await_and_the_others_go_on(tmp_path: Path) -> None:
    async with workshop() as shop:
        process = await shop.fork()
        doomed, other = tmp_path / "doomed", tmp_path / "other"
        serial = begin(shop, process, saying(doomed), (60,), (60,))
        begin(shop, process, saying(other), (0.5,))
        await until_begun(doomed)
        await until_begun(other)
        process.control(Interrupt(serial))
        said = await hear(shop, process)
        assert (said.serial, said.lo, said.hi) == (serial, 0, 0)
        assert (said.final, said.interrupted) == (True, True)
        assert doomed.read_text() == "cancelled"
        assert values(await hear(shop, process)) == [str(other)]


async def test_an_interrupt_of_a_call_that_has_ended_strikes_no_other(tmp_path: Path) -> None:
    async with workshop() as shop:
        process = await shop.fork()
        path = tmp_path / "it"
        serial = begin(shop, process, saying(path), (0.0,), (0.4,), careful=True)
        assert (await hear(shop, process)).hi == 1
        process.control(Interrupt(serial, 0))
        said = await hear(shop, process)
        assert (said.hi, said.final, said.interrupted, values(said)) == (
            2,
            True,
            False,
            [str(path)],
        )


async def test_one_that_swallows_its_cancel_has_a_result_and_starts_no_other() -> None:
    async def stubborn(seconds: float) -> str:
        try:
            await asyncio.sleep(seconds)
        except asyncio.CancelledError:
            await asyncio.sleep(0.01)
            return "swallowed"
        return "slept"

    async with workshop() as shop:
        process = await shop.fork()
        serial = begin(shop, process, stubborn, (60,), (60,))
        await asyncio.sleep(0.2)
        process.control(Interrupt(serial))
        said = await hear(shop, process)
        assert (said.hi, said.final, said.interrupted) == (1, True, True)
        assert values(said) == ["swallowed"]


async def test_one_that_may_not_wait_for_other_calls_is_told_so() -> None:
    async with workshop() as shop:
        process = await shop.fork()
        serial = begin(shop, process, nap, (60, 1), (0.0, 2))
        await asyncio.sleep(0.2)
        process.control(RefuseWait(serial))
        said = await hear(shop, process)
        failures = read_outcomes(said.payload)[2]
        assert (said.hi, said.final, said.interrupted) == (2, True, False)
        assert failures[0]["type"] == "RecursionError"
        assert values(said)[1] == 2


async def test_one_that_has_not_begun_is_interrupted_before_it_does() -> None:
    async def hold(x: int) -> int:
        import time

        time.sleep(0.5)  # noqa: ASYNC251 - so that the next one cannot begin
        return x

    async with workshop() as shop:
        process = await shop.fork()
        begin(shop, process, hold, (1,))
        await asyncio.sleep(0.1)
        serial = begin(shop, process, nap, (60, 2))
        process.control(Interrupt(serial))
        assert values(await hear(shop, process)) == [1]
        said = await hear(shop, process)
        assert (said.serial, said.hi, said.interrupted) == (serial, 0, True)


async def test_the_page_tells_of_all_that_run_and_so_does_the_report_of_a_death() -> None:
    async def end() -> None:
        await asyncio.sleep(0.3)
        os._exit(5)

    async with workshop() as shop:
        process = await shop.fork()
        careful = begin(shop, process, nap, (0.0, 1), (60, 1), careful=True)
        careless = begin(shop, process, nap, (60, 1))
        done = begin(shop, process, nap, (0.0, 1))
        assert {(await hear(shop, process)).serial for _ in range(2)} == {careful, done}
        await until(lambda: {page.serial for page in process.pages()} == {careful, careless})
        now = {page.serial: page for page in process.pages()}
        assert (now[careful].index, now[careless].index) == (1, NOBODY)
        assert now[careful].started_at > 0
        last = begin(shop, process, end, {})
        report = await shop.owner.exit_of(process)
        died = {page.serial for page in (report.page, *report.others)}
        assert died == {careful, careless, last}


async def test_between_ranges_the_page_is_empty() -> None:
    async with workshop() as shop:
        process = await shop.fork()
        for _ in range(3):
            serials = {begin(shop, process, nap, (0.01, 1)) for _ in range(5)}
            assert {(await hear(shop, process)).serial for _ in range(5)} == serials
        # It answers first, and clears its place then.
        await until(lambda: process.pages() == [])
        process.kill()
        report = await shop.owner.exit_of(process)
        assert (report.page, list(report.others)) == (PageState(), [])


async def test_whatever_they_raise_is_an_outcome() -> None:
    async def fail(how: str) -> None:
        await asyncio.sleep(0.01)
        if how == "exit":
            raise SystemExit(3)
        raise KeyboardInterrupt if how == "interrupt" else ValueError(how)

    async with workshop() as shop:
        process = await shop.fork()
        for how in ("exit", "interrupt", "other"):
            begin(shop, process, fail, (how,))
        for _ in range(3):
            said = await hear(shop, process)
            assert len(read_outcomes(said.payload)[2]) == 1
        assert (await shop.run(process, abs, [(-3,)])).values == {0: 3}


async def test_a_thread_that_they_leave_is_told_with_the_last_of_them() -> None:
    async def leave() -> None:
        import threading
        import time

        threading.Thread(target=time.sleep, args=(20,)).start()

    async with workshop() as shop:
        process = await shop.fork()
        slow = begin(shop, process, nap, (0.5, 1))
        begin(shop, process, leave, {})
        assert not (await hear(shop, process)).dirty
        last = await hear(shop, process)
        assert (last.serial, last.dirty) == (slow, True)


async def test_many_begin_and_end_while_others_run() -> None:
    async with workshop() as shop:
        process = await shop.fork()
        serials = {begin(shop, process, nap, (0.02 * (n % 7), n)) for n in range(300)}
        heard = [await hear(shop, process) for _ in range(300)]
        assert {said.serial for said in heard} == serials
        assert sorted(values(said)[0] for said in heard) == list(range(300))


async def test_arguments_outlive_the_buffer_that_they_came_in() -> None:
    async def size(data: bytes, seconds: float) -> int:
        await asyncio.sleep(seconds)
        return data.count(b"x")

    async with workshop() as shop:
        process = await shop.fork()
        for n in range(20):
            begin(shop, process, size, (b"x" * (100_000 + n), 0.1), (b"x" * n, 0.0))
        outcomes = sorted([values(await hear(shop, process)) for _ in range(20)])
        assert outcomes == [[100_000 + n, n] for n in range(20)]
