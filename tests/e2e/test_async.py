"""``arun``, ``aimap``, ``aimap_unordered``, and the plain calls inside a running loop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from goliath import Commander
from tests.e2e.calls import add, fail, nap
from tests.lieutenants import Lieutenant


async def numbers(count: int) -> AsyncIterator[dict[str, int]]:
    """An asynchronous source of calls."""
    for n in range(count):
        await asyncio.sleep(0)
        yield {"a": n, "b": 1}


async def test_arun_gives_the_same_list_as_run(cmdr: Commander) -> None:
    results = await cmdr.arun(add, [{"a": n, "b": 1} for n in range(500)])
    assert results == list(range(1, 501))


async def test_arun_takes_an_async_iterable(cmdr: Commander) -> None:
    assert await cmdr.arun(add, numbers(300)) == list(range(1, 301))


async def test_the_loop_goes_on_while_arun_waits(cmdr: Commander) -> None:
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            await asyncio.sleep(0.01)
            ticks += 1

    ticker = asyncio.get_running_loop().create_task(tick())
    await cmdr.arun(nap, [{"seconds": 0.3}] * 2)
    ticker.cancel()
    assert ticks > 5


async def test_several_aruns_go_side_by_side(cmdr: Commander) -> None:
    results = await asyncio.gather(
        *(cmdr.arun(add, [{"a": n, "b": k} for n in range(50)]) for k in range(5))
    )
    assert results == [[n + k for n in range(50)] for k in range(5)]


async def test_an_exception_of_a_call_comes_out_of_arun(cmdr: Commander) -> None:
    with pytest.raises(ValueError, match="bad 1"):
        await cmdr.arun(fail, [(1,)])
    (error,) = await cmdr.arun(fail, [(1,)], return_exceptions=True)
    assert isinstance(error, ValueError)


async def test_cancelling_arun_cancels_its_calls(cmdr: Commander) -> None:
    start = time.monotonic()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(cmdr.arun(nap, [{"seconds": 30}] * 2), 0.5)
    # The workers are free again: interrupted first, killed after at most 4 s.
    assert await cmdr.arun(add, [(1, 1), (2, 2)]) == [2, 4]
    assert time.monotonic() - start < 8


async def test_aimap_yields_in_order_and_aimap_unordered_as_finished(cmdr: Commander) -> None:
    calls = [{"seconds": s} for s in (0.4, 0.01, 0.02)]
    assert [value async for value in cmdr.aimap(nap, calls)] == [0.4, 0.01, 0.02]
    assert [value async for value in cmdr.aimap_unordered(nap, calls)][-1] == 0.4


async def test_aimap_takes_an_async_iterable(cmdr: Commander) -> None:
    assert [value async for value in cmdr.aimap(add, numbers(200))] == list(range(1, 201))


async def test_aimap_over_an_endless_source_can_be_left_early(cmdr: Commander) -> None:
    pulled = 0

    async def endless() -> AsyncIterator[dict[str, int]]:
        nonlocal pulled
        while True:
            yield {"a": pulled, "b": 0}
            pulled += 1

    results = cmdr.aimap(add, endless(), buffersize=16)
    seen = []
    async for value in results:
        seen.append(value)
        if value == 20:
            break
    await results.aclose()
    assert seen == list(range(21))
    assert pulled < 100


async def test_a_commander_is_an_async_context_manager(node: Lieutenant) -> None:
    async with Commander([node.address]) as commander:
        assert await commander.arun(add, [(1, 1)]) == [2]


async def test_on_result_is_called_in_the_loops_thread(cmdr: Commander) -> None:
    import threading

    threads: set[Any] = set()
    await cmdr.arun(
        add,
        [(n, n) for n in range(50)],
        on_result=lambda index, value: threads.add(threading.current_thread()),
    )
    assert threads == {threading.current_thread()}


async def test_the_plain_calls_work_inside_a_running_loop_as_in_jupyter(cmdr: Commander) -> None:
    assert cmdr.run(add, [{"a": 1, "b": 1}]) == [2]
    assert list(cmdr.imap(add, [{"a": 1, "b": 1}])) == [2]
    assert cmdr.submit(add, 1, 1).result() == 2


async def test_an_embedded_commander_works_inside_a_running_loop() -> None:
    with Commander(workers=1) as commander:
        assert commander.run(add, [(1, 1)]) == [2]
        assert await commander.arun(add, [(1, 1)]) == [2]


def test_a_commander_outlives_the_loops_it_was_used_in(cmdr: Commander) -> None:
    for _ in range(3):
        assert asyncio.run(cmdr.arun(add, [(1, 1)])) == [2]
