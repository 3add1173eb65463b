"""Methods whose items are there as they are made: in plain actors, in threads, and in a loop."""

from __future__ import annotations

import asyncio
import gc
import itertools
import os
import signal
import threading
import time
from pathlib import Path

import pytest

import goliath
from goliath import ActorDiedError, ObjectRefGenerator, PendingCallsLimitExceeded
from goliath.actors import streams
from goliath.actors.ref_generator import WINDOW
from goliath.testing.processes import until


@pytest.fixture(autouse=True)
def cluster():
    yield goliath.init(workers=1)
    goliath.shutdown()


class Plain:
    """Makes items in its main thread, or in threads."""

    def __init__(self, base=0):
        self.base = base

    def numbers(self, n):
        for i in range(n):
            yield self.base + i

    def endless(self, path):
        with open(path, "ab", buffering=0) as log:
            try:
                for i in itertools.count():
                    log.write(b".")
                    yield i
            finally:
                Path(f"{path}.closed").touch()

    def stubborn(self, path):
        for i in itertools.count():
            try:
                Path(path).touch()
                time.sleep(0.001)
            except BaseException:  # noqa: BLE001 - that is the point
                self.base += 1
            yield i

    def breaks_after(self, n):
        yield from range(n)
        raise KeyError("no more")

    def dies_after(self, n, path):
        yield from range(n)
        if not os.path.exists(path):
            Path(path).touch()
            os.kill(os.getpid(), signal.SIGKILL)

    def leaves_after(self, n):
        yield from range(n)
        goliath.exit_actor()

    def several(self, n):
        return list(range(n))

    def add(self, k):
        self.base += k
        return self.base

    def where(self):
        yield threading.get_ident() == threading.main_thread().ident


class Looped(Plain):
    """Some of its methods are awaited, so all of them run in a loop."""

    async def ticks(self, n):
        for i in range(n):
            await asyncio.sleep(0)
            yield self.base + i

    async def count(self, path=None):
        """It has no ``await``, and would never let others go on by itself."""
        try:
            for i in itertools.count():
                yield i
        finally:
            await asyncio.sleep(0)
            if path is not None:
                Path(f"{path}.closed").touch()  # noqa: ASYNC240 - it is in memory


KINDS = {
    "plain": goliath.remote(Plain),
    "threads": goliath.remote(max_concurrency=4)(Plain),
    "loop": goliath.remote(Looped),
}


@pytest.fixture(params=list(KINDS))
def cls(request):
    return KINDS[request.param]


@goliath.remote
def square(x):
    return x * x


def made(path):
    """How many items `Plain.endless` has made."""
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


def test_a_generator_method_gives_its_items_one_by_one(cls):
    actor = cls.remote(10)
    items = actor.numbers.remote(3 * WINDOW)
    assert isinstance(items, ObjectRefGenerator)
    assert outcomes(items) == list(range(10, 10 + 3 * WINDOW))
    assert goliath.get(items.completed()) == 3 * WINDOW
    assert outcomes(actor.numbers.remote(0)) == []


def test_where_the_items_are_made_is_where_the_calls_run(cls):
    (in_main,) = outcomes(cls.remote().where.remote())
    assert in_main is (cls is not KINDS["threads"])


def test_an_asynchronous_generator_method_has_others_beside_it(tmp_path: Path):
    actor = KINDS["loop"].remote(5)
    ticks = actor.ticks.remote(4 * WINDOW)
    assert goliath.get(next(ticks)) == 5
    assert goliath.get(actor.add.remote(0), timeout=20) == 5
    assert outcomes(ticks) == list(range(6, 5 + 4 * WINDOW))


