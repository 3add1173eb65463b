"""Tasks whose items are there as they are made, and not too far ahead of who takes them."""

from __future__ import annotations

import asyncio
import gc
import itertools
import os
import pickle
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import goliath
from goliath import (
    Commander,
    ObjectRefGenerator,
    SerializationError,
    TaskCancelledError,
    TaskTimeoutError,
    WorkerCrashedError,
)
from goliath.actors import streams
from goliath.actors.deputies import Deputies
from goliath.actors.ref_generator import WINDOW
from goliath.testing.processes import until


@pytest.fixture
def one():
    """A cluster of one worker: whoever waits must let others go on."""
    yield goliath.init(workers=1)
    goliath.shutdown()


@goliath.remote(num_returns="streaming")
def numbers(n):
    yield from range(n)


@goliath.remote(num_returns="streaming")
def endless(path):
    """Counts for ever, and writes down how far it has come."""
    with open(path, "ab", buffering=0) as log:
        for i in itertools.count():
            log.write(b".")
            yield i


@goliath.remote(num_returns="streaming")
def breaks_after(n):
    yield from range(n)
    raise KeyError("no more")


@goliath.remote
def square(x):
    return x * x


def made(path: Path) -> int:
    """How many items `endless` has made."""
    return path.stat().st_size if path.exists() else 0


def outcomes(generator):
    """What each ref of a generator gives: a value, or the class of what it raises."""
    found = []
    for ref in generator:
        try:
            found.append(goliath.get(ref))
        except Exception as exc:  # noqa: BLE001 - whatever it is
            found.append(type(exc))
    return found


def going_on():
    """The streams whose calls have not ended. (Others may be kept by a traceback.)"""
    return [stream for stream in streams._open.values() if not stream.call.done()]


# -- items ------------------------------------------------------------------------------------


def test_the_items_of_a_task_come_one_by_one(one):
    generator = numbers.remote(5)
    assert isinstance(generator, ObjectRefGenerator)
    assert [goliath.get(ref) for ref in generator] == [0, 1, 2, 3, 4]
    assert list(generator) == []
    assert generator.completed().result() == 5
    assert "ObjectRefGenerator" in repr(generator)
    assert (generator.name, generator.task_id) == ("numbers", generator.completed().task_id)
    assert list(numbers.remote(0)) == []


def test_an_item_is_there_before_the_next_one_is_made(one, tmp_path: Path):
    @goliath.remote
    def gated():
        for i in range(3):
            yield i
            while not (tmp_path / str(i)).exists():
                time.sleep(0.005)

    generator = gated.options(num_returns="streaming").remote()
    for i in range(3):
        assert goliath.get(next(generator)) == i
        assert not generator.completed().done()
        (tmp_path / str(i)).touch()
    assert next(generator, None) is None
    assert generator.completed().done()


async def test_items_are_awaited_in_a_running_loop(one):
    generator = numbers.remote(40)
    assert [await ref async for ref in generator] == list(range(40))
    generator = breaks_after.remote(1)
    refs = [ref async for ref in generator]
    assert await refs[0] == 0
    with pytest.raises(KeyError, match="no more"):
        await refs[1]
    assert await anext(generator, None) is None


def test_an_asynchronous_generator_runs_on_the_loop_of_its_worker(one):
    @goliath.remote(num_returns="streaming")
    async def ticks(n):
        loop = asyncio.get_running_loop()
        for i in range(n):
            await asyncio.sleep(0)
            assert asyncio.get_running_loop() is loop
            yield i

    assert outcomes(ticks.remote(3 * WINDOW)) == list(range(3 * WINDOW))


def test_arguments_are_taken_and_refs_among_them_are_resolved(one):
    @goliath.remote(num_returns="streaming")
    def repeat(what, *, times):
        for _ in range(times):
            yield what

    assert outcomes(repeat.remote(square.remote(3), times=2)) == [9, 9]
    assert outcomes(repeat.remote([1], times=square.remote(1))) == [[1]]


