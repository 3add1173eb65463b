"""The caller's half of a run: what is sent, what is refused, what is put where."""

from __future__ import annotations

from collections import namedtuple
from typing import Any

import pytest

from goliath.actors import desk
from goliath.actors.job import Job, Raised
from goliath.actors.outcomes import Setback, Where
from goliath.actors.portal import PortalClosedError
from goliath.core.commands import Verdict
from goliath.errors import (
    DeadlineExceededError,
    SerializationError,
    TaskCancelledError,
    TaskError,
)
from tests.actors.desks import FakeCommander, job_for

Point = namedtuple("Point", "x y")


def add(x: int, y: int = 0) -> Any:
    return x + y


def opened(commander: FakeCommander, function: Any = add, **options: Any) -> Job:
    job, _ = job_for(commander, function, **options)
    job.open()
    return job


# -- feeding ---------------------------------------------------------------------------


def test_nothing_is_said_before_it_is_opened():
    commander = FakeCommander()
    job, _ = job_for(commander, add)
    assert commander.log == []
    assert job.wanted() == 0
    job.open()
    assert commander.log == ["open"]
    assert job.wanted() == 4


def test_it_wants_as_much_as_was_demanded():
    commander = FakeCommander(batches=2, calls=3, endless=False)
    job = opened(commander)
    for wanted in (3, 3, 0):
        assert job.wanted() == wanted
        if wanted:
            job.submit([{"x": 1}])
    job.on_demand(1, 7)
    assert job.wanted() == 7


def test_it_wants_no_more_than_its_buffer_holds():
    commander = FakeCommander(calls=10)
    job = opened(commander, buffersize=3)
    assert job.wanted() == 3
    job.submit([{"x": 1}, {"x": 2}])
    assert job.wanted() == 1
    assert job.take_in() == [(0, [1, 2])]
    assert job.wanted() == 3


def test_the_last_of_a_known_number_of_calls_exhausts_it():
    commander = FakeCommander()
    job = opened(commander, args=[{"x": 1}])
    job.submit([{"x": 1}])
    assert commander.log == ["open", "parcel of 1", "exhaust"]
    assert job.take_in() == [(0, [1])]
    assert job.over


def test_rows_of_other_shapes_share_a_run():
    commander = FakeCommander()
    job = opened(commander)
    job.submit([{"x": 1}, (2, 3), {"y": 1, "x": 1}, Point(4, 5)])
    job.exhaust()
    assert job.take_in() == [(0, [1, 5, 2, 9])]


def test_a_named_tuple_is_a_tuple_to_a_node_that_may_not_know_its_class():
    commander = FakeCommander(lazy=True)
    job = opened(commander)
    job.submit([Point(4, 5)])
    assert b"Point" not in commander.parcels[0].payload


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (5, "item 2 of args is of type int"),
        ("ab", "item 2 of args is of type str"),
        ([1, 2], "item 2 of args is of type list"),
        (None, "item 2 of args is of type NoneType"),
        ({"z": 1}, "add, call 2: .*'x'"),
        ({"x": 1, "z": 1}, "add, call 2: got an unexpected keyword argument 'z'"),
        ((), "add, call 2: missing a required argument"),
        ((1, 2, 3), "add, call 2: too many positional arguments"),
        ({1: 2}, "add, call 2"),
    ],
)
def test_a_row_that_is_no_call_is_reported_with_its_index_before_it_is_sent(bad: Any, message: str):
    commander = FakeCommander(lazy=True)
    job = opened(commander)
    with pytest.raises(TypeError, match=message):
        job.submit([{"x": 1}, {"x": 2}, bad, {"x": 4}])
    assert commander.log == ["open", "parcel of 2"]


def test_with_return_exceptions_a_bad_row_is_an_outcome_and_the_others_run():
    job = opened(FakeCommander(), return_exceptions=True)
    job.submit([{"x": 1}, {"z": 2}, {"x": 3}, 4, {"x": 5}])
    job.exhaust()
    (_, one), (_, [first]), (_, three), (_, [second]), (_, five) = job.take_in()
    assert [one, three, five] == [[1], [3], [5]]
    assert str(first).startswith("add, call 1: ")
    assert str(second).startswith("item 3 of args")
    assert job.over


