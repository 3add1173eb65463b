"""What no node can run: said first, an error then, and gone when a node comes that can."""

from __future__ import annotations

import pytest

from goliath.core.batch import JobOptions
from goliath.core.commands import Assign, Command, Fail, Verdict, Warn
from goliath.core.events import JobOpened, NodeJoined, NodeLost, ParcelSubmitted, TimerFired
from goliath.core.ids import JobId, NodeId
from goliath.core.scheduler import Scheduler
from tests.core.books import JOB, OTHER, A, B, plain

GIB = 2**30


def stuck(options: JobOptions, *jobs: JobId) -> Scheduler:
    """A has 2 slots and 1 GPU, B 4 slots and 2 GiB of memory; a call of each job waits since 0."""
    scheduler = Scheduler()
    scheduler.handle(NodeJoined(A, 2, {"GPU": 1.0}), 0.0)
    scheduler.handle(NodeJoined(B, 4, {"memory": 2.0 * GIB}), 0.0)
    for job in jobs or (JOB,):
        scheduler.handle(JobOpened(job, options), 0.0)
        assert plain(scheduler.handle(ParcelSubmitted(job, job, 1, 10), 0.0)) == []
    return scheduler


def at(scheduler: Scheduler, now: float) -> list[Command]:
    said = plain(scheduler.handle(TimerFired(), now))
    scheduler.check()
    return said


BIG = JobOptions(cpus=8.0)


def test_what_no_node_can_run_is_said_once_and_an_error_later():
    scheduler = stuck(BIG)
    lacking = f"num_cpus=8 is more than any node has (the most: 4, on {B})"
    assert at(scheduler, 0.9) == []
    assert at(scheduler, 1.0) == [Warn(JOB, lacking, 4.0)]
    assert at(scheduler, 2.0) == []
    (failed,) = at(scheduler, 5.0)
    assert isinstance(failed, Fail)
    assert (failed.verdict, failed.detail) == (Verdict.INFEASIBLE, lacking)
    assert at(scheduler, 6.0) == []


def test_many_jobs_that_lack_the_same_are_one_piece_of_news():
    scheduler = stuck(BIG, JOB, OTHER)
    assert [type(command) for command in at(scheduler, 1.0)] == [Warn]
    assert [type(command) for command in at(scheduler, 5.0)] == [Fail, Fail]


def test_a_node_that_comes_in_time_is_used():
    scheduler = stuck(BIG)
    at(scheduler, 1.0)
    (assigned,) = plain(scheduler.handle(NodeJoined(NodeId("c#1"), 8), 2.0))
    assert isinstance(assigned, Assign)


def test_a_node_that_comes_too_late_is_used_for_what_is_submitted_then():
    scheduler = stuck(BIG)
    at(scheduler, 5.0)
    (failed,) = plain(scheduler.handle(ParcelSubmitted(JOB, 7, 1, 10), 6.0))
    assert isinstance(failed, Fail)
    scheduler.handle(NodeJoined(NodeId("c#1"), 8), 7.0)
    scheduler.check()
    (assigned,) = plain(scheduler.handle(ParcelSubmitted(JOB, 8, 1, 10), 8.0))
    assert isinstance(assigned, Assign)


def test_a_node_that_is_too_small_as_well_changes_nothing():
    scheduler = stuck(BIG)
    at(scheduler, 5.0)
    scheduler.handle(NodeJoined(NodeId("c#1"), 7), 6.0)
    (failed,) = plain(scheduler.handle(ParcelSubmitted(JOB, 8, 1, 10), 7.0))
    assert isinstance(failed, Fail)


def test_it_is_said_anew_when_the_node_that_could_has_gone():
    scheduler = stuck(BIG)
    at(scheduler, 1.0)
    scheduler.handle(NodeJoined(NodeId("c#1"), 8), 2.0)
    scheduler.handle(NodeLost(NodeId("c#1")), 10.0)
    assert at(scheduler, 10.5) == []
    assert [type(command) for command in at(scheduler, 11.0)] == [Warn]


@pytest.mark.parametrize(
    ("options", "lacking"),
    [
        (
            JobOptions(resources={"GPU": 3}),
            f"num_gpus=3 is more than any node has (the most: 1, on {A})",
        ),
        (
            JobOptions(resources={"memory": 3 * GIB}),
            f"memory=3 GiB is more than any node has (the most: 2 GiB, on {B})",
        ),
        (
            JobOptions(cpus=5.0, resources={"licence": 0.5}),
            f"num_cpus=5 is more than any node has (the most: 4, on {B}); "
            f"resources['licence']=0.5 is more than any node has (the most: 0, on {A})",
        ),
        (
            JobOptions(cpus=3.0, resources={"GPU": 1}),
            f"no node has num_cpus=3 and num_gpus=1 at once (the biggest, {B}, has num_cpus=4, "
            "num_gpus=0)",
        ),
        (
            JobOptions(node=NodeId("gone#1")),
            f"node gone#1 is not connected (connected are: {A}, {B})",
        ),
        (
            JobOptions(resources={"memory": 100 * 2**20}, node=A),
            "memory=100 MiB is more than the node has to which the calls are bound (the most: "
            f"0 bytes, on {A})",
        ),
        (
            JobOptions(cpus=8.0, node=NodeId("gone#1"), soft=True),
            f"num_cpus=8 is more than any node has (the most: 4, on {B})",
        ),
    ],
)
def test_what_is_missing_is_named_with_what_there_is(options: JobOptions, lacking: str):
    assert at(stuck(options), 1.0) == [Warn(JOB, lacking, 4.0)]
