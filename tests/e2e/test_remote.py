"""Remote functions and the verbs of their refs, on a real node."""

from __future__ import annotations

import asyncio
import os
import pickle
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cloudpickle
import psutil
import pytest

import goliath
from goliath import (
    Commander,
    GetTimeoutError,
    ObjectRef,
    SerializationError,
    TaskCancelledError,
    TaskTimeoutError,
    WorkerCrashedError,
)
from goliath.testing.processes import until
from tests.lieutenants import Lieutenant


@pytest.fixture(autouse=True)
def cluster(node: Lieutenant) -> Iterator[Commander]:
    commander = goliath.init(node.address)
    assert commander is not None
    yield commander
    goliath.shutdown()


@goliath.remote
def square(x: int) -> int:
    return x * x


@goliath.remote
def total(numbers: list[int], more: int = 0) -> int:
    return sum(numbers) + more


@goliath.remote
def span(n: int) -> list[int]:
    return list(range(n))


@goliath.remote
def refuse(x: Any) -> Any:
    raise ValueError(f"not {x}")


@goliath.remote
def nap(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


@goliath.remote
async def anap(seconds: float) -> float:
    await asyncio.sleep(seconds)
    return seconds


# -- calls ---------------------------------------------------------------------------------


def test_a_remote_function_is_called_there_and_a_plain_call_runs_here():
    @goliath.remote
    def where() -> int:
        return os.getpid()

    assert where() == os.getpid()
    assert goliath.get(where.remote()) != os.getpid()
    assert square.__name__ == "square"
    assert repr(square) == "<RemoteFunction square>"


def test_a_ref_is_hashable_and_named_and_asked_by_any_of_its_verbs():
    ref = square.remote(4)
    assert isinstance(ref, ObjectRef)
    assert goliath.get(ref) == ref.result() == ref.future().result(30) == 16
    assert ref.name == "square"
    assert len({ref, ref, square.remote(4)}) == 2


def test_coroutine_functions_run_natively():
    assert goliath.get(anap.remote(0.01)) == 0.01


def test_options_make_another_function_of_the_same_one():
    slow = nap.options(timeout=0.2, max_retries=0, name="siesta")
    expected = r"siesta\(30\), call 0, ran longer than timeout=0\.2 s"
    with pytest.raises(TaskTimeoutError, match=expected):
        goliath.get(slow.remote(30))
    assert goliath.get(nap.remote(0.01)) == 0.01


def test_a_function_may_return_several_results_each_with_its_ref():
    @goliath.remote(num_returns=2)
    def halves(items: list[int]) -> tuple[list[int], list[int]]:
        middle = len(items) // 2
        return items[:middle], items[middle:]

    first, second = halves.remote([1, 2, 3, 4])  # type: ignore[misc]  # a list with num_returns
    assert goliath.get([first, second]) == [[1, 2], [3, 4]]
    assert goliath.get(total.remote(second)) == 7


def test_other_than_the_promised_number_of_results_is_an_error_that_says_both():
    wrong = span.options(num_returns=2).remote(3)
    with pytest.raises(ValueError, match="returned 3 items, and num_returns is 2"):
        goliath.get(wrong[0])  # type: ignore[index]  # as above


def test_map_and_starmap_send_many_calls_off():
    assert goliath.get(square.map(range(2000))) == [n * n for n in range(2000)]
    assert goliath.get(total.starmap([([1], 2), ([3], 4)])) == [3, 7]
    assert goliath.get(square.map([])) == []


def test_what_is_mapped_may_be_anything_that_a_call_may_be_given():
    @goliath.remote
    def same(value: Any) -> Any:
        return value

    items: list[Any] = [*range(50), [1, [2]], Path("p"), square.remote(3), goliath.put("put"), b"b"]
    wanted = [*items[:-3], 9, "put", b"b"]
    assert goliath.get(same.map(items)) == wanted
    assert goliath.get(same.starmap((item,) for item in items)) == wanted


def test_refs_of_a_map_are_waited_for_and_awaited_and_cancelled_like_any_others():
    refs = nap.map([0.01, 0.02, 0.3])
    ready, pending = goliath.wait(refs, num_returns=2)
    assert (ready, pending) == (refs[:2], [refs[2]])
    assert {ref.result() for ref in goliath.as_completed(refs)} == {0.01, 0.02, 0.3}
    assert total.remote(refs[:0]).result() == 0
    with pytest.raises(GetTimeoutError, match=r"had no result within"):
        goliath.get(nap.map([0.5]), timeout=0.02)
    long = nap.map([30.0] * 10)
    for ref in reversed(long):
        goliath.cancel(ref)
    with pytest.raises(TaskCancelledError):
        goliath.get(long)


async def test_refs_of_a_map_are_gathered():
    assert await asyncio.gather(*square.map(range(500))) == [n * n for n in range(500)]


def test_a_map_raises_what_the_first_of_its_failing_calls_raised():
    with pytest.raises(ValueError, match="not 0") as raised:
        goliath.get(refuse.map(range(5000)))
    assert "refuse, call" in raised.value.__notes__[0]
    with pytest.raises(SerializationError, match="cannot be pickled") as refused:
        refuse.map([1, [2], threading.Lock()])
    assert refused.value.__notes__ == ["goliath: item 2 of what is mapped"]


def test_items_of_a_map_are_taken_as_they_are_and_sent_while_the_next_are_made(tmp_path: Path):
    changing = [[1], [2]]
    refs = total.map(changing)
    changing[1].append(3)
    assert refs.results() == [1, 2]

    def items() -> Iterator[str]:
        for n in range(9):
            time.sleep(0.005)  # a slow source
            yield str(tmp_path / str(n))
        until((tmp_path / "0").exists, within=30)
        yield str(tmp_path / "last")

    @goliath.remote
    def touch(path: str) -> None:
        Path(path).touch()

    assert goliath.get(touch.map(items())) == [None] * 10


def test_slow_calls_of_a_map_are_spread_over_all_workers():
    @goliath.remote
    def where(seconds: float) -> int:
        time.sleep(seconds)
        return os.getpid()

    assert len(set(where.map([0.02] * 20).results())) == 2


def test_a_map_in_a_task_and_one_with_several_results_are_made_of_single_calls():
    @goliath.remote
    def through(n: int) -> list[int]:
        return goliath.get(square.map(range(n)))

    @goliath.remote(num_returns=2)
    def halves(n: int) -> tuple[int, int]:
        return n // 2, n - n // 2

    assert goliath.get(through.remote(4)) == [0, 1, 4, 9]
    first, second = halves.map([7, 4])
    assert [goliath.get(list(first)), goliath.get(list(second))] == [[3, 4], [2, 2]]  # type: ignore[call-overload]


def test_retries_follow_what_the_options_say():
    crash = goliath.remote(max_retries=0)(lambda: os._exit(3))
    with pytest.raises(WorkerCrashedError):
        goliath.get(crash.remote())


def test_a_remote_function_can_be_pickled_and_called_from_a_task():
    @goliath.remote
    def through(n: int) -> int:
        return goliath.get(square.remote(n)) + square(1)

    assert goliath.get(through.remote(3)) == 10
    assert pickle.loads(cloudpickle.dumps(through))(0) == 1


def test_a_recursion_deeper_than_the_cluster_is_wide_finishes():
    @goliath.remote
    def factorial(n: int) -> int:
        return 1 if n < 2 else n * goliath.get(factorial.remote(n - 1))

    assert goliath.get(factorial.remote(30)) == 265252859812191058636308480000000


# -- refs as arguments ---------------------------------------------------------------------


def test_a_ref_as_an_argument_is_replaced_by_its_result():
    assert goliath.get(square.remote(square.remote(3))) == 81
    assert goliath.get(total.remote(span.remote(4), more=square.remote(2))) == 10


def test_a_long_chain_of_calls_keeps_its_order():
    ref = square.remote(1)
    for _ in range(300):
        ref = _more.remote(ref)
    assert goliath.get(ref) == 301


@goliath.remote
def _more(n: int) -> int:
    return n + 1


def test_what_was_put_is_a_copy_of_its_own_for_everybody():
    numbers = [1, 2]
    ref = goliath.put(numbers)
    numbers.append(3)
    assert goliath.get(ref) == [1, 2]
    goliath.get(ref).append(4)
    assert goliath.get([total.remote(ref), total.remote(ref, more=1)]) == [3, 4]


def test_a_call_that_needs_what_failed_fails_in_the_same_way_and_never_runs(tmp_path: Path):
    mark = tmp_path / "ran"

    @goliath.remote
    def touch(_: Any) -> None:
        mark.touch()

    with pytest.raises(ValueError, match="not 1") as raised:
        goliath.get(touch.remote(refuse.remote(1)))
    assert "refuse, call" in raised.value.__notes__[0]
    assert not mark.exists()


def test_a_call_that_waits_for_another_can_be_cancelled():
    first = nap.remote(0.3)
    second = nap.remote(first)
    goliath.cancel(second)
    with pytest.raises(TaskCancelledError):
        goliath.get(second)
    assert goliath.get(first) == 0.3


# -- verbs ---------------------------------------------------------------------------------


def test_get_waits_no_longer_than_it_was_told(tmp_path: Path):
    @goliath.remote
    def wait(path: Path) -> str:
        while not path.exists():
            time.sleep(0.005)
        return "waited"

    gate = tmp_path / "gate"
    refs = [wait.remote(gate), wait.remote(gate)]
    with pytest.raises(GetTimeoutError):
        goliath.get(refs, timeout=0.05)
    gate.touch()
    assert goliath.get(refs) == ["waited"] * 2


def test_wait_gives_what_is_ready_first_and_the_rest_in_order():
    slow, quick = nap.remote(0.5), nap.remote(0.01)
    assert goliath.wait([slow, quick]) == ([quick], [slow])
    assert goliath.wait([slow, quick], num_returns=2, timeout=0.01) == ([quick], [slow])
    assert goliath.wait([slow, quick], num_returns=2) == ([slow, quick], [])


def test_as_completed_yields_as_calls_end():
    refs = [nap.remote(0.4), nap.remote(0.01)]
    assert [ref.result() for ref in goliath.as_completed([*refs, refs[0]])] == [0.01, 0.4]


def test_as_completed_says_how_many_were_late():
    refs = [nap.remote(0.01), nap.remote(0.6)]
    seen = []
    with pytest.raises(GetTimeoutError, match=r"1 of 2 calls had not ended within 0\.2 s"):
        seen.extend(goliath.as_completed(refs, timeout=0.2))
    assert goliath.get(refs) == [0.01, 0.6]


@pytest.mark.parametrize("verb", [goliath.get, goliath.wait, goliath.as_completed])
@pytest.mark.parametrize("wrong", [3, ["ref"], [None]])
def test_what_is_no_ref_is_refused(verb: Any, wrong: Any):
    with pytest.raises(TypeError, match="it takes ObjectRefs"):
        verb(wrong)


def test_wait_refuses_doubles_and_numbers_that_cannot_be():
    ref = square.remote(1)
    with pytest.raises(ValueError, match="a ref twice"):
        goliath.wait([ref, ref])
    with pytest.raises(ValueError, match="num_returns=2 of 1 refs"):
        goliath.wait([ref], num_returns=2)
    assert goliath.wait([]) == ([], [])


def test_a_ref_cannot_be_put():
    with pytest.raises(TypeError, match="can be passed as it is"):
        goliath.put(square.remote(1))


def test_a_running_call_is_interrupted_and_the_next_one_runs():
    refs = [nap.remote(30) for _ in range(2)]
    time.sleep(0.2)
    start = time.monotonic()
    for ref in refs:
        goliath.cancel(ref)
    for ref in refs:
        with pytest.raises(TaskCancelledError):
            goliath.get(ref, timeout=30)
    assert goliath.get(nap.remote(0.01)) == 0.01
    assert time.monotonic() - start < 3


def test_a_function_that_was_called_before_a_shutdown_is_called_in_the_next_runtime(
    node: Lieutenant,
):
    assert goliath.get(square.remote(1)) == 1
    line = square._line()  # as whatever still refers to it would keep it, until it is collected
    assert line is not None
    goliath.shutdown()
    goliath.init(node.address)
    assert goliath.get(square.remote(3)) == 9


async def test_refs_are_awaited_in_any_loop_and_gathered_in_thousands():
    refs = [square.remote(n) for n in range(3000)]
    assert await asyncio.gather(*refs) == [n * n for n in range(3000)]
    with pytest.raises(ValueError, match="not 7"):
        await refuse.remote(7)
    late = nap.remote(0.3)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await late
    assert await late == 0.3


def test_threads_may_use_everything_at_once():
    wrong: list[int] = []

    def use(base: int) -> None:
        got = goliath.get([square.remote(n) for n in range(base, base + 200)])
        if got != [n * n for n in range(base, base + 200)]:
            wrong.append(base)

    threads = [threading.Thread(target=use, args=(base,)) for base in range(0, 800, 200)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


# -- the decorator's complaints --------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"cpus": 1}, TypeError, "no option 'cpus'; it has num_cpus, num_gpus, memory, "),
        ({"num_returns": 0}, ValueError, "num_returns=0"),
        ({"max_retries": -1}, ValueError, "max_retries=-1"),
        ({"timeout": 0}, ValueError, "timeout=0"),
        ({"num_cpus": -1}, ValueError, "num_cpus=-1"),
        ({"num_gpus": -1}, ValueError, "num_gpus=-1"),
        ({"memory": "2G"}, ValueError, "memory='2G'; it is a number of bytes"),
        ({"memory": -1}, ValueError, "memory=-1"),
        ({"memory": True}, ValueError, "memory=True"),
        ({"resources": {"memory": 1}}, ValueError, "memory is asked for with memory"),
        ({"num_gpus": "one"}, ValueError, "num_gpus='one'"),
        ({"num_gpus": 1.5}, ValueError, "cannot have 1.5 GPUs"),
        ({"resources": {"GPU": 1}}, ValueError, "GPU is asked for with num_gpus"),
        ({"retry_exceptions": [3]}, TypeError, "retry_exceptions holds 3"),
    ],
)
def test_wrong_options_are_refused_where_they_stand(
    options: Any, error: type[Exception], words: str
):
    with pytest.raises(error, match=words):
        goliath.remote(**options)(lambda: None)


