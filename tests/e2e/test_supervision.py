"""Supervision: how often actors are made again, who hears of their ends, and who ends with them."""

from __future__ import annotations

import os
import signal
import time

import pytest

import goliath
from goliath import ActorDiedError, ActorUnavailableError, WorkerCrashedError
from tests.processes import until

pytestmark = pytest.mark.slow


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
        fresh = time.monotonic() + 0.35
        pid_of(member)
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
