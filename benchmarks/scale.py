"""Speed-up by more workers, here and on Ray, and memory of a run: encoding with the embedded model on the CPU.

Each engine converts a folder of N photographs of 512×512 pixels, and one of twice as many. Both runs start processes
that import all they need and load the model, so their difference is the time that N pictures take without any of that;
what the first takes beyond it is the start-up. A run over two pictures goes before, for what this process itself
imports, and for the system's cache of files. A worker takes 16 pictures at a time, so N should be a multiple of 32, and
nothing else should be running.

With --memory two local workers encode 1,000 and then 10,000 pictures of 16×16 pixels. Their peak is the largest sum,
sampled during the run, of the memory that this process and its children have each for themselves.

python benchmarks/scale.py FOLDER [--pictures N]
python benchmarks/scale.py --memory [--counts 1000 10000]
"""

import argparse
import itertools
import random
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
from PIL import Image
from rich.console import Console
from rich.table import Table
from timing import timed

from pillow_sdc.jobs.executors.processes import LocalEngine
from pillow_sdc.jobs.executors.ray import RayEngine
from pillow_sdc.jobs.manifest import FOLDER
from pillow_sdc.jobs.runner import Engine, run
from pillow_sdc.jobs.tasks import Conversion

SIDE = 512
SMALL_SIDE = 16
WORKERS = 2
SAMPLING = 0.05
OUTPUT_WIDTH = 160  # of output that is not a terminal

ENCODING = Conversion(decode=False, settings={"model": "compact", "device": "cpu"})
ENGINES: dict[str, Callable[[], Engine]] = {
    "one local worker": lambda: LocalEngine(1),
    f"{WORKERS} local workers": lambda: LocalEngine(WORKERS),
    f"{WORKERS} actors of Ray": lambda: RayEngine(WORKERS),
}


def write_photographs(folder: Path, photographs: Path, count: int) -> None:
    folder.mkdir()
    paths = itertools.cycle(sorted(photographs.glob("*.png")))
    for number, path in enumerate(itertools.islice(paths, count)):
        Image.open(path).convert("RGB").resize((SIDE, SIDE)).save(folder / f"{number:05}.png", compress_level=1)


def write_noise(folder: Path, count: int) -> None:
    folder.mkdir()
    for number in range(count):
        samples = random.Random(number).randbytes(SMALL_SIDE * SMALL_SIDE * 3)  # noqa: S311
        Image.frombytes("RGB", (SMALL_SIDE, SMALL_SIDE), samples).save(folder / f"{number:05}.png")


def measured(source: Path, engine: Engine) -> tuple[float, int]:
    """Return how many seconds a run into a fresh folder takes, and the bytes of its manifest."""
    with tempfile.TemporaryDirectory() as target:
        duration, progress = timed(lambda: run(str(source), target, ENCODING, engine))
        manifest = sum(path.stat().st_size for path in Path(target, FOLDER).glob("*.parquet"))
    if progress.failed:
        raise RuntimeError(f"{progress.failed} pictures failed: {progress.errors}")
    return duration, manifest


def seconds(source: Path, engine: Engine) -> float:
    return measured(source, engine)[0]


@contextmanager
def sampled_memory() -> Iterator[list[int]]:
    """Give a list to which the bytes of this process and its children are appended until the block ends."""
    samples: list[int] = []
    ended = threading.Event()

    def sample() -> None:
        while not ended.wait(SAMPLING):
            samples.append(sum(map(own_memory, [psutil.Process(), *psutil.Process().children(recursive=True)])))

    thread = threading.Thread(target=sample)
    thread.start()
    try:
        yield samples
    finally:
        ended.set()
        thread.join()


def own_memory(process: psutil.Process) -> int:
    """Return the bytes that a process shares with no other; none of one that has just ended."""
    try:
        return int(process.memory_full_info().uss)
    except psutil.Error:
        return 0


def compare_engines(console: Console, folder: Path, photographs: Path, count: int) -> None:
    few, once, twice = folder / "few", folder / "once", folder / "twice"
    write_photographs(few, photographs, WORKERS)
    write_photographs(once, photographs, count)
    write_photographs(twice, photographs, 2 * count)
    table = Table(
        f"{count} pictures",
        "seconds",
        "times as fast as one worker",
        "of these, start-up",
        "seconds without it",
        "times as fast as one worker, without it",
    )
    first: tuple[float, float] | None = None
    for name, engine in ENGINES.items():
        seconds(few, engine())
        whole = seconds(once, engine())
        steady = seconds(twice, engine()) - whole
        first = first or (whole, steady)
        ratios = first[0] / whole, first[1] / steady
        table.add_row(
            name, f"{whole:.1f}", f"{ratios[0]:.2f}", f"{whole - steady:.1f}", f"{steady:.1f}", f"{ratios[1]:.2f}"
        )
    console.print(table)


def compare_memory(console: Console, folder: Path, counts: list[int]) -> None:
    table = Table("pictures", "seconds", "peak of memory, MB", "times the first", "manifest, bytes a picture")
    first: int | None = None
    for count in counts:
        source = folder / str(count)
        write_noise(source, count)
        with sampled_memory() as samples:
            duration, manifest = measured(source, LocalEngine(WORKERS))
        peak = max(samples)
        first = first or peak
        share = f"{manifest / count:.0f}"
        table.add_row(f"{count:,}", f"{duration:.1f}", f"{peak / 1e6:.0f}", f"{peak / first:.3f}", share)
    console.print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--pictures", type=int, default=64)
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--counts", type=int, nargs="+", default=[1_000, 10_000])
    arguments = parser.parse_args()
    if arguments.folder is None and not arguments.memory:
        parser.error("a folder of photographs is needed, or --memory")
    console = Console() if sys.stdout.isatty() else Console(width=OUTPUT_WIDTH)
    with tempfile.TemporaryDirectory() as folder:
        if arguments.folder is not None:
            compare_engines(console, Path(folder), arguments.folder, arguments.pictures)
        if arguments.memory:
            compare_memory(console, Path(folder), arguments.counts)


if __name__ == "__main__":
    main()
