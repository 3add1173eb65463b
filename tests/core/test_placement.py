"""Which node gets the next batch."""

from __future__ import annotations

import pytest

from goliath.core.batch import ACTORS, Batch, JobOptions
from goliath.core.ids import BatchId, JobId, NodeId
from goliath.core.placement import NodeView, choose_home, choose_node
from goliath.core.policy import BIG_BYTES, BatchPolicy, Level


def view(name: str, slots: int = 2, held: int = 0, **resources: float) -> NodeView:
    node = NodeView(NodeId(name), slots, resources, 0.0)
    for number in range(held):
        node.take(Batch(BatchId(number), JobId(1), 1, 0, 1, 10))
    return node


def taken(node: NodeView, number: int, **resources: float) -> None:
    """So many batches more are on a node, of calls that each take these."""
    for _ in range(number):
        batch = Batch(BatchId(1000 + len(node.held)), JobId(2), 1, 0, 1, 10)
        batch.resources = resources
        node.take(batch)


def chosen(
    *nodes: NodeView, options: JobOptions | None = None, bytes_max: int = 10**6, nbytes: int = 10
) -> str:
    node = choose_node(nodes, options or JobOptions(), BatchPolicy(), None, bytes_max, None, nbytes)
    return node.id if node is not None else ""


def test_the_least_laden_by_share_of_its_size_is_chosen():
    assert chosen(view("a", 1, held=1), view("b", 4, held=3)) == "b"


def test_the_first_of_equals_is_chosen():
    assert chosen(view("a"), view("b")) == "a"


def test_a_full_window_takes_nothing():
    assert chosen(view("a", held=4)) == ""


def test_too_many_bytes_on_their_way_take_nothing():
    assert chosen(view("a", held=2), bytes_max=20) == ""


def test_no_slot_is_left_idle_because_of_bytes():
    assert chosen(view("a", 3, held=2), bytes_max=20) == "a"
    assert chosen(view("a", 3, held=3), bytes_max=20) == ""


def test_coroutines_that_share_a_slot_are_kept_back_for_their_bytes():
    many = JobOptions(concurrency=100)
    assert chosen(view("a", 3, held=2), options=many, bytes_max=21) == "a"
    assert chosen(view("a", 3, held=2), options=many, bytes_max=20) == ""


def test_a_small_batch_does_not_wait_for_big_ones_before_there_are_twice_as_many():
    def beside(held: int, nbytes: int) -> str:
        node = view("a", 1)
        node.take(Batch(BatchId(1), JobId(1), 1, 0, 1, held))
        return chosen(node, bytes_max=64_000, nbytes=nbytes)

    assert [beside(63_999, 1001), beside(64_000, 1001)] == ["a", ""]
    assert [beside(127_999, 1000), beside(128_000, 1000)] == ["a", ""]


def test_a_draining_node_takes_nothing():
    node = view("a")
    node.draining = True
    assert chosen(node) == ""


def test_a_node_without_the_resource_takes_nothing():
    options = JobOptions(resources={"gpu": 1.0})
    assert chosen(view("a"), view("b", gpu=1.0), options=options) == "b"


@pytest.mark.parametrize(("cpus", "room"), [(1.0, 4), (2.0, 2), (0.5, 8), (5.0, 0), (0.0, 4)])
def test_capacity_is_how_many_calls_run_at_once(cpus: float, room: int):
    assert view("a", 4).capacity(JobOptions(cpus=cpus)) == room


def test_a_resource_limits_the_capacity():
    assert view("a", 4, gpu=2.0).capacity(JobOptions(resources={"gpu": 1.0})) == 2


WANTS_A, WANTS_B = JobOptions(resources={"a": 1.0}), JobOptions(resources={"b": 1.0})


def test_who_waits_for_a_resource_stands_in_the_way_of_those_only_who_want_it_too():
    node = view("n", 2, a=1.0, b=1.0)
    taken(node, 2, a=1.0)  # one runs, and one is to follow it
    assert node.load == 1
    assert chosen(node, options=WANTS_A) == "", "there is one that waits already"
    assert chosen(node, options=JobOptions(resources={"a": 1.0, "b": 1.0})) == ""
    assert chosen(node, options=WANTS_B) == "n", "the other slot is idle"
    assert chosen(node) == "n"


