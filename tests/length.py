"""How long the tests go on that search at random, or repeat.

In the test command each is as long as it takes to notice what it was written for; with
``GOLIATH_TEST_LONG=1`` as long as it takes to be sure.
"""

from __future__ import annotations

import os

LONG = os.environ.get("GOLIATH_TEST_LONG") == "1"


def length(short: int, long: int) -> int:
    """So many times."""
    return long if LONG else short
