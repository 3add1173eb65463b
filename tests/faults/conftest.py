"""What the tests of faults can ask for: the nodes and Commanders of the end-to-end tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.conftest import cmdr, commander, lieutenant, node, other, quick_timers, script
from tests.faults.promises import Journal, Strikes

__all__ = ["cmdr", "commander", "lieutenant", "node", "other", "quick_timers", "script"]


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    """What the calls of this test write down of themselves."""
    return Journal(tmp_path)


@pytest.fixture
def strikes() -> Strikes:
    """Counts the faults of this test."""
    return Strikes()
