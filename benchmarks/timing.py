"""Timing of calls in this process, and of programs in separate processes.

It needs the standard library alone, so that its source can begin a program for another interpreter.
"""

import statistics
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

Result = TypeVar("Result")
Clock = Callable[[], float]


class Finished(NamedTuple):
    """A program that ended with code 0.

    Attributes:
        seconds: From its start to its end.
        output: What it wrote to standard output.
    """

    seconds: float
    output: str


def timed(act: Callable[[], Result], clock: Clock = time.perf_counter) -> tuple[float, Result]:
    """Return the seconds that a call takes, and its result."""
    start = clock()
    result = act()
    return clock() - start, result


def seconds(act: Callable[[], object], clock: Clock = time.perf_counter) -> float:
    """Return the seconds that a call takes."""
    return timed(act, clock)[0]


def milliseconds(act: Callable[[], object], times: int, *, warm_up: int = 1) -> float:
    """Return the median of several calls, after some that are not counted."""
    for _ in range(warm_up):
        act()
    return 1e3 * statistics.median(seconds(act) for _ in range(times))


def in_turn(measurements: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Return the results of measurements by name, one of each round.

    They take turns, in one order and then in the other, so that what else the machine does falls on all alike.
    """
    results: dict[str, list[float]] = {name: [] for name in measurements}
    for number in range(rounds):
        for name in list(measurements)[:: -1 if number % 2 else 1]:
            results[name].append(measurements[name]())
    return results


def run(
    command: Sequence[str | Path], *, environment: Mapping[str, str] | None = None, folder: str | Path | None = None
) -> Finished:
    """Run a program to its end.

    Args:
        command: The program and its arguments.
        environment: Its environment variables; those of this process unless given.
        folder: Where it runs; here unless given.

    Raises:
        SystemExit: It failed; with what it wrote to standard error.
    """
    duration, done = timed(
        lambda: subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, check=False)
    )
    if done.returncode:
        raise SystemExit(f"{command[0]} ended with code {done.returncode}:\n{done.stderr}")
    return Finished(duration, done.stdout)


def peak_memory() -> float:
    """Return the most memory that this process has had resident, in MiB, as Linux counts it.

    Not ``getrusage``, whose peak is that of the process which started this one, if that is larger.
    """
    (line,) = (
        line for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines() if line.startswith("VmHWM:")
    )
    return int(line.split()[1]) / 1024
