"""Big arrays: as arguments, as results, and one for many calls; against a pool of two, and memcpy.
Then over a websocket, as between two machines.

Whatever takes an array looks at a number on each of its pages, and what it returns is checked.
"""

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from multiprocessing import get_context
from multiprocessing.pool import Pool
from statistics import median
from typing import Any

import numpy as np

from benchmarks import procs
from benchmarks.bare import DOWN, MESSAGE, UP, Bare, bare
from benchmarks.figure import Figure, at_least, at_most
from benchmarks.harness import WrongResultError, commander_and_node, take_turns, timed, warm
from benchmarks.node import ROOT, lieutenant
from benchmarks.peers import WORKERS, pool
from goliath import Commander
from goliath.actors import neighbours

NAME = "arrays"
POOL, MEMCPY, PAYLOAD = "x Pool(2)", "x memcpy", "x payload"
MIB = 2**20
ARRAY = 16 * MIB
BIG = 256 * MIB
PAGE = 512  # numbers of eight bytes
WARM_ROUNDS = 5
SAMPLE_S = 0.02
KEPT = 64  # results; of fewer, what two workers have in hand would be a good part
FIXTURES = ROOT / "tests" / "fixtures"
CERTIFICATE = (f"{FIXTURES}/certificate.pem", f"{FIXTURES}/key.pem")

_inherited: np.ndarray[Any, Any] | None = None  # what a forked pool reads


def measure(quick: bool) -> Iterator[Figure]:
    """On the embedded Lieutenant, and through a real node on this machine."""
    calls, runs = (16, 3) if quick else (64, 3)
    with pool() as peer:
        with Commander(workers=WORKERS) as commander:
            warm(commander, WORKERS)
            yield _in(commander, peer, "embedded", calls, runs)
            yield _out(commander, peer, "embedded", calls, runs)
            yield _single(commander, "embedded", 10 * runs)
        with commander_and_node() as (commander, _):
            yield _in(commander, peer, "real node", calls, runs)
            yield _out(commander, peer, "real node", calls, runs)
            yield _single(commander, "real node", 10 * runs)
    with commander_and_node() as (commander, node):  # another one: nothing of it is warm
        yield from _memory(commander, node.pids, KEPT)
    yield _broadcast(calls, runs)
    with _elsewhere():
        for name, files in (("a websocket", None), ("TLS", CERTIFICATE)):
            flags = () if files is None else ("--tls-cert", files[0], "--tls-key", files[1])
            with (
                lieutenant(WORKERS, flags=flags) as node,
                Commander([node.address]) as commander,
                bare(files) as peer,
            ):
                warm(commander, WORKERS)
                yield from _carried(commander, node.pid, peer, name, 2 * runs + 1)
    yield from _equal(calls, runs)


def head(array: Any) -> float:
    """A number of each page of an argument, added up."""
    return float(array[::PAGE].sum())


