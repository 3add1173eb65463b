"""The promises of the contract (G1 to G7), as helpers that every test of a fault ends with.

A test of a fault has three parts: it breaks something, it proves that this really broke
(`Strikes`, `Journal.unfinished`), and it asserts what must hold all the same. What calls have
really done is told by themselves: they write into a `Journal`, a file, whatever becomes of them.
"""

from __future__ import annotations

import os
import pickle
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from goliath.testing.processes import Seen, alive, kill, living, look, until
from tests.lieutenants import Lieutenant

MIB = 1 << 20

# -- what the calls do -------------------------------------------------------------------


def begin(journal: str, call: int) -> str:
    """Write that an execution of a call begins; returns the token of this execution."""
    token = f"{os.getpid()}.{time.monotonic_ns()}"
    _write(journal, f"+ {call} {token}\n")
    return token


def end(journal: str, call: int, token: str) -> tuple[int, str]:
    """Write that it has ended well; returns the value that `values_are_true` wants of a call."""
    _write(journal, f"- {call} {token}\n")
    return call, token


def execute(journal: str, call: int, seconds: float = 0.0) -> tuple[int, str]:
    """A whole call: begin, take some time, end."""
    token = begin(journal, call)
    if seconds:
        time.sleep(seconds)
    return end(journal, call, token)


