"""Who may stay, who has to go, and who has to wait, before a login."""

from __future__ import annotations

import pytest

from goliath.config import TransportConfig
from goliath.transport.guard import ADDRESSES_MAX, BANNED_MAX, Guard, block_of

CONFIG = TransportConfig(unauthenticated_max=4, unauthenticated_per_address_max=2)


def guard_with(**strangers: str) -> Guard[str]:
    """One in which these have come, each from its address, a second after the other."""
    guard = Guard[str](CONFIG)
    for second, (name, address) in enumerate(strangers.items()):
        assert guard.admit(name, address, float(second)) is None
    return guard


def test_whoever_does_not_log_in_in_time_has_to_go():
    guard = guard_with(a="1")
    assert guard.overdue(4.9) == []
    assert guard.overdue(5.0) == ["a"]


def test_whoever_has_logged_in_may_stay_and_counts_no_more():
    guard = guard_with(a="1", b="1")
    guard.trust("a")
    assert guard.overdue(1000.0) == ["b"]
    assert guard.admit("c", "1", 1.0) is None
    assert guard.strangers() == ["b", "c"]


def test_of_too_many_of_an_address_the_oldest_goes_once_it_has_had_the_time_for_a_login():
    guard = guard_with(a="1", b="1")
    assert guard.admit("c", "1", 0.9) == "c"
    assert guard.admit("d", "2", 0.9) is None
    assert guard.admit("e", "1", 1.0) == "a"
    assert guard.admit("f", "1", 1.9) == "f"
    assert guard.strangers() == ["b", "d", "e"]


def test_there_may_be_so_many_strangers_in_all():
    guard = guard_with(a="1", b="2", c="3", d="4")
    assert guard.admit("e", "4", 4.0) == "e", "he has one already"
    assert guard.admit("f", "5", 4.0) == "a", "and he has none"
    assert guard.strangers() == ["b", "c", "d", "f"]


def test_where_there_are_too_many_the_greediest_makes_room_for_somebody_new():
    guard = guard_with(a="1", b="2", c="1", d="2")
    assert guard.admit("honest", "3", 4.0) == "a"
    assert guard.strangers() == ["b", "c", "d", "honest"]
    assert guard.admit("another", "4", 4.0) == "b"
    assert guard.admit("too many", "3", 4.0) == "too many", "now all have one"


def test_where_all_are_about_to_log_in_nobody_makes_room():
    guard = Guard[str](CONFIG)
    for name, address in zip("abcd", "1122", strict=True):
        assert guard.admit(name, address, 0.0) is None
    assert guard.admit("e", "3", 0.9) == "e"


def test_where_some_have_logged_in_as_many_strangers_more_may_come():
    guard = guard_with(a="1", b="1")
    guard.trust("a")
    guard.trust("b")
    assert [guard.admit(name, "1", 2.0) for name in "cdef"] == [None] * 4, "two, and two"
    assert guard.admit("g", "1", 2.0) == "g"
    assert [guard.admit(name, "2", 2.0) for name in "xy"] == [None] * 2, "two count in all"
    assert guard.admit("z", "3", 2.0) == "z"
    guard.forget("a")
    guard.forget("x")
    assert guard.admit("z", "3", 2.0) == "z", "one that is known is left, and three who count"


def test_who_is_gone_before_it_has_logged_in_is_no_friend_of_those_that_come():
    guard = guard_with(a="1", b="1")
    guard.forget("a")
    guard.trust("a")
    assert guard.admit("c", "1", 1.5) is None
    assert guard.admit("d", "1", 1.5) == "d"


def test_connections_that_are_gone_are_forgotten():
    guard = guard_with(a="1", b="1")
    guard.forget("a")
    guard.forget("a")
    assert guard.admit("c", "1", 2.0) is None
    for name in ("b", "c"):
        guard.forget(name)
    assert guard.strangers() == []
    assert not guard._crowds


def test_ten_failures_in_a_minute_make_an_address_wait_until_the_first_is_a_minute_old():
    guard = Guard[str](TransportConfig())
    for second in range(9):
        guard.failed("1", float(second))
    assert guard.wait_s("1", 9.0) == 0
    guard.failed("1", 9.0)
    assert guard.wait_s("1", 59.0) == 1.0
    assert guard.wait_s("2", 59.0) == 0
    assert guard.wait_s("1", 60.0) == 0


def test_an_address_that_has_to_wait_may_come_to_be_told_so_and_not_in_numbers():
    guard = Guard[str](TransportConfig(failures_per_minute_max=1))
    guard.failed("1", 0.0)
    admitted = [guard.admit(str(n), "1", 1.0) is None for n in range(8)]
    assert admitted.count(True) == BANNED_MAX


def test_the_memory_of_failures_is_bounded():
    guard = Guard[str](TransportConfig())
    for number in range(2 * ADDRESSES_MAX):
        guard.failed(str(number), 0.0)
    assert len(guard._failures) == ADDRESSES_MAX


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("2001:db8:1:2::1", "2001:db8:1:2:ffff:ffff:ffff:ffff"),
        ("fe80::1%eth0", "fe80::2%eth1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
    ],
)
def test_whoever_has_one_of_these_addresses_has_the_other(one: str, other: str):
    assert block_of(one) == block_of(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("2001:db8:1:2::1", "2001:db8:1:3::1"),
        ("192.0.2.1", "192.0.2.2"),
        ("::ffff:192.0.2.1", "::ffff:192.0.2.2"),
        ("::1", "127.0.0.1"),
    ],
)
def test_these_addresses_may_be_those_of_different_people(one: str, other: str):
    assert block_of(one) != block_of(other)


def test_addresses_of_one_network_of_version_6_are_counted_and_banned_together():
    guard = guard_with(a="2001:db8::1", b="2001:db8::2")
    assert guard.admit("c", "2001:db8::3", 2.0) == "a"
    for _ in range(10):
        guard.failed("2001:db8::4", 3.0)
    assert guard.wait_s("2001:db8::5", 4.0) == 59.0
