"""The functions that run on the workers of Goliath and of its peers; standard library only.

``Pool.map`` hands its function one object, so each function of keywords has a twin with
``_of`` that takes the dict: the peers get exactly the dicts that Goliath gets.
"""

import os
import time
from typing import Any, NamedTuple

SLOWDOWN = "BENCH_SLOWDOWN"  # in the environment of a node: how many times slower it is


class Stamp(NamedTuple):
    """What a timed call tells: what it was asked, where and when it ran.

    The calls return bare tuples: a class of ours would travel by value with every result.
    """

    seconds: float
    pid: int
    start: float  # CLOCK_MONOTONIC, the same clock in every process of a machine
    end: float


def foo(bar: Any, baz: Any) -> str:
    return str(bar) + str(baz)


def foo_of(kwargs: dict[str, Any]) -> str:
    return foo(**kwargs)


def noop(x: int) -> int:
    return x


def noop_of(kwargs: dict[str, int]) -> int:
    return noop(**kwargs)


def row(number: int) -> dict[str, Any]:
    """Data as most people have it: names that repeat, text that nearly does."""
    return {
        "id": number,
        "name": f"customer {number * 7919 % 100_003}",
        "city": ("Berlin", "Paris", "Madrid", "Vienna")[number % 4],
        "total": number * 1.25,
        "note": f"order {number} was shipped on day {number % 365} of the year",
    }


def size(data: bytes) -> int:
    return len(data)


def log(lines: int) -> str:
    """Text as most people have it."""
    return "\n".join([f"2031-07-{n % 28 + 1:02} INFO order {n} was shipped" for n in range(lines)])


def count(rows: list[dict[str, Any]]) -> int:
    return len(rows)


def pair(bar: Any, baz: Any) -> tuple[Any, Any]:
    return bar, baz


def pair_of(kwargs: dict[str, Any]) -> tuple[Any, Any]:
    return pair(**kwargs)


Bare = tuple[float, int, float, float]


def _slowed(seconds: float) -> float:
    # Looked up in each call: a global would be the client's where functions travel by value.
    return seconds * float(os.environ.get(SLOWDOWN, "1"))


def nap(seconds: float) -> Bare:
    """Sleep: takes its time whatever else the machine does."""
    start = time.monotonic()
    time.sleep(_slowed(seconds))
    return seconds, os.getpid(), start, time.monotonic()


def spin(seconds: float) -> Bare:
    """Burn CPU time (not wall time: a worker that has to share its core takes longer)."""
    start = time.monotonic()
    end = time.thread_time() + _slowed(seconds)
    while time.thread_time() < end:
        pass
    return seconds, os.getpid(), start, time.monotonic()


def burn(seconds: float) -> float:
    """``spin`` without the stamp."""
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass
    return seconds


def burn_of(kwargs: dict[str, float]) -> float:
    return burn(**kwargs)


def whoami(index: int) -> int:
    """Long enough that one worker cannot take every call of a warm-up."""
    time.sleep(0.02)
    return os.getpid()


def claim(path: str, seconds: float) -> Bare:
    """Leave a file behind as a sign of having started, then sleep."""
    with open(path, "x"):
        return nap(seconds)


def straggle(index: int, seconds: float, path: str, first_s: float) -> int:
    """Sleep; where there is a path, for longer, unless somebody has been called with it before."""
    if path:
        try:
            with open(path, "x"):
                seconds = first_s
        except FileExistsError:
            pass
    time.sleep(seconds)
    return index


def turned(value: bytes) -> bytes:
    """A new value of the same size."""
    return value[1:] + value[:1]
