"""The pytest plugin: fixtures for tests of code that uses Goliath.

- ``goliath_inline``: calls are made in this process, strictly (see `goliath.testing.inline`).
- ``goliath_cluster``: a `LocalCluster` of two nodes with two workers each, for this test alone;
  other sizes by ``@pytest.mark.goliath_cluster(nodes=3, workers=1)``.

pytest finds it by itself. Nothing of Goliath but this file is loaded before a fixture is used.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from goliath.testing.cluster import LocalCluster

MARK = "goliath_cluster"


def pytest_configure(config: pytest.Config) -> None:
    """Make the mark known."""
    config.addinivalue_line(
        "markers", f"{MARK}(nodes=2, workers=2, env=None): the size of the fixture goliath_cluster"
    )


@pytest.fixture
def goliath_inline() -> Iterator[None]:
    """Calls are made at once, in this process, and pickled both ways all the same."""
    from goliath.testing import inline

    with inline():
        yield


@pytest.fixture
def goliath_cluster(request: pytest.FixtureRequest) -> Iterator[LocalCluster]:
    """Two real Lieutenants with two workers each, or as the mark says; for this test alone."""
    from goliath.testing import local_cluster

    mark = request.node.get_closest_marker(MARK)
    args, kwargs = (mark.args, mark.kwargs) if mark is not None else ((), {})
    with local_cluster(*args, **kwargs) as cluster:
        yield cluster
