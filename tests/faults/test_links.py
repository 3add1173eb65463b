"""Links that break: reset, half open, blackholed, partitioned, slow, spoiled, from elsewhere.

Real nodes and Commanders with a proxy between them; where the kernel lets us, also with a network
namespace (`test_namespaces`). None of it executes a call twice unless the session was lost, and
then not before the first execution is dead.
"""

from __future__ import annotations

import hashlib
import random
import time
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import psutil

from goliath import Commander, NodeDiedError
from goliath.testing.processes import living, until
from tests.faults import promises
from tests.faults.network import alive, network
from tests.faults.pace import PACE, REAL, at_this_pace
from tests.faults.promises import Journal
from tests.faults.running import STUCK, Running, stuck_there
from tests.lieutenants import Lieutenant
from tests.transport.proxy import Proxy
from tests.transport.spoiling import Spoiler

pytestmark = at_this_pace

RESUMED_S = 2.0


def all_once_and_true(outcomes: list[object], calls: int, journal: Journal) -> None:
    """Nothing was lost, doubled, made up or executed again."""
    assert [outcome for outcome in outcomes if isinstance(outcome, BaseException)] == []
    promises.every_call_has_one_outcome(outcomes, calls)
    promises.values_are_true(outcomes, journal)
    assert len(journal.executions()) == calls
    promises.executed_at_most(journal, 1)


# -- the session goes on -------------------------------------------------------------------


def test_a_connection_reset_with_ten_thousand_calls_in_flight_costs_two_seconds_and_no_call(
    lieutenant, journal: Journal
) -> None:
    own = lieutenant(2)
    calls, cuts = 10_000, 3
    with network(own) as net, Commander([net.address]) as commander:
        refs = [
            commander.submit(promises.execute, journal.path, call, 0.0002) for call in range(calls)
        ]
        (before,) = commander.nodes()
        for cut in range(1, cuts + 1):
            until(lambda cut=cut: done(refs) >= cut * 1000, 20, "some calls are done")
            assert done(refs) < calls - 1000, "too few calls are in flight"
            net.break_links(net.proxy.cut)
            net.reconnected(1 + cut, RESUMED_S)
            so_far = done(refs)
            until(lambda so_far=so_far: done(refs) > so_far, RESUMED_S, "it goes on")
        outcomes = [ref.result(30) for ref in refs]
        (after,) = commander.nodes()
        assert net.happened("cut") == cuts
    assert after.node_id == before.node_id, "the session was lost"
    all_once_and_true(outcomes, calls, journal)


def done(refs: list) -> int:
    return sum(ref.done() for ref in refs)


SILENCES = {
    "the Lieutenant hears nothing of a reset": Proxy.cut_near,
    "the Commander hears nothing of a reset": Proxy.cut_far,
    "blackhole": Proxy.blackhole,
    "nothing arrives at the Lieutenant": lambda proxy: proxy.blackhole(proxy.up),
    "nothing arrives at the Commander": lambda proxy: proxy.blackhole(proxy.down),
}


def test_half_open_links_and_blackholes_are_noticed_in_time_and_their_sessions_resume(
    lieutenant, journal: Journal
) -> None:
    calls = 200
    with ExitStack() as stack:
        nets = {fault: stack.enter_context(network(lieutenant(1))) for fault in SILENCES}
        commander = stack.enter_context(Commander([net.address for net in nets.values()]))
        until(lambda: len(alive(commander)) == len(nets), 30, "all nodes are there")
        running = Running(commander, journal, calls, 1.6 * PACE.noticed_s * len(nets) / calls)
        until(lambda: running.finished > 5 * len(nets), 20, "all have begun")
        for fault, net in nets.items():
            net.break_links(partial(SILENCES[fault], net.proxy))
        begun = time.monotonic()
        for net in nets.values():
            net.reconnected(2, begun + PACE.noticed_s - time.monotonic())
        outcomes = running.outcomes(8 * PACE.noticed_s + 20)
        for net in nets.values():
            assert net.happened("cut") + net.happened("blackhole") == 1
    all_once_and_true(outcomes, calls, journal)


def test_a_client_whose_address_changes_keeps_its_session(lieutenant, journal: Journal) -> None:
    own = lieutenant(2)
    calls = 400
    with network(own) as net, Commander([net.address]) as commander:
        running = Running(commander, journal, calls, 0.01)
        running.finishes(20, 10)
        assert callers_of(own) == {"127.0.0.1"}
        net.proxy.source = "127.0.0.3"
        net.break_links(net.proxy.cut)
        net.reconnected(2, RESUMED_S)
        running.finishes(20, RESUMED_S)
        assert callers_of(own) == {"127.0.0.3"}
        outcomes = running.outcomes(20)
    all_once_and_true(outcomes, calls, journal)


def callers_of(node: Lieutenant) -> set[str]:
    """The addresses from which there are connections to a node."""
    return {
        link.raddr.ip
        for link in psutil.Process(node.pid).net_connections("tcp")
        if link.status == psutil.CONN_ESTABLISHED
    }


# -- the session is lost ---------------------------------------------------------------------


PARTITIONS = {"up and down": (True, True), "up": (True, False), "down": (False, True)}