def filled(number: int) -> Any:
    """An array of one number."""
    return np.full(ARRAY // 8, float(number))


def head_of_inherited(_: int) -> float:
    """`head` of what this process was forked with."""
    assert _inherited is not None
    return total(_inherited)


def total(array: Any) -> float:
    """All of an argument, added up."""
    return float(array.sum())


def same(size: int, _made: dict[int, Any] = {}) -> Any:  # noqa: B006 - the worker's own
    """An array of so many bytes, made once."""
    if size not in _made:
        _made[size] = np.ones(size // 8)
    return _made[size]


def _in(commander: Commander, peer: Pool, where: str, calls: int, runs: int) -> Figure:
    arrays = [filled(index) for index in range(calls)]
    rows = [{"array": array} for array in arrays]
    want = [float(index * ARRAY // 8 // PAGE) for index in range(calls)]

    def ours() -> float:
        return timed(lambda: commander.run(head, rows), want, "arrays in")

    def theirs() -> float:
        return timed(lambda: peer.map(head, arrays, chunksize=1), want, "arrays in, Pool")

    return _compared(ours, theirs, f"{calls} x 16 MiB in, {where}", calls, runs)


def _out(commander: Commander, peer: Pool, where: str, calls: int, runs: int) -> Figure:
    rows = [{"number": index} for index in range(calls)]

    def ours() -> float:
        return _seconds_out(lambda: commander.run(filled, rows))

    def theirs() -> float:
        return _seconds_out(lambda: peer.map(filled, range(calls), chunksize=1))

    return _compared(ours, theirs, f"{calls} x 16 MiB out, {where}", calls, runs)


def _compared(
    ours: Callable[[], float], theirs: Callable[[], float], name: str, calls: int, runs: int
) -> Figure:
    """Warm rounds of both; the first one of ours stands beside them."""
    cold = ours()
    pairs = take_turns(ours, theirs, runs)
    size = calls * ARRAY / 1e9
    note = f"{size / median(pairs.ours):.2f} GB/s, cold {size / cold:.2f}"
    return pairs.speedup().figure(NAME, name, POOL, at_least(5), note)


def _seconds_out(call: Callable[[], list[Any]]) -> float:
    start = time.perf_counter()
    got = call()
    elapsed = time.perf_counter() - start
    for number, array in enumerate(got):
        if array.nbytes != ARRAY or not (array[::PAGE] == number).all():
            raise WrongResultError(f"call {number} gave {array!r:.200}")
    return elapsed


def _single(commander: Commander, where: str, runs: int) -> Figure:
    """One argument there and an answer back, against a copy of it in memory that is warm."""
    array, target = filled(1), filled(2)
    want = float(ARRAY // 8 // PAGE)

    def ours() -> float:
        start = time.perf_counter()
        got = commander.submit(head, array).result()
        elapsed = time.perf_counter() - start
        if got != want:
            raise WrongResultError(f"one argument gave {got!r}")
        return elapsed

    def theirs() -> float:
        start = time.perf_counter()
        np.copyto(target, array)
        return time.perf_counter() - start

    for _ in range(WARM_ROUNDS):  # for it may lie in one of several places
        ours()
    pairs = take_turns(ours, theirs, runs)
    note = f"{1e3 * median(pairs.ours):.2f} ms against {1e3 * median(pairs.theirs):.2f}"
    return pairs.speedup().figure(
        NAME, f"one 16 MiB argument, {where}", MEMCPY, at_least(0.6), note
    )


@contextmanager
def _elsewhere() -> Iterator[None]:
    """This process is on no machine that a node could find itself on."""
    here, neighbours.boot_id = neighbours.boot_id, lambda: ""
    try:
        yield
    finally:
        neighbours.boot_id = here


def _carried(commander: Commander, node: int, peer: Bare, over: str, runs: int) -> Iterator[Figure]:
    """256 MiB there, and back, against as many by a websocket that does nothing else; what is
    warm, but for the first round."""
    array = np.ones(BIG // 8)
    size = float(BIG // 8)
    numbers = count()

    def there() -> float:
        array[0] = next(numbers)  # or else it would be sent once only
        array[1] = 2 - array[0]
        return float(commander.submit(total, array).result())

    def back() -> float:
        return float(commander.submit(same, BIG).result()[::PAGE].sum()) * PAGE

    for way, once in (("in", there), ("out", back)):

        def theirs(way: str = UP if way == "in" else DOWN) -> float:
            return peer.seconds(way, BIG // len(MESSAGE))

        spent: list[list[float]] = []  # CPU seconds of both, round by round

        def counted(once: Callable[[], float] = once, spent: list[Any] = spent) -> list[float]:
            before = [procs.cpu_s(pid) for pid in (os.getpid(), node)]
            got = once()
            after = [procs.cpu_s(pid) for pid in (os.getpid(), node)]
            spent.append([b - a for a, b in zip(before, after, strict=True)])
            return [got]

        def ours(counted: Callable[[], list[float]] = counted) -> float:
            return timed(counted, [size], f"over {over}")

        cold = ours()
        pairs = take_turns(ours, theirs, runs)
        own, nodes = (1e9 * median(each) / BIG for each in zip(*spent[1:], strict=True))
        took = [BIG / seconds / 1e9 for seconds in (median(pairs.ours), median(pairs.theirs), cold)]
        note = (
            "{:.2f} GB/s against {:.2f}, cold {:.2f}; ".format(*took)
            + f"CPU a byte: Commander {own:.2f} ns, node {nodes:.2f}"
        )
        name = f"256 MiB {way} over {over}"
        yield pairs.speedup().figure(NAME, name, "x bare aiohttp", at_least(0.5), note)


def _broadcast(calls: int, runs: int) -> Figure:
    """One array that all calls read, against processes that have inherited it."""
    global _inherited
    _inherited = np.ones(BIG // 8)
    want = [float(BIG // 8)] * calls
    try:
        with get_context("fork").Pool(WORKERS) as peer, Commander(workers=WORKERS) as commander:
            warm(commander, WORKERS)
            ref = commander.put(_inherited)

            def ours() -> list[Any]:
                return [
                    ref.result() for ref in [commander.submit(total, ref) for _ in range(calls)]
                ]

            def theirs() -> list[Any]:
                return peer.map(head_of_inherited, range(calls), chunksize=1)

            timed(ours, want, "broadcast")
            timed(theirs, want, "broadcast, Pool")
            pairs = take_turns(
                lambda: timed(ours, want, "broadcast"),
                lambda: timed(theirs, want, "broadcast, Pool"),
                runs,
            )
            peer.terminate()
            peer.join()
    finally:
        _inherited = None
    note = f"{calls * BIG / median(pairs.ours) / 1e9:.1f} GB/s"
    return pairs.speedup().figure(
        NAME, f"256 MiB read by {calls} calls", "x forked pool", at_least(0.9), note
    )


def _equal(calls: int, runs: int) -> Iterator[Figure]:
    """Calls that take one array, against calls that take one each, of the same size; over a
    websocket, with nothing shared anywhere. What was equal to an array of the round before is
    not any more."""
    nothing = {"GOLIATH_ARENA_BYTES": "0"}
    with lieutenant(WORKERS, nothing) as node, Commander([node.address]) as commander:
        warm(commander, WORKERS)
        array, arrays = filled(0), [filled(index) for index in range(calls)]
        wire: list[float] = []

        def ours() -> float:
            np.add(array, 1, out=array)
            before = procs.passed_bytes(node.port)
            want = [float(array[0]) * (ARRAY // 8 // PAGE)] * calls
            elapsed = timed(lambda: commander.run(head, [(array,)] * calls), want, "equal")
            wire.append((procs.passed_bytes(node.port) - before) / ARRAY)
            return elapsed

        def theirs() -> float:
            for each in arrays:
                np.add(each, calls, out=each)
            want = [float(each[0]) * (ARRAY // 8 // PAGE) for each in arrays]
            rows = [(each,) for each in arrays]
            return timed(lambda: commander.run(head, rows), want, "different")

        ours()
        theirs()
        wire.clear()
        pairs = take_turns(ours, theirs, runs)
    name = f"{calls} calls with one 16 MiB array, websocket"
    note = f"{calls * ARRAY / median(pairs.ours) / 1e9:.2f} GB/s"
    yield pairs.speedup().figure(NAME, name, "x different ones", at_least(2), note)
    yield Figure(
        benchmark=NAME,
        name=f"bytes on the wire of {calls} calls with one array",
        value=max(wire),
        unit="x the array",
        target=at_most(1.1),
    )


def _memory(commander: Commander, pids: Callable[[], list[int]], calls: int) -> Iterator[Figure]:
    """What both ends grow by, at most, while results of so many bytes come and are kept."""
    payload = calls * ARRAY / procs.MIB
    with _grown(pids) as node, _grown(lambda: [os.getpid()]) as own:
        _seconds_out(lambda: commander.run(filled, [{"number": n} for n in range(calls)]))
    for where, grown in (("node", node), ("Commander", own)):
        yield Figure(
            benchmark=NAME,
            name=f"memory for {calls} x 16 MiB out, {where}",
            value=max(grown) / payload,
            unit=PAYLOAD,
            target=at_most(1.2),
        )


@contextmanager
def _grown(pids: Callable[[], list[int]]) -> Iterator[list[float]]:
    """MiB that processes have more than at the start, shared or not; looked at now and then."""
    grown: list[float] = []
    ended = threading.Event()

    def look() -> float:
        return sum(procs.rss_mib(pid) for pid in pids())

    before = look()

    def watch() -> None:
        while not ended.wait(SAMPLE_S):
            grown.append(look() - before)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield grown
    finally:
        ended.set()
        thread.join()
        grown.append(look() - before)
