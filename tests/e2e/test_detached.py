"""Detached actors: they belong to their node, outlive their maker, and serve all Commanders."""

from __future__ import annotations

import gc
import json
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import dedent

import pytest

import goliath
from goliath import (
    ActorDiedError,
    ActorUnavailableError,
    Commander,
    ObjectLostError,
    TaskCancelledError,
    WorkerCrashedError,
)
from goliath.cli import main
from goliath.testing.processes import kill, until
from tests.commanders import Other
from tests.lieutenants import Lieutenant


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

    def reconstructed(self):
        return goliath.get_runtime_context().was_current_actor_reconstructed

    def leave(self):
        goliath.exit_actor()


@goliath.remote
class Gate:
    """A call of it lasts until a file is there."""

    def wait(self, path):
        Path(f"{path}.begun").touch()
        while not Path(path).exists():
            time.sleep(0.005)
        return "opened"

    def peek(self):
        return "here"


def detached(cls, name, *args, **options):
    return cls.options(name=name, lifetime="detached", **options).remote(*args)


@pytest.fixture(autouse=True)
def cluster(node: Lieutenant) -> Iterator[Commander]:
    commander = goliath.init(node.address)
    assert commander is not None
    yield commander
    if goliath.is_initialized():
        for actor in commander.detached_actors():
            commander.kill_detached(actor.name, actor.namespace)
    goliath.shutdown()


def gone(pid: int) -> bool:
    return not Path(f"/proc/{pid}").exists()


# -- it stays ------------------------------------------------------------------------------


@pytest.mark.parametrize(("how", "code"), [("end", 0), ("raise", 1), ("kill", -9)])
def test_it_survives_its_commander_whichever_way_that_ends(other: Other, how: str, code: int):
    text = """
        counter = detached(Counter, "hits", 10)
        print(goliath.get([counter.add.remote(5), counter.pid.remote()]), flush=True)
        end(sys.argv[2])
    """
    value, pid = json.loads(other.run(text, how, code=code))
    assert value == 15
    until(lambda: goliath.nodes()[0].alive, 30)
    time.sleep(4 if how == "kill" else 0)  # longer than the node remembers a dead session
    found = goliath.get_actor("hits")
    assert goliath.get([found.add.remote(), found.pid.remote()]) == [16, pid]


def test_it_survives_a_commander_that_only_made_it(other: Other):
    other.run('detached(Counter, "hits", 7)')
    assert goliath.get(goliath.get_actor("hits").add.remote()) == 8


def test_it_stays_when_nobody_has_a_handle_of_it():
    counter = detached(Counter, "hits")
    pid = goliath.get(counter.pid.remote())
    del counter
    gc.collect()
    assert goliath.get(goliath.get_actor("hits").pid.remote()) == pid


def test_it_needs_a_name_and_a_lifetime_has_to_be_one():
    with pytest.raises(ValueError, match="needs a name"):
        Counter.options(lifetime="detached").remote()
    with pytest.raises(ValueError, match="it is None or 'detached'"):
        Counter.options(name="x", lifetime="eternal")


def test_an_actor_that_is_not_detached_ends_after_its_commander_was_killed(other: Other):
    text = """
        counter = Counter.options(name="mine").remote()
        print(goliath.get(counter.pid.remote()), flush=True)
        end("kill")
    """
    pid = int(other.run(text, code=-9))
    until(lambda: gone(pid), 15, "the end of the session's grace")
    with pytest.raises(ValueError, match="mine"):
        goliath.get_actor("mine")


# -- it is found -----------------------------------------------------------------------------


def test_it_is_found_in_its_namespace_only(other: Other):
    other.run('detached(Counter, "hits", 1, namespace="left")')
    other.run('detached(Counter, "hits", 50, namespace="right")')
    with pytest.raises(ValueError, match="namespace"):
        goliath.get_actor("hits")
    left, right = (goliath.get_actor("hits", space) for space in ("left", "right"))
    assert goliath.get([left.add.remote(), right.add.remote()]) == [2, 51]


