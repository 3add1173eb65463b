"""Calls of coroutine functions, many at once in one worker."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from pathlib import Path

import pytest

import goliath
from goliath import (
    GoliathError,
    TaskCancelledError,
    TaskError,
    TaskTimeoutError,
    WorkerCrashedError,
)
from goliath.testing.processes import until


@pytest.fixture
def one():
    """A cluster of one worker."""
    yield goliath.init(workers=1)
    goliath.shutdown()


@goliath.remote
async def nap(seconds):
    await asyncio.sleep(seconds)
    return seconds


def hold_up():
    time.sleep(60)


def write(path, text, mode="w"):
    with open(path, mode) as file:
        file.write(text)


@goliath.remote
async def mark(path, seconds):
    """Nap, and say in a file how that ended."""
    write(path, "begun")
    try:
        await asyncio.sleep(seconds)
    except BaseException as exc:
        write(path, type(exc).__name__)
        raise
    write(path, "slept")
    return os.getpid()


running: list[int] = []
kept: list[object] = []


async def crowd(seconds):
    """How many of these there were in this process at the most, while it ran."""
    running.append(1)
    most = 0
    for _ in range(10):
        most = max(most, len(running))
        await asyncio.sleep(seconds / 10)
    running.pop()
    return most


def begun(path: Path):
    return lambda: path.exists() and path.read_text() == "begun"


def test_a_hundred_sleeps_on_one_worker_take_as_long_as_one(one):
    goliath.get(nap.remote(0))  # the worker has started
    since = time.monotonic()
    assert goliath.get([nap.remote(1) for _ in range(100)]) == [1] * 100
    assert time.monotonic() - since < 20


def test_a_quick_call_is_not_held_up_by_slow_ones_that_were_there_first(one):
    goliath.get([nap.remote(0.001) for _ in range(20)])  # so quick that they go in batches
    slow = [nap.remote(60) for _ in range(3)]
    quick = [nap.remote(0.001 + n / 1e6) for n in range(50)]
    assert goliath.get(quick, timeout=30) == [0.001 + n / 1e6 for n in range(50)]
    assert not any(ref.done() for ref in slow)
    for ref in slow:
        ref.cancel(force=True)


def test_what_is_mapped_runs_at_once_too(one):
    goliath.get(nap.remote(0))
    since = time.monotonic()
    assert goliath.get(nap.map([0.5] * 60)) == [0.5] * 60
    assert time.monotonic() - since < 15


def test_those_of_a_run_do_too(one):
    async def plain_nap(seconds):
        await asyncio.sleep(seconds)
        return seconds

    one.run(plain_nap, [(0,)])
    since = time.monotonic()
    assert one.run(plain_nap, [(0.5,)] * 60) == [0.5] * 60
    assert time.monotonic() - since < 15


def test_values_and_exceptions_come_back_with_the_right_refs(one):
    @goliath.remote
    async def odd_ones_fail(n):
        await asyncio.sleep((50 - n) / 500)  # the last ends first
        if n % 2:
            raise ValueError(n)
        return {"n": n}

    for n, ref in enumerate([odd_ones_fail.remote(n) for n in range(50)]):
        if n % 2:
            with pytest.raises(ValueError, match=str(n)) as caught:
                goliath.get(ref)
            assert caught.value.args == (n,)
        else:
            assert goliath.get(ref) == {"n": n}


@pytest.mark.parametrize("most", [1, 5])
def test_no_more_of_them_run_at_once_than_were_allowed(one, most: int):
    limited = goliath.remote(max_concurrency=most)(crowd)
    assert max(goliath.get([limited.remote(0.02) for _ in range(3 * most + 2)])) == most


def test_without_a_limit_a_hundred_run_at_once(one):
    goliath.get(nap.remote(0))
    assert max(goliath.get([goliath.remote(crowd).remote(1.0) for _ in range(150)])) <= 100


def test_a_cancelled_one_sees_it_at_its_await_and_the_others_go_on(one, tmp_path):
    paths = [tmp_path / str(n) for n in range(3)]
    refs = [
        mark.remote(str(path), seconds) for path, seconds in zip(paths, (2, 60, 2), strict=True)
    ]
    until(lambda: all(begun(path)() for path in paths), 30)
    goliath.cancel(refs[1])
    with pytest.raises(TaskCancelledError):
        goliath.get(refs[1], timeout=30)
    until(lambda: paths[1].read_text() == "CancelledError", 2)
    first, last = goliath.get([refs[0], refs[2]])
    assert first == last  # one process, which was not killed
    assert [path.read_text() for path in paths] == ["slept", "CancelledError", "slept"]


def test_one_that_takes_too_long_is_cancelled_and_the_others_go_on(one, tmp_path):
    goliath.get(nap.remote(0))
    late, well = mark.options(timeout=0.3), mark.options(timeout=30)
    paths = [tmp_path / str(n) for n in range(2)]
    slow = late.remote(str(paths[0]), 60)
    others = [well.remote(str(paths[1]), 1.0), nap.remote(1.0)]
    with pytest.raises(TaskTimeoutError, match=r"timeout=0\.3 s on .*; it was cancelled"):
        goliath.get(slow, timeout=30)
    assert paths[0].read_text() == "CancelledError"
    goliath.get(others)
    assert paths[1].read_text() == "slept"


def test_one_that_takes_too_long_and_does_not_await_costs_its_worker_and_nobody_else(one, tmp_path):
    @goliath.remote(timeout=1.0)
    async def stuck():
        hold_up()

    @goliath.remote(timeout=30.0)
    async def patient(path):
        write(path, "begun")
        await asyncio.sleep(0.5)
        return "done"

    beside = patient.remote(tmp_path / "beside")
    until((tmp_path / "beside").exists, 30)
    with pytest.raises(TaskTimeoutError, match="its worker was killed"):
        goliath.get(stuck.remote(), timeout=30)
    assert goliath.get(beside) == "done"


def test_one_that_ends_its_process_takes_others_with_it_which_run_again(one, tmp_path):
    @goliath.remote(max_retries=1)
    async def end():
        await asyncio.sleep(0.3)
        os._exit(3)

    @goliath.remote(max_retries=1)
    async def beside(n):
        write(tmp_path / str(n), "x", "a")
        await asyncio.sleep(1.0 if n < 5 else 0.1)
        return n

    refs = [beside.remote(n) for n in range(10)]
    until(lambda: len(list(tmp_path.iterdir())) == 10, 30)
    with pytest.raises(WorkerCrashedError):
        goliath.get(end.remote(), timeout=20)
    assert goliath.get(refs, timeout=20) == list(range(10))
    times = [len((tmp_path / str(n)).read_text()) for n in range(10)]
    assert times[:5] == [2] * 5
    assert max(times) == 2


def test_what_may_run_once_does_not_run_again_when_another_ends_its_process(one, tmp_path):
    @goliath.remote(max_retries=0)
    async def end():
        await asyncio.sleep(0.3)
        os._exit(3)

    once = mark.options(max_retries=0).remote(str(tmp_path / "once"), 30)
    until(begun(tmp_path / "once"), 30)
    with pytest.raises(WorkerCrashedError):
        goliath.get(end.remote(), timeout=20)
    with pytest.raises(WorkerCrashedError):
        goliath.get(once, timeout=20)


def test_calls_that_await_calls_do_not_starve_them_on_one_worker(one):
    @goliath.remote
    async def parent(n):
        ref = nap.remote(0.01)
        assert await ref == 0.01
        return n + sum(await asyncio.gather(*[child.remote(i) for i in range(3)]))

    @goliath.remote
    def child(n):
        return n

    assert goliath.get([parent.remote(n) for n in range(120)]) == [n + 3 for n in range(120)]


@goliath.remote
async def countdown(n):
    return n + await countdown.remote(n - 1) if n else 0


def test_a_recursion_deeper_than_a_worker_is_wide_finishes_on_one_worker(one):
    assert goliath.get(countdown.remote(150), timeout=60) == 150 * 151 // 2


def test_a_call_that_would_hold_up_the_loop_to_wait_for_another_is_told_to_await_it(one):
    @goliath.remote
    async def blocks():
        ref = nap.remote(0.01)
        assert goliath.wait([ref], timeout=0)[1] == [ref]  # to look is allowed
        with contextlib.suppress(GoliathError):
            goliath.get(ref)
            return "blocked"
        assert await asyncio.to_thread(goliath.get, ref) == 0.01
        return goliath.get(ref)  # there is nothing to wait for any more

    assert goliath.get(blocks.remote(), timeout=20) == 0.01

    @goliath.remote(max_concurrency=1)
    async def alone():
        return goliath.get(nap.remote(0.02))

    assert goliath.get(alone.remote(), timeout=20) == 0.02


def test_each_knows_which_call_it_is(one):
    @goliath.remote
    async def who():
        before = goliath.get_runtime_context().task_id
        await asyncio.sleep(0.2)
        later = await asyncio.to_thread(lambda: goliath.get_runtime_context().task_id)
        assert before == later
        return before

    refs = [who.remote() for _ in range(20)]
    assert goliath.get(refs) == [ref.task_id for ref in refs]


def test_what_a_call_leaves_running_ends_when_no_call_is_left(one, tmp_path):
    @goliath.remote
    async def leave(path):
        async def linger():
            try:
                await asyncio.sleep(60)
            finally:
                write(path, "ended")

        kept.append(asyncio.get_running_loop().create_task(linger()))
        await asyncio.sleep(0)

    goliath.get(leave.remote(str(tmp_path / "it")))
    until((tmp_path / "it").exists, 30)


def test_one_that_cancels_all_tasks_it_can_see_ends_those_calls_and_not_the_worker(one):
    @goliath.remote
    async def cancel_all():
        await asyncio.sleep(0.3)
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
        return "done"

    slow = nap.remote(30)
    assert goliath.get(cancel_all.remote(), timeout=30) == "done"
    with pytest.raises(TaskError, match="CancelledError"):
        goliath.get(slow, timeout=30)
    assert goliath.get(nap.remote(0.01)) == 0.01


@pytest.mark.parametrize("most", [0, 1001, 2.5, True])
def test_a_limit_that_is_none_is_refused(most):
    with pytest.raises(ValueError, match="max_concurrency"):
        goliath.remote(max_concurrency=most)(crowd)


def test_a_limit_for_a_plain_function_is_refused_with_what_to_do():
    with pytest.raises(ValueError, match="is for async functions"):
        goliath.remote(max_concurrency=2)(begun)
    goliath.remote(max_concurrency=1)(begun)
