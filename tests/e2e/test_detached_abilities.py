"""Detached actors do what any actor does: groups, streams, big values, monitors, links, threads."""

from __future__ import annotations

import gc
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import goliath
from goliath import ActorDiedError, ActorUnavailableError, Commander, DeadlockError
from goliath.testing.processes import until
from tests.commanders import Other
from tests.lieutenants import Lieutenant

BIG = 300 << 10


@pytest.fixture(autouse=True)
def cluster(node: Lieutenant) -> Iterator[Commander]:
    commander = goliath.init(node.address)
    assert commander is not None
    yield commander
    try:
        if goliath.is_initialized():
            for actor in commander.detached_actors():
                commander.kill_detached(actor.name, actor.namespace)
    finally:
        goliath.shutdown()


def detached(cls, name, *args, **options):
    return cls.options(name=name, lifetime="detached", **options).remote(*args)


@goliath.remote
class Counter:
    """Counts, and ends in all the ways there are."""

    def __init__(self, start=0):
        self.n = start

    def add(self, k=1):
        self.n += k
        return self.n

    def size(self, value):
        return len(value)

    def make(self, size):
        return b"x" * size

    def started_with(self):
        return len(self.n)

    def die(self):
        os._exit(3)

    def leave(self):
        goliath.exit_actor()

    def count_up(self, n):
        yield from range(n)


class Ends:
    """What a monitor tells."""

    def __init__(self):
        self.ends = []
        self.told = threading.Event()

    def __call__(self, end):
        self.ends.append(end)
        self.told.set()

    def only(self):
        """The one end that it is told of."""
        assert self.told.wait(20)
        (end,) = self.ends
        return end


# -- concurrency groups --------------------------------------------------------------------


@goliath.remote(concurrency_groups={"reads": 2})
class Library:
    """Counts how many are in it at once."""

    def __init__(self):
        self.lock, self.inside, self.most, self.calls = threading.Lock(), 0, 0, 0

    @goliath.method(concurrency_group="reads")
    def read(self):
        with self.lock:
            self.inside += 1
            self.calls += 1
            self.most = max(self.most, self.inside)
        time.sleep(0.002)
        with self.lock:
            self.inside -= 1

    @goliath.method(concurrency_group="reads")
    def stay(self, path):
        Path(f"{path}.{os.getpid()}").touch()
        until(Path(path).exists, 30)

    def seen(self):
        return self.most, self.calls


def test_the_limit_of_a_group_is_one_for_all_commanders(other: Other):
    library = detached(Library, "library")
    text = """
        library = goliath.get_actor("library")
        print("ready", flush=True)
        goliath.get([library.read.remote() for _ in range(150)])
    """
    process = other.start(text)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    goliath.get([library.read.remote() for _ in range(150)])
    process.communicate(timeout=40)
    assert process.returncode == 0
    assert goliath.get(library.seen.remote()) == (2, 300)


def test_a_group_that_one_commander_has_filled_holds_up_no_other_group_of_another(
    other: Other, tmp_path: Path
):
    library, gate = detached(Library, "library"), tmp_path / "gate"
    text = """
        library = goliath.get_actor("library")
        refs = [library.stay.remote(sys.argv[2]) for _ in range(4)]
        print("ready", flush=True)
        goliath.get(refs)
    """
    process = other.start(text, gate)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    until(lambda: list(tmp_path.glob("gate.*")), 20)
    held_up = library.read.remote()
    assert goliath.get(library.seen.remote(), timeout=20) == (0, 0)
    assert not held_up.done()
    gate.touch()
    goliath.get(held_up, timeout=20)
    process.communicate(timeout=20)
    assert process.returncode == 0


def test_whoever_finds_it_knows_its_groups_and_methods(other: Other):
    library = detached(Library, "library")

    @goliath.remote
    def call_all():
        found = goliath.get_actor("library")
        goliath.get(found.read.remote())
        return goliath.get(found.seen.options(concurrency_group="reads").remote())

    assert goliath.get(call_all.remote()) == (1, 1)
    found = goliath.get_actor("library")
    with pytest.raises(ValueError, match="has no concurrency group 'writes', it has 'reads'"):
        found.seen.options(concurrency_group="writes")
    printed = other.run("""
        found = goliath.get_actor("library")
        goliath.get(found.read.remote())
        print(goliath.get(found.seen.options(concurrency_group="reads").remote()))
    """)
    assert printed == "(1, 2)"
    assert goliath.get(library.seen.remote()) == (1, 2)


# -- streams -------------------------------------------------------------------------------