@pytest.mark.parametrize("wrong", [3, "square", square])
def test_what_is_no_plain_function_is_refused(wrong: Any):
    with pytest.raises(TypeError):
        goliath.remote(wrong)


# -- the runtime ---------------------------------------------------------------------------


def test_it_says_what_there_is(cluster: Commander):
    assert goliath.is_initialized()
    resources = goliath.cluster_resources()
    assert resources.keys() == {"CPU", "memory"}
    assert resources["CPU"] == 2.0
    assert 0 < resources["memory"] < psutil.virtual_memory().total
    assert goliath.available_resources()["CPU"] <= 2.0
    assert [node.alive for node in goliath.nodes()] == [True]
    with pytest.raises(RuntimeError, match="initialized already"):
        goliath.init()
    assert goliath.get(cluster.submit(int, "3")) == 3


SCRIPT = """
import goliath

@goliath.remote
def square(x):
    return x * x

{init}
print(goliath.get([square.remote(n) for n in range(4)]), goliath.is_initialized())
assert square.map(range(4)).results() == [0, 1, 4, 9]
"""


def run_script(tmp_path: Path, init: str = "", **env: str) -> subprocess.CompletedProcess[str]:
    path = tmp_path / "script.py"
    path.write_text(SCRIPT.format(init=init))
    return subprocess.run(
        [sys.executable, path],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, **env},
        check=False,
    )


