"""Actors that wait for one another in a circle are told so; those that are only slow are not."""

from __future__ import annotations

import threading
import time

import pytest

import goliath
from goliath import DeadlockError
from goliath.testing.processes import until

WITHIN_S = 5.0


@pytest.fixture(autouse=True)
def cluster():
    yield goliath.init(workers=2)
    goliath.shutdown()


@goliath.remote
class Caller:
    """Calls whoever it is told to, and waits."""

    def value(self, value=1):
        return value

    def ask(self, *row):
        """The first of the row asks the next one, and so on; the last is asked for a value."""
        next_one, rest = row[0], row[1:]
        return goliath.get(next_one.ask.remote(*rest) if rest else next_one.value.remote())

    def ask_when(self, other, path):
        path.touch()
        partner = path.with_name({"one": "other", "other": "one"}[path.name])
        until(partner.exists, 20)
        return goliath.get(other.value.remote())

    def ask_patiently(self, other, timeout):
        try:
            return goliath.get(other.value.remote(), timeout=timeout)
        except goliath.GetTimeoutError:
            return "timeout"

    def wait_for_one(self, other, task):
        ready, _ = goliath.wait([other.value.remote(), nap.remote(task)])
        return goliath.get(ready)

    def wait_for_all(self, me):
        return [goliath.get(ref) for ref in goliath.as_completed([me.value.remote()])]

    def ask_through_a_task(self, me):
        return goliath.get(ask_in_a_task.remote(me))

    def ask_with_an_argument(self, me, other):
        return goliath.get(other.value.remote(me.value.remote()))

    def nap(self, seconds):
        time.sleep(seconds)
        return seconds


@goliath.remote
def nap(seconds):
    time.sleep(seconds)
    return seconds


@goliath.remote
def ask_in_a_task(actor):
    return goliath.get(actor.value.remote())


def deadlock(ref):
    """The error with which a call ends, in time."""
    begin = time.monotonic()
    with pytest.raises(DeadlockError) as caught:
        goliath.get(ref, timeout=20)
    assert time.monotonic() - begin < WITHIN_S
    return caught.value


def test_an_actor_that_is_called_back_is_reported_with_the_stacks_of_both_and_both_live_on():
    one, other = Caller.remote(), Caller.remote()
    error = deadlock(one.ask.remote(other, one))
    assert len(error.stacks) == 2
    for stack in error.stacks.values():
        assert ", in ask\n" in stack
        assert stack in str(error)
        assert stack.count("File") == 1, "no frame that is not the user's"
    assert "1. call " in str(error)
    assert "has no room before" in str(error)
    assert "make its method async" in str(error)
    assert goliath.get([one.value.remote(), other.value.remote()], timeout=20) == [1, 1]


def test_two_actors_that_call_each_other_at_once_both_get_the_error(tmp_path):
    one, other = Caller.remote(), Caller.remote()
    refs = [
        one.ask_when.remote(other, tmp_path / "one"),
        other.ask_when.remote(one, tmp_path / "other"),
    ]
    assert str(deadlock(refs[0])) == str(deadlock(refs[1]))


def test_an_actor_that_calls_itself_and_a_circle_of_three():
    alone = Caller.remote()
    assert len(deadlock(alone.ask.remote(alone)).stacks) == 1
    a, b, c = (Caller.remote() for _ in range(3))
    assert len(deadlock(a.ask.remote(b, c, a)).stacks) == 3


def test_who_waits_for_one_of_the_circle_gets_the_error_and_is_not_named_as_one_of_it():
    outside, one, other = (Caller.remote() for _ in range(3))
    assert len(deadlock(outside.ask.remote(one, other, one)).stacks) == 2


def test_a_circle_through_a_task_or_an_argument_is_one_too():
    one, other = Caller.remote(), Caller.remote()
    assert len(deadlock(one.ask_through_a_task.remote(one)).stacks) == 2
    error = deadlock(one.ask_with_an_argument.remote(one, other))
    assert "which has not begun" in str(error)


def test_calls_that_have_all_begun_can_be_a_circle_too():
    @goliath.remote
    class Keeper:
        def start(self, worker, me):
            self.ref = worker.work.remote(me)

        def result(self):
            return goliath.get(self.ref)

    @goliath.remote
    class Worker:
        def work(self, keeper):
            return goliath.get(keeper.result.remote())

        def value(self):
            return 1

    keeper, worker = Keeper.remote(), Worker.remote()
    goliath.get(keeper.start.remote(worker, keeper))
    error = deadlock(keeper.result.remote())
    assert len(error.stacks) == 2
    assert goliath.get(worker.value.remote(), timeout=20) == 1


