"""The zygote as a guardian: whoever dies, and however, nobody is left behind."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import pytest

from goliath.actors.spec import WorkerSpec
from goliath.actors.zygote import SPARE_AFTER_MS, SPARE_KEPT_MS
from goliath.testing.processes import alive, descendants, kill, look, until
from tests.actors.workshop import Workshop, spare_of, workshop

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent.parent
ACTOR = WorkerSpec(actor=True)


def zygote_of(shop: Workshop) -> int:
    pid = shop.nursery.zygote_pid
    assert pid is not None
    return pid


def hold_the_gil() -> None:
    """Stay in C code that never lets another thread run."""
    import re

    re.match(r"(a?){64}a{64}$", "a" * 64)
    re.match(r"(a+)+b", "a" * 64)


PARENT = """
    import asyncio, json, os, signal, sys, time
    from goliath.transport import serialization
    from goliath.transport.worker_messages import DefineFunction, RunRange, WorkerReady
    from tests.actors.test_zygote import hold_the_gil
    from tests.actors.workshop import Workshop

    async def main():
        shop = Workshop()
        await shop.nursery.start()
        processes = [await shop.fork() for _ in range(4)]
        shop.start(processes[0], hold_the_gil, [{}])
        shop.start(processes[1], time.sleep, [(60,)])
        relatives = await shop.run(processes[2], start_family, [{}])
        os.kill(processes[3].pid, signal.SIGSTOP)
        pids = [shop.nursery.zygote_pid, *(p.pid for p in processes), *relatives.values[0]]
        # HERE
        print(json.dumps(pids), flush=True)
        await asyncio.sleep(60)

    def start_family():
        import subprocess
        sleep = ["sleep", "60"]
        return [subprocess.Popen(sleep).pid, subprocess.Popen(sleep, start_new_session=True).pid]

    asyncio.run(main())
