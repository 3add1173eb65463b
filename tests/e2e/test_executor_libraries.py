"""`Executor` in the hands of those who take an executor: asyncio, dask, scipy."""

from __future__ import annotations

import asyncio
import os

import dask
import numpy as np
import pytest
from scipy import optimize

from goliath import Executor
from tests.e2e.calls import add, fail

# -- asyncio ---------------------------------------------------------------------------


async def test_asyncio_runs_calls_in_it(executor: Executor) -> None:
    loop = asyncio.get_running_loop()
    assert await loop.run_in_executor(executor, add, 1, 2) == 3
    assert await loop.run_in_executor(executor, os.getpid) != os.getpid()
    with pytest.raises(ValueError, match="bad 1"):
        await loop.run_in_executor(executor, fail, 1)


async def test_asyncio_gathers_many_calls(executor: Executor) -> None:
    loop = asyncio.get_running_loop()
    calls = [loop.run_in_executor(executor, add, n, 1) for n in range(200)]
    assert await asyncio.gather(*calls) == list(range(1, 201))


async def test_asyncio_wraps_its_futures(executor: Executor) -> None:
    assert await asyncio.wrap_future(executor.submit(add, 1, 2)) == 3


async def test_cancelling_a_wrapped_future_cancels_a_call_that_was_not_sent(
    executor: Executor,
) -> None:
    def doze(_):
        import time

        time.sleep(0.002)

    futures = [executor.submit(doze, n) for n in range(200)]
    wrapped = asyncio.wrap_future(futures[-1])
    wrapped.cancel()
    with pytest.raises(asyncio.CancelledError):
        await wrapped
    await asyncio.sleep(0)  # asyncio passes it on in a turn of its own
    assert futures[-1].cancelled()
    await asyncio.gather(*map(asyncio.wrap_future, futures[:-1]))


# -- dask ------------------------------------------------------------------------------


def test_dask_computes_on_it(executor: Executor) -> None:
    @dask.delayed
    def square(n: int) -> tuple[int, int]:
        return n * n, os.getpid()

    @dask.delayed
    def total(squares: list[tuple[int, int]]) -> tuple[int, set[int]]:
        return sum(value for value, _ in squares), {pid for _, pid in squares}

    (value, pids), again = dask.compute(
        total([square(n) for n in range(30)]), square(7)[0], scheduler=executor
    )
    assert (value, again) == (sum(n * n for n in range(30)), 49)
    assert os.getpid() not in pids


def test_an_exception_of_a_dask_task_arrives_in_its_own_class(executor: Executor) -> None:
    with pytest.raises(ValueError, match="bad 3"):
        dask.compute(dask.delayed(fail)(3), scheduler=executor)


# -- scipy -----------------------------------------------------------------------------


class Counting:
    """An objective with a state of its own."""

    def __init__(self, centre: float) -> None:
        self.centre = centre

    def __call__(self, point: np.ndarray) -> float:
        return float(((np.asarray(point) - self.centre) ** 2).sum())


def test_scipy_maps_a_differential_evolution_over_it(executor: Executor) -> None:
    def evolve(workers: object) -> optimize.OptimizeResult:
        return optimize.differential_evolution(
            optimize.rosen,
            [(-2, 2), (-2, 2)],
            rng=1,
            maxiter=5,
            polish=False,
            updating="deferred",
            workers=workers,
        )

    here, there = evolve(map), evolve(executor.map)
    assert (here.x == there.x).all()
    assert here.nfev == there.nfev


def test_scipy_searches_a_grid_on_it_with_the_objective_as_it_is_now(executor: Executor) -> None:
    objective = Counting(0.0)
    for centre in (1.0, -1.0):
        objective.centre = centre
        found = optimize.brute(
            objective, [slice(-2, 2.5, 0.5)] * 2, finish=None, workers=executor.map
        )
        assert found.tolist() == [centre, centre]