def test_the_first_call_starts_a_cluster_and_says_so_in_one_line(tmp_path: Path):
    done = run_script(tmp_path)
    assert done.stdout == "[0, 1, 4, 9] True\n"
    assert done.stderr.startswith("goliath: started an embedded cluster of ")
    assert done.stderr.count("\n") == 1


def test_the_same_script_goes_elsewhere_by_the_environment(tmp_path: Path, lieutenant: Any):
    node = lieutenant(2)
    address = "{}:{}".format(*node.address)
    done = run_script(tmp_path, GOLIATH_LIEUTENANTS=address)
    assert done.stdout == "[0, 1, 4, 9] True\n"
    assert done.stderr == (
        f"goliath: connected to {address} (GOLIATH_LIEUTENANTS); goliath.init() chooses another\n"
    )


def test_local_mode_runs_everything_here(tmp_path: Path):
    done = run_script(tmp_path, "goliath.init(local_mode=True)")
    assert (done.stdout, done.stderr) == ("[0, 1, 4, 9] True\n", "")


def test_a_function_goes_where_goliath_was_initialized_last(node: Lieutenant):
    where = goliath.remote(os.getppid)
    there = goliath.get(where.remote())
    goliath.shutdown()
    goliath.init(local_mode=True)
    assert goliath.get(where.remote()) == os.getppid()
    goliath.shutdown()
    goliath.init(workers=1)
    elsewhere = goliath.get(where.remote())
    goliath.shutdown()
    goliath.init(node.address)
    assert goliath.get([where.remote(), where.remote()]) == [there, there]
    assert len({there, elsewhere, os.getppid()}) == 3


