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
    *("cpu", "makespan", "fairness", "footprint"),
)
STOP_MAX_S = 30.0
LIMIT_S = 300.0  # one benchmark; the longest takes about a minute
GRACE_S = 2.0  # for its stack to reach stderr before it is interrupted


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 0 all targets met, 1 one was missed or a benchmark failed, 130 interrupted."""
    options = _parser().parse_args(argv)
    # A shell that runs us in the background has SIGINT ignored; SIGTERM should clean up as well.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        if options.inside:
            return _inside(options.inside, options.quick)
        return _judge(options.names or NAMES, options.quick, options.json)
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="name", help=f"of {', '.join(NAMES)}")
    parser.add_argument("--quick", action="store_true", help="fewer repetitions")
    parser.add_argument("--json", action="store_true", help="a line of JSON for each figure")
    parser.add_argument("--inside", choices=NAMES, help=argparse.SUPPRESS)
    return parser


def _inside(name: str, quick: bool) -> int:
    """One benchmark in this process; its figures go to stdout as they are measured."""
    faulthandler.dump_traceback_later(LIMIT_S)
    with isolated():
        benchmark = importlib.import_module(f"benchmarks.{name}")
        for figure in benchmark.measure(quick):
            print(figure.as_json(), flush=True)
    return 0


def _judge(names: Sequence[str], quick: bool, as_json: bool) -> int:
    if unknown := [name for name in names if name not in NAMES]:
        print(f"no benchmark named {', '.join(unknown)}; there are {', '.join(NAMES)}")
        return 2
    if not as_json:
        print(HEADING, flush=True)
    missed = [fault for name in names for fault in _faults(name, quick, as_json)]
    for fault in missed:
        print(fault, file=sys.stderr)
    return 1 if missed else 0


def _faults(name: str, quick: bool, as_json: bool) -> list[str]:
    """Run one benchmark and print its figures; what there is to complain about."""
    faults: list[str] = []

    def show(figure: Figure) -> None:
        print(figure.as_json() if as_json else figure.as_line(), flush=True)
        if figure.verdict == MISSED:
            faults.append(f"{MISSED}: {name}: {figure.name}")

    if status := _outside(name, quick, show):
        faults.append(f"{FAILED}: {name}: exit status {status}")
    return faults


def _outside(name: str, quick: bool, show: Callable[[Figure], None]) -> int:
    """One benchmark in a fresh process: no heap, thread or cache of the one before."""
    child = subprocess.Popen(
        [sys.executable, "-m", "benchmarks", "--inside", name, *(["--quick"] if quick else [])],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        # A terminal sends Ctrl-C to the whole group: here only we get it, and pass it on once.
        start_new_session=True,
    )
    overdue = threading.Timer(LIMIT_S + GRACE_S, _end, [child])
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
