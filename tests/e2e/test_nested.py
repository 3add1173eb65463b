"""Tasks that call tasks: over their worker's session, and never in each other's way."""

from __future__ import annotations

import gc
import math
import os
import time
from pathlib import Path

import pytest

import goliath
from goliath import ObjectLostError, TaskCancelledError, TaskError, WorkerCrashedError
from goliath.testing.processes import until
from tests.length import length


@pytest.fixture
def one():
    """A cluster of one worker: whoever waits for another call must let it run."""
    yield goliath.init(workers=1)
    goliath.shutdown()


@goliath.remote
def square(x):
    return x * x


@goliath.remote
def add(a, b, c=0):
    return a + b + c


@goliath.remote
def total(refs):
    return sum(goliath.get(refs))


@goliath.remote
def factorial(n):
    return n * goliath.get(factorial.remote(n - 1)) if n else 1


def test_a_task_gets_the_results_of_tasks_that_it_calls(one):
    @goliath.remote
    def sum_of_squares(n):
        return sum(goliath.get([square.remote(i) for i in range(n)]))

    assert goliath.get(sum_of_squares.remote(20)) == 2470


def test_a_deep_recursion_finishes_on_one_worker(one):
    depth = length(60, 200)
    assert goliath.get(factorial.remote(depth)) == math.factorial(depth)


def test_many_parents_at_once_do_not_starve_their_children(one):
    @goliath.remote
    def parent(x):
        return goliath.get(square.remote(x)) + 1

    assert goliath.get([parent.remote(i) for i in range(40)]) == [i * i + 1 for i in range(40)]


def test_a_call_that_waits_does_not_hold_up_those_behind_it_in_its_batch(one, tmp_path):
    @goliath.remote
    def waits_for(name):
        path = tmp_path / name
        if name == "a":
            goliath.get(waits_for.remote("b"))
        path.touch()
        return name

    refs = [waits_for.remote(name) for name in ("a", "c", "d")]
    assert goliath.get(refs) == ["a", "c", "d"]


def test_refs_travel_as_arguments_in_containers_and_as_results(one):
    @goliath.remote
    def chain():
        nine = square.remote(3)
        eighty_one = square.remote(nine)
        inner = goliath.put([1, 2])
        known = goliath.get(add.remote(eighty_one, nine, c=square.remote(2)))
        return known, goliath.get(total.remote([nine, eighty_one])), goliath.get(inner)

    @goliath.remote
    def makes(n):
        return {"refs": [square.remote(i) for i in range(n)], "put": goliath.put("kept")}

    assert goliath.get(chain.remote()) == (94, 90, [1, 2])
    assert goliath.get(total.remote([square.remote(2), square.remote(3)])) == 13
    made = goliath.get(makes.remote(3))
    gc.collect()
    assert goliath.get(made["refs"]) == [0, 1, 4]
    assert goliath.get(made["put"]) == "kept"
    assert goliath.get(total.remote(made["refs"])) == 5


def test_a_ref_in_an_argument_keeps_its_object_though_its_maker_has_dropped_it(one):
    @goliath.remote
    def later(box, delay):
        time.sleep(delay)
        return goliath.get(box[0])

    ref = later.remote([goliath.put("treasure")], 0.3)
    gc.collect()
    assert goliath.get(ref) == "treasure"


def test_wait_and_as_completed_work_inside_a_task(one):
    @goliath.remote
    def first_of(n):
        refs = [square.remote(i) for i in range(n)]
        ready, pending = goliath.wait(refs, num_returns=2)
        done = sorted(ref.result() for ref in goliath.as_completed(refs))
        return len(ready), len(pending), done

    assert goliath.get(first_of.remote(5)) == (2, 3, [0, 1, 4, 9, 16])


def test_a_coroutine_task_awaits_the_tasks_it_calls(one):
    @goliath.remote
    async def gathers(n):
        import asyncio

        return await asyncio.gather(*[square.remote(i) for i in range(n)])

    assert goliath.get(gathers.remote(4)) == [0, 1, 4, 9]


def test_num_returns_options_and_errors_are_the_same_inside_a_task(one):
    @goliath.remote(num_returns=2)
    def pair():
        return 1, 2

    @goliath.remote
    def divide(a, b):
        return a / b

    @goliath.remote
    def outer():
        a, b = pair.remote()
        try:
            goliath.get(divide.options(name="halve").remote(1, 0))
        except ZeroDivisionError as exc:
            notes = "".join(exc.__notes__)
        ref = divide.remote(4, 2)
        return goliath.get([b, a]), "halve" in notes, goliath.get(ref, timeout=30)

    assert goliath.get(outer.remote()) == ([2, 1], True, 2.0)


def test_an_error_travels_up_through_every_level_as_its_own_class(one):
    @goliath.remote
    def deep(n):
        if not n:
            raise KeyError("at the bottom")
        return goliath.get(deep.remote(n - 1))

    with pytest.raises(KeyError, match="at the bottom"):
        goliath.get(deep.remote(3))


