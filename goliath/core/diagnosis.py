"""What is to be thought of what was found out about a node: fine or not, and what to do.

Facts in, checks out. Nothing here looks anywhere; whoever looks is in `goliath.examination`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from statistics import median
from typing import Any

from goliath.record import frozen

SKEW_MAX_S = 2.0  # more, and logs of two machines cannot be laid beside each other
ROUND_TRIP_MAX_S = 0.25  # more, and every single call is felt
BANDWIDTH_MIN = 1e6  # bytes per second; less, and a batch of arguments takes a second
DAYS_MIN = 30.0  # before a certificate ends
FREE_MIN = 0.05  # of a machine's memory
DESCRIPTORS_MIN = 1024  # a worker process takes three, a Commander one
SHARED_MIN_BYTES = 256 * 1024 * 1024  # containers have 64 MiB, unless somebody cares


class Grade(StrEnum):
    """How a check ended."""

    OK = "ok"
    WARNING = "warning"
    FAILURE = "failure"


@frozen
class Check:
    """One thing that was looked at.

    Attributes:
        name: what, in one word.
        grade: how it ended.
        said: what was found, for people.
        advice: what to do about it; empty if it is fine.
        value: what was found, for programs: numbers in the units that their names have.
    """

    name: str
    grade: Grade
    said: str
    advice: str = ""
    value: Mapping[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class Diagnosis:
    """All checks of one subject, in the order in which they were made.

    Attributes:
        subject: an address, or this machine.
        checks: see `Check`.
        limits: of a node, those in force: ``name``, ``amount``, ``unit``, ``enforced_by``, ``why``.
    """

    subject: str
    checks: list[Check] = field(default_factory=list)
    limits: list[dict[str, Any]] = field(default_factory=list)

    @property
    def usable(self) -> bool:
        """Whether calls can run there."""
        return not self._of(Grade.FAILURE)

    def verdict(self) -> str:
        """All of it in a sentence."""
        failures, warnings = self._of(Grade.FAILURE), self._of(Grade.WARNING)
        if failures:
            # What there is to be done about it stands with the check.
            return f"{self.subject} cannot be used: {failures[0].said.partition('; ')[0]}"
        if warnings:
            names = ", ".join(dict.fromkeys(check.name for check in warnings))
            return f"{self.subject} works, and could be better: {names}"
        return f"{self.subject} is fine"

    def _of(self, grade: Grade) -> list[Check]:
        return [check for check in self.checks if check.grade is grade]


def good(name: str, said: str, **value: Any) -> Check:
    """It is as it should be."""
    return Check(name, Grade.OK, said, "", value)


def doubtful(name: str, said: str, advice: str, **value: Any) -> Check:
    """It works, and might not always, or not well."""
    return Check(name, Grade.WARNING, said, advice, value)


def bad(name: str, said: str, advice: str, **value: Any) -> Check:
    """Without it nothing works."""
    return Check(name, Grade.FAILURE, said, advice, value)


# -- the way there -----------------------------------------------------------------------


def judge_connections(
    times_s: Mapping[str, float | None], errors: Mapping[str, str], running: Sequence[str] = ()
) -> list[Check]:
    """Of each address of a host: how long it took to be connected, or why it was not; and of this
    very machine, which Lieutenants are known to run."""
    reached = any(time_s is not None for time_s in times_s.values())
    checks = []
    for address, time_s in times_s.items():
        if time_s is not None:
            ms = round(time_s * 1e3, 2)
            checks.append(good("connect", f"{address} in {ms:g} ms", address=address, ms=ms))
            continue
        said, advice = f"{address}: {errors[address]}", _advice_for(errors[address], running)
        judge = doubtful if reached else bad
        checks.append(judge("connect", said, advice, address=address, error=errors[address]))
    return checks


def _advice_for(error: str, running: Sequence[str]) -> str:
    if "refused" in error.lower():
        if running:
            return (
                f"nothing listens at this port; of your Lieutenants there run {', '.join(running)}"
            )
        return (
            "nothing listens there: start `goliath lieutenant` on that machine, and see whether "
            "it listens on this port, and not on loopback only"
        )
    if "no answer" in error:
        return (
            "the machine is down, or something on the way swallows what is sent: see whether it "
            "is up, and let its firewall pass this port"
        )
    return "there is no way from here to there: see the network of this machine, and its routes"


def judge_certificate(
    *, version: str, shown: str, pinned: str, vouched: bool, days_left: float | None
) -> Check:
    """The certificate of a connection, by its fingerprint, and the one of the login, if any."""
    value = {"version": version, "certificate": shown, "pinned": pinned == shown}
    value |= {"vouched": vouched, "days_left": None if days_left is None else round(days_left, 1)}
    if pinned and pinned != shown:
        return bad(
            "tls",
            f"it shows {shown}, and at `goliath login` it was {pinned}",
            "another machine may be listening in its place: ask whoever runs it. If the "
            "certificate was changed on purpose, `goliath logout` and log in again",
            **value,
        )
    who = "an authority vouches for it" if vouched else "the token proves it"
    said = f"{version}, {shown[:23]}…, {'as at the login' if pinned else who}"
    if vouched and days_left is not None and days_left < DAYS_MIN:
        return doubtful(
            "tls",
            f"{said}, for {days_left:.0f} more days",
            "renew it before it ends: nobody can log in after that",
            **value,
        )
    return good("tls", said, **value)


# -- the two ends ------------------------------------------------------------------------


def judge_packages(ours: Mapping[str, str], theirs: Mapping[str, str]) -> Check:
    """Versions of packages, by their names; what only the node has does not matter."""
    missing = [name for name in ours if name not in theirs]
    differ = [name for name in ours if theirs.get(name, ours[name]) != ours[name]]
    value = {"here": dict(ours), "there": dict(theirs), "missing": missing, "differ": differ}
    if not missing and not differ:
        return good("packages", f"the same {len(ours)} at both ends", **value)
    words = [f"{name} {ours[name]} here, {theirs[name]} there" for name in differ]
    words += [f"{name} {ours[name]} here, not there" for name in missing]
    return doubtful(
        "packages",
        "; ".join(words),
        "calls that use them may fail on the node, and their values may not be read at the other "
        "end: install the same versions",
        **value,
    )


def judge_clock(skew_s: float, uncertain_s: float) -> Check:
    """How far the node's clock is ahead of this one, give or take."""
    said = f"{abs(skew_s):.3f} s {'ahead' if skew_s >= 0 else 'behind'} (± {uncertain_s:.3f} s)"
    value = {"skew_s": round(skew_s, 4), "uncertain_s": round(uncertain_s, 4)}
    if abs(skew_s) - uncertain_s <= SKEW_MAX_S:
        return good("clock", said, **value)
    return doubtful(
        "clock",
        said,
        "Goliath does not mind, but times in logs and files of the two do not fit, and "
        "certificates may count as not valid: have both keep the time (NTP)",
        **value,
    )