def test_who_wants_a_resource_does_not_wait_for_a_gap_among_those_who_want_none():
    node = view("n", 2, held=4, a=1.0)
    assert chosen(node) == "", "it is full"
    assert chosen(node, options=WANTS_A) == "n", "and this has its turn among them"


def test_who_waits_for_a_resource_that_an_actor_has_for_good_keeps_nobody_from_a_slot():
    node = view("n", 1, a=1.0)
    taken(node, 2, a=1.0)
    assert chosen(node) == "n"


def test_the_node_with_most_of_the_resource_and_a_free_slot_is_chosen():
    busy, idle = view("busy", 2, held=2, a=1.0), view("idle", 2, a=1.0)
    assert chosen(busy, idle, options=WANTS_A) == "idle"
    taken(idle, 1, a=1.0)
    assert chosen(busy, idle, view("third", 2, held=1, a=1.0), options=WANTS_A) == "third"


def test_what_is_dropped_waits_for_no_resource_any_more():
    node = view("n", 2, a=1.0)
    taken(node, 3, a=1.0)
    for batch in list(node.held.values()):
        node.drop(batch)
    assert (node.load, node.scarce) == (0, {})


def test_a_dropped_batch_gives_its_bytes_back():
    node = view("a", held=2)
    node.drop(node.held[BatchId(0)])
    assert (len(node.held), node.held_bytes) == (1, 10)


def test_a_job_with_an_affinity_goes_to_its_node_or_waits_for_it():
    nodes = [view("a", 2, held=4), view("b", 2)]
    wanted = JobOptions(node=NodeId("a"))
    assert chosen(*nodes, options=wanted) == "", "it is full"
    assert chosen(*nodes, options=JobOptions(node=NodeId("b"))) == "b"
    assert chosen(*nodes, options=JobOptions(node=NodeId("gone"))) == ""


def test_a_soft_affinity_may_be_served_elsewhere_only_if_its_node_is_gone():
    nodes = [view("a", 2, held=4), view("b", 2)]
    assert chosen(*nodes, options=JobOptions(node=NodeId("a"), soft=True)) == "", "it is full"
    assert chosen(*nodes, options=JobOptions(node=NodeId("gone"), soft=True)) == "b"


def test_a_job_that_is_spread_goes_to_whoever_had_least_of_such():
    nodes = [view("a", 2), view("b", 2, held=1)]
    nodes[0].spread = 3
    assert chosen(*nodes, options=JobOptions()) == "a"
    assert chosen(*nodes, options=JobOptions(spread=True)) == "b"


def nearest(*nodes: NodeView, near: dict[str, int], options: JobOptions | None = None) -> str:
    kept = {NodeId(name): nbytes for name, nbytes in near.items()}
    node = choose_node(nodes, options or JobOptions(), BatchPolicy(), None, 10**6, kept)
    return node.id if node is not None else ""


def test_the_node_that_keeps_most_is_chosen_before_one_with_more_room():
    nodes = [view("a"), view("b", held=1), view("c", held=1)]
    assert nearest(*nodes, near={"b": 10, "c": 20}) == "c"
    assert nearest(*nodes, near={"gone": 30, "b": 10}) == "b"
    assert nearest(*nodes, near={}) == nearest(*nodes, near={"gone": 30}) == "a"


def test_nobody_waits_for_a_slot_where_his_arguments_are():
    assert nearest(view("a", held=2), view("b", held=1), near={"a": 10}) == "b"
    assert nearest(view("a", held=2), view("b", held=3), near={"b": 10}) == "a"


def test_a_node_that_can_take_nothing_is_not_chosen_for_what_it_keeps():
    draining = view("a")
    draining.draining = True
    assert nearest(draining, view("b"), near={"a": 10}) == "b"
    options = JobOptions(resources={"gpu": 1.0})
    assert nearest(view("a"), view("b", gpu=1.0), near={"a": 10}, options=options) == "b"


