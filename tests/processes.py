"""Looking at real processes: what Goliath gives its users for that is what its own tests use."""

from goliath.testing.processes import (
    PROC,
    Seen,
    alive,
    descendants,
    is_spare,
    kill,
    living,
    look,
    marked,
    until,
)

__all__ = [
    "PROC",
    "Seen",
    "alive",
    "descendants",
    "is_spare",
    "kill",
    "living",
    "look",
    "marked",
    "until",
]
