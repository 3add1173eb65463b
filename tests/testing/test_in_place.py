"""Calls in this process: what would fail on its way to a worker fails here, too."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest

import goliath
from goliath import Commander, SerializationError, TaskError
from goliath.testing import inline

LIMITS: list[int] = []


@pytest.fixture
def strict() -> Iterator[None]:
    with inline():
        yield


@pytest.fixture
def direct() -> Iterator[None]:
    with inline(strict=False):
        yield


@goliath.remote
def same(value):
    return value


@goliath.remote
def push(items, item):
    items.append(item)
    return items


@goliath.remote
def fail(kind, *args):
    raise kind(*args)


@goliath.remote
def note_limit(limit):
    LIMITS.append(limit)
    return len(LIMITS)


@goliath.remote
class Shelf:
    def __init__(self, items):
        self.items = items

    def put(self, item):
        self.items.append(item)
        return self.items

    def items_now(self):
        yield from self.items

    async def later(self, item):
        await asyncio.sleep(0)
        return item

    def leave(self):
        goliath.exit_actor()


class Point:
    def __init__(self, x):
        self.x = x

    def limits(self):
        return LIMITS


class TwoArguments(Exception):  # noqa: N818 - it pickles well, and does not unpickle
    def __init__(self, a, b):
        super().__init__(f"{a} and {b}")


# -- what is strict ----------------------------------------------------------------------


def test_no_object_is_shared_with_a_call_and_its_caller(strict):
    mine = [1]
    got = goliath.get(push.remote(mine, 2))
    assert (mine, got) == ([1], [1, 2])
    assert goliath.get(push.remote(got, 3)) == [1, 2, 3]
    assert got == [1, 2]


def test_a_call_does_not_change_the_globals_of_its_caller(strict):
    assert goliath.get(note_limit.remote(5)) == 1
    assert LIMITS == []


def test_an_argument_that_cannot_be_pickled_is_refused_when_the_call_is_made(strict):
    with pytest.raises(SerializationError, match=r"argument \[1\], a lock .* cannot be pickled"):
        push.remote([], threading.Lock())


def test_a_function_that_cannot_be_pickled_is_refused_by_the_name_of_what_it_holds(strict):
    lock = threading.Lock()

    @goliath.remote
    def locked():
        with lock:
            return 1

    with pytest.raises(SerializationError, match="the closure variable lock"):
        locked.remote()


def test_a_result_that_cannot_be_pickled_is_an_error_of_that_call_alone(strict):
    @goliath.remote
    def make(good):
        return 1 if good else (n for n in "no")

    bad, good = make.remote(False), make.remote(True)
    assert goliath.get(good) == 1
    with pytest.raises(SerializationError, match=r"the result, a generator .* cannot be pickled"):
        goliath.get(bad)


def test_what_a_call_raises_arrives_as_from_a_worker(strict):
    with pytest.raises(KeyError) as told:
        goliath.get(fail.remote(KeyError, "k"))
    assert isinstance(told.value.__cause__, goliath.RemoteTraceback)
    assert "raise kind(*args)" in str(told.value.__cause__)
    assert told.value.__notes__[0].startswith("goliath: fail, call ")


@pytest.mark.parametrize(
    ("kind", "args"), [(TwoArguments, (1, 2)), (StopIteration, ()), (SystemExit, (3,))]
)
def test_an_exception_that_would_not_survive_the_way_becomes_a_task_error(strict, kind, args):
    with pytest.raises(TaskError) as told:
        goliath.get(fail.remote(kind, *args))
    assert told.value.type_name.endswith(kind.__name__)


def test_a_class_of_the_users_own_stays_what_it_is(strict):
    method = Point.limits
    point = goliath.get(same.remote(Point(1)))
    assert type(point) is Point
    assert point.x == 1
    assert Point.limits is method
    assert point.limits() is LIMITS


def test_refs_in_arguments_and_results_are_the_same_refs(strict):
    one, two = same.remote(1), same.remote(2)
    assert one.task_id != two.task_id
    assert goliath.get(same.remote([one, two])) == [one, two]
    assert goliath.get(push.remote([0], two)) == [0, 2]


def test_what_failed_fails_the_calls_that_take_it(strict):
    with pytest.raises(KeyError):
        goliath.get(same.remote(fail.remote(KeyError, "k")))


def test_items_of_a_stream_are_copies_made_one_by_one(strict):
    made = []

    @goliath.remote(num_returns="streaming")
    def grow(items):
        for n in range(3):
            items.append(n)
            yield items
        yield threading.Lock()

    refs = list(grow.remote(made))
    assert [goliath.get(ref) for ref in refs[:3]] == [[0], [0, 1], [0, 1, 2]]
    with pytest.raises(SerializationError, match="the result, a lock"):
        goliath.get(refs[3])
    assert made == []


def test_an_actor_takes_and_gives_copies_only(strict):
    mine = [1]
    shelf = Shelf.remote(mine)
    got = goliath.get(shelf.put.remote(2))
    got.append("mine alone")
    assert goliath.get(shelf.put.remote(same.remote(3))) == [1, 2, 3]
    assert mine == [1]
    assert [goliath.get(ref) for ref in shelf.items_now.remote()] == [1, 2, 3]
    with pytest.raises(SerializationError, match="argument"):
        shelf.put.remote(threading.Lock())
    assert goliath.get(shelf.leave.remote()) is None
    with pytest.raises(goliath.ActorDiedError):
        goliath.get(shelf.put.remote(4))


def test_a_run_of_a_commander_connects_to_nothing_and_is_as_strict(strict):
    rows = [{"value": [n]} for n in range(3)]
    with Commander([("127.0.0.1", 9)]) as commander:
        commander.connect()
        assert commander.nodes() == []
        assert commander.run(same._function, rows) == [[0], [1], [2]]
        assert list(commander.map(abs, [-1, 2])) == [1, 2]
        assert commander.submit(abs, -3).result() == 3
        with pytest.raises(TypeError, match="item 1 of args is of type int"):
            commander.run(abs, [(1,), 2])
        with pytest.raises(TypeError, match="same, call 0: missing"):
            commander.run(same._function, [{}])
        with pytest.raises(ValueError, match="max_retries"):
            commander.run(abs, [(1,)], max_retries=-1)
        good, bad = commander.run(len, [("ab",), (threading.Lock(),)], return_exceptions=True)
        assert good == 2
        assert isinstance(bad, SerializationError)


def test_an_executor_runs_in_place_as_well(strict):
    with goliath.Executor() as executor:
        assert list(executor.map(abs, [-1, -2])) == [1, 2]
        assert isinstance(executor.submit(abs, "x").exception(), TypeError)


async def test_coroutines_run_to_their_end_also_where_a_loop_runs(strict):
    @goliath.remote
    async def soon(n):
        await asyncio.sleep(0)
        return n

    assert await soon.remote(1) == 1
    assert await Shelf.remote([]).later.remote(2) == 2
    assert await Commander().arun(abs, [(-3,)]) == [3]


# -- what is not, and the end -------------------------------------------------------------


def test_the_very_objects_are_handed_over_where_that_is_wanted(direct):
    mine = [1]
    lock = threading.Lock()
    assert goliath.get(push.remote(mine, lock)) is mine
    assert mine == [1, lock]
    assert Commander().run(push._function, [(mine, 3)]) == [mine]


def test_coroutines_and_refs_are_for_local_mode_too(direct):
    shelf = Shelf.remote(same.remote([1]))
    assert goliath.get(shelf.later.remote(same.remote(2))) == 2
    assert goliath.get(shelf.put.remote(2)) == [1, 2]


def test_it_ends_whatever_was_raised_in_it():
    with pytest.raises(KeyError), inline():
        raise KeyError
    assert not goliath.is_initialized()


def test_it_does_not_begin_where_goliath_has_been_initialized():
    goliath.init(local_mode=True)
    try:
        with pytest.raises(RuntimeError, match="initialized already"), inline():
            pass
    finally:
        goliath.shutdown()
