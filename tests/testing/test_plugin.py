"""The pytest plugin, in a pytest of its own that finds it as users' does: by its entry point."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

ROOT = Path(__file__).parents[2]


@pytest.fixture
def users(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """A project whose pytest sees Goliath as if it had been installed with this pyproject.toml."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    installed = pytester.mkdir("site") / "goliath_of_this_tree-0.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: goliath_of_this_tree\n")
    lines = [f"{name} = {to}" for name, to in project["entry-points"]["pytest11"].items()]
    (installed / "entry_points.txt").write_text("\n".join(["[pytest11]", *lines, ""]))
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}:{installed.parent}")
    for name in ("PYTEST_ADDOPTS", "PYTEST_XDIST_WORKER", "PYTEST_PLUGINS"):
        monkeypatch.delenv(name, raising=False)
    return pytester


def test_its_fixtures_are_there_by_themselves(users: pytest.Pytester):
    users.makepyfile(
        """
        import os
        import threading

        import pytest

        import goliath
        from goliath.testing import chaos

        @goliath.remote
        def pid(_=None):
            return os.getpid()

        def test_in_place(goliath_inline):
            assert goliath.get(pid.remote()) == os.getpid()
            with pytest.raises(goliath.SerializationError):
                pid.remote(threading.Lock())

        def test_on_a_cluster(goliath_cluster):
            assert goliath.get(pid.remote()) != os.getpid()
            assert [node.workers for node in goliath_cluster.nodes] == [2, 2]
            assert chaos.kill_worker() > 0
            assert goliath.get(pid.remote()) != os.getpid()

        @pytest.mark.goliath_cluster(nodes=1, workers=3, env={"COLOUR": "green"})
        def test_on_another_cluster(goliath_cluster):
            assert [node.workers for node in goliath_cluster.nodes] == [3]
            assert goliath_cluster.commander.run(os.getenv, [("COLOUR",)]) == ["green"]

        def test_on_none():
            assert not goliath.is_initialized()
        """
    )
    result = users.runpytest_subprocess("--strict-markers", "-p", "no:randomly")
    result.assert_outcomes(passed=4)


def test_whoever_uses_no_fixture_pays_nothing(users: pytest.Pytester):
    users.makepyfile(
        """
        import sys

        HEAVY = ("asyncio", "aiohttp", "uvloop", "cloudpickle", "orjson", "psutil")

        def test_nothing(pytestconfig):
            assert pytestconfig.pluginmanager.hasplugin("goliath")
            assert [name for name in sys.modules if name.startswith("goliath.")] == [
                "goliath.testing",
                "goliath.testing.plugin",
            ]
            assert not [name for name in HEAVY if name in sys.modules]
        """
    )
    others = [option for name in _OTHERS for option in ("-p", f"no:{name}")]
    users.runpytest_subprocess(*others).assert_outcomes(passed=1)


_OTHERS = ("asyncio", "xdist", "timeout", "hypothesispytest", "anyio", "aiohttp")
"""Plugins of this project's own tests, which import what they like."""


def test_a_test_that_fails_leaves_no_lieutenant_behind(users: pytest.Pytester):
    users.makepyfile(
        """
        def test_it(goliath_cluster):
            print("pids", *[node.pid for node in goliath_cluster.nodes])
            assert goliath_cluster.commander.run(abs, [(-1,)]) == [2]
        """
    )
    result = users.runpytest_subprocess()
    result.assert_outcomes(failed=1)
    (line,) = [line for line in result.outlines if line.startswith("pids ")]
    for pid in line.split()[1:]:
        assert not Path(f"/proc/{pid}").exists()
