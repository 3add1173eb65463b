"""Big results that stay on their node: held, fetched once, brought to safety, lost, and shipped."""

from __future__ import annotations

import gc
import pickle
import threading
from typing import Any

import pytest

from goliath.actors.cargo import packed, unpacked
from goliath.actors.deposits import Deposit, Deposits, bytes_to_send, nearness
from goliath.actors.desk import Parcel
from goliath.actors.endings import Kept, NoValueError, packed as packed_outcome
from goliath.actors.gathering import Gathering
from goliath.actors.object_ref import ObjectRef
from goliath.actors.outcomes import Where
from goliath.actors.shelf import Shelf
from goliath.actors.shipping import Shipping
from goliath.core.commands import Assign
from goliath.core.ids import Attempt, BatchId, JobId, NodeId
from goliath.errors import GetTimeoutError, ObjectLostError, SerializationError
from goliath.transport import messages as msg
from goliath.transport.keepsakes import Keepsake
from goliath.transport.message import Message
from goliath.transport.payload import Bundle, Payload, parts_of
from tests.actors.desks import FakePortal

A, B = NodeId("a#1"), NodeId("b#1")


class OtherThread(FakePortal):
    """The loop's thread is another one than the test's."""

    def inside(self) -> bool:
        return False


class Node:
    """The Commander's books of one node, and what the node was told."""

    def __init__(self, name: NodeId = A, portal: FakePortal | None = None) -> None:
        self.told: list[Message] = []
        self.portal = portal or OtherThread()
        self.deposits = Deposits(name, self.told.append, self.portal)

    def add(self, key: int = 1, value: Any = "value") -> Deposit:
        return self.deposits.add(key, len(pickle.dumps(value)), ())

    def send(self, key: int = 1, value: Any = "value") -> bool:
        return self.deposits.arrived(msg.DepositSent(key, pickle.dumps(value)))


def ref_of(deposit: Deposit) -> ObjectRef[Any]:
    return ObjectRef(Gathering("foo", "7", 3), 0, Kept(deposit, Where("foo", "a#1")))


def test_a_deposit_that_nobody_holds_is_forgotten_by_its_node():
    node = Node()
    deposit, other = node.add(1), node.add(2)
    del deposit
    assert node.told == [msg.ForgetDeposits([1])]
    assert other.is_on(A)


def test_what_is_dropped_in_a_burst_is_told_at_once():
    node = Node()
    posted: list[Any] = []
    node.portal.post = lambda function: posted.append(function)  # type: ignore[method-assign, assignment]
    deposits = [node.add(key) for key in range(1, 5)]
    deposits.clear()
    (tell,) = posted
    tell()
    assert [sorted(said.keys) for said in node.told] == [[1, 2, 3, 4]]  # type: ignore[attr-defined]


def test_a_value_is_asked_for_once_however_many_wait_and_is_held_from_then_on():
    node = Node()
    deposit = node.add()
    heard: list[str] = []
    deposit.when_known(lambda: heard.append("one"))
    deposit.when_known(lambda: heard.append("two"))
    assert node.told == [msg.FetchDeposit(1)]
    assert not heard
    assert node.send()
    deposit.when_known(lambda: heard.append("three"))
    assert heard == ["one", "two", "three"]
    assert pickle.loads(deposit.payload()) == "value"
    assert deposit.is_on(A), "calls there need not be sent it"
    assert len(node.told) == 1


def test_a_value_that_is_on_its_way_is_held_even_if_its_ref_is_dropped():
    node = Node()
    deposit = node.add()
    deposit.when_known(lambda: None)
    del deposit
    gc.collect()
    assert node.send()
    assert node.told == [msg.FetchDeposit(1), msg.ForgetDeposits([1])]


@pytest.mark.parametrize(("key", "value"), [(2, "value"), (1, "longer than was said")])
def test_a_value_that_was_not_asked_for_or_is_another_one_is_no_answer(key: int, value: str):
    node = Node()
    deposit = node.add()
    deposit.when_known(lambda: None)
    assert not node.send(key, value)
    assert not deposit.known


def test_who_waits_in_a_thread_gets_the_value_when_it_comes_and_loses_patience_before():
    node = Node()
    ref = ref_of(node.add())
    with pytest.raises(GetTimeoutError, match="has ended, and its result had not come from a#1"):
        ref.result(timeout=0)
    waiters = ref.ending()[0].deposit._waiters  # type: ignore[attr-defined]
    assert waiters == [], "nobody waits any more"
    sender = threading.Timer(0.01, node.send)
    sender.start()
    assert ref.result(timeout=5) == "value"
    sender.join()
    assert ref.result() is ref.result()


