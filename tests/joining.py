"""Nodes that dial out: ``python -m goliath.lieutenant --join``."""

from __future__ import annotations

import re
from typing import Any, Self

from goliath.testing.node import START_S
from goliath.testing.processes import until
from tests.lieutenants import Lieutenant

JOINED = re.compile(r"^goliath lieutenant joined (\S+), (\d+) workers?, pid (\d+)$", re.M)


class JoinedNode(Lieutenant):
    """One that dials ``url``; ``with`` waits until it has joined."""

    def __init__(self, url: str, workers: int | None = 2, *flags: str, **options: Any) -> None:
        self.url = url
        super().__init__(workers, *flags, **options)

    def _place(self) -> list[str]:
        return ["--join", self.url]

    def joins(self) -> int:
        """How often it has joined."""
        return len(JOINED.findall(self.out))

    def wait_joined(self, times: int = 1, within: float = START_S) -> Self:
        until(
            lambda: self.joins() >= times or self.process.poll() is not None,
            within,
            f"joined {times} times",
        )
        assert self.joins() >= times, f"exit code {self.process.poll()}\n{self.out}\n{self.err}"
        return self

    def wait_ready(self) -> Self:
        return self.wait_joined()
