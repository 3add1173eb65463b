"""A little of everything that Goliath does, so that no kind of message is left unsaid.

`everything` needs two nodes of one slot each, with `ENVIRONMENT` in theirs; it drains the last.
"""

from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import goliath
from goliath import Commander
from goliath.examination import examine
from goliath.testing import Node
from goliath.testing.processes import until
from goliath.transport.address import Address
from goliath.transport.credentials import Credentials
from goliath.transport.keepsakes import WORTH_KEEPING_BYTES, recollection
from tests.joining import JoinedNode

WAITING_MAX = 4
BIG_BYTES = 110_000  # stays on its node, and travels in one piece
HUGE_BYTES = 300_000
LONG_WAIT_S = 1.6
PAUSED_BYTES = 512 << 20  # of memory: more than all the other calls have together
ENVIRONMENT = {
    "GOLIATH_WAITING_MAX": str(WAITING_MAX),
    "GOLIATH_NODE_MEMORY_BYTES": str(4 * PAUSED_BYTES),
    "GOLIATH_MEMORY_PAUSE_SHARE": "0.25",
}


def everything(nodes: Sequence[Node], folder: Path) -> None:
    """All of it, with what it gives looked at here and there."""
    addresses = [node.address for node in nodes]
    commander = goliath.init(addresses, output="off")
    assert commander is not None
    try:
        _short_of_memory(commander, folder)
        _batches(commander, folder)
        _single_calls(commander)
        _equal_arguments()
        _nested()
        _actors()
        _detached(addresses)
        _examined(addresses[0])
        _joined(commander, addresses[0])
        nodes[-1].terminate()
        until(lambda: sum(info.alive for info in commander.nodes()) < len(nodes), 10)
    finally:
        goliath.shutdown()


def _examined(address: tuple[str, int]) -> None:
    assert examine(Address.parse(address), Credentials(), tls="auto", timeout_s=5.0).usable


def _joined(commander: Commander, address: tuple[str, int]) -> None:
    with JoinedNode(f"ws://{address[0]}:{address[1]}", 1):
        until(lambda: any("/" in info.address for info in commander.nodes()), 10)


def hold(size: int, release: Path) -> int:
    block = b"x" * size
    until(release.exists, 20)
    return len(block)


def _short_of_memory(commander: Commander, folder: Path) -> None:
    ref = commander.submit(hold, PAUSED_BYTES, folder / "release")
    until(lambda: "strained" in [node.memory for node in commander.nodes()], 10)
    (folder / "release").touch()
    assert ref.result() == PAUSED_BYTES
    until(lambda: {"easy"} == {node.memory for node in commander.nodes()}, 10)


# -- batches -------------------------------------------------------------------------------


def double(n: int) -> int:
    return 2 * n