def test_it_does_not_matter_how_the_call_waits():
    one = Caller.remote()
    deadlock(one.wait_for_all.remote(one))
    busy = Caller.remote()
    assert goliath.get(busy.wait_for_one.remote(busy, 3.0), timeout=20) == [3.0]
    assert goliath.get(one.ask_patiently.remote(one, 2.5), timeout=20) == "timeout"


def test_a_get_of_several_fails_as_soon_as_one_of_them_can_never_come():
    @goliath.remote
    class Greedy:
        def value(self):
            return 1

        def several(self, me):
            return goliath.get([nap.remote(30), me.value.remote()])

    greedy = Greedy.remote()
    error = deadlock(greedy.several.remote(greedy))
    assert ", in several\n" in str(error)


def test_an_init_that_calls_its_own_actor_back_is_a_deadlock():
    @goliath.remote
    class Owner:
        def __init__(self, caller, names):
            caller_of = goliath.get_actor(names)
            goliath.get(caller.ask.remote(caller_of))

        def value(self):
            return 1

    caller = Caller.remote()
    owner = Owner.options(name="owner").remote(caller, "owner")
    begin = time.monotonic()
    with pytest.raises(goliath.ActorDiedError) as caught:
        goliath.get(owner.value.remote(), timeout=20)
    assert isinstance(caught.value.__cause__, DeadlockError)
    assert time.monotonic() - begin < WITHIN_S


def test_all_threads_of_an_actor_can_be_in_a_deadlock_but_not_some_of_them(tmp_path):
    one = Caller.options(max_concurrency=2).remote()
    assert goliath.get(one.ask.remote(one), timeout=20) == 1
    refs = [one.ask.remote(one, one), one.ask.remote(one, one)]
    endings = [exception_of(ref) for ref in refs]
    assert any(isinstance(ending, DeadlockError) for ending in endings)
    assert goliath.get(one.value.remote(), timeout=20) == 1


def exception_of(ref):
    return ref.future().exception(20)


def test_each_concurrency_group_is_blocked_for_itself():
    @goliath.remote(concurrency_groups={"io": 1})
    class Grouped:
        @goliath.method(concurrency_group="io")
        def value(self):
            return 1

        @goliath.method(concurrency_group="io")
        def ask_beside_io(self, me):
            return goliath.get(me.other.remote())

        @goliath.method(concurrency_group="io")
        def ask_within_io(self, me):
            return goliath.get(me.value.remote())

        def other(self):
            time.sleep(1.5)
            return 2

    grouped = Grouped.remote()
    assert goliath.get(grouped.ask_beside_io.remote(grouped), timeout=20) == 2
    assert ", in ask_within_io" in str(deadlock(grouped.ask_within_io.remote(grouped)))
    assert goliath.get(grouped.value.remote(), timeout=20) == 1


def test_calls_that_are_slow_are_no_deadlock():
    slow, one, other = (Caller.remote() for _ in range(3))
    naps = [slow.nap.remote(3.0)]
    refs = [one.ask.remote(slow), other.ask.remote(one), nap.remote(0.1)]
    assert goliath.get(refs, timeout=30) == [1, 1, 0.1]
    assert goliath.get(naps) == [3.0]


def test_coroutine_methods_may_call_each_other_in_circles():
    @goliath.remote
    class Polite:
        async def value(self):
            return 1

        async def ask(self, *row):
            if len(row) == 1:
                await nap.remote(1.5)
                return await row[0].value.remote()
            return await row[0].ask.remote(*row[1:])

    one, other = Polite.remote(), Polite.remote()
    assert goliath.get(one.ask.remote(other, one), timeout=30) == 1


def test_a_thread_of_its_own_that_waits_does_not_make_a_call_a_waiting_one(tmp_path):
    @goliath.remote
    class Busy:
        def value(self):
            return 1

        def work(self, me):
            values = []
            helper = threading.Thread(target=lambda: values.append(goliath.get(me.value.remote())))
            helper.start()
            time.sleep(3.0)  # it waits for this call, which does not wait for it
            self.helper, self.values = helper, values
            return "done"

        def values_of_helper(self):
            self.helper.join(20)
            return self.values

    busy = Busy.remote()
    assert goliath.get(busy.work.remote(busy), timeout=20) == "done"
    assert goliath.get(busy.values_of_helper.remote(), timeout=20) == [1]


def test_a_circle_that_is_cut_by_a_kill_ends_with_the_kill():
    one, other = Caller.remote(), Caller.remote()
    pid = goliath.get(other.ask_patiently.remote(one, 5))
    assert pid == 1
    ref = one.ask.remote(other, one)
    goliath.kill(other)
    with pytest.raises(goliath.ActorDiedError):
        goliath.get(ref, timeout=20)
    assert goliath.get(one.value.remote(), timeout=20) == 1
