"""Who gets which GPU: whole ones, shares of one, and all of them back."""

from __future__ import annotations

import math
from collections import Counter

import pytest
from hypothesis import given, strategies as st

from goliath.core import node_events as ne
from goliath.core.devices import WHOLE, Grant, calls_at_once, choose, is_share
from goliath.core.ids import Serial, WorkerId
from goliath.core.node import Node
from tests.core.books import ONE, S, arrive, batch, node_with, untimed
from tests.core.test_node import W, done, progress, release, run

V, U = WorkerId(2), WorkerId(3)

amounts = st.one_of(st.integers(1, 4), st.floats(0.0001, 0.9999))


@pytest.mark.parametrize(
    ("held", "amount", "chosen"),
    [
        ([], 1, {"7": WHOLE}),
        ([{"7": WHOLE}], 1, {"3": WHOLE}),
        ([{"3": WHOLE}], 2, {"7": WHOLE, "5": WHOLE}),
        ([{"3": 1}], 3, None),
        ([], 4, None),
        ([], 0.5, {"7": 5000}),
        ([{"3": 5000}], 0.5, {"3": 5000}),  # the fullest that has room
        ([{"3": 5001}, {"5": 4000}], 0.5, {"5": 5000}),
        ([{"7": 1}, {"3": WHOLE}, {"5": 2}], 1, None),
        ([{"7": 3333}, {"7": 3333}, {"3": WHOLE}], 1 / 3, {"7": 3333}),
        ([], 0, {}),
        ([], math.inf, None),
    ],
)
def test_whole_devices_are_the_first_free_ones_and_a_share_goes_to_the_fullest(
    held: list[Grant], amount: float, chosen: Grant | None
):
    assert choose(("7", "3", "5"), held, amount) == chosen


@given(
    count=st.integers(0, 4),
    steps=st.lists(st.one_of(amounts, st.integers(-50, -1)), max_size=40),
)
def test_nobody_shares_a_whole_device_and_shares_never_exceed_one(count: int, steps: list[float]):
    devices = [f"GPU-{number}" for number in range(count)]
    held: list[Grant] = []
    for step in steps:
        if step < 0:  # somebody gives back what he has
            if held:
                held.pop(int(step) % len(held))
            continue
        grant = choose(devices, held, step)
        used = Counter[str]()
        for other in held:
            used.update(other)
        if grant is None:
            room = [WHOLE - used[device] for device in devices]
            wanted = round(step * WHOLE)
            if step < 1:
                assert all(free < wanted for free in room), "it would have fitted"
            else:
                assert room.count(WHOLE) < step, "so many were free"
            continue
        used.update(grant)
        assert all(parts <= WHOLE for parts in used.values())
        assert sum(grant.values()) == pytest.approx(step * WHOLE, abs=1)
        held.append(grant)


@given(count=st.integers(0, 5), amount=st.one_of(st.integers(1, 4), st.floats(0.02, 0.9999)))
def test_as_many_calls_can_have_them_at_once_as_is_said(count: int, amount: float):
    devices = [str(number) for number in range(count)]
    held: list[Grant] = []
    while (grant := choose(devices, held, amount)) is not None:
        held.append(grant)
    assert len(held) == calls_at_once(count, amount)


@pytest.mark.parametrize("amount", [0, 0.25, 0.9999, 1, 2, 8.0])
def test_whole_devices_and_fractions_of_one_can_be_asked_for(amount: float):
    assert is_share(amount)


@pytest.mark.parametrize("amount", [-1, -0.5, 1.5, math.inf, math.nan])
def test_one_and_a_half_devices_cannot(amount: float):
    assert not is_share(amount)


# -- on a node ---------------------------------------------------------------------------


def gpus(*devices: str, slots: int = 4) -> Node:
    return node_with(slots, devices=devices)


def fork(worker: WorkerId, *devices: str) -> ne.Fork:
    return ne.Fork(worker, S, "env", 1.0, devices)


