"""Real Lieutenants to attack."""

from __future__ import annotations

from tests.e2e.conftest import lieutenant, quick_timers

__all__ = ["lieutenant", "quick_timers"]