def test_handles_of_it_are_equal_and_know_its_methods():
    made = detached(Counter, "hits")
    found = goliath.get_actor("hits")
    assert found == made
    assert "add" in dir(found)
    with pytest.raises(AttributeError, match="subtract"):
        found.subtract.remote()


def test_calls_by_a_handle_that_was_found_again_have_names_of_their_own():
    counter = detached(Counter, "hits")
    first = counter.add.remote()
    del counter
    gc.collect()
    second = goliath.get_actor("hits").add.remote()
    assert first.task_id != second.task_id

    @goliath.remote
    def both(refs):
        return goliath.get(refs)

    assert goliath.get(both.remote([first])) == [1]
    assert goliath.get(both.remote([first, second])) == [1, 2]


def test_its_name_is_taken_for_all_commanders(other: Other):
    detached(Counter, "hits", 100)
    text = """
        for options in ({"lifetime": "detached"}, {}):
            try:
                Counter.options(name="hits", **options).remote()
            except ValueError as exc:
                print("already" in str(exc))
        same = Counter.options(name="hits", lifetime="detached", get_if_exists=True).remote()
        print(goliath.get(same.add.remote()))
    """
    assert other.run(text).split() == ["True", "True", "101"]


def test_of_many_who_make_it_at_once_all_get_the_same(other: Other, tmp_path: Path):
    go = tmp_path / "go"
    text = """
        goliath.nodes()
        print("ready", flush=True)
        while not Path(sys.argv[2]).exists():
            pass
        counter = detached(Counter, "hits", get_if_exists=True)
        print(*goliath.get([counter.pid.remote(), *(counter.add.remote() for _ in range(10))]))
    """
    processes = [other.start(text, go) for _ in range(3)]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    go.touch()
    seen = [list(map(int, p.communicate(timeout=30)[0].split())) for p in processes]
    assert len({pid for pid, *_ in seen}) == 1
    assert sorted(n for _, *counts in seen for n in counts) == list(range(1, 31))


def test_it_is_made_found_called_and_killed_by_tasks():
    @goliath.remote
    def make():
        counter = Counter.options(name="hits", lifetime="detached").remote(3)
        return goliath.get(counter.add.remote())

    @goliath.remote
    def again():
        try:
            Counter.options(name="hits", lifetime="detached").remote(3)
        except ValueError as exc:
            return str(exc)
        return ""

    @goliath.remote
    def call():
        return goliath.get(goliath.get_actor("hits").add.remote(10))

    @goliath.remote
    def end():
        goliath.kill(goliath.get_actor("hits"))

    assert goliath.get(make.remote()) == 4
    assert "already" in goliath.get(again.remote())
    assert goliath.get(call.remote()) == 14
    counter = goliath.get_actor("hits")
    goliath.get(end.remote())
    with pytest.raises(ActorDiedError, match="killed"):
        goliath.get(counter.add.remote(), timeout=20)
    with pytest.raises(ValueError, match="hits"):
        goliath.get_actor("hits")


def test_it_is_found_on_whichever_node_it_lives(lieutenant, free_port: int):
    nodes = [lieutenant(1).address for _ in range(2)]
    goliath.shutdown()
    goliath.init(nodes)
    until(lambda: sum(node.alive for node in goliath.nodes()) == 2, 30)
    names = [str(number) for number in range(4)]
    pids = {name: goliath.get(detached(Counter, name).pid.remote()) for name in names}
    goliath.shutdown()

    counts = []
    for node in nodes:
        with Commander([node]) as commander:
            counts.append(len(commander.detached_actors()))
    assert counts == [2, 2], "they are spread"

    goliath.init([("127.0.0.1", free_port), *reversed(nodes)])
    for name in names:
        with pytest.raises(ValueError, match="already"):
            detached(Counter, name)
        assert goliath.get(goliath.get_actor(name).pid.remote()) == pids[name]
    goliath.shutdown()


