"""Memory that calls reserve, and what is said when a node has less than one of them asks for."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import goliath
from goliath import GoliathError
from goliath.node_options import parser
from tests.lieutenants import Lieutenant

MIB = 2**20


@pytest.fixture(scope="module")
def machine(private_home: Path) -> Iterator[Lieutenant]:
    with Lieutenant(4, "--memory", "1G") as lieutenant:
        yield lieutenant


@goliath.remote(memory=600 * MIB)
def nap(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


def test_calls_run_together_only_if_their_memory_fits(machine: Lieutenant):
    goliath.init(machine.address)
    assert goliath.cluster_resources()["memory"] == 1024 * MIB
    start = time.monotonic()
    goliath.get([nap.remote(0.3) for _ in range(2)])
    assert time.monotonic() - start > 0.6
    goliath.shutdown()


def test_a_run_may_reserve_memory_too(machine: Lieutenant):
    with goliath.Commander([machine.address]) as commander:
        start = time.monotonic()
        commander.run(time.sleep, [(0.3,)] * 2, resources={"memory": 600 * MIB})
        assert time.monotonic() - start > 0.6


def test_too_much_is_a_warning_first_and_then_an_error(
    machine: Lieutenant, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("GOLIATH_PLACEMENT_WARNING_S", "0.1")
    monkeypatch.setenv("GOLIATH_PLACEMENT_TIMEOUT_S", "0.6")
    goliath.init(machine.address)
    refs = [nap.options(memory=3 * 1024 * MIB).remote(0) for _ in range(3)]
    missing = (
        r"nap.* on no connected node: memory=3 GiB is more than any node has \(the most: 1 GiB"
    )
    for ref in refs:
        with pytest.raises(GoliathError, match=missing):
            goliath.get(ref, timeout=30)
    (warning,) = capfd.readouterr().err.splitlines()
    assert "goliath: nap can run on no connected node: memory=3 GiB" in warning
    assert warning.endswith("its calls fail in 0.5 s unless one connects that can")
    goliath.shutdown()


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("1000", 1000),
        ("512M", 512 * MIB),
        ("1.5g", 1536 * MIB),
        ("2GiB", 2048 * MIB),
        ("4KB", 4096),
        ("1T", MIB * MIB),
    ],
)
def test_a_size_is_bytes_or_has_a_unit(text: str, size: int):
    assert parser().parse_args(["127.0.0.1", "0", "--memory", text]).memory == size


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--memory", "much"], "'much' is no size: a number of bytes, or with K, M, G or T"),
        (["--memory", "-1"], "'-1' is no size"),
        (["--resources", '{"memory": 2}'], "memory is not given here, but as --memory"),
    ],
)
def test_a_size_that_is_none_is_refused(flags: list[str], words: str):
    ended = subprocess.run(
        [sys.executable, "-m", "goliath.lieutenant", "127.0.0.1", "0", "1", *flags],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert ended.returncode == 2
    assert words in ended.stderr