def test_calls_that_need_a_device_each_get_their_own():
    node = gpus("0", "1")
    assert node.handle(arrive(1, gpus=1), 0.0) == [fork(W, "0"), run(1, 0, 1)]
    assert node.handle(arrive(2, gpus=1), 0.0) == [
        fork(V, "1"),
        run(2, 0, 1, worker=V, serial=2),
    ]
    assert untimed(node.handle(arrive(3, gpus=1), 0.0)) == []
    node.check()


def test_a_worker_with_devices_leaves_after_its_piece_and_they_are_free_when_it_is_gone():
    node = gpus("0")
    node.handle(arrive(1, 5, gpus=1), 0.0)
    node.handle(ne.WorkerStarted(W), 0.0)
    node.handle(arrive(2, gpus=1), 0.0)
    assert untimed(node.handle(progress(0, 5), 1.0)) == [done(0, 5), release(), ne.Retire(W)]
    node.check()
    assert untimed(node.handle(ne.WorkerExited(W, Serial(0), -1), 1.1)) == [
        fork(V, "0"),
        run(2, 0, 1, worker=V, serial=2),
    ]


def test_a_call_with_devices_gets_a_fresh_process():
    node = gpus("0")
    node.handle(arrive(1), 0.0)
    node.handle(ne.WorkerStarted(W), 0.0)
    node.handle(progress(0, 1), 0.1)
    assert untimed(node.handle(arrive(2, gpus=0.5), 0.2)) == [
        fork(V, "0"),
        run(2, 0, 1, worker=V, serial=2),
    ]
    assert untimed(node.handle(arrive(3, gpus=0.5), 0.2)) == [
        fork(U, "0"),
        run(3, 0, 1, worker=U, serial=3),
    ]
    assert untimed(node.handle(arrive(4), 0.2)) == [run(4, 0, 1, serial=4)]
    node.check()


def test_nothing_that_needs_a_device_waits_in_the_socket_of_a_worker():
    node = gpus("0", "1", slots=1)
    node.handle(arrive(1), 0.0)
    node.handle(ne.WorkerStarted(W), 0.0)
    node.handle(progress(0, 1), 0.01)
    node.handle(arrive(2, 5), 0.01)
    assert untimed(node.handle(arrive(3, gpus=1), 0.01)) == []


def test_what_runs_is_not_split_for_a_slot_without_a_device():
    node = gpus("0")
    node.handle(arrive(1, 9, gpus=1), 0.0)
    node.handle(ne.WorkerStarted(W), 0.0)
    assert ne.SplitRange(W, Serial(1), 2) not in node.handle(ne.NodeTimerFired(), 1.0)


def test_what_runs_is_split_for_a_slot_with_a_device():
    node = gpus("0", "1")
    node.handle(arrive(1, 9, gpus=1), 0.0)
    node.handle(ne.WorkerStarted(W), 0.0)
    assert ne.SplitRange(W, Serial(1), 2) in node.handle(ne.NodeTimerFired(), 1.0)
    assert untimed(node.handle(ne.RestYielded(W, Serial(1), 5), 1.0)) == [
        fork(V, "1"),
        run(1, 5, 9, worker=V, serial=2),
    ]


@pytest.mark.parametrize("amount", [2, 5])
def test_more_devices_than_there_are_is_not_even_queued(amount: float):
    assert untimed(gpus("0").handle(arrive(1, gpus=amount), 0.0)) == [
        ne.ReportReturned(S, batch(1), ONE, 0, 1, "unstarted"),
        release(),
    ]


def test_who_waits_for_a_device_holds_up_only_those_who_want_one_too():
    node = gpus("0", "1")
    node.handle(arrive(1, gpus=1), 0.0)
    assert untimed(node.handle(arrive(2, gpus=2), 0.0)) == []
    assert untimed(node.handle(arrive(3, gpus=1), 0.0)) == [], "else the second would never run"
    assert untimed(node.handle(arrive(4), 0.0)) == [
        ne.Fork(V, S, "env", 1.0),
        run(4, 0, 1, worker=V, serial=2),
    ]
    node.check()
