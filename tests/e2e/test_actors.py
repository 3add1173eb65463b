"""Actors: instances in processes of their own, called in order, held by handles, made again."""

from __future__ import annotations

import gc
import os
import re
import signal
import threading
import time
from pathlib import Path

import pytest

import goliath
from goliath import (
    ActorDiedError,
    ActorUnavailableError,
    PendingCallsLimitExceeded,
    WorkerCrashedError,
)
from goliath.testing.processes import until
from tests.lieutenants import Lieutenant


@pytest.fixture(autouse=True)
def cluster():
    yield goliath.init(workers=2)
    goliath.shutdown()


@goliath.remote
class Counter:
    """Counts."""

    def __init__(self, start=0):
        self.n = start

    def add(self, k=1):
        self.n += k
        return self.n

    def pid(self):
        return os.getpid()

    def die(self):
        os._exit(3)

    def context(self):
        context = goliath.get_runtime_context()
        return context.actor_id, context.was_current_actor_reconstructed, context.task_id


@goliath.remote
def square(x):
    return x * x


@goliath.remote
class Gate:
    """A call of it lasts until a file is there."""

    def wait(self, path):
        while not path.exists():
            time.sleep(0.005)

    def pid(self):
        return os.getpid()

    def log(self, path, text):
        with path.open("a") as file:
            file.write(text)


def test_an_actor_keeps_its_state_between_calls():
    counter = Counter.remote(10)
    assert goliath.get([counter.add.remote(5), counter.add.remote(k=2)]) == [15, 17]


def test_each_actor_has_a_process_of_its_own_and_takes_no_slot_of_tasks():
    pids = goliath.get([Counter.remote().pid.remote() for _ in range(5)])
    assert len({*pids, os.getpid()}) == 6
    actors = [Gate.remote() for _ in range(3)]
    never = Path("/nonexistent")
    held = [actor.wait.remote(never) for actor in actors]
    assert goliath.get([square.remote(x) for x in range(4)], timeout=30) == [0, 1, 4, 9]
    del held


def test_calls_begin_in_the_order_in_which_they_are_made(tmp_path: Path):
    gate, path = Gate.remote(), tmp_path / "log"
    for place in range(300):
        gate.log.remote(path, f"{place} ")
    goliath.get(gate.log.remote(path, "end"))
    assert path.read_text() == " ".join(map(str, range(300))) + " end"


def test_a_call_that_takes_a_result_still_to_come_holds_up_those_behind_it(tmp_path: Path):
    @goliath.remote
    def slow():
        time.sleep(0.2)
        return 100

    counter = Counter.remote()
    assert goliath.get([counter.add.remote(slow.remote()), counter.add.remote(1)]) == [100, 101]


def test_ten_thousand_calls_in_flight_all_count():
    counter = Counter.remote()
    refs = [counter.add.remote() for _ in range(10_000)]
    assert goliath.get(refs) == list(range(1, 10_001))


def test_an_exception_is_the_outcome_of_its_call_only_and_the_actor_lives_on():
    @goliath.remote
    class Fragile:
        def divide(self, a, b):
            return a / b

    fragile = Fragile.remote()
    bad, good = fragile.divide.remote(1, b=0), fragile.divide.remote(4, 2)
    with pytest.raises(ZeroDivisionError) as caught:
        goliath.get(bad)
    assert "Fragile.divide(1, b=0)" in caught.value.__notes__[0]
    assert goliath.get(good) == 2


def test_handles_travel_to_tasks_and_actors_in_containers_and_back():
    @goliath.remote
    def use(box):
        return goliath.get(box["counter"].add.remote(5)), box["counter"]

    @goliath.remote
    class Caller:
        def call(self, counter):
            return goliath.get(counter.add.remote(7))

    @goliath.remote
    def make():
        made = Counter.remote(1)
        goliath.get(made.add.remote(1))
        return made

    counter = Counter.remote()
    value, back = goliath.get(use.remote({"counter": counter}))
    assert (value, back == counter) == (5, True)
    assert goliath.get(Caller.remote().call.remote(back)) == 12
    assert goliath.get(goliath.get(make.remote()).add.remote(1)) == 3


