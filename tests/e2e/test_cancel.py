"""One call is called off: wherever it is, and nobody else."""

from __future__ import annotations

import asyncio
import os
import random
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from goliath import Commander, ObjectRef, TaskCancelledError
from goliath.testing.processes import until
from tests.e2e.calls import add, die_until, stamped

AT_ONCE_S = 2.0
"""An interrupt takes a millisecond; a call that is not interrupted is killed after five seconds."""


SOON_S = 30.0


def hold(folder: str, name: str, hold_up: bool = True) -> str:
    """Stamp its name, and wait until there is a file ``go``; leave a mark if that is cut short."""
    from tests.e2e.calls import stamp

    stamp(folder, name)
    try:
        while hold_up and not os.path.exists(os.path.join(folder, "go")):
            time.sleep(0.005)
    except BaseException:
        stamp(folder, name + " was interrupted")
        raise
    return name


def resist(folder: str) -> None:
    """Never end, whatever is raised."""
    with open(os.path.join(folder, "pid"), "w") as file:
        file.write(str(os.getpid()))
    while True:
        try:
            time.sleep(10)
        except BaseException:  # noqa: BLE001 - the habit that is tested
            continue


def go(folder: Path) -> None:
    (folder / "go").touch()


def is_cancelled(ref: ObjectRef[Any], within: float = AT_ONCE_S) -> bool:
    """Whether its result is that; it must be known by then."""
    try:
        ref.result(within)
    except TaskCancelledError:
        return True
    return False


def running(cmdr: Commander, folder: Path, name: str = "it") -> ObjectRef[str]:
    """A call that holds, and has begun."""
    ref = cmdr.submit(hold, str(folder), name)
    until(lambda: stamped(str(folder), name) == 1, SOON_S)
    return ref


def test_a_call_that_waits_is_withdrawn_and_never_runs(cmdr: Commander, tmp_path: Path) -> None:
    refs = [cmdr.submit(hold, str(tmp_path), str(number)) for number in range(300)]
    until(lambda: stamped(str(tmp_path), "0") == 1, SOON_S)
    assert refs[-1].cancel()
    assert is_cancelled(refs[-1], 0)
    go(tmp_path)
    assert [ref.result() for ref in refs[:-1]] == [str(number) for number in range(299)]
    assert stamped(str(tmp_path), "299") == 0


def test_every_call_that_has_not_begun_can_be_called_off(cmdr: Commander, tmp_path: Path) -> None:
    refs = [cmdr.submit(hold, str(tmp_path), str(number)) for number in range(100)]
    until(lambda: stamped(str(tmp_path), "0") + stamped(str(tmp_path), "1") == 2, SOON_S)
    until(lambda: cmdr.nodes()[0].queued > 0, SOON_S, "some wait on the node")
    for ref in refs[2:]:
        ref.cancel()
    assert all(is_cancelled(ref) for ref in refs[2:])
    # That is so at once. The node hears of it later, and would begin the next one until then.
    until(lambda: cmdr.nodes()[0].queued == 0, SOON_S, "the node has taken them off its queue")
    go(tmp_path)
    assert [ref.result() for ref in refs[:2]] == ["0", "1"]
    assert cmdr.submit(add, 1, 2).result() == 3
    assert not any(stamped(str(tmp_path), str(number)) for number in range(2, 100))


def test_a_call_that_runs_is_interrupted_and_its_worker_goes_on(
    cmdr: Commander, tmp_path: Path
) -> None:
    ref = running(cmdr, tmp_path)
    assert not ref.cancel()
    assert is_cancelled(ref)
    until(lambda: stamped(str(tmp_path), "it was interrupted") == 1, SOON_S)
    go(tmp_path)
    assert cmdr.submit(hold, str(tmp_path), "another").result(AT_ONCE_S) == "another"


def test_a_call_that_resists_is_killed_by_force(cmdr: Commander, tmp_path: Path) -> None:
    ref = cmdr.submit(resist, str(tmp_path))
    until(lambda: stamped(str(tmp_path), "pid") > 0, SOON_S)
    worker = Path("/proc", (tmp_path / "pid").read_text())
    began = time.monotonic()
    ref.cancel(force=True)
    assert is_cancelled(ref)
    until(lambda: not worker.exists(), SOON_S)
    assert time.monotonic() - began < AT_ONCE_S
    assert cmdr.submit(add, 1, 2).result() == 3


