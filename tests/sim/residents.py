"""Detached actors of a seed: who makes, calls and kills them, and what became of them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from random import Random

from goliath.core.batch import JobOptions
from tests.sim.plan import GROUPS, CallPlan, Fate, JobPlan, plan_results

STILLBIRTHS_MAX = 5
"""Deaths before ``__init__`` was through that a node puts up with (as in `NodePolicy`)."""


@dataclass(slots=True)
class Killing:
    """A Commander has had enough of an actor, or of its process."""

    commander: int
    at_s: float
    restart: bool


@dataclass(slots=True)
class ResidentPlan:
    """One detached actor.

    Attributes:
        called: its name; two may want the same.
        maker: which Commander makes it.
        request: the job of one call by which he does.
        births: how ``__init__`` ends, life by life; the last of them in all that follow.
        visits: jobs of calls, and which Commander makes them.
    """

    called: str
    maker: int
    request: JobPlan
    init_s: float
    births: list[Fate]
    max_restarts: int
    get_if_exists: bool
    visits: list[tuple[int, JobPlan]] = field(default_factory=list)
    killings: list[Killing] = field(default_factory=list)

    def making(self, life: int) -> CallPlan:
        """Its ``__init__`` in one of its lives."""
        return CallPlan(self.init_s, self.births[min(life, len(self.births)) - 1])


def plan_residents(rng: Random, commanders: int, *, nasty: bool) -> list[ResidentPlan]:
    """Some detached actors, each called by several Commanders; in most seeds none."""
    if rng.random() < 0.7:
        return []
    plans = [_plan(rng, f"r{n}", commanders, nasty=nasty) for n in range(rng.choice((1, 1, 2)))]
    if rng.random() < 0.3:
        rival = _plan(rng, "rival", commanders, nasty=nasty)
        rival.called = plans[0].called
        plans.append(rival)
    return plans


def _plan(rng: Random, name: str, commanders: int, *, nasty: bool) -> ResidentPlan:
    concurrency = rng.choice((1, 1, 1, 5, 100))
    groups = GROUPS.get(concurrency, {})
    options = JobOptions(
        function=name,
        environment=f"env-{name}.1",
        max_retries=0,
        cpus=0.0,
        actor=True,
        concurrency=concurrency,
        groups=groups,
        batch_size=1 if groups else None,
    )
    begins = rng.choice((0.0, 0.5, rng.uniform(0.0, 10.0)))
    request = JobPlan(name, options, [CallPlan(0.0)], start_s=begins, force=True, detaches=True)
    births = [Fate.VALUE]
    if nasty and rng.random() < 0.4:
        births = [rng.choice((Fate.RAISE_RETRYABLE, Fate.DIE, Fate.DIE)), Fate.VALUE]
    plan = ResidentPlan(
        name,
        rng.randrange(commanders),
        request,
        rng.choice((0.001, 0.5, 5.0)),
        births,
        rng.choice((0, 1, 3, -1)),
        rng.random() < 0.5,
    )
    for number in range(rng.choice((1, 3, 6))):
        visit = _plan_visit(rng, f"{name}-v{number}", plan, nasty=nasty)
        visit.start_s = begins + rng.choice((0.1, 2.0, rng.uniform(0.0, 60.0)))
        plan.visits.append((rng.randrange(commanders), visit))
    if nasty and rng.random() < 0.4:
        at_s = rng.uniform(0.0, 30.0)
        plan.killings.append(Killing(rng.randrange(commanders), at_s, rng.random() < 0.5))
    return plan


def _plan_visit(rng: Random, name: str, plan: ResidentPlan, *, nasty: bool) -> JobPlan:
    typical_s = rng.choice((0.0004, 0.01, 0.3))
    calls = [CallPlan(typical_s * 3 ** rng.uniform(-1, 1)) for _ in range(rng.choice((1, 10, 60)))]
    if nasty:
        for call in rng.sample(calls, min(len(calls), rng.choice((0, 0, 1, 2)))):
            call.fate = rng.choice((Fate.RAISE, Fate.DIE, Fate.FORGE))
    plan_results(rng, calls)
    if rng.random() < 0.2:
        rng.choice(calls).seconds = rng.uniform(1.0, 80.0)
    return JobPlan(
        name,
        plan.request.options,
        calls,
        cancel_s=rng.choice((0.01, 3.0)) if rng.random() < 0.1 else None,
        force=rng.random() < 0.3,
        total_known=rng.random() < 0.7,
        resident=plan.request.name,
    )


@dataclass(slots=True)
class ResidentRecord:
    """What became of one."""

    plan: ResidentPlan
    realm: str = ""  # of who has made it
    home: tuple[str, int] | None = None  # the node that has adopted it, and which life of that
    lives: int = 0
    processes_ended: int = 0
    stillbirths: int = 0
    raised: bool = False
    kills: int = 0
    revocations: int = 0  # of its maker's token, where it lives
    evicted: bool = False
    running: Counter[str] = field(default_factory=Counter)  # calls of each group, and ``__init__``

    def may_have_ended(self) -> bool:
        """Whether its processes have ended more often than they might."""
        most = self.plan.max_restarts
        return (0 <= most < self.processes_ended) or self.stillbirths > STILLBIRTHS_MAX