def test_a_result_still_to_come_may_be_an_argument_of_its_init():
    @goliath.remote
    def slow():
        time.sleep(0.2)
        return 40

    @goliath.remote
    def bad():
        raise KeyError("nothing to begin with")

    assert goliath.get(detached(Counter, "hits", slow.remote()).add.remote(2)) == 42
    with pytest.raises(ActorDiedError, match="nothing to begin with"):
        detached(Counter, "never", bad.remote())


def test_it_keeps_the_files_of_the_job_that_made_it(other: Other, tmp_path: Path):
    (tmp_path / "helper.py").write_text("VALUE = 17\n")
    text = """
        class Reader:
            def read(self):
                import helper
                return helper.VALUE, Path("helper.py").exists()

        def make():
            goliath.remote(Reader).options(name="reader", lifetime="detached").remote()

        goliath.runtime.commander().run(make, [()], ["helper.py"])
    """
    other.run("import goliath.runtime\n" + dedent(text))
    assert goliath.get(goliath.get_actor("reader").read.remote()) == (17, True)


# -- it is called ------------------------------------------------------------------------------


def test_calls_of_all_commanders_run_one_at_a_time_those_of_each_in_order(
    other: Other, tmp_path: Path
):
    @goliath.remote
    class Log:
        def __init__(self):
            self.seen, self.inside = [], 0

        def note(self, who, number):
            self.inside += 1
            time.sleep(0.0005)
            self.seen.append((who, number, self.inside))
            self.inside -= 1

        def all(self):
            return self.seen

    log = detached(Log, "log")
    text = """
        log = goliath.get_actor("log")
        print("ready", flush=True)
        goliath.get([log.note.remote(sys.argv[2], n) for n in range(300)])
    """
    others = [other.start(text, who) for who in "ab"]
    for process in others:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    goliath.get([log.note.remote("me", n) for n in range(300)])
    for process in others:
        process.communicate(timeout=40)
        assert process.returncode == 0
    seen = goliath.get(log.all.remote())
    assert {inside for _, _, inside in seen} == {1}
    for who in ("a", "b", "me"):
        assert [n for name, n, _ in seen if name == who] == list(range(300))
    first = [name for name, _, _ in seen[:600]]
    assert set(first) == {"a", "b", "me"}, "one had to wait for all the others"


def test_with_threads_calls_of_two_commanders_run_beside_each_other(other: Other):
    @goliath.remote
    class Meeting:
        def __init__(self):
            self.barrier = threading.Barrier(2)

        def meet(self):
            return self.barrier.wait(20)

    meeting = detached(Meeting, "meeting", max_concurrency=2)
    process = other.start('print(goliath.get(goliath.get_actor("meeting").meet.remote()))')
    mine = goliath.get(meeting.meet.remote(), timeout=30)
    assert {mine, int(process.communicate(timeout=30)[0])} == {0, 1}


def test_coroutine_methods_for_two_commanders_share_one_loop(other: Other):
    @goliath.remote
    class Waiter:
        def __init__(self):
            import asyncio

            self.event = asyncio.Event()

        async def wait(self):
            await self.event.wait()
            return os.getpid()

        async def open(self):
            self.event.set()

    waiter = detached(Waiter, "waiter")
    refs = [waiter.wait.remote() for _ in range(20)]
    other.run('goliath.get(goliath.get_actor("waiter").open.remote())')
    assert len(set(goliath.get(refs, timeout=20))) == 1


@pytest.mark.parametrize("force", [False, True])
def test_a_cancelled_call_of_it_is_interrupted_and_it_lives_on(tmp_path: Path, force: bool):
    gate = detached(Gate, "gate")
    pid = goliath.get_actor("gate")
    ref, waits = gate.wait.remote(str(tmp_path / "never")), gate.peek.remote()
    until((tmp_path / "never.begun").exists, 20)
    goliath.cancel(ref, force=force)
    with pytest.raises(TaskCancelledError):
        goliath.get(ref, timeout=20)
    assert goliath.get(waits, timeout=20) == "here"
    assert pid == gate


