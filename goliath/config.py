"""Every number that can be turned, with its unit in its name and its reason beside it.

Each knob can be set in the environment as ``GOLIATH_`` and its name in capitals
(``GOLIATH_PING_INTERVAL_S=0.2``): that is how the tests shorten the timers of real
processes, and how an operator adapts them to an unusual network.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import fields
from typing import Self

from goliath.record import frozen

KIB = 1024
MIB = 1024 * KIB


@frozen
class _Knobs:
    @classmethod
    def from_environ(cls, environ: Mapping[str, str] | None = None) -> Self:
        """The defaults, changed by whatever ``GOLIATH_*`` says.

        Raises:
            ValueError: a value is not a number; the message names the variable.
        """
        environ = os.environ if environ is None else environ
        chosen: dict[str, float] = {}
        for knob in fields(cls):
            name = f"GOLIATH_{knob.name.upper()}"
            text = environ.get(name)
            if text is None:
                continue
            try:
                chosen[knob.name] = int(text) if knob.type == "int" else float(text)
            except ValueError:
                raise ValueError(f"{name}={text!r} is not a number; unset it or give one") from None
        return cls(**chosen)


@frozen
class TransportConfig(_Knobs):
    """Sessions, frames and the door of a Lieutenant."""

    handshake_max_s: float = 5.0  # the whole login; a slow link needs four one-way trips
    handshake_message_max_bytes: int = KIB  # before login nobody may send more
    unauthenticated_max_bytes: int = 16 * KIB  # ... and no more in all, with the HTTP headers
    unauthenticated_max: int = 64  # connections that have not logged in, in all
    unauthenticated_per_address_max: int = 8  # the /64 of an IPv6 address counts as one
    descriptor_reserve: int = 64  # of the node's, that strangers do not get (at most an eighth)
    joined_max: int = 256  # nodes that have dialed in and wait, of one token; 4096 at most
    failures_per_minute_max: int = 10  # bad logins of one address before it has to wait
    refusal_delay_s: float = 0.25  # every refused login takes this long
    ping_interval_s: float = 5.0
    silence_max_s: float = 15.0  # three pings unanswered: the link is dead, cut it
    session_kill_s: float = 60.0  # the Lieutenant kills a silent Commander's work after this
    session_lost_s: float = 75.0  # the Commander gives a silent session up after this, and not
    # before 1.25 x the session_kill_s of that Lieutenant, or one call could have two owners
    reconnect_min_s: float = 0.1
    reconnect_max_s: float = 5.0  # full jitter between the two
    connect_timeout_s: float = 5.0
    unacked_max_bytes: int = 64 * MIB  # each way; then the sender's sources are not read
    message_max_bytes: int = 16 * 1024 * MIB  # one message, gathered from its chunks in memory; no
    # more than half of the Lieutenant's memory, whatever this says
    ack_frames: int = 64  # acknowledge at least so often if there is nothing to send ...
    ack_bytes: int = MIB  # ... or after so many bytes, so that the sender may forget them
    chunk_bytes: int = 120 * KIB  # with its header just below where malloc turns to mmap
    compress_below_bytes_s: float = 125e6  # a link that takes less, 1 Gbit/s, is worth the time to
    # compress what goes there, if both ends can; 0: none is. Never within a machine.
    tcp_user_timeout_s: float = 20.0  # the kernel's own limit for unacknowledged bytes


@frozen
class NodeConfig(_Knobs):
    """A Lieutenant and its worker processes."""

    cancel_grace_s: float = 4.0  # interrupted first, killed after this
    parked_max_s: float = 60.0  # an idle worker process is kept this long for its session
    parked_keep: int = 0  # ... and this many for ever (0: as many as there are slots)
    starved_after_s: float = 1.0  # a session that got nothing for so long may oversubscribe by one
    drain_timeout_s: float = 30.0
    restart_max: int = 5  # workers of one environment that die at start ...
    restart_window_s: float = 10.0  # ... within so long: the environment is broken
    waiting_max: int = 512  # calls that may wait for others at once: each holds a process
    stderr_tail_bytes: int = 4 * KIB  # of a crashed worker's last words
    store_bytes: int = 1024 * MIB  # of files that jobs have sent, kept for the next ones
    install_max_s: float = 900.0  # for the packages of one job; a build from source takes minutes
    venvs_kept: int = 16  # environments of packages that nobody uses
    depot_bytes: int = 1024 * MIB  # big results that stay on the node; in memory
    spill_bytes: int = -1  # ... what memory has no room for is kept on disk (-1: half of what is
    # free there, at most 64 GiB; 0: nothing is, and what memory has no room for is sent)
    node_memory_bytes: int = -1  # what a node may have in all (-1: what the machine, or the
    # container, can spare). Of this ...
    memory_pause_share: float = 0.8  # ... above so much nothing new begins (1: it always does)
    memory_refuse_share: float = 0.95  # ... and above so much nothing big is taken on
    arena_bytes: int = -1  # shared memory for big values (-1: 3/4 of what workers may have)


@frozen
class ActorConfig(_Knobs):
    """The lives of actors."""

    actor_restarts_max: int = 20  # of one actor ...
    actor_restart_window_s: float = 10.0  # ... within so long, whatever its max_restarts: one that
    # dies as soon as it is made would be made a hundred times a second, else


@frozen
class SchedulingConfig(_Knobs):
    """How a Commander cuts and spreads calls."""

    target_fast_s: float = 0.030  # worker time of one batch while a call takes under 10 µs
    linger_s: float = 0.1  # ... and beyond; also how long a finished result may wait to be reported
    linger_watched_s: float = 0.010  # ... where somebody takes them as they come
    batch_calls_max: int = 65_536
    batch_bytes_max: int = MIB
    window_bytes: int = 64 * MIB  # payload of one node's batches; beyond, only idle slots get some
    keepsake_bytes: int = 256 * MIB  # big buffers of calls that were made, remembered in case that
    # others take the same; none is bigger than this; 0: equal ones are sent again and again
    placement_warning_s: float = 1.0  # no connected node can ever run it: said after this ...
    placement_timeout_s: float = 5.0  # ... and an error after this