def test_rows_that_cannot_be_sent_use_up_nothing_that_was_granted():
    commander = FakeCommander(batches=1, calls=2, endless=False)
    job = opened(commander, return_exceptions=True)
    for _ in range(3):
        assert job.wanted() == 2
        job.submit([4, 5])
    job.submit([{"x": 1}, 6, {"x": 2}])
    assert job.wanted() == 0
    job.on_demand(1, 2)
    assert job.wanted() == 2


def unpicklable() -> Any:
    return (item for item in ())


def test_an_argument_that_cannot_be_pickled_is_named_with_its_call():
    commander = FakeCommander()
    job = opened(commander)
    with pytest.raises(SerializationError, match="add, call 1: y, a generator") as caught:
        job.submit([{"x": 1}, {"x": 2, "y": unpicklable()}, {"x": 3}])
    assert caught.value.__cause__ is not None
    assert commander.log == ["open", "parcel of 1"]


def test_with_return_exceptions_an_unpicklable_row_is_an_outcome_and_the_others_run():
    job = opened(FakeCommander(), return_exceptions=True)
    job.submit([{"x": 1, "y": [].__len__()}, {"x": 2, "y": unpicklable()}, {"x": [3], "y": [4]}])
    job.exhaust()
    (_, first), (_, [error]), (_, last) = job.take_in()
    assert (first, last) == ([1], [[3, 4]])
    assert isinstance(error, SerializationError)


def test_static_keywords_clash_with_the_same_keywords_of_an_item():
    job = opened(FakeCommander(), static={"y": 1})
    with pytest.raises(TypeError, match=r"call 0: \['y'\] stand both in static= and in the item"):
        job.submit([{"x": 1, "y": 2}])


# -- collecting ------------------------------------------------------------------------


def test_outcomes_come_in_input_order_or_as_they_arrive():
    for ordered, expected in ((True, [(0, [0]), (1, [1])]), (False, [(1, [1]), (0, [0])])):
        commander = FakeCommander(lazy=True)
        job = opened(commander, ordered=ordered)
        job.submit([{"x": 0}])
        job.submit([{"x": 1}])
        commander.run_all(newest_first=True)
        assert job.take_in() == expected


def fail(x: int) -> int:
    if x == 1:
        raise ValueError("one")
    return x


def test_the_first_failure_is_raised_with_what_is_known_of_it():
    job = opened(FakeCommander(), fail)
    job.submit([{"x": 0}, {"x": 1}, {"x": 2}])
    with pytest.raises(ValueError, match="one") as caught:
        job.take_in()
    assert caught.value.__notes__ == ["goliath: f, call 1: f(…) on node, worker 1, attempt 1"]
    assert "Traceback of the worker" in str(caught.value.__cause__)


def test_exceptions_stand_in_their_places_if_that_is_wanted():
    job = opened(FakeCommander(), fail, return_exceptions=True)
    job.submit([{"x": 0}, {"x": 1}, {"x": 2}])
    ((_, [zero, one, two]),) = job.take_in()
    assert (zero, type(one), two) == (0, ValueError, 2)


def test_an_iterator_gets_a_failure_in_its_place_to_be_raised_there():
    job = opened(FakeCommander(), fail, fail_fast=False)
    job.submit([{"x": 0}, {"x": 1}])
    ((_, [zero, one]),) = job.take_in()
    assert zero == 0
    assert isinstance(one, Raised)
    assert job.failed


def test_excepted_calls_of_a_report_come_later():
    commander = FakeCommander(lazy=True)
    job = opened(commander)
    job.submit([{"x": i} for i in range(5)])
    (parcel,) = commander.parcels
    payload = commander.outcomes(parcel)
    job.on_settled(desk.Settled(0, 0, 5, payload, (1, 3), Where("f")))
    assert job.take_in() == [(0, [0])]
    job.on_settled(desk.Settled(0, 1, 2, commander.outcomes(one_call(parcel, 1)), (), Where("f")))
    assert job.take_in() == [(1, [1]), (2, [2])]
    job.on_settled(desk.Settled(0, 3, 4, commander.outcomes(one_call(parcel, 3)), (), Where("f")))
    assert job.take_in() == [(3, [3]), (4, [4])]


def one_call(parcel: Any, index: int) -> Any:
    from goliath.actors.desk import Parcel
    from goliath.transport.columns import COLUMNS, encode_columns

    payload = encode_columns([{"x": index}])
    assert payload is not None
    return Parcel(parcel.job, parcel.first, 1, COLUMNS, payload)


