"""What a seed wants done: jobs, and the fate of every call in them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import Enum, auto
from math import inf
from random import Random

from goliath.core.batch import JobOptions


class Fate(Enum):
    """How an execution of a call ends, if nobody ends it."""

    VALUE = auto()
    RAISE = auto()
    RAISE_RETRYABLE = auto()
    DIE = auto()
    FORGE = auto()  # it writes nonsense to its own socket, and is killed for that
    HANG = auto()


class Setup(Enum):
    """What becomes of a job's environment on a node."""

    FINE = auto()
    NO_FILES = auto()
    INITIALIZER_RAISES = auto()
    DIES_AT_START = auto()


GROUPS = {2: {"": 1, "io": 1}, 5: {"": 1, "io": 2, "compute": 2}}
"""Concurrency groups of actors of which so many calls run at once."""


@dataclass(slots=True)
class CallPlan:
    """One call: how long it takes, how it ends, and how often before it turns out well."""

    seconds: float
    fate: Fate = Fate.VALUE
    times: float = inf
    swallows: bool = False  # interrupts
    waits: tuple[float, float] = (inf, inf)  # from when until when, in shares of its time
    big: int = 0  # bytes of its result, if it is to stay on its node
    wanted_s: float = 0.0  # how long its result is held by somebody

    def fate_of(self, execution: int) -> Fate:
        """Of the execution with this number, counting from 1."""
        return self.fate if execution <= self.times else Fate.VALUE


@dataclass(frozen=True, slots=True)
class CallCancel:
    """A single call that its owner calls off, so long after he opened its job."""

    index: int
    after_s: float
    force: bool


@dataclass(slots=True)
class JobPlan:
    """One job of one Commander."""

    name: str
    options: JobOptions
    calls: list[CallPlan]
    start_s: float = 0.0
    cancel_s: float | None = None
    force: bool = False
    total_known: bool = True
    ordered: bool = True
    submit_s: float = 0.0  # its owner takes so long to cut a parcel
    setup: Setup = Setup.FINE
    call_bytes: int = 8
    broken_nodes: set[str] = field(default_factory=set)
    call_cancels: list[CallCancel] = field(default_factory=list)
    detaches: bool = False  # its one call is to make a detached actor
    resident: str = ""  # its calls are for the detached actor that the job of this name has made


