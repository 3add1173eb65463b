"""What the end-to-end tests have called: small functions, each with one habit."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

MEET_MAX_S = 20.0


def add(a: int, b: int) -> int:
    """The plainest call."""
    return a + b


def same(value: Any) -> Any:
    """Give back what was given."""
    return value


def fail(n: int) -> None:
    """Always raises, and says which one it was."""
    raise ValueError(f"bad {n}")


def fail_if(n: int, bad: int) -> int:
    """Raises for one number only."""
    if n == bad:
        raise ValueError(f"bad {n}")
    return n


def nap(seconds: float) -> float:
    """Sleep, and say how long."""
    time.sleep(seconds)
    return seconds


def meet(folder: Path, n: int, many: int) -> int:
    """Give ``n`` back when all of so many run at once; none ends before."""
    (folder / f"met{n}").touch()
    until = time.monotonic() + MEET_MAX_S
    while len(list(folder.glob("met*"))) < many:
        assert time.monotonic() < until, f"{n} was left alone"
        time.sleep(0.005)
    return n


def say(text: str) -> None:
    """Print a line."""
    print(text)


def pid(_n: int = 0) -> int:
    """The worker process that ran it."""
    return os.getpid()


def stamp(folder: str, name: str) -> str:
    """Leave a file that proves the execution, one byte longer each time."""
    with open(os.path.join(folder, name), "a") as file:
        file.write("x")
    return name


def stamped(folder: str, name: str) -> int:
    """How often `stamp` has run with this name (looked up by the test, not by a call)."""
    try:
        return os.path.getsize(os.path.join(folder, name))
    except FileNotFoundError:
        return 0


def die_until(folder: str, times: int) -> int:
    """Kill the own worker so many times, then return how often that was."""
    died = stamped(folder, "died")
    if died < times:
        stamp(folder, "died")
        os.kill(os.getpid(), 9)
    return died