def test_an_actor_calls_tasks_and_other_actors():
    @goliath.remote
    class Boss:
        def __init__(self):
            self.counter = Counter.remote()

        def work(self, n):
            return sum(goliath.get([square.remote(i) for i in range(n)])), goliath.get(
                self.counter.add.remote(n)
            )

    boss = Boss.remote()
    assert goliath.get([boss.work.remote(3), boss.work.remote(4)]) == [(5, 3), (14, 7)]


def test_an_actor_makes_others_of_its_own_class():
    @goliath.remote
    class Node:
        def depth(self, left):
            return goliath.get(Node.remote().depth.remote(left - 1)) + 1 if left else 0

    assert goliath.get(Node.remote().depth.remote(2)) == 2


def test_what_a_call_of_an_actor_has_begun_never_runs_in_the_process_of_the_actor():
    @goliath.remote
    def pid():
        time.sleep(0.05)
        return os.getpid()

    @goliath.remote
    class Starter:
        def start(self):
            self.refs = [pid.remote() for _ in range(6)]
            return os.getpid()

        def collect(self):
            return goliath.get(self.refs)

    starter = Starter.remote()
    own = goliath.get(starter.start.remote())
    time.sleep(0.3)  # none of its calls runs meanwhile
    assert own not in goliath.get(starter.collect.remote())


def test_a_coroutine_method_is_awaited():
    @goliath.remote
    class Slow:
        async def double(self, x):
            import asyncio

            await asyncio.sleep(0.01)
            return 2 * x

    assert goliath.get(Slow.remote().double.remote(4)) == 8


def test_coroutine_methods_of_one_actor_run_beside_each_other():
    @goliath.remote
    class Waiter:
        def __init__(self):
            import asyncio

            self.event = asyncio.Event()
            self.now = self.most = 0

        async def wait(self):
            self.now += 1
            self.most = max(self.most, self.now)
            try:
                await self.event.wait()
            finally:
                self.now -= 1
            return self.most

        async def open(self):
            self.event.set()

        def peek(self):
            return self.now

    waiter = Waiter.remote()
    refs = [waiter.wait.remote() for _ in range(50)]
    until(lambda: goliath.get(waiter.peek.remote()) == 50, 20)
    goliath.get(waiter.open.remote())
    assert max(goliath.get(refs, timeout=20)) == 50

    narrow = Waiter.options(max_concurrency=3).remote()
    refs = [narrow.wait.remote() for _ in range(5)]
    goliath.wait(refs, timeout=0.2)
    for ref in refs[:3]:
        goliath.cancel(ref)
    goliath.get(narrow.open.remote(), timeout=20)
    assert max(goliath.get(refs[3:], timeout=20)) <= 3


def test_what_an_actor_has_begun_in_its_loop_goes_on_between_calls():
    @goliath.remote
    class Ticker:
        async def start(self):
            import asyncio

            self.ticks = 0
            self.task = asyncio.get_running_loop().create_task(self._tick())

        async def _tick(self):
            import asyncio

            while True:
                self.ticks += 1
                await asyncio.sleep(0.001)

        async def look(self):
            return self.ticks

    ticker = Ticker.remote()
    goliath.get(ticker.start.remote())
    first = goliath.get(ticker.look.remote())
    time.sleep(0.2)
    assert goliath.get(ticker.look.remote()) > first + 20


def test_with_threads_the_calls_of_a_plain_actor_run_beside_each_other():
    @goliath.remote(max_concurrency=4)
    class Meeting:
        def __init__(self):
            self.barrier = threading.Barrier(4)

        def meet(self, x):
            self.barrier.wait(20)
            return goliath.get(square.remote(x)), goliath.get_runtime_context().task_id

        def leave(self):
            goliath.exit_actor()

    meeting = Meeting.remote()
    refs = [meeting.meet.remote(x) for x in range(4)]
    results = goliath.get(refs, timeout=30)
    assert [value for value, _ in results] == [0, 1, 4, 9]
    assert [task_id for _, task_id in results] == [ref.task_id for ref in refs]
    assert goliath.get(meeting.leave.remote()) is None
    with pytest.raises(ActorDiedError):
        goliath.get(meeting.meet.remote(1), timeout=20)


