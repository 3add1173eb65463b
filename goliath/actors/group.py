"""Actors of the user's that live and die together, under one supervisor of the runtime's."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from goliath.actors.bell import ThreadBell
from goliath.actors.kin import ActorEnd
from goliath.actors.portal import PortalClosedError, Poster
from goliath.actors.supervisor import Child, Exit, Strategy, Supervisor
from goliath.clock import BootClock
from goliath.core.policy import RestartIntensity

if TYPE_CHECKING:
    from goliath.actors.user_actor import UserActor

SHUTDOWN_MAX_S = 5.0
"""What a member that is to end may take for the calls that were made. (The number is Erlang's.)"""


class Group:
    """See `goliath.Supervisor`.

    Args:
        name: what messages call it.
        strategy: who is restarted with whom.
        intensity: how many restarts are bearable.
        portal: the way into the loop's thread.

    Attributes:
        supervisor: belongs to the loop's thread.
        failure: why it gave up, if it did.
    """

    def __init__(
        self, name: str, strategy: Strategy, intensity: RestartIntensity, portal: Poster
    ) -> None:
        self.portal = portal
        self.failure: BaseException | None = None
        self._members: list[UserActor] = []  # in the order in which they were started
        self.supervisor = Supervisor(
            name,
            on_exit=self._on_exit,
            escalate=self._give_up,
            now=BootClock().now,
            intensities=(intensity,),
            strategy=strategy,
        )

    # -- in the loop's thread ------------------------------------------------------------

    def enter(self, member: UserActor) -> None:
        """One more, which the supervisor takes in when it is made."""

        def leave(_end: ActorEnd) -> None:
            self._members.remove(member)

        self._members.append(member)
        member.kin.watch(leave)

    def _on_exit(self, child: Child, exit: Exit) -> None:  # noqa: A002 - Erlang's word
        for member in list(self._members):
            if member is child:
                member.end(exit.error)

    def _give_up(self, error: BaseException) -> None:
        self.failure = error
        self.supervisor.retire()
        for member in reversed(list(self._members)):
            member.abandon(error)

    # -- in the user's threads -----------------------------------------------------------

    def finish(self, member: UserActor) -> None:
        """End a member after the calls that were made; waits for that."""
        ended = ThreadBell()
        with suppress(PortalClosedError):  # then it has ended, with everything
            self.portal.post(self.supervisor.release, member)
            member.watch(lambda _end: ended.ring())
            self.portal.post(member.finish)
            if not ended.wait(SHUTDOWN_MAX_S):
                self.portal.post(member.expire, SHUTDOWN_MAX_S)
                ended.wait(SHUTDOWN_MAX_S)

    def close(self) -> None:
        """End all members, the youngest first, each when the one before has ended."""
        with suppress(PortalClosedError):
            self.portal.post(self.supervisor.retire)
            for member in reversed(list(self._members)):
                self.finish(member)