@goliath.remote
class AsyncSource:
    """Makes items, in a loop that others share."""

    async def count_up(self, n):
        for number in range(n):
            yield number


SOURCES = [(Counter, {}), (Counter, {"max_concurrency": 2}), (AsyncSource, {})]


@pytest.mark.parametrize(("source", "options"), SOURCES, ids=["plain", "threads", "loop"])
def test_items_go_to_the_commander_that_has_asked_for_them(other: Other, source, options):
    actor = detached(source, "source", **options)
    assert goliath.get(list(actor.count_up.remote(50))) == list(range(50))

    @goliath.remote
    def collect():
        return [goliath.get(ref) for ref in goliath.get_actor("source").count_up.remote(50)]

    assert goliath.get(collect.remote()) == list(range(50))
    text = 'print(sum(goliath.get(list(goliath.get_actor("source").count_up.remote(50)))))'
    assert other.run(text) == str(sum(range(50)))


def test_a_stream_whose_commander_was_killed_holds_nobody_up(other: Other):
    actor = detached(Counter, "source")
    text = """
        items = goliath.get_actor("source").count_up.remote(10 ** 9)
        print(goliath.get([next(items) for _ in range(3)]), flush=True)
        time.sleep(60)
    """
    process = other.start(text)
    assert process.stdout is not None
    assert process.stdout.readline() == "[0, 1, 2]\n"
    process.kill()
    assert goliath.get(actor.add.remote(), timeout=30) == 1


# -- big values ----------------------------------------------------------------------------


def test_its_big_results_are_kept_for_whoever_called_it_and_can_be_its_arguments(other: Other):
    actor = detached(Counter, "holder")
    ref = actor.make.remote(BIG)
    assert goliath.get(actor.size.remote(ref)) == BIG
    assert len(goliath.get(ref)) == BIG
    text = f"""
        actor = goliath.get_actor("holder")
        ref = actor.make.remote({BIG})
        print(goliath.get(actor.size.remote(ref)), len(goliath.get(ref)))
    """
    assert other.run(text) == f"{BIG} {BIG}"


def test_big_results_of_other_calls_are_its_arguments_in_all_its_lives():
    @goliath.remote
    def make(size):
        return b"y" * size

    actor = detached(Counter, "holder", make.remote(BIG), max_restarts=1)
    gc.collect()  # nobody here holds the argument any more
    assert goliath.get(actor.started_with.remote()) == BIG
    with pytest.raises(ActorUnavailableError):
        goliath.get(actor.die.remote())
    assert goliath.get(actor.started_with.remote()) == BIG
    assert goliath.get(actor.size.remote(make.remote(2 * BIG))) == 2 * BIG


def test_a_big_argument_that_is_on_another_node_is_brought_to_it(lieutenant):
    nodes = lieutenant(1), lieutenant(1)
    goliath.shutdown()
    goliath.init([each.address for each in nodes])
    until(lambda: sum(known.alive for known in goliath.nodes()) == 2, 30)

    @goliath.remote(scheduling_strategy="SPREAD")
    def make(size):
        time.sleep(0.2)  # so that both nodes are needed
        return b"y" * size

    refs = [make.remote(BIG) for _ in range(2)]
    goliath.wait(refs, num_returns=2)
    actors = [detached(Counter, f"holder{number}", ref) for number, ref in enumerate(refs)]
    for actor in actors:
        assert goliath.get(actor.started_with.remote()) == BIG
        assert goliath.get([actor.size.remote(ref) for ref in refs]) == [BIG, BIG]
    goliath.shutdown()


# -- monitors, links, supervisors --------------------------------------------------------------


def test_whoever_watches_it_is_told_when_another_commander_kills_it(other: Other):
    ends = Ends()
    goliath.monitor(detached(Counter, "hits"), ends)
    gc.collect()  # the handle is gone; it is watched all the same
    other.run('goliath.kill(goliath.get_actor("hits"))')
    end = ends.only()
    assert (end.class_name, end.name, end.killed) == ("Counter", "hits", True)
    assert isinstance(end.error, ActorDiedError)


def test_a_visitor_is_told_of_its_last_death_and_not_of_a_restart(other: Other):
    actor = detached(Counter, "hits", max_restarts=1)
    text = """
        from queue import SimpleQueue
        ends = SimpleQueue()
        goliath.monitor(goliath.get_actor("hits"), ends.put)
        print("ready", flush=True)
        end = ends.get(timeout=30)
        print(type(end.error).__name__, end.killed, ends.empty())
    """
    process = other.start(text)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    with pytest.raises(ActorUnavailableError):
        goliath.get(actor.die.remote())
    assert goliath.get(actor.add.remote()) == 1
    with pytest.raises(ActorDiedError):
        goliath.get(actor.die.remote())
    assert process.communicate(timeout=30)[0] == "ActorDiedError False True\n"


