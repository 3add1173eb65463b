"""Which GPUs a call is given, and that it sees no others."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import goliath
from goliath import GoliathError
from tests.lieutenants import Lieutenant


@pytest.fixture(scope="module")
def machine(private_home: Path) -> Iterator[Lieutenant]:
    with Lieutenant(4, "--num-gpus", "2") as lieutenant:
        yield lieutenant


@pytest.fixture
def cluster(machine: Lieutenant) -> Iterator[None]:
    goliath.init(machine.address)
    yield
    goliath.shutdown()


@goliath.remote
def seen() -> tuple[str | None, int]:
    return os.environ.get("CUDA_VISIBLE_DEVICES"), os.getpid()


@goliath.remote
def meet(folder: str, name: str, others: int) -> tuple[str, int]:
    """What it sees, when so many others run at the same time."""
    import time

    Path(folder, name).touch()
    until = time.monotonic() + 20
    while len(list(Path(folder).iterdir())) < others + 1:
        assert time.monotonic() < until, "it runs alone"
        time.sleep(0.005)
    return os.environ["CUDA_VISIBLE_DEVICES"], os.getpid()


def together(tmp_path: Path, count: int, **options) -> list[str]:
    function = meet.options(**options)
    refs = [function.remote(str(tmp_path), str(n), count - 1) for n in range(count)]
    found = goliath.get(refs, timeout=30)
    assert len({pid for _, pid in found}) == count
    return sorted(devices for devices, _ in found)


@pytest.mark.usefixtures("cluster")
def test_two_calls_at_once_have_a_gpu_each(tmp_path: Path):
    assert together(tmp_path, 2, num_gpus=1) == ["0", "1"]


@pytest.mark.usefixtures("cluster")
def test_a_call_with_two_gpus_sees_both():
    assert goliath.get(seen.options(num_gpus=2).remote())[0] == "0,1"


@pytest.mark.usefixtures("cluster")
def test_two_halves_are_of_one_gpu(tmp_path: Path):
    assert together(tmp_path, 2, num_gpus=0.5) == ["0", "0"]
    (other := tmp_path / "other").mkdir()
    assert together(other, 4, num_gpus=0.5) == ["0", "0", "1", "1"]


@pytest.mark.usefixtures("cluster")
def test_a_process_that_had_a_gpu_is_not_used_again_and_others_see_none():
    pids = {goliath.get(seen.options(num_gpus=1).remote())[1] for _ in range(4)}
    assert len(pids) == 4
    devices, pid = goliath.get(seen.remote())
    assert devices == ""
    assert pid not in pids


@pytest.mark.usefixtures("cluster")
def test_many_calls_share_the_gpus_there_are():
    found = goliath.get([seen.options(num_gpus=1).remote() for _ in range(200)], timeout=60)
    assert {devices for devices, _ in found} <= {"0", "1"}
    assert goliath.cluster_resources()["GPU"] == 2.0


@pytest.mark.usefixtures("cluster")
def test_more_gpus_than_any_node_has_is_an_error_that_says_so():
    with pytest.raises(GoliathError, match=r"no connected node: num_gpus=3 .* \(the most: 2"):
        goliath.get(seen.options(num_gpus=3).remote())


def test_an_initializer_sees_the_gpus_of_its_calls_too(machine: Lieutenant):
    def remember() -> None:
        os.environ["SEEN"] = os.environ["CUDA_VISIBLE_DEVICES"]

    def tell(n: int) -> str:
        return os.environ["SEEN"]

    with goliath.Commander([machine.address]) as commander:
        found = commander.run(tell, [(1,)], resources={"GPU": 2}, initializer=remember)
    assert found == ["0,1"]


def test_the_ids_are_those_of_the_node_s_own_environment(lieutenant):
    own = lieutenant(2, env={"CUDA_VISIBLE_DEVICES": "5,GPU-7a"})
    goliath.init(own.address)
    assert goliath.get(seen.options(num_gpus=2).remote())[0] == "5,GPU-7a"
    goliath.shutdown()


def test_a_node_without_gpus_leaves_the_environment_alone(lieutenant):
    own = lieutenant(1, "--num-gpus", "0", env={"CUDA_VISIBLE_DEVICES": "9"})
    goliath.init(own.address)
    assert goliath.get(seen.remote())[0] == "9"
    goliath.shutdown()


def test_an_embedded_lieutenant_has_the_gpus_of_its_process(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1,0")
    goliath.init(workers=2)
    assert goliath.cluster_resources()["GPU"] == 2.0
    assert goliath.get(seen.options(num_gpus=1).remote())[0] == "1"
    assert goliath.get(seen.remote())[0] == ""
    goliath.shutdown()


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--num-gpus", "-1"], "it is 0 or more"),
        (["--num-gpus", "3"], "CUDA_VISIBLE_DEVICES='0,1' shows 2"),
        (["--resources", '{"GPU": 2}'], "GPU is not given here, but as --num-gpus"),
    ],
)
def test_a_node_that_cannot_offer_what_it_is_told_to_does_not_start(flags: list[str], words: str):
    ended = subprocess.run(
        [sys.executable, "-m", "goliath.lieutenant", "127.0.0.1", "0", "1", *flags],
        env={**os.environ, "CUDA_VISIBLE_DEVICES": "0,1"},
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert ended.returncode == 2
    assert words in ended.stderr
