"""The examples in docstrings run, and show what they say."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
from types import ModuleType

import pytest

import goliath


def examples() -> list[doctest.DocTest]:
    """Of every module, as if they stood in a script of the user's."""
    found = []
    for info in pkgutil.walk_packages(goliath.__path__, "goliath."):
        if info.name.endswith("__main__"):
            continue
        module: ModuleType = importlib.import_module(info.name)
        found += doctest.DocTestFinder().find(module, globs={"__name__": "__main__"})
    return [test for test in found if test.examples]


@pytest.mark.parametrize("example", examples(), ids=lambda example: example.name)
def test_a_docstring_tells_the_truth(example: doctest.DocTest):
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    try:
        result = runner.run(example)
    finally:
        goliath.shutdown()
    assert result.attempted > 0
    assert result.failed == 0