def test_the_call_of_a_commander_that_was_killed_holds_nobody_up_for_long(
    other: Other, tmp_path: Path
):
    gate = detached(Gate, "gate")
    never = tmp_path / "never"
    text = """
        ref = goliath.get_actor("gate").wait.remote(sys.argv[2])
        while not Path(sys.argv[2] + ".begun").exists():
            time.sleep(0.01)
        end("kill")
    """
    other.run(text, never, code=-9)
    assert goliath.get(gate.peek.remote(), timeout=20) == "here"


def test_what_it_asks_for_is_done_by_whoever_calls_it(other: Other):
    @goliath.remote
    class Boss:
        def work(self, n):
            square = goliath.remote(lambda x: (x * x, os.getppid()))
            return [value for value, _ in goliath.get([square.remote(i) for i in range(n)])]

        def keep(self):
            self.ref = goliath.remote(lambda: "never asked for").remote()
            self.counter = Counter.remote(5)
            return goliath.get(self.counter.add.remote())

        def look(self):
            try:
                return goliath.get(self.ref)
            except ObjectLostError as exc:
                return str(exc)

        def call(self):
            try:
                return goliath.get(self.counter.add.remote())
            except ObjectLostError as exc:
                return str(exc)

    boss = detached(Boss, "boss")
    assert goliath.get(boss.work.remote(4)) == [0, 1, 4, 9]
    text = """
        boss = goliath.get_actor("boss")
        print(goliath.get([boss.work.remote(3), boss.keep.remote(), boss.call.remote()]))
    """
    assert other.run(text) == "[[0, 1, 4], 6, 7]"
    until(lambda: "has ended" in goliath.get(boss.look.remote()), 20)
    assert "has ended" in goliath.get(boss.call.remote(), timeout=20)
    assert goliath.get(boss.work.remote(2), timeout=20) == [0, 1]


def test_handles_and_refs_go_through_it_from_one_living_commander_to_another(other: Other):
    @goliath.remote
    class Shelf:
        def put(self, box):
            self.counter = box["counter"]
            return goliath.put("made in a call"), goliath.get(self.counter.add.remote())

        def use(self):
            return goliath.get(self.counter.add.remote())

    shelf = detached(Shelf, "shelf")
    counter = Counter.remote(10)
    ref, count = goliath.get(shelf.put.remote({"counter": counter}))
    assert (goliath.get(ref), count) == ("made in a call", 11)
    assert other.run('print(goliath.get(goliath.get_actor("shelf").use.remote()))') == "12"
    assert goliath.get(counter.add.remote()) == 13

    @goliath.remote
    def use(handle):
        return goliath.get(handle.use.remote())

    assert goliath.get(use.remote(shelf)) == 14


def test_one_that_waits_for_what_its_dead_caller_had_begun_waits_no_longer(
    other: Other, tmp_path: Path
):
    @goliath.remote(max_concurrency=2)
    class Waits:
        def wait(self, path):
            @goliath.remote
            def never():
                Path(path).touch()
                time.sleep(60)

            self.ref = never.remote()
            try:
                goliath.get(self.ref)
            except ObjectLostError:
                self.told = True

        def was_told(self):
            return getattr(self, "told", False)

    waits = detached(Waits, "waits")
    begun = tmp_path / "begun"
    text = """
        goliath.get_actor("waits").wait.remote(sys.argv[2])
        while not Path(sys.argv[2]).exists():
            time.sleep(0.01)
        end("kill")
    """
    other.run(text, begun, code=-9)
    until(lambda: goliath.get(waits.was_told.remote(), timeout=20), 20)