def test_what_killed_a_nested_worker_is_told_to_the_call_that_made_it(one):
    @goliath.remote(max_retries=0)
    def dies():
        os._exit(3)

    @goliath.remote
    def outer():
        try:
            goliath.get(dies.remote())
        except WorkerCrashedError as exc:
            return exc.exit_code, exc.maybe_executed
        return None

    assert goliath.get(outer.remote()) == (3, True)


def test_a_tree_of_tasks_is_cancelled_with_its_root(one, tmp_path: Path):
    @goliath.remote
    def leaf(place):
        (tmp_path / f"{place}.begun").touch()
        time.sleep(60)

    @goliath.remote
    def branch(place):
        goliath.get(leaf.remote(place))

    root = branch.remote("x")
    until((tmp_path / "x.begun").exists, 20)
    goliath.cancel(root)
    with pytest.raises(TaskCancelledError):
        goliath.get(root)
    assert goliath.get(square.remote(3), timeout=20) == 9  # the one slot is free again


def test_cancel_without_recursive_leaves_what_the_task_has_called(one, tmp_path: Path):
    go, done = tmp_path / "go", tmp_path / "done"

    @goliath.remote
    def leaf():
        while not go.exists():
            time.sleep(0.01)
        done.touch()

    @goliath.remote
    def branch():
        ref = leaf.remote()
        (tmp_path / "begun").touch()
        goliath.get(ref)

    root = branch.remote()
    until((tmp_path / "begun").exists, 20)
    goliath.cancel(root, recursive=False)
    with pytest.raises(TaskCancelledError):
        goliath.get(root)
    go.touch()
    until(done.exists, 20)


def test_a_task_cancels_a_task_that_it_has_called(one):
    @goliath.remote
    def sleeps():
        time.sleep(60)

    @goliath.remote
    def outer():
        ref = sleeps.remote()
        goliath.cancel(ref)
        try:
            goliath.get(ref)
        except TaskCancelledError:
            return "cancelled"
        return "not"

    assert goliath.get(outer.remote()) == "cancelled"


def test_what_a_finished_task_has_begun_goes_on(one, tmp_path: Path):
    @goliath.remote
    def leaf():
        time.sleep(0.2)
        (tmp_path / "done").touch()

    @goliath.remote
    def outer():
        leaf.remote()

    goliath.get(outer.remote())
    until((tmp_path / "done").exists, 20)


def test_a_call_whose_worker_dies_takes_what_it_had_begun_with_it(one, tmp_path: Path):
    @goliath.remote
    def leaf():
        (tmp_path / "begun").touch()
        time.sleep(60)

    @goliath.remote(max_retries=0)
    def outer():
        leaf.remote()
        goliath.wait([square.remote(1)], timeout=0.1)
        while not (tmp_path / "begun").exists():
            goliath.wait([leaf.remote()], timeout=0.1)
        os._exit(1)

    with pytest.raises(WorkerCrashedError):
        goliath.get(outer.remote())
    assert goliath.get(square.remote(3), timeout=30) == 9


def test_a_run_whose_function_calls_tasks_ends_with_all_of_them_right(one):
    def outer(x):
        return goliath.get(square.remote(x)) + goliath.get(add.remote(x, 1))

    assert one.run(outer, [{"x": i} for i in range(20)]) == [i * i + i + 1 for i in range(20)]


