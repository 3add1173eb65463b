"""What an embedded node, or any other, takes of its machine."""

from __future__ import annotations

from dataclasses import replace

import pytest

from goliath.actors.embedded import ARENA_SHARE, arena_bytes
from goliath.config import MIB, NodeConfig
from goliath.machine import total_memory


@pytest.mark.parametrize(
    ("limits", "memory"),
    [
        ((), total_memory()),
        ((None, None), total_memory()),
        ((512 * MIB, None), 512 * MIB),
        ((512 * MIB, 64 * MIB), 64 * MIB),
        ((2 * total_memory(),), total_memory()),
    ],
)
def test_arenas_take_a_share_of_the_least_that_workers_may_have(
    limits: tuple[int | None, ...], memory: int
):
    assert arena_bytes(NodeConfig(), *limits) == int(ARENA_SHARE * memory)


def test_what_the_user_says_of_arenas_holds_whatever_workers_may_have():
    assert arena_bytes(replace(NodeConfig(), arena_bytes=100 * MIB), 64 * MIB) == 100 * MIB
    assert arena_bytes(replace(NodeConfig(), arena_bytes=0)) == 0