def test_what_it_prints_goes_to_whoever_calls_it(other: Other, capfd: pytest.CaptureFixture[str]):
    @goliath.remote
    class Talker:
        def say(self, text):
            sys.stdout.write(text + "\n")
            sys.stdout.flush()

    talker = detached(Talker, "talker")
    goliath.get(talker.say.remote("hello from me"))
    text = 'goliath.get(goliath.get_actor("talker").say.remote("hello from the other"))'
    assert "hello from the other" in other.run(text)
    goliath.get(talker.say.remote("and again"))
    mine = capfd.readouterr().out
    assert "hello from me" in mine
    assert "and again" in mine
    assert "other" not in mine


def test_it_holds_what_it_takes_of_its_node_until_it_is_killed(other: Other):
    other.run('goliath.get(detached(Counter, "holder", num_cpus=2).add.remote())')
    square = goliath.remote(lambda x: x * x)
    holder = goliath.get_actor("holder")
    assert goliath.get(holder.add.remote()) == 2

    def free():
        goliath.nodes()
        return goliath.available_resources()["CPU"]

    until(lambda: free() == 0.0, 30)
    goliath.kill(holder)
    until(lambda: free() == 2.0, 30)
    assert goliath.get(square.remote(3), timeout=20) == 9


# -- it ends -----------------------------------------------------------------------------------


def test_killed_it_ends_for_all_of_them(other: Other, tmp_path: Path):
    text = """
        gate = goliath.get_actor("gate")
        refs = [gate.wait.remote(sys.argv[2]) for _ in range(5)]
        for ref in refs:
            try:
                goliath.get(ref)
            except goliath.ActorDiedError as exc:
                print("killed" in str(exc))
    """
    gate = detached(Gate, "gate")
    never = tmp_path / "never"
    process = other.start(text, never)
    until((tmp_path / "never.begun").exists, 20)
    mine = gate.wait.remote(str(never))
    goliath.kill(gate)
    with pytest.raises(ActorDiedError, match="killed"):
        goliath.get(mine, timeout=20)
    out, err = process.communicate(timeout=30)
    assert out.split() == ["True"] * 5, err
    with pytest.raises(ValueError, match="no actor called 'gate'"):
        goliath.get_actor("gate")
    assert goliath.get(detached(Counter, "gate").add.remote()) == 1


def test_when_its_process_is_killed_all_of_them_are_told_how_it_ended(other: Other, tmp_path: Path):
    gate = detached(Gate, "gate")
    go = tmp_path / "never"
    text = """
        ref = goliath.get_actor("gate").wait.remote(sys.argv[2])
        try:
            goliath.get(ref)
        except goliath.ActorDiedError as exc:
            print(type(exc.__cause__).__name__, exc.maybe_executed)
    """
    process = other.start(text, go)
    until((tmp_path / "never.begun").exists, 20)
    ref = gate.peek.remote()
    (info,) = goliath.runtime.commander().detached_actors()
    assert (info.state, info.class_name) == ("busy", "Gate")
    os.kill(info.pid, signal.SIGKILL)
    with pytest.raises(ActorDiedError) as caught:
        goliath.get(ref, timeout=20)
    assert isinstance(caught.value.__cause__, WorkerCrashedError)
    assert not caught.value.maybe_executed
    assert process.communicate(timeout=30)[0].split() == ["WorkerCrashedError", "True"]
    with pytest.raises(ValueError, match="no actor called 'gate'"):
        goliath.get_actor("gate")


def test_its_node_makes_it_again_without_its_maker(other: Other):
    other.run('goliath.get(detached(Counter, "hits", 10, max_restarts=1).add.remote(5))')
    counter = goliath.get_actor("hits")
    pid = goliath.get(counter.pid.remote())
    assert goliath.get(counter.add.remote()) == 16
    os.kill(pid, signal.SIGKILL)
    until(lambda: goliath.get(after_a_death(counter.pid.remote)) != pid, 20)
    assert goliath.get([counter.add.remote(), counter.pid.remote()])[0] == 11
    again = goliath.get_actor("hits")
    os.kill(goliath.get(again.pid.remote()), signal.SIGKILL)
    with pytest.raises(ActorDiedError):
        until(lambda: goliath.get(again.add.remote()) < 0, 20)


