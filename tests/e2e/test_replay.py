"""A mind that crashes for real leaves a journal, and ``goliath replay`` makes a fresh one crash."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import goliath
from goliath import Commander
from goliath.actors.reception import SessionUp
from goliath.config import TransportConfig
from goliath.core.ids import SessionId
from goliath.errors import GoliathError
from goliath.transport import memory

def shout(text):
    return text.upper()

def break_lieutenant(cluster):
    # Its only session begins again, as if its channel had stammered.
    ours, _ = memory.pair(TransportConfig())
    cluster._embedded._ref.tell(SessionUp(SessionId("embedded"), ours))

def break_commander(cluster):
    # A job is opened twice, as if the portal had stammered.
    actor = cluster._commander._cell._actor
    cluster._commander.tell(next(iter(actor._jobs.values())))

with Commander(workers=1) as cmdr:
    assert cmdr.run(shout, [{"text": "sesame"}] * 100) == ["SESAME"] * 100
    outcomes = cmdr.imap(shout, ({"text": "sesame"} for _ in iter(int, 1)))
    next(outcomes)
    portal, _ = cmdr._cluster.start()
    portal.post(BREAK, cmdr._cluster)
    try:
        for _ in outcomes:
            pass
    except GoliathError as exc:
        print(exc)
"""


def crash(folder: Path, whose: str) -> tuple[str, Path]:
    """Have a mind break an invariant; what the user reads, and the file that this names."""
    script = folder / "script.py"
    script.write_text(SCRIPT.replace("BREAK", f"break_{whose}"))
    done = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, timeout=50, check=False
    )
    found = re.search(r"its journal is (\S+): `goliath replay \1`", done.stdout)
    assert found is not None, done.stdout + done.stderr
    return done.stdout, Path(found[1])


def replayed(path: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", "-m", "goliath", "replay", str(path), *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=50, check=False)


@pytest.mark.parametrize(
    ("whose", "invariant"),
    [("lieutenant", "session embedded opened twice"), ("commander", r"job \d+ opened twice")],
)
def test_the_journal_of_a_crashed_mind_makes_a_fresh_one_crash(
    tmp_path: Path, whose: str, invariant: str
):
    said, path = crash(tmp_path, whose)
    (frame,) = re.findall(r'core/(\w+\.py", line \d+, in _on_opened)', said)
    assert path.stat().st_mode & 0o777 == 0o600
    assert "sesame" not in path.read_text().lower()  # nor anything else of the user's
    done = replayed(path)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr
    assert frame in done.stdout
    assert re.search(rf"AssertionError: {invariant}\nit ends as it did, after \d+", done.stdout)
    assert "    Run(" in done.stdout if whose == "lieutenant" else "    Assign(" in done.stdout
    assert '"same": true' in replayed(path, "--json").stdout.splitlines()[-1]


def test_what_is_no_journal_is_refused_in_a_sentence(tmp_path: Path):
    path = tmp_path / "notes.txt"
    path.write_text("buy milk")
    done = replayed(path)
    assert done.returncode == 1
    assert "notes.txt is not the journal of a crashed mind" in done.stderr
    assert replayed(tmp_path / "none").stderr.startswith("goliath: ")
