"""The Commander actor: messages out for messages in, with fake Lieutenants and fake owners."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from goliath.actors import acquaintance, desk
from goliath.actors.acquaintance import Acquaintance
from goliath.actors.commander import CommanderActor
from goliath.actors.deposits import DEPOSIT_BYTES, Deposit, Taken
from goliath.actors.filesending import GONE
from goliath.actors.node_info import NodeInfo
from goliath.actors.outcomes import Setback, Where, explain
from goliath.actors.surroundings import ShippedFile, Surroundings
from goliath.actors.system import ActorSystem
from goliath.config import TransportConfig
from goliath.core.batch import JobOptions
from goliath.core.commands import Verdict
from goliath.core.ids import JobId, NodeId
from goliath.core.scheduler import Scheduler
from goliath.errors import GoliathError, LocalError, TaskCancelledError
from goliath.limits import Limit
from goliath.transport import memory, messages as msg, worker_messages as worker_msg
from goliath.transport.functions import Function
from goliath.transport.keepsakes import Keepsake
from goliath.transport.message import Message
from goliath.transport.payload import Bundle, parts_of
from tests.actors.desks import FakePortal
from tests.actors.runtime import turns, until


@dataclass
class FakeOwner:
    """Wants the outcomes of a job."""

    demands: list[tuple[int, int]] = field(default_factory=list)
    settled: list[tuple[int, int, int, bytes, tuple[int, ...]]] = field(default_factory=list)
    failed: list[tuple[int, int, int, Setback, Where]] = field(default_factory=list)
    broken: list[Exception] = field(default_factory=list)
    where: Where | None = None
    held: Sequence[object] = ()
    deposits: dict[int, Deposit] = field(default_factory=dict)

    def on_demand(self, batches: int, calls: int) -> None:
        self.demands.append((batches, calls))

    def on_settled(self, settled: desk.Settled) -> None:
        self.held = settled.held
        self.deposits = dict(settled.deposits or {})
        outcomes = bytes(settled.payload), tuple(settled.excepted)
        self.settled.append((settled.parcel, settled.lo, settled.hi, *outcomes))
        self.where = settled.where

    def on_failed(self, failed: desk.Failed) -> None:
        setback, where = failed.setback, failed.where
        explain(setback, where, failed.parcel + failed.lo)  # as every owner does
        self.failed.append((failed.parcel, failed.lo, failed.hi, setback, where))

    def on_broken(self, error: Exception) -> None:
        self.broken.append(error)


class FakeNode:
    """The Lieutenant's end of a session."""

    def __init__(self, channel: memory.MemoryChannel) -> None:
        self.channel = channel
        self.heard: list[Any] = []
        self.closed = False
        channel.attach(self)

    def on_message(self, message: Message) -> None:
        self.heard.append(message)

    def on_closed(self, error: Exception | None) -> None:
        self.closed = True

    def on_writable(self) -> None:
        pass

    def say(self, *messages: Message) -> None:
        for message in messages:
            self.channel.send(message)

    async def next(self, kind: type) -> Any:
        """The first message of this kind, taken out."""
        await until(lambda: any(isinstance(message, kind) for message in self.heard))
        found = next(message for message in self.heard if isinstance(message, kind))
        self.heard.remove(found)
        return found

    async def finish(self, **changes: Any) -> msg.AssignBatch:
        """Report the next batch as done."""
        batch = await self.next(msg.AssignBatch)
        fields = {"elapsed_us": 10, "worker": 4, "payload": b"outcomes", **changes}
        self.say(msg.RangeDone(batch.batch, batch.attempt, batch.lo, batch.hi, **fields))
        return batch


