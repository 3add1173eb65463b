"""Who keeps what: a dropped ref frees its result and never cancels its call."""

from __future__ import annotations

import gc
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

import goliath
from goliath import Commander, ObjectRef
from goliath.actors.deposits import Deposit
from goliath.testing.processes import until
from tests.lieutenants import Lieutenant

MIB = 1 << 20


@pytest.fixture(autouse=True)
def cluster(node: Lieutenant) -> Iterator[Commander]:
    commander = goliath.init(node.address)
    assert commander is not None
    yield commander
    goliath.shutdown()


@pytest.fixture
def traced() -> Iterator[None]:
    tracemalloc.start()
    yield
    tracemalloc.stop()


@goliath.remote
def square(x: int) -> int:
    return x * x


@goliath.remote
def text(size: int) -> str:
    return "x" * size


@goliath.remote
def block(size: int) -> list[bytes]:
    return [bytes(size)]


@goliath.remote
def touch(path: str, after_s: float) -> None:
    time.sleep(after_s)
    Path(path).touch()


def held_mib() -> float:
    """What Python objects of this process take; the RSS says little, for freed memory is kept."""
    gc.collect()
    return tracemalloc.get_traced_memory()[0] / MIB


def test_memory_returns_to_where_it_was_after_100_000_refs():
    def make_and_drop() -> tuple[float, int]:
        refs = [square.remote(n) for n in range(100_000)]
        assert goliath.get(refs)[-1] == 99_999**2
        del refs
        gc.collect()
        return psutil.Process().memory_info().rss / MIB, len(gc.get_objects())

    make_and_drop()
    before_mib, before_objects = make_and_drop()
    after_mib, after_objects = make_and_drop()
    assert after_mib - before_mib < 16
    assert after_objects - before_objects < 1000


@pytest.mark.parametrize("function", [text, block])
@pytest.mark.parametrize("looked_at", [False, True])
@pytest.mark.usefixtures("traced")
def test_each_big_result_of_a_burst_is_freed_with_its_own_ref(function: Any, looked_at: bool):
    goliath.get(function.remote(1))
    refs: list[ObjectRef[Any]] = [function.remote(MIB) for _ in range(64)]
    ready, _ = goliath.wait(refs, num_returns=64)
    if looked_at:
        goliath.get(ready)
    before = held_mib()
    kept = ready[40]
    del refs, ready
    if looked_at:
        assert before - held_mib() > 50
    else:
        assert before < 16, "they are on their node"
    assert len(goliath.get(kept)) in (MIB, 1)


@pytest.mark.usefixtures("traced")
def test_the_results_of_a_map_are_freed_with_its_refs_and_one_that_is_kept_keeps_its_own():
    assert goliath.get(block.map([1, 2]))
    refs = block.map([MIB] * 64)
    assert len(goliath.get(refs)) == 64
    before = held_mib()
    kept = refs[40]
    del refs
    assert before - held_mib() > 50
    assert len(goliath.get(kept)[0]) == MIB


def test_a_call_whose_ref_is_dropped_before_it_runs_runs_all_the_same(tmp_path: Path):
    for name in "abcdef":
        touch.remote(str(tmp_path / name), 0.05)
    gc.collect()
    until(lambda: len(list(tmp_path.iterdir())) == 6, within=30)


@pytest.mark.usefixtures("traced")
def test_a_result_that_nobody_waits_for_any_more_is_dropped_when_it_comes():
    goliath.get(text.remote(1))
    for _ in range(63):
        text.remote(MIB)
    assert len(goliath.get(text.remote(MIB))) == MIB
    until(lambda: held_mib() < 16, within=30)


@goliath.remote
def size_of(block: Any) -> int:
    return len(block)


@pytest.mark.usefixtures("traced")
def test_nothing_is_left_of_big_results_whose_refs_are_gone():
    def make_and_drop() -> None:
        refs = [text.remote(MIB) for _ in range(32)]
        sizes = [size_of.remote(ref) for ref in refs]
        assert goliath.get(sizes) == [MIB] * 32
        assert goliath.get(refs[::4]) == ["x" * MIB] * 8

    make_and_drop()
    before = held_mib()
    for _ in range(3):
        make_and_drop()
    until(lambda: not [each for each in gc.get_objects() if isinstance(each, Deposit)], within=30)
    # What was sent last is kept until it is acknowledged.
    until(lambda: held_mib() - before < 1, within=30)
