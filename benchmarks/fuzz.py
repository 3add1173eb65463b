"""Fuzz: real frames, spoiled, for every parser of both ends; only typed refusals may come out."""

import logging
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from benchmarks import procs
from benchmarks.figure import Figure, at_least, at_most
from tests.fuzz.campaign import SHARES, Campaign, Finding, feed_again
from tests.watch.recording import record

NAME = "fuzz"
SHOWN_MAX = 5  # findings; one defect may have thousands
WARM_SHARE = 0.02  # of the frames, before memory is weighed
SLOW_MS = 50
GROWTH_MAX_MIB = 64
FAST = "/dev/shm" if os.path.isdir("/dev/shm") else None  # thousands of Lieutenants make folders


def measure(spoiled: int, seed: int) -> Iterator[Figure]:
    """So many spoiled frames, a target after the other."""
    with tempfile.TemporaryDirectory(prefix="goliath-fuzz-") as folder:
        recording = record(Path(folder))
    with (
        tempfile.TemporaryDirectory(prefix="goliath-fuzz-", dir=FAST) as folder,
        _in_silence(folder),
    ):
        Campaign(recording, round(spoiled * WARM_SHARE), seed + 1).run()
        before = procs.peak_rss_mib(os.getpid())
        campaign = Campaign(recording, spoiled, seed)
        for target in SHARES:
            tally = campaign.run_one(target)
            _show(tally.findings, seed)
            yield Figure(
                NAME,
                f"harmed: {target}",
                len(tally.findings),
                "cases",
                at_most(0),
                note=f"{tally.spoiled:,} of {tally.frames:,} spoiled, {tally.refused:,} refused",
            )
            yield Figure(
                NAME,
                f"slowest: {target}",
                1000 * tally.slowest_s,
                "ms",
                at_most(SLOW_MS),
                note="CPU of a dozen frames, in a fresh world",
            )
            if tally.slowest is not None and 1000 * tally.slowest_s > SLOW_MS:
                _show([tally.slowest], seed)
        growth = procs.peak_rss_mib(os.getpid()) - before
    yield Figure(NAME, "growth of peak memory", growth, "MiB", at_most(GROWTH_MAX_MIB))
    kinds = {said.kind for frames in recording.frames for said in frames}
    yield Figure(
        NAME,
        "kinds of messages that nobody has said",
        len(recording.unsaid),
        "kinds",
        at_most(0),
        note=f"{len(kinds)} kinds of frames, from two Lieutenants",
    )
    fed = sum(tally.spoiled for tally in campaign.tallies.values())
    yield Figure(NAME, "spoiled frames in all", fed, "frames", at_least(spoiled))


def replay(text: str) -> int:
    """Feed one case again: 0 if it does no harm (any more)."""
    target, frames, refused, took_s = feed_again(text)
    print(f"{target}: {frames} frames, {refused} refused, {1000 * took_s:.1f} ms")
    return 0


def _show(findings: Sequence[Finding], seed: int) -> None:
    for finding in findings[:SHOWN_MAX]:
        print(
            f"\n{finding.error}\nof seed {seed}; to feed it again:\n"
            f"python -m benchmarks fuzz --replay {finding.text()}",
            file=sys.stderr,
            flush=True,
        )


@contextmanager
def _in_silence(folder: str) -> Iterator[None]:
    """Each refusal would be a line of the log; and what Lieutenants put down is for a folder."""
    logger = logging.getLogger("goliath")
    level, tempfile.tempdir = logger.level, folder
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)
        tempfile.tempdir = None
