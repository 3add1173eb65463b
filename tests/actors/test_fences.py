"""What the workers of a session may have together, and who enforces it."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from goliath.actors.fences import EMPTY_MAX, Allowance, Fences, default_allowance
from goliath.actors.spec import WorkerSpec
from goliath.control_groups import Estate, NoGroupsError, members, remove
from goliath.limits import Enforcer
from goliath.machine import total_memory
from goliath.testing.processes import alive, look, until
from tests.actors.workshop import spare_of, workshop

pytestmark = pytest.mark.slow

MIB = 1 << 20


@contextmanager
def fenced(allowance: Allowance) -> Iterator[Fences]:
    fences = Fences(allowance, Estate)
    try:
        yield fences
    finally:
        fences.close()


def no_groups() -> Estate:
    raise NoGroupsError("nothing can be written here")


def own_groups() -> list[str]:
    """The last parts of the groups of sessions that this process is in."""
    lines = Path("/proc/self/cgroup").read_text().splitlines()
    return sorted({line.rpartition("/")[2] for line in lines if "/session-" in line})


def fork_until_it_fails(most: int) -> int:
    """How many children there could be; none is left."""
    ends: list[int] = []
    try:
        for _ in range(most):
            reading, writing = os.pipe()
            if os.fork() == 0:
                os.close(writing)
                os.read(reading, 1)
                os._exit(0)
            os.close(reading)
            ends.append(writing)
    except BlockingIOError:
        pass
    for end in ends:
        os.close(end)
    for _ in ends:
        os.wait()
    return len(ends)


def leave_a_stray() -> int:
    """A grandchild in a session of its own, which has forgotten whose it is."""
    reading, writing = os.pipe()
    if os.fork() == 0:
        os.setsid()
        pid = os.fork()
        if pid == 0:
            os.execve("/bin/sleep", ["sleep", "60"], {})
        os.write(writing, str(pid).encode())
        os._exit(0)
    os.wait()
    return int(os.read(reading, 20))


async def ask(shop: Any, process: Any, function: Any, *args: Any) -> Any:
    outcomes = await shop.run(process, function, [args])
    return outcomes.values[0]


async def test_the_workers_of_a_session_are_in_one_group_and_others_in_another():
    with fenced(Allowance()) as fences:
        async with workshop(fences) as shop:
            workers = [await shop.fork(session=session) for session in ("a", "b", "a")]
            groups = [await ask(shop, worker, own_groups) for worker in workers]
            assert groups == [["session-1"], ["session-2"], ["session-1"]]


async def test_what_one_session_has_too_many_of_the_other_still_has_room_for():
    with fenced(Allowance(session_processes=20)) as fences:
        async with workshop(fences) as shop:
            bomber, other = await shop.fork(session="a"), await shop.fork(session="b")
            assert 5 <= await ask(shop, bomber, fork_until_it_fails, 100) < 20
            assert 5 <= await ask(shop, other, fork_until_it_fails, 100) < 20


async def test_a_session_without_room_for_another_worker_is_told_so():
    with fenced(Allowance(session_processes=3)) as fences:
        async with workshop(fences) as shop:
            await shop.fork()  # two threads, and the zygote
            unborn = await shop.fork(ready=False)
            report = await shop.owner.exit_of(unborn)
            assert report.pid is None
            assert "cannot fork: " in report.stderr_tail
            await shop.fork(session="b")


async def test_whoever_hides_in_the_group_is_gone_with_the_last_worker():
    with fenced(Allowance()) as fences:
        async with workshop(fences) as shop:
            worker, other = await shop.fork(session="a"), await shop.fork(session="b")
            stray = look(await ask(shop, worker, leave_a_stray))
            assert stray is not None
            paths = fences.enter("a").paths
            fences.leave("a")
            assert stray.pid in members(paths)
            worker.kill()
            await shop.owner.exit_of(worker)
            until(lambda: not alive(stray), 3, "the stray gone")
            # The next worker of the session needs no group of its own.
            again = await shop.fork(session="a")
            assert await ask(shop, again, own_groups) == ["session-1"]
            assert await ask(shop, other, own_groups) == ["session-2"]


async def test_a_spare_is_a_worker_of_the_session_that_it_was_forked_for():
    with fenced(Allowance()) as fences:
        async with workshop(fences) as shop:
            first = await shop.fork(WorkerSpec(actor=True), session="a")
            spare = await spare_of(shop)
            other = await shop.fork(WorkerSpec(actor=True), session="b")
            assert other.pid != spare.pid
            assert await ask(shop, other, own_groups) == ["session-2"]
            spare = await spare_of(shop)
            other.kill()
            await shop.owner.exit_of(other)
            # What the last worker has left behind is gone, and the spare is not among it.
            again = await shop.fork(WorkerSpec(actor=True), session="b")
            assert again.pid == spare.pid
            assert await ask(shop, again, own_groups) == ["session-2"]
            assert await ask(shop, first, own_groups) == ["session-1"]


async def test_a_group_that_somebody_has_removed_is_made_anew():
    with fenced(Allowance()) as fences:
        async with workshop(fences) as shop:
            worker = await shop.fork(session="a")
            await shop.fork(session="b")  # so that the zygote is elsewhere
            paths = fences.enter("a").paths
            fences.leave("a")
            worker.kill()
            await shop.owner.exit_of(worker)
            until(lambda: remove(paths), 3, "the group gone")
            again = await shop.fork(session="a")
            assert await ask(shop, again, own_groups) == ["session-3"]


async def test_of_groups_that_stand_empty_the_oldest_goes():
    with fenced(Allowance()) as fences:
        async with workshop(fences) as shop:
            paths = []
            for number in range(EMPTY_MAX + 2):
                worker = await shop.fork(session=str(number))
                paths.append(Path(fences.enter(str(number)).paths[0]))
                fences.leave(str(number))
                worker.kill()
                await shop.owner.exit_of(worker)
            until(lambda: not any(path.exists() for path in paths[:2]), 3, "the oldest gone")
            assert all(path.exists() for path in paths[2:])


async def test_a_new_zygote_forks_into_the_groups_that_there_are():
    with fenced(Allowance()) as fences:
        async with workshop(fences) as shop:
            await shop.fork(session="a")
            assert shop.nursery.zygote_pid is not None
            os.kill(shop.nursery.zygote_pid, 9)
            await shop.owner.until(lambda: shop.zygote_exits)
            await shop.nursery.start()
            worker = await shop.fork(session="a")
            assert await ask(shop, worker, own_groups) == ["session-1"]


# -- without control groups ----------------------------------------------------------------


def limits_of_process() -> list[int]:
    return [resource.getrlimit(kind)[0] for kind in (resource.RLIMIT_DATA, resource.RLIMIT_NPROC)]


def ask_for_too_much() -> int:
    try:
        return len(bytearray(1 << 30))
    except MemoryError:
        return -1


async def test_without_control_groups_each_worker_is_limited_alone():
    fences = Fences(Allowance(session_bytes=512 * MIB, session_processes=100), no_groups)
    async with workshop(fences) as shop:
        worker = await shop.fork()
        data, processes = await ask(shop, worker, limits_of_process)
        assert data == 512 * MIB
        assert processes > 100  # beside all that this user has
        assert await ask(shop, worker, ask_for_too_much) == -1


def test_without_control_groups_what_the_node_can_spare_is_no_limit_of_each_process():
    """A program may reserve more memory than there is, and not use it."""
    fences = Fences(Allowance(node_bytes=512 * MIB), no_groups)
    assert fences.rlimits == {}


async def test_of_an_embedded_node_nothing_is_limited():
    async with workshop() as shop:
        worker = await shop.fork()
        assert await ask(shop, worker, limits_of_process) == limits_of_process()
        assert await ask(shop, worker, own_groups) == []


def test_what_is_in_force_is_said_with_the_reason_for_what_is_not():
    allowance = Allowance(900, 500, 30)
    with fenced(allowance) as fences:
        told = [(limit.name, limit.amount, limit.in_force) for limit in fences.limits()]
        assert told[3:] == [
            ("memory of all workers", 900, True),
            ("memory per session", 500, True),
            ("processes per session", 30, True),
        ]
    together, memory, processes = Fences(allowance, no_groups).limits()[3:]
    assert together.enforced_by == Enforcer.NOBODY
    assert together.why == "nothing can be written here; and rlimits are of single processes"
    assert memory.enforced_by == Enforcer.RLIMIT
    assert memory.why == "nothing can be written here; so it is of each process alone"
    assert processes.in_force is (os.geteuid() != 0)
    assert "rlimits do not bind root" in processes.why or processes.in_force
    assert not any(limit.in_force for limit in Fences().limits())


def test_a_limit_of_files_is_kept_by_three_who_each_say_how():
    shipped, together, each = Fences(Allowance(session_file_bytes=7)).limits()[:3]
    assert {limit.amount for limit in (shipped, together, each)} == {7}
    assert (shipped.enforced_by, together.enforced_by) == (Enforcer.GOLIATH, Enforcer.GOLIATH)
    assert each.enforced_by == Enforcer.RLIMIT
    assert "every few seconds" in together.why
    assert "no quota for a session" in each.why


def test_a_node_keeps_some_memory_for_itself_and_bounds_processes_by_what_the_kernel_has():
    few, many = default_allowance(1), default_allowance(100)
    assert few.node_bytes is not None
    assert 0.7 * total_memory() < few.node_bytes < total_memory()
    assert few.session_processes is not None
    assert many.session_processes is not None
    assert 0 < few.session_processes <= many.session_processes
    assert few.session_bytes is None
    assert default_allowance(1, 1000).node_bytes == 1000
    assert default_allowance(1, 2 * total_memory()).node_bytes == few.node_bytes
