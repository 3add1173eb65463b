"""Several Commanders on one node, one Commander on several nodes, and nodes that come and go."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

from goliath import Commander
from goliath.testing.processes import until
from tests.e2e.calls import add, fail, nap, pid
from tests.lieutenants import Lieutenant

# -- several Commanders on one node ------------------------------------------------------


def test_a_newcomer_starts_within_two_seconds_when_long_calls_hold_every_slot(
    lieutenant,
) -> None:
    own = lieutenant(2)
    with Commander([own.address]) as greedy, Commander([own.address]) as modest:
        for _ in range(6):
            greedy.submit(nap, 10)
        until(lambda: greedy.nodes()[0].busy >= 2, 30, "the slots taken")
        start = time.monotonic()  # one clock for all processes of a machine
        (began,) = modest.run(time.monotonic, [()])
        assert began - start < 2
        greedy.cancel()


def test_two_commanders_share_a_node_by_time_not_by_number_of_calls(lieutenant) -> None:
    own = lieutenant(2)
    finished = {}

    def use(name: str, seconds: float, count: int) -> None:
        with Commander([own.address]) as commander:
            commander.run(nap, [{"seconds": seconds}] * count)
            finished[name] = time.monotonic() - start

    start = time.monotonic()
    # The same total work. Whoever has fewer, longer calls must not get the larger part.
    threads = [
        threading.Thread(target=use, args=("long", 0.2, 10)),
        threading.Thread(target=use, args=("short", 0.02, 100)),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert min(finished.values()) > 0.6 * max(finished.values())


def test_commanders_share_neither_workers_nor_failures(node: Lieutenant) -> None:
    with Commander([node.address]) as one, Commander([node.address]) as other:
        mine = set(one.run(pid, [(n,) for n in range(10)]))
        theirs = set(other.run(pid, [(n,) for n in range(10)]))
        assert not mine & theirs
        with pytest.raises(ValueError, match="bad 1"):
            one.run(fail, [(1,)])
        ref = other.submit(nap, 0.5)
        one.cancel()
        assert ref.result() == 0.5


def test_commanders_see_only_their_own_files_and_output(
    node: Lieutenant, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    heard: dict[str, list[str]] = {"one": [], "other": []}
    for name in heard:
        (tmp_path / name).mkdir()
        (tmp_path / name / "word.txt").write_text(name)

    def tell():
        with open("word.txt") as file:
            word = file.read()
        print("the word is", word)
        return word

    def use(name: str) -> None:
        with Commander(
            [node.address], output=lambda *parts: heard[name].append(str(parts))
        ) as commander:
            words = commander.run(tell, [()] * 20, [tmp_path / name / "word.txt"])
            assert words == [name] * 20

    threads = [threading.Thread(target=use, args=(name,)) for name in heard]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert "the word is one" in "".join(heard["one"])
    assert "the word is other" not in "".join(heard["one"])
    assert "the word is other" in "".join(heard["other"])
    assert capfd.readouterr().out == ""


def test_the_work_of_a_commander_that_closes_ends_at_once(lieutenant) -> None:
    own = lieutenant(2)
    idle = own.family()
    with Commander([own.address]) as commander:
        for _ in range(4):
            commander.submit(nap, 60)
        until(lambda: commander.nodes()[0].busy >= 2, 30, "the calls running")
    until(lambda: own.family() <= idle, 6, "its workers gone")
    with Commander([own.address]) as commander:
        assert commander.run(add, [(1, 1)]) == [2]


# -- one Commander on several nodes ------------------------------------------------------------


def test_every_node_gets_work(three_nodes: list[Lieutenant]) -> None:
    with Commander([node.address for node in three_nodes]) as commander:

        def parent(n):
            time.sleep(0.02)
            return os.getpid()

        assert len(set(commander.run(parent, [(n,) for n in range(60)]))) == 3


def test_a_slow_node_does_not_hold_the_others_up(
    three_nodes: list[Lieutenant], tmp_path: Path
) -> None:
    slow, gate = three_nodes[0], tmp_path / "gate"
    with Commander([node.address for node in three_nodes]) as commander:
        heard: list[int] = []

        def hear(index: int, _: object) -> None:
            heard.append(index)
            if len(heard) == 90:
                gate.touch()

        def call(waits: bool) -> None:
            while waits and not gate.exists():
                time.sleep(0.01)

        assert commander.run(call, [(n == 0,) for n in range(91)], on_result=hear) == [None] * 91
        assert heard[-1] == 0
    assert slow.process.poll() is None


def test_a_node_that_is_down_at_the_start_is_left_out_and_named(
    three_nodes: list[Lieutenant], free_port: int, capfd: pytest.CaptureFixture[str]
) -> None:
    addresses = [*(node.address for node in three_nodes[:2]), ("127.0.0.1", free_port)]
    with Commander(addresses, connect_timeout=1) as commander:
        start = time.monotonic()
        assert commander.run(add, [(n, 1) for n in range(100)]) == list(range(1, 101))
        assert time.monotonic() - start < 20
        until(lambda: str(free_port) in capfd.readouterr().err, 30, "it is named on stderr")
        alive = {info.address.rpartition(":")[2]: info.alive for info in commander.nodes()}
    assert sum(alive.values()) == 2


def test_a_node_that_comes_up_later_is_used(
    three_nodes: list[Lieutenant], lieutenant, free_port: int
) -> None:
    addresses = [three_nodes[0].address, ("127.0.0.1", free_port)]
    with Commander(addresses) as commander:
        assert commander.run(add, [(1, 1)]) == [2]
        lieutenant(1, port=free_port)
        until(lambda: sum(info.alive for info in commander.nodes()) == 2, 30, "both alive")
        assert len(set(commander.run(pid, [(n,) for n in range(4)], batch_size=1))) in (1, 2)

        def slow_pid(n):
            time.sleep(0.05)
            return os.getpid()

        assert len(set(commander.run(slow_pid, [(n,) for n in range(20)]))) == 2


def test_a_node_that_was_killed_and_comes_back_is_used_again(
    three_nodes: list[Lieutenant], lieutenant, free_port: int
) -> None:
    first = lieutenant(1, port=free_port)
    with Commander([three_nodes[0].address, first.address]) as commander:
        assert commander.run(add, [(n, 1) for n in range(50)]) == list(range(1, 51))
        first.destroy()
        assert commander.run(add, [(n, 1) for n in range(50)]) == list(range(1, 51))
        second = lieutenant(1, port=free_port)

        def slow_pid(n):
            time.sleep(0.05)
            return os.getpid()

        def both_work() -> bool:
            return len(set(commander.run(slow_pid, [(n,) for n in range(8)]))) == 2

        until(both_work, 30, "the node that came back is used")
        assert second.family()


def test_a_node_that_was_killed_on_this_machine_is_given_up_within_seconds(
    lieutenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GOLIATH_SESSION_LOST_S", "75")
    doomed, safe = lieutenant(1), lieutenant(1)

    def work(n):
        time.sleep(0.05)
        return n

    with Commander([doomed.address, safe.address]) as commander:
        assert commander.run(work, [(n,) for n in range(8)]) == list(range(8))
        began = time.monotonic()
        refs = [commander.submit(work, n) for n in range(8)]
        doomed.destroy()
        assert [ref.result(timeout=30) for ref in refs] == list(range(8))
        assert time.monotonic() - began < 25


def test_when_every_node_is_gone_the_run_waits_for_one_to_come_back(
    lieutenant, free_port: int
) -> None:
    first = lieutenant(1, port=free_port)
    with Commander([first.address]) as commander:
        refs = [commander.submit(nap, 0.2) for _ in range(5)]
        assert refs[0].result() == 0.2
        first.destroy()
        lieutenant(1, port=free_port)
        assert [ref.result(timeout=20) for ref in refs] == [0.2] * 5
