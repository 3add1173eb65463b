"""Who has to go, and who has to wait, before a login."""

from __future__ import annotations

from goliath.config import TransportConfig
from goliath.transport.guard import ADDRESSES_MAX, Guard

CONFIG = TransportConfig(unauthenticated_max=4, unauthenticated_per_address_max=2)


def test_whoever_does_not_log_in_in_time_has_to_go():
    guard = Guard[str](CONFIG)
    assert guard.sweep({"a": "1"}, 0.0) == []
    assert guard.sweep({"a": "1"}, 4.9) == []
    assert guard.sweep({"a": "1"}, 5.0) == ["a"]


def test_whoever_has_logged_in_may_stay():
    guard = Guard[str](CONFIG)
    guard.sweep({"a": "1"}, 0.0)
    guard.trust("a")
    assert guard.trusts("a")
    assert guard.sweep({"a": "1"}, 1000.0) == []


def test_one_address_may_have_so_many_strangers_and_the_newest_have_to_go():
    guard = Guard[str](CONFIG)
    guard.sweep({"a": "1"}, 0.0)
    guard.sweep({"a": "1", "b": "1"}, 1.0)
    assert guard.sweep({"a": "1", "b": "1", "c": "1", "d": "2"}, 2.0) == ["c"]


def test_there_may_be_so_many_strangers_in_all():
    guard = Guard[str](CONFIG)
    live = {name: name for name in "abcdef"}
    assert guard.sweep(live, 0.0) == ["e", "f"]


def test_where_somebody_has_logged_in_there_may_be_as_many_strangers_more():
    guard = Guard[str](CONFIG)
    guard.sweep({"a": "1", "b": "1"}, 0.0)
    guard.trust("a")
    guard.trust("b")
    many = dict.fromkeys("abcdefgh", "1")
    assert guard.sweep(many, 1.0) == ["g", "h"], "two, and two that are known"
    assert guard.sweep({**many, "x": "2", "y": "3", "z": "4"}, 2.0) == ["g", "h", "z"]
    assert guard.sweep({"b": "1", "c": "1", "d": "1", "e": "1", "f": "1"}, 3.0) == ["f"]


def test_connections_that_are_gone_are_forgotten():
    guard = Guard[str](CONFIG)
    guard.sweep({"a": "1"}, 0.0)
    guard.trust("a")
    guard.sweep({}, 1.0)
    assert not guard.trusts("a")
    assert guard.sweep({"a": "1"}, 9.0) == []


def test_ten_failures_in_a_minute_make_an_address_wait():
    guard = Guard[str](TransportConfig())
    for second in range(9):
        guard.failed("1", float(second))
    assert not guard.must_wait("1", 9.0)
    guard.failed("1", 9.0)
    assert guard.must_wait("1", 59.0)
    assert not guard.must_wait("2", 59.0)
    assert not guard.must_wait("1", 60.0)


def test_the_memory_of_failures_is_bounded():
    guard = Guard[str](TransportConfig())
    for number in range(2 * ADDRESSES_MAX):
        guard.failed(str(number), 0.0)
    assert len(guard._failures) == ADDRESSES_MAX