def test_the_loops_own_thread_cannot_wait_for_a_value_and_is_told_so():
    ref = ref_of(Node(portal=FakePortal()).add())
    with pytest.raises(RuntimeError, match="hand the work to a thread of yours"):
        ref.result()


def test_a_lost_node_takes_along_what_was_not_fetched_and_the_error_says_of_which_call():
    node = Node()
    kept, fetched, wanted = (node.add(key) for key in (1, 2, 3))
    for deposit in (fetched, wanted):
        deposit.when_known(lambda: None)
    node.send(2)
    told = len(node.told)
    node.deposits.lose("the node was lost")
    assert ref_of(fetched).result() == "value"
    for deposit in (kept, wanted):
        ref = ref_of(deposit)
        with pytest.raises(ObjectLostError, match=r"foo, call 3: the result .* on a#1") as lost:
            ref.result()
        assert "the node was lost. Make the call again" in str(lost.value)
        with pytest.raises(NoValueError):
            ref.ending()[0].frozen(3)
        assert packed_outcome(*ref.ending())[0], "it failed"
    late = node.add(4)
    late.when_known(lambda: None)
    assert late.lost
    del kept, fetched, wanted, deposit, ref, late
    gc.collect()
    assert len(node.told) == told, "there is nobody to be told"


def test_a_portal_that_is_closed_is_the_end_of_what_was_not_fetched():
    node = Node()
    ref = ref_of(node.add())
    node.portal.closed = True
    with pytest.raises(ObjectLostError, match="the portal is closed"):
        ref.result()


def test_all_that_a_draining_node_keeps_is_fetched_and_then_forgotten_there():
    node = Node()
    known, unknown, dropped = (node.add(key) for key in (1, 2, 3))
    known.when_known(lambda: None)
    node.send(1)
    del dropped
    node.told.clear()
    node.deposits.drain()
    assert node.told == [msg.ForgetDeposits([1]), msg.FetchDeposit(2)]
    late = node.add(4)
    node.send(2)
    node.send(4)
    assert node.told[2:] == [
        msg.FetchDeposit(4),
        msg.ForgetDeposits([2]),
        msg.ForgetDeposits([4]),
    ]
    assert not any(deposit.is_on(A) for deposit in (known, unknown, late))
    node.deposits.lose("it has left")
    assert [pickle.loads(d.payload()) for d in (known, unknown, late)] == ["value"] * 3
    del known, unknown, late
    assert len(node.told) == 5, "each is forgotten once"


def test_a_value_that_cannot_be_rebuilt_here_says_which_call_it_is_of():
    node = Node()
    deposit = node.deposits.add_here(b"no pickle", ())
    with pytest.raises(SerializationError, match="foo, call 3: its result cannot be rebuilt"):
        ref_of(deposit).result()
    del deposit
    assert node.told == [], "the node never had it"


def test_a_call_is_nearest_to_whoever_keeps_most_of_what_it_takes():
    here, there = Node(A), Node(B)
    deposits = [here.add(1), here.add(2), there.add(1), there.deposits.add_here(b"x")]
    size = deposits[0].size
    nodes = [here.deposits, there.deposits]
    assert nearness(deposits, nodes) == {A: 2 * size, B: size}
    keepsake = Keepsake(b"a keepsake")
    assert bytes_to_send([*deposits, keepsake], nodes) == sum(d.size for d in deposits) + 10
    there.deposits.entrust(keepsake, keepsake.payload())
    assert nearness([*deposits, keepsake], nodes) == {A: 2 * size, B: size + 10}
    assert bytes_to_send([keepsake], nodes) == 0


def test_what_a_node_keeps_is_named_to_it_and_the_rest_goes_along():
    here, there = Node(A), Node(B)
    kept, moved, lost = here.add(7), there.add(8), there.add(9)
    moved.when_known(lambda: None)
    there.send(8)
    there.deposits.lose("the node was lost")
    keepsake = Keepsake(b"a keepsake")
    here.deposits.entrust(keepsake, keepsake.payload())
    entries, payload = here.deposits.gathered([kept, moved, lost, keepsake], b"calls")
    assert entries == [[7, kept.size], [0, moved.size], [-1, 0], [-2, 10]]
    assert parts_of(payload) == (b"calls", (pickle.dumps("value"),))
    assert here.deposits.gathered([], b"calls") == ([], b"calls")