def after_a_death(make: Callable[[], goliath.ObjectRef[int]]) -> goliath.ObjectRef[int]:
    """A ref of a call that did not die with the actor."""
    while True:
        ref = make()
        try:
            goliath.get(ref)
        except ActorUnavailableError:
            continue
        return ref


def test_when_it_is_made_again_what_ran_may_have_been_executed_and_what_waited_is_run(
    tmp_path: Path,
):
    @goliath.remote
    class Fragile:
        def __init__(self):
            self.seen = []

        def die(self):
            os._exit(3)

        def note(self, n):
            self.seen.append(n)
            return n, goliath.get_runtime_context().was_current_actor_reconstructed

        def all(self):
            return self.seen

    fragile = detached(Fragile, "fragile", max_restarts=3)
    refs = [fragile.note.remote(0), fragile.die.remote()]
    refs += [fragile.note.remote(n) for n in range(1, 40)]
    assert goliath.get(refs[0]) == (0, False)
    with pytest.raises(ActorUnavailableError, match="may have been executed"):
        goliath.get(refs[1], timeout=20)
    ended = [ref for ref in refs[2:] if not unavailable(ref)]
    assert goliath.get(ended) == [(n, True) for n in range(40 - len(ended), 40)]
    assert goliath.get(fragile.all.remote()) == list(range(40 - len(ended), 40))


def unavailable(ref: goliath.ObjectRef[object]) -> bool:
    try:
        goliath.get(ref, timeout=20)
    except ActorUnavailableError:
        return True
    return False


def test_while_it_is_killed_again_and_again_every_call_of_all_is_answered_and_made_once(
    other: Other, cluster: Commander, tmp_path: Path
):
    @goliath.remote
    class Log:
        def __init__(self, path):
            self.path = path

        def note(self, who, number):
            with open(self.path, "a") as file:
                file.write(f"{who} {number}\n")
            time.sleep(0.002)

    path = tmp_path / "log"
    path.touch()
    detached(Log, "log", str(path), max_restarts=-1)
    text = """
        log = goliath.get_actor("log")
        answers = {}
        for burst in range(5):
            refs = [log.note.remote(sys.argv[2], 40 * burst + n) for n in range(40)]
            for ref in refs:
                try:
                    answer = goliath.get(ref, timeout=30)
                except goliath.ActorUnavailableError:
                    answer = "unavailable"
                answers[answer] = answers.get(answer, 0) + 1
        print(answers.get(None, 0), answers.get("unavailable", 0))
    """
    others = [other.start(text, who) for who in "ab"]
    until(lambda: path.stat().st_size > 40, 20, "both have begun")
    kills = 0
    while any(process.poll() is None for process in others):
        (info,) = cluster.detached_actors()
        if info.state in ("busy", "idle") and kills < 10:
            kill(info.pid)
            kills += 1
        until(lambda: any(process.poll() is not None for process in others) or grows(path), 30)
    told = [list(map(int, process.communicate(timeout=30)[0].split())) for process in others]
    assert kills
    assert [sum(each) for each in told] == [200, 200]
    lines = [line.split() for line in path.read_text().splitlines()]
    for who, (answered, _) in zip("ab", told, strict=True):
        numbers = [int(number) for name, number in lines if name == who]
        assert numbers == sorted(set(numbers)), "out of order, or made twice"
        assert len(numbers) >= answered


def grows(path: Path) -> bool:
    """Whether something is written to it in the next moment."""
    before = path.stat().st_size
    time.sleep(0.05)
    return path.stat().st_size > before


