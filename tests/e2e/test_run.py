"""``Commander.run``: order, laziness, what calls have in common, callbacks."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from goliath import (
    Commander,
    RuntimeEnvSetupError,
)
from tests.e2e.calls import add, fail_if, nap, same, stamp, stamped

# -- order, and how the calls are given --------------------------------------------------


def test_results_come_in_the_order_of_the_input_whatever_finishes_first(cmdr: Commander) -> None:
    def backwards(n):
        time.sleep(0.002 * (20 - n))
        return n

    assert cmdr.run(backwards, [{"n": n} for n in range(20)]) == list(range(20))


def test_ten_thousand_calls_have_ten_thousand_results_in_order(cmdr: Commander) -> None:
    calls = ({"a": n, "b": 1} for n in range(10_000))
    assert cmdr.run(add, calls) == list(range(1, 10_001))


def test_zero_calls_give_an_empty_list(cmdr: Commander) -> None:
    assert cmdr.run(add, []) == []
    assert cmdr.run(add, iter(())) == []


def test_an_item_may_be_a_tuple_of_positional_arguments(cmdr: Commander) -> None:
    assert cmdr.run(add, [(1, 2), (3, 4)]) == [3, 7]


def test_mappings_and_tuples_may_be_mixed_and_keywords_come_in_any_order(cmdr: Commander) -> None:
    assert cmdr.run(add, [(1, 2), {"b": 20, "a": 1}, {"a": 3, "b": 4}]) == [3, 21, 7]


def test_any_mapping_will_do(cmdr: Commander) -> None:
    import types

    assert cmdr.run(add, [types.MappingProxyType({"a": 1, "b": 2})]) == [3]


def test_arguments_may_be_anything_that_pickles(cmdr: Commander) -> None:
    values = [1, 2.5, None, True, 2**100, "ü", b"\0", 1j, (1, [2]), {"k": {3}}, float("inf")]
    assert cmdr.run(same, [{"value": value} for value in values]) == values


def test_two_calls_never_share_a_mutable_argument(cmdr: Commander) -> None:
    def grow(items):
        items.append(1)
        return len(items)

    shared: list[int] = []
    assert cmdr.run(grow, [{"items": shared} for _ in range(50)]) == [1] * 50
    assert shared == []


def test_lambdas_closures_and_builtins_can_be_called(cmdr: Commander) -> None:
    offset = 10
    assert cmdr.run(lambda n: n + offset, [{"n": 1}]) == [11]
    assert cmdr.run(len, [("four",), ([1],)]) == [4, 1]


def test_methods_partials_and_callable_objects_can_be_called(cmdr: Commander) -> None:
    import functools

    class Adder:
        def __init__(self, k):
            self.k = k

        def __call__(self, n):
            return self.k + n

        def method(self, n):
            return self.k * n

    assert cmdr.run(Adder(2), [(3,)]) == [5]
    assert cmdr.run(Adder(2).method, [(3,)]) == [6]
    assert cmdr.run(functools.partial(add, 5), [(3,), {"b": 4}]) == [8, 9]


def test_async_functions_can_be_called(cmdr: Commander) -> None:
    async def soon(n):
        import asyncio

        await asyncio.sleep(0)
        return n + 1

    assert cmdr.run(soon, [(1,), (2,)]) == [2, 3]


def test_large_arguments_and_results_pass(cmdr: Commander) -> None:
    block = bytes(range(256)) * 40_000  # 10 MB
    assert cmdr.run(same, [{"value": block}, {"value": 1}]) == [block, 1]


def test_the_work_is_done_by_all_workers_and_in_other_processes(cmdr: Commander) -> None:
    def slow_pid(n):
        time.sleep(0.02)
        return os.getpid()

    pids = set(cmdr.run(slow_pid, [(n,) for n in range(20)]))
    assert len(pids) == 2
    assert os.getpid() not in pids


# -- the input is pulled lazily ----------------------------------------------------------


def test_a_generator_is_pulled_while_calls_run_not_before(cmdr: Commander, tmp_path: Path) -> None:
    folder = str(tmp_path)
    seen_while_pulling = []

    def calls() -> Iterator[dict[str, str]]:
        for n in range(20_000):
            if n % 1000 == 0:
                seen_while_pulling.append(len(os.listdir(folder)))
            yield {"folder": folder, "name": str(n % 100)}

    assert len(cmdr.run(stamp, calls())) == 20_000
    assert max(seen_while_pulling) > 0


def test_a_generator_that_raises_half_way_raises_its_own_exception_with_the_index(
    cmdr: Commander, tmp_path: Path
) -> None:
    folder = str(tmp_path)

    def calls() -> Iterator[dict[str, str]]:
        for n in range(3):
            yield {"folder": folder, "name": str(n)}
        raise LookupError("the data base is gone")

    with pytest.raises(LookupError, match="the data base is gone") as caught:
        cmdr.run(stamp, calls())
    assert any("3" in note for note in caught.value.__notes__)
    assert [stamped(folder, str(n)) for n in range(3)] == [1, 1, 1]


# -- static and initializer --------------------------------------------------------------


def test_static_keywords_are_common_to_all_calls(cmdr: Commander) -> None:
    assert cmdr.run(add, [{"a": n} for n in range(5)], static={"b": 100}) == [
        100 + n for n in range(5)
    ]
    assert cmdr.run(add, [(n,) for n in range(5)], static={"b": 100}) == [100 + n for n in range(5)]


def test_static_values_are_shipped_once_per_node_not_once_per_call(cmdr: Commander) -> None:
    def size(n, block):
        return n + len(block)

    block = b"x" * 20_000_000
    # Per call this would be 20 GB.
    results = cmdr.run(size, [{"n": n} for n in range(1000)], static={"block": block})
    assert results == [n + 20_000_000 for n in range(1000)]


def test_the_initializer_runs_once_in_each_worker_before_its_calls(
    cmdr: Commander, tmp_path: Path
) -> None:
    def prepare(folder, word):
        import builtins

        builtins.goliath_test_word = word
        with open(os.path.join(folder, str(os.getpid())), "a") as file:
            file.write("x")

    def use(n):
        import builtins

        time.sleep(0.01)
        return builtins.goliath_test_word, os.getpid()

    results = cmdr.run(
        use, [(n,) for n in range(20)], initializer=prepare, initargs=(str(tmp_path), "ready")
    )
    assert {word for word, _ in results} == {"ready"}
    for worker in {worker for _, worker in results}:
        assert (tmp_path / str(worker)).read_text() == "x"


def test_an_initializer_that_raises_is_an_error_of_the_environment(cmdr: Commander) -> None:
    def prepare():
        raise OSError("no licence server")

    with pytest.raises(RuntimeEnvSetupError, match="no licence server"):
        cmdr.run(add, [(1, 2)], initializer=prepare)
    assert cmdr.run(add, [(1, 2)]) == [3]


# -- environment variables ---------------------------------------------------------------


def test_env_vars_are_set_in_the_workers_of_this_run_only(cmdr: Commander) -> None:
    def look(name):
        return os.environ.get(name)

    names = [{"name": "GOLIATH_TEST_COLOUR"}]
    assert cmdr.run(look, names, env_vars={"GOLIATH_TEST_COLOUR": "blue"}) == ["blue"]
    assert cmdr.run(look, names) == [None]
    assert cmdr.run(look, names, env_vars={"GOLIATH_TEST_COLOUR": "red"}) == ["red"]


def test_thread_pools_of_numeric_libraries_get_the_cpus_of_the_call(cmdr: Commander) -> None:
    def threads(name):
        return os.environ.get(name)

    names = [("OMP_NUM_THREADS",), ("MKL_NUM_THREADS",), ("OPENBLAS_NUM_THREADS",)]
    assert cmdr.run(threads, names) == ["1", "1", "1"]
    assert cmdr.run(threads, names, env_vars={"OMP_NUM_THREADS": "7"})[0] == "7"


def test_no_token_is_in_the_environment_of_a_worker(lieutenant, tmp_path: Path) -> None:
    own = lieutenant(1, env={"GOLIATH_TOKEN_NOTE": "secret"})

    def environment():
        return dict(os.environ)

    with Commander([own.address]) as commander:
        (seen,) = commander.run(environment, [()])
    assert not [name for name in seen if name.startswith("GOLIATH_TOKEN")]
    assert own.runtime()["token"] not in seen.values()


# -- on_result, batch_size ---------------------------------------------------------------


def test_on_result_is_called_for_each_outcome_in_the_callers_thread(cmdr: Commander) -> None:
    seen: dict[int, Any] = {}
    threads = set()

    def note(index: int, outcome: Any) -> None:
        threads.add(threading.current_thread())
        assert index not in seen
        seen[index] = outcome

    cmdr.run(
        fail_if,
        [{"n": n, "bad": 5} for n in range(300)],
        on_result=note,
        return_exceptions=True,
    )
    assert threads == {threading.current_thread()}
    assert str(seen.pop(5)) == "bad 5"
    assert seen == {n: n for n in range(300) if n != 5}


def test_on_result_is_called_as_outcomes_arrive(cmdr: Commander) -> None:
    arrived = []
    cmdr.run(
        nap,
        [{"seconds": 0.05}] * 10,
        on_result=lambda index, outcome: arrived.append(time.monotonic()),
    )
    assert len(arrived) == 10
    assert arrived[-1] - arrived[0] > 0.1


def test_an_exception_of_on_result_ends_the_run_and_is_raised(cmdr: Commander) -> None:
    def refuse(index: int, outcome: Any) -> None:
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        cmdr.run(add, [(n, n) for n in range(10)], on_result=refuse)
    assert cmdr.run(add, [(1, 1)]) == [2]


@pytest.mark.parametrize("batch_size", [1, 7, 1000])
def test_any_batch_size_gives_the_same_results(cmdr: Commander, batch_size: int) -> None:
    calls = [{"a": n, "b": n} for n in range(100)]
    assert cmdr.run(add, calls, batch_size=batch_size) == [2 * n for n in range(100)]


def test_calls_gathered_in_one_batch_run_side_by_side_all_the_same(cmdr: Commander) -> None:
    def whose() -> int:
        time.sleep(0.1)
        return os.getpid()

    assert len(set(cmdr.run(whose, [()] * 8, batch_size=8))) == 2