def test_a_keepsake_is_given_to_a_node_once_and_forgotten_when_it_is_gone():
    node = Node()
    one, other = Keepsake(b"one"), Keepsake(b"other")
    for keepsake in (one, other):
        assert not node.deposits.has(keepsake)
        node.deposits.entrust(keepsake, keepsake.payload())
        assert node.deposits.has(keepsake)
    assert node.told == [msg.KeepPiece(-2, b"one"), msg.KeepPiece(-3, b"other")]
    deposit = node.add(1)
    node.told.clear()
    del one, deposit, keepsake
    assert node.told == [msg.ForgetPieces([-2]), msg.ForgetDeposits([1])]
    node.deposits.lose("the session was ended")
    del other
    assert len(node.told) == 2, "a node that is gone is told nothing"


def test_a_keepsake_that_is_too_big_for_a_message_is_not_taken_for_kept():
    node, keepsake = Node(), Keepsake(b"big")

    def refuse(_: Message) -> None:
        raise SerializationError("too big")

    node.deposits._tell = refuse  # type: ignore[method-assign]
    with pytest.raises(SerializationError):
        node.deposits.entrust(keepsake, keepsake.payload())
    assert not node.deposits.has(keepsake)


# -- pickles behind a payload ------------------------------------------------------------


@pytest.mark.parametrize("pieces", [[], [b"a"], [b"abc", b"de"], [b"abc", None, b""]])
def test_what_is_packed_behind_a_payload_comes_out_again(pieces: list[bytes | None]):
    whole = packed(b"calls", (piece for piece in pieces if piece is not None))
    sizes = [-1 if piece is None else len(piece) for piece in pieces]
    payload, found = unpacked(whole, sizes)
    assert bytes(payload) == b"calls"
    assert [piece if piece is None else bytes(piece) for piece in found] == pieces


# -- the shelf ---------------------------------------------------------------------------


def assign(*deposits: list[int], payload: Payload = b"calls", batch: int = 1) -> msg.AssignBatch:
    return msg.AssignBatch(
        batch, 1, 0, 1, "f", "e", "rows", deposits=list(deposits), payload=payload
    )


def shelf_with(**kept: bytes) -> Shelf:
    shelf = Shelf()
    for key, value in kept.items():
        shelf.keep([(0, len(value), int(key[1:]))], Bundle(b"outcomes", [value]))
    return shelf


def test_a_shelf_keeps_what_has_a_key_and_gives_back_the_rest():
    shelf = Shelf()
    deposits = [(0, 3, 5), (1, 2, 0), (3, 4, 6)]
    kept = shelf.keep(deposits, Bundle(b"outcomes", [b"aaa", b"bb", b"cccc"]))
    assert parts_of(kept) == (b"outcomes", (b"bb",))
    assert bytes(shelf.find(5) or b"") == b"aaa"
    assert bytes(shelf.find(6) or b"") == b"cccc"
    assert shelf.find(0) is None
    shelf.forget([5, 99])
    assert shelf.find(5) is None


def test_one_of_many_results_that_came_together_does_not_keep_the_others():
    shelf = Shelf()
    frame = memoryview(bytearray(1100))
    shelf.keep([(0, 500, 1), (1, 500, 2)], Bundle(frame[:100], [frame[100:600], frame[600:]]))
    assert all(type(shelf.find(key)) is bytes for key in (1, 2)), "copies of their own"
    frame = memoryview(bytearray(1100))
    shelf.keep([(0, 1000, 3)], Bundle(frame[:100], [frame[100:]]))
    assert shelf.find(3).obj is frame.obj  # type: ignore[union-attr]  # not copied


def test_a_shelf_keeps_what_it_is_given_under_the_keys_of_whoever_gives_it():
    shelf = shelf_with(k7=b"seven")
    assert shelf.entrust(-2, b"piece")
    for key in (-2, -1, 0, 7, 8):
        assert not shelf.entrust(key, b"another"), "taken, or none of those"
    batch = assign([-2, 5], [7, 5], [-1, 0])
    assert shelf.take(batch)
    shelf.forget([-2])
    sizes, payload = shelf.cargo(batch)
    assert (sizes, parts_of(payload)[1]) == ([5, 5, -1], (b"piece", b"seven"))
    assert not shelf.take(assign([-2, 5])), "it was forgotten"