def _write(journal: str, line: str) -> None:
    # One write to a file that is open for appending: whole lines, whoever else writes.
    fd = os.open(journal, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(fd, line.encode())
    finally:
        os.close(fd)


# -- what has been done ------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a journal; ``began`` is false where the execution ended."""

    began: bool
    call: int
    token: str

    @property
    def pid(self) -> int:
        """The process that wrote it."""
        return int(self.token.partition(".")[0])


class Journal:
    """What the calls of a test have written, in the order in which they did.

    Args:
        folder: of the test; calls are given ``journal.path``.
    """

    def __init__(self, folder: Path, name: str = "journal") -> None:
        self.path = str(folder / name)

    def lines(self) -> list[Line]:
        """All of it, so far."""
        try:
            text = Path(self.path).read_text()
        except FileNotFoundError:
            return []
        rows = (line.split() for line in text.splitlines())
        return [Line(sign == "+", int(call), token) for sign, call, token in rows]

    def executions(self) -> Counter[int]:
        """How often each call has begun."""
        return Counter(line.call for line in self.lines() if line.began)

    def unfinished(self) -> Counter[int]:
        """How often each call has begun and not ended: its process died, or it raised."""
        ended = {line.token for line in self.lines() if not line.began}
        begun = (line for line in self.lines() if line.began)
        return Counter(line.call for line in begun if line.token not in ended)

    def wait_begun(self, calls: int, within: float = 10) -> None:
        """Until so many different calls have begun."""
        until(lambda: len(self.executions()) >= calls, within, f"{calls} calls begun")


# -- that the fault has happened ---------------------------------------------------------


@dataclass(slots=True)
class Strikes:
    """Counts what was broken, and that it broke: a fault that did not happen proves nothing."""

    counted: Counter[str] = field(default_factory=Counter)

    def note(self, fault: str, times: int = 1) -> None:
        """One more of these has happened."""
        self.counted[fault] += times

    def kill(self, victim: Seen | int, sig: signal.Signals = signal.SIGKILL) -> float:
        """Send a deadly signal; returns the seconds until the process was dead."""
        seen = look(victim) if isinstance(victim, int) else victim
        assert seen is not None, f"there is no process {victim} to be killed"
        assert alive(seen), f"{victim} was dead before it was killed"
        kill(seen.pid, sig)
        took = until(lambda: not alive(seen), 30, f"{victim} dead of {sig.name}")
        self.note(sig.name)
        return took

    def stop(self, victim: int) -> None:
        """SIGSTOP a process, and see it stopped."""
        kill(victim, signal.SIGSTOP)
        until(lambda: state_of(victim) == "T", 30, f"{victim} stopped")
        self.note("SIGSTOP")

    def happened(self, fault: str, times: int = 1) -> None:
        """At least so often."""
        assert self.counted[fault] >= times, f"{fault}: {self.counted[fault]} times, not {times}"


def state_of(pid: int) -> str:
    """The state letter of a process: R, S, T, Z, ...; nothing if there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""


# -- the promises ------------------------------------------------------------------------


def every_call_has_one_outcome(outcomes: Sequence[Any], calls: int) -> None:
    """G1: as many outcomes as calls, each a value of its own call or an exception."""
    assert len(outcomes) == calls, f"{len(outcomes)} outcomes of {calls} calls"
    for call, outcome in enumerate(outcomes):
        if not isinstance(outcome, BaseException):
            assert outcome is not None, f"call {call} has no outcome"
            assert outcome[0] == call, f"call {call} was given the outcome of {outcome[0]}"


def values_are_true(outcomes: Iterable[Any], journal: Journal) -> None:
    """G2: each value is what one complete execution of that very call has returned."""
    ended = {(line.call, line.token) for line in journal.lines() if not line.began}
    for outcome in outcomes:
        if not isinstance(outcome, BaseException):
            assert tuple(outcome) in ended, f"{outcome} was never returned by its call"


def executed_at_most(journal: Journal, times: int, calls: Iterable[int] | None = None) -> None:
    """G3: no call (of these) was begun more often, whatever happened to it."""
    executions = journal.executions()
    chosen = executions if calls is None else {call: executions[call] for call in calls}
    often = {call: count for call, count in chosen.items() if count > times}
    assert not often, f"begun more than {times} times: {often}"


def only_these_were_repeated(journal: Journal, calls: Iterable[int]) -> None:
    """Of all others, each was begun once: blame and retries strike nobody else."""
    executed_at_most(journal, 1, set(journal.executions()) - set(calls))


def never_two_owners(journal: Journal) -> None:
    """No call was begun again while an execution of it went on that later ended well."""
    ended = {line.token for line in journal.lines() if not line.began}
    running: dict[int, str] = {}
    for line in journal.lines():
        if not line.began:
            running.pop(line.call, None)
        elif line.token in ended:
            assert line.call not in running, f"call {line.call} ran twice at a time"
            running[line.call] = line.token


def in_order_one_at_a_time(journal: Journal) -> None:
    """G4: the calls of an actor began in the order in which they were made, one at a time."""
    calls = [line.call for line in journal.lines() if line.began]
    assert calls == sorted(set(calls)), f"out of order, or twice: {calls}"
    ended = {line.token for line in journal.lines() if not line.began}
    running = ""
    for line in journal.lines():
        if line.began:
            assert not running, f"call {line.call} began while {running} ran"
            running = line.token if line.token in ended else ""
        else:
            running = ""


def nothing_is_left(family: Callable[[], Iterable[Seen]] | Iterable[Seen], within: float) -> None:
    """G5: of these processes none is alive after so many seconds."""
    left = family if callable(family) else lambda: family
    until(lambda: not living(left()), within, "all processes gone")


class Peaks:
    """G6: how much memory processes have needed at most, since this was made.

    The kernel keeps the peak of each (``VmHWM``), so nobody has to look at the right moment.

    Args:
        pids: of whom, by what they are called in a complaint.
    """

    def __init__(self, **pids: int) -> None:
        self._pids = pids
        self._before: dict[str, int] = {}
        for name, pid in pids.items():
            Path(f"/proc/{pid}/clear_refs").write_text("5")  # the peak is what it is now
            self._before[name] = _peak_of(pid)

    def grown(self) -> dict[str, int]:
        """The bytes by which each has grown at most."""
        return {name: _peak_of(pid) - self._before[name] for name, pid in self._pids.items()}

    def stay_below(self, limit: int | Mapping[str, int]) -> None:
        """None has grown by more bytes than that, at any time."""
        for name, grown in self.grown().items():
            most = limit if isinstance(limit, int) else limit[name]
            assert grown <= most, f"{name} grew by {grown / MIB:.0f} MiB, not {most / MIB:.0f}"


def _peak_of(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    (peak,) = (line.split()[1] for line in lines if line.startswith("VmHWM:"))
    return int(peak) * 1024


# -- G7: who unpickles -------------------------------------------------------------------

_AUDITED = """
import os, sys

def _note(event, args):
    if event == "pickle.find_class":
        fd = os.open(os.environ["GOLIATH_TEST_PICKLES"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(fd, f"{args[0]}.{args[1]}\\n".encode())
        os.close(fd)

sys.addaudithook(_note)
from goliath.lieutenant import main
sys.exit(main(sys.argv[1:]))
"""


class Audited(Lieutenant):
    """A node that notes every class that is looked up for a pickle in its own process.

    Args:
        folder: where the note is kept.
        workers: as of `Lieutenant`, like all that follows.
    """

    def __init__(self, folder: Path, workers: int = 2, *flags: str, **options: Any) -> None:
        self._pickles = folder / f"pickles-{time.monotonic_ns()}"
        env = {**(options.pop("env", None) or {}), "GOLIATH_TEST_PICKLES": str(self._pickles)}
        options.setdefault("launcher", ("-c", _AUDITED))
        super().__init__(workers, *flags, env=env, **options)

    def has_unpickled_nothing(self) -> None:
        """G7: the Lieutenant never unpickles, not even for those who have the token."""
        assert not self._pickles.exists(), f"the node unpickled:\n{self._pickles.read_text()}"


_found: list[str] = []
_hooked = False


@contextmanager
def nothing_is_unpickled_here() -> Iterator[None]:
    """G7: this process looks up no class for a pickle while it lasts."""
    global _hooked
    if not _hooked:
        _hooked = True  # an audit hook can be added, but not removed
        sys.addaudithook(_on_audit)
    before = len(_found)
    yield
    assert _found[before:] == [], f"unpickled: {_found[before:]}"


def _on_audit(event: str, args: tuple[Any, ...]) -> None:
    if event == "pickle.find_class":
        _found.append(f"{args[0]}.{args[1]}")


def pickles_are_noticed() -> bool:
    """Whether the watch works at all: a watch that sees nothing proves nothing."""
    try:
        with nothing_is_unpickled_here():
            pickle.loads(pickle.dumps(Path()))
    except AssertionError:
        return True
    return False
