"""A range being run and cut: exact at every place and moment, without a process."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from goliath.actors import results
from goliath.actors.calls import Callee, Function
from goliath.actors.cargo import packed, unpacked
from goliath.actors.coroutines import CoroutineRunner
from goliath.actors.execution import Execution, Range, Region
from goliath.actors.failures import CallInterrupted, call_text, failure_record
from goliath.actors.loops import loop_for, plan_arguments
from goliath.transport.columns import encode_gathered
from goliath.transport.functions import LoadedFunction
from goliath.transport.outcomes import decode_outcomes
from goliath.transport.rows import Elsewhere, encode_frozen
from goliath.transport.serialization import dump_value, load_value
from goliath.transport.worker_messages import DefineFunction, Progress, RunRange
from tests.actors.workshop import Outcomes, encode_calls
from tests.length import length


class Stage:
    """One range with what the worker would hold around it."""

    def __init__(self, rows: list[Any], lo: int = 0, hi: int | None = None) -> None:
        form, payload = encode_calls(rows)
        self.message = RunRange(1, lo, len(rows) if hi is None else hi, "f", form, payload=payload)
        self.range = Range(self.message)
        self.region = Region()
        self.lock = threading.Lock()
        self.spilled = 0

    def run(self, function: Callable[..., Any], each: Any = None) -> None:
        loaded = Function(DefineFunction("f", "f"))
        loaded.callee = Callee(LoadedFunction(function, {}, ()))
        execution = Execution(self.region, CoroutineRunner(), self.lock, self._spill)
        execution.run(self.range, self.message, loaded, each)
        assert self.region.serial == 0

    def _spill(self) -> None:
        assert self.region.serial == 0
        self.spilled += 1

    def progress(self, *, final: bool = True) -> Progress:
        progress = self.range.progress(final=final)
        assert progress is not None
        return progress

    def outcomes(self) -> Outcomes:
        outcomes = Outcomes()
        outcomes.add(self.progress())
        return outcomes


def rows_of(form: str, count: int) -> list[Any]:
    return [{"x": n} if form == "columns" else {"x": [n]} for n in range(count)]


@given(
    form=st.sampled_from(["columns", "rows"]),
    count=st.integers(1, 30),
    cuts=st.lists(st.tuples(st.integers(0, 29), st.integers(1, 4)), max_size=4),
    failing=st.sets(st.integers(0, 29)),
    flushes=st.sets(st.integers(0, 29)),
)
@settings(max_examples=length(100, 300), deadline=None)
def test_what_is_given_back_and_what_runs_is_everything_once(
    form: str,
    count: int,
    cuts: list[tuple[int, int]],
    failing: set[int],
    flushes: set[int],
) -> None:
    stage = Stage(rows_of(form, count))
    outcomes = Outcomes()
    ran: list[int] = []
    given_back = count

    def call(x: Any) -> Any:
        nonlocal given_back
        n = x if form == "columns" else x[0]
        ran.append(n)
        for at, keep in cuts:
            if at == n:
                before = given_back
                given_back = stage.range.give_back(keep)
                rest = before - (n + 1)
                assert given_back == n + 1 + (0 if keep == 1 else rest // keep)
        if n in flushes and (part := stage.range.progress(final=False)):
            outcomes.add(part)
        if n in failing:
            raise ValueError(n)
        return x

    stage.run(call)
    outcomes.add(stage.progress())
    assert ran == list(range(given_back))
    assert sorted(outcomes.values) == ran
    assert set(outcomes.failures) == failing & set(ran)
    assert stage.range.give_back(1) == given_back


@pytest.fixture
def nervous_threads() -> Iterator[None]:
    """Threads that take turns every few bytecodes."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.parametrize("form", ["columns", "rows"])
@pytest.mark.usefixtures("nervous_threads")
def test_a_cut_by_another_thread_agrees_with_what_ran(form: str) -> None:
    for turn in range(60):
        _cut_from_outside(Stage(rows_of(form, 3000)), after=turn * 7 + 1)


def _cut_from_outside(stage: Stage, after: int) -> None:
    ran: list[int] = []
    answers: list[int] = []
    go = threading.Event()

    def cut() -> None:
        go.wait(5)
        for keep in (3, 2, 1):
            with stage.lock:
                answers.append(stage.range.give_back(keep))

    def call(x: Any) -> None:
        ran.append(1)
        if len(ran) == after:
            go.set()

    thread = threading.Thread(target=cut)
    thread.start()
    stage.run(call)
    thread.join()
    assert answers == sorted(answers, reverse=True)
    assert len(ran) == answers[-1]
    assert stage.progress().hi == answers[-1]


class SlowRange(Range):
    """Lets the loop go on between looking where it is and cutting there."""

    def __init__(self, message: RunRange, meanwhile: Callable[[], None]) -> None:
        super().__init__(message)
        self._meanwhile = [meanwhile]

    def _started(self) -> int:
        started = super()._started()
        if self._meanwhile:
            self._meanwhile.pop()()
        return started


