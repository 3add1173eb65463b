"""A Lieutenant in the Commander's own loop: the same actor, over the in-memory channel.

No socket, no aiohttp, and two process hops fewer for every call. Zygote and workers are
child processes all the same, started by exec: never forked from the user's process.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from goliath.actors.installer import Installer
from goliath.actors.lieutenant import LieutenantActor
from goliath.actors.nursery import Nursery
from goliath.actors.occupancy import Occupancy
from goliath.actors.reception import SessionUp
from goliath.actors.system import ActorSystem, LocalRef
from goliath.actors.workshop import Workshop
from goliath.actors.zygote_process import ZygoteProcess
from goliath.config import NodeConfig, TransportConfig
from goliath.core.batch import MEMORY
from goliath.core.devices import GPU
from goliath.core.ids import SessionId
from goliath.core.node import Node, NodePolicy
from goliath.machine import gpu_ids, total_memory
from goliath.transport import memory
from goliath.transport.channel import Channel
from goliath.transport.private_files import cache_directory


def node_policy(
    config: NodeConfig,
    tasks_per_worker_max: int | None = None,
    bytes_per_worker_max: int | None = None,
    spill_bytes: int = 0,
) -> NodePolicy:
    """What of the configuration decides something."""
    return NodePolicy(
        config.cancel_grace_s,
        config.parked_max_s,
        config.starved_after_s,
        config.restart_max,
        config.restart_window_s,
        tasks_per_worker_max,
        config.waiting_max,
        depot_bytes=config.depot_bytes,
        spill_bytes=spill_bytes,
        pause_share=config.memory_pause_share,
        refuse_share=config.memory_refuse_share,
        bytes_per_worker_max=bytes_per_worker_max,
    )


MEMORY_SHARE = 0.7
"""Of the machine's memory, what calls may reserve: the rest is the system's and the user's."""


def node_resources(
    devices: Sequence[str], memory: int | None = None, others: Mapping[str, float] | None = None
) -> dict[str, float]:
    """What a node offers beside slots; ``memory`` are bytes, by default 70 % of all."""
    if memory is None:
        memory = int(MEMORY_SHARE * total_memory())
    resources = {**(others or {}), MEMORY: float(memory)}
    if devices:
        resources[GPU] = float(len(devices))
    return resources


def node_installer(config: NodeConfig) -> Installer:
    """Who installs packages for jobs: into the cache of this user, so they are there next time."""
    return Installer(cache_directory() / "venvs", config.install_max_s, config.venvs_kept)


ARENA_SHARE = 0.75
"""Of what memory there is for workers, what blocks in arenas may take, if nobody says. Most of it
is not used most of the time, and what is used would be in some heap otherwise."""


def arena_bytes(config: NodeConfig, *limits: int | None) -> int:
    """What shared memory may take on this node, where ``limits`` are what its workers may have:
    the kernel counts a result to those of its session for as long as anybody looks at it."""
    if config.arena_bytes >= 0:
        return config.arena_bytes
    return int(ARENA_SHARE * min([total_memory(), *filter(None, limits)]))


class EmbeddedLieutenant:
    """Made and closed in the loop's thread.

    Attributes:
        resources: what it offers beside slots.
    """

    def __init__(self, slots: int, config: NodeConfig) -> None:
        self._workshop = Workshop(config.store_bytes, installer=node_installer(config))
        self._nursery = Nursery(config, self._on_zygote_exit)
        devices = gpu_ids()
        self.resources = node_resources(devices)
        most = config.node_memory_bytes
        occupancy = Occupancy(most if most > 0 else total_memory())
        mind = Node(slots, self.resources, node_policy(config), devices)
        self._actor = LieutenantActor(
            mind,
            self._nursery,
            self._workshop,
            occupancy=occupancy,
            arena_bytes=arena_bytes(config),
            shares=True,
        )
        self._ref: LocalRef | None = None

    async def start(self, system: ActorSystem, zygote: ZygoteProcess | None = None) -> Channel:
        """Begin, with a zygote if there is one already; the Commander's end of the channel."""
        await self._nursery.start(zygote)
        self._ref = system.spawn(lambda: self._actor, "lieutenant")
        ours, theirs = memory.pair(TransportConfig.from_environ())
        self._ref.tell(SessionUp(SessionId("embedded"), ours))
        return theirs

    def _on_zygote_exit(self) -> None:
        self._actor.zygote_died()

    async def close(self) -> None:
        """End every process and remove every file; the actor must have been stopped."""
        await self._nursery.close()
        self._workshop.close()
