"""Detached actors in the Lieutenant actor: what it keeps, and who is told what."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import replace
from typing import Any

import pytest

from goliath.actors.blueprint import Blueprint
from goliath.actors.reception import Drain
from goliath.actors.repertoire import Method, Repertoire
from goliath.actors.stage import LIFE_VARIABLE
from goliath.core.ids import HOUSE
from goliath.transport import (
    call_messages as call_msg,
    messages as msg,
    worker_messages as worker_msg,
)
from goliath.transport.functions import Function
from goliath.transport.payload import Bundle
from tests.actors.desks import flat
from tests.actors.runtime import until
from tests.actors.test_lieutenant import (
    ENVIRONMENT,
    FUNCTION,
    FakeCommander,
    FakeProcess,
    House,
    a_house,
    a_kept_result,
    assign,
)

DATA = b"a file of the actor's"
DIGEST = hashlib.sha256(DATA).hexdigest()
CLASS = worker_msg.DefineFunction("c", "Counter", b"pickled class")
BLUEPRINT = Blueprint(
    Function("c", "Counter", b""),
    repertoire=Repertoire({"add": Method()}),
    max_restarts=1,
    name="hits",
    detached=True,
)
AROUND = msg.DefineEnvironment("hits-0.1", [], {LIFE_VARIABLE: "1"})
FILED = replace(AROUND, files=[["data.txt", 0o644, DIGEST, len(DATA)]])
ORIGIN: list[int | str] = [7, 0, "calls", 0]


def detach(**changes: Any) -> msg.DetachActor:
    """A Commander wants the actor taken on."""
    spec = BLUEPRINT.travelling()
    fields = {"function": "c", "environment": "hits-0.1", "form": "rows", "spec": spec}
    return msg.DetachActor(1, 1, **{**fields, "payload": b"init", **changes})


def visit(batch: int, environment: str = "hits-0.1") -> msg.AssignBatch:
    """A call of it."""
    return msg.AssignBatch(
        batch,
        1,
        0,
        1,
        "c",
        environment,
        "rows",
        cpus=0.0,
        actor=True,
        origin=ORIGIN,
        resident=True,
        payload=b"call",
    )


async def adopted(house: House) -> tuple[FakeCommander, FakeProcess]:
    """A Commander whose actor has been made."""
    commander = house.commander()
    commander.say(CLASS, AROUND, detach())
    assert (await commander.next(msg.RangeReturned)).why == "adopted"
    process = await house.worker()
    await until(lambda: len(process.heard) == 2)
    process.do()
    return commander, process


async def seen_by(commander: FakeCommander, **asked: str) -> list[dict[str, Any]]:
    commander.say(msg.AskActors(9, **asked))
    answer = await commander.next(msg.Actors)
    assert answer.request == 9
    return answer.actors


async def last_run(process: FakeProcess, payload: bytes) -> worker_msg.RunRange:
    """The range that it was given last, when it is this one."""
    await until(lambda: flat(process.run().payload) == payload)
    return process.run()


async def test_it_is_made_by_the_node_with_what_its_maker_has_sent():
    async with a_house() as house:
        _, process = await adopted(house)
        assert process.heard == [CLASS, worker_msg.RunRange(1, 0, 1, "c", "rows", payload=b"init")]
        assert process.spec.actor
        assert process.spec.variables[LIFE_VARIABLE] == "1"


async def test_who_looks_for_it_is_told_what_a_handle_is_made_of():
    async with a_house() as house:
        await adopted(house)
        other = house.commander()
        (told,) = await seen_by(other, name="hits")
        assert Blueprint.of(BLUEPRINT.function, told["spec"]) == BLUEPRINT
        assert (told["environment"], told["class"], told["digest"]) == ("hits-0.1", "Counter", "c")
        assert (told["pid"], told["state"], told["pending"]) == (1001, "idle", 0)
        assert await seen_by(other, name="misses") == []
        assert await seen_by(other, name="hits", namespace="elsewhere") == []
        assert len(await seen_by(other)) == 1


async def test_a_commander_of_another_token_does_not_see_it():
    async with a_house() as house:
        await adopted(house)
        stranger = house.commander(realm="another token")
        assert await seen_by(stranger) == []
        stranger.say(visit(1))
        assert (await stranger.next(msg.EnvironmentFailed)).successor == ""
        assert (await stranger.next(msg.RangeReturned)).why == "environment"


async def test_its_process_knows_its_callers_by_numbers_and_each_hears_what_is_his():
    async with a_house() as house:
        maker, process = await adopted(house)
        other = house.commander()
        other.say(visit(5))
        range_ = await last_run(process, b"call")
        assert (range_.function, range_.origin[:4]) == ("c", ORIGIN)
        first = range_.origin[4]
        process.say(call_msg.AwaitRefs(int(first), ["x-1"]))
        asked = await other.next(call_msg.AwaitRefs)
        assert (asked.worker, asked.refs) == (1, ["x-1"])
        process.do()
        await other.next(msg.RangeDone)

        maker.say(visit(6))
        await until(lambda: process.run().origin[4:] not in ([], [first]))
        second = process.run().origin[4]
        process.print(b"hello\n")
        assert bytes((await maker.next(msg.Output)).payload) == b"hello\n"
        process.say(call_msg.AwaitRefs(int(second), ["x-1"]))
        await maker.next(call_msg.AwaitRefs)
        for commander in (maker, other):
            commander.say(worker_msg.RefEnded(1, "x-1", False, payload=b"value"))
        await until(lambda: sum(isinstance(m, worker_msg.RefEnded) for m in process.heard) == 2)
        answers = [m for m in process.heard if isinstance(m, worker_msg.RefEnded)]
        assert {m.worker for m in answers} == {first, second}
        assert not any(isinstance(m, call_msg.AwaitRefs | msg.Output) for m in other.heard)


async def test_with_a_commander_goes_what_he_would_have_answered_and_not_the_actor():
    async with a_house() as house:
        maker, process = await adopted(house)
        maker.say(visit(5))
        range_ = await last_run(process, b"call")
        patron = int(range_.origin[4])
        maker.channel.close()
        await until(lambda: worker_msg.PatronLeft(patron) in process.heard)
        assert worker_msg.Interrupt(range_.serial) in process.heard
        process.say(call_msg.AwaitRefs(patron, ["x-1"]))
        await until(lambda: process.heard.count(worker_msg.PatronLeft(patron)) == 2)
        process.say(call_msg.AwaitRefs(0, ["x-1"]))
        await until(lambda: worker_msg.PatronLeft(0) in process.heard)
        assert not process.killed


async def test_it_is_made_again_in_the_same_directory():
    async with a_house() as house:
        maker = house.commander()
        maker.say(CLASS, FILED, detach())
        await maker.next(msg.NeedFiles)
        maker.say(msg.FileData(DIGEST, 0, len(DATA), DATA))
        assert (await maker.next(msg.RangeReturned)).why == "adopted"
        first = await house.worker()
        maker.channel.close()
        await until(lambda: len(first.heard) == 2)
        first.do()
        other = house.commander()
        assert len(await seen_by(other)) == 1
        first.end(pid=17, signal=9)
        failed = await other.next(msg.EnvironmentFailed)
        assert (failed.environment, failed.successor) == ("hits-0.1", "hits-0.2")
        assert failed.report["signal"] == 9
        second = await house.worker(1)
        assert second.spec.cwd == first.spec.cwd
        assert [path.name for path in house.directories()[0].iterdir()] == ["data.txt"]
        assert second.spec.variables[LIFE_VARIABLE] == "2"
        await until(lambda: len(second.heard) == 2)
        assert second.heard[0] == CLASS
        assert bytes(second.run().payload) == b"init"
        second.do()
        other.say(visit(5, "hits-0.2"))
        await last_run(second, b"call")
        other.say(msg.KillResident("hits-0.1"))
        assert (await other.next(msg.EnvironmentFailed)).successor == ""
        await until(lambda: second.killed and not house.directories())


async def test_what_its_init_has_raised_is_told_to_all():
    async with a_house() as house:
        commander, other = house.commander(), house.commander()
        commander.say(CLASS, AROUND, detach())
        process = await house.worker()
        await until(lambda: len(process.heard) == 2)
        process.say(worker_msg.Progress(1, 0, 1, 10, True, retryable=[0], payload=b"the exception"))
        for each in (commander, other):
            failed = await each.next(msg.EnvironmentFailed)
            assert (failed.successor, bytes(failed.payload)) == ("", b"the exception")
        await until(lambda: process.killed)


async def test_one_that_leaves_ends_with_the_call_by_which_it_did():
    async with a_house() as house:
        commander, process = await adopted(house)
        commander.say(visit(5))
        range_ = await last_run(process, b"call")
        process.say(call_msg.LeaveActor(int(range_.origin[4]), 7))
        process.say(worker_msg.Progress(range_.serial, 0, 1, 10, True, dirty=True, payload=b"none"))
        await commander.next(msg.RangeDone)
        failed = await commander.next(msg.EnvironmentFailed)
        assert (failed.successor, bytes(failed.payload)) == ("", b"")
        assert "exit_actor" in failed.error
        assert await seen_by(commander) == []


async def test_a_node_that_is_told_to_go_says_whom_it_takes_along(caplog):
    async with a_house() as house:
        await adopted(house)
        with caplog.at_level(logging.WARNING, "goliath.lieutenant"):
            house.ref.tell(Drain())
        await until(house.drained.is_set)
        assert caplog.messages == ["draining: these detached actors end with it: hits"]


async def test_what_its_making_takes_is_there_in_all_its_lives_though_its_maker_forgets_it():
    async with a_house() as house:
        maker = house.commander()
        maker.say(FUNCTION, ENVIRONMENT, assign(5, hi=1, keep_over=4))
        key = await a_kept_result(maker, await begun(house))
        taken = detach(deposits=[[key, 5], [0, 2], [-1, 0]], payload=Bundle(b"init", [b"ab"]))
        maker.say(CLASS, AROUND, taken, msg.ForgetDeposits([key]))
        assert (await maker.next(msg.RangeReturned)).why == "adopted"
        for life in (1, 2):
            process = await house.worker(life)
            await until(lambda process=process: len(process.heard) == 2)
            range_ = process.run()
            assert (range_.deposits, flat(range_.payload)) == ([5, 2, -1], b"initvalueab")
            process.do()
            process.end(signal=9)


async def begun(house: House) -> FakeProcess:
    """The first process, when it has something to run."""
    process = await house.worker()
    await until(lambda: len(process.heard) == 2)
    return process


async def test_its_big_results_are_kept_for_the_commander_that_has_called_it_only():
    async with a_house() as house:
        maker, process = await adopted(house)
        other = house.commander()
        other.say(replace(visit(5), keep_over=4))
        await last_run(process, b"call")
        assert process.run().keep_over == 4
        key = await a_kept_result(other, process)
        other.say(replace(visit(6), deposits=[[key, 5]], payload=b"again"))
        range_ = await last_run(process, b"againvalue")
        assert range_.deposits == [5]
        other.say(msg.FetchDeposit(key))
        assert await other.next(msg.DepositSent) == msg.DepositSent(key, b"value")
        maker.say(msg.FetchDeposit(key))
        await until(lambda: maker.closed)


async def test_what_its_init_prints_is_for_its_maker_the_first_time(caplog):
    async with a_house() as house:
        maker = house.commander()
        maker.say(CLASS, AROUND, detach())
        process = await house.worker()
        await until(lambda: len(process.heard) == 2)
        process.print(b"making\n")
        assert bytes((await maker.next(msg.Output)).payload) == b"making\n"
        process.end(signal=9)
        again = await house.worker(1)
        await until(lambda: len(again.heard) == 2)
        with caplog.at_level(logging.INFO, "goliath.lieutenant"):
            again.print(b"making again\n")
        assert caplog.messages == ["detached actor hits has printed: making again"]


async def test_what_it_prints_while_nobody_calls_it_is_in_the_log(caplog):
    async with a_house() as house:
        _, process = await adopted(house)
        await until(lambda: house.actor._workers[1].listener == HOUSE)
        with caplog.at_level(logging.INFO, "goliath.lieutenant"):
            process.print(b"tick\n")
        assert caplog.messages == ["detached actor hits has printed: tick"]


NO_NAME = replace(BLUEPRINT, name="").travelling()
DISHONEST = {
    "a class never defined": detach(function="x"),
    "an environment never defined": detach(environment="x.1"),
    "a spec that is none": detach(spec={"repertoire": 3}),
    "a spec of another field": detach(spec={"what": 3}),
    "no name": detach(spec=NO_NAME),
    "not detached": detach(spec=replace(BLUEPRINT, detached=False).travelling()),
    "a second life": detach(environment="hits-0.2"),
    "no id": detach(environment=".1"),
    "results that are not kept": detach(deposits=[[7, 5]]),
}


async def test_a_commander_that_wants_the_same_twice_is_shown_the_door():
    async with a_house() as house:
        liar = house.commander()
        other = replace(FILED, environment="hits-1.1")
        liar.say(CLASS, FILED, other, detach(), detach(environment="hits-1.1"))
        await until(lambda: liar.closed)
        assert await seen_by(house.commander()) == []


@pytest.mark.parametrize("said", DISHONEST.values(), ids=DISHONEST)
async def test_a_commander_that_is_not_honest_is_shown_the_door(said: msg.DetachActor):
    async with a_house() as house:
        bystander, liar = house.commander(), house.commander()
        for number, name in enumerate(("hits-0.1", "hits-0.2", ".1")):
            liar.say(replace(AROUND, environment=name, variables={"N": str(number)}))
        liar.say(CLASS, said)
        await until(lambda: liar.closed)
        assert await seen_by(bystander) == []
