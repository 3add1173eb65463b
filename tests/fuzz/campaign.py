"""Spoils frames of a recording by the thousand, and feeds them to all who hear frames.

What is found is a `Finding`, which can be fed again by its text alone, without the recording.
"""

from __future__ import annotations

import asyncio
import base64
import json
import random
import time
import traceback
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from goliath.transport.codec import unpack_frame
from tests.fuzz.mutation import Mutator
from tests.fuzz.targets import HONEST, TARGETS, Case
from tests.watch.recording import Recording, Said

SECOND_LOOKS = 3  # at what was slow
FRAMES_PER_CASE = 12
FRAMES_BEFORE = 8  # one of a kind that was looked for
SPOILED_SHARE = 0.3

SHARES: Mapping[str, float] = {
    "decoder": 0.35,
    "session of a Commander": 0.15,
    "session of a Lieutenant": 0.15,
    "Lieutenant's end of a worker's socket": 0.05,
    "worker's end": 0.05,
    "Lieutenant": 0.06,
    "Commander": 0.04,
    "login": 0.15,
}
"""Actors cost ten times as much as parsers, and share what gets through to them."""

HEARD_BY: Mapping[str, tuple[str, ...]] = {
    "session of a Commander": ("to the Commander",),
    "session of a Lieutenant": ("from the Commander",),
    "Lieutenant's end of a worker's socket": ("from a worker",),
    "worker's end": ("to a worker",),
    "Lieutenant": ("from the Commander", "from a worker"),
    "Commander": ("to the Commander",),
}
"""Which of the recorded frames a target hears; of those that are not here, all."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that came out where nothing may: of which target, and of which frames."""

    target: str
    case: tuple[bytes, ...]
    error: str

    def text(self) -> str:
        """The target and the frames, to be fed again by ``--replay``."""
        frames = [base64.b64encode(frame).decode() for frame in self.case]
        packed = zlib.compress(json.dumps([self.target, frames]).encode(), 9)
        return base64.urlsafe_b64encode(packed).decode()


@dataclass(slots=True)
class Tally:
    """What a campaign has seen of one target.

    Attributes:
        frames: that were fed.
        spoiled: how many of them; the others bring it to where those are heard.
        refused: how many were.
        slowest_s: of the CPU that a case has taken, a dozen frames and a fresh world for them.
        slowest: the case.
        findings: what has come out and may not.
    """

    frames: int = 0
    spoiled: int = 0
    refused: int = 0
    slowest_s: float = 0.0
    slowest: Finding | None = None
    findings: list[Finding] = field(default_factory=list)


def read_case(text: str) -> tuple[str, tuple[bytes, ...]]:
    """Target and frames of what `Finding.text` has written."""
    target, frames = json.loads(zlib.decompress(base64.urlsafe_b64decode(text)))
    return target, tuple(base64.b64decode(frame) for frame in frames)


def feed_again(text: str) -> tuple[str, int, int, float]:
    """Feed what `Finding.text` has written: the target, how many frames, how many of them were
    refused, and the seconds of the CPU that all have taken.

    Raises:
        Exception: the defect, if it is still there.
    """
    target, case = read_case(text)
    with _running() as runner:
        return target, len(case), *_fed(runner, target, case)