def test_a_coroutine_method_that_leaves_ends_its_actor():
    @goliath.remote
    class Leaver:
        async def leave(self):
            goliath.exit_actor()

    leaver = Leaver.remote()
    assert goliath.get(leaver.leave.remote()) is None
    with pytest.raises(ActorDiedError, match="exit_actor"):
        goliath.get(leaver.leave.remote(), timeout=20)


def test_a_method_with_several_returns_gives_a_ref_each():
    @goliath.remote
    class Pair:
        @goliath.method(num_returns=2)
        def both(self):
            return 1, 2

    pair = Pair.remote()
    a, b = pair.both.remote()
    assert goliath.get([b, a]) == [2, 1]
    assert goliath.get(pair.both.options(num_returns=1).remote()) == (1, 2)


def test_what_can_be_called_is_known_before_it_is():
    counter = Counter.remote()
    with pytest.raises(AttributeError, match="no method 'subtract'"):
        counter.subtract.remote(1)
    with pytest.raises(TypeError, match=r"add\.remote"):
        counter.add(1)
    with pytest.raises(TypeError, match=r"Counter\.remote"):
        Counter(1)
    assert "add" in dir(counter)
    assert "Counter" in repr(counter)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"max_restart": 1}, TypeError),
        ({"max_restarts": -2}, ValueError),
        ({"num_cpus": -1}, ValueError),
        ({"max_pending_calls": 1.5}, ValueError),
        ({"max_concurrency": 0}, ValueError),
        ({"scheduling_strategy": "ANYWHERE"}, ValueError),
    ],
)
def test_options_that_make_no_sense_are_refused(options, error):
    with pytest.raises(error):
        Counter.options(**options)


def test_a_named_actor_is_found_while_it_lives():
    counter = Counter.options(name="hits").remote(1)
    assert goliath.get(goliath.get_actor("hits").add.remote()) == 2
    again = Counter.options(name="hits", get_if_exists=True).remote(100)
    assert goliath.get(again.add.remote()) == 3
    with pytest.raises(ValueError, match="already"):
        Counter.options(name="hits").remote()
    elsewhere = Counter.options(name="hits", namespace="other").remote(50)
    assert goliath.get(goliath.get_actor("hits", "other").add.remote()) == 51

    @goliath.remote
    def from_a_task():
        return goliath.get(goliath.get_actor("hits").add.remote())

    assert goliath.get(from_a_task.remote()) == 4
    goliath.kill(counter)
    with pytest.raises(ActorDiedError):
        goliath.get(again.add.remote())
    with pytest.raises(ValueError, match="no actor called 'hits'"):
        goliath.get_actor("hits")
    del elsewhere


def test_in_a_task_too_no_two_actors_have_one_name():
    @goliath.remote
    def make():
        first = Counter.options(name="only").remote(1)
        try:
            Counter.options(name="only").remote()
        except ValueError as exc:
            return str(exc), goliath.get(first.add.remote())
        return "", 0

    told, count = goliath.get(make.remote())
    assert "already" in told
    assert count == 2


def test_an_actor_that_was_killed_in_a_task_is_dead_for_all():
    @goliath.remote
    def kill(counter):
        goliath.kill(counter)

    counter = Counter.remote()
    goliath.get(kill.remote(counter))
    with pytest.raises(ActorDiedError, match="killed"):
        goliath.get(counter.add.remote(), timeout=20)


def test_a_task_that_looks_for_an_actor_that_is_not_there_is_told_so():
    @goliath.remote
    def look():
        try:
            goliath.get_actor("nobody")
        except ValueError as exc:
            return str(exc)
        return ""

    assert "nobody" in goliath.get(look.remote())


