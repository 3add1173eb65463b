"""Supervision: how often actors are made again, who hears of their ends, and who ends with them."""

from __future__ import annotations

import gc
import os
import signal
import threading
import time
from pathlib import Path

import pytest

import goliath
from goliath import ActorDiedError, ActorUnavailableError, WorkerCrashedError
from goliath.testing.processes import until


@pytest.fixture(autouse=True)
def cluster():
    yield goliath.init(workers=2)
    goliath.shutdown()


@goliath.remote
class Member:
    """Lives, dies, and says which process it is."""

    def __init__(self, log=None, name=""):
        self.log, self.name = log, name
        self.note("begins")

    def note(self, what):
        if self.log is not None:
            with self.log.open("a") as file:
                file.write(f"{self.name} {what}\n")

    def pid(self):
        return os.getpid()

    def die(self):
        os._exit(3)

    def leave(self):
        goliath.exit_actor()

    def sleep(self, seconds):
        time.sleep(seconds)

    def node(self):
        return goliath.get_runtime_context().node_id


def pid_of(handle):
    """Of the life that answers, whatever happens meanwhile."""
    until_s = time.monotonic() + 20
    while True:
        try:
            return goliath.get(handle.pid.remote(), timeout=until_s - time.monotonic())
        except ActorUnavailableError:
            continue


# -- how often ---------------------------------------------------------------------------


def test_an_actor_that_dies_as_soon_as_it_is_made_is_given_up_though_it_may_be_made_for_ever(
    monkeypatch, tmp_path
):
    monkeypatch.setenv("GOLIATH_ACTOR_RESTARTS_MAX", "4")

    @goliath.remote(max_restarts=-1)
    class Stillborn:
        def __init__(self):
            with (tmp_path / "lives").open("a") as file:
                file.write("x")
            os._exit(5)

        def call(self):
            """Never."""

    with pytest.raises(ActorDiedError, match="ended more than 4 times within 10 s") as caught:
        goliath.get(Stillborn.remote().call.remote(), timeout=30)
    assert isinstance(caught.value.__cause__, WorkerCrashedError)
    assert caught.value.__cause__.exit_code == 5
    assert len((tmp_path / "lives").read_text()) == 5


def test_more_restarts_than_it_may_have_end_it_and_the_error_says_how_many():
    member = Member.options(max_restarts=2).remote()
    for _ in range(2):
        os.kill(pid_of(member), signal.SIGKILL)
    os.kill(pid_of(member), signal.SIGKILL)
    with pytest.raises(ActorDiedError, match="more than 2 times"):
        until(lambda: pid_of(member) is None, 20)


def test_restarts_count_within_a_window_if_one_is_given():
    member = Member.options(max_restarts=1, restart_window_s=0.3).remote()
    for _ in range(3):
        os.kill(pid_of(member), signal.SIGKILL)
        pid_of(member)  # it was made again, and that was counted
        fresh = time.monotonic() + 0.35
        until(lambda fresh=fresh: time.monotonic() > fresh, 20)
    lasting = Member.options(max_restarts=1, restart_window_s=60).remote()
    os.kill(pid_of(lasting), signal.SIGKILL)
    pid_of(lasting)
    with pytest.raises(ActorDiedError, match="more than 1 time within 60 s"):
        goliath.get(lasting.die.remote(), timeout=20)
    with pytest.raises(ValueError, match="restart_window_s=0"):
        Member.options(restart_window_s=0)


def test_an_actor_that_is_killed_before_its_arguments_are_known_is_made_when_they_are():
    @goliath.remote
    def slow():
        time.sleep(0.3)

    member = Member.options(max_restarts=1).remote(slow.remote())
    goliath.kill(member, no_restart=False)
    assert pid_of(member) > 0


# -- monitors ----------------------------------------------------------------------------


