"""Big results that stay on the node where they were made, as their Commander knows them.

A `Deposit` stands for one. Whoever holds it keeps the result: an outcome, for its ref, and calls
that take it, until they have ended. When nobody does, the node is told to forget it. A value that
is asked for is fetched once, and then held here as well.

The node needs it no longer when it drains: all that is left there is fetched then, and it
leaves when it has been told to forget the last of it. What a lost node has kept is lost.

What is kept on a node the other way round, so that calls need not take it along, is a `Keepsake`:
it is here, too, so it is never lost, and when it is gone here, the node is told to forget it.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from itertools import count
from weakref import WeakValueDictionary, ref

from goliath.actors.bell import ThreadBell
from goliath.actors.cargo import packed
from goliath.actors.poster import PortalClosedError, Poster
from goliath.config import KIB
from goliath.core.ids import NodeId
from goliath.errors import ObjectLostError
from goliath.transport import messages as msg
from goliath.transport.keepsakes import Keepsake
from goliath.transport.message import Message
from goliath.transport.messages import ALONG, LOST
from goliath.transport.payload import Payload, Piece
from goliath.transport.pickled import Pickled

DEPOSIT_BYTES = 100 * KIB
"""A result of a single call whose pickle is bigger stays on its node (the limit is Ray's). A round
trip to fetch it costs as much as a gigabit link needs for so many bytes: about a millisecond."""

_lock = threading.Lock()
"""Guards the waiters of all deposits; held for a few instructions."""


class Deposit:
    """One result on a node. Any thread may use it; made, and filled, in the loop's.

    Attributes:
        size: bytes of its pickle.
        kept: whether its node keeps it (still).
        held: the refs in it.
    """

    __slots__ = (
        "__weakref__",
        "_deposits",
        "_error",
        "_payload",
        "_waiters",
        "held",
        "kept",
        "key",
        "size",
    )

    def __init__(self, deposits: Deposits, key: int, size: int, held: Sequence[object]) -> None:
        self._deposits = deposits
        self.key = key
        self.size = size
        self.held = held
        self.kept = True
        self._payload: Piece | None = None
        self._error = ""
        self._waiters: list[Callable[[], None]] | None = None  # None: nobody has asked yet

    def __repr__(self) -> str:
        return f"<Deposit {self.key} of {self.size} bytes on {self.node}>"

    def __del__(self) -> None:
        if self.kept:
            self._deposits.drop(self.key)

    @property
    def node(self) -> NodeId:
        """Whose it is."""
        return self._deposits.node

    @property
    def known(self) -> bool:
        """Whether the value is here, or lost: whoever asks for it need not wait."""
        return self._payload is not None or bool(self._error)

    @property
    def asked(self) -> bool:
        """Whether it is known, or on its way."""
        return self._waiters is not None or self.known

    @property
    def lost(self) -> bool:
        """Whether nobody has the value any more."""
        return bool(self._error)

    def is_on(self, node: NodeId) -> bool:
        """Whether a call on this node finds it there."""
        return self.kept and self._deposits.node == node

    def when_known(self, waiter: Callable[[], None]) -> None:
        """Have the value fetched, and ``waiter`` called once it is known, in any thread, or now."""
        with _lock:
            waits = not self.known
            first = waits and self._waiters is None
            if first:
                self._waiters = []
            if waits and self._waiters is not None:
                self._waiters.append(waiter)
        if not waits:
            waiter()
        elif first:
            try:
                self._deposits.portal.post(self._deposits.fetch, self)
            except PortalClosedError as exc:
                self.lose(str(exc))

    def stop_waiting(self, waiter: Callable[[], None]) -> None:
        """Forget a waiter that has lost its patience."""
        with _lock, suppress(ValueError):
            if self._waiters is not None:
                self._waiters.remove(waiter)

    def payload(self) -> Piece:
        """The pickle of the value; waits for it.

        Raises:
            ObjectLostError: it is lost.
            RuntimeError: the caller is the loop's own thread, which would wait for itself.
        """
        if not self.known:
            self.forbid_inside()
            bell = ThreadBell()
            self.when_known(bell.ring)
            bell.wait()
        if self._payload is None:
            raise ObjectLostError(self._error)
        return self._payload

    def forbid_inside(self) -> None:
        """Refuse what waits for the value to those whom it waits for.

        Raises:
            RuntimeError: the caller is the loop's own thread, which would wait for itself.
        """
        if self._deposits.portal.inside():
            raise RuntimeError(
                f"{self!r} is still to be fetched, which cannot be waited for in the thread that "
                "would do it: hand the work to a thread of yours"
            )

    def arrive(self, payload: Piece) -> None:
        """The value is here."""
        self._payload = payload
        self._tell()

    def lose(self, why: str) -> None:
        """Its node, or the way to it, is gone; what is here stays."""
        self.kept = False
        if self._payload is None:
            self._error = (
                f"the result ({self.size} bytes) was kept on {self.node} and not fetched before "
                f"{why}. Make the call again; what must outlive its node, get() before"
            )
            self._tell()

    def _tell(self) -> None:
        with _lock:
            waiters, self._waiters = self._waiters or (), []
        for waiter in waiters:
            waiter()


class Along:
    """A big value that stands for a deposit among what a call takes: it is here, on no node, and
    goes along with the call, beside its row.

    Args:
        pickled: the value.
    """

    __slots__ = ("_pickled",)

    known, kept, lost = True, False, False

    def __init__(self, pickled: Pickled) -> None:
        self._pickled = pickled

    @property
    def size(self) -> int:
        """See `Deposit`."""
        return len(self._pickled)

    def is_on(self, _node: NodeId) -> bool:
        """See `Deposit.is_on`."""
        return False

    def payload(self) -> Piece:
        """See `Deposit.payload`."""
        return self._pickled.payload


Taken = Deposit | Along | Keepsake
"""What a call takes beside its row."""


class Deposits:
    """Those on one node, for one session with it, and the keepsakes that it was given. All but
    `drop` belongs to the loop's thread.

    Args:
        node: whose they are.
        tell: sends something to it.
        portal: the way into the loop's thread.
    """

    def __init__(self, node: NodeId, tell: Callable[[Message], None], portal: Poster) -> None:
        self.node = node
        self.portal = portal
        self._tell = tell
        self._open: WeakValueDictionary[int, Deposit] = WeakValueDictionary()
        self._asked: dict[int, Deposit] = {}  # a value that is on its way is wanted
        self._entrusted: dict[ref[Keepsake], int] = {}
        self._keys = count(1)
        self._dropped: deque[int] = deque()
        self._kicked = False
        self._draining = False
        self._lost = ""

    def add(self, key: int, size: int, held: Sequence[object] = ()) -> Deposit:
        """The node keeps one more."""
        deposit = self._open[key] = Deposit(self, key, size, held)
        if self._draining:
            self.fetch(deposit)  # it was reported before the node knew
        return deposit

    def add_here(self, payload: Piece, held: Sequence[object] = ()) -> Deposit:
        """One that the node had no room for: it has come along."""
        deposit = Deposit(self, 0, len(payload), held)
        deposit.kept = False
        deposit.arrive(payload)
        return deposit

    def has(self, keepsake: Keepsake) -> bool:
        """Whether the node keeps it."""
        return ref(keepsake) in self._entrusted

    def entrust(self, keepsake: Keepsake, payload: Piece) -> None:
        """Give it to the node to keep, as this payload.

        Raises:
            SerializationError: it is bigger than a message may be.
        """
        key = LOST - next(self._keys)
        self._tell(msg.KeepPiece(key, payload))
        self._entrusted[ref(keepsake, self._on_gone)] = key

    def _on_gone(self, keepsake: ref[Keepsake]) -> None:
        """From a finalizer: nobody here has it any more."""
        key = self._entrusted.pop(keepsake, None)
        if key is not None:
            self.drop(key)

    def gathered(self, taken: Sequence[Taken], calls: Payload) -> tuple[list[list[int]], Payload]:
        """Calls that take something beside them, as the node is sent them: what
        `msg.AssignBatch.deposits` says of that, and the payload. All that is neither kept there nor
        lost is known."""
        if not taken:
            return [], calls
        entries: list[list[int]] = []
        pieces: list[Piece] = []
        for each in taken:
            if isinstance(each, Keepsake):
                entries.append([self._entrusted[ref(each)], each.size])
            elif isinstance(each, Deposit) and each.is_on(self.node):
                entries.append([each.key, each.size])
            elif each.lost:
                entries.append([LOST, 0])
            else:
                entries.append([ALONG, each.size])
                pieces.append(each.payload())
        return entries, packed(calls, pieces) if pieces else calls

    def fetch(self, deposit: Deposit) -> None:
        """Have it sent, if it is not here."""
        if deposit.known or deposit.key in self._asked:
            return
        if self._lost:
            deposit.lose(self._lost)
            return
        self._asked[deposit.key] = deposit
        self._tell(msg.FetchDeposit(deposit.key))

    def arrived(self, said: msg.DepositSent) -> bool:
        """A value has come; False if nobody has asked for it."""
        deposit = self._asked.pop(said.key, None)
        if deposit is None or len(said.payload) != deposit.size:
            return False
        if self._draining:
            self._release(deposit)
        deposit.arrive(said.payload)
        return True

    def drain(self) -> None:
        """The node is to leave: bring to safety what it has."""
        self._draining = True
        for deposit in list(self._open.values()):
            if not deposit.known:
                self.fetch(deposit)
            elif deposit.kept:
                self._release(deposit)

    def _release(self, deposit: Deposit) -> None:
        deposit.kept = False
        self._tell(msg.ForgetDeposits([deposit.key]))

    def lose(self, why: str) -> None:
        """The session is over."""
        self._lost = why
        self._asked.clear()
        self._entrusted.clear()
        for deposit in list(self._open.values()):
            deposit.lose(why)

    def drop(self, key: int) -> None:
        """Nobody holds it any more. From a finalizer: it takes no lock."""
        self._dropped.append(key)
        if not (self._kicked or self._lost):
            self._kicked = True
            with suppress(PortalClosedError):  # then the session is over
                self.portal.post(self._forget_dropped)

    def _forget_dropped(self) -> None:
        self._kicked = False
        keys = []
        while self._dropped:
            keys.append(self._dropped.popleft())
        if not keys or self._lost:
            return
        if deposits := [key for key in keys if key > 0]:
            self._tell(msg.ForgetDeposits(deposits))
        if keepsakes := [key for key in keys if key < 0]:
            self._tell(msg.ForgetPieces(keepsakes))


def bytes_to_send(taken: Iterable[Taken], nodes: Sequence[Deposits]) -> int:
    """How much calls that take these have to bring along, as far as anybody knows before they have
    a node: what was given to one will hardly have to be given to another."""
    return sum(
        each.size
        for each in taken
        if not (isinstance(each, Keepsake) and any(node.has(each) for node in nodes))
    )


def nearness(taken: Iterable[Taken], nodes: Sequence[Deposits] = ()) -> Mapping[NodeId, int]:
    """Which nodes keep how many bytes of these; keepsakes: which of those nodes."""
    near: dict[NodeId, int] = {}
    for each in taken:
        keepers: list[NodeId] = []
        if isinstance(each, Keepsake):
            keepers = [node.node for node in nodes if node.has(each)]
        elif isinstance(each, Deposit) and each.kept:
            keepers = [each.node]
        for keeper in keepers:
            near[keeper] = near.get(keeper, 0) + each.size
    return near