def test_kill_ends_an_actor_at_once_and_everybody_who_waits_is_told(tmp_path: Path):
    gate = Gate.remote()
    never = tmp_path / "never"
    refs = [gate.wait.remote(never) for _ in range(5)]
    goliath.kill(gate)
    for ref in refs:
        with pytest.raises(ActorDiedError, match="killed"):
            goliath.get(ref, timeout=20)
    with pytest.raises(ActorDiedError, match="killed"):
        goliath.get(gate.wait.remote(never), timeout=20)


def test_an_actor_whose_argument_had_failed_before_it_was_made_says_so():
    @goliath.remote
    def bad():
        raise KeyError("nothing to begin with")

    ref = bad.remote()
    goliath.wait([ref])
    with pytest.raises(ActorDiedError, match="nothing to begin with"):
        goliath.get(Counter.remote(ref).add.remote(), timeout=20)


def test_the_death_of_an_actor_says_how_its_process_ended():
    counter = Counter.remote()
    with pytest.raises(ActorDiedError) as caught:
        goliath.get(counter.die.remote())
    assert caught.value.maybe_executed
    assert isinstance(caught.value.__cause__, WorkerCrashedError)
    assert caught.value.__cause__.exit_code == 3
    with pytest.raises(ActorDiedError):
        goliath.get(counter.add.remote())


def test_an_actor_is_made_again_as_often_as_it_may_and_goes_on_with_what_waits():
    counter = Counter.options(max_restarts=1).remote(10)
    actor_id, before, _ = goliath.get(counter.context.remote())
    assert goliath.get(counter.add.remote()) == 11
    with pytest.raises(ActorUnavailableError):
        goliath.get(counter.die.remote())
    assert goliath.get(counter.add.remote()) == 11
    assert goliath.get(counter.context.remote())[:2] == (actor_id, True)
    assert not before
    with pytest.raises(ActorDiedError):
        goliath.get(counter.die.remote())


def test_an_idle_actor_that_is_killed_is_made_again():
    counter = Counter.options(max_restarts=-1).remote(5)
    for _ in range(3):
        pid = goliath.get(counter.pid.remote())
        os.kill(pid, signal.SIGKILL)
        until(lambda pid=pid: goliath.get(fresh_pid(counter)) != pid, 20)
    assert goliath.get(counter.add.remote()) == 6


def fresh_pid(counter):
    """A ref to its pid, whatever happens meanwhile."""
    while True:
        ref = counter.pid.remote()
        try:
            goliath.get(ref)
        except ActorUnavailableError:
            continue
        return ref


def test_a_call_is_made_again_if_it_may_be(tmp_path: Path):
    @goliath.remote(max_restarts=2, max_task_retries=2)
    class DiesOnce:
        def call(self):
            if not (tmp_path / "died").exists():
                (tmp_path / "died").touch()
                os._exit(1)
            return "alive"

    actor = DiesOnce.remote()
    refs = [actor.call.remote() for _ in range(3)]
    assert goliath.get(refs, timeout=30) == ["alive"] * 3


def test_kill_with_restart_counts_as_a_death():
    counter = Counter.options(max_restarts=1).remote()
    pid = goliath.get(counter.pid.remote())
    goliath.kill(counter, no_restart=False)
    assert goliath.get(fresh_pid(counter)) != pid


def test_an_actor_that_is_killed_while_it_waits_for_its_arguments_is_made_with_them(tmp_path: Path):
    @goliath.remote
    def start():
        while not (tmp_path / "go").exists():
            time.sleep(0.005)
        return 5

    counter = Counter.options(max_restarts=1).remote(start.remote())
    ref = counter.add.remote(1)
    goliath.kill(counter, no_restart=False)
    (tmp_path / "go").touch()
    assert goliath.get(ref, timeout=20) == 6