def test_a_ref_of_an_item_is_like_any_other(one):
    generator = numbers.remote(4)
    refs = list(generator)
    assert goliath.get(refs) == [0, 1, 2, 3]
    assert goliath.get(square.remote(refs[3])) == 9
    assert goliath.wait(refs, num_returns=4) == (refs, [])
    assert refs[2].task_id == f"{generator.task_id}.item-2"
    assert refs[2].future().result() == 2

    @goliath.remote
    def total(refs):
        return sum(goliath.get(refs))

    assert goliath.get(total.remote(refs)) == 6


def test_an_item_may_hold_refs(one):
    @goliath.remote(num_returns="streaming")
    def boxes(n):
        for i in range(n):
            yield [square.remote(i), goliath.put(i)]

    assert [goliath.get(goliath.get(ref)) for ref in boxes.remote(4)] == [
        [i * i, i] for i in range(4)
    ]


def test_what_is_mapped_over_a_streaming_function_is_a_generator_each(one):
    assert [outcomes(generator) for generator in numbers.map([1, 2])] == [[0], [0, 1]]


def test_several_threads_take_each_item_once(one):
    generator = numbers.remote(300)
    with ThreadPoolExecutor(4) as pool:
        parts = list(pool.map(lambda _: outcomes(generator), range(4)))
    assert sorted(itertools.chain.from_iterable(parts)) == list(range(300))


# -- ends ---------------------------------------------------------------------------------------


def test_a_task_that_raises_gives_its_items_then_its_exception_then_ends(one):
    generator = breaks_after.remote(3)
    assert outcomes(generator) == [0, 1, 2, KeyError]
    with pytest.raises(KeyError, match="no more"):
        generator.completed().result()
    assert next(generator, "over") == "over"
    assert outcomes(breaks_after.remote(0)) == [KeyError]


def test_an_item_that_cannot_be_pickled_ends_the_items_with_the_reason(one):
    @goliath.remote(num_returns="streaming")
    def locks():
        yield 1
        yield [threading.Lock()]
        yield 3

    good, bad = locks.remote()
    assert goliath.get(good) == 1
    with pytest.raises(SerializationError, match="lock"):
        goliath.get(bad)


@pytest.mark.parametrize("kind", ["value", "coroutine"])
def test_a_function_without_items_is_told_what_to_do(one, kind: str):
    async def coroutine():
        return 3

    function = coroutine if kind == "coroutine" else lambda: 3
    (ref,) = goliath.remote(num_returns="streaming")(function).remote()
    with pytest.raises(TypeError, match="yield each item"):
        goliath.get(ref)


def test_a_generator_without_the_option_is_refused_with_advice(one):
    with pytest.raises(SerializationError, match='num_returns="streaming"'):
        goliath.get(numbers.options(num_returns=1).remote(3))


@pytest.mark.parametrize("wrong", ["stream", 0, None])
def test_a_wrong_num_returns_is_refused(wrong):
    with pytest.raises(ValueError, match="'streaming'"):
        numbers.options(num_returns=wrong)


def test_a_worker_that_dies_ends_the_items_if_it_may_not_run_again(one):
    @goliath.remote(num_returns="streaming", max_retries=0)
    def dies():
        yield from "ab"
        os.kill(os.getpid(), signal.SIGKILL)

    assert outcomes(dies.remote()) == ["a", "b", WorkerCrashedError]


def test_a_task_that_runs_again_gives_each_item_once(one, tmp_path: Path):
    @goliath.remote(num_returns="streaming")
    def dies_once():
        for i in range(5 * WINDOW):
            if i == 2 * WINDOW + 3 and not (tmp_path / "died").exists():
                (tmp_path / "died").touch()
                os.kill(os.getpid(), signal.SIGKILL)
            yield i

    assert outcomes(dies_once.remote()) == list(range(5 * WINDOW))
    assert (tmp_path / "died").exists()


def test_an_exception_that_is_to_be_retried_is_and_gives_each_item_once(one, tmp_path: Path):
    @goliath.remote(num_returns="streaming", retry_exceptions=[OSError])
    def fails_once():
        yield 1
        if not (tmp_path / "failed").exists():
            (tmp_path / "failed").touch()
            raise OSError("try again")
        yield 2

    assert outcomes(fails_once.remote()) == [1, 2]


