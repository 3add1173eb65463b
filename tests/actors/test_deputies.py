"""What calls in workers ask of their Commander: whatever they say, it does not break."""

from __future__ import annotations

import contextlib
from typing import Any

from hypothesis import given, settings, strategies as st

from goliath.actors import desk
from goliath.actors.blueprint import Blueprint
from goliath.actors.deputies import Deputies
from goliath.actors.nested import TRAVELLING
from goliath.actors.surroundings import Surroundings
from goliath.actors.troupe import Troupe
from goliath.core.batch import JobOptions
from goliath.core.ids import JobId, NodeId
from goliath.errors import ProtocolError
from goliath.transport import call_messages as call_msg, worker_messages as worker_msg
from goliath.transport.functions import Function
from goliath.transport.message import Message
from tests.actors.desks import FakePortal
from tests.length import length

NODE = NodeId("n#1")
BIG = "9" * 5000  # digits, more than Python makes a number of
ITEMS = ["w1-0.item-0", "w1-1.item-3", "w1-0.item-x", f"w1-0.item-{BIG}"]
CALLS = ["w1-0", "w1-1", "w1-2", "w1-x", "-", "w1-99999999999", f"w1-{BIG}"]
IDS = st.sampled_from([*CALLS, *ITEMS, "actor-1", "x", ""])
MANY = st.lists(st.one_of(IDS, st.integers(), st.none(), st.lists(IDS, max_size=2)), max_size=3)
PIECES = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["", "a"]), st.integers(-5, 50)).map(list),
        st.tuples(st.sampled_from(["", "a"]), IDS).map(list),
        st.lists(st.one_of(st.integers(), IDS, st.none()), max_size=3),
    ),
    max_size=3,
)
ODD = st.one_of(
    st.integers(-3, 3),
    st.floats(),
    st.text(max_size=3),
    st.none(),
    st.booleans(),
    st.lists(st.integers(), max_size=2),
    st.dictionaries(st.text(max_size=2), st.integers()),
)
NAMES = [*TRAVELLING, "what"]
OPTIONS = st.dictionaries(st.sampled_from(NAMES), ODD, max_size=2)
GROUPS = st.dictionaries(st.sampled_from(["", "io"]), st.one_of(st.integers(-1, 1001), ODD))
METHOD = st.fixed_dictionaries(
    {
        "num_returns": st.one_of(st.just("streaming"), ODD),
        "group": st.one_of(st.sampled_from(["", "io", "none"]), ODD),
    }
)
REPERTOIRES = st.one_of(
    st.just({"methods": {}, "groups": {}}),
    st.just({"methods": {"f": {"num_returns": 1, "group": "io"}}, "groups": {"": 1, "io": 1}}),
    st.fixed_dictionaries(
        {
            "methods": st.one_of(st.dictionaries(st.text(max_size=1), METHOD, max_size=1), ODD),
            "groups": st.one_of(GROUPS, ODD),
        }
    ),
    ODD,
)
FIELDS = [*Blueprint.__dataclass_fields__, "what"]
SPEC = st.builds(
    lambda odd, repertoire: {**odd, "repertoire": repertoire},
    st.dictionaries(st.sampled_from(FIELDS), ODD, max_size=2),
    REPERTOIRES,
)
JOBS = st.sampled_from([1, 1, 1, 1, 1, 2])
BYTES = st.binary(max_size=20)
SAID = st.one_of(
    st.builds(call_msg.NestedFunction, JOBS, st.just("f"), st.just("f"), MANY, BYTES),
    st.builds(
        call_msg.NestedCall,
        JOBS,
        IDS,
        JOBS,
        JOBS,
        JOBS,
        st.sampled_from(["f", "g"]),
        st.sampled_from(["", "w1-0", "actor-1"]),
        OPTIONS,
        PIECES,
        MANY,
        st.booleans(),
        st.sampled_from(["", "io", "none"]),
        BYTES,
    ),
    st.builds(call_msg.ItemMade, JOBS, IDS, st.integers(-2, 20), st.booleans(), MANY, BYTES),
    st.builds(
        call_msg.NestedActor,
        JOBS,
        IDS,
        JOBS,
        JOBS,
        JOBS,
        st.sampled_from(["f", "g"]),
        SPEC,
        PIECES,
        MANY,
        BYTES,
    ),
    st.builds(call_msg.StoreValue, JOBS, IDS, MANY, BYTES),
    st.builds(call_msg.AwaitRefs, JOBS, MANY),
    st.builds(call_msg.HoldRefs, JOBS, MANY),
    st.builds(call_msg.DropRefs, JOBS, MANY),
    st.builds(call_msg.CancelRef, JOBS, IDS, st.booleans(), st.booleans()),
    st.builds(call_msg.FindActor, JOBS, IDS, st.text(max_size=2), st.text(max_size=2)),
    st.builds(call_msg.KillActor, JOBS, IDS, st.booleans()),
    st.builds(worker_msg.ReportWait, JOBS, JOBS, JOBS, IDS, MANY, st.integers(-2, 3), BYTES),
    st.builds(worker_msg.EndWait, JOBS, JOBS),
    st.builds(call_msg.WatchActor, JOBS, IDS, IDS),
    st.builds(call_msg.LinkActors, JOBS, IDS, IDS, st.booleans()),
    st.builds(call_msg.LeaveActor, JOBS, JOBS),
    st.builds(call_msg.AskNodes, JOBS, IDS),
)


class Nobody:
    """A Commander actor that is told things and does nothing."""

    name = "nobody"

    def tell(self, message: Any) -> None:
        """Nothing comes of it."""

    def ask(self, message: Any) -> Any:
        """Nothing comes of it either."""

        class Never:
            def add_done_callback(self, _then: Any) -> None:
                """It never is."""

        return Never()


class Office:
    """With one open job."""

    def __init__(self) -> None:
        self.told: list[Message] = []
        self.waiting: Any = None

    def find_job(self, job: JobId) -> desk.OpenJob | None:
        if job != 1:
            return None
        owner: Any = None
        function = Function("f", "f", b"")
        return desk.OpenJob(job, owner, function, Surroundings("env"), JobOptions())

    def tell_node(self, node: NodeId, message: Message) -> None:
        self.told.append(message)

    def find_actors(self, name: str, namespace: str, then: Any) -> None:
        then([])

    def describe_nodes(self) -> list[Any]:
        return []

    def me(self) -> Any:
        return Nobody()

    def later(self, seconds: float, function: Any) -> None:
        self.waiting = function


@settings(max_examples=length(150, 600), deadline=None)
@given(st.lists(SAID, max_size=12))
def test_whatever_a_worker_says_only_its_session_may_end(said: list[Any]):
    office = Office()
    portal: Any = FakePortal()
    deputies = Deputies(office, portal, Troupe())
    deputies.hear(NODE, call_msg.NestedFunction(1, "f", "f", [], b""))
    for message in said:
        with contextlib.suppress(ProtocolError):
            deputies.hear(NODE, message)
        if office.waiting is not None:
            waiting, office.waiting = office.waiting, None
            waiting()
    deputies.release(JobId(1), 1, range(3))
    deputies.job_ended(JobId(1))
    deputies.cancel_job(JobId(1))
    deputies.node_left(NODE)
    assert not deputies._deputies
    assert not deputies._submissions
