"""Groups of an actor's methods: each has a limit of its own, and a full one holds up no other."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from pathlib import Path

import pytest

import goliath
from goliath import ActorDiedError, ActorUnavailableError
from goliath.testing.processes import until

FULL = 0.3  # seconds in which something would have happened that must not


@pytest.fixture(autouse=True)
def cluster():
    yield goliath.init(workers=1)
    goliath.shutdown()


class Busy:
    """Its calls last until a file is there, and say how many of them there were at a time."""

    def __init__(self):
        self.lock = threading.Lock()
        self.now = {}
        self.most = {}

    def _enter(self, kind):
        with self.lock:
            self.now[kind] = self.now.get(kind, 0) + 1
            self.most[kind] = max(self.most.get(kind, 0), self.now[kind])

    def _leave(self, kind):
        with self.lock:
            self.now[kind] -= 1

    def _hold(self, kind, path):
        self._enter(kind)
        while not os.path.exists(path):
            time.sleep(0.002)
        self._leave(kind)
        return kind

    @goliath.method(concurrency_group="io")
    def io(self, path):
        return self._hold("io", path)

    @goliath.method(concurrency_group="compute")
    def compute(self, path):
        return self._hold("compute", path)

    def plain(self, path):
        return self._hold("plain", path)

    @goliath.method(concurrency_group="log")
    def look(self):
        return dict(self.now), dict(self.most)

    @goliath.method(concurrency_group="log")
    def log(self, path, text):
        with open(path, "a") as file:
            file.write(f"{text} ")

    @goliath.method(concurrency_group="io")
    def numbers(self, n):
        for i in range(n):
            yield i, threading.get_ident() == threading.main_thread().ident

    @goliath.method(concurrency_group="log")
    def whose(self):
        return os.getpid()

    def die(self):
        os.kill(os.getpid(), signal.SIGKILL)

    def pid(self):
        return os.getpid()


class Awaits(Busy):
    """The same with coroutines among them."""

    @goliath.method(concurrency_group="io")
    async def io(self, path):
        self._enter("io")
        while not os.path.exists(path):  # noqa: ASYNC110, ASYNC240 - who opens it is elsewhere
            await asyncio.sleep(0.002)
        self._leave("io")
        return "io"

    @goliath.method(concurrency_group="io")
    async def numbers(self, n):
        for i in range(n):
            await asyncio.sleep(0)
            yield i, threading.get_ident() == threading.main_thread().ident


GROUPS = {"io": 2, "compute": 4, "log": 1}
KINDS = {
    "threads": goliath.remote(concurrency_groups=GROUPS)(Busy),
    "loop": goliath.remote(concurrency_groups=GROUPS, max_concurrency=1)(Awaits),
}


@pytest.fixture(params=list(KINDS))
def cls(request):
    return KINDS[request.param]


@pytest.fixture
def go(tmp_path: Path):
    """The file that lets calls end."""
    return tmp_path / "go"


def now(actor):
    """How many calls of each kind run."""
    return goliath.get(actor.look.remote(), timeout=20)[0]


@goliath.remote
def square(x):
    return x * x


def test_as_many_calls_of_each_group_run_as_may_and_no_more(cls, go: Path):
    actor = cls.remote()
    refs = [getattr(actor, name).remote(go) for name in ("io", "plain") for _ in range(20)]
    refs += [actor.compute.remote(go) for _ in range(20)]
    until(lambda: now(actor) == {"io": 2, "plain": 1, "compute": 4}, 20)
    time.sleep(FULL)
    go.touch()
    assert goliath.get(refs, timeout=20) == ["io"] * 20 + ["plain"] * 20 + ["compute"] * 20
    assert goliath.get(actor.look.remote())[1] == {"io": 2, "plain": 1, "compute": 4}


def test_a_full_group_holds_up_no_other_however_much_waits_in_it(cls, go: Path):
    actor = cls.remote()
    waits = [actor.io.remote(go) for _ in range(500)]
    assert goliath.get(actor.pid.remote(), timeout=20) > 0
    assert now(actor)["io"] <= 2
    waits += [actor.plain.remote(go) for _ in range(500)]
    for _ in range(50):
        assert now(actor).get("plain", 0) <= 1
    go.touch()
    assert len(goliath.get(waits, timeout=40)) == 1000


def test_calls_of_one_group_begin_in_the_order_in_which_they_are_made(cls, go, tmp_path: Path):
    actor, path = cls.remote(), tmp_path / "log"
    held = [actor.io.remote(go) for _ in range(5)]
    refs = [actor.log.remote(path, n) for n in range(300)]
    goliath.get(refs, timeout=20)
    assert path.read_text().split() == list(map(str, range(300)))
    go.touch()
    goliath.get(held)


def test_a_call_that_takes_a_result_still_to_come_holds_up_those_of_its_group_only(
    cls, go: Path, tmp_path: Path
):
    @goliath.remote(num_cpus=0)
    def late(path):
        while not path.exists():
            time.sleep(0.002)
        return "late"

    actor, path = cls.remote(), tmp_path / "log"
    refs = [actor.log.remote(path, text) for text in (late.remote(go), "behind")]
    assert goliath.get(actor.pid.remote(), timeout=20) > 0
    assert not path.exists()
    go.touch()
    goliath.get(refs, timeout=20)
    assert path.read_text() == "late behind "


def test_the_group_can_be_chosen_by_the_call(cls, go: Path):
    actor = cls.remote()
    held = [actor.plain.remote(go)]
    held += [actor.plain.options(concurrency_group="compute").remote(go) for _ in range(3)]
    held += [actor.compute.options(concurrency_group="").remote(go) for _ in range(3)]
    until(lambda: now(actor) == {"plain": 4}, 20)
    time.sleep(FULL)
    assert now(actor) == {"plain": 4}
    go.touch()
    goliath.get(held, timeout=20)


def test_where_a_method_runs_depends_on_what_it_is_and_not_on_its_group():
    for name, in_main in (("threads", False), ("loop", True)):
        actor = KINDS[name].remote()
        items = [goliath.get(ref) for ref in actor.numbers.remote(20)]
        assert items == [(i, in_main) for i in range(20)]


def test_tasks_and_actors_call_into_groups_too(cls, go: Path):
    @goliath.remote
    def fill(actor, path):
        refs = [actor.io.remote(path) for _ in range(10)]
        refs.append(actor.plain.options(concurrency_group="io").remote(path))
        return refs

    @goliath.remote
    class Caller:
        def __init__(self, actor):
            self.actor = actor

        def wrong(self):
            try:
                self.actor.plain.options(concurrency_group="none")
            except ValueError as exc:
                return str(exc)

        def numbers(self, n):
            return [goliath.get(ref)[0] for ref in self.actor.numbers.remote(n)]

    actor = cls.options(name="busy").remote()
    refs = goliath.get(fill.remote(actor, go))
    until(lambda: now(goliath.get_actor("busy")) == {"io": 2}, 20)
    caller = Caller.remote(actor)
    assert "'io', 'compute', 'log'" in goliath.get(caller.wrong.remote(), timeout=20)
    go.touch()
    assert goliath.get(refs, timeout=20) == ["io"] * 10 + ["plain"]
    assert goliath.get(caller.numbers.remote(3), timeout=20) == [0, 1, 2]


def test_what_was_cancelled_and_does_not_end_counts_in_its_group_and_in_no_other(go: Path):
    actor = KINDS["threads"].remote()
    for _ in range(3):
        refs = [actor.io.remote(go) for _ in range(6)]
        until(lambda: now(actor).get("io") == 2, 20)
        for ref in refs:
            goliath.cancel(ref)
        for ref in refs:
            with pytest.raises(goliath.TaskCancelledError):
                goliath.get(ref, timeout=20)
    assert now(actor) == {"io": 2}, "their threads cannot be interrupted"
    assert goliath.get(actor.pid.remote(), timeout=20) > 0
    last = actor.io.remote(go)
    go.touch()
    assert goliath.get(last, timeout=20) == "io"
    assert goliath.get(actor.look.remote())[1]["io"] == 2


def test_a_cancelled_coroutine_makes_room_in_its_group(go: Path):
    actor = KINDS["loop"].remote()
    refs = [actor.io.remote(go) for _ in range(3)]
    until(lambda: now(actor).get("io") == 2, 20)
    goliath.cancel(refs[0])
    go.touch()
    assert goliath.get(refs[1:], timeout=20) == ["io", "io"]


def test_an_actor_that_is_made_again_goes_on_with_every_group(cls, go: Path):
    actor = cls.options(max_restarts=1).remote()
    begun = [actor.io.remote(go) for _ in range(2)]
    until(lambda: now(actor).get("io") == 2, 20)
    waits = [getattr(actor, name).remote(go) for name in ("io", "compute") for _ in range(30)]
    until(lambda: now(actor).get("compute") == 4, 20)
    pid = goliath.get(actor.pid.remote())
    os.kill(pid, signal.SIGKILL)
    go.touch()
    done = []
    for ref in [*begun, *waits]:
        try:
            done.append(goliath.get(ref, timeout=20))
        except ActorUnavailableError:
            done.append(None)
    assert done[:2] == [None, None]
    assert set(done[2:]) <= {"io", "compute", None}
    assert done.count(None) <= 2 + 4
    assert goliath.get(actor.pid.remote()) != pid
    with pytest.raises(ActorDiedError):
        goliath.get(actor.die.remote())


def test_with_retries_no_call_of_any_group_is_lost(cls, go: Path):
    actor = cls.options(max_restarts=2, max_task_retries=-1).remote()
    refs = [getattr(actor, name).remote(go) for name in ("io", "plain", "io") * 20]
    for _ in range(2):
        until(lambda: now(actor).get("io") == 2, 20)
        pid = goliath.get(actor.whose.remote(), timeout=20)
        os.kill(pid, signal.SIGKILL)
        until(lambda pid=pid: goliath.get(actor.whose.remote(), timeout=20) != pid, 20)
    go.touch()
    assert len(goliath.get(refs, timeout=40)) == 60


def test_a_base_class_takes_groups_as_options(go: Path):
    class Based(goliath.Actor):
        @goliath.method(concurrency_group="io")
        def io(self, path):
            while not path.exists():
                time.sleep(0.002)

        def other(self):
            return "other"

    actor = Based.options(concurrency_groups={"io": 1}).remote()
    held = [actor.io.remote(go) for _ in range(3)]
    assert goliath.get(actor.other.remote(), timeout=20) == "other"
    go.touch()
    goliath.get(held)
    with pytest.raises(ValueError, match=r"Based\.io has no concurrency group 'io', it has none"):
        Based.remote()


def test_a_group_that_there_is_not_is_refused_as_soon_as_it_is_named():
    with pytest.raises(
        ValueError, match=r"Busy\.\w+ has no concurrency group '\w+', it has 'other'"
    ):
        goliath.remote(concurrency_groups={"other": 1})(Busy)
    with pytest.raises(ValueError, match="no concurrency group"):
        goliath.remote(Busy)
    with pytest.raises(ValueError, match=r"concurrency_groups=\{'none': "):
        KINDS["threads"].remote().plain.options(concurrency_group="none")


@pytest.mark.parametrize(
    "options",
    [
        {"concurrency_groups": {**GROUPS, "io": 0}},
        {"concurrency_groups": {**GROUPS, "io": 1001}},
        {"concurrency_groups": {**GROUPS, "io": 1.5}},
        {"concurrency_groups": {**GROUPS, "io": True}},
        {"concurrency_groups": {**GROUPS, "": 1}},
        {"concurrency_groups": {**GROUPS, 3: 1}},
        {"concurrency_groups": ["io"]},
        {"concurrency_groups": GROUPS, "max_concurrency": 994},
        {"concurrency_groups": {**GROUPS, "io": 995}},
    ],
)
def test_limits_that_make_no_sense_are_refused(cls, options):
    with pytest.raises(ValueError, match="concurrency_groups"):
        cls.options(**options)


def test_the_default_group_of_coroutines_has_what_the_others_leave():
    wide = goliath.remote(concurrency_groups=GROUPS)(Awaits)
    assert sum(wide._cast.repertoire.groups.values()) == 1000
    actor = wide.remote()
    assert goliath.get([actor.pid.remote() for _ in range(3)])[0] > 0


def test_groups_on_a_node_of_its_own_are_the_same(lieutenant, go: Path):
    goliath.shutdown()
    goliath.init(lieutenant(1).address)
    actor = KINDS["threads"].remote()
    held = [actor.io.remote(go) for _ in range(10)]
    until(lambda: now(actor) == {"io": 2}, 20)
    assert goliath.get(square.remote(3), timeout=20) == 9
    go.touch()
    assert goliath.get(held, timeout=20) == ["io"] * 10


def test_in_local_mode_groups_are_names_only(go: Path):
    goliath.shutdown()
    goliath.init(local_mode=True)
    actor = KINDS["threads"].remote()
    go.touch()
    assert goliath.get(actor.plain.options(concurrency_group="io").remote(go)) == "plain"
    with pytest.raises(ValueError, match="no concurrency group"):
        actor.plain.options(concurrency_group="none")
