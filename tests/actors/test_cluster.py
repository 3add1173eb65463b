"""What a Commander runs on: started once, closed once, from any thread, whatever breaks."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from goliath.actors import cluster as module, desk, standing
from goliath.actors.bell import ThreadBell
from goliath.actors.cluster import Cluster
from goliath.actors.driving import drive, rows_of
from goliath.actors.job import Job
from goliath.actors.link import Place
from goliath.actors.options import make_plan
from goliath.actors.printing import Printer
from goliath.actors.submission import Submission
from goliath.actors.surroundings import Surroundings
from goliath.config import TransportConfig
from goliath.core.batch import JobOptions
from goliath.core.ids import NodeId
from goliath.errors import (
    AuthenticationError,
    ConnectionError as NoConnectionError,
    GoliathError,
    LocalError,
    TaskCancelledError,
)
from goliath.transport import memory, messages as msg, worker_messages as worker_msg
from goliath.transport.functions import dump_function, load_function
from goliath.transport.message import Message
from goliath.transport.outcomes import encode_outcomes
from tests.actors.desks import calls_of


class FakeNode:
    """A Lieutenant that computes at once, or never."""

    def __init__(self, channel: memory.MemoryChannel, *, lazy: bool) -> None:
        self.functions: dict[str, Any] = {}
        self.channel = channel
        self.lazy = lazy
        channel.attach(self)

    def on_message(self, message: Message) -> None:
        match message:
            case worker_msg.DefineFunction(digest, _, payload):
                self.functions[digest] = load_function(payload)
            case msg.AssignBatch() if not self.lazy:
                calls = calls_of(message)[message.lo : message.hi]  # type: ignore[arg-type]
                call = self.functions[message.function].call
                values = [call(*args, **kwargs) for args, kwargs in calls]
                self.channel.send(
                    msg.RangeDone(
                        message.batch,
                        message.attempt,
                        message.lo,
                        message.hi,
                        10,
                        payload=encode_outcomes(values, {}, {}),
                    )
                )
            case _:
                pass

    def on_closed(self, error: Exception | None) -> None: ...

    def on_writable(self) -> None: ...


class FakeDialer:
    """Reaches a fake node, or an error."""

    def __init__(
        self, on_session: Any, on_trouble: Any, what: Any, nodes: list[FakeNode], lazy: bool
    ) -> None:
        self._on_session, self._on_trouble, self._what = on_session, on_trouble, what
        self._closed = asyncio.Event()
        self._nodes, self._lazy = nodes, lazy

    async def run(self) -> None:
        if isinstance(self._what, dict):
            ours, theirs = memory.pair(TransportConfig(), through_codec=True)
            self._nodes.append(FakeNode(theirs, lazy=self._lazy))
            self._on_session(ours, "server", "3.11", self._what, 0.001)
        elif isinstance(self._what, GoliathError):
            self._on_trouble(self._what)
        elif self._what is not None:
            raise self._what
        await self._closed.wait()

    async def close(self) -> None:
        self._closed.set()


class Net:
    """What is at which address, and a cluster that knows some of them."""

    def __init__(self) -> None:
        self.clusters: list[Cluster] = []
        self.nodes: list[FakeNode] = []

    def cluster(self, lazy: bool = False, timeout_s: float = 5.0, **at: Any) -> Cluster:
        """A cluster; ``at`` says what each address leads to: limits, an error, or nothing."""

        def dial(place: Place, on_session: Any, on_trouble: Any) -> FakeDialer:
            return FakeDialer(on_session, on_trouble, at[place.address], self.nodes, lazy)

        cluster = Cluster(
            list(at),
            dial,
            workers=1,
            connect_timeout_s=timeout_s,
            printer=Printer("off"),
            name="test-cluster",
        )
        self.clusters.append(cluster)
        return cluster


@pytest.fixture
def net() -> Iterator[Net]:
    net = Net()
    yield net
    for cluster in net.clusters:
        cluster.close()


GOOD = {"slots": 2, "resources": {"gpu": 1.0}}


def double(x: int) -> int:
    return 2 * x


def run(cluster: Cluster, args: Any) -> list[int]:
    portal, commander = cluster.start()
    bell = ThreadBell()
    job = Job(make_plan(double, args, ()), portal, commander, bell)
    return [value for _, values in drive(job, rows_of(args), bell) for value in values]


def in_thread(function: Callable[[], Any]) -> tuple[threading.Thread, list[Any]]:
    outcome: list[Any] = []

    def body() -> None:
        try:
            outcome.append(function())
        except BaseException as exc:  # noqa: BLE001 - looked at by the test
            outcome.append(exc)

    thread = threading.Thread(target=body)
    thread.start()
    return thread, outcome


def until(condition: Callable[[], Any]) -> None:
    end = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.001)


def causes(error: BaseException | None) -> list[BaseException]:
    chain = []
    while error is not None:
        chain.append(error)
        error = error.__cause__
    return chain


# -- starting --------------------------------------------------------------------------


def test_it_starts_with_the_first_use_and_runs(net: Net):
    cluster = net.cluster(a=GOOD)
    assert cluster.running() is None
    assert run(cluster, [{"x": n} for n in range(100)]) == list(range(0, 200, 2))
    assert cluster.running() == cluster.start()
    (info,) = cluster.nodes()
    assert (info.address, info.workers, info.resources) == ("a", 2, {"gpu": 1.0})


def test_many_threads_may_start_it_at_once(net: Net):
    cluster = net.cluster(a=GOOD)
    threads = [in_thread(lambda: run(cluster, [{"x": 1}])) for _ in range(8)]
    for thread, _ in threads:
        thread.join()
    assert [outcome for _, outcome in threads] == [[[2]]] * 8
    assert len(net.nodes) == 1


def test_it_goes_on_without_those_that_are_down_and_says_so_once(
    net: Net, capfd: pytest.CaptureFixture[str]
):
    cluster = net.cluster(a=NoConnectionError("nobody at a"), b=GOOD)
    assert run(cluster, [{"x": 1}]) == [2]
    until(lambda: len(cluster.nodes()) == 2)
    cluster.start()
    assert capfd.readouterr().err.count("going on without a for now: nobody at a") == 1


def test_who_is_waited_for_and_who_is_there_again_is_said(
    net: Net, capfd: pytest.CaptureFixture[str]
):
    cluster = net.cluster(a=GOOD)
    assert run(cluster, [{"x": 1}]) == [2]
    channel = net.nodes[0].channel
    for news in [
        desk.NodeDown(NodeId("a#1"), GoliathError("it has died")),
        desk.NodeTrouble("a", NoConnectionError("nobody at a")),
        desk.NodeTrouble("a", NoConnectionError("nobody at a")),
        desk.NodeUp("a", channel, "server", "3.11", 2, {}),
        desk.NodeUp("b", channel, "server", "3.11", 2, {}),  # has joined
        desk.NodeDown(NodeId("a#2"), GoliathError("it has died")),
        desk.NodeTrouble("a", NoConnectionError("nobody at a")),
    ]:
        cluster._on_nodes(news)
    assert capfd.readouterr().err.splitlines() == [
        "goliath: lost a (it has died); its calls wait for a node to be there",
        "goliath: there is no node left; waiting for a: nobody at a",
        "goliath: going on with a, which is there now",
        "goliath: lost a (it has died); its calls move on",
        "goliath: going on without a for now: nobody at a",
    ]


def test_nobody_reached_is_a_connection_error_that_names_them_all(net: Net):
    cluster = net.cluster(timeout_s=0.05, a=None, b=NoConnectionError("nobody at b"))
    with pytest.raises(NoConnectionError, match="a: no answer; b: nobody at b"):
        cluster.start()


def test_a_refused_token_is_said_at_once(net: Net):
    cluster = net.cluster(timeout_s=60, a=AuthenticationError("refused"))
    begin = time.monotonic()
    with pytest.raises(AuthenticationError, match="refused"):
        cluster.start()
    assert time.monotonic() - begin < 5


@pytest.mark.parametrize(
    "limits",
    [
        {"slots": "many"},
        {"slots": None},
        {"slots": 1, "resources": 5},
        {"slots": 1, "resources": {"gpu": "two"}},
        {"slots": 10**18},
        {"slots": -3},
        {},
    ],
)
def test_what_a_node_says_it_offers_is_not_believed_blindly(net: Net, limits: Any):
    cluster = net.cluster(a=limits, b=GOOD)
    assert run(cluster, [{"x": 1}]) == [2]
    assert all(0 <= info.workers <= module.SLOTS_MAX for info in cluster.nodes())


def test_a_start_that_fails_leaves_nothing_and_may_be_tried_again(
    net: Net, monkeypatch: pytest.MonkeyPatch
):
    cluster = net.cluster(a=GOOD)
    monkeypatch.setenv("GOLIATH_WINDOW_BYTES", "much")
    with pytest.raises(ValueError, match="GOLIATH_WINDOW_BYTES='much' is not a number"):
        cluster.start()
    assert "test-cluster" not in [thread.name for thread in threading.enumerate()]
    monkeypatch.delenv("GOLIATH_WINDOW_BYTES")
    assert run(cluster, [{"x": 1}]) == [2]


# -- the end ---------------------------------------------------------------------------


def test_a_closed_one_says_so(net: Net):
    cluster = net.cluster(a=GOOD)
    cluster.start()
    cluster.close()
    cluster.close()
    assert cluster.running() is None
    with pytest.raises(GoliathError, match="test-cluster is closed; make a new Commander"):
        cluster.start()


def test_one_that_was_never_started_can_be_closed(net: Net):
    cluster = net.cluster(a=GOOD)
    cluster.close()
    with pytest.raises(GoliathError, match="is closed"):
        cluster.start()


def test_closing_ends_the_wait_for_a_first_node(net: Net):
    cluster = net.cluster(timeout_s=60, a=None)
    thread, outcome = in_thread(cluster.start)
    until(lambda: cluster._portal is not None)
    cluster.close()
    thread.join(5)
    assert isinstance(outcome[0], GoliathError)
    assert "closed" in str(outcome[0])


def test_closing_cancels_what_runs_in_other_threads(net: Net):
    cluster = net.cluster(lazy=True, a=GOOD)
    cluster.start()
    threads = [in_thread(lambda: run(cluster, [{"x": 1}])) for _ in range(4)]
    until(lambda: net.nodes and len(net.nodes[0].functions))
    cluster.close()
    for thread, outcome in threads:
        thread.join(5)
        assert isinstance(outcome[0], GoliathError), outcome


def test_whoever_runs_in_the_moment_of_closing_never_waits_for_ever(net: Net):
    for _ in range(30):
        cluster = net.cluster(a=GOOD)
        cluster.start()
        threads = [in_thread(lambda: run(cluster, [{"x": 1}])) for _ in range(3)]  # noqa: B023
        cluster.close()
        for thread, outcome in threads:
            thread.join(5)
            assert outcome, "it waits for ever"
            assert outcome[0] == [2] or isinstance(outcome[0], GoliathError)


def test_it_cannot_be_closed_from_within(net: Net):
    cluster = net.cluster(a=GOOD)
    portal, _ = cluster.start()
    refused: list[Any] = []

    def close() -> None:
        try:
            cluster.close()
        except RuntimeError as exc:
            refused.append(exc)

    portal.post(close)
    until(lambda: refused)
    assert run(cluster, [{"x": 1}]) == [2]


def test_a_break_down_ends_every_wait_and_every_later_run(
    net: Net, capfd: pytest.CaptureFixture[str]
):
    cluster = net.cluster(lazy=True, a=GOOD)
    portal, _ = cluster.start()
    thread, outcome = in_thread(lambda: run(cluster, [{"x": 1}]))
    until(lambda: net.nodes[0].functions)
    portal.post(cluster._on_failure, RuntimeError("the Lieutenant is no more"))
    thread.join(5)
    assert "the Lieutenant is no more" in str(outcome[0])
    with pytest.raises(GoliathError, match="has broken down; make a new Commander"):
        run(cluster, [{"x": 1}])
    assert "has broken down" in capfd.readouterr().err


def test_a_link_that_crashes_again_and_again_is_a_break_down(
    net: Net, capfd: pytest.CaptureFixture[str]
):
    cluster = net.cluster(timeout_s=60, a=ZeroDivisionError("a bug"))
    with pytest.raises(GoliathError, match="has broken down"):
        cluster.start()
    assert "link a ended more than 5 times" in capfd.readouterr().err


def test_the_bug_that_broke_it_down_is_told_with_its_traceback(
    net: Net, capfd: pytest.CaptureFixture[str]
):
    bug = ZeroDivisionError("a bug")
    cluster = net.cluster(timeout_s=60, a=bug)
    with pytest.raises(GoliathError, match="ZeroDivisionError: a bug") as caught:
        cluster.start()
    assert "raise self._what" in str(caught.value)
    assert bug in causes(caught.value)
    assert "raise self._what" in capfd.readouterr().err


def test_a_commander_that_crashes_tells_its_callers_why_with_traceback_and_journal(
    net: Net, capfd: pytest.CaptureFixture[str]
):
    cluster = net.cluster(lazy=True, a=GOOD)
    portal, commander = cluster.start()
    thread, outcome = in_thread(lambda: run(cluster, [{"x": 1}]))
    until(lambda: net.nodes[0].functions)
    portal.post(commander.tell, "nonsense")
    thread.join(5)
    (error,) = outcome
    assert isinstance(error, LocalError)
    until(lambda: cluster._failure)
    for told in (str(error), capfd.readouterr().err):
        assert "in receive\n" in told
        assert "CommanderActor was told 'nonsense', which it does not know" in told
        assert "JobOpened(job=" in told
    assert any(isinstance(cause, TypeError) for cause in causes(error))
    with pytest.raises(GoliathError, match="which it does not know"):
        run(cluster, [{"x": 1}])


# -- forgotten -------------------------------------------------------------------------


def test_one_that_nobody_can_use_any_more_is_closed_when_it_is_idle(net: Net):
    cluster = net.cluster(lazy=True, a=GOOD)
    portal, commander = cluster.start()
    submission = Submission(
        dump_function(double), Surroundings("e"), JobOptions(), portal, commander
    )
    ref = submission.submit((1,), {})
    assert ref is not None
    submission.close()
    cluster.close_when_idle()
    until(lambda: net.nodes[0].functions)
    assert not cluster._closed, "a call is still on its way"
    portal.post(answer, net.nodes[0])
    assert ref.result(5) == 2
    until(lambda: portal.closed)


def answer(node: FakeNode) -> None:
    node.channel.send(msg.RangeDone(1, 1, 0, 1, 10, payload=encode_outcomes([2], {}, {})))


def test_a_commander_that_was_dropped_is_closed_behind_its_last_call(
    monkeypatch: pytest.MonkeyPatch,
):
    import goliath.commander as door

    net = Net()
    monkeypatch.setattr(
        door,
        "_dial",
        lambda addresses, credentials, tls, own, place, on_session, on_trouble: FakeDialer(
            on_session, on_trouble, GOOD, net.nodes, False
        ),
    )
    commander = door.Commander(["127.0.0.1:1"])
    ref = commander.submit(double, 4)
    dropped, cluster = weakref.ref(commander), weakref.ref(commander._cluster)
    values = commander.imap(double, ({"x": n} for n in range(3)))
    del commander
    gc.collect()
    assert dropped() is not None, "an iterator keeps it"
    assert list(values) == [0, 2, 4]
    del values
    gc.collect()
    assert dropped() is None
    assert ref.result(5) == 8
    until(lambda: cluster() is None or cluster()._closed)
    until(lambda: not [t for t in threading.enumerate() if t.name.startswith("goliath-comm")])


def test_a_forgotten_one_that_was_never_started_or_is_closed_harms_nobody(net: Net):
    cluster = net.cluster(a=GOOD)
    cluster.close_when_idle()
    cluster.start()
    cluster.close()
    cluster.close_when_idle()


def test_what_is_open_at_the_exit_of_the_interpreter_is_closed(net: Net):
    cluster = net.cluster(lazy=True, a=GOOD)
    cluster.start()
    thread, outcome = in_thread(lambda: run(cluster, [{"x": 1}]))
    until(lambda: net.nodes[0].functions)
    module._close_all()
    thread.join(5)
    assert isinstance(outcome[0], TaskCancelledError)


# -- the door --------------------------------------------------------------------------


@pytest.fixture
def commander(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    import goliath.commander as door

    nodes: list[FakeNode] = []
    monkeypatch.setattr(
        door,
        "_dial",
        lambda addresses, credentials, tls, own, place, on_session, on_trouble: FakeDialer(
            on_session, on_trouble, GOOD, nodes, False
        ),
    )
    with door.Commander(["127.0.0.1:1"], output="off") as commander:
        yield commander


def test_cancelling_before_anything_has_begun_begins_nothing(commander: Any):
    commander.cancel()
    assert commander._cluster.running() is None


def test_calls_may_be_submitted_behind_a_cancel(commander: Any):
    assert commander.submit(double, 1).result(5) == 2
    commander.cancel()
    assert commander.submit(double, 2).result(5) == 4


def test_a_function_that_was_evicted_is_opened_again(
    commander: Any, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(standing, "KEPT", 2)
    functions = [eval(f"lambda x: x + {n}") for n in range(5)]
    for _ in range(2):
        for n, function in enumerate(functions):
            assert commander.submit(function, 1).result(5) == 1 + n
    assert len(commander._standing._kept) == 2


def test_many_threads_may_submit_a_new_function_at_once(commander: Any):
    threads = [in_thread(lambda: commander.submit(double, 1).result(5)) for _ in range(8)]
    for thread, _ in threads:
        thread.join()
    assert [outcome for _, outcome in threads] == [[2]] * 8
    assert len(commander._standing._kept) == 1


class Unhashable:
    __hash__ = None  # type: ignore[assignment]

    def __call__(self, x: int) -> int:
        return -x


def test_a_callable_that_cannot_be_hashed_can_be_submitted(commander: Any):
    assert commander.submit(Unhashable(), 1).result(5) == -1
    assert commander._standing._kept == {}


def test_a_callback_may_not_wait_for_the_thread_it_is_called_in(commander: Any):
    caught: list[Any] = []

    def callback(_: Any) -> None:
        for wait in (commander.nodes, lambda: commander.run(double, [{"x": 1}]), commander.close):
            try:
                wait()
            except RuntimeError as exc:
                caught.append(exc)

    portal, _ = commander._cluster.start()
    portal.post(callback, None)
    until(lambda: len(caught) == 3)
    assert "in its own thread" in str(caught[0])


def test_an_input_that_is_not_iterable_leaves_no_job_behind(commander: Any):
    with pytest.raises(TypeError):
        commander.run(double, 5)
    _, ref = commander._cluster.start()
    assert ref._cell._actor._jobs == {}


@pytest.mark.parametrize("deadline", [-1, "soon"])
def test_a_deadline_that_is_none_is_refused(commander: Any, deadline: Any):
    for start in (commander.run, commander.imap):
        with pytest.raises((TypeError, ValueError), match="deadline="):
            start(double, [{"x": 1}], deadline=deadline)


def test_in_a_worker_runs_are_made_in_place(commander: Any, monkeypatch: pytest.MonkeyPatch):
    import goliath.commander as door

    monkeypatch.setattr(door, "in_worker", lambda: True)
    told: list[Any] = []
    assert commander.run(double, [{"x": 1}], on_result=lambda *what: told.append(what)) == [2]
    assert told == [(0, 2)]
    assert list(commander.imap(double, [(1,), (2,)])) == [2, 4]
    assert list(commander.map(double, [3])) == [6]
    assert asyncio.run(commander.arun(double, [(5,)])) == [10]
    commander.cancel()
    assert commander._cluster.running() is None
