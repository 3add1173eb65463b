"""Goliath: offload sets of Python calls to pools of remote worker processes.

Importing it is cheap: every public name is loaded when it is first used (PEP 562), so
neither asyncio nor aiohttp comes along before a Commander is made.
"""

from __future__ import annotations

TYPE_CHECKING = False  # importing typing would take longer than all the rest
if TYPE_CHECKING:
    from goliath.actor_class import (
        Actor as Actor,
        exit_actor as exit_actor,
        get_actor as get_actor,
        kill as kill,
        method as method,
    )
    from goliath.actors.handles import ActorHandle as ActorHandle
    from goliath.actors.kin import ActorEnd as ActorEnd
    from goliath.actors.monitor import Monitor as Monitor
    from goliath.actors.node_info import NodeInfo as NodeInfo, RunningCall as RunningCall
    from goliath.actors.object_ref import ObjectRef as ObjectRef
    from goliath.actors.printing import OutputLine as OutputLine
    from goliath.actors.ref_generator import ObjectRefGenerator as ObjectRefGenerator
    from goliath.actors.ref_list import RefList as RefList
    from goliath.actors.sightings import ActorInfo as ActorInfo
    from goliath.actors.task import (
        NodeAffinitySchedulingStrategy as NodeAffinitySchedulingStrategy,
    )
    from goliath.commander import Commander as Commander
    from goliath.errors import (
        ActorDiedError as ActorDiedError,
        ActorUnavailableError as ActorUnavailableError,
        AuthenticationError as AuthenticationError,
        CheckpointError as CheckpointError,
        ConnectionError as ConnectionError,  # noqa: A004 - as promised in the public contract
        DeadlineExceededError as DeadlineExceededError,
        DeadlockError as DeadlockError,
        GetTimeoutError as GetTimeoutError,
        GoliathError as GoliathError,
        NodeDiedError as NodeDiedError,
        NodeFullError as NodeFullError,
        ObjectLostError as ObjectLostError,
        OutOfMemoryError as OutOfMemoryError,
        PendingCallsLimitExceeded as PendingCallsLimitExceeded,
        ProtocolError as ProtocolError,
        RemoteTraceback as RemoteTraceback,
        RuntimeEnvSetupError as RuntimeEnvSetupError,
        SerializationError as SerializationError,
        SupervisionError as SupervisionError,
        TaskCancelledError as TaskCancelledError,
        TaskError as TaskError,
        TaskTimeoutError as TaskTimeoutError,
        VersionMismatchError as VersionMismatchError,
        WorkerCrashedError as WorkerCrashedError,
    )
    from goliath.executor import Executor as Executor
    from goliath.refs import (
        as_completed as as_completed,
        cancel as cancel,
        get as get,
        put as put,
        wait as wait,
    )
    from goliath.remote_function import RemoteFunction as RemoteFunction, remote as remote
    from goliath.runtime import (
        available_resources as available_resources,
        cluster_resources as cluster_resources,
        init as init,
        is_initialized as is_initialized,
        nodes as nodes,
        shutdown as shutdown,
    )
    from goliath.runtime_context import (
        RuntimeContext as RuntimeContext,
        get_runtime_context as get_runtime_context,
    )
    from goliath.supervision import (
        Supervisor as Supervisor,
        link as link,
        monitor as monitor,
        unlink as unlink,
    )

__version__ = "1.0.0.dev0"

_ERRORS = (
    "ActorDiedError",
    "ActorUnavailableError",
    "AuthenticationError",
    "CheckpointError",
    "ConnectionError",
    "DeadlineExceededError",
    "DeadlockError",
    "GetTimeoutError",
    "GoliathError",
    "NodeDiedError",
    "NodeFullError",
    "ObjectLostError",
    "OutOfMemoryError",
    "PendingCallsLimitExceeded",
    "ProtocolError",
    "RemoteTraceback",
    "RuntimeEnvSetupError",
    "SerializationError",
    "SupervisionError",
    "TaskCancelledError",
    "TaskError",
    "TaskTimeoutError",
    "VersionMismatchError",
    "WorkerCrashedError",
)

_HOMES = {
    "ActorEnd": "goliath.actors.kin",
    "ActorHandle": "goliath.actors.handles",
    "ActorInfo": "goliath.actors.sightings",
    **dict.fromkeys(("Actor", "exit_actor", "get_actor", "kill", "method"), "goliath.actor_class"),
    "Commander": "goliath.commander",
    "Executor": "goliath.executor",
    "Monitor": "goliath.actors.monitor",
    "NodeAffinitySchedulingStrategy": "goliath.actors.task",
    **dict.fromkeys(("NodeInfo", "RunningCall"), "goliath.actors.node_info"),
    "ObjectRef": "goliath.actors.object_ref",
    "ObjectRefGenerator": "goliath.actors.ref_generator",
    "OutputLine": "goliath.actors.printing",
    "RefList": "goliath.actors.ref_list",
    **dict.fromkeys(("as_completed", "cancel", "get", "put", "wait"), "goliath.refs"),
    **dict.fromkeys(("RemoteFunction", "remote"), "goliath.remote_function"),
    **dict.fromkeys(
        (
            "available_resources",
            "cluster_resources",
            "init",
            "is_initialized",
            "nodes",
            "shutdown",
        ),
        "goliath.runtime",
    ),
    **dict.fromkeys(("Supervisor", "link", "monitor", "unlink"), "goliath.supervision"),
    **dict.fromkeys(("RuntimeContext", "get_runtime_context"), "goliath.runtime_context"),
    **dict.fromkeys(_ERRORS, "goliath.errors"),
}

__all__ = ["__version__", *sorted(_HOMES)]


def __getattr__(name: str) -> object:
    if name == "util":
        from importlib import import_module

        return import_module("goliath.util")
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'goliath' has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(home), name)
    # Users import it from here, so that is what tracebacks and pickles should say.
    value.__module__ = "goliath"
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