@pytest.mark.parametrize("options", [{}, {"max_concurrency": 4}, {"concurrency_groups": {"io": 1}}])
def test_an_actor_may_wait_for_others_while_it_is_made(options):
    @goliath.remote(**options)
    class Squares:
        def __init__(self, n):
            self.squares = goliath.get([square.remote(i) for i in range(n)], timeout=20)

        def all(self):
            return self.squares

    @goliath.remote
    class Awaits(Squares._cls):
        async def all(self):
            return self.squares

    for cls in (Squares, Awaits):
        assert goliath.get(cls.remote(3).all.remote(), timeout=20) == [0, 1, 4]


def test_an_actor_leaves_by_itself_after_the_call_that_says_so():
    @goliath.remote(max_restarts=5)
    class Leaver:
        def leave(self):
            goliath.exit_actor()

        def stay(self):
            return "here"

    leaver = Leaver.remote()
    stays, leaves, late = leaver.stay.remote(), leaver.leave.remote(), leaver.stay.remote()
    assert goliath.get([stays, leaves]) == ["here", None]
    with pytest.raises(ActorDiedError, match="exit_actor"):
        goliath.get(late)
    with pytest.raises(RuntimeError, match="outside of an actor"):
        goliath.exit_actor()


def test_an_actor_ends_with_its_last_handle_after_the_calls_that_were_made(tmp_path: Path):
    gate = Gate.remote()
    go, log = tmp_path / "go", tmp_path / "log"

    @goliath.remote
    class Named:
        def pid(self):
            return os.getpid()

        def wait(self):
            while not go.exists():
                time.sleep(0.005)
            log.touch()

    actor = Named.remote()
    pid = goliath.get(actor.pid.remote())
    actor.wait.remote()
    del actor
    gc.collect()
    go.touch()
    until(log.exists, 20)
    until(lambda: not Path(f"/proc/{pid}").exists(), 20)
    del gate


def test_a_call_under_which_its_actor_dies_ends_though_nobody_has_a_handle_any_more(tmp_path: Path):
    gate = Gate.remote()
    pid = goliath.get(gate.pid.remote())
    ref = gate.wait.remote(tmp_path / "never")
    del gate
    gc.collect()
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(ActorDiedError):
        goliath.get(ref, timeout=20)


def test_a_handle_in_a_task_keeps_its_actor_alive(tmp_path: Path):
    go = tmp_path / "go"

    @goliath.remote
    def use(counter):
        while not go.exists():
            time.sleep(0.005)
        return goliath.get(counter.add.remote(1))

    ref = use.remote(Counter.remote(41))
    gc.collect()
    time.sleep(0.1)  # long enough for it to end, if it did
    go.touch()
    assert goliath.get(ref, timeout=20) == 42


def test_no_more_calls_wait_than_may(tmp_path: Path):
    gate = Gate.options(max_pending_calls=3).remote()
    go = tmp_path / "go"
    refs = [gate.wait.remote(go) for _ in range(3)]
    with pytest.raises(PendingCallsLimitExceeded, match="max_pending_calls"):
        gate.wait.remote(go)
    go.touch()
    goliath.get(refs)
    goliath.get(gate.wait.remote(go))


def test_a_waiting_call_of_an_actor_can_be_cancelled_and_the_actor_lives_on(tmp_path: Path):
    gate, go = Gate.remote(), tmp_path / "go"
    runs = gate.wait.remote(go)
    waits = [gate.log.remote(tmp_path / "log", "x") for _ in range(3)]
    goliath.cancel(waits[1])
    with pytest.raises(goliath.TaskCancelledError):
        goliath.get(waits[1])
    go.touch()
    goliath.get([runs, waits[0], waits[2]])
    assert goliath.get(gate.log.remote(tmp_path / "log", "y")) is None


