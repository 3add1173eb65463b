"""Waking one who sleeps, across threads."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from goliath.actors.bell import ThreadBell
from goliath.actors.loop_bell import LoopBell
from tests.actors.runtime import on_both_loops


def test_a_ring_before_the_wait_is_heard():
    bell = ThreadBell()
    bell.ring()
    bell.ring()
    assert bell.wait(5)
    assert not bell.wait(0), "many rings are one"


def test_a_thread_is_woken_by_another():
    bell = ThreadBell()
    thread = threading.Timer(0.01, bell.ring)
    thread.start()
    assert bell.wait(5)
    thread.join()


def test_a_wait_without_a_ring_ends_with_its_time():
    bell = ThreadBell()
    begin = time.monotonic()
    assert not bell.wait(0.01)
    assert not bell.wait(-1)
    assert time.monotonic() - begin >= 0.01


@pytest.mark.parametrize("timeout_s", [float("inf"), 1e300, None])
def test_a_thread_may_wait_as_long_as_it_likes(timeout_s: float | None):
    bell = ThreadBell()
    bell.ring()
    assert bell.wait(timeout_s)


def test_rings_of_many_threads_are_never_lost():
    bell = ThreadBell()
    left = 4000
    lock = threading.Lock()

    def ring_often() -> None:
        nonlocal left
        for _ in range(1000):
            with lock:
                left -= 1
            bell.ring()

    threads = [threading.Thread(target=ring_often) for _ in range(4)]
    for thread in threads:
        thread.start()
    while left:
        assert bell.wait(5)
    for thread in threads:
        thread.join()


@on_both_loops
async def test_a_coroutine_is_woken_from_a_thread_and_hears_each_ring_once():
    bell = LoopBell()
    await asyncio.to_thread(bell.ring)
    assert await bell.wait(5)
    assert not await bell.wait(0.005)
    bell.ring()
    assert await bell.wait()


@on_both_loops
async def test_a_coroutine_may_wait_for_no_time_or_for_ever():
    bell = LoopBell()
    assert not await bell.wait(-1)
    bell.ring()
    assert await bell.wait(float("inf"))


def test_ringing_for_a_loop_that_is_closed_harms_nobody():
    async def make() -> LoopBell:
        return LoopBell()

    bell = asyncio.run(make())
    bell.ring()
