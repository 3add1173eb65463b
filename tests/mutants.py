"""Sabotages of the minds, by hand, each of which must turn the simulation or a unit test red.

``python -m tests.mutants`` prints who caught whom. A mutant is one method whose source is
changed in one place; a mutant that survives is a hole in the tests, and one that no longer
fits the source must be cut anew.
"""

from __future__ import annotations

import inspect
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from goliath.core import events as ev
from tests.core import (
    books,
    test_actors,
    test_ahead,
    test_cancelling,
    test_deadlock,
    test_depot,
    test_devices,
    test_fairness,
    test_feasibility,
    test_lanes,
    test_node,
    test_placement,
    test_policy,
    test_pressure,
    test_quotas,
    test_residents,
    test_resumption,
    test_scheduler,
    test_session,
    test_solitude,
    test_speculation,
    test_waiting,
)
from tests.sim.cluster import Cluster

SEEDS_MAX = 500
STEPS_MAX = 40_000

Witness = Callable[[], None]


@dataclass(frozen=True, slots=True)
class Mutant:
    """One sabotage: in ``target``, ``old`` becomes ``new``.

    ``witness`` is a unit test that sees it, where no simulated run can tell the difference
    because two fences guard one gate. ``seed`` is the first run that did, when it was cut: the
    hunt begins there, and goes through all of them if that one does not see it any more.
    """

    name: str
    target: str
    old: str
    new: str
    witness: Witness | None = None
    seed: int = 0


def stale_attempt() -> None:
    """A report of a later attempt than was made."""
    stale = ev.RangeFinished(books.A, books.batch(1), test_scheduler.TWO, 0, 3, 0.1)
    test_scheduler.test_a_report_of_another_node_attempt_or_batch_is_dropped_in_silence(stale)


def foreign_report() -> None:
    """A report of a node that never had the batch."""
    stale = ev.RangeFinished(books.B, books.batch(1), books.ONE, 0, 3, 0.1)
    test_scheduler.test_a_report_of_another_node_attempt_or_batch_is_dropped_in_silence(stale)


def called_too_early() -> None:
    """A call beside ``__init__``, where calls run beside each other."""
    test_residents.test_what_it_is_called_before_it_is_made_waits_for_it(3)


SCHEDULER, NODE = "goliath.core.scheduler:Scheduler.", "goliath.core.node:Node."
QUEUES, SURRENDER = "goliath.core.queues:Queues.", "goliath.core.surrender:Surrender."
CREW, BATCH = "goliath.core.crew:Crew.", "goliath.core.batch:Batch."
DEATHS, DEPOT = "goliath.core.deaths:", "goliath.core.depot:Depot."
PRESSURE = "goliath.core.pressure:Pressure."
RESUMPTION = "goliath.core.resumption:Resumption."
DEADLOCK, RESIDENCY = "goliath.core.deadlock:", "goliath.core.residency:Residency."
SESSION, QUOTAS = "goliath.core.session:Session.", "goliath.core.quotas:Quotas."