def nap(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


def fail(n: int) -> int:
    if n % 2:
        raise ValueError(f"bad {n}")
    print(f"called with {n}")
    return n


def chatter(lines: int) -> None:
    """More than its Commander has anything to say to."""
    for n in range(lines):
        print(n, flush=True)
        time.sleep(0.002)


def die() -> None:
    os._exit(3)


async def dawdle(n: int) -> int:
    await asyncio.sleep(0.05 if n else 20)
    return n


def helped(n: int) -> int:
    from helper import half  # type: ignore[import-not-found]  # it is shipped

    return int(half(n))


def refuse() -> None:
    raise RuntimeError("this environment cannot be")


def _batches(commander: Commander, folder: Path) -> None:
    rows = [(n,) for n in range(500)]
    assert commander.run(double, rows) == [2 * n for n in range(500)]
    assert commander.run(double, [([1],)] * 3) == [[1, 1]] * 3
    outcomes = commander.run(fail, rows[:6], return_exceptions=True)
    assert [type(o) for o in outcomes] == [int, ValueError] * 3
    assert commander.run(chatter, [(100,)]) == [None]
    helper = folder / "helper.py"
    helper.write_text("def half(n):\n    return n // 2\n")
    assert commander.run(helped, [(4,)], [str(helper)], retry_exceptions=True) == [2]
    broken = commander.run(double, [(1,)], initializer=refuse, return_exceptions=True)
    assert isinstance(broken[0], goliath.RuntimeEnvSetupError)
    assert [type(o) for o in commander.run(die, [()], max_retries=0, return_exceptions=True)] == [
        goliath.WorkerCrashedError
    ]
    late = commander.run(nap, [(9,)], timeout=0.2, return_exceptions=True)
    assert isinstance(late[0], goliath.TaskTimeoutError)
    # More of them than a node is told of at a time, and a slow one on one of the nodes.
    assert sum(commander.run(nap, [(1.0,), *[(0.01,)] * 200], batch_size=20)) > 2
    assert commander.run(dawdle, [(n,) for n in range(1, 20)]) == list(range(1, 20))
    for n in range(70):  # each is another function for the nodes, which are told to forget some
        assert commander.run(scaled, [(2,)], static={"by": n}) == [2 * n]
    commander.nodes()


def scaled(n: int, by: int) -> int:
    return n * by


# -- single calls --------------------------------------------------------------------------


@goliath.remote
def add(a: int, b: int = 1) -> int:
    return a + b


@goliath.remote
def fill(n: int) -> bytes:
    return bytes([n]) * BIG_BYTES


@goliath.remote
def weigh(data: bytes) -> int:
    return len(data)


@goliath.remote
def copied(data: memoryview) -> memoryview:
    return memoryview(bytes(data))


@goliath.remote
def sleep(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


@goliath.remote(num_returns="streaming")
def count(n: int):
    yield from range(n)


@goliath.remote
def length(view: memoryview) -> int:
    return view.nbytes


def _equal_arguments() -> None:
    """Of calls whose nodes have to be sent them, as on another machine. One of them is written
    and so is forgotten: nobody remembers so much."""
    recollection.link_made(WORTH_KEEPING_BYTES)
    try:
        for number in range(3):
            view = memoryview(bytes([number]) * WORTH_KEEPING_BYTES)
            refs = [length.remote(view) for _ in range(4)]
            assert [goliath.get(ref) for ref in refs] == [WORTH_KEEPING_BYTES] * 4
    finally:
        recollection.link_ended()


def _single_calls(commander: Commander) -> None:
    assert goliath.get(add.remote(add.remote(1))) == 3
    big = fill.remote(7)
    assert goliath.get(weigh.remote(big)) == BIG_BYTES
    assert len(goliath.get(big)) == BIG_BYTES
    del big
    gc.collect()
    assert goliath.get(weigh.remote(goliath.put(bytes(HUGE_BYTES)))) == HUGE_BYTES
    view = goliath.get(copied.remote(memoryview(bytes(HUGE_BYTES))))
    assert view.nbytes == HUGE_BYTES
    del view  # so that both ends have something to let go of
    assert [goliath.get(ref) for ref in count.remote(5)] == list(range(5))
    slow, slower = sleep.remote(20), commander.submit(dawdle, 0)
    until(lambda: sum(info.busy for info in commander.nodes()) >= 1, 10)
    goliath.cancel(slow)
    goliath.cancel(slower)
    for ref in (slow, slower):
        with suppress(goliath.TaskCancelledError):
            goliath.get(ref)


# -- calls of calls ------------------------------------------------------------------------


@goliath.remote
def tree(depth: int) -> int:
    if not depth:
        return 1
    kept = goliath.put(bytes(BIG_BYTES))
    refs = [tree.remote(depth - 1) for _ in range(2)]
    items = [goliath.get(ref) for ref in count.remote(3)]
    assert items == [0, 1, 2], items
    assert goliath.get(weigh.remote(fill.remote(1))) == len(goliath.get(kept))
    ready, _ = goliath.wait([*refs], num_returns=1)
    unwanted = sleep.remote(20)
    goliath.cancel(unwanted)
    goliath.nodes()
    return sum(goliath.get(refs)) + len(ready) - 1


@goliath.remote
def wait_long(seconds: float) -> float:
    return goliath.get(sleep.remote(seconds))


@goliath.remote
def returns_a_ref(n: int):
    return [add.remote(n)]


@goliath.remote
def takes_a_ref(refs: list) -> int:
    return goliath.get(refs[0])


@goliath.remote
def dies_with_a_call() -> None:
    sleep.remote(20)
    goliath.nodes()
    os._exit(3)


def _nested() -> None:
    assert goliath.get(tree.remote(2)) == 4
    assert goliath.get(goliath.get(returns_a_ref.remote(4))[0]) == 5
    assert goliath.get(takes_a_ref.remote([add.remote(1)])) == 2
    assert goliath.get(wait_long.remote(LONG_WAIT_S)) == LONG_WAIT_S
    slow = sleep.remote(1.0)
    outcomes: list[object] = []
    for ref in [takes_a_ref.remote([slow]) for _ in range(4 * WAITING_MAX)]:
        try:
            outcomes.append(goliath.get(ref))
        except RecursionError as exc:
            outcomes.append(type(exc))
    assert set(outcomes) == {1.0, RecursionError}
    with suppress(goliath.WorkerCrashedError):
        goliath.get(dies_with_a_call.options(max_retries=0).remote())


# -- actors --------------------------------------------------------------------------------


@goliath.remote
class Counter:
    """Counts, and does what it is told to others."""

    def __init__(self, start: int = 0) -> None:
        self.n = start
        self.told: list[object] = []

    def add(self, k: int = 1) -> int:
        self.n += k
        return self.n

    def items(self, n: int):
        yield from range(n)

    def make(self):
        return Counter.remote(10)

    def meet(self, name: str) -> int:
        other = goliath.get_actor(name)
        goliath.monitor(other, self.told.append)
        goliath.link(other, third := Counter.remote())
        goliath.unlink(other, third)
        made = Counter.remote()
        goliath.get(made.add.remote())
        goliath.kill(made)
        return goliath.get(other.add.remote())

    def ask_slowly(self, seconds: float) -> float:
        return goliath.get(sleep.remote(seconds))

    def leave(self) -> None:
        goliath.exit_actor()


def _actors() -> None:
    counter = Counter.options(name="counter").remote(1)
    friend = Counter.remote()
    assert goliath.get(counter.add.remote(2)) == 3
    assert goliath.get(friend.meet.remote("counter")) == 4
    made = goliath.get(counter.make.remote())
    assert goliath.get(made.add.remote()) == 11
    streaming = counter.items.options(num_returns="streaming").remote(3)
    assert [goliath.get(ref) for ref in streaming] == [0, 1, 2]
    with suppress(goliath.GoliathError):
        goliath.get(friend.leave.remote())
    goliath.kill(counter)
    with suppress(goliath.ActorDiedError):
        goliath.get(counter.add.remote())


def _detached(addresses: Sequence[tuple[str, int]]) -> None:
    stays = Counter.options(name="stays", lifetime="detached").remote()
    assert goliath.get(stays.add.remote()) == 1
    with Commander([*addresses]) as another:
        assert [actor.name for actor in another.detached_actors()] == ["stays"]
    # Another one, who leaves while his call is run: it hears no more of him.
    where = [str(part) for address in addresses for part in address]
    subprocess.run([sys.executable, "-c", VISIT, *where], check=True, timeout=30)
    assert goliath.get(stays.add.remote()) == 2
    goliath.kill(stays)
    with Commander([*addresses]) as another:
        until(lambda: not another.detached_actors(), 10)


VISIT = """
import sys, goliath
goliath.init([(sys.argv[1 + 2 * n], int(sys.argv[2 + 2 * n])) for n in range(len(sys.argv) // 2)])
ref = goliath.get_actor("stays").ask_slowly.remote(0.5)
goliath.wait([ref], timeout=0.3)
"""