@pytest.mark.parametrize("form", ["columns", "rows"])
@pytest.mark.parametrize("overtaken", [0, 1, 5, 8])
def test_a_loop_that_runs_past_the_cut_is_believed(form: str, overtaken: int) -> None:
    permits, begun = threading.Semaphore(0), threading.Semaphore(0)
    ran: list[int] = []

    def call(x: Any) -> None:
        ran.append(1)
        begun.release()
        assert permits.acquire(timeout=5)

    def run_on() -> None:
        for _ in range(overtaken):
            permits.release()
            assert begun.acquire(timeout=5)

    stage = Stage(rows_of(form, 20))
    stage.range = SlowRange(stage.message, run_on)
    runner = threading.Thread(target=stage.run, args=(call,))
    runner.start()
    assert begun.acquire(timeout=5)
    at = stage.range.give_back(1)
    permits.release(20)
    runner.join()
    assert at == 1 + overtaken
    assert len(ran) == at
    assert stage.progress().hi == at


def test_a_cut_before_the_calls_are_read_is_obeyed() -> None:
    stage = Stage(rows_of("columns", 10), lo=2, hi=8)
    assert stage.range.give_back(2) == 5
    stage.run(lambda x: x)
    assert stage.outcomes().values == {2: 2, 3: 3, 4: 4}


def test_an_interrupt_drops_only_the_call_it_strikes() -> None:
    def call(x: int) -> Any:
        if x == 3:
            stage.range.interrupt()
            raise CallInterrupted
        return [x]

    stage = Stage(rows_of("columns", 6))
    stage.run(call)
    progress = stage.progress()
    assert (progress.lo, progress.hi, progress.interrupted) == (0, 3, True)
    assert decode_outcomes(progress.payload) == ([[0], [1], [2]], {})


def test_an_interrupt_in_the_last_call_that_finishes_all_the_same_is_no_interrupt() -> None:
    def call(x: int) -> int:
        if x == 2:
            stage.range.interrupt()
        return x

    stage = Stage(rows_of("columns", 3))
    stage.run(call)
    assert not stage.progress().interrupted


def test_results_too_large_for_a_frame_are_refused_not_sent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(results, "RESULT_MAX_BYTES", 1000)
    monkeypatch.setattr(results, "OUTCOMES_MAX_BYTES", 1000)
    stage = Stage(rows_of("columns", 2))
    stage.run(lambda x: "x" * 2000)
    values, failures = decode_outcomes(stage.progress().payload)
    assert values == [None, None]
    assert [failures[place]["kind"] for place in (0, 1)] == ["serialization"] * 2
    stage = Stage(rows_of("columns", 2))
    stage.run(lambda x: ["x" * 2000] if x else x)
    assert sorted(stage.outcomes().failures) == [1]


def test_each_call_is_announced_outside_of_user_code() -> None:
    said: list[str] = []

    class Each:
        def before(self) -> None:
            assert stage.region.serial == 0
            said.append(f"before {stage.range.next_index}")

        def after(self) -> None:
            assert stage.region.serial == 0
            said.append(f"after {stage.range.next_index}")

        def goes_on(self) -> bool:
            return True

    def call(x: int) -> None:
        assert stage.region.serial == 1
        said.append(f"call {x}")
        if x == 1:
            raise ValueError

    stage = Stage(rows_of("columns", 2))
    stage.run(call, Each())
    assert said == ["before 0", "call 0", "after 1", "before 1", "call 1", "after 2"]


def test_names_become_positions_only_where_that_means_the_same() -> None:
    def plain(a: int, b: int, c: int = 0) -> None: ...
    def keyword_only(a: int, *, b: int) -> None: ...
    def swallowing(**kwargs: int) -> None: ...
    def positional_only(a: int, /, b: int) -> None: ...

    none = frozenset[str]()
    assert plan_arguments(plain, none, 0, ("b", "a")) == ([1, 0], ())
    assert plan_arguments(plain, none, 0, ("a", "c")) == ([0, 1], ("a", "c"))
    assert plan_arguments(plain, frozenset(("a",)), 0, ("a", "b")) == ([0, 1], ("a", "b"))
    assert plan_arguments(keyword_only, none, 0, ("a", "b")) == ([0, 1], ("a", "b"))
    assert plan_arguments(swallowing, none, 0, ("a",)) == ([0], ("a",))
    assert plan_arguments(positional_only, none, 0, ("a", "b")) == ([0, 1], ("a", "b"))
    assert plan_arguments(int, none, 0, ("x",)) == ([0], ("x",))
    assert plan_arguments(plain, none, 1, ("b",)) == ([0, 1], ("b",))


def test_a_name_cannot_smuggle_code_into_the_loop() -> None:
    evil = "x=1) or __import__('os').abort("
    loop = loop_for(1, (evil,), single=False)
    got: list[Any] = []
    loop(lambda **k: str(k), got.append, got.append, iter([7]))
    assert got == [str({evil: 7})]


def test_a_loop_is_generated_once_for_a_shape() -> None:
    assert loop_for(2, (), single=False) is loop_for(2, (), single=False)