MUTANTS = [
    Mutant(
        "accepts stale attempts",
        SCHEDULER + "_current",
        " or batch.attempt != attempt",
        "",
        witness=stale_attempt,
    ),
    Mutant(
        "does not ask which node reports",
        SCHEDULER + "_current",
        " or batch.node != node",
        "",
        witness=foreign_report,
    ),
    Mutant(
        "forgets to raise the attempt",
        SCHEDULER + "_assign",
        "Attempt(batch.attempt + 1)",
        "batch.attempt",
        witness=test_scheduler.test_a_parcel_goes_to_the_node_with_the_most_room,
    ),
    Mutant(
        "gives away what was stolen without closing it",
        SCHEDULER + "_on_steal_answered",
        "batch is None or not batch.close(lo, hi)",
        "batch is None",
        seed=3,
    ),
    Mutant(
        "repeats what a lost node had reported",
        SCHEDULER + "_on_lost",
        "in reversed(batch.open)",
        "in [(batch.lo, batch.hi)]",
        witness=test_scheduler.test_what_a_lost_node_did_not_report_goes_to_another_one,
    ),
    Mutant(
        "loses what a lost node had not reported",
        SCHEDULER + "_on_lost",
        "self._requeue(job, batch, lo, hi, begun=True)",
        "pass",
        seed=2,
    ),
    Mutant(
        "runs twice what may run once",
        SCHEDULER + "_on_lost",
        "job.options.max_retries == 0 or ",
        "",
        witness=test_scheduler.test_a_call_that_may_run_once_is_failed_when_its_node_is_lost,
    ),
    Mutant(
        "never charges blame",
        SCHEDULER + "_charge",
        "batch.blamed + 1 + batch.suspicion.take()",
        "0",
    ),
    Mutant(
        "tries calls that use up the memory as often as any",
        SCHEDULER + "_charge",
        "min(job.options.max_retries, OOM_RETRIES)",
        "job.options.max_retries",
        witness=test_scheduler.test_a_call_that_has_used_up_the_memory_is_tried_once_more_alone_and_no_oftener,
    ),
    Mutant(
        "lets others begin where a call is to run alone",
        "goliath.core.solitude:Solitude.bars",
        "in running or self._wanted()",
        "in running",
        witness=test_solitude.test_it_begins_when_all_else_has_ended_and_nothing_else_begins_before_it_has,
    ),
    Mutant(
        "keeps a call that is to run alone from another that may wait for it",
        "goliath.core.solitude:Solitude.bars",
        "any(work.depth <= other.depth for other in running)",
        "bool(running)",
        witness=test_solitude.test_one_that_another_may_wait_for_is_kept_away_by_it_no_longer_than_its_patience,
    ),
    Mutant(
        "tries what has used up the memory beside others",
        "goliath.core.node:Node._next_piece",
        "(self._queues.alone and",
        "(False and",
        witness=test_solitude.test_it_waits_for_what_runs_no_longer_than_its_patience,
    ),
    Mutant(
        "forgets unexplained deaths",
        SCHEDULER + "_piece",
        "batch.suspicion, batch.near",
        "piece.suspicion, batch.near",
        witness=test_scheduler.test_an_unexplained_death_is_not_forgotten_when_what_is_left_comes_back,
    ),
    Mutant(
        "charges the first call for an unexplained death",
        SCHEDULER + "_on_crash",
        "event.guilty\n",
        "max(event.guilty, lo)\n",
    ),
    Mutant(
        "retries exceptions for ever",
        SCHEDULER + "_retry_failures",
        "batch.blamed >= job.options.max_retries",
        "False",
        witness=test_scheduler.test_a_call_that_raised_what_is_retried_is_not_settled_while_it_has_tries_left,
    ),
    Mutant("ends a job too early", SCHEDULER + "_maybe_ended", "not job.live and ", ""),
    Mutant(
        "settles what was cancelled",
        SCHEDULER + "_on_finished",
        "if batch.state is not BatchState.CANCELLING",
        "if True",
        witness=test_cancelling.test_nothing_is_settled_of_a_parcel_whose_every_call_has_ended,
    ),
    Mutant(
        "settles a call that was cancelled among others",
        SCHEDULER + "_on_finished",
        "self._retry_failures(job, batch, retryable) + unwanted",
        "self._retry_failures(job, batch, retryable)",
        seed=18,
    ),
    Mutant(
        "tries a cancelled call again that raised",
        SCHEDULER + "_on_finished",
        "if call not in unwanted",
        "",
        test_cancelling.test_a_cancelled_call_that_raised_is_not_tried_again,
    ),
    Mutant(
        "sends a cancelled call again with what came back",
        SCHEDULER + "_requeue",
        "batch.take_wanted(lo, hi)",
        "[(lo, hi)]",
        seed=18,
    ),
    Mutant(
        "fails a cancelled call again with the others",
        SCHEDULER + "_fail_wanted",
        "batch.take_wanted(lo, hi)",
        "[(lo, hi)]",
        witness=test_cancelling.test_a_cancelled_call_that_kills_its_worker_is_neither_blamed_nor_run_again,
    ),
    Mutant(
        "loses what a cancelled call leaves of a range",
        "goliath.core.batch:_without",
        "(*spans, (lo, hi))",
        "spans",
    ),
    Mutant(
        "cancels a batch for one of its calls",
        SCHEDULER + "_go_on_with",
        " and batch.is_unwanted()",
        "",
        seed=4,
    ),
    Mutant(
        "leaves on its node what nobody wants",
        SCHEDULER + "_go_on_with",
        " and batch.is_unwanted()",
        " and False",
        seed=4,
    ),
    Mutant(
        "fails a call twice that is cancelled twice",
        BATCH + "wants",
        " and call not in self.unwanted",
        "",
        witness=test_cancelling.test_a_call_among_others_is_failed_at_once_and_its_outcome_dropped,
    ),
    Mutant(
        "fails a call of a cancelled batch again",
        BATCH + "wants",
        "self.state is BatchState.ASSIGNED and ",
        "",
        seed=16,
    ),
    Mutant(
        "loses the calls behind one that is cut out",
        SCHEDULER + "_cut_out",
        ", (call + 1, batch.hi))",
        ",)",
        seed=71,
    ),
    Mutant(
        "runs a call that was cut out",
        SCHEDULER + "_cut_out",
        "(call + 1, batch.hi)",
        "(call, batch.hi)",
        seed=8,
    ),
    Mutant(
        "does not end a job with the call that is cut out",
        SCHEDULER + "_cut_out",
        "yield from self._maybe_ended(job)",
        "pass",
        seed=9,
    ),
    Mutant(
        "cancels a call that was reported",
        BATCH + "has",
        "any(start <= call < end for start, end in self.open)",
        "self.lo <= call < self.hi",
        seed=4,
    ),
    Mutant(
        "never asks an owner again that has its fill",
        SCHEDULER + "_on_submitted",
        "self._feeding.watch(job)",
        "pass",
    ),
    Mutant(
        "asks an owner no more while its calls run",
        "goliath.core.feeding:Feeding.grant",
        "elif not job.live",
        "elif True",
    ),
    Mutant(
        "gives calls of an actor to a thief",
        "goliath.core.surrender:Surrender.begin",
        "if piece.work.actor:",
        "if False:",
        witness=test_actors.test_nothing_of_an_actor_is_stolen_or_split,
    ),
    Mutant(
        "puts another process in the place of a dead actor's",
        "goliath.core.node:Node._on_exited",
        "\n    elif worker.actor:",
        "\n    elif False:",
        witness=test_actors.test_with_its_process_an_actor_is_gone_and_what_waits_comes_back,
    ),
    Mutant(
        "runs calls of an actor wherever there is room",
        "goliath.core.scheduler:Scheduler._place",
        "self._home(job) if job.options.actor else self._choose(job, batch)",
        "self._choose(job, batch)",
        seed=28,
    ),
    Mutant(
        "makes calls of an actor twice",
        "goliath.core.scheduler:Scheduler._on_crash",
        "if job.options.actor:",
        "if False:",
        witness=test_actors.test_what_may_have_begun_and_what_has_not_is_told_apart_when_an_actor_dies,
    ),
    Mutant(
        "leaves a batch waiting whose worker is dead",
        "goliath.core.node:Node._on_exited",
        "yield from self._stop_waiting(unit)",
        "yield from ()",
        witness=test_waiting.test_a_worker_that_dies_while_its_call_waits_leaves_no_batch_waiting,
    ),
    Mutant(
        "leaves what is ahead behind a call that waits",
        "goliath.core.node:Node._on_waits",
        "worker.ahead is not None and not worker.revoking",
        "False",
        witness=test_waiting.test_what_is_ahead_of_a_worker_that_waits_is_called_back,
    ),
    Mutant(
        "queues what others wait for behind them",
        "goliath.core.queues:Queues.enqueue",
        "_first_below(queue, depth)",
        "len(queue)",
        seed=7,
    ),
    Mutant(
        "keeps the room of a batch that waits",
        "goliath.core.placement:NodeView.before",
        "return self.load -",
        "return len(self.held) -",
        witness=test_waiting.test_a_batch_that_waits_takes_no_room_of_its_nodes_window,
    ),
    Mutant(
        "keeps a slot idle behind a resource that is taken",
        "goliath.core.placement:NodeView.before",
        "if not options.resources:",
        "if True:",
        witness=test_placement.test_who_waits_for_a_resource_stands_in_the_way_of_those_only_who_want_it_too,
    ),
    Mutant(
        "waits for ever for a worker that is stopped",
        "goliath.core.surrender:Surrender.keep_time",
        "steal.awaited.clear()",
        "pass",
        witness=test_node.test_a_steal_waits_no_longer_than_that_for_a_worker_that_is_stopped,
    ),
    Mutant(
        "keeps a slot idle for a worker that is stopped",
        "goliath.core.crew:Crew._split_for_the_idle",
        "now < worker.asked_at + ANSWER_MAX_S",
        "True",
        witness=test_node.test_an_idle_slot_turns_to_another_worker_if_the_one_it_has_asked_is_stopped,
    ),
    Mutant(
        "asks a barren victim again at once",
        "goliath.core.robbery:Robbery._leave_in_peace",
        "victim.barren_until = now + victim.barren_s",
        "pass",
        seed=6,
    ),
    Mutant(
        "believes a victim silent that has answered",
        "goliath.core.robbery:Robbery.answered",
        "victim.asked = False",
        "victim.asked = True",
        witness=test_scheduler.test_a_barren_victim_is_left_in_peace_for_longer_each_time,
    ),
    Mutant(
        "places on draining nodes",
        "goliath.core.scheduler:choose_node",
        "if node.draining:",
        "if False:",
        witness=test_scheduler.test_a_draining_node_gets_nothing_new,
    ),
    Mutant(
        "ignores cancels that overtook their batch",
        QUEUES + "refusal",
        "self.tombstones.pop(work.key, self) is None",
        "False",
        witness=test_node.test_a_cancel_that_overtakes_its_batch_is_remembered,
    ),
    Mutant(
        "leaves a steal unanswered when the worker dies",
        NODE + "_on_exited",
        "yield from self._surrender.forget(unit)",
        "pass",
        witness=test_node.test_a_steal_is_answered_even_if_the_worker_dies_first,
    ),
    Mutant(
        "forgets the rest after a split",
        SURRENDER + "_pass_on",
        "yield from self.queues.requeue(piece)",
        "yield from self.queues.drop(piece)",
        seed=4,
    ),
    Mutant(
        "gives the rest away and keeps it too",
        SURRENDER + "on_yielded",
        "piece.hi = event.at",
        "pass",
        seed=4,
    ),
    Mutant(
        "runs a cancelled piece again", QUEUES + "requeue", "piece.work.cancelled", "False", seed=55
    ),
    Mutant("believes every worker", NODE + "_on_progressed", "if not honest", "if False"),
    Mutant(
        "blames the first call of a batch for a death in it",
        DEATHS + "settle",
        "piece.work.careful or len(piece) == 1",
        "True",
        seed=13,
    ),
    Mutant(
        "lets a dead session's workers live",
        NODE + "_on_closed",
        "worker.session == session_id and ",
        "False and ",
        seed=15,
    ),
    Mutant(
        "waits for ever for an interrupt to be heeded",
        NODE + "_on_cancel",
        "worker.kill_at = now + self._policy.cancel_grace_s",
        "pass",
        witness=test_node.test_a_call_that_does_not_heed_an_interrupt_is_killed_after_the_grace,
    ),
    Mutant(
        "takes bystanders for late",
        DEATHS + "settle",
        "unit.overdue == piece.lo",
        "True",
        witness=test_node.test_a_call_that_began_when_its_neighbours_kill_was_on_the_way_is_a_bystander,
    ),
    Mutant(
        "keeps its queue when it drains",
        QUEUES + "drain",
        "while session.queue",
        "while False",
        witness=(test_node.test_a_draining_node_returns_its_queue_finishes_what_runs_and_says_so),
    ),
    Mutant(
        "serves whoever comes first",
        "goliath.core.fairness:DeficitRoundRobin.charge",
        "-= seconds",
        "-= 0",
        witness=test_fairness.test_who_used_more_waits_longer,
    ),
    Mutant(
        "lets small batches wait for big ones",
        "goliath.core.scheduler:choose_node",
        "bytes_max *= 2",
        "pass",
        witness=test_scheduler.test_a_small_call_is_placed_beside_a_job_whose_bytes_fill_the_window,
    ),
    Mutant(
        "leaves slots idle because of bytes",
        "goliath.core.placement:NodeView.has_its_fill",
        "return self.share(options) >= 1 or options.concurrency > 1",
        "return True",
        witness=test_placement.test_no_slot_is_left_idle_because_of_bytes,
    ),
    Mutant(
        "never lets the place of an actor again that is gone",
        "goliath.core.placement:NodeView.unhouse",
        "self.let[name] -= amount",
        "pass",
        witness=test_placement.test_an_actor_waits_where_no_node_has_a_place_for_it_and_gets_the_first_that_comes_free,
    ),
    Mutant(
        "forgets the bytes of a batch that is done",
        "goliath.core.placement:NodeView.drop",
        "self.held_bytes -= batch.nbytes",
        "pass",
        witness=test_placement.test_a_dropped_batch_gives_its_bytes_back,
    ),
    Mutant(
        "ignores gaps in a session",
        SESSION + "accept",
        "seq == self.seen + 1",
        "seq > self.seen",
        seed=63,
    ),
    Mutant("accepts a frame twice", SESSION + "accept", "return False", "return True", seed=24),
    Mutant("forgets what is in doubt", SESSION + "in_doubt", "self._kept)", "())", seed=4),
    Mutant(
        "forgets a frame before it is acknowledged",
        SESSION + "acknowledge",
        "<= ack",
        "<= ack + 1",
        seed=4,
    ),
    Mutant(
        "puts a piece behind one that may have been revoked",
        CREW + "free_to_plan",
        "and not worker.revoking",
        "",
        test_ahead.test_nothing_is_put_behind_a_piece_that_may_have_been_revoked,
    ),
    Mutant(
        "forgets what was ahead of a worker that died",
        NODE + "_on_exited",
        "if worker.ahead is not None:",
        "if False:",
        seed=7,
    ),
    Mutant(
        "starts what was ahead of a dirty worker twice",
        NODE + "_go_on",
        "yield self._crew.kill(worker, now)",
        "",
        test_ahead.test_a_dirty_worker_does_not_go_on,
    ),
    Mutant(
        "keeps what a thief has revoked",
        SURRENDER + "_revoked",
        "return self.crew.take_ahead(worker)",
        "return None",
        seed=14,
    ),
    Mutant(
        "takes back what a worker gives back unasked",
        SURRENDER + "_revoked",
        "worker.ahead is not None or worker.ahead_serial != event.serial",
        "False",
        test_ahead.test_a_worker_that_gives_back_unasked_what_it_runs_is_not_heard,
    ),
    Mutant(
        "uses a worker again that has a GPU",
        CREW + "hire",
        "worker.retire_after = bool(devices)",
        "worker.retire_after = False",
        test_devices.test_a_worker_with_devices_leaves_after_its_piece_and_they_are_free_when_it_is_gone,
    ),
    Mutant(
        "gives devices of those who leave away",
        CREW + "_choose_devices",
        "for worker in self.workers.values()",
        "for worker in self.workers.values() if worker.piece",
        seed=6,
    ),
    Mutant(
        "lets who needs less of a resource pass who waits for it",
        NODE + "_next_piece",
        "awaited.intersection(work.resources)",
        "False",
        test_devices.test_who_waits_for_a_device_holds_up_only_those_who_want_one_too,
    ),
    Mutant(
        "gives up for good what a later node can run",
        SCHEDULER + "_on_joined",
        "job.abandoned = None",
        "pass",
        test_feasibility.test_a_node_that_comes_too_late_is_used_for_what_is_submitted_then,
    ),
    Mutant(
        "tells every job's owner the same",
        "goliath.core.feasibility:Feasibility.stuck",
        "self._said.add(lacking)",
        "",
        test_feasibility.test_what_no_node_can_run_is_said_once_and_an_error_later,
    ),
    Mutant(
        "knows which of those that died together did it",
        DEATHS + "settle",
        "guilty = piece.lo if len(struck) == 1 else -1",
        "guilty = piece.lo",
        test_lanes.test_when_their_worker_dies_nobody_knows_which_of_them_did_it,
    ),
    Mutant(
        "has idle actors make room for other processes",
        NODE + "_make_room",
        " and not worker.actor",
        "",
        witness=test_node.test_an_actor_that_has_nothing_to_do_does_not_make_room_for_others,
    ),
    Mutant(
        "starts processes at once where there is no room",
        NODE + "_has_place",
        "now >= self._crowded_until",
        "True",
        witness=test_node.test_where_there_is_no_room_for_a_process_calls_wait_and_their_environment_is_sound,
    ),
    Mutant(
        "blames those who are killed on account of another",
        DEATHS + "settle",
        '"bystander" if spared else "crashed"',
        '"crashed"',
        test_lanes.test_one_that_does_not_care_is_killed_and_those_beside_it_are_bystanders,
    ),
    Mutant(
        "runs whoever may run once again when another ended its worker",
        SCHEDULER + "_on_crash",
        "guilty < 0 and not job.options.max_retries",
        "False",
        witness=test_lanes.test_one_that_may_run_once_fails_with_those_beside_it,
    ),
    Mutant(
        "counts a death once for each that died in it",
        SCHEDULER + "_on_crash",
        "Suspicion() if batch.concurrency > 1 else batch.suspicion",
        "batch.suspicion",
        witness=test_lanes.test_parts_of_a_batch_that_die_together_are_one_death,
    ),
    Mutant(
        "runs those that are suspected beside others again",
        SCHEDULER + "_on_crash",
        "piece.careful, piece.concurrency, piece.suspicion = True, 1, suspicion",
        "piece.careful, piece.suspicion = True, suspicion",
        test_lanes.test_whoever_ran_beside_others_when_their_worker_died_runs_again_alone,
    ),
    Mutant(
        "lets a plain call into the loop of others",
        CREW + "_is_like",
        "(there.concurrency, there.cpus) == (work.concurrency, work.cpus)",
        "there.cpus == work.cpus",
        test_lanes.test_calls_of_another_limit_wait_for_a_slot,
    ),
    Mutant(
        "lets more run at once than were allowed",
        CREW + "host_for",
        "len(w.lanes) < work.concurrency",
        "True",
        seed=4,
    ),
    Mutant(
        "lets a group of an actor's calls take the room of another",
        CREW + "has_lane_for",
        "host.groups.get(work.group, 0) < work.group_limit",
        "True",
        seed=10,
    ),
    Mutant(
        "does not give the room back that a call had in its group",
        CREW + "release",
        "worker.host.groups[piece.work.group] -= 1",
        "pass",
    ),
    Mutant(
        "lets cancelled calls of one group keep those of another away",
        "goliath.core.scheduler:actor_window",
        "GROUPS_WINDOW if options.groups else ACTOR_WINDOW",
        "ACTOR_WINDOW",
        test_actors.test_what_was_cancelled_in_a_group_and_runs_on_keeps_no_other_group_away,
    ),
    Mutant(
        "parks a worker that has lanes",
        NODE + "_free_lane",
        "elif not host.lanes:",
        "else:",
    ),
    Mutant(
        "does not answer a thief for a lane that has ended",
        NODE + "_free_lane",
        "yield from self._surrender.forget(lane)",
        "",
        test_lanes.test_a_thief_is_answered_when_the_lane_that_was_asked_has_ended,
    ),
    Mutant(
        "strikes whoever follows a call that was late",
        NODE + "_on_inspected",
        "InterruptRange(worker.id, worker.serial, event.index)",
        "InterruptRange(worker.id, worker.serial)",
        test_lanes.test_one_whose_time_is_up_is_interrupted_and_returned,
    ),
    Mutant(
        "holds a late call that ended against its lane",
        NODE + "_on_progressed",
        "worker.kill_at = worker.kill_at if piece.work.cancelled else inf",
        "pass",
        test_lanes.test_what_follows_a_late_call_that_ended_is_not_killed_for_it,
    ),
    Mutant(
        "does not take a batch that waits for a part of a slot",
        "goliath.core.placement:NodeView.wait",
        "_count(self.shared, batch.concurrency, -1 if waiting else 1)",
        "pass",
        seed=4,
    ),
    Mutant(
        "leaves with what somebody may want",
        NODE + "handle",
        "self._drained or self._depot or",
        "self._drained or",
        test_depot.test_a_node_that_drains_leaves_when_all_it_keeps_was_forgotten,
    ),
    Mutant(
        "keeps what is made while it drains",
        NODE + "_on_drain",
        "self._depot.closed = True",
        "pass",
        test_depot.test_a_node_that_drains_leaves_when_all_it_keeps_was_forgotten,
    ),
    Mutant(
        "keeps the results of a Commander that is gone",
        NODE + "_on_closed",
        "self._depot.leave(session_id)",
        "pass",
    ),
    Mutant(
        "does not forget what nobody wants",
        DEPOT + "forget",
        "self.held_bytes -= size",
        "pass",
    ),
    Mutant(
        "keeps more than it may",
        DEPOT + "admit",
        "if excess > 0 else []",
        "if excess > size else []",
        seed=6,
    ),
    Mutant(
        "writes what calls take",
        DEPOT + "_oldest",
        " and place not in busy",
        "",
        test_depot.test_what_calls_take_is_not_written_and_then_the_new_one_is,
    ),
    Mutant(
        "writes first what was used last",
        DEPOT + "use",
        "place in self._resting",
        "False",
        test_depot.test_what_memory_has_no_room_for_pushes_out_what_was_used_least_recently,
    ),
    Mutant(
        "leaves in memory what was entrusted, however much that is",
        DEPOT + "make_room",
        "excess > 0 and",
        "False and",
        test_depot.test_what_is_entrusted_is_kept_in_any_case_and_pushes_out_what_it_can,
    ),
    Mutant(
        "does not leave before what was entrusted is forgotten",
        DEPOT + "__bool__",
        "self.held_bytes > self.entrusted_bytes",
        "self.held_bytes > 0",
        test_depot.test_a_node_that_drains_does_not_wait_for_what_its_commander_has_itself,
    ),
    Mutant(
        "writes more than the disk may have",
        DEPOT + "_disk_left",
        " - self.spilled_bytes",
        "",
        test_depot.test_the_disk_has_a_limit_too,
    ),
    Mutant(
        "forgets what was spilled but for its place",
        DEPOT + "forget",
        "self.spilled_bytes -= size",
        "pass",
        seed=1,
    ),
    Mutant(
        "counts what nobody wants as spilled",
        DEPOT + "written",
        "return  # nobody wants it any more",
        "pass",
        seed=6,
    ),
    Mutant(
        "tries a full disk again at once",
        DEPOT + "written",
        "self._spill_from = now + RETRY_S",
        "pass",
        test_depot.test_what_could_not_be_written_stays_and_for_a_while_nothing_is_tried,
    ),
    Mutant(
        "has one result written twice",
        DEPOT + "take_due",
        "due, self.due = self.due, []",
        "due = list(self.due)",
        seed=1,
    ),
    Mutant(
        "lets the disk be overtaken without bound",
        DEPOT + "_may_write",
        " and self.writing_bytes < WRITING_BYTES",
        "",
        test_depot.test_what_is_made_faster_than_it_can_be_written_goes_along,
    ),
    Mutant(
        "does not know what calls take",
        NODE + "_deposits_in_use",
        "for key in work.deposits",
        "for key in ()",
        test_depot.test_a_node_has_what_no_call_takes_written_before_it_keeps_more,
    ),
    Mutant(
        "forgets what belongs to another Commander",
        DEPOT + "forget",
        "sizes = self._sizes.get(session, {})",
        "sizes = next(iter(self._sizes.values()))",
        test_depot.test_what_is_forgotten_makes_room_and_is_forgotten_once,
    ),
    Mutant(
        "begins all it has though memory is short",
        PRESSURE + "holds_back",
        "if self.level is Level.EASY:",
        "if True:",
        seed=2,
    ),
    Mutant(
        "begins nothing at all when memory is short",
        PRESSURE + "holds_back",
        "if not busy and not lingers:",
        "if False:",
        test_pressure.test_what_runs_goes_on_and_where_nothing_else_runs_one_call_at_a_time_begins,
    ),
    Mutant(
        "lets a call wait for one that does not begin for want of memory",
        PRESSURE + "holds_back",
        " and not unit.waiting",
        "",
        test_pressure.test_what_a_waiting_call_waits_for_begins_all_the_same,
    ),
    Mutant(
        "waits for ever for memory that others have",
        PRESSURE + "holds_back",
        "if now < self._since + patience_s:",
        "if True:",
        test_pressure.test_a_strain_that_lasts_lets_one_call_at_a_time_begin_beside_what_runs,
    ),
    Mutant(
        "begins all at once when it has waited for memory for long",
        PRESSURE + "holds_back",
        "return lingers and now < self._begun_at + patience_s",
        "return False",
        test_pressure.test_a_strain_that_lasts_lets_one_call_at_a_time_begin_beside_what_runs,
    ),
    Mutant(
        "does not look when it may go on without memory",
        PRESSURE + "next_at",
        "if at > now",
        "if False",
        test_pressure.test_a_strain_that_lasts_lets_one_call_at_a_time_begin_beside_what_runs,
    ),
    Mutant(
        "goes on at once when memory is hardly there again",
        PRESSURE + "_level_of",
        "share - EASED_SHARE * (self.level >= level)",
        "share",
        test_pressure.test_a_level_is_left_below_where_it_began_and_each_is_told_once,
    ),
    Mutant(
        "never knows that it is full",
        PRESSURE + "_level_of",
        "Level.FULL: self.policy.refuse_share, ",
        "",
        seed=4,
    ),
    Mutant(
        "takes what is big when it is full",
        PRESSURE + "refuses",
        "self.level is Level.FULL",
        "False",
        test_pressure.test_a_full_node_refuses_what_is_big_and_takes_the_rest,
    ),
    Mutant(
        "refuses what is small",
        PRESSURE + "refuses",
        " and nbytes > BIG_BYTES",
        "",
        seed=9,
    ),
    Mutant(
        "makes no actor of something big when it is full",
        NODE + "_lacks_room",
        " and not makes",
        "",
        test_pressure.test_an_actor_may_be_made_of_something_big_and_its_calls_are_refused,
    ),
    Mutant(
        "keeps results though it is full",
        NODE + "_on_measured",
        "self._depot.full = self._pressure.level is Level.FULL",
        "pass",
        test_pressure.test_a_full_node_keeps_no_more_results,
    ),
    Mutant(
        "keeps idle workers though memory is short",
        NODE + "_ease",
        "yield self._crew.retire(worker, now)",
        "pass",
        test_pressure.test_workers_with_nothing_to_do_leave_when_memory_is_short,
    ),
    Mutant(
        "keeps results in memory though that is short",
        NODE + "_ease",
        "self._depot.relieve(now, self._deposits_in_use)",
        "pass",
        test_pressure.test_a_strained_node_writes_the_results_that_nobody_uses_to_disk,
    ),
    Mutant(
        "puts calls ahead though memory is short",
        NODE + "_plan_ahead",
        "if self._pressure.level is not Level.EASY:",
        "if False:",
        test_pressure.test_a_strained_node_puts_nothing_ahead_and_splits_nothing,
    ),
    Mutant(
        "splits pieces that nobody else may begin",
        NODE + "handle",
        "not (draining or strained or lonely",
        "not (draining or lonely",
        test_pressure.test_a_strained_node_puts_nothing_ahead_and_splits_nothing,
    ),
    Mutant(
        "begins coroutines beside others though memory is short",
        NODE + "_next_piece",
        "not (full or strained) and work.concurrency",
        "not full and work.concurrency",
        seed=2,
    ),
    Mutant(
        "does not tell newcomers that memory is short",
        NODE + "_on_opened",
        "if self._pressure.level is not Level.EASY:",
        "if False:",
        test_pressure.test_whoever_logs_in_later_is_told_too,
    ),
    Mutant(
        "places where memory is short as anywhere",
        "goliath.core.scheduler:choose_node",
        "(node.level, load) < best_load",
        "(0, load) < best_load",
        test_scheduler.test_a_node_that_is_short_of_memory_robs_nobody_and_is_robbed,
    ),
    Mutant(
        "copies late calls to where memory is short",
        "goliath.core.speculation:Speculation._elsewhere",
        "(node.level, node.load / node.slots)",
        "node.load / node.slots",
        test_speculation.test_a_copy_is_made_where_memory_is_short_only_if_it_is_everywhere,
    ),
    Mutant(
        "sends what is big where it is refused",
        "goliath.core.placement:_candidates",
        "if nbytes > BIG_BYTES:",
        "if False:",
        test_placement.test_a_full_node_gets_nothing_big_unless_all_are_full,
    ),
    Mutant(
        "fails what another node had the memory for",
        SCHEDULER + "_on_refused",
        "not takers(self._nodes.values(), job.options)",
        "True",
        test_scheduler.test_what_a_full_node_refuses_goes_to_another_one,
    ),
    Mutant(
        "sends what was refused back to where it was",
        SCHEDULER + "_on_refused",
        "max(piece.nbytes, BIG_BYTES + 1)",
        "piece.nbytes",
        test_scheduler.test_what_was_refused_waits_for_a_node_that_takes_it,
    ),
    Mutant(
        "gives an actor up because a call was refused",
        SCHEDULER + "_on_refused",
        "job.options.actor or ",
        "",
        test_scheduler.test_a_call_of_an_actor_that_is_refused_fails_and_the_actor_lives,
    ),
    Mutant(
        "robs for a node that is short of memory",
        "goliath.core.robbery:Robbery._load",
        "if node.level:",
        "if False:",
        test_scheduler.test_a_node_that_is_short_of_memory_robs_nobody_and_is_robbed,
    ),
    Mutant(
        "robs for one that is short of memory while others are not",
        "goliath.core.robbery:Robbery._load",
        "is best is",
        "is",
        test_scheduler.test_a_node_that_is_short_of_memory_robs_nobody_and_is_robbed,
    ),
    Mutant(
        "never robs where all are short of memory",
        "goliath.core.robbery:Robbery._load",
        "spare = 1 if",
        "spare = 0 if",
        test_scheduler.test_where_all_are_short_of_memory_one_that_has_nothing_robs_others,
    ),
    Mutant(
        "sends calls away from their arguments",
        "goliath.core.scheduler:choose_node",
        "load -= near.get(node.id, 0)",
        "pass",
        test_scheduler.test_a_batch_that_comes_back_still_knows_where_its_arguments_are,
    ),
    Mutant(
        "lets calls wait where their arguments are",
        "goliath.core.scheduler:choose_node",
        "if near and share < 1:",
        "if near:",
        test_scheduler.test_a_batch_goes_where_a_slot_is_free_before_where_its_arguments_are,
    ),
    Mutant(
        "forgets where the arguments of a returned batch are",
        SCHEDULER + "_piece",
        "batch.suspicion, batch.near",
        "batch.suspicion, None",
        test_scheduler.test_a_batch_that_comes_back_still_knows_where_its_arguments_are,
    ),
    Mutant(
        "forgets where the arguments of a repeated call are",
        SCHEDULER + "_retry_failures",
        "batch.attempt, batch.near",
        "batch.attempt, None",
        test_scheduler.test_a_call_that_is_tried_again_still_knows_where_its_arguments_are,
    ),
    Mutant(
        "takes an actor with a free slot for a blocked one",
        DEADLOCK + "_full",
        "taken.get(actor, 0) >= most",
        "taken.get(actor, 0)",
        test_deadlock.test_an_actor_with_threads_is_blocked_when_all_of_them_are,
    ),
    Mutant(
        "takes who waits for some of several for one who waits for all",
        DEADLOCK + "_hopeless",
        ">= wait.enough",
        ">= len(wait.on)",
        test_deadlock.test_who_waits_for_some_of_several_goes_on_when_others_end,
    ),
    Mutant(
        "takes who waits for somebody in a circle for one in it",
        DEADLOCK + "find_deadlock",
        "call in _reached(call, ahead)",
        "_reached(call, ahead)",
        test_deadlock.test_who_waits_for_somebody_in_a_circle_is_not_in_it,
    ),
    Mutant(
        "sees no circle that leads through a queue",
        DEADLOCK + "_ahead",
        "other.actor in owners",
        "False",
        test_deadlock.test_a_call_that_waits_for_another_of_its_own_actor,
    ),
    Mutant(
        "gives equal calls one result",
        RESUMPTION + "number",
        "times[key] = number + 1",
        "pass",
        test_resumption.test_equal_calls_are_told_apart_by_their_number,
    ),
    Mutant(
        "counts equal calls anew with each look into the checkpoint",
        RESUMPTION + "number",
        "times = Counter(before)",
        "times = Counter()",
        test_resumption.test_their_numbers_go_on_with_those_that_were_pulled_before,
    ),
    Mutant(
        "keeps what failed",
        RESUMPTION + "fail",
        "self._away.pop(index, None)",
        "pass",
        test_resumption.test_a_call_that_failed_is_not_written_and_one_without_a_key_neither,
    ),
    Mutant(
        "puts off what is to be written with each result that comes",
        RESUMPTION + "finish",
        "if not self._unwritten:",
        "if True:",
        test_resumption.test_what_came_is_due_a_while_after_the_first_of_it,
    ),
    Mutant(
        "holds any number of bytes that are to be written",
        RESUMPTION + "due_in",
        "self._held >= HELD_MAX",
        "False",
        test_resumption.test_much_of_it_is_due_at_once,
    ),
    Mutant(
        "pulls more and more beyond what is known",
        RESUMPTION + "sift",
        "self.stride = 1",
        "pass",
        test_resumption.test_the_more_are_known_the_more_are_looked_up_until_one_is_not,
    ),
    Mutant(
        "does not miss a lost tail",
        SESSION + "check_tail",
        "peer_sent > self.seen",
        "False",
        seed=16,
    ),
    Mutant(
        "ends detached actors with their maker",
        "goliath.core.node:Node._on_closed",
        "if worker.session == session_id and",
        "if worker.session in (session_id, HOUSE) and",
        seed=15,
    ),
    Mutant(
        "lets the calls of a Commander that is gone run on",
        RESIDENCY + "leave",
        "yield InterruptRange(worker.id, unit.serial)",
        "pass",
    ),
    Mutant(
        "calls detached actors before they are made",
        RESIDENCY + "receives",
        "resident is not None and resident.made",
        "resident is not None",
        called_too_early,
    ),
    Mutant(
        "believes what callers say of a detached actor's groups",
        "goliath.core.residency:_run_by",
        "work.group_limit = resident.groups.get(work.group, 0)",
        "pass",
        test_residents.test_a_call_in_no_group_of_it_or_that_wants_another_limit_is_one_of_the_default_group,
    ),
    Mutant(
        "keeps a detached actor's big results for nobody",
        "goliath.core.node:Node._on_progressed",
        "self._admit(event, session, now) if",
        "self._admit(event, worker.session, now) if",
        test_residents.test_its_big_results_are_kept_for_whoever_has_called_it,
    ),
    Mutant(
        "makes a detached actor as often as it dies",
        RESIDENCY + "_may_live_again",
        "return resident.restarts.allows(now)",
        "return True",
        test_residents.test_it_is_made_again_by_the_node_and_its_callers_are_told_where,
    ),
    Mutant(
        "makes stillborn actors for ever",
        RESIDENCY + "_may_live_again",
        "if not resident.made and not resident.stillbirths.allows(now):",
        "if False:",
        test_residents.test_one_that_dies_as_often_as_it_is_made_is_not_made_for_ever,
    ),
    Mutant(
        "never makes a detached actor again",
        RESIDENCY + "_may_live_again",
        "return resident.restarts.allows(now)",
        "return False",
        seed=5,
    ),
    Mutant(
        "takes calls for an earlier life for calls for this one",
        "goliath.core.residents:Residents.at",
        "if heir is not None and heir.environment == environment else None",
        "",
        test_residents.test_it_is_made_again_by_the_node_and_its_callers_are_told_where,
    ),
    Mutant(
        "ends a detached actor without telling who waits for it",
        RESIDENCY + "_end",
        'yield from self._announce(resident, environment, why, "")',
        "pass",
        seed=110,
    ),
    Mutant(
        "gives a name twice",
        RESIDENCY + "_take_on",
        "if other is not None:",
        "if False:",
        test_residents.test_a_name_is_taken_once_and_whoever_wants_it_as_it_is_is_told_where,
    ),
    Mutant(
        "shows detached actors to strangers",
        RESIDENCY + "admit",
        "resident is None or resident.realm != session.realm",
        "resident is None",
        test_residents.test_two_who_proved_different_tokens_do_not_know_of_each_others_actors,
    ),
    Mutant(
        "kills a detached actor with a cancelled call",
        "goliath.core.node:Node._on_cancel",
        "event.force and not work.resident",
        "event.force",
        test_residents.test_a_call_is_cancelled_without_its_actor_even_by_force,
    ),
    Mutant(
        "keeps a worker that has grown too big",
        NODE + "_on_progressed",
        "host.retire_after = host.closed = True",
        "pass",
        seed=8,
    ),
    Mutant(
        "gives new lanes to a worker that has grown too big",
        NODE + "_on_progressed",
        "host.retire_after = host.closed = True",
        "host.retire_after = True",
        seed=23,
    ),
    Mutant(
        "gives work ahead to a worker that may be too big for it",
        CREW + "free_to_plan",
        " or policy.bytes_per_worker_max is not None",
        "",
        test_node.test_a_worker_that_may_be_too_big_for_it_gets_nothing_ahead,
    ),
    Mutant(
        "replaces an actor that has grown",
        CREW + "has_outgrown",
        " and not worker.actor",
        "",
        test_node.test_an_actor_stays_however_big_it_is,
    ),
    Mutant(
        "never copies a call",
        SCHEDULER + "handle",
        "if self._speculation:",
        "if False:",
        seed=4,
    ),
    Mutant(
        "copies calls that must not be",
        SCHEDULER + "_on_opened",
        "if job.options.speculate:",
        "if True:",
        test_speculation.test_nobody_speculates_who_was_not_asked_to,
    ),
    Mutant(
        "copies a call again and again",
        "goliath.core.speculation:Speculation._due",
        " and not b.twins",
        "",
        seed=119,
    ),
    Mutant(
        "copies for ever what takes too long everywhere",
        "goliath.core.speculation:Speculation._due",
        "if not batch.last_try:",
        "if True:",
        test_speculation.test_a_call_that_takes_too_long_twice_is_not_made_a_third_time,
    ),
    Mutant(
        "copies a call before it is late",
        "goliath.core.policy:Pace.late_after",
        "LATE_FACTOR * middle_s * calls",
        "0.0",
        test_speculation.test_a_late_call_is_copied_to_an_idle_node_and_not_before,
    ),
    Mutant(
        "copies a call to where it hangs",
        "goliath.core.speculation:Speculation._elsewhere",
        "if n.id != batch.node",
        "if True",
        test_speculation.test_the_idle_slot_beside_a_late_call_is_for_those_of_other_nodes,
    ),
    Mutant(
        "settles a call for each of its copies",
        SCHEDULER + "_on_finished",
        "yield from self._make_obsolete(twin, event.lo, event.hi, again)",
        "pass",
        seed=4,
    ),
    Mutant(
        "makes a third copy of what came back",
        BATCH + "take_wanted",
        "if self.twins:",
        "if False:",
        seed=126,
    ),
    Mutant(
        "lets the slower of two copies run on",
        SCHEDULER + "_make_obsolete",
        "yield from self._go_on_with(twin)",
        "yield from ()",
        seed=4,
    ),
    Mutant(
        "forgets what a call did where its copy is not",
        SCHEDULER + "_charge",
        "heir.blamed = blamed",
        "pass",
        test_speculation.test_both_copies_of_a_call_answer_for_the_deaths_of_their_workers,
    ),
    Mutant(
        "takes a batch that is done for a twin",
        SCHEDULER + "_finish",
        "batch.part()",
        "pass",
        seed=4,
    ),
    Mutant(
        "gives a session up before a node with a longer lease does",
        "goliath.transport.dialer:_agreeing",
        "max(config.session_lost_s, LOST_PER_KILL * kill_s)",
        "config.session_lost_s",
        seed=221,
    ),
    Mutant(
        "gives a session up as soon as the other end may",
        SESSION + "spoke",
        "now + self._echo_s",
        "now",
        test_session.test_the_commander_waits_while_the_other_end_may_have_heard_it,
    ),
    Mutant("knows no quota", QUOTAS + "admits", "if not self._slots", "if True", seed=13),
    Mutant(
        "lets one more in than a quota has", QUOTAS + "admits", "<= self", "<= 1 + self", seed=13
    ),
    Mutant(
        "never runs what is too big for a lowered quota",
        QUOTAS + "admits",
        "not held or ",
        "",
        test_quotas.test_what_is_too_big_for_a_lowered_quota_runs_alone,
    ),
    Mutant(
        "counts the quota of each session by itself",
        QUOTAS + "_held",
        "self.realm_of(worker) == realm",
        "worker.session == next(iter(self.queues.sessions))",
        test_quotas.test_all_sessions_of_a_token_share_its_quota_and_others_do_not,
    ),
    Mutant(
        "counts a call that waits",
        "goliath.core.work:Worker.takes_slots",
        "or any(unit.waiting for unit in self.units)",
        "",
        test_quotas.test_a_call_that_waits_gives_its_part_back,
    ),
    Mutant(
        "splits for slots that a quota does not give",
        QUOTAS + "exhausted",
        "if session.realm in full",
        "if False",
        test_quotas.test_nothing_is_split_for_slots_that_its_holders_may_not_use,
    ),
    Mutant(
        "keeps a quota that was lifted",
        QUOTAS + "limit",
        "self._slots.pop(realm, None)",
        "pass",
        test_quotas.test_a_quota_that_is_raised_counts_at_once_and_one_that_is_lowered_ends_nothing,
    ),
    Mutant(
        "lets the work of a revoked token go on until its Commanders know",
        NODE + "_on_realm_ended",
        "yield from self._on_closed(session.id, now)",
        "pass",
        seed=129,
    ),
    Mutant(
        "keeps the detached actors of a revoked token",
        NODE + "_on_realm_ended",
        "yield from self._residency.end_all(realm, now)",
        "yield from ()",
        test_quotas.test_the_detached_actors_of_a_revoked_token_end_and_others_stay,
    ),
    Mutant(
        "sends nothing ahead for a way that is long",
        "goliath.core.policy:BatchPolicy.window",
        "capacity * int(rtt_s / max(batch_s, 1e-3))",
        "0",
        test_policy.test_a_window_is_two_a_slot_and_what_the_way_swallows,
    ),
]