class Told:
    """Notes the ends that it is told of."""

    def __init__(self):
        self.ends = []
        self._news = threading.Condition()

    def __call__(self, end):
        with self._news:
            self.ends.append(end)
            self._news.notify_all()

    def one(self):
        with self._news:
            assert self._news.wait_for(lambda: self.ends, 20)
        (end,) = self.ends
        return end


def test_a_monitor_tells_how_an_actor_ended_and_what_its_calls_raise():
    member, told = Member.options(name="fred").remote(), Told()
    goliath.monitor(member, told)
    with pytest.raises(ActorDiedError):
        goliath.get(member.die.remote())
    end = told.one()
    assert (end.class_name, end.name, end.killed) == ("Member", "fred", False)
    assert end.actor_id in repr(member)
    assert isinstance(end.error, ActorDiedError)
    assert isinstance(end.error.__cause__, WorkerCrashedError)
    assert end.error.__cause__.exit_code == 3


def test_a_monitor_tells_of_a_kill_and_at_once_if_the_actor_has_ended_before():
    member, told, late = Member.remote(), Told(), Told()
    goliath.monitor(member, told)
    goliath.kill(member)
    assert told.one().killed
    assert "killed" in str(told.one().error)
    goliath.monitor(member, late)
    assert late.one() == told.one()


def test_a_restart_is_no_end_and_the_last_death_is_one():
    member, told = Member.options(max_restarts=1).remote(), Told()
    goliath.monitor(member, told)
    pid = pid_of(member)
    os.kill(pid, signal.SIGKILL)
    until(lambda: pid_of(member) != pid, 20)
    assert told.ends == []
    os.kill(pid_of(member), signal.SIGKILL)
    assert "more than 1 time" in str(told.one().error)


def test_a_normal_end_has_no_error():
    leaves, forgotten = Member.remote(), Member.remote()
    left, dropped = Told(), Told()
    goliath.monitor(leaves, left)
    goliath.monitor(forgotten, dropped)
    goliath.get(leaves.leave.remote())
    assert (left.one().error, left.one().killed) == (None, False)
    assert dropped.ends == []
    done = forgotten.sleep.remote(0.1)
    del forgotten
    assert (dropped.one().error, dropped.one().killed) == (None, False)
    assert goliath.get(done) is None


def test_a_monitor_that_was_called_off_is_not_called_and_others_are():
    member, told, other = Member.remote(), Told(), Told()
    monitor = goliath.monitor(member, told)
    goliath.monitor(member, other)
    assert "open" in repr(monitor)
    monitor.cancel()
    monitor.cancel()
    goliath.kill(member)
    other.one()
    assert told.ends == []
    assert "over" in repr(monitor)


def test_a_callback_may_make_calls_and_wait_and_what_it_raises_breaks_nothing(capfd):
    member, heir, told = Member.remote(), Member.remote(), Told()

    def replace(end):
        told((end, goliath.get(heir.pid.remote())))
        raise ValueError("no good")

    goliath.monitor(member, replace)
    goliath.kill(member)
    end, pid = told.one()
    assert end.killed
    assert pid == goliath.get(heir.pid.remote())
    until(lambda: not any(t.name == "goliath-monitor" for t in threading.enumerate()), 20)
    err = capfd.readouterr().err
    assert "told of the end of <ActorHandle" in err
    assert "ValueError: no good" in err


def test_when_the_commander_is_closed_nobody_is_told_of_anything():
    member, told = Member.remote(), Told()
    goliath.get(member.pid.remote())
    goliath.monitor(member, told)
    goliath.shutdown()
    assert told.ends == []
    with pytest.raises(goliath.GoliathError, match="closed"):
        goliath.monitor(member, told)


def test_what_is_no_actor_cannot_be_watched_or_linked():
    with pytest.raises(TypeError, match=r"monitor was given a int"):
        goliath.monitor(1, print)
    member = Member.remote()
    with pytest.raises(TypeError, match="a str to call back"):
        goliath.monitor(member, "print")
    with pytest.raises(TypeError, match="link was given a str"):
        goliath.link(member, "other")