def test_a_job_that_is_spread_is_spread_wherever_its_arguments_are():
    nodes = [view("a"), view("b")]
    nodes[0].spread = 1
    assert nearest(*nodes, near={"a": 10}, options=JobOptions(spread=True)) == "b"


ONE_ACTOR = JobOptions(cpus=0.0, resources={ACTORS: 1.0}, actor=True)


def test_an_actor_goes_to_the_node_with_the_fewest_by_share_of_its_size():
    crowded, roomy = view("crowded", 2), view("roomy", 4)
    crowded.actors[JobId(1)] = roomy.actors[JobId(2)] = 0
    assert choose_home([crowded, roomy], ONE_ACTOR) is roomy


def test_an_actor_goes_to_a_node_that_may_have_one_more_before_others():
    full, other, none = (
        view("full", 64, **{ACTORS: 1}),
        view("other", 1),
        view("none", **{ACTORS: 0}),
    )
    full.house(JobId(1), ONE_ACTOR)
    other.house(JobId(2), ONE_ACTOR)
    other.house(JobId(3), ONE_ACTOR)
    assert choose_home([full, other, none], ONE_ACTOR) is other
    assert choose_home([none], ONE_ACTOR) is None


def test_an_actor_waits_where_no_node_has_a_place_for_it_and_gets_the_first_that_comes_free():
    full = view("full", 4, **{ACTORS: 2, "disk": 1})
    wants_disk = JobOptions(cpus=0.0, resources={ACTORS: 1.0, "disk": 1.0}, actor=True)
    full.house(JobId(1), wants_disk)
    assert choose_home([full], wants_disk) is None
    assert choose_home([full], ONE_ACTOR) is full
    full.house(JobId(2), ONE_ACTOR)
    assert choose_home([full], ONE_ACTOR) is None
    assert choose_home([full, come := view("come", 1)], ONE_ACTOR) is come
    full.unhouse(JobId(1), wants_disk)
    full.unhouse(JobId(1), wants_disk)
    assert choose_home([full], wants_disk) is full


def test_an_actor_keeps_its_cpus_so_another_one_waits_for_them():
    node = view("node", 2)
    wants_all = JobOptions(cpus=1.5, resources={ACTORS: 1.0}, actor=True)
    node.house(JobId(1), wants_all)
    assert choose_home([node], wants_all) is None
    assert choose_home([node], JobOptions(cpus=0.5, resources={}, actor=True)) is node


def pressed(node: NodeView, level: Level) -> NodeView:
    node.level = level
    return node


def test_a_node_that_is_short_of_memory_gets_what_no_other_has_room_for():
    short = pressed(view("short", 8), Level.STRAINED)
    assert chosen(short, view("laden", 1, held=1)) == "laden"
    assert chosen(view("laden", 1, held=1), short) == "laden"
    assert chosen(short, view("no room", 1, held=2)) == "short"
    assert chosen(pressed(view("full"), Level.FULL), short) == "short"


def test_a_full_node_gets_nothing_big_unless_all_are_full():
    full, soft = pressed(view("full"), Level.FULL), JobOptions(node=NodeId("full"), soft=True)
    laden = view("laden", 1, held=2)
    assert chosen(full, laden, nbytes=BIG_BYTES) == "full"
    assert chosen(full, laden, nbytes=BIG_BYTES + 1) == "", "the other one will have room"
    assert chosen(full, view("other"), options=soft, nbytes=BIG_BYTES + 1) == "other"
    assert chosen(full, view("other"), options=soft, nbytes=BIG_BYTES) == "full"
    assert chosen(full, nbytes=BIG_BYTES + 1) == "full", "to hear why not"
    other = pressed(view("other"), Level.FULL)
    assert chosen(full, other, options=soft, nbytes=BIG_BYTES + 1) == "full"


def test_an_actor_lives_where_memory_is_not_short():
    short, options = pressed(view("short"), Level.STRAINED), JobOptions(actor=True)
    home = choose_home([short, view("laden", held=3)], options)
    assert home is not None
    assert home.id == "laden"
    assert choose_home([short], options) is short
