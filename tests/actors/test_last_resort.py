"""What is logged in a program that has not configured logging."""

from __future__ import annotations

import subprocess
import sys

import pytest

SCRIPT = """
import logging, sys
from goliath import Commander
{configured}
with Commander(workers=1) as commander:
    commander.run(abs, [(-1,)])
    logging.getLogger("goliath.lieutenant").warning("%s of memory are used", "All")
    logging.getLogger("another").warning("bare")
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("configured", "told"),
    [
        ("", ["goliath: All of memory are used", "bare"]),
        (
            "logging.basicConfig(format='%(name)s says %(message)s')",
            ["goliath.lieutenant says All of memory are used", "another says bare"],
        ),
        ("logging.getLogger('goliath').addHandler(logging.NullHandler())", ["bare"]),
    ],
)
def test_it_has_a_name_before_it_unless_the_user_has_a_handler(configured: str, told: list[str]):
    run = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(configured=configured)],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert run.stderr.splitlines() == told