@goliath.remote
class Watchman:
    """Watches others from its own process."""

    def __init__(self):
        self.seen = []

    def watch(self, other, heir):
        def note(end):
            pid = goliath.get(heir.pid.remote())  # while no call of this actor runs
            square = goliath.get(in_process.remote())
            self.seen.append((end, os.getpid(), pid, square))

        self.monitor = goliath.monitor(other, note)

    def call_off(self):
        self.monitor.cancel()

    def report(self):
        return self.seen


@goliath.remote
def in_process():
    return os.getpid()


def test_an_actor_watches_another_and_makes_calls_about_it_while_none_of_its_own_runs():
    watchman, member, heir = Watchman.remote(), Member.options(name="bob").remote(), Member.remote()
    goliath.get(watchman.watch.remote(member, heir))
    goliath.kill(member)
    until(lambda: goliath.get(watchman.report.remote()), 20)
    ((end, pid, of_heir, of_task),) = goliath.get(watchman.report.remote())
    assert (end.class_name, end.name, end.killed) == ("Member", "bob", True)
    assert "killed" in str(end.error)
    assert of_heir == goliath.get(heir.pid.remote())
    assert len({pid, of_heir, of_task, os.getpid()}) == 4

    second = Member.remote()
    goliath.get(watchman.watch.remote(second, heir))
    goliath.get(watchman.call_off.remote())
    told = Told()
    goliath.monitor(second, told)
    goliath.kill(second)
    told.one()
    assert len(goliath.get(watchman.report.remote())) == 1


def test_a_monitor_in_a_task_is_told_while_the_task_runs_and_not_after(tmp_path):
    @goliath.remote
    def watch(member, path):
        ended = threading.Event()

        def note(end):
            path.write_text(str(end.killed))
            ended.set()

        goliath.monitor(member, note)
        if path.name == "now":
            goliath.kill(member)
            return ended.wait(20)
        return None

    first, second = Member.remote(), Member.remote()
    assert goliath.get(watch.remote(first, tmp_path / "now"), timeout=30)
    assert (tmp_path / "now").read_text() == "True"
    goliath.get(watch.remote(second, tmp_path / "later"))
    told = Told()
    goliath.monitor(second, told)
    goliath.kill(second)
    told.one()
    goliath.get([in_process.remote() for _ in range(4)])
    assert not (tmp_path / "later").exists()


# -- links -------------------------------------------------------------------------------


def died(member):
    with pytest.raises(ActorDiedError) as caught:
        goliath.get(member.sleep.remote(0.5), timeout=20)
    return caught.value


def test_when_a_linked_actor_dies_the_other_ends_and_names_it():
    one, other = Member.remote(), Member.options(max_restarts=5).remote()
    goliath.link(one, other)
    pid = pid_of(other)
    under = other.sleep.remote(30)
    os.kill(pid_of(one), signal.SIGKILL)
    with pytest.raises(ActorDiedError, match="which it is linked to, has died") as caught:
        goliath.get(under, timeout=20)
    (of_one,) = {died(one).args}
    assert isinstance(caught.value.__cause__, ActorDiedError)
    assert caught.value.__cause__.args == of_one
    assert isinstance(caught.value.__cause__.__cause__, WorkerCrashedError)
    until(lambda: not Path(f"/proc/{pid}").exists(), 20)


def test_a_death_goes_through_rows_and_circles_of_links_but_not_past_an_unlinked_one():
    row = [Member.remote() for _ in range(5)]
    for one, other in zip(row, row[1:] + row[:1], strict=True):
        goliath.link(one, other)
    goliath.unlink(row[0], row[4])
    goliath.unlink(row[4], row[3])
    goliath.kill(row[1])
    for member in row[:4]:
        died(member)
    assert goliath.get(row[4].sleep.remote(0)) is None


