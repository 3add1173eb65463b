"""A whole simulated run: Commanders, Lieutenants, jobs and malice, all from one seed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

from tests.sim.commander import Commander
from tests.sim.ledger import Ledger, require
from tests.sim.lieutenant import Lieutenant
from tests.sim.link import Route
from tests.sim.malice import Malice
from tests.sim.plan import let_speculate, plan_job
from tests.sim.residents import plan_residents
from tests.sim.tally import Seen, Tally
from tests.sim.world import Host, World

QUIET_S = 300.0
FORGOTTEN_WITHIN_S = 5.0  # by a node: what nobody holds
DRIFT_MAX = 0.02
"""By how much a clock goes wrong: 40 times as much as the worst of quartz. 60 s of one clock are
well over before 75 s of another one are, with `LONG_SLEEP_S` between."""
LEASES_S = (20.0, 60.0, 120.0)
"""For how long a node keeps the session of a silent Commander, which outlasts it."""
LITTLE_S = 20.0
STEPS_MAX = 150_000
TOMBSTONES_MAX = 500


@dataclass(frozen=True, slots=True)
class Report:
    """What a run was like."""

    seed: int
    steps: int
    virtual_s: float
    calls: int
    tally: Tally = field(repr=False)


class Cluster:
    """Built from a seed; `run` raises an `AssertionError` if any promise is broken."""

    def __init__(self, seed: int, trace: Callable[[str], None] | None = None) -> None:
        self.world = World(seed, trace)
        self.ledger = Ledger(self.world)
        rng = self.world.rng
        self._quiet = rng.random() < 0.2
        self._siege = not self._quiet and rng.random() < 0.1
        # Other dice: where nobody is replaced, a seed is what it was before anybody was.
        other = Random(f"recycling of {self.world.seed}")
        disks = Random(f"disks of {self.world.seed}")
        deaths_at_start = 0.0 if self._quiet or rng.random() < 0.6 else 0.03
        self.lieutenants = [
            Lieutenant(
                self.world,
                f"node{i}",
                rng.choice((1, 2, 2, 4)),
                {"licence": 1.0, "seat": 1.0} if rng.random() < 0.3 else {},
                rng.choice(((), (), (), ("0",), ("0", "1"))),
                self.ledger,
                deaths_at_start,
                rng.choice((0, 5_000, 10**9)),
                other.choice((None,) * 8 + (1, 7)),
                other.choice((None,) * 8 + (500_000, 3_000_000)),
                disks.choice((0, 2_500, 20_000, 10**9)),
            )
            for i in range(rng.choice((1, 2, 2, 3, 4)))
        ]
        # Other dice: where all have one token, a seed is what it was before there were several.
        self._tokens = Random(f"tokens of {self.world.seed}")
        realms = self._tokens.choice((("",), ("",), ("alice",), ("alice", "bob")))
        self.commanders = [
            Commander(self.world, f"cmdr{i}", self.ledger, self._tokens.choice(realms))
            for i in range(rng.choice((1, 1, 2, 3)))
        ]
        for node in self.lieutenants:
            node.realms = realms
        self.world.saw(Seen.SEVERAL_COMMANDERS, len(self.commanders) > 1)
        drains = Random(f"drains of {self.world.seed}")
        for node in self.lieutenants:
            node.drain_max_s = drains.choice((None, None, 0.0, 0.1, 2.0))
        self._set_clocks()
        self.routes: list[Route] = []
        self._work_s = 0.0  # of all calls, one after the other
        self._hangs = False  # whether one never returns, where it is made first
        self._build()

    def _set_clocks(self) -> None:
        """In some runs no two clocks agree, in some no two nodes about how long a session lives."""
        # Other dice: where all clocks are right, a seed is what it was before any was wrong.
        rng = Random(f"clocks of {self.world.seed}")
        hosts: list[Host] = [*self.lieutenants, *self.commanders]
        if rng.random() < 0.3:
            for host in hosts:
                host.set_clock(rng.uniform(1 - DRIFT_MAX, 1 + DRIFT_MAX), rng.uniform(0.0, 1e5))
        if rng.random() < 0.3:
            for node in self.lieutenants:
                node.lease_s = max(LEASES_S) if self._siege else rng.choice(LEASES_S)

    def _build(self) -> None:
        rng = self.world.rng
        # Other dice: where nobody speculates, a seed is what it was before anybody did.
        other = Random(f"speculation of {self.world.seed}")
        speculative = other.random() < 0.3
        may_hang = several = len(self.lieutenants) > 1  # once: then there is a slot for the copy
        for node in self.lieutenants:
            if rng.random() < 0.9:
                node.boot()
            else:
                self.world.at(rng.uniform(0.1, 20.0), node.boot)
        for number, commander in enumerate(self.commanders):
            for node in self.lieutenants:
                route = Route(
                    self.world,
                    rng.choice((0.0001, 0.001, 0.02, 0.15)),
                    rng.choice((0.0, 0.0, 0.002, 0.02)),
                    commander.realm,
                )
                self.routes.append(route)
                commander.connect(node, route)
            for job in range(rng.choice((1, 1, 2, 3))):
                plan = plan_job(rng, f"{number}.{job}", nasty=not self._quiet, besieged=self._siege)
                if speculative:
                    may_hang = not let_speculate(other, plan, may_hang=may_hang) and may_hang
                self._work_s += sum(call.seconds for call in plan.calls)
                self.world.at(plan.start_s, commander.open, plan)
        self._hangs = several and not may_hang
        self._healed_at = 0.0
        if not self._quiet:
            malice = Malice(self.world, self.commanders, self.lieutenants, self.routes)
            count = 0 if self._siege else rng.choice((0, 1, 2, 4, 8, 16))
            self._healed_at = malice.plan(count, until=rng.choice((2.0, 20.0, 120.0)))
            if self._siege:
                self._healed_at = malice.besiege()
            if self._tokens.random() < 0.2:
                self._healed_at = max(self._healed_at, malice.revoke(self._tokens))
            self._squeeze()
        self._build_residents()

    def _squeeze(self) -> None:
        """Memory gets short on some nodes, and is there again."""
        # Other dice: where there is enough of it, a seed is what it was before it was ever short.
        rng = Random(f"memory of {self.world.seed}")
        for node in self.lieutenants if rng.random() < 0.4 else ():
            until = rng.choice((1.0, 10.0, 60.0))
            if rng.random() < 0.5:
                self.world.at(0.0, node.squeeze, rng.choice((90, 97)))
            for _ in range(rng.choice((0, 1, 2, 6))):
                percent = rng.choice((50, 76, 81, 85, 92, 97, 100))
                self.world.at(rng.uniform(0.0, until), node.squeeze, percent)
            # Where there is little to do, it may never be there again: one at a time is enough;
            # unless that one hangs, and waits to be made elsewhere.
            last = rng.choice((10, 85, 97)) if self._work_s < LITTLE_S else 10
            last = 10 if self._hangs else last
            self.world.at(until, node.squeeze, last)
            self._healed_at = max(self._healed_at, until)

    def _build_residents(self) -> None:
        # Other dice: without detached actors, a seed is what it was before there were any.
        rng = Random(f"residents of {self.world.seed}")
        commanders = self.commanders
        for plan in plan_residents(rng, len(commanders), nasty=not self._quiet):
            self.ledger.expect(plan)
            maker = commanders[plan.maker]
            self.world.at(plan.request.start_s, maker.open, plan.request)
            for number, visit in plan.visits:
                self.world.at(visit.start_s, commanders[number].visit, visit)
            for killing in plan.killings:
                kill = commanders[killing.commander].kill_resident
                self.world.at(killing.at_s, kill, plan.request.name, killing.restart)
            if not self._quiet and rng.random() < 0.4:
                self.world.at(rng.uniform(1.0, 30.0), maker.die)
                self._healed_at = max(self._healed_at, 60.0)

    def run(self, steps_max: int = STEPS_MAX) -> Report:
        """Until nothing is left to do.

        Raises:
            AssertionError: a promise was broken.
        """
        begin = max(self._healed_at, 21.0)
        world = self.world
        world.run(begin, self._is_over, steps_max)
        for node in self.lieutenants:
            node.boot()
        world.run(begin + QUIET_S, self._is_over, steps_max)
        self._verify()
        # Whoever got a result late holds it for as long as one that came early.
        world.run(begin + QUIET_S + self._held_s(), self._is_over, steps_max)
        self._verify_depots()
        return Report(
            world.seed,
            world.steps,
            world.now,
            sum(len(job.calls) for job in self.ledger.jobs.values()),
            world.tally,
        )

    def _is_over(self) -> bool:
        return (
            self.world.now >= max(self._healed_at, 21.0)
            and all(job.ended for job in self.ledger.jobs.values())
            and not any(
                node.node._queues.works or node.node.load()[0] or node.node._depot
                for node in self.lieutenants
            )
        )

    def _verify(self) -> None:
        for job in self.ledger.jobs.values():
            open_calls = [call for call in job.calls if call.outcome is None]
            require(
                job.ended == 1,
                f"job {job.plan.name} has not ended {QUIET_S} s after the last fault; "
                f"without outcome: {open_calls[:5]}",
            )
        for node in self.lieutenants:
            works = list(node.node._queues.works)
            require(not works, f"{node.name} still holds {works}")
            busy, queued, _ = node.node.load()
            require(not busy and not queued, f"{node.name} is busy with {busy}, {queued} wait")
            tombstones = len(node.node._queues.tombstones)
            require(tombstones <= TOMBSTONES_MAX, f"{node.name} keeps {tombstones} tombstones")
        self._verify_residents()
        self.ledger.verify_good_calls()

    def _held_s(self) -> float:
        """For how long any result may be held, and a node not be told that it is not any more."""
        calls = [call for job in self.ledger.jobs.values() for call in job.calls]
        return max((call.plan.wanted_s for call in calls), default=0.0) + FORGOTTEN_WITHIN_S

    def _verify_depots(self) -> None:
        for node in self.lieutenants:
            require(not node.node._depot, f"{node.name} keeps {node.node._depot}")

    def _verify_residents(self) -> None:
        """Those that were adopted, and had no reason to end, are there, ready to be called."""
        nodes = {(node.name, node.incarnation): node for node in self.lieutenants}
        for name, record in self.ledger.residents.items():
            node = nodes.get(record.home) if record.home is not None else None
            if node is None or record.evicted or not node.up or node.node._queues.draining:
                continue
            ready = {r.id for r in node.node._residency.residents if r.made}
            require(f"env-{name}" in ready, f"resident {name} of {node.name} is not there any more")
