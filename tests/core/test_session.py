"""The books of a session: exactly once and in order, whatever the links do."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given, strategies as st

from goliath.core.session import Session
from goliath.errors import ProtocolError


def session(now: float = 0.0) -> Session[str]:
    return Session(life_s=60.0, now=now)


def test_frames_are_numbered_from_one():
    books = session()
    assert [books.stamp("a", 1), books.stamp("b", 1)] == [1, 2]
    assert repr(books) == "<Session sent 2 (2 in doubt), seen 0>"


def test_an_acknowledged_frame_is_forgotten_and_the_rest_is_in_doubt():
    books = session()
    for text in "abc":
        books.stamp(text, 10)
    books.acknowledge(2)
    assert list(books.in_doubt()) == [(3, "c")]
    assert books.unacked_bytes == 10
    books.acknowledge(1)
    assert books.unacked_bytes == 10


def test_acknowledging_what_was_never_sent_is_refused():
    with pytest.raises(ProtocolError, match="frame 1 was acknowledged, but only 0"):
        session().acknowledge(1)


def test_the_next_frame_is_accepted_an_old_one_dropped_and_a_gap_refused():
    books = session()
    assert books.accept(1)
    assert not books.accept(1)
    assert books.accept(2)
    with pytest.raises(ProtocolError, match="frame 4 came after frame 2"):
        books.accept(4)
    assert books.seen == 2


def test_a_lost_tail_is_noticed():
    books = session()
    books.accept(1)
    books.check_tail(1)
    with pytest.raises(ProtocolError, match="sent 2 frames, 1 arrived"):
        books.check_tail(2)


def test_the_lieutenant_ends_a_session_after_the_last_frame_it_heard():
    books = session()
    books.witness(5.0)
    assert books.ends_at == 65.0
    assert not books.expired(64.9)
    assert books.expired(65.0)


def test_the_commander_counts_from_the_sending_of_the_last_answered_ping():
    books: Session[str] = Session(life_s=75.0, echo_s=60.0, now=0.0)
    first, second = books.ping(5.0), books.ping(10.0)
    books.pong(first)
    assert books.ends_at == 80.0
    books.pong(second)
    assert books.ends_at == 85.0


def test_the_answer_to_a_later_ping_answers_the_earlier_ones():
    books: Session[str] = Session(life_s=75.0, echo_s=60.0, now=0.0)
    books.ping(5.0)
    books.pong(books.ping(10.0))
    assert books.ends_at == 85.0


def test_a_pong_of_an_earlier_link_counts_for_nothing():
    books: Session[str] = Session(life_s=75.0, echo_s=60.0, now=0.0)
    number = books.ping(5.0)
    books.unlink()
    books.pong(number)
    assert books.ends_at == 75.0


def test_the_commander_waits_while_the_other_end_may_have_heard_it():
    books: Session[str] = Session(life_s=75.0, echo_s=60.0, now=0.0)
    books.spoke(30.0)
    assert books.ends_at == 90.0


def test_a_session_that_has_ended_keeps_nothing():
    books = session()
    books.stamp("a", 10)
    books.forget()
    assert books.unacked_bytes == 0
    assert list(books.in_doubt()) == []


# -- any sequence of faults ------------------------------------------------------------------


@dataclass
class Wire:
    """Two sessions and a link that loses its tail, repeats and reorders."""

    a: Session[int] = field(default_factory=lambda: Session(life_s=1e9, now=0.0))
    b: Session[int] = field(default_factory=lambda: Session(life_s=1e9, now=0.0))
    flying: list[tuple[int, int]] = field(default_factory=list)
    sent: int = 0
    got: list[int] = field(default_factory=list)

    def send(self) -> None:
        self.sent += 1
        self.flying.append((self.a.stamp(self.sent, 1), self.sent))

    def arrive(self, index: int) -> None:
        if not self.flying:
            return
        seq, value = self.flying.pop(index % len(self.flying))
        try:
            if self.b.accept(seq):
                self.got.append(value)
        except ProtocolError:
            self.cut()

    def acknowledge(self) -> None:
        self.a.acknowledge(self.b.seen)

    def repeat(self, index: int) -> None:
        if self.flying:
            self.flying.insert(0, self.flying[index % len(self.flying)])

    def cut(self) -> None:
        """Everything on its way is lost; the new link begins with what is in doubt."""
        self.acknowledge()
        self.flying = list(self.a.in_doubt())

    def drop(self, index: int) -> None:
        if self.flying:
            self.flying.pop(index % len(self.flying))


steps = st.lists(
    st.tuples(
        st.sampled_from(["send", "arrive", "first", "acknowledge", "repeat", "cut", "drop"]),
        st.integers(0, 30),
    ),
    max_size=120,
)


@given(steps)
def test_every_frame_arrives_once_and_in_order_whatever_happens(script: list[tuple[str, int]]):
    wire = Wire()
    for name, index in script:
        match name:
            case "first":
                wire.arrive(0)
            case "arrive" | "repeat" | "drop":
                getattr(wire, name)(index)
            case _:
                getattr(wire, name)()
        assert wire.got == list(range(1, len(wire.got) + 1))
    wire.cut()
    while wire.flying:
        wire.arrive(0)
    assert wire.got == list(range(1, wire.sent + 1))
    wire.acknowledge()
    assert wire.a.unacked_bytes == 0
