"""What the minds of this process had been told when a test failed: a failure may be seen once, on
somebody else's machine, and say no more than that nothing came."""

from __future__ import annotations

import gc
from collections.abc import Generator
from operator import itemgetter
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
    told = [(entries[-1][0], journal) for journal in journals if (entries := list(journal))]
    latest = sorted(told, key=itemgetter(0))[-MINDS:]
    texts = [journal.text().splitlines() for _, journal in latest]
    return ["\n".join(line[:WIDTH] for line in lines[-LINES:]) for lines in texts]