def test_a_call_is_cut_at_two_hundred_characters_and_survives_a_bad_repr() -> None:
    class Bad:
        def __repr__(self) -> str:
            raise RuntimeError

    assert call_text("f", (1,), {"b": "x"}) == "f(1, b='x')"
    assert len(call_text("f", ("x" * 500,), {})) == 200
    assert "repr raised RuntimeError" in call_text("f", (Bad(),), {})


def test_an_exception_that_breaks_its_own_traceback_is_still_told() -> None:
    class WorstError(Exception):
        @property
        def __cause__(self) -> Any:  # type: ignore[override]
            raise RuntimeError("no cause")

        def __str__(self) -> str:
            raise RuntimeError("no words")

    record = failure_record(WorstError(), "f()")
    assert record["type"].endswith("WorstError")
    assert "str() raised RuntimeError" in record["message"]


# -- results that stay on the node, and arguments that were there ------------------------


def staged(rows: list[Any], **fields: Any) -> Stage:
    stage = Stage(rows)
    for name, value in fields.items():
        setattr(stage.message, name, value)
    stage.range = Range(stage.message)
    return stage


def taken_apart(progress: Progress) -> tuple[dict[int, Any], list[Any], dict[int, Any]]:
    """The big results by their calls, and the values and failures that are left."""
    rest, pieces = unpacked(progress.payload, [size for _, size in progress.deposits])
    calls = [call for call, _ in progress.deposits]
    values, failures = decode_outcomes(rest)
    found = {call: load_value(piece or b"") for call, piece in zip(calls, pieces, strict=True)}
    return found, values, failures


@pytest.mark.parametrize("form", ["columns", "rows"])
def test_big_results_are_set_apart_and_the_others_stay_together(form: str) -> None:
    stage = staged(rows_of(form, 7), keep_over=1000)
    results_ = [1, "x" * 2000, ["y" * 2000], [2], b"z" * 2000, "x" * 900]

    def call(x: Any) -> Any:
        number = x if form == "columns" else x[0]
        return results_[number]

    stage.run(call)
    big, values, failures = taken_apart(stage.progress())
    assert big == {1: results_[1], 2: results_[2], 4: results_[4]}
    assert values == [1, None, None, [2], None, "x" * 900, None]
    assert list(failures) == [6], "an IndexError"


def test_big_results_that_are_reported_in_parts_are_named_by_their_calls() -> None:
    stage = staged(rows_of("columns", 3), keep_over=10)
    reports: list[Progress] = []

    def call(x: int) -> Any:
        if x == 2:
            reports.append(stage.progress(final=False))
        return ["x" * 100] if x != 1 else x

    stage.run(call)
    reports.append(stage.progress())
    assert [[call for call, _ in report.deposits] for report in reports] == [[0], [2]]
    assert [taken_apart(report)[1] for report in reports] == [[None, 1], [None]]


def test_no_result_is_set_apart_unless_that_is_asked_for() -> None:
    stage = staged(rows_of("columns", 2))
    stage.run(lambda x: ["x" * 10**6])
    progress = stage.progress()
    assert progress.deposits == []
    assert taken_apart(progress)[1] == [["x" * 10**6]] * 2


def far_row(*beside: bytes | None) -> dict[str, Any]:
    """The fields of a message with one call that takes results which come beside it."""
    places = [Elsewhere(place) for place in range(len(beside))]
    row = encode_frozen([1, *places], {"last": places[0]}, far=True)
    form, payload = encode_gathered(None, [row])
    sizes = [-1 if piece is None else len(piece) for piece in beside]
    payload = packed(payload, [piece for piece in beside if piece is not None])
    return {"form": form, "payload": payload, "deposits": sizes}


def test_values_that_come_beside_a_call_stand_in_their_places_and_are_one_object() -> None:
    beside = [dump_value(["first"]), dump_value({"second": 2})]
    stage = staged([{"x": 0}], **far_row(*beside))
    seen: list[Any] = []

    def call(*args: Any, last: Any) -> None:
        seen.extend((args, last))

    stage.run(call)
    assert seen == [(1, ["first"], {"second": 2}), ["first"]]
    assert seen[0][1] is seen[1]
    assert stage.outcomes().values == {0: None}


def test_a_call_that_takes_what_is_lost_raises_that_and_does_not_run() -> None:
    stage = staged([{"x": 0}], **far_row(None, dump_value("there")))
    stage.run(lambda *_args, **_kwargs: pytest.fail("it ran"))
    (failure,) = stage.outcomes().failures.values()
    assert (failure["type"].rpartition(".")[2], failure["kind"]) == ("ObjectLostError", "raised")
    assert "was lost with the node that kept it" in failure["message"]


def test_a_call_whose_argument_cannot_be_rebuilt_says_so_wherever_it_came_from() -> None:
    stage = staged([{"x": 0}], **far_row(b"no pickle"))
    stage.run(lambda *_args, **_kwargs: pytest.fail("it ran"))
    (failure,) = stage.outcomes().failures.values()
    assert "its arguments cannot be rebuilt in the worker" in failure["message"]