def judge_round_trip(times_s: Sequence[float]) -> Check:
    """How long a message and its answer took, several times."""
    middle_s, most_s = median(times_s), max(times_s)
    said = f"{middle_s * 1e3:.2f} ms (median of {len(times_s)}, at most {most_s * 1e3:.2f} ms)"
    value = {"ms": round(middle_s * 1e3, 3), "max_ms": round(most_s * 1e3, 3), "n": len(times_s)}
    if middle_s <= ROUND_TRIP_MAX_S:
        return good("round-trip", said, **value)
    return doubtful(
        "round-trip",
        said,
        "every single call takes at least so long: make them in batches (run, map), or use a "
        "node that is nearer",
        **value,
    )


def judge_bandwidth(up: float, down: float) -> Check:
    """Bytes per second, to the node and back."""
    said = f"{up / 1e6:.1f} MB/s up, {down / 1e6:.1f} MB/s down"
    value = {"up_mb_s": round(up / 1e6, 3), "down_mb_s": round(down / 1e6, 3)}
    if min(up, down) >= BANDWIDTH_MIN:
        return good("bandwidth", said, **value)
    return doubtful(
        "bandwidth",
        said,
        "arguments and results take long: leave big data on the node, pass results on as refs, "
        "and name big constants in static=, which is sent once",
        **value,
    )


def judge_node(facts: Mapping[str, Any]) -> Check:
    """What a node says of its state: ``workers``, ``busy``, ``queued``, ``processes``,
    ``draining``, ``memory_bytes``, ``memory_free_bytes``."""
    free, memory = facts["memory_free_bytes"], facts["memory_bytes"]
    said = (
        f"{facts['workers']} workers, {facts['busy']:g} busy, {facts['queued']} batches wait, "
        f"{facts['processes']} processes; {free / 2**30:.1f} of {memory / 2**30:.1f} GiB free"
    )
    if facts["draining"]:
        advice = "it is being stopped and takes nothing new: use another one, or start it again"
        return bad("node", f"draining; {said}", advice, **facts)
    if facts["workers"] < 1:
        advice = "no call can run: start it with more WORKERS, or use another token"
        return bad("node", said, advice, **facts)
    if free < FREE_MIN * memory:
        advice = "calls may be killed for want of memory: run fewer at once, or end something there"
        return doubtful("node", said, advice, **facts)
    return good("node", said, **facts)


# -- this machine ------------------------------------------------------------------------


def judge_shared_memory(free_bytes: int | None) -> Check:
    """``/dev/shm``; None if there is none."""
    if free_bytes is None:
        return doubtful(
            "shared-memory",
            "there is no /dev/shm",
            "big arrays are copied rather than shared: mount a tmpfs there",
            free_bytes=0,
        )
    said = f"{free_bytes / 2**20:,.0f} MiB free in /dev/shm"
    if free_bytes >= SHARED_MIN_BYTES:
        return good("shared-memory", said, free_bytes=free_bytes)
    return doubtful(
        "shared-memory",
        said,
        "what calls share there soon finds no room: give the container more (docker run "
        "--shm-size=2g)",
        free_bytes=free_bytes,
    )


def judge_descriptors(soft: int) -> Check:
    """How many files and sockets a process may have open."""
    said = f"{soft:,} files and sockets a process"
    if soft >= DESCRIPTORS_MIN:
        return good("descriptors", said, soft=soft)
    advice = "many workers or Commanders will not fit: raise it (`ulimit -n 4096`)"
    return doubtful("descriptors", said, advice, soft=soft)


def judge_control_groups(path: str, *, writable: bool) -> Check:
    """The control group of this process, if it can be seen."""
    value = {"path": path, "writable": writable}
    if writable:
        return good("cgroup", f"{path} can be written: workers can be limited by it", **value)
    return doubtful(
        "cgroup",
        f"{path} cannot be written" if path else "none that limits memory",
        "what workers may use cannot be limited by the kernel as a whole: have the group delegated "
        "(systemd-run --user --scope -p Delegate=yes …), if that matters",
        **value,
    )


def judge_certificate_maker(name: str) -> Check:
    """What could make a certificate here; empty if nothing can."""
    if name:
        return good("certificates", f"made by {name}", maker=name)
    return doubtful(
        "certificates",
        "nothing here can make one",
        "a Lieutenant that others can reach needs one: `pip install 'goliath[tls]'`, or install "
        "the openssl program",
        maker="",
    )