@pytest.mark.parametrize(("theirs", "ours"), [("address", "lieutenants"), ("num_cpus", "workers")])
def test_who_comes_from_ray_is_told_what_it_is_called_here(theirs: str, ours: str):
    with pytest.raises(TypeError, match=f"no {theirs}=; what Ray calls so is {ours}= here"):
        goliath.init(**{theirs: None})


def test_nobody_at_the_address_is_an_error_of_init(tmp_path: Path):
    done = run_script(tmp_path, "goliath.init('127.0.0.1:9', connect_timeout=0.3)")
    assert done.returncode == 1
    assert "no lieutenant at 127.0.0.1:9" in done.stderr.lower()


# -- where and when --------------------------------------------------------------------------


def test_calls_of_a_higher_priority_overtake_those_that_wait(tmp_path: Path):
    log = tmp_path / "log"
    log.touch()

    @goliath.remote(num_cpus=2)
    def note(what: str) -> None:
        with log.open("a") as file:
            file.write(what)
        time.sleep(0.02)

    low = [note.remote("-") for _ in range(40)]
    high = [note.options(priority=1).remote("!") for _ in range(5)]
    goliath.get(low + high)
    assert log.read_text().rindex("!") < 25


def test_a_node_can_be_chosen_and_a_missing_one_is_named(cluster: Commander):
    (node,) = goliath.nodes()
    here = goliath.NodeAffinitySchedulingStrategy(node.node_id)
    assert goliath.get(square.options(scheduling_strategy=here).remote(3)) == 9
    gone = goliath.NodeAffinitySchedulingStrategy("gone:1#1", soft=True)
    assert goliath.get(square.options(scheduling_strategy=gone).remote(3)) == 9
    assert goliath.get(square.options(scheduling_strategy="SPREAD").remote(3)) == 9


@pytest.mark.parametrize("wrong", ["ANYWHERE", 3])
def test_an_unknown_strategy_is_refused(wrong: Any):
    with pytest.raises(ValueError, match="it is 'DEFAULT', 'SPREAD' or a NodeAffinity"):
        goliath.remote(scheduling_strategy=wrong)(lambda: None)
