"""What a Lieutenant tells of itself to whoever examines it (``goliath doctor``)."""

from __future__ import annotations

import platform

from goliath.clock import wall_time
from goliath.config import MIB
from goliath.machine import free_memory, total_memory
from goliath.transport.messages import Vitals
from goliath.transport.versions import package_versions

PROBE_MAX_BYTES = MIB


def vitals() -> Vitals:
    """Of this process and its machine, now."""
    system = platform.uname()
    return Vitals(
        python=platform.python_version(),
        platform=f"{system.system} {system.release} {system.machine}",
        packages=package_versions(),
        time_s=wall_time(),
        memory=total_memory(),
        memory_free=free_memory(),
    )