"""


FORKS = {
    "kill -9": "",
    # A process that the user's program forked holds a copy of the zygote's socket.
    "kill -9 with a fork": "os.fork() or (time.sleep(60), os._exit(0))",
}


@pytest.mark.parametrize("how", FORKS)
def test_nobody_outlives_a_lieutenant_that_was_killed(how: str, tmp_path: Path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(textwrap.dedent(PARENT).replace("# HERE", FORKS[how]))
    parent = subprocess.Popen(
        [sys.executable, str(script)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
    )
    with parent:
        assert parent.stdout is not None
        pids = json.loads(parent.stdout.readline())
        family = [seen for seen in map(look, pids) if seen is not None]
        assert len(family) == 7
        assert all(map(alive, family))
        time.sleep(0.05)  # for the worker that holds the GIL to be inside its C code
        others = descendants(parent.pid) - set(family)
        parent.kill()
        start = time.monotonic()
        until(lambda: not any(map(alive, family)), 1, "everybody is dead")
        assert time.monotonic() - start < 0.5
        for other in others:  # a spare dies by itself
            kill(other.pid)


async def test_workers_live_on_when_the_zygote_dies_and_the_next_one_guards_them() -> None:
    async with workshop() as shop:
        old = await shop.fork()
        first = zygote_of(shop)
        os.kill(first, signal.SIGKILL)
        await shop.owner.until(lambda: shop.zygote_exits)
        assert shop.nursery.zygote_pid is None
        assert (await shop.run(old, lambda: 1, [{}])).values == {0: 1}
        await shop.nursery.start()
        new = await shop.fork()
        assert zygote_of(shop) != first
        # The old worker starts something, and is killed: the new zygote cleans up after it.
        relative = (await shop.run(old, start_sleep, [{}])).values[0]
        seen = look(relative)
        assert seen is not None
        assert old.pid is not None
        os.kill(old.pid, signal.SIGKILL)
        report = await shop.owner.exit_of(old)
        assert (report.signal, report.exit_code) == (None, None)
        await asyncio.to_thread(until, lambda: not alive(seen), 2, "its child")
        assert (await shop.run(new, lambda: 2, [{}])).values == {0: 2}


def start_sleep() -> int:
    import subprocess

    return subprocess.Popen(["sleep", "60"]).pid


async def test_the_next_zygote_ends_the_workers_of_the_one_before() -> None:
    shop = Workshop()
    await shop.nursery.start()
    old = await shop.fork()
    assert old.pid is not None
    seen = look(old.pid)
    os.kill(zygote_of(shop), signal.SIGKILL)
    await shop.owner.until(lambda: shop.zygote_exits)
    await shop.nursery.start()
    await shop.nursery.close()
    assert seen is not None
    await asyncio.to_thread(until, lambda: not alive(seen), 1)
    assert len(shop.owner.exits[old.worker]) == 1


async def test_a_worker_that_dies_while_there_is_no_zygote_is_still_seen() -> None:
    async with workshop() as shop:
        process = await shop.fork()
        os.kill(zygote_of(shop), signal.SIGKILL)
        await shop.owner.until(lambda: shop.zygote_exits)
        assert process.pid is not None
        relative = look((await shop.run(process, start_sleep, [{}])).values[0])
        os.kill(process.pid, signal.SIGKILL)
        report = await shop.owner.exit_of(process)
        assert (report.pid, report.signal) == (process.pid, None)
        assert relative is not None
        await asyncio.to_thread(until, lambda: not alive(relative), 1)


async def test_a_worker_asked_for_as_the_zygote_dies_is_told_as_an_exit() -> None:
    async with workshop() as shop:
        await shop.fork()
        zygote = zygote_of(shop)
        os.kill(zygote, signal.SIGSTOP)
        process = await shop.fork(ready=False)
        os.kill(zygote, signal.SIGKILL)
        report = await shop.owner.exit_of(process)
        assert report.pid is None


async def test_a_stopped_zygote_does_not_hide_a_death_nor_delay_the_end() -> None:
    shop = Workshop()
    await shop.nursery.start()
    process = await shop.fork()
    assert process.pid is not None
    os.kill(zygote_of(shop), signal.SIGSTOP)
    start = time.monotonic()
    os.kill(process.pid, signal.SIGKILL)
    report = await shop.owner.exit_of(process)
    assert time.monotonic() - start < 0.4
    assert report.signal is None
    os.kill(zygote_of(shop), signal.SIGCONT)
    await shop.nursery.close()


async def test_a_program_that_reaps_all_children_does_not_disturb_it() -> None:
    async with workshop() as shop:
        process = await shop.fork()
        zygote = zygote_of(shop)
        os.kill(zygote, signal.SIGKILL)
        os.waitpid(zygote, 0)  # noqa: ASYNC222 - as a user's os.wait(), before the loop hears
        await shop.owner.until(lambda: shop.zygote_exits)
        await shop.nursery.start()
        assert (await shop.run(process, lambda: 1, [{}])).values == {0: 1}


async def test_no_token_reaches_the_zygote(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOLIATH_TOKEN", "glt1_secret")
    monkeypatch.setenv("GOLIATH_TOKEN_FILE", "/secret")
    async with workshop() as shop:
        await shop.fork()
        with open(f"/proc/{zygote_of(shop)}/environ", "rb") as file:  # noqa: ASYNC230 - of memory
            environ = file.read()
        assert b"GOLIATH_TOKEN" not in environ
        assert b"secret" not in environ


async def test_a_module_in_the_current_directory_is_not_taken_for_the_librarys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("orjson", "random", "socket", "goliath"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('shadowed')")
    monkeypatch.chdir(tmp_path)
    async with workshop() as shop:
        process = await shop.fork()
        assert (await shop.run(process, os.getcwd, [{}])).values == {0: str(tmp_path)}


async def test_signals_meant_for_the_terminal_do_not_reach_it() -> None:
    async with workshop() as shop:
        process = await shop.fork()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            os.kill(zygote_of(shop), number)
        assert os.getsid(zygote_of(shop)) == zygote_of(shop)
        assert (await shop.run(process, lambda: 1, [{}])).values == {0: 1}
        assert (await shop.run(await shop.fork(), lambda: 2, [{}])).values == {0: 2}


async def test_many_workers_leave_no_descriptor_in_the_zygote() -> None:
    async with workshop() as shop:
        await shop.fork(ACTOR)
        await spare_of(shop)
        folder = f"/proc/{zygote_of(shop)}/fd"
        before = len(os.listdir(folder))
        for _ in range(10):
            process = await shop.fork(ACTOR)
            process.kill()
            await shop.owner.exit_of(process)
        await asyncio.to_thread(until, lambda: len(os.listdir(folder)) == before, 1)
        left = descendants(zygote_of(shop))
        assert len(left) == 2


async def test_the_next_worker_is_the_process_that_was_forked_ahead() -> None:
    async with workshop() as shop:
        await shop.fork(ACTOR)
        spare = await spare_of(shop)
        process = await shop.fork(WorkerSpec(variables={"COLOUR": "blue"}, cwd="/", actor=True))
        assert process.pid == spare.pid
        outcomes = await shop.run(process, where_and_how, [{}])
        assert outcomes.values == {0: ("/", "blue", "goliath-worker\n")}
        assert (await spare_of(shop)).pid != spare.pid


def where_and_how() -> tuple[str, str, str]:
    with open("/proc/self/comm") as file:
        return os.getcwd(), os.environ["COLOUR"], file.read()


async def test_one_spare_is_enough_however_many_workers_end() -> None:
    async with workshop() as shop:
        first, second = await shop.fork(ACTOR), await shop.fork(ACTOR)
        spare = await spare_of(shop)
        for process in (first, second):
            process.kill()
            await shop.owner.exit_of(process)
            await asyncio.sleep(2 * SPARE_AFTER_MS / 1000)  # it thinks of another, and has one
        assert descendants(zygote_of(shop), 1) == {spare}
        process = await shop.fork()
        assert process.pid == spare.pid
        assert (await shop.run(process, lambda: 1, [{}])).values == {0: 1}


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
async def test_a_spare_that_was_killed_is_buried_and_missed_by_nobody(number: int) -> None:
    async with workshop() as shop:
        await shop.fork(ACTOR)
        spare = await spare_of(shop)
        os.kill(spare.pid, number)
        await asyncio.to_thread(until, lambda: look(spare.pid) != spare, 1)
        process = await shop.fork(ACTOR)
        assert (await shop.run(process, lambda: 1, [{}])).values == {0: 1}
        assert (await spare_of(shop)) != spare


async def test_a_worker_that_is_told_more_than_a_spare_can_be_is_forked() -> None:
    async with workshop() as shop:
        await shop.fork(ACTOR)
        spare = await spare_of(shop)
        process = await shop.fork(WorkerSpec(sys_path=["/nowhere/" + "x" * 4_000_000]))
        assert process.pid != spare.pid
        assert (await shop.run(process, lambda: 1, [{}])).values == {0: 1}
        await asyncio.to_thread(until, lambda: not alive(spare), 1)


async def test_a_spare_that_lacks_what_was_preloaded_is_not_used() -> None:
    async with workshop() as shop:
        await shop.fork(ACTOR)
        spare = await spare_of(shop)
        shop.nursery.preload(["colorsys"])
        process = await shop.fork(ACTOR)
        assert process.pid != spare.pid
        assert (await shop.run(process, has_colorsys, [{}])).values == {0: True}


def has_colorsys() -> bool:
    return "colorsys" in sys.modules


async def test_without_any_worker_a_spare_is_kept_for_two_seconds() -> None:
    async with workshop() as shop:
        process, other = await shop.fork(ACTOR), await shop.fork(ACTOR)
        spare = await spare_of(shop)
        process.kill()
        await shop.owner.exit_of(process)
        await asyncio.sleep(SPARE_KEPT_MS / 1000 + 0.5)
        assert alive(spare)  # there may be another to replace
        began = time.monotonic()
        other.kill()
        await shop.owner.exit_of(other)
        await asyncio.to_thread(until, lambda: not alive(spare), 5)
        assert time.monotonic() - began >= SPARE_KEPT_MS / 1000
        process = await shop.fork(ACTOR)
        assert (await shop.run(process, lambda: 1, [{}])).values == {0: 1}
        assert (await spare_of(shop)) != spare


async def test_a_spare_ends_with_a_zygote_that_was_killed() -> None:
    async with workshop() as shop:
        await shop.fork(ACTOR)
        spare = await spare_of(shop)
        os.kill(zygote_of(shop), signal.SIGKILL)
        await asyncio.to_thread(until, lambda: not alive(spare), 1)


async def test_a_worker_holds_no_socket_of_another() -> None:
    async with workshop() as shop:
        processes = [await shop.fork() for _ in range(3)]
        sockets: list[set[Any]] = []
        for process in processes:
            folder = Path(f"/proc/{process.pid}/fd")
            links = {os.readlink(folder / name) for name in os.listdir(folder)}
            sockets.append({link for link in links if link.startswith("socket:")})
        assert [len(held) for held in sockets] == [2, 2, 2]
        assert len(set.union(*sockets)) == 6