def test_a_normal_end_does_not_spread():
    one, other = Member.remote(), Member.remote()
    goliath.link(one, other)
    told = Told()
    goliath.monitor(one, told)
    goliath.get(one.leave.remote())
    told.one()
    assert goliath.get(other.sleep.remote(0)) is None
    goliath.link(one, other)  # it has ended well: nothing happens either
    assert goliath.get(other.sleep.remote(0)) is None


def test_who_is_linked_to_an_actor_that_has_died_dies_at_once():
    one, other = Member.remote(), Member.remote()
    goliath.kill(one)
    died(one)
    goliath.link(other, one)
    assert "linked" in str(died(other))


def test_links_are_made_and_undone_in_tasks_too():
    @goliath.remote
    def join(one, other, linked):
        (goliath.link if linked else goliath.unlink)(one, other)

    one, other, third = Member.remote(), Member.remote(), Member.remote()
    goliath.get(join.remote(one, other, True))
    goliath.get(join.remote(one, third, True))
    goliath.get(join.remote(one, third, False))
    goliath.kill(one)
    assert "linked" in str(died(other))
    assert goliath.get(third.sleep.remote(0)) is None


def test_in_local_mode_too_ends_are_told_and_spread():
    goliath.shutdown()
    goliath.init(local_mode=True)
    one, other, told = Member.remote(), Member.remote(), Told()
    goliath.link(one, other)
    goliath.monitor(other, told)
    goliath.kill(one)
    assert "linked" in str(told.one().error)
    with pytest.raises(ActorDiedError, match="linked"):
        goliath.get(other.pid.remote())


# -- groups ------------------------------------------------------------------------------


def begun(log):
    """Which members have begun a life, in order."""
    return [line.split()[0] for line in log.read_text().splitlines() if line.endswith("begins")]


def three(supervisor, log, **options):
    return [supervisor.start(Member, log, name, **options) for name in ("a", "b", "c")]


def settled(*members):
    """All of them answer; their pids."""
    return [pid_of(member) for member in members]


@pytest.mark.parametrize(
    ("strategy", "again"),
    [("one_for_one", ["b"]), ("one_for_all", ["a", "b", "c"]), ("rest_for_one", ["b", "c"])],
)
def test_a_child_that_dies_is_started_again_with_those_its_strategy_names(
    tmp_path, strategy, again
):
    log = tmp_path / "log"
    with goliath.Supervisor(strategy) as supervisor:
        members = three(supervisor, log)
        before = settled(*members)
        assert begun(log) == ["a", "b", "c"]
        os.kill(before[1], signal.SIGKILL)
        until(lambda: pid_of(members[1]) != before[1], 20)
        until(lambda: len(begun(log)) == 3 + len(again), 20)
        after = settled(*members)
        assert begun(log)[3:] == again
        changed = [name for name, old, new in zip("abc", before, after, strict=True) if old != new]
        assert changed == again
        assert supervisor.children == members
    assert supervisor.children == []
    for member in members:
        assert "was ended by its supervisor" in str(died(member)) or "has ended" in str(
            died(member)
        )


def test_calls_that_wait_for_a_child_are_made_by_its_next_life(tmp_path):
    with goliath.Supervisor("one_for_all") as supervisor:
        first, second = three(supervisor, tmp_path / "log")[:2]
        sleeping = second.sleep.remote(30)
        waiting = [second.pid.remote() for _ in range(200)]  # the first may be on their way already
        old = goliath.get(first.pid.remote())
        os.kill(old, signal.SIGKILL)
        with pytest.raises(ActorUnavailableError, match="being restarted") as caught:
            goliath.get(sleeping, timeout=20)
        assert "as a child beside it had ended" in str(caught.value.__cause__)
        assert goliath.get(waiting[-1], timeout=20) == pid_of(second)


def test_no_call_is_lost_that_is_made_while_a_child_goes_down_for_another():
    with goliath.Supervisor("one_for_all", max_restarts=100) as supervisor:
        patient = Member.options(max_task_retries=-1)
        first, second = supervisor.start(patient), supervisor.start(patient)
        for _ in range(10):
            goliath.kill(first)
            refs = [member.sleep.remote(0) for member in (second, first) * 5]
            assert goliath.get(refs, timeout=20) == [None] * 10


