"""Staying awake for what comes soon, and only for that."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from goliath.transport import vigil
from goliath.transport.vigil import AWAKE_S, CROWDED_S, NAPS, Vigil


class World:
    """A clock, and a descriptor that becomes readable at a time; a look takes 10 µs, and giving
    way to others as long as they like."""

    def __init__(self) -> None:
        self.now = 0.0
        self.others_take = 0.0
        self.readable_at = 0.0
        self.looks = 0
        self.slept = 0

    def perf_counter(self) -> float:
        return self.now

    def sched_yield(self) -> None:
        self.now += self.others_take

    def poll(self, timeout: float | None = None) -> list[tuple[int, int]]:
        if timeout is None:
            self.slept += 1
            self.now = max(self.now, self.readable_at)
        else:
            self.looks += 1
            self.now += 10e-6
        return [(0, 1)] if self.now >= self.readable_at else []


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    world = World()
    monkeypatch.setattr(vigil, "perf_counter", world.perf_counter)
    monkeypatch.setattr(vigil.os, "sched_yield", world.sched_yield)
    return world


@pytest.fixture
def kept(world: World) -> Iterator[Vigil]:
    """A vigil over the world."""
    ours, theirs = socket.socketpair()
    watch = Vigil(ours.fileno())
    watch._poll = world  # type: ignore[assignment]
    yield watch
    ours.close()
    theirs.close()


def wait(world: World, kept: Vigil, seconds: float) -> tuple[int, int]:
    """Wait for what comes so late; how often it was looked for, and slept over."""
    world.looks = world.slept = 0
    world.readable_at = world.now + seconds
    kept.keep()
    assert world.now >= world.readable_at, "it returned with nothing to read"
    return world.looks, world.slept


def test_the_first_wait_is_slept_through(world: World, kept: Vigil) -> None:
    assert wait(world, kept, AWAKE_S / 2) == (0, 1)


def test_after_a_short_wait_the_next_is_spent_awake(world: World, kept: Vigil) -> None:
    wait(world, kept, AWAKE_S / 2)
    looks, slept = wait(world, kept, AWAKE_S / 2)
    assert (looks > 1, slept) == (True, 0)


def test_it_falls_asleep_when_nothing_comes_and_sleeps_through_the_next_wait(
    world: World, kept: Vigil
) -> None:
    wait(world, kept, AWAKE_S / 2)
    looks, slept = wait(world, kept, 100 * AWAKE_S)
    assert (looks <= AWAKE_S / 10e-6 + 2, slept) == (True, 1)
    assert wait(world, kept, 100 * AWAKE_S) == (0, 1)


def test_where_others_want_the_core_it_sleeps_for_a_while(world: World, kept: Vigil) -> None:
    wait(world, kept, AWAKE_S / 2)
    world.others_take = 2 * CROWDED_S
    assert wait(world, kept, AWAKE_S / 2) == (1, 1)
    world.others_take = 0.0
    assert {wait(world, kept, AWAKE_S / 2) for _ in range(NAPS)} == {(0, 1)}
    assert wait(world, kept, AWAKE_S / 2)[1] == 0


def test_the_end_of_a_socket_ends_the_wait() -> None:
    ours, theirs = socket.socketpair()
    theirs.close()
    Vigil(ours.fileno()).keep()
    ours.close()
