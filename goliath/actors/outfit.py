"""What a worker process is forked with, by the environment of its job."""

from __future__ import annotations

import os

from goliath.actors.spec import WorkerSpec
from goliath.actors.tenancy import Tenancy
from goliath.actors.tenant import Environment
from goliath.core import node_events as nd
from goliath.machine import VISIBLE_DEVICES

THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
SECRET_PREFIX = "GOLIATH_TOKEN"


def outfit(
    command: nd.Fork,
    environment: Environment,
    cwd: str,
    tenancy: Tenancy | None,
    *,
    has_devices: bool,
) -> WorkerSpec:
    """That of one worker.

    Args:
        environment: of its job, all there.
        cwd: the current directory of its calls.
        tenancy: its part of the session's arena; None: it has none.
        has_devices: whether the node has any, of which a worker sees only those it was given.
    """
    said, packages = environment.message, environment.packages
    variables: dict[str, str | None] = {
        name: None for name in os.environ if name.startswith(SECRET_PREFIX)
    }
    for name in THREAD_VARIABLES:
        if name not in os.environ:
            variables[name] = str(said.threads)
    if has_devices:
        variables[VISIBLE_DEVICES] = ""
    if packages is not None:
        variables["VIRTUAL_ENV"] = str(packages.root)
        path = os.environ.get("PATH", os.defpath)
        variables["PATH"] = f"{packages.root / 'bin'}{os.pathsep}{path}"
    variables.update(said.variables)
    if command.devices:
        variables[VISIBLE_DEVICES] = ",".join(command.devices)
    return WorkerSpec(
        cwd,
        [str(environment.directory)] if environment.directory else [],
        said.sys_path,
        variables,
        said.initializer,
        said.node,
        command.worker,
        command.actor,
        str(environment.library or ""),
        site=list(packages.site) if packages is not None else [],
        arena=[] if tenancy is None else list(tenancy.arena.limits),
        region=0 if tenancy is None else tenancy.region,
    )