class House:
    """A Commander actor with everything around it."""

    def __init__(self, system: ActorSystem) -> None:
        self.news: list[Any] = []
        self.output: list[tuple[str, msg.Output]] = []
        self.warnings: list[str] = []
        self.actor = CommanderActor(
            Scheduler(),
            ["a:1"],
            on_output=lambda node, output: self.output.append((node, output)),
            on_nodes=self.news.append,
            portal=FakePortal(),
            on_warning=self.warnings.append,
            check=True,
        )
        self.ref = system.spawn(lambda: self.actor, "commander")
        self._jobs = 0

    def node(self, address: str = "a:1", slots: int = 1, **fields: Any) -> FakeNode:
        ours, theirs = memory.pair(TransportConfig(), through_codec=True)
        self.ref.tell(desk.NodeUp(address, ours, "server", "3.11", slots, {}, **fields))
        return FakeNode(theirs)

    def job(
        self, *, around: Surroundings | None = None, name: str = "foo", **options: Any
    ) -> tuple[JobId, FakeOwner]:
        self._jobs += 1
        job, owner = JobId(self._jobs), FakeOwner()
        around = around or Surroundings("env")
        digest = hashlib.sha256(name.encode()).hexdigest()
        function = Function(digest, name, options.pop("pickled", b"pickled"))
        self.ref.tell(
            desk.OpenJob(job, owner, function, around, JobOptions(digest, around.key, **options))
        )
        return job, owner

    def submit(self, job: JobId, first: int = 0, calls: int = 3) -> None:
        self.ref.tell(desk.SubmitParcel(desk.Parcel(job, first, calls, "rows", b"calls")))

    def alive(self) -> bool:
        return self.ref._cell.alive


@asynccontextmanager
async def a_house() -> AsyncIterator[House]:
    failures: list[BaseException] = []
    system = ActorSystem(on_failure=failures.append)
    house = House(system)
    try:
        yield house
        assert not failures, failures
    finally:
        async with asyncio.timeout(5):
            await system.stop()


# -- messages out for messages in ------------------------------------------------------