def test_a_timeout_ends_the_items(one):
    @goliath.remote(num_returns="streaming", timeout=0.5)
    def sleeps():
        yield 1
        time.sleep(60)

    assert outcomes(sleeps.remote()) == [1, TaskTimeoutError]


def test_a_cancelled_task_ends_its_items_and_cleans_up(one, tmp_path: Path):
    @goliath.remote(num_returns="streaming")
    def sleeps():
        try:
            yield 1
            time.sleep(60)
        finally:
            (tmp_path / "closed").touch()

    generator = sleeps.remote()
    assert goliath.get(next(generator)) == 1
    goliath.cancel(generator)
    assert outcomes(generator) == [TaskCancelledError]
    until((tmp_path / "closed").exists, 20)


@pytest.mark.parametrize("kind", ["plain", "async"])
def test_a_task_that_waits_for_its_items_to_be_wanted_is_cancelled_too(one, tmp_path, kind):
    def plain():
        try:
            yield from itertools.count()
        finally:
            (tmp_path / "closed").touch()

    async def awaited():
        try:
            for i in itertools.count():
                yield i
        finally:
            (tmp_path / "closed").touch()

    function = plain if kind == "plain" else awaited
    generator = goliath.remote(num_returns="streaming")(function).remote()
    assert [goliath.get(next(generator)) for _ in range(100)] == list(range(100))
    goliath.cancel(generator)
    rest = outcomes(generator)
    assert rest[-1] is TaskCancelledError
    assert len(rest) <= WINDOW + 1
    until((tmp_path / "closed").exists, 20)


def test_items_of_a_commander_that_was_closed_end_with_the_reason():
    goliath.init(workers=1)
    try:
        generator = numbers.remote(1000)
        next(generator)
    finally:
        goliath.shutdown()
    rest = outcomes(generator)
    assert rest[-1] is TaskCancelledError
    assert len(rest) <= WINDOW + 2


# -- not too far ahead ----------------------------------------------------------------------------


