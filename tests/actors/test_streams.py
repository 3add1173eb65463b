"""The items of a streaming call, as the Commander's process keeps them."""

from __future__ import annotations

import gc
from typing import Any

import pytest

from goliath.actors import streams
from goliath.actors.deputies import Deputies
from goliath.actors.endings import Broken, Made, Outcome, Stored
from goliath.actors.gathering import Gathering
from goliath.actors.object_ref import ObjectRef
from goliath.actors.ref_generator import WINDOW, EndOfItems, ObjectRefGenerator
from goliath.actors.streams import Stream
from goliath.actors.troupe import Troupe
from goliath.core.ids import NodeId
from goliath.errors import ObjectLostError, ProtocolError, TaskCancelledError
from goliath.transport import call_messages as call_msg, worker_messages as worker_msg
from goliath.transport.exceptions import load_error
from tests.actors.desks import FakePortal


class Sender:
    """Of the one call: notes that it is called off, and ends it."""

    def __init__(self) -> None:
        self.cancelled = 0

    def cancel(self, calls: Gathering, index: int, *, force: bool, recursive: bool) -> bool:
        self.cancelled += 1
        calls.settle(index, index + 1, Broken(TaskCancelledError("called off")))
        return False


class LaterPortal(FakePortal):
    """Does what is posted when it is told to: as a loop, after whatever posts."""

    def __init__(self) -> None:
        super().__init__()
        self.posted: list[Any] = []

    def post(self, function: Any, *args: Any) -> None:
        self.posted.append(lambda: function(*args))

    def run(self) -> None:
        while self.posted:
            self.posted.pop(0)()


class Streaming:
    """A stream, its call, and what it has said about items that were wanted."""

    def __init__(self) -> None:
        self.portal = LaterPortal()
        self.sender = Sender()
        task_id = streams.new_task_id()
        task, _, number = task_id.rpartition("-")
        self.calls = Gathering("f", task, int(number), None, self.sender)  # type: ignore[arg-type]
        self.stream = Stream("f", task_id, self.portal)
        self.stream.follow(ObjectRef(self.calls, 0))
        self.said: list[int] = []

    def add(self, *indices: int) -> None:
        """Items come; their values are their numbers."""
        for index in indices:
            self.stream.add(index, Stored(index), lambda index=index: self.said.append(index))

    def end(self, outcome: Outcome) -> None:
        """The call ends."""
        self.calls.settle(0, 1, outcome)


def test_items_that_were_made_before_are_dropped_when_the_call_runs_again():
    streaming = Streaming()
    streaming.add(0, 1)
    first = streaming.stream.want(0)
    streaming.stream.add(0, Stored("again"), None)
    streaming.stream.add(1, Stored("again"), None)
    streaming.add(2)
    assert [first.result(0), *(streaming.stream.want(i).result(0) for i in (1, 2))] == [0, 1, 2]


def test_the_worker_hears_once_when_an_item_is_wanted_and_at_once_if_it_was():
    streaming = Streaming()
    streaming.add(0, 1, 2)
    assert streaming.said == []
    streaming.stream.want(0)
    streaming.stream.want(1)
    assert streaming.said == [0, 1]
    streaming.add(0, 1, 2)  # it runs again, and asks again
    assert streaming.said == [0, 1, 0, 1]
    pending = [streaming.stream.want(index) for index in (2, 3)][1]
    assert streaming.said == [0, 1, 0, 1, 2]
    streaming.add(3)
    assert pending.result(0) == 3
    assert streaming.said[-1] == 3


def test_an_item_out_of_turn_or_too_far_ahead_is_nothing_that_an_honest_worker_sends():
    streaming = Streaming()
    with pytest.raises(ProtocolError, match=r"item 1 .* after 0 items"):
        streaming.add(1)
    streaming.add(*range(WINDOW))
    with pytest.raises(ProtocolError, match=f"item {WINDOW} "):
        streaming.add(WINDOW)
    streaming.stream.want(0)
    streaming.add(WINDOW)