def test_nested_tasks_have_the_files_of_the_run_that_began_them(one, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("data.txt").write_text("shipped")

    def reads():
        return Path("data.txt").read_text()

    def outer():
        return goliath.get(goliath.remote(reads).remote()), os.getcwd()

    (found,) = one.run(outer, [()], ["data.txt"])
    assert found[0] == "shipped"
    assert found[1] != str(tmp_path)


def test_a_commander_in_a_task_is_the_surrounding_one(one):
    @goliath.remote
    def outer():
        goliath.init()
        with goliath.Commander() as commander:
            ref = commander.submit(pow, 2, 5)
            addresses = [node.address for node in commander.nodes()]
        return ref.result(), addresses, goliath.cluster_resources()["CPU"]

    assert goliath.get(outer.remote()) == (32, ["embedded"], 1.0)


def test_a_thread_of_a_task_may_call_tasks_too(one):
    @goliath.remote
    def outer():
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor(4) as pool:
            return list(pool.map(lambda x: goliath.get(square.remote(x)), range(8)))

    assert goliath.get(outer.remote()) == [x * x for x in range(8)]


def test_a_future_of_a_nested_call_can_be_waited_for_on_one_worker(one):
    @goliath.remote
    def outer():
        return square.remote(7).future().result(timeout=30)

    assert goliath.get(outer.remote()) == 49


def test_a_task_maps_tasks(one):
    @goliath.remote
    def outer(n):
        return goliath.get(square.map(range(n)))

    assert goliath.get(outer.remote(5)) == [0, 1, 4, 9, 16]


def test_whoever_asks_for_an_object_that_nobody_kept_is_told_so(one):
    @goliath.remote
    def keeps_only_the_name():
        ref = square.remote(2)
        return ref.task_id

    @goliath.remote
    def asks(task_id):
        from goliath.actors import nested

        try:
            return nested.calls().restored(task_id, "square").result(timeout=20)
        except ObjectLostError:
            return "lost"

    assert goliath.get(asks.remote(goliath.get(keeps_only_the_name.remote()))) == "lost"


def test_a_ref_pickled_outside_of_a_call_is_refused_with_a_reason(one):
    import pickle

    with pytest.raises(TypeError, match="outside of a call"):
        pickle.dumps(square.remote(1))


def test_recursion_without_an_end_fails_instead_of_hanging(monkeypatch):
    monkeypatch.setenv("GOLIATH_WAITING_MAX", "5")

    @goliath.remote
    def forever(n):
        return goliath.get(forever.remote(n + 1))

    goliath.init(workers=1)
    try:
        with pytest.raises(RecursionError, match="GOLIATH_WAITING_MAX"):
            goliath.get(forever.remote(0), timeout=50)
        assert goliath.get(square.remote(2), timeout=20) == 4
    finally:
        goliath.shutdown()


def test_code_knows_which_call_it_is(one):
    @goliath.remote
    def who():
        context = goliath.get_runtime_context()
        return context.task_id, context.node_id, context.worker_id, context.attempt, os.getpid()

    @goliath.remote
    def outer():
        ref = who.remote()
        return ref.task_id == goliath.get(ref)[0]

    ref = who.remote()
    task_id, node_id, worker_id, attempt, pid = goliath.get(ref)
    assert (task_id, attempt) == (ref.task_id, 1)
    assert node_id == goliath.nodes()[0].node_id
    assert worker_id >= 1
    assert pid != os.getpid()
    assert goliath.get(outer.remote())
    here = goliath.get_runtime_context()
    assert (here.task_id, here.node_id, here.get_worker_id(), here.actor_id) == (None,) * 4
    assert not here.is_canceled()


def test_a_retried_call_knows_its_attempt(one, tmp_path: Path):
    @goliath.remote
    def dies_once():
        if not (tmp_path / "died").exists():
            (tmp_path / "died").touch()
            os._exit(1)
        return goliath.get_runtime_context().attempt

    assert goliath.get(dies_once.remote()) > 1


def test_a_cancelled_call_can_see_that_it_is(one, tmp_path: Path):
    @goliath.remote
    def stubborn():
        (tmp_path / "begun").touch()
        for _ in range(500):
            try:
                time.sleep(0.01)
            except KeyboardInterrupt:
                (tmp_path / str(goliath.get_runtime_context().is_canceled())).touch()
                return

    ref = stubborn.remote()
    until((tmp_path / "begun").exists, 20)
    goliath.cancel(ref)
    until((tmp_path / "True").exists, 20)


def test_the_commander_holds_nothing_for_workers_when_their_refs_are_gone(one):
    from goliath.actors.deputies import Deputies

    @goliath.remote
    def fans_out(n):
        return sum(goliath.get([square.remote(i) for i in range(n)]))

    assert goliath.get(fans_out.remote(50)) == 40425
    goliath.get(square.remote(1))
    portal = one._cluster._portal
    (deputies,) = [
        thing for thing in gc.get_objects() if type(thing) is Deputies and thing._portal is portal
    ]
    until(lambda: not any(deputy.held for deputy in deputies._deputies.values()), 20)
    assert not deputies._children


def test_a_task_of_a_module_that_calls_tasks_when_imported_does_not_recurse(
    one, tmp_path, monkeypatch
):
    (tmp_path / "eager.py").write_text(
        "import goliath\n"
        "@goliath.remote\n"
        "def double(x):\n"
        "    return 2 * x\n"
        "four = goliath.get(double.remote(2))\n"
        "def use(x):\n"
        "    return four + x\n"
    )
    monkeypatch.chdir(tmp_path)

    def outer(x):
        import eager

        return eager.use(x)

    assert one.run(outer, [(1,), (2,)], ["eager.py"]) == [5, 6]


def test_an_unpicklable_argument_of_a_nested_call_is_refused_where_it_is_made(one):
    @goliath.remote
    def outer():
        try:
            square.remote(i for i in ())
        except goliath.SerializationError as exc:
            return str(exc)
        return ""

    assert "generator" in goliath.get(outer.remote())


def test_exit_in_a_nested_call_is_a_task_error(one):
    @goliath.remote
    def leaves():
        raise SystemExit(3)

    @goliath.remote
    def outer():
        try:
            goliath.get(leaves.remote())
        except TaskError as exc:
            return exc.type_name
        return ""

    assert goliath.get(outer.remote()) == "SystemExit"
