"""A Commander's session on a node: what it has sent so far, what it was lent, and what its next
message comes to.

Nothing is done here that anybody could see: a message becomes an event for the node's mind, or a
`ProtocolError` says that no honest Commander sends it, and his session ends.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import field

from goliath.actors.neighbours import Host, soon_in
from goliath.actors.remoting import RemoteRef
from goliath.actors.residence import Lodger
from goliath.actors.scrutiny import are_amounts, are_numbers
from goliath.actors.shelf import Shelf
from goliath.actors.tenancy import Holding
from goliath.core import node_events as nd
from goliath.core.batch import CONCURRENCY_MAX
from goliath.core.devices import GPU, is_share
from goliath.core.ids import Attempt, BatchId, SessionId
from goliath.core.policy import BIG_BYTES
from goliath.errors import ProtocolError
from goliath.record import record
from goliath.transport import messages as msg, worker_messages as worker_msg
from goliath.transport.payload import Piece

LINGER_MIN_S = 0.001  # who wants to hear of each call sooner sends it in a batch of its own


@record
class Guest:
    """See the module's description.

    Attributes:
        realm: the name of the token by which it came.
        functions: those that were sent and not forgotten, by their digests.
        batches: those that are not over.
        detaching: actors that are about to become the node's own.
        shelf: its big results, and what it has given to be kept.
        holding: its arena; None where there is no room for one.
        host: the end of a session within one machine.
    """

    id: SessionId
    ref: RemoteRef
    realm: str = ""
    functions: dict[str, worker_msg.DefineFunction] = field(default_factory=dict)
    batches: dict[tuple[BatchId, Attempt], msg.AssignBatch] = field(default_factory=dict)
    detaching: dict[tuple[BatchId, Attempt], Lodger] = field(default_factory=dict)
    shelf: Shelf = field(default_factory=Shelf)
    holding: Holding | None = None
    host: Host | None = None

    # -- its memory ----------------------------------------------------------------------

    def furnish(self, limit_bytes: int, slots: int, *, shares: bool) -> None:
        """Give it an arena.

        Args:
            limit_bytes: of arguments, and of results.
            slots: of the node.
            shares: whether the Commander lives in this process, and pickles into it himself.
        """
        self.holding = Holding.make(limit_bytes, slots)
        if not shares:
            self.host = Host(self.holding, self.ref.channel, soon_in(asyncio.get_running_loop()))
            if self.holding is not None:
                self.ref.channel.gather_in(self.holding)
        elif self.holding is not None:
            self.holding.share()

    def unfurnish(self) -> None:
        """The session is over."""
        if self.holding is not None:
            self.holding.close()  # first: what the Commander was lent is not written any more
        if self.host is not None:
            self.host.close()

    # -- functions -----------------------------------------------------------------------

    def define(self, said: worker_msg.DefineFunction) -> None:
        """Keep a function, where workers can look at what of it is big."""
        settled = said if self.holding is None else self.holding.settled_function(said)
        self.functions[said.digest] = settled

    def forget_function(self, digest: str) -> None:
        """It is needed no more.

        Raises:
            ProtocolError: it is.
        """
        if any(batch.function == digest for batch in self.batches.values()):
            raise ProtocolError("a function to be forgotten that is in use")
        self.functions.pop(digest, None)

    # -- what it has kept here -----------------------------------------------------------

    def kept(self, key: int) -> Piece:
        """A result of it.

        Raises:
            ProtocolError: there is none with this key.
        """
        found = self.shelf.find(key)
        if found is None:
            raise ProtocolError("the key of a result that is not kept")
        return found

    def entrust(self, said: msg.KeepPiece) -> nd.PieceEntrusted:
        """Keep what batches will take.

        Raises:
            ProtocolError: not under this key.
        """
        piece = said.payload if self.holding is None else self.holding.moved(said.payload)
        if not self.shelf.entrust(said.key, piece):
            raise ProtocolError("a piece to be kept under a key that is none")
        return nd.PieceEntrusted(self.id, said.key, len(piece))

    def forget(self, said: msg.ForgetDeposits | msg.ForgetPieces) -> nd.DepositsForgotten:
        """Let go of results, or of pieces, that nobody will want any more.

        Raises:
            ProtocolError: their keys are none.
        """
        keys, own = said.keys, isinstance(said, msg.ForgetPieces)
        if not are_numbers(keys) or (own and any(key >= msg.LOST for key in keys)):
            raise ProtocolError(f"{'pieces' if own else 'results'} to be forgotten without keys")
        self.shelf.forget(keys)
        return nd.DepositsForgotten(self.id, tuple(keys))

    # -- batches -------------------------------------------------------------------------

    def assign(self, said: msg.AssignBatch, *, furnished: bool) -> nd.BatchArrived:
        """Take on a batch.

        Args:
            furnished: whether its environment was defined.

        Raises:
            ProtocolError: it cannot be.
        """
        if not said.resident and (said.function not in self.functions or not furnished):
            raise ProtocolError("a batch of a function or environment never defined")
        batch, attempt = BatchId(said.batch), Attempt(said.attempt)
        if (batch, attempt) in self.batches or not 0 <= said.lo < said.hi:
            raise ProtocolError("a batch sent twice, or without calls")
        never = said.timeout_s is not None and said.timeout_s <= 0
        if (
            never
            or said.cpus < 0
            or said.linger_s < LINGER_MIN_S
            or not 1 <= said.concurrency <= CONCURRENCY_MAX
            or not 0 <= said.group_limit <= said.concurrency
            or (said.resources and not _are_resources(said.resources))
        ):
            raise ProtocolError("a batch that asks for what cannot be")
        if said.deposits and not self.shelf.take(said):
            raise ProtocolError("a batch that takes results which are not kept")
        if self.holding is not None:
            said.payload = self.holding.settled(said.payload)
        self.batches[batch, attempt] = said
        return nd.BatchArrived(
            self.id,
            batch,
            attempt,
            said.lo,
            said.hi,
            said.environment,
            said.careful,
            said.timeout_s,
            said.cpus,
            said.resources,
            said.linger_s,
            said.depth,
            said.actor,
            said.concurrency,
            said.group,
            said.group_limit,
            said.resident,
            said.alone,
            tuple([key for key, _ in said.deposits if key not in (msg.ALONG, msg.LOST)]),
            self._bytes_with(said),
        )

    def _bytes_with(self, said: msg.AssignBatch) -> int:
        """What has come with a batch, and what for its sake before it, if nobody else needs that
        here: pieces that are kept, and its static keywords."""
        nbytes, given = len(said.payload), {}
        if said.deposits:
            nbytes += sum(size for key, size in said.deposits if key == msg.ALONG)
            given = {key: size for key, size in said.deposits if key < msg.LOST}
        if given:
            others = (batch for batch in self.batches.values() if batch is not said)
            shared = {key for batch in others for key, _ in batch.deposits}
            nbytes += sum(size for key, size in given.items() if key not in shared)
        function = self.functions.get(said.function)
        if function is None or len(function.payload) <= BIG_BYTES:
            return nbytes
        users = sum(batch.function == said.function for batch in self.batches.values())
        return nbytes + (len(function.payload) if users == 1 else 0)

    def detach(self, said: msg.DetachActor, *, furnished: bool) -> nd.DetachArrived:
        """Take on an actor that is to be the node's own.

        Args:
            furnished: whether its environment was defined.

        Raises:
            ProtocolError: it cannot be.
        """
        function = self.functions.get(said.function)
        if function is None or not furnished:
            raise ProtocolError("an actor of a class or environment never defined")
        lodger = Lodger.of(function, said)
        batch, attempt = BatchId(said.batch), Attempt(said.attempt)
        if (batch, attempt) in self.detaching:
            raise ProtocolError("a batch sent twice")
        if said.deposits:
            if not self.shelf.take(said):
                raise ProtocolError("an actor of results that are not kept")
            lodger.cargo = self.shelf.cargo(said)
            self.shelf.release(batch, attempt)
        self.detaching[batch, attempt] = lodger
        blueprint = lodger.blueprint
        return nd.DetachArrived(
            self.id,
            batch,
            attempt,
            said.environment,
            blueprint.name,
            blueprint.namespace,
            blueprint.get_if_exists,
            blueprint.cpus,
            blueprint.resources,
            blueprint.concurrency,
            blueprint.max_restarts,
            blueprint.restart_window_s,
            blueprint.repertoire.groups,
        )

    def release(self, batch: BatchId, attempt: Attempt) -> None:
        """A batch is over."""
        self.batches.pop((batch, attempt), None)
        self.detaching.pop((batch, attempt), None)
        self.shelf.release(batch, attempt)


def _are_resources(wanted: Mapping[str, float]) -> bool:
    """Whether a call can ask for so much beside CPUs."""
    return are_amounts(wanted) and is_share(wanted.get(GPU, 0.0))
