"""The Commander itself: used again, from threads, embedded, closed, cancelled."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from goliath import (
    Commander,
)
from tests.e2e.calls import add, nap, pid

# -- the Commander itself ----------------------------------------------------------------


def test_a_commander_is_used_again_and_again_and_from_several_threads(cmdr: Commander) -> None:
    results: dict[int, list[int]] = {}

    def use(k: int) -> None:
        results[k] = cmdr.run(add, [{"a": n, "b": k} for n in range(200)])

    threads = [threading.Thread(target=use, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == {k: [n + k for n in range(200)] for k in range(4)}


def test_workers_keep_no_module_state_between_jobs_with_other_environments(
    cmdr: Commander,
) -> None:
    first = set(cmdr.run(pid, [(n,) for n in range(4)], env_vars={"A_COLOUR": "blue"}))
    second = set(cmdr.run(pid, [(n,) for n in range(4)], env_vars={"A_COLOUR": "red"}))
    assert not first & second


def test_close_is_idempotent_and_a_closed_commander_says_so(cmdr: Commander) -> None:
    assert cmdr.run(add, [(1, 1)]) == [2]
    cmdr.close()
    cmdr.close()
    with pytest.raises(Exception, match="closed"):
        cmdr.run(add, [(1, 1)])


def test_a_commander_that_was_never_used_starts_nothing() -> None:
    before = threading.active_count()
    commander = Commander(workers=1)
    assert threading.active_count() == before
    commander.close()


def test_the_embedded_lieutenant_knows_its_workers_and_the_users_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_own_module.py").write_text("ANSWER = 42\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))

    def work():
        import my_own_module

        return os.getcwd(), my_own_module.ANSWER

    with Commander(workers=1) as commander:
        assert commander.run(work, [()]) == [(str(tmp_path), 42)]
        (node,) = commander.nodes()
        assert node.workers == 1
        assert node.alive


def test_nodes_tell_what_the_commander_is_connected_to(cmdr: Commander, node: Any) -> None:
    cmdr.run(add, [(1, 1)])
    (info,) = cmdr.nodes()
    assert info.workers == 2
    assert info.alive
    assert str(node.port) in info.address
    assert info.python.startswith("3.")
    assert info.busy == 0
    assert info.queued == 0


def test_cancel_ends_everything_in_flight(cmdr: Commander) -> None:
    from goliath import TaskCancelledError

    timer = threading.Timer(0.4, cmdr.cancel)
    timer.start()
    start = time.monotonic()
    with pytest.raises(TaskCancelledError):
        cmdr.run(nap, [{"seconds": 30}] * 4)
    assert time.monotonic() - start < 8
    timer.join()
    assert cmdr.run(add, [(1, 1)]) == [2]