def test_an_actor_keeps_its_directory_and_its_threads(tmp_path: Path):
    @goliath.remote
    class Stateful:
        def __init__(self):
            os.chdir(tmp_path)
            self.ticks = 0
            threading.Thread(target=self._tick, daemon=False).start()

        def _tick(self):
            for _ in range(10_000):
                self.ticks += 1
                time.sleep(0.001)

        def look(self):
            return os.getcwd(), self.ticks

    actor = Stateful.remote()
    cwd, first = goliath.get(actor.look.remote())
    assert cwd == str(tmp_path)
    until(lambda: goliath.get(actor.look.remote())[1] > first, 20)


def test_actors_that_take_cpus_hold_them_as_long_as_they_live(tmp_path: Path):
    holder = Counter.options(num_cpus=2).remote()
    goliath.get(holder.add.remote())
    (blocked,) = goliath.wait([square.remote(3)], timeout=0.2)[1]
    goliath.kill(holder)
    assert goliath.get(blocked, timeout=20) == 9


def test_what_actors_take_is_not_available_any_more():
    total = goliath.cluster_resources()
    holder = Counter.options(num_cpus=1, memory=1000).remote()
    goliath.get(holder.add.remote())

    def free():
        available = goliath.available_resources()
        return available["CPU"], total["memory"] - available["memory"]

    until(lambda: free() == (1.0, 1000.0), 20)
    goliath.kill(holder)
    until(lambda: free() == (2.0, 0.0), 20)


def test_in_local_mode_an_actor_is_an_object_here():
    goliath.shutdown()
    goliath.init(local_mode=True)
    counter = Counter.remote(1)
    assert goliath.get(counter.add.remote(2)) == 3
    assert goliath.get(counter.pid.remote()) == os.getpid()
    goliath.kill(counter)
    with pytest.raises(ActorDiedError):
        goliath.get(counter.add.remote())


def test_a_class_may_have_actor_as_its_base_instead_of_the_decorator():
    class Adder(goliath.Actor):
        def __init__(self, n=0):
            self.n = n

        def add(self, k):
            return self.n + k

    assert goliath.get(Adder.remote(1).add.remote(2)) == 3
    named = Adder.options(name="adder").remote(10)
    assert goliath.get(goliath.get_actor("adder").add.remote(1)) == 11
    assert Adder(5).add(1) == 6
    with pytest.raises(AttributeError):
        _ = named.options


def test_a_hundred_actors_come_and_go():
    actors = [Counter.remote(n) for n in range(100)]
    assert goliath.get([a.add.remote() for a in actors], timeout=50) == list(range(1, 101))
    pids = goliath.get([actor.pid.remote() for actor in actors])
    del actors
    gc.collect()
    until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids), 30)


def test_a_node_has_no_more_actors_than_it_may():
    goliath.shutdown()
    with Lieutenant(2, "--max-actors", "1") as one, Lieutenant(1, "--max-actors", "1") as other:
        goliath.init([one.address, other.address])
        first, second, third = (Counter.remote() for _ in range(3))
        assert goliath.get([first.add.remote(), second.add.remote()], timeout=20) == [1, 1]
        waiting = third.add.remote()
        assert goliath.wait([waiting], timeout=0.5) == ([], [waiting])
        goliath.kill(first)
        goliath.kill(second)
        assert goliath.get(waiting, timeout=20) == 1
        with pytest.raises(ValueError, match="each actor takes one of actors"):
            Counter.options(resources={"actors": 2})


def test_a_process_that_ends_between_calls_is_blamed_on_none():
    counter = Counter.options(max_restarts=1).remote()
    for _ in range(2):
        pid = goliath.get(counter.pid.remote())
        os.kill(pid, signal.SIGKILL)
        until(lambda pid=pid: not Path(f"/proc/{pid}").exists(), 10, "it is buried")
    ended = r"the process of actor Counter \(actor-\d+\) has ended: signal 9 SIGKILL; pid \d+ on "
    last = rf"ended more than 1 time, the last time with WorkerCrashedError: {ended}embedded#1\. "
    with pytest.raises(ActorDiedError, match=last) as caught:
        goliath.get(counter.add.remote())
    assert "\n" not in str(caught.value)
    assert re.match(ended, str(caught.value.__cause__))