def test_a_call_is_made_again_in_its_place_if_it_may_be(tmp_path: Path):
    @goliath.remote(max_restarts=2, max_task_retries=2)
    class DiesOnce:
        def call(self, n):
            if not (tmp_path / "died").exists():
                (tmp_path / "died").touch()
                os._exit(1)
            with (tmp_path / "log").open("a") as file:
                file.write(f"{n} ")
            return n

    actor = detached(DiesOnce, "dies")
    refs = [actor.call.remote(n) for n in range(50)]
    assert goliath.get(refs, timeout=30) == list(range(50))
    assert (tmp_path / "log").read_text().split() == list(map(str, range(50)))


def test_one_whose_init_raises_says_why_and_frees_its_name(tmp_path: Path):
    @goliath.remote
    class Bad:
        def __init__(self, path):
            while not path.exists():
                time.sleep(0.005)
            raise ValueError("no way")

        def call(self):
            return 1

    go = tmp_path / "go"
    bad = detached(Bad, "bad", go)
    ref = bad.call.remote()
    go.touch()
    with pytest.raises(ActorDiedError, match="no way") as caught:
        goliath.get(ref, timeout=20)
    assert isinstance(caught.value.__cause__, ValueError)
    assert goliath.get(detached(Counter, "bad").add.remote()) == 1


def test_it_leaves_by_itself_and_is_not_made_again():
    counter = detached(Counter, "hits", max_restarts=-1)
    assert goliath.get(counter.leave.remote()) is None
    with pytest.raises(ActorDiedError, match="exit_actor"):
        goliath.get(counter.add.remote(), timeout=20)
    with pytest.raises(ValueError, match="hits"):
        goliath.get_actor("hits")


def test_killed_with_restart_it_is_made_again():
    counter = detached(Counter, "hits", 3, max_restarts=1)
    pid = goliath.get(counter.pid.remote())
    goliath.kill(counter, no_restart=False)
    until(lambda: goliath.get(after_a_death(counter.pid.remote)) != pid, 20)
    assert goliath.get(counter.reconstructed.remote())


def test_a_lieutenant_that_is_told_to_go_ends_it_and_says_so(lieutenant):
    own = lieutenant(1)
    with Commander([own.address]) as commander:
        goliath.shutdown()
        goliath.init(own.address)
        counter = detached(Counter, "hits")
        pid = goliath.get(counter.pid.remote())
        goliath.shutdown()
        assert [info.name for info in commander.detached_actors()] == ["hits"]
    own.stop()
    assert re.search(r"draining: these detached actors end with it: hits", own.err)
    assert gone(pid)


def test_with_its_lieutenant_it_is_gone_and_who_calls_it_is_told(lieutenant, tmp_path: Path):
    own = lieutenant(1)
    goliath.shutdown()
    goliath.init(own.address)
    gate = detached(Gate, "gate")
    refs = [gate.wait.remote(str(tmp_path / "never")) for _ in range(3)]
    until((tmp_path / "never.begun").exists, 20)
    own.destroy()
    for ref in refs:
        with pytest.raises(ActorUnavailableError, match=r"get_actor\('gate'\)"):
            goliath.get(ref, timeout=30)
    with pytest.raises(ActorUnavailableError):
        goliath.get(gate.peek.remote(), timeout=30)
    goliath.shutdown()


def test_it_outlives_a_link_that_was_cut_for_too_long(lieutenant):
    own = lieutenant(1)
    goliath.shutdown()
    goliath.init(own.address)
    counter = detached(Counter, "hits", 5)
    pid = goliath.get(counter.pid.remote())
    own.freeze()
    until(lambda: not goliath.nodes()[0].alive, 20, "its session lost")
    own.thaw()
    with pytest.raises(ActorUnavailableError):
        goliath.get(counter.add.remote(), timeout=20)
    until(lambda: goliath.nodes()[0].alive, 20, "another session")
    found = goliath.get_actor("hits")
    assert goliath.get([found.add.remote(), found.pid.remote()], timeout=20) == [6, pid]
    goliath.kill(found)
    goliath.shutdown()