def burst(cmdr: Commander, folder: Path) -> list[ObjectRef[str]]:
    """Calls that go together, because such calls are short; one of them holds."""
    quick = [cmdr.submit(hold, str(folder), "quick", hold_up=False) for _ in range(500)]
    for ref in quick:
        ref.result()
    refs = [cmdr.submit(hold, str(folder), str(n), hold_up=n == 150) for n in range(300)]
    until(lambda: stamped(str(folder), "150") == 1, SOON_S)
    return refs


def test_a_call_among_others_ends_at_once_and_they_keep_their_outcomes(
    cmdr: Commander, tmp_path: Path
) -> None:
    refs = burst(cmdr, tmp_path)
    assert not refs[150].cancel()
    assert is_cancelled(refs[150])
    go(tmp_path)
    others = [n for n in range(300) if n != 150]
    assert [refs[n].result() for n in others] == [str(n) for n in others]
    assert {stamped(str(tmp_path), str(n)) for n in others} == {1}


def test_a_call_among_others_is_interrupted_when_they_have_ended(
    cmdr: Commander, tmp_path: Path
) -> None:
    refs = burst(cmdr, tmp_path)
    refs[150].cancel()
    others = [n for n in range(300) if n != 150]
    assert [refs[n].result() for n in others] == [str(n) for n in others]
    until(lambda: stamped(str(tmp_path), "150 was interrupted") == 1, SOON_S)
    assert cmdr.submit(add, 1, 2).result() == 3, "nobody else is harmed"


def test_a_call_that_has_ended_keeps_its_result(cmdr: Commander) -> None:
    ref = cmdr.submit(add, 1, 2)
    assert ref.result() == 3
    assert not ref.cancel()
    assert not ref.cancel(force=True)
    assert ref.result() == 3


def test_a_call_may_be_called_off_twice(cmdr: Commander, tmp_path: Path) -> None:
    ref = running(cmdr, tmp_path)
    for force in (False, True, False):
        assert not ref.cancel(force=force)
        assert is_cancelled(ref)


def test_whoever_waits_hears_that_another_thread_has_called_it_off(
    cmdr: Commander, tmp_path: Path
) -> None:
    ref = running(cmdr, tmp_path)
    timer = threading.Timer(0.05, ref.cancel)
    timer.start()
    assert is_cancelled(ref)
    timer.join()


async def test_whoever_awaits_hears_of_it(cmdr: Commander, tmp_path: Path) -> None:
    ref = cmdr.submit(hold, str(tmp_path), "it")
    asyncio.get_running_loop().call_later(0.05, ref.cancel)
    with pytest.raises(TaskCancelledError):
        await asyncio.wait_for(ref, AT_ONCE_S)


def test_a_call_that_kills_its_workers_is_not_tried_again(cmdr: Commander, tmp_path: Path) -> None:
    ref = cmdr.submit(die_until, str(tmp_path), 1)
    ref.cancel()
    assert is_cancelled(ref)
    assert cmdr.submit(add, 1, 2).result() == 3
    assert stamped(str(tmp_path), "died") <= 1


def test_calls_that_are_called_off_at_random_end_so_or_with_their_own_result(
    cmdr: Commander,
) -> None:
    dice = random.Random(7)
    wrong: list[object] = []

    def many(base: int) -> None:
        for begin in range(base, base + 1000, 100):
            refs = [(n, cmdr.submit(add, n, 1)) for n in range(begin, begin + 100)]
            chosen = dice.sample(refs, 40)
            for _, ref in chosen:
                ref.cancel(force=dice.random() < 0.05)
            kept = [pair for pair in refs if pair not in chosen]
            wrong.extend(n for n, ref in kept if ref.result(20) != n + 1)
            wrong.extend(n for n, ref in chosen if not is_cancelled(ref) and ref.result() != n + 1)

    threads = [threading.Thread(target=many, args=(base,)) for base in (0, 1000, 2000)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
