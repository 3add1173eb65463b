"""How far a run is: who is told, how often, and in which words."""

from __future__ import annotations

import io
from typing import Any

import pytest

from goliath.actors.bell import ThreadBell
from goliath.actors.driving import drive, rows_of
from goliath.actors.job import Job
from goliath.actors.options import make_plan
from goliath.actors.progress import Reporter, reporter_for
from tests.actors.desks import FakeCommander

Told = list[tuple[int, int | None]]


def same(x: Any) -> Any:
    if x == "bad":
        raise ValueError(x)
    return x


def run(progress: Any, args: Any, **options: Any) -> list[Any]:
    commander = FakeCommander()
    bell = ThreadBell()
    plan = make_plan(same, args, (), progress=progress, **options)
    job = Job(plan, commander.portal, commander, bell)  # type: ignore[arg-type]
    return list(drive(job, rows_of(args), bell, attendants=plan.attendants))


def test_a_callable_hears_of_the_beginning_and_the_end():
    told: Told = []
    run(lambda *numbers: told.append(numbers), [(n,) for n in range(1000)])
    assert told[0] == (0, 1000)
    assert told[-1] == (1000, 1000)
    assert told == sorted(set(told))
    assert len(told) < 50  # and there were 250 parcels


def test_the_number_of_all_is_unknown_until_the_input_has_ended():
    told: Told = []
    run(lambda *numbers: told.append(numbers), ((n,) for n in range(10)))
    assert told[0] == (0, None)
    assert told[-1] == (10, 10)


def test_a_run_of_no_calls_is_done():
    told: Told = []
    run(lambda *numbers: told.append(numbers), [])
    assert told[-1] == (0, 0)


def test_a_run_that_fails_tells_how_far_it_came():
    told: Told = []
    with pytest.raises(ValueError, match="bad"):
        run(lambda *numbers: told.append(numbers), [(1,)] * 4 + [("bad",)] * 4)
    assert told[-1] == (4, 8)


def test_calls_that_were_never_pulled_are_still_calls_of_the_run():
    told: Told = []
    rows = [("bad",)] + [(1,)] * 100_000
    with pytest.raises(ValueError, match="bad"):
        run(lambda *numbers: told.append(numbers), rows)
    assert told[-1] == (0, 100_001)
    with pytest.raises(ValueError, match="bad"):
        run(lambda *numbers: told.append(numbers), iter(rows))
    assert told[-1] == (0, None), "nobody has counted them"


def test_what_a_callable_raises_ends_the_run():
    def refuse(done: int, total: int | None) -> None:
        raise KeyError(done)

    with pytest.raises(KeyError) as told:
        run(refuse, [(1,)])
    assert told.value.args == (0,)


def test_a_bar_is_told_the_steps():
    class Bar:
        def __init__(self) -> None:
            self.steps: list[int] = []

        def update(self, n: int) -> None:
            self.steps.append(n)

    bar = Bar()
    run(bar, [(n,) for n in range(100)])
    assert sum(bar.steps) == 100
    assert min(bar.steps) > 0


def test_reports_wait_for_each_other_and_the_last_is_never_left_out():
    told: Told = []
    reporter = Reporter(lambda *numbers: told.append(numbers), every_s=1000.0)
    assert reporter.attend(0, 10) is None
    assert reporter.attend(0, 10) is None
    waiting = reporter.attend(1, 10)
    assert waiting is not None
    assert 990 < waiting <= 1000
    reporter.end(1, 10)
    assert told == [(0, 10), (1, 10)]


def test_a_report_that_waited_is_made():
    told: Told = []
    reporter = Reporter(lambda *numbers: told.append(numbers), every_s=0.0)
    for done in range(3):
        assert reporter.attend(done, 10) is None
    assert told == [(0, 10), (1, 10), (2, 10)]


class Screen(io.StringIO):
    def __init__(self, *, terminal: bool) -> None:
        super().__init__()
        self._terminal = terminal

    def isatty(self) -> bool:
        return self._terminal


def test_on_a_terminal_it_is_one_line(monkeypatch: pytest.MonkeyPatch):
    screen = Screen(terminal=True)
    monkeypatch.setattr("sys.stderr", screen)
    run(True, [(n,) for n in range(10)])
    text = screen.getvalue()
    assert text.startswith("\rgoliath: same 0/10 (0 %)")
    assert text.endswith("\rgoliath: same 10/10, done in 0 s\n")
    assert text.count("\n") == 1


def test_the_last_line_of_a_run_that_failed_says_where_it_stopped(monkeypatch: pytest.MonkeyPatch):
    log = Screen(terminal=False)
    monkeypatch.setattr("sys.stderr", log)
    with pytest.raises(ValueError, match="bad"):
        run(True, [("bad",), *[(1,)] * 9_999])
    lines = log.getvalue().splitlines()
    assert lines == [
        "goliath: same 0/10000 (0 %)",
        "goliath: same 0/10000 (0 %), stopped after 0 s",
    ]


def test_a_line_that_gets_shorter_leaves_nothing_of_the_longer_one(
    monkeypatch: pytest.MonkeyPatch,
):
    screen = Screen(terminal=True)
    monkeypatch.setattr("sys.stderr", screen)
    reporter = reporter_for(True, "f" * 50)
    assert reporter is not None
    reporter.attend(10**9, None)
    reporter.end(1, None)
    _, first, second = screen.getvalue().split("\r")
    assert len(second) >= len(first)


def test_a_line_on_a_terminal_ends_with_the_run_though_that_fails(
    monkeypatch: pytest.MonkeyPatch,
):
    screen = Screen(terminal=True)
    monkeypatch.setattr("sys.stderr", screen)
    with pytest.raises(ValueError, match="bad"):
        run(True, [("bad",)])
    assert screen.getvalue().endswith("\n")


def test_in_a_log_it_is_few_lines(monkeypatch: pytest.MonkeyPatch):
    log = Screen(terminal=False)
    monkeypatch.setattr("sys.stderr", log)
    run(True, [(n,) for n in range(1000)])
    assert log.getvalue().splitlines() == [
        "goliath: same 0/1000 (0 %)",
        "goliath: same 1000/1000, done in 0 s",
    ]


@pytest.mark.parametrize("nobody", [None, False])
def test_nobody_is_told_unless_somebody_asks(nobody: Any):
    assert reporter_for(nobody, "f") is None
