"""The leak check itself: each kind of leak, made on purpose in a run of its own, is reported."""

from __future__ import annotations

import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LEAKY = {
    "a thread": """
        import threading, time
        def test_it(): threading.Thread(target=time.sleep, args=(9,), daemon=True).start()
        """,
    "a process": """
        import subprocess
        keep = []
        def test_it(): keep.append(subprocess.Popen(["sleep", "2"]))
        """,
    "a file descriptor": """
        import socket
        keep = []
        def test_it(): keep.append(socket.socket())
        """,
    "a file": """
        import os, pathlib
        def test_it(): pathlib.Path(os.environ["XDG_RUNTIME_DIR"], "1.json").write_text("{}")
        """,
    "tasks": """
        import asyncio
        keep = []
        async def test_it(): keep.append(asyncio.get_running_loop().create_task(asyncio.sleep(9)))
        """,
    "a complaint of the event loop": """
        import asyncio
        async def test_it(): asyncio.get_running_loop().call_exception_handler({"message": "oh"})
        """,
    # A daemon: its parent has gone, so only the mark in its environment gives it away.
    "sleep 3": """
        import subprocess
        def test_it():
            daemon = "setsid sleep 3 >/dev/null 2>&1 </dev/null & exec sleep 0.1"
            subprocess.run(daemon, shell=True, check=True)
        """,
}


def run_alone(folder: Path, *sources: str) -> subprocess.CompletedProcess[str]:
    """Test files under the leak check, in a pytest of their own with a short patience."""
    for number, source in enumerate(sources):
        (folder / f"test_{number}.py").write_text(textwrap.dedent(source))
    hurry = "import tests.leaks; tests.leaks.SETTLE_S = 0.1; tests.leaks._TURNS = 5;"
    return subprocess.run(
        [
            sys.executable,
            "-c",
            f"{hurry} import pytest; raise SystemExit(pytest.main())",
            *("-q", "-p", "tests.leaks", "--asyncio-mode=auto", "-p", "no:cacheprovider"),
            *("--rootdir", str(folder), "-c", "/dev/null", str(folder)),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What is said of each, in one run: a pytest takes a second to start."""
    sources = [
        source.replace("test_it", f"test_{number}") for number, source in enumerate(LEAKY.values())
    ]
    run = run_alone(tmp_path_factory.mktemp("leaky"), *sources)
    assert run.returncode == 1, run.stdout
    _, *parts = re.split(r"^_+ (?:ERROR at teardown of )?test_(\d) _+$", run.stdout, flags=re.M)
    told = dict(zip(map(int, parts[::2]), parts[1::2], strict=True))
    return {what: told.get(number, "") for number, what in enumerate(LEAKY)}


@pytest.mark.slow
@pytest.mark.parametrize("what", LEAKY)
def test_a_test_that_leaks_fails_and_the_report_says_what(
    reports: dict[str, str], what: str
) -> None:
    assert what in reports[what].partition("short test summary")[0]


@pytest.mark.slow
def test_a_test_that_keeps_nothing_passes(tmp_path: Path) -> None:
    run = run_alone(
        tmp_path,
        """
        import asyncio, subprocess, threading
        def test_sync():
            thread = threading.Thread(target=print)
            thread.start()
            assert subprocess.run(["true"]).returncode == 0
        async def test_async():
            await asyncio.to_thread(print)
            task = asyncio.get_running_loop().create_task(asyncio.sleep(9))
            task.cancel()
        """,
    )
    assert run.returncode == 0, run.stdout
