"""``requirements=``: packages that nodes install for a job, where they may."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import goliath
from goliath import Commander
from goliath.errors import RuntimeEnvSetupError
from goliath.machine import process_exists
from goliath.testing.processes import until
from tests.e2e.conftest import ROOT
from tests.lieutenants import Lieutenant
from tests.wheels import make_stuck, make_wheel, settings

pytestmark = pytest.mark.timeout(240)

ONE = ["goliath_test_one"]


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A package in two versions."""
    folder = tmp_path_factory.mktemp("wheels")
    for version in ("1.0", "2.0"):
        make_wheel(folder, "goliath_test_one", version, f"VERSION = {version!r}\n")
    return folder


@pytest.fixture(scope="module")
def installing(private_home: Path, wheels: Path) -> Iterator[Lieutenant]:
    """A node that may install packages."""
    with Lieutenant(2, "--allow-install", env=settings(wheels)) as shared:
        yield shared


def version() -> str:
    """Of the package, where this runs."""
    import goliath_test_one  # type: ignore[import-not-found]

    found: str = goliath_test_one.VERSION
    return found


def test_a_job_has_the_packages_that_it_asks_for_and_others_do_not(installing: Lieutenant) -> None:
    with Commander([installing.address]) as commander:
        assert commander.run(version, [()] * 3, requirements=ONE) == ["2.0"] * 3
        assert commander.run(version, [()], requirements=["goliath_test_one<2"]) == ["1.0"]
        with pytest.raises(ModuleNotFoundError, match=r"'goliath_test_one' on 127\.0\.0\.1:"):
            commander.run(version, [()])

        def about() -> tuple[str, bool]:
            import cloudpickle
            import goliath_test_one

            first = os.environ["PATH"].partition(os.pathsep)[0]
            return first, os.path.dirname(goliath_test_one.__file__).startswith(
                os.environ["VIRTUAL_ENV"]
            ) and bool(cloudpickle.__version__)

        ((first, found),) = commander.run(about, [()], requirements=ONE)
        assert found
        assert subprocess.check_output([f"{first}/python", "-c", "import goliath_test_one"]) == b""


def test_remote_functions_and_actors_have_theirs(installing: Lieutenant) -> None:
    goliath.init(installing.address)
    try:
        remote = goliath.remote(requirements=ONE)(version)
        actor = goliath.remote(type("Holder", (), {"version": lambda self: version()}))
        holder = actor.options(requirements=ONE).remote()
        assert goliath.get([remote.remote(), holder.version.remote()]) == ["2.0", "2.0"]
    finally:
        goliath.shutdown()


def test_a_node_that_may_not_install_says_so(node: Lieutenant) -> None:
    with Commander([node.address]) as commander:
        with pytest.raises(RuntimeEnvSetupError, match=r"goliath_test_one.*--allow-install"):
            commander.run(version, [()], requirements=ONE)
        assert commander.run(abs, [(-1,)]) == [1]


def test_what_cannot_be_installed_says_why_and_may_be_tried_again(
    installing: Lieutenant, wheels: Path
) -> None:
    late = ["goliath_test_late"]
    with Commander([installing.address]) as commander:
        with pytest.raises(RuntimeEnvSetupError, match=r"(?s)goliath_test_late.*last lines:.*"):
            commander.run(abs, [(-1,)], requirements=late)
        make_wheel(wheels, "goliath_test_late", "1", "")
        assert commander.run(abs, [(-1,)], requirements=late) == [1]


def test_no_installer_outlives_its_lieutenant(
    lieutenant: Callable[..., Lieutenant], tmp_path: Path
) -> None:
    stuck = make_stuck(tmp_path, tmp_path)
    node = lieutenant(1, "--allow-install", env=settings(tmp_path))
    goliath.init(node.address)
    try:
        goliath.remote(requirements=["stuck"])(version).remote()
        until(stuck, 60)
        node.kill()
        until(lambda: not any(map(process_exists, stuck())), 30)
    finally:
        goliath.shutdown()


SCRIPT = """# /// script
# dependencies = [
#   "goliath",
#   "goliath_test_one<2",
# ]
# ///
import sys
from goliath import Commander
def version():
    import goliath_test_one
    return goliath_test_one.VERSION
with Commander([('127.0.0.1', int(sys.argv[1]))]) as cmdr:
    print(cmdr.run(version, [()]), cmdr.run(abs, [(-1,)], requirements=[]))
"""


def run_script(folder: Path, port: int) -> subprocess.CompletedProcess[str]:
    """Run the script as a user would."""
    (folder / "script.py").write_text(SCRIPT)
    return subprocess.run(
        [sys.executable, "-W", "error", "script.py", str(port)],
        cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


def test_the_block_of_a_script_counts(installing: Lieutenant, tmp_path: Path) -> None:
    run = run_script(tmp_path, installing.port)
    assert (run.stdout, run.stderr) == ("['1.0'] [1]\n", "")


def test_the_block_of_a_script_is_refused_where_nothing_is_installed(
    node: Lieutenant, tmp_path: Path
) -> None:
    run = run_script(tmp_path, node.port)
    assert "RuntimeEnvSetupError" in run.stderr
    assert "start it with --allow-install" in run.stderr
    assert "requirements=[]" in run.stderr


def test_an_embedded_lieutenant_installs_for_its_own_user(
    wheels: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in settings(wheels).items():
        monkeypatch.setenv(name, value)
    with Commander(workers=1) as commander:
        assert commander.run(version, [()], requirements=ONE) == ["2.0"]


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ("numpy", TypeError),
        ([1], TypeError),
        ([""], ValueError),
        (["--index-url=https://example.org"], ValueError),
        (["a\nb"], ValueError),
    ],
)
def test_what_is_no_list_of_packages_is_refused_where_it_is_given(
    cmdr: Commander, wrong: list[str], error: type[Exception]
) -> None:
    tries: list[Callable[[], object]] = [
        lambda: cmdr.run(abs, [(1,)], requirements=wrong),
        lambda: goliath.remote(requirements=wrong)(version),
        lambda: goliath.remote(requirements=wrong)(type("C", (), {})),
    ]
    for attempt in tries:
        with pytest.raises(error, match="requirements"):
            attempt()
