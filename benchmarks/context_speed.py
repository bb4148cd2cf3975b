"""Times of the codec ``context``: the compiled kernel beside the reference in Python, at quality 50, in one thread.

    python benchmarks/context_speed.py FOLDER [--pictures N] [--rounds N] [--sections SECTION ...]

Latents are those of the embedded model for photographs of 512×512 pixels. The compared runs alternate, picture by
picture, and medians are given, so that other load on the machine affects all of them equally. CPU time is measured,
except in the last section. The sections:

paths    decoding and encoding along each of the processor's paths and by the reference
growth   time to decode 8×8 times as many latents, over decoding once: 64 if it is proportional
threads  time to decode the pictures in one thread over that in two: 2 if the threads run in parallel on two idle cores
"""

import argparse
import os
import statistics
import time
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from unittest import mock

# Before numpy is imported, so that whatever multiplies matrices for it keeps to one thread.
os.environ.update(dict.fromkeys(("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS"), "1"))

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console
from rich.table import Table
from timing import Clock, seconds

import pillow_sdc
from pillow_sdc.format.codecs import ContextCodec
from pillow_sdc.format.context import kernel as context_kernel
from pillow_sdc.format.context.kernel import Kernel, KernelSelection

Latents = NDArray[np.float32]

SIDE, LARGER = 512, 8
CODEC = ContextCodec()


def latents_of(folder: Path, count: int) -> list[Latents]:
    found = []
    with pillow_sdc.configure(model="compact", device="cpu"):
        for path in sorted(folder.iterdir())[:count]:
            with Image.open(path) as photo:
                found.append(pillow_sdc.encode_latents(photo.convert("RGB").resize((SIDE, SIDE))))
    return found


def milliseconds(act: Callable[[], object], clock: Clock = time.thread_time) -> float:
    return 1e3 * seconds(act, clock)


def decode(payload: bytes, shape: tuple[int, ...]) -> None:
    CODEC.decode(payload, *shape[1:])


def paths_table(pictures: list[Latents], rounds: int) -> Table:
    kernels = [None, *(Kernel(path=path) for path in Kernel().paths)]
    payloads = [CODEC.encode(latents) for latents in pictures]
    times = defaultdict(list)
    for _ in range(rounds):
        for latents, payload in zip(pictures, payloads, strict=True):
            for kernel in kernels:
                with mock.patch.object(context_kernel, "selection", return_value=KernelSelection(kernel, "")):
                    times[kernel, "decode"].append(milliseconds(lambda: decode(payload, latents.shape)))  # noqa: B023
                    times[kernel, "encode"].append(milliseconds(lambda: CODEC.encode(latents)))  # noqa: B023
    table = Table("path", "decode, ms", "times as fast", "encode, ms", "times as fast", title="64×64 latents")
    for kernel in kernels:
        cells = []
        for task in ("decode", "encode"):
            median, reference = (statistics.median(times[which, task]) for which in (kernel, None))
            cells += [f"{median:.2f}", f"{reference / median:.1f}"]
        table.add_row(kernel.path if kernel else "the reference", *cells)
    return table


def growth_table(pictures: list[Latents], rounds: int) -> Table:
    large = [np.tile(latents, (1, LARGER, LARGER)) for latents in pictures[:2]]
    jobs = [(CODEC.encode(latents), latents.shape) for pair in zip(pictures, large, strict=False) for latents in pair]
    small_times, large_times = [], []
    for _ in range(rounds):
        for once, many in zip(jobs[::2], jobs[1::2], strict=True):
            # As many small ones as are timed with a large one, so that both meet the same machine.
            small_times.append(milliseconds(lambda: [decode(*once) for _ in range(LARGER**2)]) / LARGER**2)  # noqa: B023
            large_times.append(milliseconds(lambda: decode(*many)))  # noqa: B023
    table = Table("64×64, ms", "512×512, ms", "ratio", title="growth of decoding")
    small, large_median = statistics.median(small_times), statistics.median(large_times)
    table.add_row(f"{small:.2f}", f"{large_median:.1f}", f"{large_median / small:.1f}")
    return table


def threads_table(pictures: list[Latents], rounds: int) -> Table:
    jobs = [(CODEC.encode(latents), latents.shape) for latents in pictures] * max(1, 64 // len(pictures))
    times = defaultdict(list)

    def all_by(pool: ThreadPoolExecutor) -> None:
        list(pool.map(lambda job: decode(*job), jobs))

    with ThreadPoolExecutor(1) as one, ThreadPoolExecutor(2) as two:
        for _ in range(rounds):
            for pool in (one, two):
                times[pool].append(milliseconds(partial(all_by, pool), time.perf_counter))
        table = Table("one thread, ms", "two, ms", "ratio", title=f"decoding {len(jobs)} pictures")
        alone, together = statistics.median(times[one]), statistics.median(times[two])
    table.add_row(f"{alone:.0f}", f"{together:.0f}", f"{alone / together:.2f}")
    return table


SECTIONS = {"paths": paths_table, "growth": growth_table, "threads": threads_table}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="photographs")
    parser.add_argument("--pictures", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--sections", nargs="+", choices=SECTIONS, default=list(SECTIONS))
    arguments = parser.parse_args()
    pictures = latents_of(arguments.folder, arguments.pictures)
    for section in arguments.sections:
        Console().print(SECTIONS[section](pictures, arguments.rounds))


if __name__ == "__main__":
    main()