async def test_a_node_is_told_of_function_and_environment_once_before_their_first_batch():
    async with a_house() as house:
        node = house.node(slots=2)
        job, owner = house.job()
        house.submit(job, 0)
        house.submit(job, 3)
        await until(lambda: len(node.heard) == 5)
        kinds = [type(message) for message in node.heard]
        assert kinds == [
            msg.ProposeArena,
            worker_msg.DefineFunction,
            msg.DefineEnvironment,
            msg.AssignBatch,
            msg.AssignBatch,
        ]
        for first in (0, 3):
            batch = await node.finish()
            assert (batch.lo, batch.hi, bytes(batch.payload)) == (0, 3, b"calls")
            await until(lambda first=first: len(owner.settled) == first // 3 + 1)
        assert owner.settled == [(0, 0, 3, b"outcomes", ()), (3, 0, 3, b"outcomes", ())]
        assert owner.where == Where("foo", "a:1#1", 4, 1)
        assert house.actor._parcels == {}


async def test_an_owner_is_asked_for_parcels_as_there_is_room():
    async with a_house() as house:
        _, owner = house.job()
        assert owner.demands == [(1, 1)]
        house.node(slots=2)
        await turns()
        assert sum(batches for batches, _ in owner.demands) == 6


async def test_a_job_and_its_own_environment_are_forgotten_when_it_is_over():
    async with a_house() as house:
        node = house.node()
        job, owner = house.job(around=Surroundings("job-1", private=True))
        house.submit(job)
        house.ref.tell(desk.ExhaustJob(job))
        await node.finish()
        assert (await node.next(msg.ForgetEnvironment)).environment == "job-1"
        assert (house.actor._jobs, house.actor._parcels) == ({}, {})
        assert len(owner.settled) == 1


async def test_a_cancelled_job_is_cancelled_on_its_nodes_and_its_parcels_are_forgotten():
    async with a_house() as house:
        node = house.node()
        job, owner = house.job()
        house.submit(job)
        house.ref.tell(desk.CancelJob(job, force=True))
        house.submit(job, 3)
        assert (await node.next(msg.CancelBatch)).force
        batch = await node.next(msg.AssignBatch)
        node.say(msg.RangeReturned(batch.batch, 1, 0, 3, "cancelled"))
        await until(lambda: not house.actor._jobs)
        house.submit(job, 6)
        assert house.actor._parcels == {}
        assert [(parcel, s.verdict) for parcel, _, _, s, _ in owner.failed] == [
            (0, Verdict.CANCELLED),
            (3, Verdict.CANCELLED),
        ]


async def test_cancelling_all_fails_what_is_there_and_what_its_owner_still_submits():
    async with a_house() as house:
        house.node()
        job, owner = house.job()
        house.submit(job)
        house.ref.tell(desk.CancelAll())
        house.submit(job, 3)
        assert [parcel for parcel, *_ in owner.failed] == [0, 3]
        assert {s.verdict for _, _, _, s, _ in owner.failed} == {Verdict.CANCELLED}


async def test_retried_calls_keep_their_parcel_until_the_last_is_settled():
    async with a_house() as house:
        node = house.node()
        job, owner = house.job(retry_exceptions=True)
        house.submit(job)
        await node.finish(retryable=[0, 2])
        await until(lambda: owner.settled)
        assert owner.settled == [(0, 0, 3, b"outcomes", (0, 2))]
        assert house.actor._parcels[job, 0].open_calls == 2
        await node.finish()
        await node.finish()
        await until(lambda: len(owner.settled) == 3)
        assert sorted(owner.settled)[1:] == [
            (0, 0, 3, b"outcomes", (0, 2)),
            (0, 2, 3, b"outcomes", ()),
        ]
        assert house.actor._parcels == {}


async def test_the_calls_of_a_lost_node_move_to_another():
    async with a_house() as house:
        lost = house.node("a:1")
        job, owner = house.job()
        house.submit(job)
        await lost.next(msg.AssignBatch)
        other = house.node("b:1")
        lost.channel.close()
        await other.finish()
        await until(lambda: owner.settled)
        assert isinstance(house.news[-1], desk.NodeDown)


async def test_a_worker_s_death_is_told_with_its_report():
    async with a_house() as house:
        node = house.node()
        job, owner = house.job(max_retries=0)
        house.submit(job, calls=1)
        batch = await node.next(msg.AssignBatch)
        report = {"worker": 7, "pid": 12, "signal": 9, "stderr_tail": "bye", "oom": False}
        node.say(msg.RangeReturned(batch.batch, 1, 0, 1, "crashed", 0, report))
        await until(lambda: owner.failed)
        _, _, _, setback, where = owner.failed[0]
        assert (setback.verdict, setback.report) == (Verdict.CRASHED, report)
        assert where == Where("foo", "a:1#1", 7, 1)


async def test_output_is_handed_on_with_the_address_of_its_node():
    async with a_house() as house:
        node = house.node()
        node.say(msg.Output("stdout", "foo", 1, b"hello\n"))
        await until(lambda: house.output)
        assert house.output[0][0] == "a:1"


async def test_nodes_are_described_whether_they_are_up_or_down():
    async with a_house() as house:
        node = house.node("b:2", slots=4)
        house.ref.tell(desk.NodeTrouble("a:1", ConnectionError("refused")))
        limit = Limit("memory per session", 1024, "bytes", "cgroup v1")
        node.say(msg.Status(2, 4, 1, 3, limits=[limit.to_json()]), msg.Draining())
        await until(lambda: house.actor._nodes["b:2#1"].draining)
        up, down = await house.ref.ask(desk.DescribeNodes())
        assert up == NodeInfo("b:2#1", "b:2", 4, 2, 1, True, "3.11", 3, {}, True, limits=[limit])
        assert down == NodeInfo("a:1", "a:1", error="refused")
        assert await node.next(msg.AskStatus)


async def test_how_short_of_memory_a_node_is_is_told_of_it():
    async with a_house() as house:
        node = house.node("b:2")
        node.say(msg.MemoryLevel("full", 97, 100))
        node.say(msg.Status(2, 4, 1, 3, memory={"level": 2, "used": 98, "limit": 100}))
        await until(lambda: house.actor._nodes["b:2#1"].status is not None)
        told, *_ = await house.ref.ask(desk.DescribeNodes())
        assert (told.memory, told.memory_used, told.memory_limit) == ("full", 98, 100)
        node.say(msg.MemoryLevel("peckish", 50, 100))
        await until(lambda: not house.actor._nodes)


async def test_a_node_whose_link_had_trouble_is_described_once():
    async with a_house() as house:
        house.node("a:1")
        house.ref.tell(desk.NodeTrouble("a:1", ConnectionError("cut, and soon resumed")))
        infos = await house.ref.ask(desk.DescribeNodes())
        assert [(info.node_id, info.alive, info.error) for info in infos] == [("a:1#1", True, "")]


# -- files -----------------------------------------------------------------------------


def shipped(path: Path) -> ShippedFile:
    data = path.read_bytes()
    return ShippedFile(path.name, 0o644, hashlib.sha256(data).hexdigest(), len(data), path)


async def test_files_that_a_node_needs_are_sent_and_what_is_not_there_is_said_to_be_gone(
    tmp_path: Path,
):
    (tmp_path / "a").write_bytes(b"a" * 3_000_000)
    (tmp_path / "b").write_bytes(b"b")
    a, b = shipped(tmp_path / "a"), shipped(tmp_path / "b")
    (tmp_path / "b").unlink()
    async with a_house() as house:
        node = house.node()
        house.job(around=Surroundings("job", (a, b)))
        node.say(msg.NeedFiles([a.sha256, b.sha256, "0" * 64]))
        pieces = [await node.next(msg.FileData) for _ in range(5)]
        assert b"".join(bytes(p.payload) for p in pieces if p.sha256 == a.sha256) == b"a" * 3000000
        assert [(p.sha256, p.size) for p in pieces[3:]] == [(b.sha256, GONE), ("0" * 64, GONE)]


async def test_modules_are_sent_as_they_were_for_jobs_that_have_ended_too():
    source = Path("/no/such/module.py")
    digest = hashlib.sha256(b"was").hexdigest()
    module = ShippedFile("m.py", 0o644, digest, 3, source, b"was")
    async with a_house() as house:
        node = house.node()
        job, owner = house.job(around=Surroundings("shared", modules={"m": module}))
        house.submit(job)
        house.ref.tell(desk.ExhaustJob(job))
        await node.finish()
        await until(lambda: owner.settled)
        node.say(msg.NeedFiles([digest]))
        assert bytes((await node.next(msg.FileData)).payload) == b"was"


async def test_what_could_not_be_set_up_is_forgotten_and_tried_again_by_the_next_job():
    async with a_house() as house:
        node = house.node()
        around = Surroundings("shared", requirements=("numpy",))
        job, owner = house.job(around=around)
        house.submit(job)
        assert (await node.next(msg.DefineEnvironment)).requirements == ["numpy"]
        batch = await node.next(msg.AssignBatch)
        node.say(
            msg.EnvironmentFailed("shared", "no network"),
            msg.RangeReturned(batch.batch, batch.attempt, batch.lo, batch.hi, "environment"),
        )
        assert (await node.next(msg.ForgetEnvironment)).environment == "shared"
        await until(lambda: owner.failed)
        again, _ = house.job(around=around)
        house.submit(again)
        assert (await node.next(msg.DefineEnvironment)).environment == "shared"


async def test_sending_files_ends_with_the_session(tmp_path: Path):
    (tmp_path / "a").write_bytes(bytes(200 << 20))
    a = shipped(tmp_path / "a")
    before = asyncio.all_tasks()
    async with a_house() as house:
        ours, theirs = memory.pair(TransportConfig())
        house.ref.tell(desk.NodeUp("a:1", ours, "server", "3.11", 1, {}))
        house.job(around=Surroundings("job", (a,)))
        house.ref.tell(desk.NodeHeard("a:1#1", msg.NeedFiles([a.sha256])))
        await until(lambda: ours.congested)  # nobody reads at the other end
        assert asyncio.all_tasks() != before
        theirs.close()
        await until(lambda: asyncio.all_tasks() == before)


# -- what is forgotten -----------------------------------------------------------------


async def test_functions_nobody_uses_are_forgotten_when_there_are_too_many():
    async with a_house() as house:
        node = house.node()
        kept, _ = house.job(name="in use")
        house.submit(kept)
        await node.finish()
        for number in range(acquaintance.FUNCTIONS_KEPT + 2):
            job, owner = house.job(name=f"f{number}")
            house.submit(job)
            house.ref.tell(desk.ExhaustJob(job))
            await node.finish()
            await until(lambda owner=owner: owner.settled)

        def forgotten() -> list[str]:
            return [m.digest for m in node.heard if isinstance(m, worker_msg.ForgetFunction)]

        await until(lambda: len(forgotten()) == 2)
        assert forgotten() == [hashlib.sha256(f"f{n}".encode()).hexdigest() for n in (0, 1)]
        job, _ = house.job(name="f0")
        node.heard.clear()
        house.submit(job)
        assert (await node.next(worker_msg.DefineFunction)).name == "f0"


def test_what_is_big_is_forgotten_sooner_and_what_is_used_never():
    known = Acquaintance(kept=3, kept_bytes=100)
    for name, size in (("a", 60), ("b", 60), ("used", 1000), ("c", 10), ("d", 10), ("e", 10)):
        known.add(name, size)
    assert known.forget_surplus({"used"}) == ["a", "b"]
    assert known.forget_surplus({"used"}) == []
    assert known.forget_surplus(()) == ["used"]
    assert "c" in known
    assert known.discard("c")
    assert not known.discard("c")


# -- results that stay on their nodes ----------------------------------------------------


def keeping(house: House, **options: Any) -> tuple[JobId, FakeOwner]:
    """A job whose big results may stay where they are made."""
    job, owner = house.job(**options)
    house.actor._jobs[job].keeps = True
    return job, owner


def taking(job: JobId, first: int, *deposits: Taken) -> desk.SubmitParcel:
    return desk.SubmitParcel(desk.Parcel(job, first, 1, "rows", b"calls", deposits=deposits))


async def a_deposit(house: House, node: FakeNode, owner: FakeOwner, job: JobId) -> Deposit:
    """The result of a call, kept by the node under key 7."""
    house.submit(job, 0, 1)
    await node.finish(deposits=[[0, 5, 7]])
    await until(lambda: owner.deposits)
    return owner.deposits.pop(0)


async def test_big_results_of_single_calls_stay_on_nodes_that_are_not_embedded():
    async with a_house() as house:
        far, here = house.node("a:1"), house.node("embedded", embedded=True)
        job, _ = keeping(house)
        house.submit(job, 0, 1)
        house.submit(job, 1, 1)
        assert (await far.next(msg.AssignBatch)).keep_over == DEPOSIT_BYTES
        assert (await here.next(msg.AssignBatch)).keep_over == 0
        listed, _ = house.job()
        house.submit(listed)
        assert (await far.next(msg.AssignBatch)).keep_over == 0


async def test_a_report_tells_which_results_were_kept_and_brings_the_others_along():
    async with a_house() as house:
        node = house.node()
        job, owner = keeping(house)
        house.submit(job, 0, 3)
        await node.finish(deposits=[[0, 9, 7], [2, 3, 0]], payload=Bundle(b"outcomes", [b"abc"]))
        await until(lambda: owner.settled)
        assert owner.settled == [(0, 0, 3, b"outcomes", ())]
        kept, along = owner.deposits[0], owner.deposits[2]
        assert (kept.is_on(kept.node), kept.known, kept.size) == (True, False, 9)
        assert (along.is_on(along.node), bytes(along.payload())) == (False, b"abc")


async def test_a_kept_result_of_a_report_that_does_not_count_is_forgotten():
    async with a_house() as house:
        node = house.node()
        job, owner = keeping(house)
        house.submit(job, 0, 1)
        batch = await node.next(msg.AssignBatch)
        house.ref.tell(desk.CancelCall(job, 0, 0))
        node.say(msg.RangeDone(batch.batch, batch.attempt, 0, 1, 10, deposits=[[0, 5, 7]]))
        assert (await node.next(msg.ForgetDeposits)).keys == [7]
        assert (owner.settled, owner.deposits) == ([], {})


async def test_a_call_goes_to_the_node_that_keeps_what_it_takes_and_finds_it_there():
    async with a_house() as house:
        keeper = house.node("a:1", slots=2)
        job, owner = keeping(house)
        deposit = await a_deposit(house, keeper, owner, job)
        house.submit(job, 1, 1)
        assert (await keeper.next(msg.AssignBatch)).deposits == []
        house.node("b:2", slots=9)
        house.ref.tell(taking(job, 2, deposit))
        del deposit
        batch = await keeper.next(msg.AssignBatch)
        assert (batch.deposits, bytes(batch.payload)) == ([[7, 5]], b"calls")
        assert not any(isinstance(message, msg.ForgetDeposits) for message in keeper.heard)
        keeper.say(msg.RangeDone(batch.batch, 1, 0, 1, 10, payload=b"outcomes"))
        assert (await keeper.next(msg.ForgetDeposits)).keys == [7], "its only holder has ended"


async def test_a_call_on_another_node_is_sent_when_what_it_takes_has_come():
    async with a_house() as house:
        keeper = house.node("a:1")
        job, owner = keeping(house)
        deposit = await a_deposit(house, keeper, owner, job)
        pinned, _ = house.job(name="there", node=NodeId("b:2#2"))
        other = house.node("b:2")
        house.ref.tell(taking(pinned, 0, deposit))
        assert (await keeper.next(msg.FetchDeposit)).key == 7
        assert not any(isinstance(message, msg.AssignBatch) for message in other.heard)
        keeper.say(msg.DepositSent(7, b"value"))
        batch = await other.next(msg.AssignBatch)
        assert batch.deposits == [[0, 5]]
        main, along = parts_of(batch.payload)
        assert (bytes(main), [*map(bytes, along)]) == (b"calls", [b"value"])


@pytest.mark.parametrize("end", ["cancelled", "drained", "lost", "keeper lost"])
async def test_a_call_that_waits_for_what_it_takes_is_answered_for_here(end: str):
    async with a_house() as house:
        keeper = house.node("a:1")
        job, owner = keeping(house)
        deposit = await a_deposit(house, keeper, owner, job)
        pinned, waiting = house.job(name="there", node=NodeId("b:2#2"), soft=True)
        other = house.node("b:2")
        house.ref.tell(taking(pinned, 0, deposit))
        await keeper.next(msg.FetchDeposit)
        if end == "cancelled":
            house.ref.tell(desk.CancelJob(pinned))
            await until(lambda: pinned not in house.actor._jobs)
            assert len(waiting.failed) == 1
            assert not any(isinstance(message, msg.CancelBatch) for message in other.heard)
        elif end == "drained":
            other.say(msg.Draining())
            await until(lambda: len(house.actor._shipping) == 0)
            assert not any(isinstance(message, msg.AssignBatch) for message in other.heard)
        elif end == "lost":
            other.channel.close()
        else:
            keeper.channel.close()
            assert (await other.next(msg.AssignBatch)).deposits == [[-1, 0]]
        if end == "lost":
            batch = await keeper.next(msg.AssignBatch)
            assert (batch.deposits, bytes(batch.payload)) == ([[7, 5]], b"calls")
        assert len(house.actor._shipping) == 0


async def test_what_many_calls_take_is_given_to_each_of_their_nodes_once():
    async with a_house() as house:
        one = house.node("a:1")
        job, owner = keeping(house)
        keepsake = Keepsake(b"piece")
        for first in range(2):
            house.ref.tell(taking(job, first, keepsake))
        for _ in range(2):
            batch = await one.next(msg.AssignBatch)
            assert (batch.deposits, bytes(batch.payload)) == ([[-2, 5]], b"calls")
            one.say(msg.RangeDone(batch.batch, batch.attempt, 0, 1, 10, payload=b"outcomes"))
        kept = [message for message in one.heard if isinstance(message, msg.KeepPiece)]
        assert kept == [msg.KeepPiece(-2, b"piece")]
        await until(lambda: len(owner.settled) == 2)
        assert not any(isinstance(message, msg.ForgetPieces) for message in one.heard)
        del keepsake
        assert (await one.next(msg.ForgetPieces)).keys == [-2]


async def test_a_call_that_is_made_again_brings_what_it_takes_to_its_next_node():
    async with a_house() as house:
        one = house.node("a:1")
        job, _ = keeping(house)
        house.ref.tell(taking(job, 0, Keepsake(b"piece")))
        await one.next(msg.AssignBatch)
        other = house.node("b:2")
        one.channel.close()
        assert (await other.next(msg.KeepPiece)).payload == b"piece"
        assert (await other.next(msg.AssignBatch)).deposits == [[-2, 5]]


async def test_what_a_draining_node_keeps_is_fetched():
    async with a_house() as house:
        keeper = house.node()
        job, owner = keeping(house)
        deposit = await a_deposit(house, keeper, owner, job)
        keeper.say(msg.Draining())
        assert (await keeper.next(msg.FetchDeposit)).key == 7
        keeper.say(msg.DepositSent(7, b"value"))
        assert (await keeper.next(msg.ForgetDeposits)).keys == [7]
        assert bytes(deposit.payload()) == b"value"


# -- hostile Lieutenants ---------------------------------------------------------------


def unchecked(message: Message, **fields: Any) -> Message:
    """A message whose insides are not what its hints say."""
    for name, value in fields.items():
        setattr(message, name, value)
    return message


def done(**fields: Any) -> Message:
    return unchecked(msg.RangeDone(1, 1, 0, 3, 10, payload=b"x"), **fields)


def returned(**fields: Any) -> Message:
    return unchecked(msg.RangeReturned(1, 1, 0, 3, "crashed"), **fields)


HOSTILE: dict[str, Callable[[], Message]] = {
    "retry strangers": lambda: done(retryable=[3]),
    "retry the past": lambda: done(retryable=[-1]),
    "retry twice": lambda: done(retryable=[1, 1]),
    "retry words": lambda: done(retryable=["1"]),
    "retry lists": lambda: done(retryable=[[1]]),
    "retry truths": lambda: done(retryable=[True]),
    "negative time": lambda: done(elapsed_us=-1),
    "blame a stranger": lambda: returned(guilty=17),
    "blame the past": lambda: returned(guilty=-17),
    "surrender numbers": lambda: msg.Surrendered(1, [1, 2]),  # type: ignore[list-item]
    "surrender short ranges": lambda: msg.Surrendered(1, [[1, 1, 0]]),
    "surrender words": lambda: msg.Surrendered(1, [["1", 1, 0, 3]]),  # type: ignore[list-item]
    "surrender lists": lambda: msg.Surrendered(1, [[[], 1, 0, 3]]),  # type: ignore[list-item]
    "surrender nothing": lambda: msg.Surrendered(1, [None]),  # type: ignore[list-item]
    "run numbers": lambda: msg.Status(1, 1, 0, 1, running=[1]),  # type: ignore[list-item]
    "run what has no name": lambda: msg.Status(1, 1, 0, 1, running=[(1, 0, 7, 0.5)]),  # type: ignore[list-item]
    "need lists": lambda: msg.NeedFiles([["a"]]),  # type: ignore[list-item]
    "a limit of nothing": lambda: msg.Status(0, 1, 0, 0, limits=[{"amount": 3}]),
    "need numbers": lambda: msg.NeedFiles([1, None]),  # type: ignore[list-item]
    "keep results of strangers": lambda: done(deposits=[[3, 5, 1]]),
    "keep results twice": lambda: done(deposits=[[1, 5, 1], [1, 5, 2]]),
    "keep words": lambda: done(deposits=["abc"]),
    "keep without a key": lambda: done(deposits=[[1, 5]]),
    "keep under no key": lambda: done(deposits=[[1, 5, -1]]),
    "keep nothing": lambda: done(deposits=[[1, 0, 1]]),
    "send along more than there is": lambda: done(deposits=[[1, 2, 0]]),
    "a result that nobody asked for": lambda: msg.DepositSent(1, b"x"),
    "refs that are lists": lambda: done(refs=[[1]]),
    "refs that are objects": lambda: done(refs=["t-1", {}]),
    "adopt a crowd": lambda: returned(why="adopted"),
}


@pytest.mark.parametrize("name", HOSTILE)
async def test_a_lieutenant_that_breaks_the_rules_is_lost_and_its_calls_move_on(name: str):
    async with a_house() as house:
        hostile = house.node("a:1")
        job, owner = house.job()
        house.submit(job)
        await hostile.next(msg.AssignBatch)
        honest = house.node("b:2")
        hostile.say(HOSTILE[name]())
        await until(lambda: hostile.closed)
        await honest.finish()
        await until(lambda: owner.settled)
        assert owner.settled == [(0, 0, 3, b"outcomes", ())]
        assert house.alive()


HARMLESS: dict[str, Callable[[], Message]] = {
    "another batch": lambda: done(batch=99),
    "another attempt": lambda: done(attempt=2),
    "calls it does not have": lambda: done(hi=4),
    "calls backwards": lambda: done(lo=3, hi=0),
    "an unknown reason": lambda: returned(why="weather"),
    "a worker that is a word": lambda: returned(why="unstarted", report={"worker": "x"}),
    "a worker that is a list": lambda: returned(why="unstarted", report={"worker": [1]}),
    "a range of another batch": lambda: msg.Surrendered(5, [[99, 1, 0, 3], [1, 1, 0, 9]]),
    "nothing surrendered": lambda: msg.Surrendered(-1, []),
    "an unknown environment": lambda: msg.EnvironmentFailed("x", "y"),
    "a life of no actor": lambda: msg.EnvironmentFailed("x", "y", {}, "z", b"no outcome"),
    "an answer to no question": lambda: msg.Actors(3, [{"name": 3}]),
    "a strange stream": lambda: msg.Output("stdfoo", "f", -1, b"\xff\xfe"),
    "a message for others": lambda: msg.StealBatches(1),
    "calls that run for a negative time": lambda: msg.Status(1, 1, 0, 1, running=[(1, 0, "f", -1)]),
    "a strange status": lambda: msg.Status(-1.5, -3, -1, -1),
}


@pytest.mark.parametrize("name", HARMLESS)
async def test_what_makes_no_sense_but_harms_nobody_is_survived(name: str):
    async with a_house() as house:
        node = house.node()
        job, owner = house.job()
        house.submit(job)
        await until(lambda: any(isinstance(m, msg.AssignBatch) for m in node.heard))
        node.say(HARMLESS[name]())
        await turns(5)
        batch = [m for m in node.heard if isinstance(m, msg.AssignBatch)][-1]
        node.say(msg.RangeDone(batch.batch, batch.attempt, 0, 3, 10, payload=b"outcomes"))
        await until(lambda: owner.settled)
        assert not node.closed
        assert await house.ref.ask(desk.DescribeNodes())


@pytest.mark.parametrize(
    "report",
    [
        {"signal": "x"},
        {"signal": [1]},
        {"signal": {}},
        {"signal": 9999, "pid": []},
        {"exit_code": "x", "stderr_tail": [1], "oom": "yes"},
        {"worker": {}},
    ],
)
async def test_the_strangest_report_of_a_death_can_be_explained(report: Any):
    async with a_house() as house:
        node = house.node()
        job, owner = house.job(max_retries=0)
        house.submit(job, calls=1)
        await node.next(msg.AssignBatch)
        node.say(unchecked(returned(hi=1, guilty=0), report=report))
        await until(lambda: owner.failed)
        assert house.alive()


async def test_a_timeout_that_nobody_asked_for_can_be_explained():
    async with a_house() as house:
        node = house.node()
        job, owner = house.job()
        house.submit(job, calls=1)
        await node.next(msg.AssignBatch)
        node.say(returned(hi=1, why="timeout"))
        await until(lambda: owner.failed)
        assert house.alive()


async def test_a_node_that_is_gone_is_not_heard_any_more():
    async with a_house() as house:
        house.ref.tell(desk.NodeHeard("a:1#9", msg.Draining()))
        house.ref.tell(desk.NodeWritable("a:1#9"))
        house.ref.tell(desk.NodeDown("a:1#9", None))
        assert await house.ref.ask(desk.DescribeNodes())


# -- the end ---------------------------------------------------------------------------


async def test_nobody_waits_for_a_commander_that_has_ended():
    async with a_house() as house:
        node = house.node()
        _, owner = house.job()
        house.ref.stop()
        await until(lambda: node.closed)
        assert [type(error) for error in owner.broken] == [TaskCancelledError]


async def test_nobody_waits_for_a_commander_whose_ground_has_broken():
    async with a_house() as house:
        _, owner = house.job()
        error = GoliathError("the Lieutenant is no more")
        house.ref.tell(desk.BreakDown(error))
        await until(lambda: not house.alive())
        assert owner.broken == [error]


async def test_a_mind_that_breaks_tells_every_owner_with_its_journal():
    failures: list[BaseException] = []
    system = ActorSystem(on_failure=failures.append)
    house = House(system)
    _, owner = house.job()
    house.ref.tell(
        desk.OpenJob(JobId(1), owner, Function("d", "f", b""), Surroundings("e"), JobOptions())
    )
    assert not house.alive()
    (error,) = owner.broken
    assert isinstance(error, LocalError)
    assert "job 1 opened twice" in str(error)
    assert "JobOpened" in str(error)
    assert error.__cause__ is failures[0]
    await system.stop()
