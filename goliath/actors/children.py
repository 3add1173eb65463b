"""The Lieutenant's children under supervision: its worker processes and the zygote."""

from __future__ import annotations

from collections.abc import Callable

from goliath.actors.process import Process
from goliath.actors.supervisor import Lifetime
from goliath.core.ids import WorkerId
from goliath.errors import LocalError


class WorkerChild:
    """A worker process as a child under supervision."""

    lifetime = Lifetime.TEMPORARY

    def __init__(self, worker: WorkerId, process: Process) -> None:
        self.name = f"worker {worker}"
        self.worker = worker
        self.process = process

    def stop(self) -> None:
        """See `Child.stop`."""
        self.process.kill()

    def restart(self) -> None:
        """Temporary children are not restarted."""
        raise LocalError(f"{self.name} is temporary")


class ZygoteChild:
    """The zygote as a child: its death costs nothing but the ability to fork, for a moment."""

    lifetime = Lifetime.PERMANENT
    name = "zygote"

    def __init__(self, start: Callable[[], None], ended: Callable[[ZygoteChild], None]) -> None:
        self._start = start
        self._ended = ended

    def stop(self) -> None:
        """See `Child.stop`. The process stays to bury the workers; the nursery ends it then."""
        self._ended(self)

    def restart(self) -> None:
        """See `Child.restart`."""
        self._start()
