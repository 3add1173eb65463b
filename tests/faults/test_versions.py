"""A node of another Python, or of another protocol: refused before anything is unpickled."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

import goliath
from goliath import Commander
from goliath.transport.handshake import SESSION_VERSION
from tests.e2e.calls import add
from tests.faults.promises import _AUDITED, Audited, nothing_is_unpickled_here, pickles_are_noticed

ANOTHER_PYTHON = """
from goliath.transport import serialization
from goliath.transport.versions import Versions
# Before anybody imports it from there.
serialization.own_versions = lambda: Versions("3.99", "3.1")
"""


ANOTHER_PROTOCOL = """
from goliath.transport import handshake
handshake.SESSION_VERSION = 99
"""


@pytest.mark.parametrize(
    ("sabotage", "theirs", "ours"),
    [
        (ANOTHER_PYTHON, "Python 3.99", f"Python 3.{sys.version_info.minor}"),
        (ANOTHER_PROTOCOL, "version 99", f"version {SESSION_VERSION}"),
    ],
    ids=["python", "protocol"],
)
def test_other_python_or_protocol_is_a_version_mismatch_before_any_pickle(
    tmp_path: Path, sabotage: str, theirs: str, ours: str
):
    assert pickles_are_noticed()
    launcher = ("-c", _AUDITED.replace("from goliath.l", sabotage + "from goliath.l"))
    with Audited(tmp_path, 1, launcher=launcher) as own:
        with (
            nothing_is_unpickled_here(),
            Commander([own.address], connect_timeout=2) as commander,
            pytest.raises(goliath.VersionMismatchError) as caught,
        ):
            commander.run(add, [(1, 1)])
        own.has_unpickled_nothing()
    assert theirs in str(caught.value)
    assert ours in str(caught.value)


def test_a_node_of_the_same_python_never_unpickles_either(tmp_path: Path):
    with Audited(tmp_path, 1) as own:
        with Commander([own.address]) as commander:
            assert commander.run(Path, [("a",)]) == [Path("a")]
        own.has_unpickled_nothing()