class _AtOnce(ThreadPoolExecutor):
    """Does what it is given at once, so that a case ends the same way each time; and a thread costs
    more than most of what Lieutenants have one for."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as exc:  # noqa: BLE001 - it is for whoever waits
            future.set_exception(exc)
        return future


@contextmanager
def _running() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        runner.get_loop().set_default_executor(_AtOnce())
        yield runner


def _fed(runner: asyncio.Runner, target: str, case: Case) -> tuple[int, float]:
    began = time.process_time()  # of all its threads; others may have the machine meanwhile
    refused = runner.run(TARGETS[target](case))
    return refused, time.process_time() - began


class Campaign:
    """One of a seed.

    Args:
        recording: real frames.
        spoiled: how many spoiled frames are fed, in all.
        seed: decides which.
    """

    def __init__(self, recording: Recording, spoiled: int, seed: int) -> None:
        self._recording = recording
        self._spoiled = spoiled
        self._seed = seed
        self.tallies = {target: Tally() for target in TARGETS}

    def run(self) -> dict[str, Tally]:
        """Feed all of them; what was seen, by target."""
        for target in SHARES:
            self.run_one(target)
        return self.tallies

    def run_one(self, target: str) -> Tally:
        """Feed the frames of one target."""
        tally, wanted = self.tallies[target], round(self._spoiled * SHARES[target])
        cases = self._cases(target, random.Random(f"{self._seed} {target}"))
        with _running() as runner:
            while tally.spoiled < wanted:
                case, spoiled = next(cases)
                tally.frames += len(case)
                tally.spoiled += spoiled
                self._feed(runner, target, case, tally)
        return tally

    def _feed(self, runner: asyncio.Runner, target: str, case: Case, tally: Tally) -> None:
        try:
            refused, took_s = _fed(runner, target, case)
        except Exception:  # noqa: BLE001 - whatever it is, it is what we are looking for
            tally.findings.append(Finding(target, tuple(case), traceback.format_exc()))
            return
        tally.refused += refused
        for _ in range(SECOND_LOOKS):
            if took_s <= tally.slowest_s:
                return
            # The garbage collector may have had its turn.
            took_s = min(took_s, _fed(runner, target, case)[1])
        tally.slowest_s, tally.slowest = took_s, Finding(target, tuple(case), "slow")

    # -- cases ---------------------------------------------------------------------------------

    def _cases(self, target: str, rng: random.Random) -> Iterator[tuple[Case, int]]:
        """Cases, and how many frames of each are spoiled."""
        if target == "login":
            yield from _logins(rng)
        heard = HEARD_BY.get(target)
        talks = [
            [said for said in frames if heard is None or said.way in heard]
            for frames in self._recording.frames
        ]
        mutator = Mutator(rng, [said.frame for talk in talks for said in talk])
        places, definers = _places(talks), _definers(talks)
        while True:
            frames = [said.frame for said in _stretch(rng, talks, places)]
            yield _case(rng, mutator, [*_definitions(definers, frames), *frames])


Talk = Sequence[Said]


def _places(talks: Sequence[Talk]) -> dict[str, list[tuple[Talk, int]]]:
    """Where each kind of frame stands."""
    found: dict[str, list[tuple[Talk, int]]] = {}
    for talk in talks:
        for at, said in enumerate(talk):
            found.setdefault(said.kind, []).append((talk, at))
    return dict(sorted(found.items()))


def _stretch(
    rng: random.Random, talks: Sequence[Talk], places: Mapping[str, list[tuple[Talk, int]]]
) -> Talk:
    """Some of what was said: from anywhere on, or what leads to one of a kind, of which each is
    chosen as often as any other, however rarely it was said."""
    if rng.random() < 0.5:
        talk = rng.choice(talks)
        at = rng.randrange(len(talk))
        return talk[at : at + FRAMES_PER_CASE]
    talk, at = rng.choice(places[rng.choice(list(places))])
    return talk[max(at - FRAMES_BEFORE, 0) : at + 1]


def _case(rng: random.Random, mutator: Mutator, frames: list[bytes]) -> tuple[Case, int]:
    """A stretch of a conversation in which some frames are spoiled, lost or doubled. The last one
    is spoiled in any case."""
    case, spoiled = [], 1
    for frame in frames[:-1]:
        fate = rng.random()
        if fate < SPOILED_SHARE:
            case.append(mutator.spoil(frame))
            spoiled += 1
        elif fate < 0.95:  # else it is lost
            case += [frame] * (2 if fate < SPOILED_SHARE + 0.03 else 1)
    return (*case, mutator.spoil(frames[-1])), spoiled


NAMING = ("function", "environment", "digest")
"""Fields with names that must have been given before."""


def _definers(talks: Sequence[Talk]) -> dict[str, bytes]:
    """The frame that has given a function or an environment its name."""
    found = {}
    for talk in talks:
        for said in talk:
            if said.kind in ("function", "environment", "nested-function"):
                header, _ = unpack_frame(said.frame, checksum=False)
                found[header.get("digest") or header["environment"]] = said.frame
    return found


def _definitions(definers: Mapping[str, bytes], frames: Sequence[bytes]) -> list[bytes]:
    """Those of what the frames name, but for those that are among them."""
    needed: dict[bytes, None] = {}
    for frame in frames:
        header, _ = unpack_frame(frame, checksum=False)
        for name in NAMING:
            definer = definers.get(header.get(name, ""))
            if definer is not None and definer not in frames:
                needed[definer] = None
    return list(needed)


def _logins(rng: random.Random) -> Iterator[tuple[Case, int]]:
    """Messages that stand in the place of those of one login: spoiled, or of another one."""
    while True:
        case = [b""] * 4
        for place in rng.sample(range(4), rng.choice((1, 1, 1, 2, 4))):
            case[place] = _spoiled_text(rng, rng.choice((HONEST[place], rng.choice(HONEST))))
        yield tuple(case), sum(map(bool, case))


def _spoiled_text(rng: random.Random, text: bytes) -> bytes:
    match rng.randrange(5):
        case 0:
            changed = bytearray(text)
            changed[rng.randrange(len(text))] ^= 1 << rng.randrange(8)
            return bytes(changed)
        case 1:
            lo, hi = sorted((rng.randrange(len(text)), rng.randrange(len(text))))
            return text[:lo] + text[hi:] or b"{}"
        case 2:
            at = rng.randrange(len(text))
            return text[:at] + rng.randbytes(rng.choice((1, 8, 600))) + text[at:]
        case 3:
            return text.replace(b":", b": ", 1)  # as it was, spelled otherwise
        case _:
            return rng.randbytes(rng.choice((1, 32, 200)))
