"""``imap``, ``imap_unordered``, ``map``, ``starmap``: lazy both ways, with bounded memory."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator

import pytest

from goliath import Commander, DeadlineExceededError, TaskTimeoutError
from tests.e2e.calls import add, fail_if, nap, same


class Counted:
    """An endless input that knows how often it was pulled."""

    def __init__(self) -> None:
        self.pulled = 0

    def __iter__(self) -> Iterator[dict[str, int]]:
        for n in itertools.count():
            self.pulled = n + 1
            yield {"a": n, "b": 1}


def test_imap_yields_in_the_order_of_the_input(cmdr: Commander) -> None:
    def backwards(n):
        time.sleep(0.002 * (20 - n))
        return n

    assert list(cmdr.imap(backwards, [{"n": n} for n in range(20)])) == list(range(20))


def test_imap_unordered_yields_as_finished_and_each_once(cmdr: Commander) -> None:
    calls = [{"seconds": s} for s in (0.6, 0.01, 0.02, 0.03)]
    results = list(cmdr.imap_unordered(nap, calls))
    assert results[-1] == 0.6
    assert sorted(results) == [0.01, 0.02, 0.03, 0.6]


def test_map_takes_iterables_side_by_side_and_ends_with_the_shortest(cmdr: Commander) -> None:
    results = cmdr.map(add, range(5), itertools.count(10))
    assert iter(results) is iter(results)
    assert list(results) == [10, 12, 14, 16, 18]


def test_starmap_takes_tuples(cmdr: Commander) -> None:
    assert list(cmdr.starmap(pow, [(2, 3), (3, 2), (10, 0)])) == [8, 9, 1]


def test_map_passes_tuples_on_as_values(cmdr: Commander) -> None:
    assert list(cmdr.map(same, [(1, 2), {"a": 1}])) == [(1, 2), {"a": 1}]


def test_ten_thousand_calls_pass_through_imap(cmdr: Commander) -> None:
    calls = ({"a": n, "b": 1} for n in range(10_000))
    assert list(cmdr.imap(add, calls)) == list(range(1, 10_001))


def test_no_calls_give_an_empty_iterator(cmdr: Commander) -> None:
    assert list(cmdr.imap(add, [])) == []
    assert list(cmdr.imap_unordered(add, [])) == []
    assert list(cmdr.map(add, [], [])) == []


@pytest.mark.parametrize("how", ["imap", "imap_unordered"])
def test_an_endless_generator_is_fine(cmdr: Commander, how: str) -> None:
    source = Counted()
    results = getattr(cmdr, how)(add, source)
    first = list(itertools.islice(results, 100))
    results.close()
    assert len(first) == 100
    if how == "imap":
        assert first == list(range(1, 101))


def test_the_input_is_pulled_only_as_results_are_consumed(cmdr: Commander) -> None:
    source = Counted()
    results = cmdr.imap(add, source, buffersize=64)
    for wanted in (1, 50, 300):
        assert list(itertools.islice(results, wanted))
        # A consumer that rests stops the input: the count has settled soon, and stays.
        time.sleep(0.2)
        settled = source.pulled
        time.sleep(0.1)
        assert source.pulled == settled
    assert settled <= 351 + 2 * 64
    results.close()


def test_buffersize_bounds_the_calls_pulled_ahead(cmdr: Commander) -> None:
    source = Counted()
    results = cmdr.imap(add, source, buffersize=4)
    assert next(results) == 1
    time.sleep(0.2)
    assert source.pulled <= 8
    results.close()


def test_the_input_is_pulled_in_the_consumers_thread_or_never_by_two(cmdr: Commander) -> None:
    inside = threading.Lock()

    def calls() -> Iterator[dict[str, int]]:
        for n in range(2000):
            assert inside.acquire(blocking=False)
            inside.release()
            yield {"a": n, "b": 0}

    assert list(cmdr.imap(add, calls())) == list(range(2000))


def test_closing_early_cancels_the_rest_and_closes_the_generator(cmdr: Commander) -> None:
    closed = []

    def calls() -> Iterator[dict[str, float]]:
        try:
            while True:
                yield {"seconds": 0.05}
        finally:
            closed.append(True)

    results = cmdr.imap_unordered(nap, calls(), buffersize=8)
    assert next(results) == 0.05
    results.close()
    assert closed == [True]
    with pytest.raises(StopIteration):
        next(results)
    assert cmdr.run(add, [(1, 1)]) == [2]


def test_a_loop_that_breaks_leaves_the_commander_usable(cmdr: Commander) -> None:
    for value in cmdr.imap(add, Counted()):
        if value == 10:
            break
    assert cmdr.run(add, [(1, 1)]) == [2]


def test_an_exception_is_raised_at_its_place(cmdr: Commander) -> None:
    results = cmdr.imap(fail_if, [{"n": n, "bad": 3} for n in range(6)])
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match="bad 3"):
        next(results)


def test_return_exceptions_yields_them_in_their_places(cmdr: Commander) -> None:
    calls = [{"n": n, "bad": 3} for n in range(6)]
    results = list(cmdr.imap(fail_if, calls, return_exceptions=True))
    assert isinstance(results[3], ValueError)
    assert results[:3] + results[4:] == [0, 1, 2, 4, 5]


def test_timeout_and_deadline_work_for_iterators(cmdr: Commander) -> None:
    results = list(
        cmdr.imap(nap, [{"seconds": 0.01}, {"seconds": 30}], timeout=0.3, return_exceptions=True)
    )
    assert results[0] == 0.01
    assert isinstance(results[1], TaskTimeoutError)
    with pytest.raises(DeadlineExceededError):
        list(cmdr.imap(nap, ({"seconds": 0.1} for _ in range(1000)), deadline=0.5))


def test_a_generator_that_raises_ends_the_iterator_with_its_exception(cmdr: Commander) -> None:
    def calls() -> Iterator[dict[str, int]]:
        yield {"a": 1, "b": 1}
        yield {"a": 2, "b": 2}
        raise LookupError("no more")

    results = cmdr.imap(add, calls())
    assert [next(results), next(results)] == [2, 4]
    with pytest.raises(LookupError, match="no more") as caught:
        next(results)
    assert any("2" in note for note in caught.value.__notes__)


def test_two_iterators_run_at_the_same_time(cmdr: Commander) -> None:
    one = cmdr.imap(add, Counted())
    two = cmdr.imap(add, ({"a": n, "b": 1000} for n in itertools.count()))
    pairs = list(itertools.islice(zip(one, two, strict=False), 200))
    one.close()
    two.close()
    assert pairs == [(n + 1, n + 1000) for n in range(200)]


def test_files_and_static_work_for_iterators(cmdr: Commander, tmp_path) -> None:
    (tmp_path / "word.txt").write_text("hello")

    def read(n, times):
        with open("word.txt") as file:
            return file.read() * times + str(n)

    results = cmdr.imap(
        read, [(n,) for n in range(3)], [tmp_path / "word.txt"], static={"times": 2}
    )
    assert list(results) == ["hellohello0", "hellohello1", "hellohello2"]