def test_no_more_items_are_made_than_a_window_ahead(one, tmp_path: Path):
    path = tmp_path / "log"
    generator = endless.remote(str(path))
    for taken in range(1, 101):
        assert goliath.get(next(generator)) == taken - 1
        assert made(path) <= taken + WINDOW + 1
    until(lambda: made(path) >= 100 + WINDOW // 2, 20)
    assert goliath.get(square.remote(3), timeout=20) == 9  # it waits, and its slot is free
    assert made(path) <= 101 + WINDOW
    goliath.cancel(generator)


def test_more_streams_than_may_wait_fail_instead_of_filling_the_machine(monkeypatch, tmp_path):
    monkeypatch.setenv("GOLIATH_WAITING_MAX", "2")
    goliath.init(workers=1)
    try:
        generators = [endless.remote(str(tmp_path / str(i))) for i in range(3)]
        ends = [generator.completed() for generator in generators]
        ready, pending = goliath.wait(ends, timeout=50)
        assert (len(ready), len(pending)) == (1, 2)
        with pytest.raises(RecursionError, match="GOLIATH_WAITING_MAX"):
            goliath.get(ready)
        kept = generators[ends.index(pending[0])]
        assert [goliath.get(next(kept)) for _ in range(50)] == list(range(50))
    finally:
        goliath.shutdown()


def test_ten_thousand_items_are_never_all_there_at_once(one):
    generator = numbers.remote(10_000)
    stream = generator._items
    for i, ref in enumerate(generator):
        assert goliath.get(ref) == i
        assert len(stream._ready) <= WINDOW
    assert i == 9_999
    assert not stream._ready
    assert not stream._unsaid


def test_a_generator_that_is_dropped_takes_its_task_along(one, tmp_path: Path):
    path = tmp_path / "log"
    generator = endless.remote(str(path))
    kept = next(generator)
    task_id = generator.task_id
    until(lambda: made(path) >= WINDOW // 2, 20)
    call = generator.completed()
    del generator
    gc.collect()
    assert streams.find(task_id) is None
    with pytest.raises(TaskCancelledError):
        call.result(timeout=20)
    assert goliath.get(kept) == 0
    assert goliath.get(square.remote(2), timeout=20) == 4


def test_a_generator_dropped_before_its_task_began_takes_it_along(one, tmp_path: Path):
    @goliath.remote
    def holds():
        while not (tmp_path / "go").exists():
            time.sleep(0.005)

    held = holds.remote()
    generator = endless.remote(str(tmp_path / "log"))
    del generator
    (tmp_path / "go").touch()
    goliath.get([held, square.remote(1)])
    assert made(tmp_path / "log") <= WINDOW + 1


def test_nothing_of_a_stream_is_left_when_it_is_over(one):
    @goliath.remote
    def consumes(n):
        from goliath.actors import nested

        got = [*outcomes(numbers.remote(n)), goliath.get(next(numbers.remote(n)))]
        gc.collect()
        return got, sorted(nested.calls()._wanted)

    n = 2 * WINDOW + 1
    assert goliath.get(consumes.remote(n)) == ([*range(n), 0], [])
    assert outcomes(numbers.remote(n)) == list(range(n))
    goliath.get(square.remote(1))
    portal = one._cluster._portal
    (deputies,) = [d for d in gc.get_objects() if type(d) is Deputies and d._portal is portal]
    workers = deputies._deputies
    until(lambda: not any(d.held or d.streams for d in workers.values()), 20)
    until(lambda: not streams._open, 20)


# -- in tasks -------------------------------------------------------------------------------------


def test_a_task_takes_the_items_of_a_task_on_the_same_worker(one):
    @goliath.remote
    def total(n):
        return sum(goliath.get(ref) for ref in numbers.remote(n))

    assert goliath.get(total.remote(5 * WINDOW)) == sum(range(5 * WINDOW))


def test_streams_flow_through_streams(one):
    @goliath.remote(num_returns="streaming")
    def doubled(n):
        for ref in numbers.remote(n):
            yield 2 * goliath.get(ref)

    @goliath.remote(num_returns="streaming")
    async def plus_one(n):
        async for ref in doubled.remote(n):
            yield await ref + 1

    n = 3 * WINDOW
    assert outcomes(plus_one.remote(n)) == [2 * i + 1 for i in range(n)]


def test_ends_are_the_same_inside_a_task(one):
    @goliath.remote
    def takes():
        generator = breaks_after.remote(2)
        found = outcomes(generator)
        return [str(item) for item in found], next(generator, "over"), list(numbers.remote(0))

    found = goliath.get(takes.remote())
    assert found == (["0", "1", "<class 'KeyError'>"], "over", [])


def test_a_task_passes_the_items_of_another_on(one):
    @goliath.remote
    def squares(n):
        return [square.remote(ref) for ref in numbers.remote(n)]

    @goliath.remote
    def refs(n):
        return list(numbers.remote(n))

    assert goliath.get(goliath.get(squares.remote(4))) == [0, 1, 4, 9]
    assert goliath.get(goliath.get(refs.remote(3))) == [0, 1, 2]


def test_a_task_cancels_the_items_it_takes_or_drops_them(one, tmp_path: Path):
    @goliath.remote
    def takes_some(path, cancels):
        generator = endless.remote(path)
        some = [goliath.get(next(generator)) for _ in range(20)]
        if cancels:
            goliath.cancel(generator)
            assert outcomes(generator)[-1] is TaskCancelledError
        return some

    for cancels in (True, False):
        path = tmp_path / str(cancels)
        assert goliath.get(takes_some.remote(str(path), cancels)) == list(range(20))
        assert goliath.get(square.remote(3), timeout=20) == 9
        assert made(path) <= 21 + WINDOW
    until(lambda: not going_on(), 20)


def test_a_task_that_dies_takes_the_streams_it_took_from_along(one, tmp_path: Path):
    @goliath.remote(max_retries=0)
    def dies(path):
        next(endless.remote(path))
        os.kill(os.getpid(), signal.SIGKILL)

    with pytest.raises(WorkerCrashedError):
        goliath.get(dies.remote(str(tmp_path / "log")))
    assert goliath.get(square.remote(3), timeout=20) == 9
    until(lambda: not going_on(), 20)


def test_an_actor_takes_items_from_call_to_call(one):
    @goliath.remote
    class Reader:
        def __init__(self, n):
            self.items = numbers.remote(n)

        def read(self, count):
            return [goliath.get(ref) for ref in itertools.islice(self.items, count)]

    reader = Reader.remote(2 * WINDOW)
    parts = goliath.get([reader.read.remote(n) for n in (3, WINDOW, 2 * WINDOW)])
    assert parts == [
        list(range(3)),
        list(range(3, WINDOW + 3)),
        list(range(WINDOW + 3, 2 * WINDOW)),
    ]


def test_a_commander_in_a_task_streams_too(one):
    @goliath.remote
    def inner():
        with Commander() as commander:
            generator = commander.submit_stream(numbers._task, (3,), {})
            return outcomes(generator)

    assert goliath.get(inner.remote()) == [0, 1, 2]


def test_a_generator_cannot_be_passed_on(one):
    generator = numbers.remote(2)
    with pytest.raises(SerializationError, match="whoever has made the call"):
        square.remote(generator)
    with pytest.raises(TypeError, match="whoever has made the call"):
        pickle.dumps(generator)
    assert outcomes(generator) == [0, 1]


def test_two_nodes_stream_at_once(lieutenant):
    nodes = [lieutenant(1), lieutenant(1)]
    with goliath.init([node.address for node in nodes]):
        try:
            generators = [numbers.remote(3 * WINDOW) for _ in range(4)]
            pairs = list(zip(*generators, strict=True))
            assert [goliath.get(list(refs)) for refs in pairs] == [
                [i] * 4 for i in range(3 * WINDOW)
            ]
        finally:
            goliath.shutdown()


def test_a_stream_goes_on_elsewhere_when_its_node_dies_and_gives_each_item_once(lieutenant):
    @goliath.remote(num_returns="streaming")
    def counts():
        for i in range(4 * WINDOW):
            yield i, os.getpid()

    nodes = [lieutenant(1), lieutenant(1)]
    goliath.init([node.address for node in nodes])
    try:
        generator = counts.remote()
        first = [goliath.get(next(generator)) for _ in range(WINDOW)]
        (home,) = [n for n in nodes if first[0][1] in {seen.pid for seen in n.family()}]
        home.destroy()
        rest = [goliath.get(ref) for ref in generator]
        assert [i for i, _ in first + rest] == list(range(4 * WINDOW))
        assert rest[-1][1] != first[0][1]
    finally:
        goliath.shutdown()


# -- in local mode --------------------------------------------------------------------------------


@pytest.fixture
def local():
    goliath.init(local_mode=True)
    yield
    goliath.shutdown()


def test_local_mode_makes_each_item_when_it_is_asked_for(local, tmp_path: Path):
    path = tmp_path / "log"
    generator = endless.remote(str(path))
    assert made(path) == 0
    assert [goliath.get(next(generator)) for _ in range(3)] == [0, 1, 2]
    assert made(path) == 3
    goliath.cancel(generator)
    assert outcomes(generator) == [TaskCancelledError]
    assert outcomes(breaks_after.remote(2)) == [0, 1, KeyError]
    assert outcomes(goliath.remote(num_returns="streaming")(len).remote("abc")) == [TypeError]
    done = numbers.remote(2)
    assert outcomes(done) == [0, 1]
    assert done.completed().result() == 2


async def test_local_mode_awaits_items_here(local):
    @goliath.remote(num_returns="streaming")
    async def ticks(n):
        for i in range(n):
            await asyncio.sleep(0)
            yield i
        raise KeyError(n)

    refs = [ref async for ref in ticks.remote(2)]
    assert [await ref for ref in refs[:2]] == [0, 1]
    with pytest.raises(KeyError):
        await refs[2]
    assert [await ref async for ref in numbers.remote(2)] == [0, 1]
    assert await asyncio.to_thread(outcomes, ticks.remote(2)) == [0, 1, KeyError]
