"""How long it takes until a silence is noticed, a session lost: a test's time, or the real one.

With ``GOLIATH_TEST_REAL_TIMERS=1`` the tests of links, nodes and Commanders run with the timers
that users have, and take some twenty minutes.
"""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from tests.lieutenants import REAL_TIMERS


@dataclass(frozen=True, slots=True)
class Pace:
    """What the timers promise.

    Attributes:
        noticed_s: a silent link is cut after this at the latest.
        kept_s: a session is certainly alive for so long after the last frame.
        killed_s: the work of a silent Commander is dead after this.
        lost_s: a session is given up after this, and its calls have moved.
        silence_s: without a sign of life, a link is cut.
        speed: how many times faster than real this is.
    """

    noticed_s: float
    kept_s: float
    killed_s: float
    lost_s: float
    silence_s: float
    speed: float


REAL = Pace(noticed_s=20.0, kept_s=55.0, killed_s=65.0, lost_s=95.0, silence_s=15.0, speed=1.0)
QUICK = Pace(noticed_s=3.0, kept_s=2.0, killed_s=5.0, lost_s=9.0, silence_s=1.5, speed=10.0)

PACE = REAL if REAL_TIMERS else QUICK
at_this_pace = pytest.mark.timeout(60 * PACE.lost_s / QUICK.lost_s)