def test_the_calls_of_partitioned_nodes_move_when_their_work_is_dead(
    lieutenant, journal: Journal, tmp_path: Path, free_port: int
) -> None:
    calls = 60
    once = Journal(tmp_path, "once")
    with ExitStack() as stack:
        nodes = [lieutenant(2, env=STUCK) for _ in PARTITIONS]
        idle = {node: node.family() for node in nodes}
        nets = {node: stack.enter_context(network(node)) for node in nodes}
        everywhere = [*(net.address for net in nets.values()), ("127.0.0.1", free_port)]
        commander = stack.enter_context(Commander(everywhere))
        until(lambda: len(alive(commander)) == len(nodes), 30, "the nodes are there")
        only_once = Running(commander, once, len(nodes), 0.02, stuck_there, max_retries=0)
        until(lambda: len(once.unfinished()) == len(nodes), 30, "a call has begun on each")
        running = Running(commander, journal, calls, 0.02, stuck_there, max_retries=3)
        until(lambda: len(journal.unfinished()) == len(nodes), 30, "and one more")
        lieutenant(2, port=free_port)  # on which they can end
        workers = {node: node.family() - idle[node] for node in nodes}
        begun = time.monotonic()
        for net, (up, down) in zip(nets.values(), PARTITIONS.values(), strict=True):
            net.deafen(up=up, down=down)
        for net in nets.values():
            until(net.broken, begun + PACE.noticed_s - time.monotonic(), "noticed")
        for node, net in nets.items():
            until(
                lambda net=net: net.address not in alive(commander),
                begun + PACE.lost_s - time.monotonic(),
                "the session is lost",
            )
            assert time.monotonic() - begun > PACE.kept_s, "it was given up too early"
            # Not before: whoever has the calls now must be their only owner.
            assert workers[node]
            assert not living(workers[node]), "its workers are still there"
        outcomes, lost = running.outcomes(30), only_once.outcomes(1)
        for net in nets.values():
            assert net.happened("swallowed") > 0
            net.deafen()
        until(lambda: len(alive(commander)) == len(everywhere), 20, "all nodes are back")
    assert [outcome for outcome in outcomes if isinstance(outcome, BaseException)] == []
    promises.every_call_has_one_outcome(outcomes, calls)
    promises.values_are_true(outcomes, journal)
    promises.never_two_owners(journal)
    assert len(journal.unfinished()) == len(nodes)
    promises.only_these_were_repeated(journal, journal.unfinished())
    promises.executed_at_most(journal, 2)
    promises.every_call_has_one_outcome(lost, len(nodes))
    assert [(type(error), error.maybe_executed) for error in lost] == [(NodeDiedError, True)] * 3
    promises.executed_at_most(once, 1)


# -- slow links --------------------------------------------------------------------------------


def digest(payload: bytes) -> str:
    return hashlib.sha256(payload).hexdigest()


def test_400_ms_of_latency_each_way_make_it_slower_and_nothing_else(
    lieutenant, journal: Journal
) -> None:
    own = lieutenant(2)
    calls = 400
    with network(own) as net:
        net.slow_down(latency_s=0.4)
        with Commander([net.address]) as commander:
            began = time.monotonic()
            outcomes = Running(commander, journal, calls, 0.002).outcomes(15)
            assert time.monotonic() - began > 0.8, "the network was not slow"
            assert net.happened("connected") == 1
    all_once_and_true(outcomes, calls, journal)


def test_payload_on_a_slow_link_does_not_starve_the_heartbeat(lieutenant) -> None:
    """1 Mbit/s with real timers; faster, as the timers are, with those of the suite."""
    own = lieutenant(1, env={"GOLIATH_ARENA_BYTES": "0"})  # all of it goes over the link
    rate = 125_000 * PACE.speed
    payload = random.Random(1).randbytes(int(2.2 * PACE.silence_s * rate))
    with network(own) as net, Commander([net.address]) as commander:
        assert commander.run(digest, [(b"",)]) == [digest(b"")]
        net.slow_down(bytes_per_s=rate)
        began = time.monotonic()
        ref = commander.submit(digest, payload)
        assert ref.result(30 * PACE.silence_s) == digest(payload)
        assert time.monotonic() - began > 2 * PACE.silence_s, "the link was not slow"
        assert net.happened("connected") == 1, "the link was cut: its heartbeat was starved"


# -- spoiled frames ------------------------------------------------------------------------------


SPOILS = ("flip", "double", "swap", "replay", "lose")


def test_a_spoiled_frame_costs_nothing_or_a_link_and_is_never_accepted(
    lieutenant, journal: Journal
) -> None:
    # A link that was cut is there again after seconds, with real timers: the others are so much
    # quicker then that it has to be asked for longer.
    calls, most = (20_000 if PACE is REAL else 5000), 8
    spoilers = {
        fault: [Spoiler(fault, 0.1, most, random.Random(side)) for side in range(2)]
        for fault in SPOILS
    }
    with ExitStack() as stack:
        nets = {
            fault: stack.enter_context(network(lieutenant(1), up=up, down=down))
            for fault, (up, down) in spoilers.items()
        }
        commander = stack.enter_context(Commander([net.address for net in nets.values()]))
        until(lambda: len(alive(commander)) == len(nets), 30, "all nodes are there")
        before = {info.node_id for info in commander.nodes()}
        outcomes = Running(commander, journal, calls, 0.0005, batch_size=5).outcomes(40)
        after = {info.node_id for info in commander.nodes()}
        for fault, net in nets.items():
            assert min(spoiler.done for spoiler in spoilers[fault]) > 1, fault
            # A frame that comes twice is dropped; whatever is missing or damaged costs the link.
            cuts = net.happened("connected") - 1
            assert cuts == 0 if fault in ("double", "replay") else cuts > 1, fault
    assert after == before, "a session was lost"
    all_once_and_true(outcomes, calls, journal)