def test_a_group_that_dies_too_often_is_given_up_and_all_its_children_say_why(tmp_path):
    log = tmp_path / "log"
    with goliath.Supervisor("one_for_one", max_restarts=2, window_s=60, name="staff") as group:
        a, b, c = three(group, log)
        told = [Told() for _ in range(3)]
        for member, each in zip((a, b, c), told, strict=True):
            goliath.monitor(member, each)
        for _ in range(3):
            os.kill(pid_of(b), signal.SIGKILL)
        for member in (a, b, c):
            error = died(member)
            assert "staff gave up: Member ended more than 2 times within 60 s" in str(error)
            assert isinstance(error.__cause__, goliath.SupervisionError)
            assert isinstance(error.__cause__.__cause__, WorkerCrashedError)
        assert all(each.one().error is not None for each in told)
        assert group.children == []
        assert begun(log) == ["a", "b", "c", "b", "b"]
        with pytest.raises(goliath.SupervisionError, match="staff gave up"):
            group.start(Member)


@pytest.mark.parametrize(
    ("restart", "after_leaving", "after_dying"),
    [("permanent", True, True), ("transient", False, True), ("temporary", False, False)],
)
def test_how_a_child_ended_and_its_kind_decide_whether_it_is_started_again(
    restart, after_leaving, after_dying
):
    with goliath.Supervisor() as supervisor:
        leaves, dies = (supervisor.start(Member, restart=restart) for _ in range(2))
        assert goliath.get(leaves.leave.remote()) is None
        goliath.kill(dies)
        for member, again in ((leaves, after_leaving), (dies, after_dying)):
            if again:
                assert goliath.get(member.sleep.remote(0), timeout=20) is None
            else:
                died(member)
        assert supervisor.children == [
            member for member, again in ((leaves, after_leaving), (dies, after_dying)) if again
        ]


def test_an_init_that_fails_is_told_at_once_and_one_that_fails_at_a_restart_counts_as_a_death(
    tmp_path,
):
    @goliath.remote
    class Fragile:
        def __init__(self, bad):
            if bad.exists():
                raise ValueError("not today")

        def call(self):
            return 1

    bad = tmp_path / "bad"
    bad.touch()
    with goliath.Supervisor("one_for_all", max_restarts=3, window_s=60) as supervisor:
        with pytest.raises(ActorDiedError, match="not today") as caught:
            supervisor.start(Fragile, bad)
        assert isinstance(caught.value.__cause__, ValueError)
        assert supervisor.children == []
        bad.unlink()
        fragile, other = supervisor.start(Fragile, bad), supervisor.start(Member)
        bad.touch()
        goliath.kill(fragile)
        with pytest.raises(ActorDiedError, match="gave up: Fragile ended more than 3 times"):
            goliath.get(fragile.call.remote(), timeout=20)
        died(other)
        assert isinstance(supervisor.failure.__cause__, ValueError)


def test_a_closed_supervisor_ends_the_youngest_first_each_after_its_calls(tmp_path):
    log = tmp_path / "log"
    with goliath.Supervisor("one_for_all") as supervisor:
        members = three(supervisor, log)
        refs = [member.note.remote("noted") for member in members]
        ends = []
        for member, name in zip(members, "abc", strict=True):
            member._grip.watch(lambda end, name=name: ends.append((name, end.error)))
    assert ends == [("c", None), ("b", None), ("a", None)]
    assert goliath.get(refs, timeout=0) == [None] * 3
    with pytest.raises(goliath.GoliathError, match="was closed"):
        supervisor.start(Member)
    supervisor.close()


