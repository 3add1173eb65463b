"""What is found out about this machine."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from goliath.machine import gpu_ids, process_exists, total_memory
from tests.processes import until


@pytest.mark.parametrize(
    ("visible", "count", "found"),
    [
        ("0,1", None, ("0", "1")),
        ("3, GPU-5ebe9f43 ,1", None, ("3", "GPU-5ebe9f43", "1")),
        ("3,2,1", 2, ("3", "2")),
        ("3,2,1", 0, ()),
        ("", None, ()),
        ("-1", None, ()),
        ("NoDevFiles", None, ()),
        ("1,-1,2", None, ("1",)),  # CUDA stops at the first that is none
        ("1,1", None, ("1",)),
    ],
)
def test_the_gpus_are_those_that_are_visible(
    visible: str, count: int | None, found: tuple[str, ...]
):
    assert gpu_ids(count, {"CUDA_VISIBLE_DEVICES": visible}) == found


def test_more_gpus_than_are_visible_cannot_be_offered():
    with pytest.raises(ValueError, match=r"3 GPUs .* CUDA_VISIBLE_DEVICES='0,1' shows 2"):
        gpu_ids(3, {"CUDA_VISIBLE_DEVICES": "0,1"})


def test_without_a_word_about_it_they_are_those_that_the_driver_lists(tmp_path: Path):
    (tmp_path / "0000:01:00.0").mkdir()
    (tmp_path / "0000:02:00.0").mkdir()
    assert gpu_ids(None, {}, tmp_path) == ("0", "1")
    assert gpu_ids(None, {}, tmp_path / "none") == ()
    assert gpu_ids(4, {}, tmp_path) == ("0", "1", "2", "3")


def test_the_memory_is_that_of_the_machine_or_of_the_container(tmp_path: Path):
    everything = total_memory([])
    assert everything == pytest.approx(psutil.virtual_memory().total, rel=0.01)
    (tmp_path / "unlimited").write_text("max\n")
    (tmp_path / "tight").write_text("1048576\n")
    assert total_memory([tmp_path / "none", tmp_path / "unlimited"]) == everything
    assert total_memory([tmp_path / "unlimited", tmp_path / "tight"]) == 1048576


def test_a_process_that_has_ended_does_not_exist_though_nobody_has_asked_how_it_ended():
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        assert process_exists(process.pid)
        process.kill()
        until(lambda: psutil.Process(process.pid).status() == psutil.STATUS_ZOMBIE, within=5)
        assert not process_exists(process.pid)
    assert not process_exists(process.pid)
    assert process_exists(os.getpid())
