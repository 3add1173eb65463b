"""Pools, queues and groups of actors."""

from __future__ import annotations

import asyncio
import queue
import time

import pytest

import goliath
from goliath import GetTimeoutError
from goliath.util import ActorGroup, ActorPool, Queue


@pytest.fixture(autouse=True)
def cluster():
    yield goliath.init(workers=2)
    goliath.shutdown()


@goliath.remote
class Sleeper:
    def nap(self, seconds):
        time.sleep(seconds)
        return seconds

    def fail(self, text):
        raise ValueError(text)


def nap(actor, seconds):
    return actor.nap.remote(seconds)


@pytest.fixture
def pool():
    return ActorPool([Sleeper.remote(), Sleeper.remote()])


def test_map_gives_results_in_the_order_of_the_values(pool):
    assert list(pool.map(nap, [0.1, 0.0, 0.02, 0.01])) == [0.1, 0.0, 0.02, 0.01]


def test_map_unordered_gives_them_as_they_come(pool):
    results = list(pool.map_unordered(nap, [0.4, 0.0, 0.01, 0.02]))
    assert sorted(results) == [0.0, 0.01, 0.02, 0.4]
    assert results[-1] == 0.4


def test_single_calls_wait_for_a_free_actor(pool):
    for seconds in (0.2, 0.0, 0.01):
        pool.submit(nap, seconds)
    assert not pool.has_free()
    assert pool.pop_idle() is None
    assert pool.get_next_unordered() == 0.0
    assert pool.get_next() == 0.2
    assert pool.get_next() == 0.01
    assert not pool.has_next()
    assert pool.has_free()
    with pytest.raises(StopIteration):
        pool.get_next()


def test_a_result_that_takes_too_long_is_not_lost(pool):
    pool.submit(nap, 0.3)
    with pytest.raises(GetTimeoutError):
        pool.get_next(timeout=0.01)
    with pytest.raises(GetTimeoutError):
        pool.get_next_unordered(timeout=0.01)
    assert pool.get_next(timeout=20) == 0.3


def test_an_actor_that_raised_is_used_again(pool):
    for text in "abc":
        pool.submit(lambda actor, text: actor.fail.remote(text), text)
    for text in "abc":
        with pytest.raises(ValueError, match=text):
            pool.get_next()
    pool.submit(nap, 0.0)
    assert pool.get_next() == 0.0


def test_actors_come_and_go(pool):
    third = Sleeper.remote()
    pool.push(third)
    with pytest.raises(ValueError, match="already"):
        pool.push(third)
    taken = [pool.pop_idle() for _ in range(3)]
    assert third in taken
    assert pool.pop_idle() is None
    with pytest.raises(ValueError, match="no actors"):
        ActorPool([])


def test_what_nobody_took_is_not_in_the_next_map(pool):
    pool.submit(nap, 0.01)
    assert list(pool.map(nap, [0.02, 0.03])) == [0.02, 0.03]


def test_a_group_is_told_everything_together():
    group = ActorGroup(Sleeper, 3)
    assert len(group) == len(group.actors) == 3
    assert goliath.get(group.nap.remote(0.0)) == [0.0, 0.0, 0.0]
    with pytest.raises(AttributeError, match="no method 'jump'"):
        group.jump.remote()
    with pytest.raises(ValueError, match="at least one"):
        ActorGroup(Sleeper, 0)


def test_a_queue_passes_items_between_tasks():
    @goliath.remote
    def produce(items, n):
        for i in range(n):
            items.put(i)

    @goliath.remote
    def consume(items, n):
        return [items.get(timeout=20) for _ in range(n)]

    items = Queue(maxsize=3)
    taken = consume.remote(items, 10)
    goliath.get(produce.remote(items, 10))
    assert goliath.get(taken) == list(range(10))
    assert items.empty()


def test_a_queue_that_is_full_or_empty_says_so():
    items = Queue(maxsize=2)
    with pytest.raises(queue.Empty):
        items.get(block=False)
    with pytest.raises(queue.Empty):
        items.get(timeout=0.01)
    items.put_nowait_batch("ab")
    assert (len(items), items.full()) == (2, True)
    with pytest.raises(queue.Full):
        items.put("c", timeout=0.01)
    with pytest.raises(queue.Full):
        items.put_nowait("c")
    with pytest.raises(queue.Empty):
        items.get_nowait_batch(3)
    assert items.get_nowait_batch(2) == ["a", "b"]


def test_a_queue_can_be_awaited():
    items = Queue()

    async def both():
        taken = asyncio.ensure_future(items.get_async(timeout=20))  # noqa: TID251 - a user may
        await items.put_async("x")
        with pytest.raises(queue.Empty):
            await items.get_async(block=False)
        return await taken

    assert asyncio.run(both()) == "x"
    items.shutdown()
    with pytest.raises(goliath.ActorDiedError):
        items.qsize()
