"""Each defect of the first Goliath, as a test that it stays gone."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from goliath import Commander
from tests.e2e.calls import add, fail, nap, say
from tests.lieutenants import Lieutenant


@pytest.fixture
def on_three(three_nodes: list[Lieutenant]) -> Iterator[Commander]:
    with Commander([node.address for node in three_nodes]) as commander:
        yield commander


def test_a_hundred_calls_on_three_nodes_give_a_hundred_results(on_three: Commander) -> None:
    results = on_three.run(add, [{"a": n, "b": 1} for n in range(100)])
    assert results == list(range(1, 101))


@pytest.mark.parametrize("count", [0, 1, 2])
def test_fewer_calls_than_nodes_are_fine(on_three: Commander, count: int) -> None:
    assert on_three.run(add, [{"a": n, "b": 1} for n in range(count)]) == [*range(1, count + 1)]


@pytest.mark.timeout(20)
def test_a_call_that_raises_does_not_hang_the_run(on_three: Commander) -> None:
    with pytest.raises(ValueError, match=r"bad \d+"):
        on_three.run(fail, [{"n": n} for n in range(20)])


@pytest.mark.timeout(20)
def test_a_call_that_prints_does_not_hang_the_run(
    on_three: Commander, capfd: pytest.CaptureFixture[str]
) -> None:
    assert on_three.run(say, [{"text": f"line {n}"} for n in range(20)]) == [None] * 20
    assert "line 19" in capfd.readouterr().out


def test_an_idle_node_burns_no_cpu(lieutenant, node: Lieutenant) -> None:
    own = lieutenant(2)
    with Commander([own.address]) as commander:
        commander.run(nap, [{"seconds": 0.05}] * 2)
        processes = [psutil.Process(seen.pid) for seen in own.family()]
        processes.append(psutil.Process(own.pid))
        before = sum(sum(process.cpu_times()[:2]) for process in processes)
        time.sleep(2)
        burned = sum(sum(process.cpu_times()[:2]) for process in processes) - before
    # The first Goliath burned 0.8 s in two seconds. The timers here tick 17 times as fast
    # as by default, and the kernel counts in 0.01 s.
    assert burned <= 0.06


def test_no_worker_count_means_the_usable_cpus(lieutenant) -> None:
    own = lieutenant(None)
    assert own.workers == len(os.sched_getaffinity(0))
    with Commander([own.address]) as commander:
        assert commander.run(add, [{"a": 1, "b": 2}]) == [3]


def test_generators_are_welcome(on_three: Commander) -> None:
    assert on_three.run(add, ({"a": n, "b": n} for n in range(10))) == [2 * n for n in range(10)]


def test_shipped_siblings_import_each_other(on_three: Commander, tmp_path: Path) -> None:
    (tmp_path / "elder_sibling.py").write_text("def value(): return 20\n")
    (tmp_path / "younger_sibling.py").write_text(
        "import elder_sibling\ndef value(): return elder_sibling.value() + 1\n"
    )

    def ask(n):
        import younger_sibling

        return younger_sibling.value() + n

    files = [tmp_path / "elder_sibling.py", tmp_path / "younger_sibling.py"]
    assert on_three.run(ask, [{"n": 1}, {"n": 2}], files) == [22, 23]


def test_one_client_does_not_starve_another(node: Lieutenant) -> None:
    with Commander([node.address]) as greedy, Commander([node.address]) as modest:
        for _ in range(200):
            greedy.submit(nap, seconds=0.1)
        start = time.monotonic()
        assert modest.run(add, [{"a": 1, "b": 1}]) == [2]
        assert time.monotonic() - start < 8  # all of them take 10
        greedy.cancel()
