"""Actors that live elsewhere: a channel as a ref, its messages as told to an actor."""

from __future__ import annotations

from typing import Any

from goliath.actors.remoting import Inbound, RemoteRef
from goliath.config import TransportConfig
from goliath.transport import memory
from goliath.transport.messages import AskStatus, Draining
from tests.actors.runtime import on_both_loops, until


class Told:
    """A ref that notes what it is told."""

    name = "told"

    def __init__(self) -> None:
        self.log: list[Any] = []

    def tell(self, message: Any) -> None:
        self.log.append(message)


@on_both_loops
async def test_what_a_remote_ref_is_told_arrives_wrapped_at_the_other_end():
    left, right = memory.pair(TransportConfig(), through_codec=True)
    told = Told()
    right.attach(
        Inbound(told, heard=lambda m: ("heard", m), closed=lambda e: ("closed", e), writable=None)
    )
    left.attach(Inbound(Told(), heard=lambda m: m, closed=lambda e: e))
    ref = RemoteRef("node", left)
    assert repr(ref) == "<RemoteRef node>"
    ref.tell(AskStatus())
    ref.tell(Draining())
    left.close()
    await until(lambda: len(told.log) == 3)
    assert told.log == [("heard", AskStatus()), ("heard", Draining()), ("closed", None)]


def test_room_in_a_channel_is_told_to_those_who_want_to_hear_of_it():
    told = Told()
    Inbound(told, heard=lambda m: m, closed=lambda e: e, writable=lambda: "writable").on_writable()
    Inbound(told, heard=lambda m: m, closed=lambda e: e).on_writable()
    assert told.log == ["writable"]
