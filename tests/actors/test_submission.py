"""Single calls and their refs: waited for in threads and loops, and freed when nobody cares."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from contextlib import suppress
from typing import Any

import pytest

from goliath.actors import desk
from goliath.actors.object_ref import ObjectRef, made_here
from goliath.actors.outcomes import Setback, Where
from goliath.actors.portal import Portal
from goliath.actors.submission import GATHERED_MAX, Submission
from goliath.actors.surroundings import Surroundings
from goliath.core.batch import JobOptions
from goliath.core.commands import Verdict
from goliath.errors import GetTimeoutError, SerializationError, TaskCancelledError
from goliath.transport.functions import dump_function
from goliath.transport.outcomes import encode_outcomes
from goliath.transport.serialization import dump_value
from tests.actors.desks import FakeCommander
from tests.actors.runtime import on_both_loops


def double(x: Any) -> Any:
    if x == "bad":
        raise ValueError("bad")
    return [x, x]


def submission_of(commander: FakeCommander, function: Any = double) -> Submission:
    return Submission(
        dump_function(function),
        Surroundings("env"),
        JobOptions(),
        commander.portal,  # type: ignore[arg-type]
        commander,  # type: ignore[arg-type]
    )


def submitted(submission: Submission, *args: Any) -> ObjectRef[Any]:
    ref = submission.submit(args, {})
    assert ref is not None
    return ref


def test_a_call_that_finds_the_way_free_goes_alone_and_its_ref_knows_its_name():
    commander = FakeCommander(endless=False)
    submission = submission_of(commander)
    first, second = submitted(submission, 1), submitted(submission, 2)
    assert commander.log == ["open", "parcel of 1", "parcel of 1"]
    assert first.result() == [1, 1]
    assert second.result(timeout=0) == [2, 2]
    assert (first.name, first.task_id) == ("double", f"{submission.id}-0")
    assert repr(first) == f"<ObjectRef {first.task_id} of double, done>"
    assert first.result() is first.result(), "it is unpickled once"


def test_calls_that_wait_go_together_as_many_as_are_wanted_and_keep_their_outcomes_apart():
    commander = FakeCommander(batches=1, calls=3, endless=False)
    submission = submission_of(commander)
    refs = [submitted(submission, number) for number in (0, 1, 2, "bad", 4, 5, 6)]
    assert commander.log == ["open", "parcel of 1"]
    submission.on_demand(1, 3)
    submission.on_demand(5, 3)
    assert commander.log == ["open", *["parcel of 1", "parcel of 3"], *["parcel of 1"] * 3]
    with pytest.raises(ValueError, match="bad") as raised:
        refs.pop(3).result(0)
    assert "call 3" in str(raised.value.__notes__)
    assert [ref.result(0) for ref in refs] == [[n, n] for n in (0, 1, 2, 4, 5, 6)]
    assert (submission._sent, list(submission._waiting)) == ({}, [])


def test_calls_of_several_shapes_go_in_the_order_they_were_made():
    commander = FakeCommander(batches=0, endless=False)
    submission = submission_of(commander, lambda *args, **kwargs: repr((args, kwargs)))
    calls: list[tuple[tuple[Any, ...], dict[str, Any]]]
    calls = [((1,), {}), ((2,), {}), ((), {"x": 3}), (([4],), {}), ((5, 6), {"y": 7}), ((8,), {})]
    refs = [submission.submit(args, kwargs) for args, kwargs in calls]
    submission.on_demand(9, 9)
    assert commander.log[1] == "parcel of 1"
    assert [ref and ref.result(0) for ref in refs] == [repr(call) for call in calls]
    assert [ref and ref.task_id for ref in refs] == [f"{submission.id}-{n}" for n in range(6)]


def test_what_waits_is_not_counted_further_than_the_next_parcel_needs():
    submission = submission_of(FakeCommander(batches=0, endless=False))
    refs = [submitted(submission, n if n % 2 else [n]) for n in range(100)]
    assert len(submission._waiting) == 100, "each has another shape than the one before"
    assert (submission._count_waiting(3), submission._count_waiting(500)) == (3, 100)
    submission.on_demand(100, 9)
    assert all(ref.done() for ref in refs)


def test_an_argument_that_changes_after_the_call_was_made_does_not_change_the_call():
    commander = FakeCommander(batches=0, endless=False)
    submission = submission_of(commander)
    changing = [1]
    ref = submitted(submission, changing)
    changing.append(2)
    submission.on_demand(1, 1)
    assert ref.result(0) == [[1], [1]]


def test_a_gathering_has_a_limit_and_is_followed_by_another():
    commander = FakeCommander(batches=0, endless=False)
    submission = submission_of(commander)
    refs = [submitted(submission, number) for number in range(GATHERED_MAX + 1)]
    assert refs[-1]._calls is not refs[0]._calls
    submission.on_demand(2, 10 * GATHERED_MAX)
    submission.on_demand(1, 10 * GATHERED_MAX)
    assert [ref.result(0)[0] for ref in refs] == list(range(GATHERED_MAX + 1))


def test_threads_that_submit_at_once_get_each_their_own_results():
    commander = FakeCommander(batches=2, calls=7)
    portal = Portal("test")
    commander.portal = portal  # type: ignore[assignment]
    submission = submission_of(commander)
    wrong: list[Any] = []

    def many(base: int) -> None:
        refs = [(number, submitted(submission, number)) for number in range(base, base + 500)]
        wrong.extend(number for number, ref in refs if ref.result(5) != [number, number])

    threads = [threading.Thread(target=many, args=(base,)) for base in (0, 1000, 2000, 3000)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    portal.close()
    assert wrong == []


def test_what_a_call_raised_is_raised_by_its_ref_each_time():
    ref = submitted(submission_of(FakeCommander()), "bad")
    for _ in range(2):
        with pytest.raises(ValueError, match="bad"):
            ref.result()


def test_an_argument_that_cannot_be_pickled_is_refused_at_once():
    submission = submission_of(FakeCommander())
    with pytest.raises(SerializationError):
        submission.submit((threading.Lock(),), {})
    assert not submission._waiting


def test_a_result_that_does_not_come_in_time_may_be_asked_for_again():
    commander = FakeCommander(lazy=True)
    ref = submitted(submission_of(commander), 1)
    assert repr(ref).endswith("pending>")
    for _ in range(100):
        with pytest.raises(GetTimeoutError, match="had no result within 0 s; it goes on"):
            ref.result(timeout=0)
    assert ref._calls._waiters == {}, "who has given up does not wait for ever"
    assert not ref.done()
    commander.run_all()
    assert ref.done()
    assert ref.result(timeout=float("inf")) == [1, 1]


def test_many_threads_may_wait_for_one_call():
    commander = FakeCommander(lazy=True)
    ref = submitted(submission_of(commander), 1)
    results: list[Any] = []
    threads = [threading.Thread(target=lambda: results.append(ref.result(5))) for _ in range(8)]
    for thread in threads:
        thread.start()
    commander.run_all()
    for thread in threads:
        thread.join()
    assert results == [[1, 1]] * 8


@on_both_loops
async def test_a_ref_can_be_awaited_many_times_before_and_behind_its_end():
    commander = FakeCommander(lazy=True)
    ref = submitted(submission_of(commander), 1)
    asyncio.get_running_loop().call_later(0.005, commander.run_all)
    assert await asyncio.gather(ref, ref, ref) == [[1, 1]] * 3
    assert await ref == [1, 1]


def test_a_ref_can_be_awaited_from_two_loops_at_once():
    commander = FakeCommander(lazy=True)
    ref = submitted(submission_of(commander), 1)
    waiting = threading.Barrier(3)

    async def wait() -> Any:
        waiting.wait(5)
        return await ref

    results: list[Any] = []
    threads = [
        threading.Thread(target=lambda: results.append(asyncio.run(wait()))) for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    waiting.wait(5)
    commander.run_all()
    for thread in threads:
        thread.join()
    assert results == [[1, 1]] * 2


@on_both_loops
async def test_a_cancelled_await_does_not_cancel_the_call():
    commander = FakeCommander(lazy=True)
    ref = submitted(submission_of(commander), 1)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.005):
            await ref
    assert ref._calls._waiters == {}
    commander.run_all()
    assert await ref == [1, 1]


def test_a_future_is_a_real_one_with_the_same_outcome():
    commander = FakeCommander(lazy=True)
    submission = submission_of(commander)
    good, bad = submitted(submission, 1), submitted(submission, "bad")
    future, failing = good.future(), bad.future()
    told: list[Any] = []
    future.add_done_callback(lambda f: told.append(f.result()))
    assert not future.cancel(), "it is running already"
    commander.run_all()
    assert told == [[1, 1]]
    with pytest.raises(ValueError, match="bad"):
        failing.result(5)
    assert good.future().result(0) == [1, 1]


def test_a_callback_that_raises_harms_nobody(caplog: pytest.LogCaptureFixture):
    commander = FakeCommander(lazy=True)
    ref = submitted(submission_of(commander), 1)
    ref.future().add_done_callback(lambda _: 1 / 0)
    commander.run_all()
    assert ref.result() == [1, 1]
    assert "ZeroDivisionError" in caplog.text


def test_a_dropped_ref_frees_its_result_and_not_its_call():
    commander = FakeCommander(lazy=True)
    submission = submission_of(commander)
    ref = submitted(submission, 1)
    tracked = weakref.ref(ref._calls)
    del ref
    commander.run_all()
    assert commander.log == ["open", "parcel of 1"]
    assert submission._sent == {}
    gc.collect()
    assert tracked() is None


def big_or_not(x: int) -> Any:
    return x if x % 3 else "x" * 10**5 if x % 2 else [bytes(10**5)]


@pytest.mark.parametrize("excepted", [(), (0, 5, 6)])
def test_of_results_that_came_together_each_big_one_is_kept_by_its_own_ref_only(
    excepted: tuple[int, ...],
):
    commander = FakeCommander(batches=0, endless=False, lazy=True)
    submission = submission_of(commander, big_or_not)
    first, *refs = [submitted(submission, number) for number in range(1, 11)]
    submission.on_demand(1, 1)
    submission.on_demand(1, 9)
    values: list[Any] = [None if n == 6 else big_or_not(n) for n in range(2, 11)]
    payload = encode_outcomes(values, {4: dump_value(big_or_not(6))}, {})
    submission.on_settled(desk.Settled(1, 0, 9, payload, excepted, Where("f")))
    for call in excepted:
        assert not refs[call].done()
        submission.on_failed(desk.Failed(1, call, call + 1, Setback(Verdict.CANCELLED), Where("f")))
    kept = {n: ref.ending()[0] for n, ref in enumerate(refs, 2) if n - 2 not in excepted}
    shared = kept.pop(3), kept.pop(6, None), kept.pop(9)
    assert len({id(outcome) for outcome in shared if outcome}) == len([*filter(None, shared)])
    assert len({id(outcome) for outcome in kept.values()}) == 1, "small ones share theirs"
    wanted = [n for n in range(2, 11) if n - 2 not in excepted]
    assert [refs[n - 2].result(0) for n in wanted] == [big_or_not(n) for n in wanted]
    assert (first.done(), submission._sent.keys()) == (False, {0})


def test_a_payload_that_cannot_be_read_is_told_to_who_asks_and_to_nobody_before():
    commander = FakeCommander(batches=0, endless=False, lazy=True)
    submission = submission_of(commander)
    refs = [submitted(submission, number) for number in range(3)]
    submission.on_demand(1, 1)
    submission.on_demand(1, 2)
    submission.on_settled(desk.Settled(1, 0, 2, b"x" * 10**6, (), Where("double")))
    for ref in refs[1:]:
        with pytest.raises(SerializationError, match="its outcome cannot be read here"):
            ref.result(0)


def test_a_verdict_is_explained_to_the_call_it_ends():
    commander = FakeCommander(lazy=True)
    submission = submission_of(commander)
    ref = submitted(submission, 1)
    submission.on_failed(desk.Failed(0, 0, 1, Setback(Verdict.CANCELLED), Where("double")))
    with pytest.raises(TaskCancelledError, match="double, call 0, was cancelled"):
        ref.result()


def test_a_call_that_is_tried_again_is_not_settled_yet():
    commander = FakeCommander(lazy=True)
    submission = submission_of(commander)
    ref = submitted(submission, 1)
    submission.on_settled(desk.Settled(0, 0, 1, b"", (0,), Where("double")))
    assert not ref.done()
    commander.run_all()
    assert ref.result() == [1, 1]


def test_nobody_waits_for_a_commander_that_has_ended():
    commander = FakeCommander(lazy=True)
    submission = submission_of(commander)
    before = submitted(submission, 1)
    commander.end(TaskCancelledError("closed"))
    behind = submitted(submission, 2)
    for ref in (before, behind):
        with pytest.raises(TaskCancelledError, match="closed"):
            ref.result(0)


def test_nobody_waits_for_a_commander_that_ended_before_it_heard_of_him():
    commander = FakeCommander()
    commander.ended = True
    with pytest.raises(TaskCancelledError, match="the Commander was closed"):
        submitted(submission_of(commander), 1).result(0)


def test_a_closed_submission_takes_no_more_and_finishes_what_it_has():
    commander = FakeCommander(lazy=True)
    submission = submission_of(commander)
    ref = submitted(submission, 1)
    submission.close()
    submission.close()
    assert commander.log.count("exhaust") == 1
    assert submission.submit((2,), {}) is None
    commander.run_all()
    assert ref.result() == [1, 1]


def test_a_call_that_waits_is_withdrawn_and_never_sent():
    commander = FakeCommander(batches=0, endless=False)
    submission = submission_of(commander)
    refs = [submitted(submission, number) for number in range(5)]
    assert [refs[1].cancel(), refs[1].cancel()] == [True, False]
    submission.on_demand(9, 9)
    assert commander.log == ["open", "parcel of 1", *["parcel of 1"] * 3]
    assert [ref.result(0)[0] for ref in refs if ref is not refs[1]] == [0, 2, 3, 4]
    with pytest.raises(TaskCancelledError, match="double, call 1, was cancelled"):
        refs[1].result(0)


def test_a_call_that_was_sent_is_cancelled_by_its_place_in_its_parcel():
    commander = FakeCommander(batches=0, endless=False, lazy=True)
    submission = submission_of(commander)
    refs = [submitted(submission, number) for number in range(6)]
    refs[1].cancel()
    submission.on_demand(1, 1)
    submission.on_demand(1, 4)
    told: list[Any] = []
    commander.tell = told.append  # type: ignore[method-assign, assignment]
    assert not refs[4].cancel(force=True)
    assert told == [desk.CancelCall(submission.id, parcel=1, call=2, force=True)]
    submission.on_failed(desk.Failed(1, 2, 3, Setback(Verdict.CANCELLED), Where("double")))
    assert not refs[4].cancel()
    assert len(told) == 1, "it has ended"
    with pytest.raises(TaskCancelledError, match="double, call 4, was cancelled"):
        refs[4].result(0)


def test_calls_that_are_made_and_withdrawn_for_ever_are_not_all_kept():
    submission = submission_of(FakeCommander(batches=0, endless=False))
    first = submitted(submission, 0)
    for number in range(GATHERED_MAX + 1):
        ref = submitted(submission, number)
        ref.cancel()
    assert ref._calls is not first._calls
    assert len(submission._waiting) == 2


def test_a_submission_of_which_everything_was_withdrawn_is_over_when_it_is_closed():
    commander = FakeCommander(batches=0, endless=False)
    submission = submission_of(commander)
    refs = [submitted(submission, 1), submission.submit((), {"x": 2})]
    submission.close()
    assert commander.log == ["open"]
    for ref in refs:
        assert ref is not None
        ref.cancel()
    assert commander.log == ["open", "exhaust"]


def test_a_call_that_waits_for_another_can_be_cancelled_and_is_not_made_then():
    commander = FakeCommander(lazy=True)
    submission = submission_of(commander)
    first = submitted(submission, 1)
    second, third = submitted(submission, first), submitted(submission, first)
    assert second.cancel()
    commander.run_all()
    commander.run_all()
    assert third.result(0) == [[1, 1], [1, 1]]
    assert commander.log == ["open", "parcel of 1", "parcel of 1"]
    with pytest.raises(TaskCancelledError, match="double, call 1, was cancelled"):
        second.result(0)


def test_what_is_cancelled_when_the_commander_has_gone_is_no_error():
    commander = FakeCommander(lazy=True)
    submission = submission_of(commander)
    ref = submitted(submission, 1)
    commander.portal.closed = True
    assert not ref.cancel()


def test_threads_that_submit_and_cancel_at_once_leave_nobody_waiting():
    commander = FakeCommander(batches=10**6, calls=3, endless=False)
    portal = Portal("test")
    commander.portal = portal  # type: ignore[assignment]
    submission = submission_of(commander)
    ended: list[list[ObjectRef[Any]]] = []

    def many(base: int) -> None:
        refs = [submitted(submission, number) for number in range(base, base + 400)]
        refs += [submitted(submission, ref) for ref in refs[::4]]
        for ref in refs[::3]:
            ref.cancel()
        # What was cancelled on its way may have its result: this Commander cancels nothing.
        for ref in refs:
            with suppress(TaskCancelledError):
                ref.result(5)
        ended.append(refs)

    threads = [threading.Thread(target=many, args=(base,)) for base in (0, 1000, 2000)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    submission.close()
    portal.close()
    assert [len(refs) for refs in ended] == [500] * 3
    assert (submission._sent, submission._dependent) == ({}, {})
    assert commander.log.count("exhaust") == 1


def test_a_call_made_here_has_its_outcome_at_once():
    assert made_here(double, (1,), {}).result() == [1, 1]
    failed = made_here(double, (), {"x": "bad"})
    assert failed.done()
    with pytest.raises(ValueError, match="bad"):
        failed.result()
