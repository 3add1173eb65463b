"""The node command, for tests: it ends with the process that has started it.

A test run that is killed cannot stop its Lieutenants. But it holds the other end of their standard
input, and that ends with it.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Sequence

from goliath import lieutenant

GRACE_S = 5.0
"""For the Lieutenant to end by itself."""


def main(argv: Sequence[str] | None = None) -> int:
    """See `goliath.lieutenant.main`."""
    threading.Thread(target=_end_with_parent, name="goliath-guard", daemon=True).start()
    return lieutenant.main(argv, "python -m goliath.testing.guarded")


def _end_with_parent() -> None:
    while os.read(0, 64):
        continue
    for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGKILL):  # drain, end, and no asking
        os.kill(os.getpid(), number)
        time.sleep(GRACE_S)


if __name__ == "__main__":
    sys.exit(main())
