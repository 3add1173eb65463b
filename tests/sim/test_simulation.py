"""Many seeds: no call is lost, doubled or blamed without reason, whatever breaks."""

from __future__ import annotations

import os

import pytest

from tests.sim.cluster import Cluster

SEEDS = int(os.environ.get("GOLIATH_SIM_SEEDS", "1000"))
"""How many; ``GOLIATH_SIM_SEEDS=100`` for a quick look, 5000 for a long one."""
CHUNK = 25


@pytest.mark.parametrize("first", range(0, SEEDS, CHUNK))
def test_every_promise_is_kept_whatever_breaks(first: int):
    for seed in range(first, min(first + CHUNK, SEEDS)):
        try:
            Cluster(seed).run()
        except Exception as exc:
            exc.add_note(f"replay it: python -m tests.sim --seed {seed}")
            raise


def test_a_seed_is_the_same_run_every_time():
    first, second = ([], [])
    assert Cluster(7, first.append).run() == Cluster(7, second.append).run()
    assert first == second
