"""Calls that hang where they are: made again elsewhere, and counted once."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from goliath import Commander
from goliath.testing.processes import until

HANGS_S = 60.0


def hangs_once(folder: str, n: int, bad: int) -> int:
    """The first execution of one call does not end by itself; each leaves a file with its pid."""
    bad_and_first = n == bad and not os.listdir(folder)
    if n == bad:
        Path(folder, str(os.getpid())).touch()
    try:
        time.sleep(HANGS_S if bad_and_first else 0.02)
    except KeyboardInterrupt:
        Path(folder, "interrupted").touch()
        raise
    return n


def calls_of(folder: Path, count: int = 12, bad: int = 5) -> list[dict[str, Any]]:
    return [{"folder": str(folder), "n": n, "bad": bad} for n in range(count)]


def test_a_call_that_hangs_on_one_node_is_made_on_the_other_and_interrupted_there(
    lieutenant, tmp_path: Path
):
    one, other = lieutenant(1), lieutenant(1)
    with Commander([one.address, other.address]) as commander:
        start = time.monotonic()
        heard: Counter[int] = Counter()
        found = commander.run(
            hangs_once,
            calls_of(tmp_path),
            speculate=True,
            on_result=lambda index, _: heard.update([index]),
        )
        assert found == list(range(12))
        assert set(heard.values()) == {1}
        assert time.monotonic() - start < 10
        until(lambda: (tmp_path / "interrupted").exists(), 30, "the other execution interrupted")
    pids = [int(name) for name in os.listdir(tmp_path) if name.isdigit()]
    assert len(pids) == 2
    assert sum(pid in {seen.pid for seen in one.family()} for pid in pids) <= 1


def test_without_another_node_it_is_made_beside_itself(tmp_path: Path):
    with Commander(workers=2) as commander:
        found = commander.run(hangs_once, calls_of(tmp_path), speculate=True)
    assert found == list(range(12))


def test_what_a_frozen_worker_has_is_made_by_others(lieutenant, tmp_path: Path):
    one, other = lieutenant(1), lieutenant(1)

    def freezes(folder: str, n: int) -> int:
        if n == 4 and not os.path.exists(os.path.join(folder, "frozen")):
            Path(folder, "frozen").touch()
            os.kill(os.getpid(), signal.SIGSTOP)
        time.sleep(0.001)
        return n

    with Commander([one.address, other.address]) as commander:
        calls = [(str(tmp_path), n) for n in range(2000)]
        start = time.monotonic()
        assert commander.run(freezes, calls, speculate=True) == list(range(2000))
        assert time.monotonic() - start < 20


@pytest.mark.parametrize("door", ["imap", "imap_unordered", "arun"])
def test_iterators_and_coroutines_speculate_too(door: str, tmp_path: Path):
    doors: dict[str, Callable[[Commander], list[int]]] = {
        "imap": lambda c: list(c.imap(hangs_once, calls_of(tmp_path), speculate=True)),
        "imap_unordered": lambda c: list(
            c.imap_unordered(hangs_once, calls_of(tmp_path), speculate=True)
        ),
        "arun": lambda c: asyncio.run(c.arun(hangs_once, calls_of(tmp_path), speculate=True)),
    }
    with Commander(workers=2) as commander:
        assert sorted(doors[door](commander)) == list(range(12))


def test_nothing_is_made_twice_unless_it_is_asked_for(tmp_path: Path):
    with Commander(workers=2) as commander:
        later = threading.Timer(1.5, commander.cancel)
        later.start()
        results = commander.run(hangs_once, calls_of(tmp_path), return_exceptions=True)
        later.join()
    assert [n for n, result in enumerate(results) if isinstance(result, Exception)] == [5]
    assert len([name for name in os.listdir(tmp_path) if name.isdigit()]) == 1


def test_at_most_once_and_speculation_exclude_each_other():
    with Commander(workers=1) as commander:
        with pytest.raises(ValueError, match="leave one of the two out"):
            commander.run(pow, [(2, 3)], speculate=True, max_retries=0)
        with pytest.raises(TypeError, match="speculate='yes'; it is True or False"):
            commander.run(pow, [(2, 3)], speculate="yes")  # type: ignore[arg-type]
