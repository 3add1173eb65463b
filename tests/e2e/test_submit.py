"""``submit`` and the reference it returns."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from pathlib import Path

import pytest

from goliath import Commander, GetTimeoutError, SerializationError, WorkerCrashedError
from tests.e2e.calls import add, fail, meet, nap, same
from tests.lieutenants import Lieutenant
from tests.transport.proxy import proxying


def test_a_result_can_be_asked_for_again_and_again(cmdr: Commander) -> None:
    ref = cmdr.submit(add, 1, b=2)
    assert ref.result() == 3
    assert ref.result(timeout=1) == 3


def test_many_submits_are_in_flight_at_once(cmdr: Commander) -> None:
    refs = [cmdr.submit(add, n, 1) for n in range(2000)]
    assert [ref.result() for ref in refs] == list(range(1, 2001))


def test_submits_run_side_by_side(cmdr: Commander, tmp_path: Path) -> None:
    refs = [cmdr.submit(meet, tmp_path, n, 2) for n in range(2)]
    assert [ref.result() for ref in refs] == [0, 1]


def test_a_timeout_of_result_stops_only_the_waiting(cmdr: Commander) -> None:
    ref = cmdr.submit(nap, 0.6)
    with pytest.raises(GetTimeoutError) as caught:
        ref.result(timeout=0.1)
    assert isinstance(caught.value, TimeoutError)
    assert ref.result() == 0.6


def test_an_exception_is_raised_by_result_in_its_own_class_each_time(cmdr: Commander) -> None:
    ref = cmdr.submit(fail, 5)
    for _ in range(2):
        with pytest.raises(ValueError, match="bad 5"):
            ref.result()


def test_arguments_are_snapshotted_at_the_call(cmdr: Commander) -> None:
    refs = []
    items: list[int] = []
    for n in range(20):
        items.append(n)
        refs.append(cmdr.submit(len, items))
    items.clear()
    assert [ref.result() for ref in refs] == list(range(1, 21))


def test_an_unpicklable_argument_is_an_error_of_its_call(cmdr: Commander) -> None:
    with pytest.raises(SerializationError, match="lock"):
        cmdr.submit(same, threading.Lock()).result()
    assert cmdr.submit(same, 1).result() == 1


def test_a_wrong_call_is_a_type_error(cmdr: Commander) -> None:
    with pytest.raises(TypeError, match="zebra"):
        cmdr.submit(add, 1, zebra=2).result()


def test_a_worker_that_dies_fails_only_its_call(cmdr: Commander) -> None:
    def die():
        import os

        os._exit(3)

    bad = cmdr.submit(die)
    good = [cmdr.submit(add, n, 1) for n in range(20)]
    with pytest.raises(WorkerCrashedError) as caught:
        bad.result()
    assert caught.value.exit_code == 3
    assert [ref.result() for ref in good] == list(range(1, 21))


async def test_a_ref_can_be_awaited_and_gathered(cmdr: Commander) -> None:
    assert await cmdr.submit(add, 1, 1) == 2
    refs = [cmdr.submit(add, n, 1) for n in range(50)]
    assert await asyncio.gather(*refs) == list(range(1, 51))
    with pytest.raises(ValueError, match="bad 1"):
        await cmdr.submit(fail, 1)


async def test_cancelling_an_await_does_not_cancel_the_task(cmdr: Commander) -> None:
    ref = cmdr.submit(nap, 0.5)

    async def wait() -> float:
        return await ref

    with pytest.raises(TimeoutError):
        await asyncio.wait_for(wait(), 0.1)
    assert await ref == 0.5


def test_a_ref_has_a_name_and_an_id_that_stay(cmdr: Commander) -> None:
    one, two = cmdr.submit(add, 1, 1), cmdr.submit(add, 1, 1)
    assert one.task_id != two.task_id
    assert "add" in one.name
    seen = (one.task_id, one.name)
    one.result()
    two.result()
    assert (one.task_id, one.name) == seen


def test_dropping_a_ref_does_not_drop_the_task(cmdr: Commander, tmp_path) -> None:
    done = tmp_path / "done"

    def work(path):
        open(path, "w").close()

    cmdr.submit(work, str(done))
    deadline = time.monotonic() + 5
    while not done.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert done.exists()


async def test_a_small_call_does_not_wait_for_the_big_ones_that_are_on_their_way(
    node: Lieutenant,
) -> None:
    port, size = node.address[1], 16 * 1024 * 1024

    def calls() -> list[int]:
        with Commander([("127.0.0.2", port)]) as commander:
            assert commander.submit(add, 1, 1).result() == 2  # the node knows the function
            big = commander.submit(same, os.urandom(size))
            small = [commander.submit(add, n, 1).result() for n in range(5)]
            assert proxy.passed_bytes < size // 2  # of the big argument, most is still here
            assert len(big.result()) == size
            return small

    async with proxying(port, host="127.0.0.2", port=port) as proxy:
        proxy.up.bytes_per_s = 4e6
        assert await asyncio.to_thread(calls) == [1, 2, 3, 4, 5]