def test_what_a_batch_takes_is_kept_for_it_until_it_is_over():
    shelf = shelf_with(k7=b"seven")
    batch = assign([7, 5], [0, 3], [-1, 0], payload=Bundle(b"calls", [b"abc"]))
    assert shelf.take(batch)
    shelf.forget([7])
    sizes, payload = shelf.cargo(batch)
    assert sizes == [5, 3, -1]
    assert parts_of(payload) == (b"calls", (b"seven", b"abc"))
    shelf.release(BatchId(1), Attempt(1))
    assert shelf._taken == {}
    assert shelf.cargo(assign()) == ([], b"calls")


@pytest.mark.parametrize(
    "deposits", [[[8, 5]], [[0, 99]], [[0, -1]], [[7]], [7], [["7", 5]], [[7, 5, 1]]]
)
def test_what_is_not_there_is_not_taken(deposits: list[Any]):
    shelf = shelf_with(k7=b"seven")
    assert not shelf.take(assign(*deposits))
    assert shelf._taken == {}


# -- shipping ----------------------------------------------------------------------------


class Quay:
    """Ships batches of two nodes' deposits, and notes which have been sent."""

    def __init__(self) -> None:
        self.here, self.there = Node(A), Node(B)
        self.sent: list[int] = []
        self.shipping = Shipping(lambda order, _parcel: self.sent.append(order.batch))

    def ship(
        self,
        number: int,
        *deposits: Deposit,
        job: int = 1,
        in_order: bool = False,
        group: str = "",
    ) -> None:
        order = Assign(A, JobId(job), 1, BatchId(number), Attempt(1), 0, 1, False, 0.01)
        parcel = Parcel(JobId(job), 1, 1, "rows", b"calls", group=group, deposits=deposits)
        self.shipping.ship(order, parcel, in_order=in_order)


def test_a_batch_is_sent_at_once_if_all_that_it_takes_is_on_its_node_or_here():
    quay = Quay()
    quay.ship(1)
    quay.ship(2, quay.here.add(1), quay.there.deposits.add_here(b"x"))
    assert quay.sent == [1, 2]
    assert quay.here.told == [msg.ForgetDeposits([1])], "and nothing was fetched"


def test_a_batch_waits_for_all_that_has_to_be_fetched_and_holds_up_nobody():
    quay = Quay()
    quay.ship(1, quay.there.add(1), quay.there.add(2))
    quay.ship(2)
    quay.there.send(1)
    assert quay.sent == [2]
    quay.there.send(2)
    assert quay.sent == [2, 1]
    assert len(quay.shipping) == 0


def test_a_batch_is_sent_without_what_is_lost():
    quay = Quay()
    deposit = quay.there.add(1)
    quay.ship(1, deposit)
    quay.there.deposits.lose("the node was lost")
    assert quay.sent == [1]


def test_the_batches_of_an_actor_are_sent_in_their_order():
    quay = Quay()
    quay.ship(1, quay.there.add(1), in_order=True)
    quay.ship(2, in_order=True)
    quay.ship(3, quay.there.add(3), in_order=True)
    quay.ship(4, in_order=True)
    quay.ship(9, job=2, in_order=True)
    quay.ship(8, in_order=True, group="io")
    assert quay.sent == [9, 8], "neither another actor nor another group of it waits"
    quay.there.send(3)
    assert quay.sent == [9, 8]
    quay.there.send(1)
    assert quay.sent == [9, 8, 1, 2, 3, 4]


def test_what_is_behind_a_batch_that_was_taken_back_goes_on_without_it():
    quay = Quay()
    quay.ship(1, quay.there.add(1), in_order=True)
    quay.ship(2, in_order=True)
    order = quay.shipping.take_back(A, BatchId(1), Attempt(1))
    assert order is not None
    assert order.batch == 1
    assert quay.sent == [2]
    assert quay.shipping.take_back(A, BatchId(1), Attempt(1)) is None
    quay.there.send(1)
    assert quay.sent == [2]


def test_all_that_is_for_a_node_can_be_taken_back():
    quay = Quay()
    quay.ship(1, quay.there.add(1))
    quay.ship(2, quay.there.add(2))
    assert quay.shipping.take_back_all(B) == []
    assert [order.batch for order in quay.shipping.take_back_all(A)] == [1, 2]
    assert len(quay.shipping) == 0