def test_on_an_embedded_lieutenant_it_works_and_a_line_says_that_it_will_not_stay(
    capfd: pytest.CaptureFixture[str],
):
    goliath.shutdown()
    goliath.init(workers=1)
    counter = detached(Counter, "hits", 1)
    del counter
    gc.collect()
    found = goliath.get_actor("hits")
    assert goliath.get(found.add.remote()) == 2
    pid = goliath.get(found.pid.remote())
    goliath.shutdown()
    until(lambda: gone(pid), 30)
    assert "'hits' is detached, but lives on the Lieutenant that is embedded" in (
        capfd.readouterr().err
    )


# -- the command -------------------------------------------------------------------------------


def test_the_command_lists_detached_actors_and_ends_them(
    node: Lieutenant, capsys: pytest.CaptureFixture[str]
):
    address = f"127.0.0.1:{node.port}"
    counter = detached(Counter, "hits", namespace="web")
    pid = goliath.get(counter.pid.remote())
    mine = Counter.options(name="mine").remote()
    assert main(["actors", address]) == 0
    header, row = capsys.readouterr().out.splitlines()
    assert " ".join(header.split()) == "NAME NAMESPACE CLASS NODE PID STATE PENDING AGE"
    assert row.split()[:7] == ["hits", "web", "Counter", address, str(pid), "idle", "0"]
    assert main(["actors", "--json", address]) == 0
    (told,) = json.loads(capsys.readouterr().out)
    assert (told["name"], told["namespace"], told["pid"]) == ("hits", "web", pid)
    assert main(["actors", "kill", "hits", address]) == 1
    assert "no detached actor called 'hits'" in capsys.readouterr().err
    assert main(["actors", "kill", "hits", "--namespace", "web", address]) == 0
    assert capsys.readouterr().out == f"killed hits on {address} (pid {pid})\n"
    until(lambda: gone(pid), 30)
    with pytest.raises(ActorDiedError, match="killed"):
        goliath.get(counter.add.remote(), timeout=20)
    assert main(["actors", address]) == 0
    assert capsys.readouterr().out == "no detached actors\n"
    assert goliath.get(mine.add.remote()) == 1


def test_the_command_finds_the_lieutenants_of_this_machine_by_itself(
    node: Lieutenant, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    detached(Counter, "hits")
    assert main(["actors"]) == 0
    assert "hits" in capsys.readouterr().out
    monkeypatch.setenv("GOLIATH_LIEUTENANTS", f"127.0.0.1:{node.port}")
    assert main(["actors", "kill", "hits"]) == 0


def test_the_command_says_in_a_sentence_what_is_wrong(
    free_port: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path
):
    assert main(["actors", f"127.0.0.1:{free_port}"]) == 1
    said = capsys.readouterr().err
    assert said.startswith("goliath: ")
    assert said.count("\n") == 1
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    assert main(["actors"]) == 1
    assert "no Lieutenant of this user runs on this machine" in capsys.readouterr().err
    with pytest.raises(SystemExit) as caught:
        main(["actors", "kill"])
    assert caught.value.code == 2
    with pytest.raises(SystemExit) as caught:
        main(["actors", "nowhere"])
    assert caught.value.code == 2
    capsys.readouterr()


def test_a_commander_with_the_wrong_token_is_not_told_of_any(
    node: Lieutenant, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    detached(Counter, "hits")
    token = tmp_path / "token"
    main(["token", "new"])
    token.write_text(capsys.readouterr().out)
    token.chmod(0o600)
    assert main(["actors", "--token-file", str(token), f"127.0.0.1:{node.port}"]) == 1
    told = capsys.readouterr()
    assert "refused the token" in told.err
    assert "hits" not in told.out


def test_a_killed_lieutenant_leaves_no_process_of_a_detached_actor(lieutenant):
    own = lieutenant(1)
    goliath.shutdown()
    goliath.init(own.address)
    pid = goliath.get(detached(Counter, "hits").pid.remote())
    goliath.shutdown()
    kill(own.pid)
    own.process.wait(30)
    until(lambda: gone(pid), 5)
