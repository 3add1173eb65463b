"""What the minds of this process had been told when a test failed: a failure may be seen once, on
somebody else's machine, and say no more than that nothing came."""

from __future__ import annotations

import gc
from collections.abc import Generator
from typing import Any

import pytest

from goliath.core.observation import Journal

MINDS = 4  # the last that were told anything
LINES = 60  # of each
WIDTH = 250


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add the ends of their journals to the report of a failure."""
    report = yield
    if report.failed:
        report.sections += [("what a mind was told last", text) for text in _ends()]
    return report


def _ends() -> list[str]:
    journals: list[Journal[Any]] = [each for each in gc.get_objects() if type(each) is Journal]
    told = [list(journal) for journal in journals]
    latest = sorted((entries for entries in told if entries), key=lambda entries: entries[-1][0])
    return [
        "\n".join(f"{now:.6f} {event!r}"[:WIDTH] for now, event in entries[-LINES:])
        for entries in latest[-MINDS:]
    ]