def test_a_call_that_does_not_end_is_not_waited_for_for_ever(monkeypatch):
    monkeypatch.setattr("goliath.actors.group.SHUTDOWN_MAX_S", 0.2)
    with goliath.Supervisor() as supervisor:
        member = supervisor.start(Member)
        ref = member.sleep.remote(60)
    with pytest.raises(ActorDiedError, match=r"had not ended 0\.2 s later"):
        goliath.get(ref, timeout=20)


def test_one_child_can_be_stopped_and_another_takes_its_name(tmp_path):
    with goliath.Supervisor("one_for_all") as supervisor:
        first, other = supervisor.start(Member, name="one"), supervisor.start(Member)
        pid = pid_of(other)
        supervisor.stop(first)
        assert supervisor.children == [other]
        died(first)
        with pytest.raises(ValueError, match="no child"):
            supervisor.stop(first)
        second = supervisor.start(Member, name="one")
        assert goliath.get_actor("one") == second
        assert pid_of(other) == pid


def test_a_linked_child_is_started_again_when_the_other_dies():
    outside = Member.remote()
    with goliath.Supervisor() as supervisor:
        member = supervisor.start(Member)
        pid = pid_of(member)
        goliath.link(outside, member)
        goliath.kill(outside)
        died(outside)
        until(lambda: pid_of(member) != pid, 20)


def test_children_that_nobody_holds_end_with_their_supervisor():
    supervisor = goliath.Supervisor()
    pid = pid_of(supervisor.start(Member))
    gc.collect()
    assert Path(f"/proc/{pid}").exists()
    del supervisor
    gc.collect()
    until(lambda: not Path(f"/proc/{pid}").exists(), 20)


def test_arguments_of_a_supervisor_that_make_no_sense_are_refused():
    for wrong in ({"strategy": "all_for_one"}, {"max_restarts": -1}, {"window_s": 0}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            goliath.Supervisor(**wrong)
    with goliath.Supervisor() as supervisor:
        with pytest.raises(TypeError, match=r"@goliath\.remote"):
            supervisor.start(Told)
        with pytest.raises(ValueError, match="restart='always'"):
            supervisor.start(Member, restart="always")

    @goliath.remote
    def inside():
        goliath.Supervisor().start(Member)

    with pytest.raises(goliath.GoliathError, match="process of the Commander"):
        goliath.get(inside.remote())


def test_in_local_mode_a_supervisor_starts_its_children_here():
    goliath.shutdown()
    goliath.init(local_mode=True)
    with goliath.Supervisor() as supervisor:
        member = supervisor.start(Member)
        assert goliath.get(member.pid.remote()) == os.getpid()
        supervisor.stop(supervisor.start(Member))
        assert supervisor.children == [member]
    with pytest.raises(ActorDiedError):
        goliath.get(member.pid.remote())


def test_a_supervisor_of_a_commander_that_was_closed_says_so():
    with goliath.Supervisor() as supervisor:
        supervisor.start(Member)
        goliath.shutdown()
        with pytest.raises(goliath.GoliathError, match="Commander that is closed"):
            supervisor.start(Member)


def test_children_of_a_node_that_is_lost_are_started_again_on_another(lieutenant):
    goliath.shutdown()
    nodes = [lieutenant(1), lieutenant(1)]
    goliath.init([node.address for node in nodes])
    with goliath.Supervisor("one_for_all", max_restarts=10) as supervisor:
        members = [supervisor.start(Member) for _ in range(4)]  # they are spread
        places = goliath.get([member.node.remote() for member in members])
        assert len(set(places)) == 2
        nodes[0].destroy()
        host, port = nodes[0].address
        (lost,) = {place for place in places if place.startswith(f"{host}:{port}#")}
        for member in members:
            until(lambda member=member: place_of(member) != lost, 30)
        assert {place_of(member) for member in members} == set(places) - {lost}


def place_of(member):
    """Where the life that answers is; where it was, if it does not yet."""
    try:
        return goliath.get(member.node.remote(), timeout=20)
    except ActorUnavailableError:
        return place_of(member)
