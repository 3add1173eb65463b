"""Real Lieutenants in processes of their own: what Goliath's users have for their tests, with no
warning allowed. The interpreter has been there before (`tests.forge`), unless ``launcher`` says
what to run, such as `COMMAND`, the very command of users."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

from goliath.testing.node import MARK, QUICK_TIMERS, READY, Node
from tests.forge import Popen

__all__ = ["COMMAND", "MARK", "READY", "REAL_TIMERS", "TIMERS", "Lieutenant", "command"]

REAL_TIMERS = os.environ.get("GOLIATH_TEST_REAL_TIMERS") == "1"
"""Whether the tests run with the timers that users have, which takes long."""

COMMAND = ("-m", "goliath.lieutenant")

TIMERS: Mapping[str, str] = {} if REAL_TIMERS else QUICK_TIMERS


class Lieutenant(Node):
    """One that has been started when it is made."""

    def __init__(
        self,
        workers: int | None = 2,
        *flags: str,
        launcher: tuple[str, ...] = (),
        inside: tuple[str, ...] = (),
        **options: Any,
    ) -> None:
        if not launcher and not inside:
            self._popen = Popen
        flagged = ("-W", "error", *(launcher or COMMAND))
        super().__init__(workers, *flags, launcher=flagged, inside=inside, timers=TIMERS, **options)
        self.start()


def command(
    *arguments: str, module: str = "goliath.lieutenant", said: str = ""
) -> subprocess.CompletedProcess[str]:
    """Run a command of Goliath's to its end, with warnings as errors; ``said`` is its stdin."""
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", module, *arguments],
        input=said,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