@pytest.mark.parametrize(
    "damage",
    [
        lambda payload: b"",
        lambda payload: payload[:-3],
        lambda payload: b"\x80\x05K\x01.",  # a number
        lambda payload: b"\x80\x05]K\x01a.",  # a list of one
        lambda payload: b"garbage",
    ],
)
def test_outcomes_that_cannot_be_read_fail_their_calls_and_no_others(damage: Any):
    commander = FakeCommander()
    job = opened(commander, return_exceptions=True)
    commander.tamper = damage
    job.submit([{"x": 0}, {"x": 1}])
    commander.tamper = lambda payload: payload
    job.submit([{"x": 2}])
    (_, bad), (_, good) = job.take_in()
    assert [type(error) for error in bad] == [SerializationError] * 2
    assert "add" not in str(bad[0]) or "call 0" in str(bad[0])
    assert good == [2]


def test_a_verdict_becomes_an_exception_for_each_of_its_calls():
    commander = FakeCommander(lazy=True)
    job = opened(commander, return_exceptions=True)
    job.submit([{"x": 0}, {"x": 1}])
    job.on_failed(desk.Failed(0, 0, 2, Setback(Verdict.ENVIRONMENT, "disk full"), Where("add")))
    ((_, errors),) = job.take_in()
    assert ["call 0" in str(errors[0]), "call 1" in str(errors[1])] == [True, True]


def test_a_commander_that_ends_is_an_error_but_not_for_a_job_that_has_all():
    commander = FakeCommander(lazy=True)
    waiting, done = opened(commander), opened(commander, args=[])
    done.exhaust()
    waiting.submit([{"x": 1}])
    commander.end(TaskCancelledError("closed"))
    with pytest.raises(TaskCancelledError, match="closed"):
        waiting.take_in()
    assert waiting.over
    assert done.take_in() == []


def test_a_job_for_a_commander_that_has_just_ended_is_told_so():
    commander = FakeCommander()
    commander.ended = True
    job, bell = job_for(commander, add)
    job.open()
    assert bell.wait(0)
    with pytest.raises(TaskCancelledError, match="the Commander was closed"):
        job.take_in()


def test_the_reason_of_a_closed_portal_is_what_the_caller_hears():
    commander = FakeCommander()
    job = opened(commander)
    commander.end(TaskCancelledError("closed"))
    commander.portal.closed = True
    with pytest.raises(TaskCancelledError, match="closed"):
        job.submit([{"x": 1}])
    fresh, _ = job_for(commander, add)
    with pytest.raises(PortalClosedError):
        fresh.open()


# -- ending early ----------------------------------------------------------------------


def test_a_cancelled_job_wants_nothing_and_wakes_the_loop_for_certain():
    commander = FakeCommander(lazy=True)
    job = opened(commander)
    job.submit([{"x": 1}])
    job.cancel(force=True)
    assert commander.log[-1] == "cancel by force"
    assert commander.portal.kicks == 1
    assert job.wanted() == 0
    assert job.over
    commander.portal.closed = True
    job.cancel()


def test_after_the_deadline_cancelled_and_unsent_calls_say_so():
    commander = FakeCommander(lazy=True)
    job = opened(commander, return_exceptions=True)
    job.submit([{"x": 1}])
    job.expire()
    job.fail_unsent(2)
    job.fail_unsent(0)
    outcomes = [error for _, errors in job.take_in() for error in errors]
    assert [type(error) for error in outcomes] == [DeadlineExceededError] * 3
    assert "call 0, had no result when the deadline" in str(outcomes[0])
    assert "call 2, was not sent" in str(outcomes[2])
    assert job.over


def test_what_raises_a_class_that_only_the_worker_knows_is_a_task_error():
    commander = FakeCommander()
    job = opened(commander, return_exceptions=True)
    record = {
        "kind": "raised",
        "type": "lib.Strange",
        "message": "odd",
        "traceback": "…",
        "call": "add(1)",
        "pickle": None,
    }
    from goliath.transport.outcomes import encode_outcomes

    commander.tamper = lambda _: encode_outcomes([None], {}, {0: record})
    job.submit([{"x": 1}])
    ((_, [error]),) = job.take_in()
    assert isinstance(error, TaskError)
    assert error.type_name == "lib.Strange"
