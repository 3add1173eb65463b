"""What the forge of the tests makes is what `subprocess` would have made, but for the imports."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from goliath.testing.processes import alive, look, until
from tests.forge import ROOT, Forge, Forged

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="nothing is forked there"),
]

SELF = """
import json, os, resource, signal, sys, tempfile, threading, warnings
told = {
    "argv": sys.argv,
    "path": sys.path[:2],
    "main": [__name__, __file__, sys.modules["__main__"].__dict__ is globals()],
    "cwd": os.getcwd(),
    "environ": dict(os.environ),
    "tmp": tempfile.gettempdir(),
    "fds": sorted(os.listdir("/proc/self/fd")),
    "files": resource.getrlimit(resource.RLIMIT_NOFILE),
    "signals": [str(signal.getsignal(n)) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD)],
    "threads": threading.active_count(),
    "filters": [text for text in map(str, warnings.filters) if "aiohttp" not in text],
    "options": sys.warnoptions,
}
print(json.dumps(told))
"""


@pytest.mark.parametrize("options", [(), ("-W", "error")], ids=["as it is", "no warning"])
def test_a_script_finds_all_as_it_would_in_a_new_interpreter(
    tmp_path: Path, options: tuple[str, ...]
) -> None:
    (tmp_path / "tmp").mkdir()
    (tmp_path / "self.py").write_text(SELF)
    env = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path / "tmp")}

    def told(popen: type[subprocess.Popen[Any]]) -> Any:
        command = [sys.executable, *options, "self.py", "one", "two"]
        with popen(command, cwd=tmp_path, env=env, stdout=subprocess.PIPE, text=True) as process:
            out, _ = process.communicate(timeout=30)
        assert process.returncode == 0
        return json.loads(out)

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft - 1, hard))
    try:
        assert told(Forged) == told(subprocess.Popen)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize(
    ("end", "code"),
    [
        ("", 0),
        ("sys.exit(3)", 3),
        ("sys.exit('it is said')", 1),
        ("1 / 0", 1),
        ("os._exit(5)", 5),
        ("os.kill(os.getpid(), 9)", -9),
        ("os.kill(os.getpid(), 15)", -15),
        ("os.kill(os.getpid(), 2)", -2),
    ],
)
def test_it_ends_as_it_would_and_says_so_before(tmp_path: Path, end: str, code: int) -> None:
    text = "import atexit, os, sys\natexit.register(print, 'at exit')\nprint('begun', flush=True)\n"
    (tmp_path / "ends.py").write_text(text + end)

    def told(popen: type[subprocess.Popen[Any]]) -> tuple[str, str, int]:
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        with popen([sys.executable, "ends.py"], cwd=tmp_path, **pipes) as process:
            out, err = process.communicate(timeout=30)
        return out, err.splitlines()[-1] if err else "", process.returncode

    assert told(Forged) == told(subprocess.Popen)
    assert told(Forged)[2] == code


def test_it_is_signalled_and_waited_for_and_its_input_ends_with_whoever_holds_it(
    tmp_path: Path,
) -> None:
    (tmp_path / "waits.py").write_text("import sys\nprint('begun', flush=True)\nsys.stdin.read()")
    command = [sys.executable, str(tmp_path / "waits.py")]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with Forged(command, **pipes) as deaf, Forged(command, **pipes) as killed:
        assert deaf.stdout.readline() == killed.stdout.readline() == "begun\n"
        assert deaf.poll() is None
        with pytest.raises(subprocess.TimeoutExpired):
            deaf.wait(0.01)
        deaf.stdin.close()  # which nobody else has got hold of, such as the one forked behind it
        assert deaf.wait(30) == 0
        killed.send_signal(signal.SIGKILL)
        assert killed.wait() == killed.poll() == -signal.SIGKILL


def test_it_and_all_that_it_has_forked_end_with_its_process(tmp_path: Path) -> None:
    text = """
        import os, subprocess, sys, time
        from pathlib import Path
        from tests.forge import Forged, forge
        Path("sleeps.py").write_text("import time; time.sleep(60)")
        print(Forged([sys.executable, "sleeps.py"]).pid, forge().pid, flush=True)
        os.kill(os.getpid(), 9)
    """
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", "\n".join(line.strip() for line in text.splitlines())]
    done = subprocess.run(
        command, cwd=tmp_path, env=env, stdout=subprocess.PIPE, text=True, check=False
    )
    assert done.returncode == -signal.SIGKILL
    for pid in map(int, done.stdout.split()):
        seen = look(pid)
        until(lambda seen=seen: seen is None or not alive(seen), 30, f"{pid} gone")


def test_where_it_has_ended_by_itself_whoever_asks_it_fails() -> None:
    broken = Forge()
    os.kill(broken.pid, signal.SIGKILL)
    order = {"command": [sys.executable, "none.py"], "env": {}, "cwd": "/", "limits": []}
    with pytest.raises((AssertionError, OSError), match=r"has ended|Broken pipe|reset"):
        broken.fork(order, [0, 1, 2])
    broken.close()
