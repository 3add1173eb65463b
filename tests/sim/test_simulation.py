"""Many seeds: no call is lost, doubled or blamed without reason, whatever breaks."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.length import length
from tests.mutants import MUTANTS, sabotaged
from tests.sim.__main__ import main
from tests.sim.cluster import Cluster
from tests.sim.sweep import replay_command, run_seeds
from tests.sim.tally import Seen, Tally, table

SEEDS = int(os.environ.get("GOLIATH_SIM_SEEDS", length(1000, 5000)))
"""How many; ``GOLIATH_SIM_SEEDS=100`` for a quick look."""
QUICK_SEEDS = 50  # of these, in the quick loop
CHUNK = 25
EVENTFUL = (119, 227, 106, 61, 71)
"""Seeds that have all kinds of trouble between them; when they have not, others are tried."""


@pytest.mark.parametrize(
    "first",
    [
        pytest.param(first, marks=[pytest.mark.slow] if first >= QUICK_SEEDS else [])
        for first in range(0, SEEDS, CHUNK)
    ],
)
def test_every_promise_is_kept_whatever_breaks(first: int):
    for seed in range(first, min(first + CHUNK, SEEDS)):
        try:
            Cluster(seed).run()
        except Exception as exc:
            exc.add_note(f"replay it: {replay_command(seed)}")
            raise


def test_a_seed_is_the_same_run_every_time():
    first, second = ([], [])
    assert Cluster(7, first.append).run() == Cluster(7, second.append).run()
    assert first == second


@pytest.mark.timeout(300)  # a minute of a busy machine may be ten seconds of ours
def test_nothing_that_the_minds_must_survive_is_missing_from_these_seeds():
    seen = Tally()
    for seed in (*EVENTFUL, *range(SEEDS)):
        if all(seen[kind] for kind in Seen):
            break
        seen.update(run_seeds([seed]).tally)
    assert [kind.value for kind in Seen if not seen[kind]] == []
    assert len(table(seen).splitlines()) == len(Seen)


def test_a_failing_seed_prints_one_command_that_replays_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    def run(*words: str) -> str:
        monkeypatch.setattr(sys, "argv", ["python -m tests.sim", *words])
        assert main() == 1
        return capsys.readouterr().out

    (mutant,) = [each for each in MUTANTS if each.name == "loses what a lost node had not reported"]
    with sabotaged(mutant):
        swept = run("--seeds", "5", "--processes", "1")
        failure = re.search(r"seed (\d+): (.+)\n +replay it: python -m tests.sim (.+)", swept)
        assert failure is not None, swept
        seed, what, command = failure.groups()
        assert command == f"--seed {seed}"
        replayed = run(*command.split())
    assert what.split(": ")[1] in replayed
    assert "BatchArrived" in replayed  # with a trace


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_processes_share_the_seeds_and_find_what_one_would():
    alone = run_seeds(range(26))  # one more than a process takes at a time
    command = [sys.executable, "-m", "tests.sim", "--seeds", "26", "--processes", "2"]
    here = Path(__file__).parents[2]
    done = subprocess.run(command, cwd=here, capture_output=True, text=True, check=True)
    assert table(alone.tally) in done.stdout
    assert f"26 seeds, 0 failed, {alone.steps} steps" in done.stdout
