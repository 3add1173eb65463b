"""Who hears of the end of an actor, and who ends with it."""

from __future__ import annotations

from goliath.actors.kin import ActorEnd, Kin
from goliath.errors import ActorDiedError

DEATH = ActorEnd("actor-1", "One", "", ActorDiedError("it died"))
GOOD = ActorEnd("actor-1", "One", "")


class Someone:
    """Dies of whatever a linked one dies of."""

    def __init__(self) -> None:
        self.struck: list[ActorEnd] = []
        self.kin = Kin(self.strike)

    def strike(self, end: ActorEnd) -> None:
        self.struck.append(end)
        if self.kin.end is None:
            self.kin.ended(DEATH)


def test_a_watcher_is_called_once_or_at_once_and_not_after_it_was_called_off():
    kin, told, other = Kin(lambda _end: None), [], []
    kin.watch(told.append)
    kin.watch(other.append)
    kin.unwatch(other.append)
    kin.unwatch(other.append)
    kin.ended(GOOD)
    kin.watch(told.append)
    assert (told, other) == ([GOOD, GOOD], [])


def test_a_death_strikes_everybody_in_a_circle_once():
    people = [Someone() for _ in range(4)]
    for one, other in zip(people, people[1:] + people[:1], strict=True):
        one.kin.link(other.kin)
        other.kin.link(one.kin)
    people[2].kin.ended(DEATH)
    assert all(someone.kin.end is DEATH for someone in people)
    assert people[2].struck == []


def test_a_good_end_strikes_nobody_now_or_later():
    one, other = Someone(), Someone()
    one.kin.link(other.kin)
    one.kin.ended(GOOD)
    other.kin.link(one.kin)
    one.kin.link(other.kin)
    assert other.struck == []


def test_a_link_to_one_that_has_died_strikes_at_once_from_either_side():
    dead, one, other = Someone(), Someone(), Someone()
    dead.kin.ended(DEATH)
    dead.kin.link(one.kin)
    other.kin.link(dead.kin)
    assert (one.struck, other.struck, dead.struck) == ([DEATH], [DEATH], [])


def test_those_that_were_unlinked_and_those_that_forget_hear_nothing():
    one, other = Someone(), Someone()
    one.kin.link(other.kin)
    other.kin.unlink(one.kin)
    one.kin.ended(DEATH)
    third, fourth = Someone(), Someone()
    third.kin.link(fourth.kin)
    third.kin.forget()
    third.kin.ended(DEATH)
    assert other.struck == fourth.struck == []


def test_an_end_travels_with_its_error():
    end = ActorEnd("actor-7", "One", "fred", ActorDiedError("it died", maybe_executed=True), True)
    back = ActorEnd.of(end.travelling())
    assert (back.actor_id, back.class_name, back.name, back.killed) == (
        "actor-7",
        "One",
        "fred",
        True,
    )
    assert isinstance(back.error, ActorDiedError)
    assert (str(back.error), back.error.maybe_executed) == ("it died", True)
    assert ActorEnd.of(GOOD.travelling()) == GOOD


def test_who_is_not_waited_for_any_more_hears_of_it_once_and_after_what_strikes_it():
    said: list[str] = []
    kin = Kin(lambda _end: said.append("struck"), lambda: said.append("forsaken"))
    one, other = Someone(), Someone()
    kin.watch(said.append)
    kin.link(one.kin)
    other.kin.link(kin)
    kin.unwatch(said.append)
    kin.unlink(one.kin)
    kin.unlink(one.kin)
    assert said == []
    assert kin
    other.kin.ended(DEATH)
    assert said == ["struck", "forsaken"]
    assert not kin
    kin.watch(said.append)
    kin.unwatch(said.append)
    kin.unwatch(said.append)
    assert said == ["struck", "forsaken", "forsaken"]