def test_a_call_that_says_it_made_more_items_than_came_has_lost_some():
    streaming = Streaming()
    streaming.add(0)
    generator = ObjectRefGenerator[Any](streaming.stream)
    streaming.end(Made(3))
    assert next(generator).result(0) == 0
    with pytest.raises(ObjectLostError, match="made 3 items, and 1 have come"):
        next(generator).result(0)
    assert next(generator, None) is None


@pytest.mark.parametrize("count", [1, 2])
def test_a_call_that_made_fewer_items_when_it_ran_again_ends_behind_those_that_came(count: int):
    streaming = Streaming()
    streaming.add(0, 1)
    streaming.end(Made(count))
    generator = ObjectRefGenerator[Any](streaming.stream)
    assert [ref.result(0) for ref in generator] == [0, 1]


def test_what_was_wanted_ends_with_the_call_and_items_that_come_later_are_dropped():
    streaming = Streaming()
    pending = [streaming.stream.want(index) for index in (0, 1)]
    streaming.end(Broken(KeyError("over")))
    with pytest.raises(KeyError, match="over"):
        pending[0].result(0)
    with pytest.raises(EndOfItems):
        pending[1].result(0)
    streaming.add(0)
    assert streaming.said == []
    with pytest.raises(EndOfItems):
        streaming.stream.want(7).result(0)


def test_an_item_that_nobody_kept_is_lost_for_who_asks_again():
    streaming = Streaming()
    streaming.add(0)
    assert streaming.stream.want(0).result(0) == 0
    with pytest.raises(ObjectLostError, match=r"item-0 was freed"):
        streaming.stream.want(0).result(0)


def test_a_stream_that_is_dropped_calls_its_call_off_and_frees_its_items():
    streaming = Streaming()
    task_id = streaming.stream.call.task_id
    assert streams.find(task_id) is streaming.stream
    pending = streaming.stream.want(0)
    del streaming.stream
    gc.collect()
    assert streaming.sender.cancelled == 0, "a finalizer may run anywhere, under any lock"
    streaming.portal.run()
    assert streaming.sender.cancelled == 1
    assert streams.find(task_id) is None
    with pytest.raises(TaskCancelledError, match="not wanted any more"):
        pending.result(0)


def test_a_stream_whose_call_has_ended_calls_nothing_off():
    streaming = Streaming()
    streaming.end(Made(0))
    del streaming.stream
    gc.collect()
    streaming.portal.run()
    assert streaming.sender.cancelled == 0


class FakeOffice:
    """Notes what a node is told."""

    def __init__(self) -> None:
        self.told: list[worker_msg.RefEnded] = []

    def tell_node(self, node: NodeId, message: worker_msg.RefEnded) -> None:
        self.told.append(message)

    def later(self, seconds: float, function: Any) -> None:
        """Nothing is looked at."""


def test_a_worker_whose_items_nobody_can_take_is_told_so_instead_of_waiting_for_ever():
    office = FakeOffice()
    deputies = Deputies(office, FakePortal(), Troupe())  # type: ignore[arg-type]
    for index, awaited in enumerate([False, True]):
        deputies.hear(NodeId("n"), call_msg.ItemMade(3, "stream-x-1", index, awaited, [], b""))
    (told,) = office.told
    assert (told.worker, told.ref, told.failed) == (3, "stream-x-1.wanted-1", True)
    assert isinstance(load_error(told.payload), TaskCancelledError)


def test_a_worker_whose_call_was_called_off_is_told_so_though_somebody_has_the_stream():
    office, streaming = FakeOffice(), Streaming()
    deputies = Deputies(office, FakePortal(), Troupe())  # type: ignore[arg-type]
    task_id = streaming.stream.call.task_id
    deputies.hear(NodeId("n"), call_msg.ItemMade(3, task_id, 0, True, [], b""))
    assert office.told == []
    streaming.end(Broken(TaskCancelledError("called off")))
    deputies.hear(NodeId("n"), call_msg.ItemMade(3, task_id, 1, True, [], b""))
    (told,) = office.told
    assert (told.ref, told.failed) == (f"{task_id}.wanted-1", True)
