"""The actor runtime, on both event loops."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from goliath.actors.actor import Actor
from goliath.actors.mailbox import MAILBOX_MAX, ActorStoppedError, MailboxFullError
from goliath.actors.supervisor import Exit, Lifetime, SupervisionError
from goliath.actors.system import ActorSystem
from tests.actors.runtime import FakeChild, Recorder, on_both_loops, turns, until


@asynccontextmanager
async def a_system(
    on_failure: Callable[[BaseException], None] | None = None,
) -> AsyncIterator[ActorSystem]:
    system = ActorSystem(on_failure=on_failure)
    try:
        yield system
    finally:
        async with asyncio.timeout(5):
            await system.stop()


def crash(_: Actor) -> None:
    raise ValueError("broken")


def stop(actor: Actor) -> None:
    actor.context.stop()


# -- messages --------------------------------------------------------------------------


@on_both_loops
async def test_messages_are_handled_one_at_a_time_in_the_order_they_came():
    actor = Recorder()
    depth = 0

    def nested(me: Recorder) -> None:
        nonlocal depth
        depth += 1
        assert depth == 1, "never two at once"
        me.context.ref.tell("from within")
        depth -= 1

    async with a_system() as system:
        ref = system.spawn(lambda: actor, "it")
        ref.tell(nested)
        ref.tell("after")
        await until(lambda: "after" in actor.log)
    assert actor.log == ["started", "from within", "after", "stopping"]


@on_both_loops
async def test_a_question_is_answered_with_what_receive_returns():
    async with a_system() as system:
        ref = system.spawn(Recorder, "it")
        assert await ref.ask("hello") == "hello"


@on_both_loops
async def test_a_question_that_crashes_the_actor_gets_its_error():
    async with a_system() as system:
        ref = system.spawn(Recorder, "it")
        with pytest.raises(ValueError, match="broken"):
            await ref.ask(crash)


@on_both_loops
async def test_questions_behind_a_crash_are_answered_too():
    questions: list[asyncio.Future[Any]] = []

    def ask_and_crash(me: Recorder) -> None:
        questions.append(me.context.ref.ask("unread"))  # type: ignore[attr-defined]
        crash(me)

    async with a_system() as system:
        ref = system.spawn(Recorder, "it")
        ref.tell(ask_and_crash)
        with pytest.raises(ActorStoppedError, match="it stopped before it read this") as caught:
            await questions[0]
        assert isinstance(caught.value.__cause__, ValueError)
        with pytest.raises(ActorStoppedError, match="it has ended") as caught:
            await ref.ask("?")
        assert isinstance(caught.value.__cause__, ValueError)


@on_both_loops
async def test_questions_to_an_actor_that_has_ended_are_refused_and_tells_are_ignored():
    async with a_system() as system:
        ref = system.spawn(Recorder, "it")
        ref.stop()
        await turns()
        ref.tell("nobody reads this")
        with pytest.raises(ActorStoppedError, match="it has ended"):
            await ref.ask("?")


@on_both_loops
async def test_stop_comes_behind_what_was_told_before_it():
    actor = Recorder()
    async with a_system() as system:
        ref = system.spawn(lambda: actor, "it")
        ref.tell("before")
        ref.stop()
        ref.tell("behind")
        await until(lambda: "stopping" in actor.log)
    assert actor.log == ["started", "before", "stopping"]


@on_both_loops
async def test_an_actor_that_stops_itself_reads_no_further():
    actor = Recorder()

    def told_more_and_stop(me: Recorder) -> None:
        me.context.ref.tell("more")
        me.context.stop()

    async with a_system() as system:
        answer = system.spawn(lambda: actor, "it").ask(told_more_and_stop)
        assert await answer is None
    assert actor.log == ["started", "stopping"]


@on_both_loops
async def test_stopping_twice_does_not_stop_the_next_life():
    actor = Recorder()
    async with a_system() as system:
        ref = system.spawn(lambda: actor, "it", Lifetime.PERMANENT)
        ref.tell(stop)  # a permanent actor comes back
        await turns()
        assert await ref.ask("still here") == "still here"


@on_both_loops
async def test_a_full_mailbox_refuses_the_teller():
    def overfill(me: Recorder) -> None:
        for _ in range(MAILBOX_MAX):
            me.context.ref.tell("x")
        with pytest.raises(MailboxFullError):
            me.context.ref.tell("one too many")

    async with a_system() as system:
        await system.spawn(Recorder, "it").ask(overfill)


@on_both_loops
async def test_who_says_much_in_every_turn_cannot_fill_the_mailbox_for_good():
    backlog: list[int] = []
    actor = Recorder()
    async with a_system() as system:
        ref = system.spawn(lambda: actor, "it")

        def flood(me: Recorder) -> None:  # being busy, it reads nothing of this at once
            for _ in range(1000):
                me.context.ref.tell("x")

        for _ in range(20):
            ref.tell(flood)
            backlog.append(len(ref._cell._mailbox))
            await turns(1)
        await until(lambda: actor.log.count("x") == 20_000)
    assert max(backlog) <= 2001


# -- crashes ---------------------------------------------------------------------------


@on_both_loops
async def test_a_crashed_permanent_actor_begins_anew_with_a_new_object():
    born: list[Recorder] = []

    def make() -> Recorder:
        born.append(Recorder())
        return born[-1]

    async with a_system() as system:
        ref = system.spawn(make, "it", Lifetime.PERMANENT)
        ref.tell(crash)
        assert await ref.ask("hello") == "hello"
    assert [actor.log for actor in born] == [
        ["started", "stopping"],
        ["started", "hello", "stopping"],
    ]


@on_both_loops
async def test_what_is_told_to_a_new_life_while_the_mailbox_of_the_old_one_is_emptied_is_read():
    born: list[Recorder] = []

    def tells_itself_to_crash(me: Recorder) -> None:
        me.context.ref.tell(crash)

    class TellsItself(Recorder):
        def started(self) -> None:
            super().started()
            if len(born) == 2:
                self.context.ref.tell("from the start")

    def make() -> Recorder:
        born.append(TellsItself())
        return born[-1]

    async with a_system() as system:
        ref = system.spawn(make, "it", Lifetime.PERMANENT)
        ref.tell(tells_itself_to_crash)  # it reads that in a later turn, from its mailbox
        await until(lambda: len(born) == 2 and "from the start" in born[1].log)
        ref.tell("at once")
        assert born[1].log == ["started", "from the start", "at once"], "nothing is in its way"


@on_both_loops
async def test_a_transient_actor_comes_back_from_a_crash_but_not_from_an_end():
    actor = Recorder()
    async with a_system() as system:
        ref = system.spawn(lambda: actor, "it", Lifetime.TRANSIENT)
        ref.tell(crash)
        ref.tell("alive")
        ref.tell(stop)
        await turns()
        ref.tell("dead")
    assert actor.log == ["started", "stopping", "started", "alive", "stopping"]


@on_both_loops
async def test_a_crash_at_the_root_is_told_to_the_owner_of_the_system():
    failures: list[BaseException] = []
    async with a_system(failures.append) as system:
        system.spawn(Recorder, "it").tell(crash)
        assert system.failure is failures[0]
    assert [str(error) for error in failures] == ["broken"]


@on_both_loops
async def test_a_crash_is_noted_with_who_crashed_and_what_it_was_told_last():
    class Diarist(Recorder):
        def last_events(self) -> str:
            return "1.0 breakfast"

    failures: list[BaseException] = []
    diarist = Diarist()
    async with a_system(failures.append) as system:
        system.spawn(lambda: diarist, "it").tell(crash)
    assert diarist.crash is failures[0]
    (note,) = failures[0].__notes__
    assert "it crashed" in note
    assert "1.0 breakfast" in note


@on_both_loops
async def test_restarts_without_end_escalate_to_the_parent_and_from_there_to_the_root():
    failures: list[BaseException] = []
    parent = Recorder()
    children: list[Any] = []

    class Doomed(Actor):
        def started(self) -> None:
            children.append(self)
            raise ValueError("cannot start")

    async with a_system(failures.append) as system:
        ref = system.spawn(lambda: parent, "parent")
        ref.tell(lambda me: me.context.spawn(Doomed, "child", Lifetime.PERMANENT))
        await until(lambda: failures)
    assert len(children) == 6  # the first, and 5 restarts
    (failure,) = failures
    assert isinstance(failure, SupervisionError)
    assert "parent gave up: parent/child ended more than 5 times" in str(failure)
    assert parent.log == ["started", "stopping"]


@on_both_loops
async def test_a_factory_that_raises_is_a_crash_of_its_actor():
    failures: list[BaseException] = []

    def make() -> Actor:
        raise ValueError("cannot be made")

    async with a_system(failures.append) as system:
        ref = system.spawn(make, "it")
        with pytest.raises(ActorStoppedError):
            await ref.ask("?")
    assert [str(error) for error in failures] == ["cannot be made"]


@on_both_loops
async def test_a_factory_that_raises_at_the_restart_is_tried_as_often_as_any_child():
    failures: list[BaseException] = []
    made: list[int] = []

    def make() -> Actor:
        made.append(1)
        if len(made) > 1:
            raise ValueError("only once")
        return Recorder()

    async with a_system(failures.append) as system:
        system.spawn(make, "it", Lifetime.PERMANENT).tell(crash)
        await until(lambda: failures)
    assert len(made) == 6
    assert isinstance(failures[0].__cause__, ValueError)


@on_both_loops
async def test_what_stopping_raises_is_reported_unless_there_was_an_error_before():
    failures: list[BaseException] = []

    class Sore(Recorder):
        def stopping(self) -> None:
            raise RuntimeError("sore")

    async with a_system(failures.append) as system:
        system.spawn(Sore, "a").tell(stop)
        await until(lambda: failures)
        system.spawn(Sore, "b").tell(crash)
    assert [type(error) for error in failures] == [RuntimeError, ValueError]


@on_both_loops
async def test_an_unknown_message_is_a_crash():
    async with a_system() as system:
        with pytest.raises(TypeError, match="Actor was told 'what', which it does not know"):
            await system.spawn(Actor, "it").ask("what")


# -- tasks -----------------------------------------------------------------------------


async def raises() -> None:
    await asyncio.sleep(0)
    raise ValueError("broken")


async def for_ever() -> None:
    await asyncio.Event().wait()


@on_both_loops
async def test_a_crashing_task_is_a_crash_of_its_actor():
    failures: list[BaseException] = []
    actor = Recorder()
    async with a_system(failures.append) as system:
        system.spawn(lambda: actor, "it").tell(lambda me: me.context.run(raises(), "work"))
        await until(lambda: failures)
    assert actor.log == ["started", "stopping"]
    assert str(failures[0]) == "broken"


@on_both_loops
async def test_the_tasks_of_an_actor_end_with_it():
    tasks = asyncio.all_tasks()
    async with a_system() as system:
        ref = system.spawn(Recorder, "it")
        ref.tell(lambda me: me.context.run(for_ever(), "work"))
        ref.stop()
        await until(lambda: asyncio.all_tasks() == tasks)


@on_both_loops
async def test_the_late_crash_of_a_task_is_no_crash_of_the_next_life():
    born: list[Recorder] = []

    def make() -> Recorder:
        born.append(Recorder())
        return born[-1]

    async def sore_loser() -> None:
        try:
            await for_ever()
        finally:
            raise RuntimeError("sore")

    async with a_system() as system:
        ref = system.spawn(make, "it", Lifetime.PERMANENT)
        ref.tell(lambda me: me.context.run(sore_loser(), "work"))
        await turns(2)
        ref.tell(crash)
        await turns(10)
        assert len(born) == 2


@on_both_loops
async def test_nothing_is_begun_for_an_actor_that_has_ended():
    async with a_system() as system:
        actor = Recorder()
        ref = system.spawn(lambda: actor, "it")
        ref.stop()
        await turns()
        actor.context.run(for_ever(), "too late")
    assert actor.log == ["started", "stopping"]


# -- timers ----------------------------------------------------------------------------


@on_both_loops
async def test_a_timer_fires_once_and_not_before_its_time():
    actor = Recorder()
    async with a_system() as system:
        begin = system.clock.now()
        ref = system.spawn(lambda: actor, "it")
        ref.tell(lambda me: me.context.wake_at(begin + 0.02))
        await turns(20)
        assert actor.log == ["started"]
        await until(lambda: "timer" in actor.log)
        assert system.clock.now() >= begin + 0.019
        await turns(20)
    assert actor.log.count("timer") == 1


@on_both_loops
async def test_an_earlier_wish_replaces_a_later_one_and_a_later_one_is_not_needed():
    actor = Recorder()
    async with a_system() as system:
        ref = system.spawn(lambda: actor, "it")
        ref.tell(lambda me: me.context.wake_at(me.context.now() + 60))
        ref.tell(lambda me: me.context.wake_at(me.context.now()))
        ref.tell(lambda me: me.context.wake_at(me.context.now() + 60))
        await until(lambda: "timer" in actor.log)
        await turns(20)
    assert actor.log.count("timer") == 1


@on_both_loops
async def test_a_timer_dies_with_its_actor_and_may_be_as_far_off_as_one_likes():
    actor = Recorder()
    failures: list[BaseException] = []
    async with a_system(failures.append) as system:
        ref = system.spawn(lambda: actor, "it")
        ref.tell(lambda me: me.context.wake_at(float("inf")))
        ref.tell(lambda me: me.context.wake_at(1e300))
        ref.tell(lambda me: me.context.wake_at(me.context.now() + 0.005))
        ref.stop()
        await asyncio.sleep(0.02)
    assert actor.log == ["started", "stopping"]
    assert failures == []


@on_both_loops
async def test_a_timer_that_raises_is_a_crash():
    failures: list[BaseException] = []

    class Sore(Recorder):
        def on_timer(self) -> None:
            raise ValueError("broken")

    async with a_system(failures.append) as system:
        system.spawn(Sore, "it").tell(lambda me: me.context.wake_at(0))
        await until(lambda: failures)


# -- children and the end --------------------------------------------------------------


@on_both_loops
async def test_a_parent_hears_of_a_child_that_is_not_restarted():
    parent = Recorder()
    async with a_system() as system:
        ref = system.spawn(lambda: parent, "parent")

        def spawn(me: Recorder) -> None:
            me.context.spawn(Recorder, "child", Lifetime.TEMPORARY).tell(crash)

        ref.tell(spawn)
        await until(lambda: len(parent.log) == 2)
        name, error = parent.log[1]
        assert (name, str(error)) == ("parent/child", "broken")


@on_both_loops
async def test_children_are_stopped_the_youngest_first():
    log: list[Any] = []
    async with a_system() as system:
        ref = system.spawn(lambda: Recorder(log, "parent"), "parent")
        for name in ("a", "b"):
            ref.tell(
                lambda me, name=name: me.context.spawn(
                    lambda: Recorder(log, name), name, Lifetime.PERMANENT
                )
            )
        await turns()
    ends = [name for name, what in log if what == "stopping"]
    assert sorted(ends) == ["a", "b", "parent"]
    assert ends.index("b") < ends.index("a")


@on_both_loops
async def test_the_system_waits_for_the_tasks_of_grandchildren_too():
    ended: list[str] = []

    async def slow_to_end() -> None:
        try:
            await for_ever()
        finally:
            await asyncio.sleep(0.01)
            ended.append("grandchild's task")

    def have_child(me: Recorder) -> None:
        me.context.spawn(Recorder, "child", Lifetime.TEMPORARY).tell(
            lambda child: child.context.run(slow_to_end(), "work")
        )

    async with a_system() as system:
        system.spawn(Recorder, "parent").tell(have_child)
        await turns()
    assert ended == ["grandchild's task"]


@on_both_loops
async def test_the_system_waits_for_adopted_children():
    child = FakeChild()

    class Parent(Recorder):
        def started(self) -> None:
            self.context.adopt(child)

    parent = Parent()
    async with a_system() as system:
        system.spawn(lambda: parent, "parent")
        loop = asyncio.get_running_loop()
        loop.call_later(0.01, lambda: parent.context.child_exited(child, Exit()))
        await system.stop()
        assert loop.time() > 0
        assert len(system._cells) == 0
    assert child.log == ["stop child"]


@on_both_loops
async def test_the_child_of_an_earlier_life_is_no_news_to_the_next_one():
    born: list[Recorder] = []
    children: list[Any] = []

    def make() -> Recorder:
        born.append(Recorder())
        return born[-1]

    async with a_system() as system:
        ref = system.spawn(make, "it", Lifetime.PERMANENT)
        ref.tell(
            lambda me: children.append(me.context.spawn(Recorder, "child", Lifetime.TEMPORARY))
        )
        ref.tell(crash)
        await turns(10)
        assert not children[0]._cell.alive
        assert [actor.log for actor in born] == [["started", "stopping"], ["started"]]


@on_both_loops
async def test_actors_that_have_ended_are_forgotten():
    async with a_system() as system:
        ref = system.spawn(Recorder, "it")
        cell = weakref.ref(ref._cell)
        ref.stop()
        await turns()
        del ref
        gc.collect()
        assert cell() is None
