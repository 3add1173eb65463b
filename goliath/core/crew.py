"""The worker processes of a node: who is free, who runs what, and what time asks of them."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import field
from itertools import count
from math import inf

from goliath.core.batch import offer
from goliath.core.devices import GPU, WHOLE, Grant, choose
from goliath.core.ids import Serial, SessionId, WorkerId
from goliath.core.node_events import FlushRange, Inspect, Kill, NodeCommand, Retire
from goliath.core.policy import NodePolicy
from goliath.core.work import Piece, Work, Worker, WorkerState
from goliath.record import record

SPLIT_AFTER_S = 0.004
"""A piece younger than this is not split: the worker needs up to one GIL switch (5 ms) to
answer, and the next batch is usually here sooner."""

ANSWER_MAX_S = 0.25
"""Nobody waits longer than this for what a worker can give back: it answers within 5 ms, unless it
is stopped, or in C code that keeps the GIL. What it gives back later is queued, like all else."""


LANES_FLUSHED = 10  # lanes that may report together as often as a worker alone would

AHEAD_MAX_S = 0.200
"""A worker whose last piece took longer gets nothing ahead: it would wait there for too long."""


SPARE_WORKERS = 16
"""Parked workers that are kept beside four a slot: deep recursions leave hundreds behind."""


@record
class Crew:
    """All workers of a node, from fork to exit."""

    slots: int
    resources: Mapping[str, float]
    policy: NodePolicy
    devices: Sequence[str] = ()
    workers: dict[WorkerId, Worker] = field(default_factory=dict)
    _actors: dict[tuple[SessionId, str], Worker] = field(default_factory=dict)
    _ids: Iterator[int] = field(default_factory=lambda: count(1))
    _serials: Iterator[int] = field(default_factory=lambda: count(1))

    # -- who does what -------------------------------------------------------------------

    def occupied(self) -> float:
        """CPUs that calls hold now."""
        busy = [w for w in self.workers.values() if w.piece is not None or w.lanes or w.actor]
        return sum([worker.takes_cpus() for worker in busy])

    def runs_anything(self) -> bool:
        """Whether any call is under way, though it may wait, or take no CPU."""
        return any(unit.piece is not None for unit in self.units())

    def units(self) -> Iterator[Worker]:
        """Whatever can have a piece: the workers, but for hosts, and their lanes."""
        for worker in self.workers.values():
            yield from worker.units

    def has_resources(self, work: Work) -> bool:
        """Whether what the batch needs beside CPUs is free."""
        for name, amount in work.resources.items():
            if name == GPU:
                if self._choose_devices(work) is None:
                    return False
                continue
            if self.used(name) + amount > offer(self.resources, name):
                return False
        return True

    def used(self, resource: str) -> float:
        """How much of a resource is taken now."""
        if resource == GPU:  # a device is, as long as the process lives that has had it
            parts = sum(sum(worker.devices.values()) for worker in self.workers.values())
            return parts / WHOLE
        return sum(worker.takes(resource) for worker in self.workers.values())

    def _choose_devices(self, work: Work) -> Grant | None:
        held = (worker.devices for worker in self.workers.values())
        return choose(self.devices, held, work.resources.get(GPU, 0.0))

    def could_ever_run(self, work: Work) -> bool:
        """Whether the node is big enough for the batch."""
        if work.resources and any(
            amount > offer(self.resources, name) for name, amount in work.resources.items()
        ):
            return False
        return work.cpus <= self.slots

    def running(self, work: Work) -> list[Worker]:
        """Workers that have a piece of the batch and have not been told to go."""
        return [
            worker
            for worker in self.units()
            if worker.piece is not None
            and worker.piece.work is work
            and worker.state is not WorkerState.LEAVING
        ]

    def serves(self, session: SessionId) -> bool:
        """Whether anything of the session runs."""
        return any(
            worker.session == session and worker.work is not None
            for worker in self.workers.values()
        )

    def count_waiting(self) -> int:
        """How many workers have a call that waits for others."""
        return sum(any(unit.waiting for unit in w.units) for w in self.workers.values())

    def running_seconds(self, now: float) -> dict[SessionId, float]:
        """How long the calls of each session have been running."""
        running: dict[SessionId, float] = {}
        for worker in self.workers.values():
            for unit in worker.units:
                if unit.piece is not None and not unit.waiting:
                    elapsed = (now - unit.call_since) / len(worker.units)
                    session = unit.piece.work.session
                    running[session] = running.get(session, 0.0) + elapsed
        return running

    def splittable(self, session: SessionId | None = None) -> list[Worker]:
        """Workers with more than the running call to do, the most laden first."""
        found = [
            worker
            for worker in self.units()
            if worker.state is WorkerState.BUSY
            and worker.rest() > 1
            and not worker.actor
            and not worker.split_asked
            and not worker.revoking
            and not worker.barren
            and worker.kill_at == inf
            and (session is None or worker.session == session)
        ]
        return sorted(found, key=lambda worker: -worker.rest())

    def host(self, session: SessionId, environment: str) -> Worker | None:
        """The process of an actor, if it was started and has not been buried."""
        return self._actors.get((session, environment))

    def bury(self, worker: WorkerId) -> Worker | None:
        """A process is gone."""
        gone = self.workers.pop(worker, None)
        if gone is not None and gone.actor:
            del self._actors[gone.session, gone.environment]
        return gone

    # -- a worker's life -----------------------------------------------------------------

    def idle(self, session: SessionId, environment: str) -> Worker | None:
        """A parked worker of this session and environment."""
        for worker in self.workers.values():
            if (
                worker.state is WorkerState.IDLE
                and worker.session == session
                and worker.environment == environment
            ):
                return worker
        return None

    def host_for(self, work: Work, *, another: bool = True) -> Worker | None:
        """The worker in which a call of a coroutine function is to run beside others like it; None
        if there is none, or if it should have another one (and may), because a slot is free for
        that."""
        hosts = [w for w in self.workers.values() if w.lanes and self._is_like(w, work)]
        roomy = [w for w in hosts if len(w.lanes) < work.concurrency and self.calls_left(w) != 0]
        if not roomy:
            return None
        free = self.slots - self.occupied()
        fits = another and len(hosts) < self.slots and work.cpus <= free
        if fits and self.has_resources(work):
            return None
        return min(roomy, key=lambda worker: len(worker.lanes))

    def has_lane_for(self, host: Worker, work: Work) -> bool:
        """Whether the process of an actor can begin another call of it now."""
        if host.state is WorkerState.IDLE:
            return True
        return (
            work.concurrency > 1
            and self._is_like(host, work)
            and len(host.lanes) < work.concurrency
            and (not work.group_limit or host.groups.get(work.group, 0) < work.group_limit)
        )

    @staticmethod
    def _is_like(host: Worker, work: Work) -> bool:
        there = host.work
        return (
            there is not None
            and not host.closed
            and host.state is not WorkerState.LEAVING
            and (there.home, there.environment) == (work.home, work.environment)
            and (there.concurrency, there.cpus) == (work.concurrency, work.cpus)
            and there.resources == work.resources
        )

    def join(self, host: Worker, piece: Piece, now: float) -> Worker:
        """A lane of a worker, which was idle, is only starting, or has others."""
        lane = Worker(host.id, host.session, host.environment, host.cpus, host=host, piece=piece)
        lane.actor = host.actor
        lane.serial = Serial(next(self._serials))
        lane.since = lane.call_since = now
        if not host.lanes:
            host.has_waited = host.split_asked = False
            host.flush_at = now + piece.work.linger_s
        if host.state is WorkerState.IDLE:
            host.move(WorkerState.BUSY, now)
        host.lanes[lane.serial] = lane
        host.groups[piece.work.group] = host.groups.get(piece.work.group, 0) + 1
        if host.state is WorkerState.BUSY:
            lane.move(WorkerState.BUSY, now)
            self.begin_timing(lane, now)
        return lane

    def hire(self, session: SessionId, work: Work, now: float) -> Worker:
        """A new worker; it must still be forked. There must be devices for it, if it needs any."""
        devices = self._choose_devices(work)
        assert devices is not None
        worker = Worker(WorkerId(next(self._ids)), session, work.environment, work.cpus)
        worker.since = worker.call_since = now
        worker.devices = devices
        worker.retire_after = bool(devices)  # what it has allocated on them goes only with it
        if work.actor:
            worker.actor, worker.retire_after = True, False
            worker.resources = work.resources
            self._actors[session, work.environment] = worker
        self.workers[worker.id] = worker
        return worker

    def hand(self, worker: Worker, piece: Piece, now: float) -> None:
        """Give a worker something to do; if it is only starting, it will find it."""
        worker.piece = piece
        worker.serial = Serial(next(self._serials))
        worker.split_asked = worker.barren = worker.has_waited = False
        worker.overdue = None
        if worker.state is WorkerState.IDLE:
            worker.move(WorkerState.BUSY, now)
            self.begin_timing(worker, now)

    def hand_ahead(self, worker: Worker, piece: Piece) -> None:
        """Give a busy worker what it shall do next, so that it need not wait for it."""
        worker.ahead = piece
        worker.ahead_serial = Serial(next(self._serials))

    def promote(self, worker: Worker, now: float) -> None:
        """The worker has begun, or is about to begin, what was ahead."""
        assert worker.ahead is not None
        worker.piece, worker.serial = worker.ahead, worker.ahead_serial
        worker.ahead = None
        worker.split_asked = worker.barren = False
        worker.overdue = None
        self.begin_timing(worker, now)

    @staticmethod
    def take_ahead(worker: Worker) -> Piece:
        """Take back what is ahead: the worker will not begin it."""
        piece = worker.ahead
        assert piece is not None
        worker.ahead = None
        return piece

    def free_to_plan(self, session: SessionId) -> list[Worker]:
        """Busy workers of a session that will soon be done and have nothing ahead."""
        policy = self.policy
        if policy.tasks_per_worker_max is not None or policy.bytes_per_worker_max is not None:
            return []  # what it is to run next depends on how it leaves this
        return [
            worker
            for worker in self.workers.values()
            if worker.pace_s <= AHEAD_MAX_S
            and not worker.actor
            and not worker.lanes
            and worker.ahead is None
            and not worker.waiting
            and not worker.revoking
            and worker.state is WorkerState.BUSY
            and worker.session == session
            and not worker.retire_after
            and worker.kill_at == inf
        ]

    def revocable(self, session: SessionId | None = None) -> list[Worker]:
        """Workers that could be asked to give back what is ahead."""
        return [
            worker
            for worker in self.workers.values()
            if worker.ahead is not None
            and not worker.revoking
            and not worker.split_asked
            and worker.state is WorkerState.BUSY
            and (session is None or worker.session == session)
        ]

    def begin_timing(self, worker: Worker, now: float) -> None:
        """The worker starts its piece."""
        piece = worker.piece
        assert piece is not None
        worker.since = now
        # There is nothing to be hurried; or they are, all lanes at once.
        at_once = piece.work.careful or piece.hi - piece.lo < 2 or worker.host is not None
        worker.flush_at = inf if at_once else now + piece.work.linger_s
        self.time_call(worker, now)

    @staticmethod
    def time_call(worker: Worker, now: float) -> None:
        """The worker starts a call, as far as is known."""
        assert worker.piece is not None
        worker.call_since = now
        timeout_s = worker.piece.work.timeout_s
        worker.inspect_at = inf if timeout_s is None else now + timeout_s

    @staticmethod
    def release(worker: Worker, now: float) -> Piece:
        """The worker is done with its piece; what it has not run is still in it."""
        piece = worker.piece
        assert piece is not None
        worker.piece = None
        worker.pace_s = now - worker.since
        worker.flush_at = worker.inspect_at = worker.kill_at = inf
        if worker.host is not None:
            del worker.host.lanes[worker.serial]
            worker.host.groups[piece.work.group] -= 1
        return piece

    def is_worn(self, worker: Worker) -> bool:
        """Whether it should be replaced before it runs anything else."""
        if worker.actor:
            return worker.retire_after
        limit = self.policy.tasks_per_worker_max
        if worker.retire_after or (limit is not None and worker.calls >= limit):
            return True
        enough = 4 * self.slots + SPARE_WORKERS
        if len(self.workers) <= enough:
            return False
        idle = (w.state is WorkerState.IDLE and not w.actor for w in self.workers.values())
        return sum(idle) > enough

    def has_outgrown(self, worker: Worker, resident_bytes: int) -> bool:
        """Whether its memory has become so much that it should be replaced. An actor is its state:
        nobody could replace it."""
        limit = self.policy.bytes_per_worker_max
        return limit is not None and resident_bytes > limit and not worker.actor

    def calls_left(self, worker: Worker) -> int | None:
        """How many calls it may still be handed; None if any number."""
        limit = None if worker.actor else self.policy.tasks_per_worker_max
        if limit is None:
            return None
        left = limit - worker.calls - sum(lane.rest() for lane in worker.lanes.values())
        return max(left, 0 if worker.lanes else 1)

    @staticmethod
    def kill(worker: Worker, now: float) -> Kill:
        """End it, whatever it does; of a lane, the whole process."""
        host = worker.host or worker
        for each in (host, *host.lanes.values()):
            if each.state is not WorkerState.LEAVING:
                each.move(WorkerState.LEAVING, now)
            each.flush_at = each.inspect_at = each.kill_at = inf
        return Kill(host.id)

    @staticmethod
    def retire(worker: Worker, now: float) -> Retire:
        """Let it go; it has nothing to do."""
        worker.move(WorkerState.LEAVING, now)
        return Retire(worker.id)

    # -- time ----------------------------------------------------------------------------

    def keep_time(
        self, now: float, *, share: bool, exhausted: Collection[SessionId] = ()
    ) -> tuple[list[NodeCommand], float]:
        """Look after every worker once: flush, look for calls that run too long, kill, let the
        parked go, and share out what one has and another could do.

        This is done for every event: one pass takes a third of the time of one for each duty.

        Args:
            now: the time.
            share: whether idle slots may be filled from what runs beside them.
            exhausted: sessions that may fill no further slot.

        Returns:
            What is due; and when something will be due that has no other cause than time.
        """
        due: list[NodeCommand] = []
        next_at = inf
        occupied = 0.0
        laden = roomy = False
        for worker in self.workers.values():
            piece = worker.piece
            if worker.state is WorkerState.IDLE and not worker.actor:  # it takes and has nothing
                at = worker.since + self.policy.parked_max_s
                if at <= now:
                    due.append(self.retire(worker, now))
                    continue
            else:
                occupied += worker.takes_cpus()
                laden = laden or worker.is_laden()
                if worker.lanes:
                    roomy = roomy or self._has_room(worker)
                    at = self._keep_time_of_lanes(worker, due, now)
                elif piece is not None:
                    at = min(worker.flush_at, worker.inspect_at, worker.kill_at)
                    if at <= now:
                        due += self._overdue(worker, piece, now)
                        at = min(worker.flush_at, worker.inspect_at, worker.kill_at)
                else:
                    continue
            if at < next_at:
                next_at = at
        if share and laden and (roomy or occupied < self.slots):
            free = self.slots - occupied
            next_at = min(next_at, self._split_for_the_idle(free, exhausted, due, now))
        return due, next_at

    @staticmethod
    def _has_room(host: Worker) -> bool:
        """Whether lanes of a worker may be split for others in it: one at a time, as a loop that is
        busy gains nothing by more of them."""
        work = host.work
        return work is not None and not host.split_asked and len(host.lanes) < work.concurrency

    def _keep_time_of_lanes(self, host: Worker, due: list[NodeCommand], now: float) -> float:
        """When something is due of any of them."""
        next_at, heavy = inf, 0
        for lane in host.lanes.values():
            piece = lane.piece
            assert piece is not None
            heavy += piece.hi - piece.lo > 1
            at = min(lane.inspect_at, lane.kill_at)
            if at <= now:
                due += self._overdue(lane, piece, now)
                at = min(lane.inspect_at, lane.kill_at)
            if at < next_at:
                next_at = at
        if not heavy or host.state is not WorkerState.BUSY:
            return next_at
        if host.flush_at <= now:
            # Each may answer by a message: the more there are, the more seldom they are asked.
            assert host.work is not None
            host.flush_at = now + host.work.linger_s * (1 + heavy / LANES_FLUSHED)
            due.append(FlushRange(host.id, Serial(0)))
        return min(next_at, host.flush_at)

    def _overdue(self, worker: Worker, piece: Piece, now: float) -> Iterator[NodeCommand]:
        if worker.flush_at <= now:
            worker.flush_at = now + piece.work.linger_s if len(piece) > 1 else inf
            yield FlushRange(worker.id, worker.serial)
        if worker.inspect_at <= now:
            worker.inspect_at = inf
            yield Inspect(worker.id, worker.serial)
        if worker.kill_at <= now:
            yield self.kill(worker, now)

    def _split_for_the_idle(
        self, free: float, exhausted: Collection[SessionId], due: list[NodeCommand], now: float
    ) -> float:
        """While slots, or lanes beside them, are idle, have running pieces split.

        Returns:
            When one that is too young for that now will be old enough.
        """
        next_at = inf
        for worker in self.workers.values():
            if (worker.split_asked or worker.revoking) and now < worker.asked_at + ANSWER_MAX_S:
                free -= 1  # it has been asked on behalf of one
                next_at = min(next_at, worker.asked_at + ANSWER_MAX_S)
        for worker in self.revocable() + self.splittable():
            assert worker.piece is not None
            work, ripe_at = worker.piece.work, worker.since + SPLIT_AFTER_S
            beside = worker.host is not None and self._has_room(worker.host)
            if worker.session in exhausted and not beside:
                continue
            if ripe_at > now:
                next_at = min(next_at, ripe_at)
                continue
            if not beside and (free < work.cpus or not self.has_resources(work)):
                continue
            free -= not beside
            due.append(worker.revoke(now) if worker.ahead is not None else worker.split(now))
        return next_at

    def check(self) -> None:
        """Raise `AssertionError` if the books do not agree with each other."""
        # Each of them may have got one when it was starved, even if the others have left since.
        starving: set[SessionId] = set()
        # And whoever has waited goes on when it need not wait any more, with what is ahead too.
        resumed = 0.0
        for device in self.devices:
            parts = sum(worker.devices.get(device, 0) for worker in self.workers.values())
            assert parts <= WHOLE, f"device {device} is given out beyond what there is of it"
        for worker in self.workers.values():
            work = worker.work
            leaving = worker.state is WorkerState.LEAVING  # with what is ahead of it
            assert worker.ahead is None or worker.piece is not None or leaving, worker
            assert work is not None or worker.state is not WorkerState.BUSY, worker
            assert worker.state is not WorkerState.IDLE or work is None, worker
            assert worker.piece is not None or not worker.waiting, worker
            if worker.actor:
                assert self._actors[worker.session, worker.environment] is worker, worker
                assert worker.ahead is None, worker
            if work is not None:
                assert worker.devices or not work.resources.get(GPU), worker
                starving.add(worker.session)
                resumed += work.cpus * worker.has_waited
            if worker.lanes or worker.groups:
                self._check_lanes(worker)
            assert worker.host is None, f"worker {worker.id} is a lane of another"
        beyond = self.occupied() - self.slots - resumed
        if beyond > 0:
            running = [w.piece for w in self.units() if w.piece is not None]
            most = max((piece.work.cpus for piece in running), default=1.0)
            assert beyond <= len(starving) * most, "more calls run than there are slots"

    @staticmethod
    def _check_lanes(host: Worker) -> None:
        assert host.piece is None or not host.lanes, f"worker {host.id} has lanes beside a piece"
        crowds: dict[str, int] = {}
        for serial, lane in host.lanes.items():
            assert lane.piece is not None, f"an empty lane of worker {host.id}"
            assert (lane.host, lane.serial, lane.state) == (host, serial, host.state), lane.serial
            work = lane.piece.work
            assert len(host.lanes) <= work.concurrency, f"worker {host.id} has too many lanes"
            crowds[work.group] = crowds.get(work.group, 0) + 1
            assert crowds[work.group] <= (work.group_limit or work.concurrency), work.group
            assert host.work is not None
            assert (work.cpus, work.resources) == (host.work.cpus, host.work.resources), serial
        counted = {group: count for group, count in host.groups.items() if count}
        assert counted == crowds, f"worker {host.id} counts {counted} lanes and has {crowds}"
