"""Which deaths of workers are laid at the kernel's door."""

from __future__ import annotations

from pathlib import Path

import pytest

from goliath.actors.memory_gauge import EXPLAINS_S, MemoryGauge
from tests.actors.workshop import workshop


class Kernel:
    """A control group and a clock."""

    def __init__(self, folder: Path) -> None:
        self.time = 100.0
        self._file = folder / "memory.events"
        self.killed = 0
        self.kill(7)  # before anybody looked
        self.gauge = MemoryGauge([folder], lambda: self.time)

    def kill(self, count: int = 1) -> None:
        self.killed += count
        self._file.write_text(f"max 9\noom_kill {self.killed}\n")


@pytest.fixture
def kernel(tmp_path: Path) -> Kernel:
    return Kernel(tmp_path)


def test_each_kill_explains_one_death_and_those_before_its_time_none(kernel: Kernel):
    assert not kernel.gauge.explains_a_kill()
    kernel.kill(2)
    assert [kernel.gauge.explains_a_kill() for _ in range(3)] == [True, True, False]


def test_a_kill_that_struck_what_a_worker_had_started_does_not_explain_a_later_death(
    kernel: Kernel,
):
    kernel.kill()
    kernel.gauge.look()
    kernel.time += EXPLAINS_S + 0.001
    assert not kernel.gauge.explains_a_kill()
    kernel.kill()
    kernel.gauge.look()
    kernel.time += EXPLAINS_S
    assert kernel.gauge.explains_a_kill(), "the dead had much memory to be freed"


@pytest.mark.slow
async def test_it_looks_while_there_are_workers_and_not_otherwise():
    async with workshop() as shop:
        assert shop.nursery._look is None
        process = await shop.fork()
        assert shop.nursery._look is not None
        process.kill()
        await shop.owner.exit_of(process)
        assert shop.nursery._look is None
