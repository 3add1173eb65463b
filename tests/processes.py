"""Looking at real processes: what Goliath gives its users for that is what its own tests use."""

from goliath.testing.processes import Seen, alive, descendants, kill, living, look, marked, until

__all__ = ["Seen", "alive", "descendants", "kill", "living", "look", "marked", "until"]
