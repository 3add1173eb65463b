"""Where am I? What running code may ask about itself (the term is Ray's).

::

    >>> import goliath
    >>> @goliath.remote
    ... def who():
    ...     context = goliath.get_runtime_context()
    ...     return context.task_id, context.attempt
    >>> ref = who.remote()
    >>> goliath.get(ref) == (ref.task_id, 1)
    True
    >>> goliath.get_runtime_context().task_id is None
    True
    >>> goliath.shutdown()
"""

from __future__ import annotations

from dataclasses import dataclass

from goliath.actors import inside, stage


@dataclass(frozen=True, slots=True)
class RuntimeContext:
    """The call that runs here, as it was when this was asked for.

    Attributes:
        task_id: as ``ObjectRef.task_id``; None where no call runs.
        node_id: as ``NodeInfo.node_id``; None in a process that is no worker.
        worker_id: number of the worker process on its node; None likewise.
        attempt: counts the assignments of the call's batch, from 1; 0 where no call runs.
        actor_id: of the actor whose method runs; None in a task.
        was_current_actor_reconstructed: whether that actor was restarted.
    """

    task_id: str | None = None
    node_id: str | None = None
    worker_id: int | None = None
    attempt: int = 0
    actor_id: str | None = None
    was_current_actor_reconstructed: bool = False

    def is_canceled(self) -> bool:
        """Whether the call that runs here now was cancelled; a long loop may ask and end early."""
        call = inside.host.running_call() if inside.host is not None else None
        return call is not None and call.cancelled

    def get_task_id(self) -> str | None:
        """Ray's spelling of `task_id`."""
        return self.task_id

    def get_node_id(self) -> str | None:
        """Ray's spelling of `node_id`."""
        return self.node_id

    def get_worker_id(self) -> int | None:
        """Ray's spelling of `worker_id`."""
        return self.worker_id

    def get_actor_id(self) -> str | None:
        """Ray's spelling of `actor_id`."""
        return self.actor_id


def get_runtime_context() -> RuntimeContext:
    """What runs here, and where; of a thread that a call has started, the call."""
    host = inside.host
    if host is None:
        return RuntimeContext()
    call = host.running_call()
    return RuntimeContext(
        call.task_id if call is not None else None,
        host.node,
        host.worker,
        call.attempt if call is not None else 0,
        stage.actor_id,
        stage.reconstructed,
    )
