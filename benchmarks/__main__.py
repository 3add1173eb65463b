"""The command: run the benchmarks, each in a process of its own, and judge their figures."""

import argparse
import faulthandler
import importlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence

from benchmarks.figure import FAILED, HEADING, MISSED, Figure
from benchmarks.node import ROOT, isolated

NAMES = (
    *("batch", "latency", "remote", "chain", "actors"),
    *("cpu", "makespan", "stragglers", "fairness", "bandwidth"),
    *("compression", "footprint", "arrays", "attack"),
)
# Only when they are named: they take as long as they are told to.
SOAK, FUZZ = "soak", "fuzz"
ON_DEMAND = (SOAK, FUZZ)
STOP_MAX_S = 30.0
LIMIT_S = 300.0  # one benchmark; the longest takes about a minute, but for those on demand
FRAME_LIMIT_S = 0.01  # one of the fuzz; it takes 0.3 ms where the machine is free
GRACE_S = 2.0  # for its stack to reach stderr before it is interrupted


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 0 all targets met, 1 one was missed or a benchmark failed, 130 interrupted."""
    options = _parser().parse_args(argv)
    # A shell that runs us in the background has SIGINT ignored; SIGTERM should clean up as well.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        if options.replay:
            return _replay(options.replay)
        if options.inside:
            return _inside(options)
        return _judge(options)
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    names = f"of {', '.join(NAMES)}; or {' or '.join(ON_DEMAND)}, by itself"
    parser.add_argument("names", nargs="*", metavar="name", help=names)
    parser.add_argument("--quick", action="store_true", help="fewer repetitions")
    parser.add_argument("--json", action="store_true", help="a line of JSON for each figure")
    parser.add_argument("--minutes", type=float, default=10.0, help="of the soak (default: 10)")
    parser.add_argument(
        "--frames", type=int, default=1_000_000, help="spoiled ones, of the fuzz (default: 1000000)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the fuzz (default: 0)")
    parser.add_argument("--replay", metavar="CASE", help="feed what the fuzz has found once more")
    parser.add_argument("--inside", choices=(*NAMES, *ON_DEMAND), help=argparse.SUPPRESS)
    return parser


def _limit_s(name: str, options: argparse.Namespace) -> float:
    on_demand = {SOAK: 60 * options.minutes, FUZZ: FRAME_LIMIT_S * options.frames}
    return LIMIT_S + on_demand.get(name, 0)


def _replay(case: str) -> int:
    with isolated():
        status: int = importlib.import_module("benchmarks.fuzz").replay(case)
    return status


def _inside(options: argparse.Namespace) -> int:
    """One benchmark in this process; its figures go to stdout as they are measured."""
    name = options.inside
    faulthandler.dump_traceback_later(_limit_s(name, options))
    how = {SOAK: (options.minutes,), FUZZ: (options.frames, options.seed)}
    with isolated():
        benchmark = importlib.import_module(f"benchmarks.{name}")
        for figure in benchmark.measure(*how.get(name, (options.quick,))):
            print(figure.as_json(), flush=True)
    return 0


def _judge(options: argparse.Namespace) -> int:
    names = options.names or NAMES
    if unknown := [name for name in names if name not in (*NAMES, *ON_DEMAND)]:
        there_are = ", ".join((*NAMES, *ON_DEMAND))
        print(f"no benchmark named {', '.join(unknown)}; there are {there_are}")
        return 2
    if not options.json:
        print(HEADING, flush=True)
    missed = [fault for name in names for fault in _faults(name, options)]
    for fault in missed:
        print(fault, file=sys.stderr)
    return 1 if missed else 0


def _faults(name: str, options: argparse.Namespace) -> list[str]:
    """Run one benchmark and print its figures; what there is to complain about."""
    faults: list[str] = []

    def show(figure: Figure) -> None:
        print(figure.as_json() if options.json else figure.as_line(), flush=True)
        if figure.verdict == MISSED:
            faults.append(f"{MISSED}: {name}: {figure.name}")

    if status := _outside(name, options, show):
        faults.append(f"{FAILED}: {name}: exit status {status}")
    return faults


def _outside(name: str, options: argparse.Namespace, show: Callable[[Figure], None]) -> int:
    """One benchmark in a fresh process: no heap, thread or cache of the one before."""
    flags = ["--quick"] if options.quick else []
    for flag in ("minutes", "frames", "seed"):
        flags += [f"--{flag}", str(getattr(options, flag))]
    child = subprocess.Popen(
        [sys.executable, "-m", "benchmarks", "--inside", name, *flags],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        # A terminal sends Ctrl-C to the whole group: here only we get it, and pass it on once.
        start_new_session=True,
    )
    overdue = threading.Timer(_limit_s(name, options) + GRACE_S, _end, [child])
    overdue.start()
    try:
        for line in child.stdout:
            show(Figure.from_json(line))
        return child.wait()
    finally:
        overdue.cancel()
        _end(child)
        overdue.join()
        child.stdout.close()


def _end(child: subprocess.Popen[str]) -> None:
    """Let it clean up; if it will not, end it with everything it started."""
    if child.poll() is None:
        child.send_signal(signal.SIGINT)
        try:
            child.wait(STOP_MAX_S)
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()


if __name__ == "__main__":
    sys.exit(main())
