"""``python -m goliath.lieutenant`` from outside: its words, files, exit codes and end."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import stat
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from goliath import Commander
from goliath.testing.processes import until
from tests.e2e.calls import add, nap, pid
from tests.lieutenants import COMMAND, READY, Lieutenant, command

# -- words -------------------------------------------------------------------------------


@pytest.fixture
def lieutenant() -> Iterator[Callable[..., Lieutenant]]:
    """As everywhere, but by the very command that users run."""
    with contextlib.ExitStack() as stack:
        yield lambda *args, **kwargs: stack.enter_context(
            Lieutenant(*args, **{"launcher": COMMAND, **kwargs})
        )


def test_one_line_says_that_it_is_ready_and_where(lieutenant) -> None:
    own = lieutenant(3)
    ready = READY.search(own.out)
    assert ready
    assert own.out == ready.group() + "\n"
    assert own.port != 0
    assert own.workers == 3


def test_one_worker_is_the_least(lieutenant) -> None:
    own = lieutenant(1)
    with Commander([own.address]) as commander:
        assert commander.run(add, [(n, n) for n in range(5)]) == [0, 2, 4, 6, 8]


@pytest.mark.parametrize(
    ("module", "arguments"),
    [
        ("goliath.lieutenant", ["--help"]),
        ("goliath", ["--help"]),
        ("goliath", ["lieutenant", "--help"]),
    ],
)
def test_help_is_clean_and_complete(module: str, arguments: list[str]) -> None:
    run = command(*arguments, module=module)
    assert (run.returncode, run.stderr) == (0, "")
    if "lieutenant" in [module.rpartition(".")[2], *arguments]:
        for word in (
            *("HOST", "PORT", "WORKERS", "--token-file", "--tls-cert", "--tls-key"),
            *("--insecure-plaintext", "--max-tasks-per-worker", "--drain-timeout"),
            *("--max-memory-per-worker", "--max-memory-per-session", "--allow-install"),
            *("--max-actors", "--memory", "--num-gpus", "--resources"),
            *("--max-processes-per-session", "--max-files-per-session"),
            *("--log-level", "--log-format"),
        ):
            assert word in run.stdout
    else:
        assert "lieutenant" in run.stdout


def test_goliath_lieutenant_is_the_same_command(lieutenant) -> None:
    own = lieutenant(1, launcher=("-m", "goliath", "lieutenant"))
    with Commander([own.address]) as commander:
        assert commander.run(add, [(1, 1)]) == [2]


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["127.0.0.1"],
        ["127.0.0.1", "no-number"],
        ["127.0.0.1", "70000"],
        ["127.0.0.1", "0", "0"],
        ["127.0.0.1", "0", "-3"],
        ["127.0.0.1", "0", "two"],
        ["127.0.0.1", "0", "1", "--log-format", "poem"],
        ["127.0.0.1", "0", "1", "--frobnicate"],
        ["127.0.0.1", "0", "1", "--tls-cert", "only-half.pem"],
    ],
    ids=" ".join,
)
def test_wrong_usage_exits_with_2_and_says_why(arguments: list[str]) -> None:
    run = command(*arguments)
    assert run.returncode == 2
    assert run.stdout == ""
    assert run.stderr.strip()
    assert "Traceback" not in run.stderr


def test_a_port_in_use_exits_with_3_and_names_it(node: Lieutenant) -> None:
    run = command("127.0.0.1", str(node.port), "1")
    assert run.returncode == 3
    assert str(node.port) in run.stderr
    assert "Traceback" not in run.stderr
    assert len(run.stderr.strip().splitlines()) == 1


def test_an_address_of_another_machine_cannot_be_bound(token_file: Path) -> None:
    run = command("192.0.2.1", "0", "1", "--token-file", str(token_file), "--insecure-plaintext")
    assert run.returncode == 3
    assert "192.0.2.1" in run.stderr
    assert "Traceback" not in run.stderr


def test_logs_can_be_json_and_never_hold_the_token(lieutenant) -> None:
    import json

    own = lieutenant(1, "--log-level", "debug", "--log-format", "json")
    with Commander([own.address]) as commander:
        assert commander.run(add, [(1, 1)]) == [2]
    for line in own.err.splitlines():
        assert isinstance(json.loads(line), dict)
    assert own.runtime()["token"] not in own.err + own.out


# -- the runtime file --------------------------------------------------------------------


def test_the_runtime_file_is_private_and_says_what_a_commander_needs(lieutenant) -> None:
    own = lieutenant(1)
    assert stat.S_IMODE(own.runtime_file().stat().st_mode) == 0o600
    assert stat.S_IMODE(own.runtime_file().parent.stat().st_mode) == 0o700
    said = own.runtime()
    assert said["pid"] == own.pid
    assert said["port"] == own.port
    assert said["scheme"] == "ws"
    assert said["token"].startswith("glt1_")
    assert len(said["token"]) >= 40


def test_each_start_makes_a_fresh_token(lieutenant) -> None:
    assert lieutenant(1).runtime()["token"] != lieutenant(1).runtime()["token"]


def test_the_runtime_file_goes_with_the_lieutenant(lieutenant) -> None:
    own = lieutenant(1)
    assert own.runtime_file().exists()
    own.stop()
    assert not own.runtime_file().exists()


def test_without_a_runtime_directory_it_is_in_the_state_directory_of_the_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    own = Lieutenant(1, launcher=COMMAND)
    try:
        own.wait_ready()
        assert (tmp_path / f".local/state/goliath/run/{own.port}.json").exists()
        with Commander([own.address]) as commander:
            assert commander.run(add, [(1, 1)]) == [2]
        own.process.terminate()
        assert own.process.wait(30) == 0
    finally:
        own.discard()


def test_a_stale_runtime_file_of_a_dead_lieutenant_does_no_harm(lieutenant, free_port: int) -> None:
    first = lieutenant(1, port=free_port)
    first.destroy()
    assert first.runtime_file().exists()
    second = lieutenant(1, port=free_port)
    with Commander([second.address]) as commander:
        assert commander.run(add, [(1, 1)]) == [2]


def test_a_token_never_stands_in_argv_or_environment_of_any_process(lieutenant) -> None:
    own = lieutenant(1)
    with Commander([own.address]) as commander:
        commander.run(add, [(1, 1)])
        token = own.runtime()["token"]
        for pid in [own.pid, *(seen.pid for seen in own.family())]:
            process = psutil.Process(pid)
            assert token not in " ".join(process.cmdline())
            assert token not in str(process.environ())


# -- the end -----------------------------------------------------------------------------


def test_sigterm_lets_running_calls_finish_and_their_results_arrive(lieutenant) -> None:
    own = lieutenant(2)
    with Commander([own.address]) as commander:
        refs = [commander.submit(nap, 1.0) for _ in range(2)]
        until(lambda: commander.nodes()[0].busy >= 2, 30, "both calls running")
        own.process.send_signal(signal.SIGTERM)
        assert [ref.result(timeout=30) for ref in refs] == [1.0, 1.0]
        assert own.process.wait(30) == 0
        assert "draining: calls still run, and have up to 30 s; a second signal" in own.err


def test_a_python_without_its_libraries_is_told_to_be_another_one() -> None:
    script = "import sys\nsys.modules['aiohttp'] = None\nfrom goliath.lieutenant import main\n"
    script += "sys.exit(main(['127.0.0.1', '0', '1']))"
    run = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False
    )
    assert run.returncode == 2
    assert "has no aiohttp; run the one into which Goliath was installed" in run.stderr
    assert "Traceback" not in run.stderr


def test_a_draining_node_hands_its_queue_to_the_others(lieutenant) -> None:
    leaving, staying = lieutenant(1), lieutenant(1)
    with Commander([leaving.address, staying.address]) as commander:
        timer = threading.Timer(0.3, leaving.process.terminate)
        timer.start()
        calls = [{"seconds": 0.05 + n / 1e6} for n in range(40)]
        assert commander.run(nap, calls) == [call["seconds"] for call in calls]
        timer.join()
        assert leaving.process.wait(30) == 0


def test_draining_ends_after_its_timeout(lieutenant) -> None:
    own = lieutenant(1, "--drain-timeout", "0.5")
    with Commander([own.address]) as commander:
        commander.submit(nap, 60)
        until(lambda: commander.nodes()[0].busy >= 1, 30, "the call running")
        start = time.monotonic()
        own.process.send_signal(signal.SIGTERM)
        own.process.wait(30)
        assert time.monotonic() - start < 5
        until(lambda: not own.family(), 2, "its workers gone")
        commander.cancel()


@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_it_at_once(lieutenant, sig: signal.Signals) -> None:
    own = lieutenant(1)
    with Commander([own.address]) as commander:
        commander.submit(nap, 60)
        until(lambda: commander.nodes()[0].busy >= 1, 30, "the call running")
        own.process.send_signal(sig)
        with pytest.raises(subprocess.TimeoutExpired):
            own.process.wait(0.5)
        own.process.send_signal(sig)
        own.process.wait(2)
        until(lambda: not own.family(), 2, "its workers gone")
        commander.cancel()


def test_sigint_is_a_gentle_end_too(lieutenant) -> None:
    own = lieutenant(1)
    own.process.send_signal(signal.SIGINT)
    assert own.process.wait(30) == 0
    until(lambda: not own.family(), 2, "its workers gone")


def test_an_idle_lieutenant_ends_at_once(lieutenant) -> None:
    own = lieutenant(2)
    with Commander([own.address]) as commander:
        commander.run(add, [(1, 1)])
        start = time.monotonic()
        own.stop()
        assert time.monotonic() - start < 3


def test_one_that_breaks_says_why_with_traceback_and_journal_and_exits_with_70(lieutenant) -> None:
    sabotaged = (
        "import sys, goliath.lieutenant as node, goliath.core.crew as crew\n"
        "crew.Crew.hire = lambda *_: 1 / 0\n"
        "sys.exit(node.main())"
    )
    own = lieutenant(1, launcher=("-c", sabotaged))
    with Commander([own.address]) as commander:
        ref = commander.submit(add, 1, 1)
        assert own.process.wait(30) == 70
        with pytest.raises(TimeoutError):
            ref.result(0)
    assert "broken, please report this: division by zero" in own.err
    assert "ZeroDivisionError" in own.err
    assert "in handle" in own.err
    assert "BatchArrived(" in own.err


# -- promises about workers --------------------------------------------------------------


def test_max_tasks_per_worker_replaces_a_worker_that_has_run_so_many(lieutenant) -> None:
    own = lieutenant(1, "--max-tasks-per-worker", "5")

    def worker(n):
        return os.getpid()

    with Commander([own.address]) as commander:
        pids = commander.run(worker, [(n,) for n in range(40)])
    assert all(pids.count(pid) <= 5 for pid in pids)


def test_max_memory_per_worker_replaces_a_worker_that_has_grown(lieutenant) -> None:
    """Nobody notices but by the process ids: every call is made once, and nothing is lost."""
    own = lieutenant(1, "--max-memory-per-worker", "250M")

    def grow(n, kept=[]):  # noqa: B006 - it is there to be kept
        kept.append(b"x" * (30 << 20))
        return n, os.getpid(), len(kept)

    async def grow_among_others(n, kept=[]):  # noqa: B006 - likewise
        await asyncio.sleep(0.01)
        return grow(n, kept)

    with Commander([own.address]) as commander:
        results = commander.run(grow, [(n,) for n in range(30)], batch_size=1)
        assert [n for n, _, _ in results] == list(range(30))
        grown = Counter(pid for _, pid, _ in results)
        assert len(grown) >= 3
        assert max(grown.values()) <= 9
        assert sum(size == 1 for _, _, size in results) == len(grown)  # each began with nothing
        together = [
            commander.run(grow_among_others, [(n,) for n in range(12)], batch_size=1)
            for _ in range(2)
        ]
        assert [n for results in together for n, _, _ in results] == [*range(12), *range(12)]
        first, second = ({pid for _, pid, _ in results} for results in together)
        assert not first & second  # which has grown beyond it, if not before the last had begun
        quiet = commander.run(pid, [(n,) for n in range(30)], batch_size=1)
        assert len(set(quiet)) == 1


@pytest.mark.parametrize(("size", "why"), [("0", "at least 1 byte"), ("many", "is no size")])
def test_a_size_that_is_none_is_refused(size: str, why: str) -> None:
    run = command("127.0.0.1", "0", "--max-memory-per-worker", size)
    assert run.returncode == 2
    assert why in run.stderr


def test_the_only_port_it_listens_on_is_the_one_it_names(lieutenant) -> None:
    own = lieutenant(2)
    with Commander([own.address]) as commander:
        commander.run(nap, [(0.05,)] * 2)
        listening = [
            connection.laddr.port
            for pid in [own.pid, *(seen.pid for seen in own.family())]
            for connection in psutil.Process(pid).net_connections("inet")
            if connection.status == psutil.CONN_LISTEN
        ]
    assert set(listening) == {own.port}


def test_the_pid_of_the_ready_line_is_its_own(node: Lieutenant) -> None:
    assert re.search(rf"pid {node.pid}$", node.out.strip())