@pytest.mark.parametrize("method", ["count", "endless"])
def test_a_stream_that_never_waits_by_itself_lets_others_of_its_loop_go_on(method, tmp_path):
    actor = KINDS["loop"].remote()
    path = [str(tmp_path / "log")] if method == "endless" else []
    items = getattr(actor, method).remote(*path)
    stop = threading.Event()

    def take_all():
        for _ in items:
            if stop.is_set():
                return

    taker = threading.Thread(target=take_all)
    taker.start()
    try:
        for k in range(20):
            assert goliath.get(actor.add.remote(1), timeout=20) == k + 1
    finally:
        stop.set()
        taker.join()
    goliath.cancel(items)


def test_items_and_results_come_in_the_order_of_the_calls():
    actor = KINDS["plain"].remote()
    refs, generators = [], []
    for _ in range(10):
        refs.append(actor.add.remote(1))
        generators.append(actor.numbers.remote(2))
    assert goliath.get(refs) == list(range(1, 11))
    assert [outcomes(each) for each in generators] == [[n, n + 1] for n in range(1, 11)]
    assert len({ref.task_id for ref in (*refs, *generators)}) == 20


def test_no_more_items_are_made_than_a_window_ahead(cls, tmp_path: Path):
    path = tmp_path / "log"
    items = cls.remote().endless.remote(str(path))
    for taken in range(1, 60):
        assert goliath.get(next(items)) == taken - 1
        assert made(path) <= taken + WINDOW + 1
    until(lambda: made(path) >= 59 + WINDOW // 2, 20)
    assert goliath.get(square.remote(3), timeout=20) == 9
    assert made(path) <= 60 + WINDOW


@pytest.mark.parametrize("how", ["cancel", "drop"])
def test_whoever_does_not_want_more_items_ends_the_call_and_not_the_actor(cls, tmp_path, how):
    actor, path = cls.remote(), tmp_path / "log"
    items = actor.endless.remote(str(path))
    assert [goliath.get(next(items)) for _ in range(20)] == list(range(20))
    behind, taken = actor.add.remote(7), 21
    if how == "cancel":
        goliath.cancel(items)
        rest = outcomes(items)
        assert rest[-1] is goliath.TaskCancelledError
        taken += len(rest)
    else:
        del items
        gc.collect()
    assert goliath.get(behind, timeout=20) == 7
    until(Path(f"{path}.closed").exists, 20)
    assert made(path) <= taken + WINDOW
    assert goliath.get(actor.add.remote(1), timeout=20) == 8


@pytest.mark.parametrize("how", ["cancel", "drop"])
def test_an_asynchronous_generator_is_closed_when_nobody_wants_its_items(tmp_path: Path, how):
    actor, path = KINDS["loop"].remote(), tmp_path / "log"
    items = actor.count.remote(str(path))
    assert [goliath.get(next(items)) for _ in range(20)] == list(range(20))
    if how == "cancel":
        goliath.cancel(items)
    del items
    gc.collect()
    until(Path(f"{path}.closed").exists, 20)
    assert goliath.get(actor.add.remote(1), timeout=20) == 1


def test_a_generator_that_takes_no_notice_of_its_cancel_is_closed_when_it_asks_for_more(
    cls, tmp_path
):
    actor, path = cls.remote(), tmp_path / "begun"
    items = actor.stubborn.remote(str(path))
    goliath.get(next(items))
    goliath.cancel(items)
    assert outcomes(items)[-1] is goliath.TaskCancelledError
    assert goliath.get(actor.add.remote(0), timeout=20) >= 0


def test_a_stream_that_waits_for_its_turn_can_be_cancelled(tmp_path: Path):
    actor, path = KINDS["plain"].remote(), tmp_path / "log"
    first = actor.endless.remote(str(path))
    second = actor.endless.remote(str(tmp_path / "never"))
    goliath.get(next(first))
    goliath.cancel(second)
    assert outcomes(second) == [goliath.TaskCancelledError]
    goliath.cancel(first)
    assert goliath.get(actor.add.remote(1), timeout=20) == 1
    assert made(tmp_path / "never") == 0


def test_a_method_that_raises_gives_its_items_then_its_exception_then_ends(cls):
    actor = cls.remote()
    items = actor.breaks_after.remote(3)
    refs = list(items)
    assert goliath.get(refs[:3]) == [0, 1, 2]
    with pytest.raises(KeyError, match="no more") as caught:
        goliath.get(refs[3])
    assert "breaks_after(3)" in caught.value.__notes__[0]
    assert "*" not in caught.value.__notes__[0]
    assert goliath.get(actor.add.remote(1)) == 1


def test_an_actor_that_dies_in_the_middle_gives_what_it_has_made_and_then_the_reason(
    cls, tmp_path: Path
):
    actor = cls.remote()
    died = tmp_path / "died"
    assert outcomes(actor.dies_after.remote(WINDOW - 1, str(died))) == [
        *range(WINDOW - 1),
        ActorDiedError,
    ]
    assert died.exists()
    assert outcomes(actor.numbers.remote(1)) == [ActorDiedError]


def test_an_actor_that_is_made_again_gives_each_item_once(cls, tmp_path: Path):
    died = tmp_path / "died"
    actor = cls.options(max_restarts=1, max_task_retries=1).remote()
    items = actor.dies_after.remote(3 * WINDOW, str(died))
    assert outcomes(items) == list(range(3 * WINDOW))
    assert died.exists()


def test_an_actor_that_is_made_again_does_not_make_a_stream_again_unless_it_may(cls, tmp_path):
    died = tmp_path / "died"
    actor = cls.options(max_restarts=1).remote()
    items = actor.dies_after.remote(3, str(died))
    assert outcomes(items) == [0, 1, 2, goliath.ActorUnavailableError]
    assert outcomes(actor.numbers.remote(2)) == [0, 1]


def test_an_actor_that_is_killed_ends_its_streams(cls, tmp_path: Path):
    actor = cls.remote()
    items = actor.endless.remote(str(tmp_path / "log"))
    goliath.get(next(items))
    goliath.kill(actor)
    found = outcomes(items)
    assert found[-1] is ActorDiedError
    assert found[:-1] == list(range(1, len(found)))


def test_an_actor_that_leaves_in_a_generator_has_made_its_items(cls):
    actor = cls.remote()
    items = actor.leaves_after.remote(3)
    assert outcomes(items) == [0, 1, 2]
    with pytest.raises(ActorDiedError, match="exit_actor"):
        goliath.get(actor.add.remote(1), timeout=20)


def test_items_come_when_the_last_handle_is_gone(cls):
    items = cls.remote().numbers.remote(3 * WINDOW)
    gc.collect()
    assert outcomes(items) == list(range(3 * WINDOW))


def test_how_a_method_returns_can_be_chosen_by_the_call(cls):
    actor = cls.remote()
    assert goliath.get(actor.several.remote(3)) == [0, 1, 2]
    assert outcomes(actor.several.options(num_returns="streaming").remote(3)) == [0, 1, 2]
    with pytest.raises(goliath.SerializationError, match="generator"):
        goliath.get(actor.numbers.options(num_returns=1).remote(3))
    assert outcomes(actor.add.options(num_returns="streaming").remote(3)) == [TypeError]
    with pytest.raises(ValueError, match="num_returns='items'"):
        actor.add.options(num_returns="items")


def test_a_method_can_say_itself_that_it_streams():
    @goliath.remote
    class Said:
        @goliath.method(num_returns="streaming")
        def letters(self, word):
            return iter(word)

        @goliath.method(num_returns=2)
        def both(self):
            yield 1

    said = Said.remote()
    assert outcomes(said.letters.remote("abc")) == ["a", "b", "c"]
    with pytest.raises(goliath.SerializationError, match="generator"):
        goliath.get(said.both.remote())
    with pytest.raises(ValueError, match="num_returns=0"):
        goliath.method(num_returns=0)


def test_arguments_that_are_still_to_come_hold_up_a_stream_and_what_is_behind_it():
    @goliath.remote
    def slow():
        time.sleep(0.2)
        return 3

    actor = KINDS["plain"].remote()
    items, behind = actor.numbers.remote(slow.remote()), actor.add.remote(1)
    assert outcomes(items) == [0, 1, 2]
    assert goliath.get(behind) == 1


def test_a_stream_counts_among_the_calls_that_wait(tmp_path: Path):
    actor = KINDS["plain"].options(max_pending_calls=1).remote()
    items = actor.endless.remote(str(tmp_path / "log"))
    for call in (actor.add.remote, actor.numbers.remote):
        with pytest.raises(PendingCallsLimitExceeded):
            call(1)
    goliath.cancel(items)
    until(lambda: not actor._grip.actor._pending, 20)
    assert outcomes(actor.numbers.remote(1)) == [0]


def test_a_task_takes_the_items_of_an_actor(cls, tmp_path: Path):
    @goliath.remote
    def takes(actor, n):
        return outcomes(actor.numbers.remote(n)), outcomes(actor.breaks_after.remote(1))

    @goliath.remote
    def takes_some(actor, path):
        return [goliath.get(ref) for ref in itertools.islice(actor.endless.remote(path), 20)]

    actor, path = cls.remote(1), tmp_path / "log"
    n = 2 * WINDOW + 1
    assert goliath.get(takes.remote(actor, n)) == ([*range(1, n + 1)], [0, KeyError])
    assert goliath.get(takes_some.remote(actor, str(path))) == list(range(20))
    assert goliath.get(actor.add.remote(1), timeout=20) == 2
    assert made(path) <= 21 + WINDOW


def test_actors_hand_streams_on_to_each_other(cls):
    @goliath.remote
    class Doubler:
        def __init__(self, source):
            self.source = source

        def doubled(self, n):
            for ref in self.source.numbers.remote(n):
                yield 2 * goliath.get(ref)

    @goliath.remote
    class Plus:
        def __init__(self, source):
            self.source = source

        async def plus(self, n):
            async for ref in self.source.doubled.remote(n):
                yield 1 + await ref

    n = 2 * WINDOW
    plus = Plus.remote(Doubler.remote(cls.remote()))
    assert outcomes(plus.plus.remote(n)) == [2 * i + 1 for i in range(n)]


def test_a_named_actor_that_a_task_finds_streams_too():
    @goliath.remote
    def takes():
        return outcomes(goliath.get_actor("source").numbers.remote(3))

    source = KINDS["plain"].options(name="source").remote(4)
    assert goliath.get(takes.remote()) == [4, 5, 6]
    assert outcomes(goliath.get_actor("source").numbers.remote(2)) == [4, 5]
    del source


def test_nothing_of_a_stream_is_left_when_it_is_over(cls):
    actor = cls.remote()
    assert outcomes(actor.numbers.remote(2 * WINDOW)) == list(range(2 * WINDOW))
    assert outcomes(actor.breaks_after.remote(1)) == [0, KeyError]
    gc.collect()  # the traceback of what was raised
    until(lambda: not streams._open, 20)
    assert not actor._grip.actor._sent


def test_a_stream_of_a_remote_node_is_like_any_other(lieutenant):
    goliath.shutdown()
    goliath.init(lieutenant(1).address)
    actor = KINDS["loop"].remote(2)
    assert outcomes(actor.ticks.remote(2 * WINDOW)) == list(range(2, 2 + 2 * WINDOW))


def test_in_local_mode_each_item_is_made_when_it_is_asked_for(tmp_path: Path):
    goliath.shutdown()
    goliath.init(local_mode=True)
    actor = KINDS["loop"].remote(1)
    path = tmp_path / "log"
    items = actor.endless.remote(str(path))
    assert [goliath.get(next(items)) for _ in range(2)] == [0, 1]
    assert made(path) == 2
    assert outcomes(actor.ticks.remote(2)) == [1, 2]
    assert outcomes(actor.breaks_after.remote(1)) == [0, KeyError]
    goliath.kill(actor)
    assert outcomes(actor.numbers.remote(2)) == [ActorDiedError]
