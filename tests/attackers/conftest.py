"""Real Lieutenants to attack."""

from __future__ import annotations

from tests.e2e.conftest import lieutenant, node, other, quick_timers

__all__ = ["lieutenant", "node", "other", "quick_timers"]