@contextmanager
def sabotaged(mutant: Mutant) -> Iterator[None]:
    """Put the mutant in place of the original for a while."""
    module_name, path = mutant.target.split(":")
    owner: Any = import_module(module_name)
    *outer, name = path.split(".")
    for part in outer:
        owner = getattr(owner, part)
    original = inspect.getattr_static(owner, name)
    setattr(owner, name, _mutate(mutant, original))
    try:
        yield
    finally:
        setattr(owner, name, original)


def _mutate(mutant: Mutant, original: Any) -> Any:
    function = inspect.unwrap(getattr(original, "__func__", original))
    source = textwrap.dedent(inspect.getsource(function))
    assert mutant.old in source, f"{mutant.name!r} does not fit {mutant.target} any more"
    module = vars(import_module(function.__module__))
    scope: dict[str, Any] = {}
    exec(compile(source.replace(mutant.old, mutant.new), mutant.target, "exec"), module, scope)
    return scope[function.__name__]


def hunt(mutant: Mutant) -> str:
    """Who caught it; empty if it survived."""
    with sabotaged(mutant):
        if mutant.witness is not None:
            return _caught_by_test(mutant.witness)
        for seed in (mutant.seed, *range(SEEDS_MAX)):
            if not _survives(seed):
                return f"seed {seed}"
    return ""


def _caught_by_test(witness: Witness) -> str:
    try:
        witness()
    except Exception:  # noqa: BLE001 - whatever breaks gives it away
        return witness.__name__
    return ""


def _survives(seed: int) -> bool:
    try:
        Cluster(seed).run(STEPS_MAX)
    except Exception:  # noqa: BLE001 - whatever breaks gives it away
        return False
    return True


def main() -> int:
    """Hunt them all, and print a table."""
    survivors = 0
    for mutant in MUTANTS:
        began = time.perf_counter()
        hunter = hunt(mutant)
        survivors += not hunter
        took = time.perf_counter() - began
        sys.stdout.write(f"{mutant.name:<52} {hunter or 'SURVIVED'}  ({took:.1f} s)\n")
    sys.stdout.write(f"{len(MUTANTS)} mutants, {survivors} survived\n")
    return bool(survivors)


if __name__ == "__main__":
    sys.exit(main())