def plan_job(rng: Random, name: str, nasty: bool, besieged: bool = False) -> JobPlan:
    """A random job; one of a siege has a call that outlasts it."""
    typical_s = rng.choice((0.0004, 0.002, 0.01, 0.05, 0.3))
    spread = rng.choice((1.0, 1.0, 10.0))
    count = rng.choice((0, 1, 3, 10, 30, 60, 120))
    calls = [CallPlan(typical_s * spread ** rng.uniform(-1, 1)) for _ in range(count)]
    if rng.random() < 0.15 and calls:
        rng.choice(calls).seconds = rng.uniform(1, 8)
    timeout_s = rng.choice((0.5, 2.0)) if rng.random() < 0.15 else None
    cancel_s = rng.choice((0.01, 0.3, 3.0, 12.0)) if rng.random() < 0.2 else None
    if timeout_s is not None and rng.random() < 0.5:
        for call in rng.sample(calls, min(len(calls), 4)):
            call.seconds = timeout_s + rng.uniform(-0.002, 0.03)  # the kill may come too late
    retry_exceptions = rng.random() < 0.2
    options = JobOptions(
        function=name,
        environment=f"env-{name}",
        max_retries=rng.choice((0, 1, 3, 3, 3)),
        timeout_s=timeout_s,
        cpus=rng.choice((1.0,) * 6 + (0.5, 2.0)),
        resources=_plan_resources(rng),
        batch_size=rng.choice((None, None, None, 1, 7, 50)),
        retry_exceptions=retry_exceptions,
        watched=rng.random() < 0.5,
        depth=rng.choice((0, 0, 0, 1, 2)),
        concurrency=rng.choice((1, 1, 1, 2, 5, 100)),
    )
    if rng.random() < 0.15:
        options = replace(
            options, actor=True, max_retries=0, timeout_s=None, retry_exceptions=False
        )
        timeout_s = None
        if options.watched and options.concurrency in GROUPS:
            groups = GROUPS[options.concurrency]
            options = replace(options, groups=groups, batch_size=1)
    if rng.random() < 0.3:
        for call in rng.sample(calls, len(calls) // 2):
            call.waits = rng.choice(((0.0, 0.5), (0.1, 0.9), (0.5, inf)))
    plan_results(rng, calls)
    if besieged and calls and timeout_s is None:
        calls[0].seconds = rng.uniform(80.0, 110.0)
    elif nasty:
        _spoil(rng, calls, options, may_hang=timeout_s is not None or cancel_s is not None)
    return JobPlan(
        name,
        options,
        calls,
        start_s=rng.choice((0.0, 0.0, rng.uniform(0, 20))),
        cancel_s=cancel_s,
        force=options.actor or rng.random() < 0.3,
        total_known=rng.random() < 0.7,
        ordered=rng.random() < 0.5,
        submit_s=rng.choice((0.0, 0.0, 0.003, 0.2)),
        setup=rng.choice(list(Setup)) if nasty and rng.random() < 0.06 else Setup.FINE,
        call_bytes=rng.choice((8, 8, 100_000)),
        call_cancels=_plan_cancels(rng, len(calls)),
    )


def let_speculate(rng: Random, plan: JobPlan, *, may_hang: bool) -> bool:
    """Let late calls of a job be made twice, if they may; one of them may hang then, until somebody
    makes it a second time. Whether it does."""
    options = plan.options
    if options.actor or not options.max_retries or rng.random() < 0.5:
        return False
    plan.options = replace(options, speculate=True)
    lonely = options.cpus > 1 or options.resources or plan.call_cancels or len(plan.calls) < 10
    if not may_hang or lonely:
        return False
    victim = rng.choice(plan.calls)
    victim.fate, victim.times, victim.waits = Fate.HANG, 1, (inf, inf)
    return True


def plan_results(rng: Random, calls: list[CallPlan]) -> None:
    """Some results are to stay on their nodes, for a while."""
    if rng.random() < 0.3:
        for call in rng.sample(calls, len(calls) // 2):
            call.big, call.wanted_s = rng.choice((200, 1000, 3000)), rng.expovariate(0.2)


def _plan_resources(rng: Random) -> dict[str, float]:
    if rng.random() < 0.9:
        return {}
    licences = {"licence": 1.0}, {"seat": 1.0}, {"licence": 1.0, "seat": 0.5}
    return rng.choice((*licences, {"GPU": 0.5}, {"GPU": 1.0}, {"GPU": 2.0}))


def _plan_cancels(rng: Random, count: int) -> list[CallCancel]:
    """Some calls are called off, neighbours among them, all at once or in the course of time,
    and now and then one of them twice."""
    if not count or rng.random() < 0.7:
        return []
    begin, lasts = rng.choice((0.0, 0.01, 0.1, 1.0)), rng.choice((0.0, 0.05, 1.0, 10.0))
    first = rng.randrange(count)
    chosen = [*range(first, min(first + rng.choice((1, 2, 8, count)), count))]
    chosen += rng.choices(range(count), k=rng.choice((0, 1, 5)))
    force = rng.random() < 0.3
    return [CallCancel(index, begin + lasts * rng.random(), force) for index in chosen]


def _spoil(rng: Random, calls: list[CallPlan], options: JobOptions, *, may_hang: bool) -> None:
    fates = [Fate.RAISE, Fate.DIE, Fate.DIE, Fate.FORGE]
    if options.retry_exceptions:
        fates.append(Fate.RAISE_RETRYABLE)
    if may_hang:
        fates.append(Fate.HANG)
    for call in rng.sample(calls, min(len(calls), rng.choice((0, 1, 1, 2, 3)))):
        call.fate = rng.choice(fates)
        call.times = rng.choice((inf, inf, 1, 2))
        call.swallows = rng.random() < 0.3 and not options.actor