def test_that_it_has_left_is_a_good_end_and_that_nobody_holds_it_here_is_none(other: Other):
    ends, never = Ends(), Ends()
    called_off = goliath.monitor(detached(Counter, "hits"), never)
    goliath.monitor(goliath.get_actor("hits"), ends)
    gc.collect()
    called_off.cancel()
    assert other.run('print(goliath.get(goliath.get_actor("hits").add.remote()))') == "1"
    assert ends.ends == []
    other.run('goliath.get(goliath.get_actor("hits").leave.remote())')
    end = ends.only()
    assert (end.error, end.killed) == (None, False)
    assert never.ends == []


def test_whoever_watches_it_is_told_when_its_node_is_lost(lieutenant):
    node = lieutenant(1)
    goliath.shutdown()
    goliath.init(node.address)
    ends = Ends()
    goliath.monitor(detached(Counter, "hits"), ends)
    node.destroy()
    end = ends.only()
    assert isinstance(end.error, ActorUnavailableError)
    assert not end.killed
    goliath.shutdown()


def test_tasks_and_other_actors_watch_it_too(other: Other):
    detached(Counter, "hits")

    @goliath.remote
    class Guard:
        def __init__(self):
            self.seen = threading.Event()

        def watch(self):
            goliath.monitor(goliath.get_actor("hits"), lambda _end: self.seen.set())

        def wait(self):
            return self.seen.wait(20)

    guard = Guard.remote()
    goliath.get(guard.watch.remote())
    waits = guard.wait.remote()
    other.run('goliath.kill(goliath.get_actor("hits"))')
    assert goliath.get(waits)


def test_linked_actors_die_with_it_and_it_dies_with_them_for_all(other: Other):
    first, second = Counter.remote(), Counter.remote()
    goliath.link(first, detached(Counter, "one"))
    goliath.link(second, detached(Counter, "two"))
    gc.collect()
    other.run('goliath.kill(goliath.get_actor("one"))')
    until(lambda: first._grip.ended(), 20)
    with pytest.raises(ActorDiedError, match="linked"):
        goliath.get(first.add.remote())

    process = other.start("""
        actor = goliath.get_actor("two")
        print(goliath.get(actor.add.remote()), flush=True)
        try:
            while True:
                goliath.get(actor.add.remote())
        except goliath.ActorDiedError as error:
            print("killed" in str(error))
    """)
    assert process.stdout is not None
    assert process.stdout.readline() == "1\n"
    goliath.kill(second)
    assert process.communicate(timeout=30)[0] == "True\n"
    with pytest.raises(ValueError, match="no actor called 'two'"):
        goliath.get_actor("two")


def test_no_supervisor_starts_one():
    with goliath.Supervisor() as supervisor, pytest.raises(ValueError, match="Counter: a detached"):
        supervisor.start(Counter.options(name="hits", lifetime="detached"))


# -- waiting -------------------------------------------------------------------------------


@goliath.remote
class Caller:
    """Calls whoever it is told to, and waits."""

    def ask(self, other, me):
        return goliath.get(other.answer.remote(me))

    def answer(self, whom):
        return goliath.get(whom.name.remote())

    def name(self):
        return "caller"


def test_calls_of_one_commander_that_wait_for_one_another_are_told_so():
    one, two = detached(Caller, "one"), Caller.remote()
    for first, second in ((one, two), (two, one)):
        with pytest.raises(DeadlockError) as info:
            goliath.get(first.ask.remote(second, first), timeout=20)
        assert len(info.value.stacks) == 2
    assert goliath.get([one.name.remote(), two.name.remote()]) == ["caller", "caller"]


def test_what_a_thread_of_it_asks_between_calls_is_done_by_whoever_called_last(tmp_path: Path):
    @goliath.remote
    def note(text):
        (tmp_path / "note").write_text(text)

    @goliath.remote
    class Background:
        def begin(self):
            self.gate = threading.Event()
            threading.Thread(target=self.work, daemon=True).start()

        def work(self):
            self.gate.wait(20)
            until(lambda: goliath.get_runtime_context().task_id is None, 20)
            goliath.get(note.remote("from a thread"))

        def open(self):
            self.gate.set()

    actor = detached(Background, "background")
    goliath.get(actor.begin.remote())
    goliath.get(actor.open.remote())
    noted = tmp_path / "note"
    until(lambda: noted.exists() and noted.read_text() == "from a thread", 20)
