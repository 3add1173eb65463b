"""Looking at real processes: what Goliath gives its users for that is what its own tests use."""

from goliath.actors.spare import NAME as SPARE
from goliath.testing.processes import (
    PROC,
    Seen,
    alive,
    descendants,
    kill,
    living,
    look,
    marked,
    until,
)

__all__ = ["Seen", "alive", "descendants", "is_spare", "kill", "living", "look", "marked", "until"]


def is_spare(seen: Seen) -> bool:
    """Whether it belongs to a zygote, which replaces it when it likes and ends it at the end."""
    try:
        lines = (PROC / str(seen.pid) / "status").read_text().splitlines()
        status = dict(line.split(":\t", 1) for line in lines)
        parent = (PROC / status["PPid"] / "comm").read_text().strip()
    except OSError:
        return False
    return status["Name"] == SPARE and parent == "goliath-zygote"
