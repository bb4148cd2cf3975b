"""``encode_batch`` and ``decode_batch`` against loops of ``save`` and ``open``, in one run, with the embedded model.

    python benchmarks/batch.py FOLDER [--pictures N] [--rounds N] [--batch-sizes 1 4]

One loop has one core, which shows how well the work scales to all of them. The other has all cores, as in an ordinary
program: the model's threads use them, but the rest of the work uses only one. The runs alternate, and medians are
compared.
"""

import argparse
import io
import itertools
import statistics
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import timing
from PIL import Image
from rich.console import Console
from rich.table import Table

import pillow_sdc
from pillow_sdc.runtime.threads import cores, use_cores

SIDE = 512


def save(pictures: list[Image.Image], options: dict[str, Any]) -> list[bytes]:
    files = []
    for picture in pictures:
        buffer = io.BytesIO()
        picture.save(buffer, "SDC", **options)
        files.append(buffer.getvalue())
    return files


def load(files: list[bytes]) -> list[Image.Image]:
    images = []
    for file in files:
        image = Image.open(io.BytesIO(file))
        image.load()
        images.append(image)
    return images


def seconds(act: Callable[[], object], with_cores: int) -> float:
    use_cores(with_cores)
    return timing.seconds(act)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--pictures", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[1, 4])
    arguments = parser.parse_args()
    pillow_sdc.configure(model="compact", device="cpu")
    paths = itertools.cycle(sorted(path for path in arguments.folder.iterdir() if path.suffix in {".png", ".webp"}))
    pictures = [
        Image.open(path).convert("RGB").resize((SIDE, SIDE)) for path in itertools.islice(paths, arguments.pictures)
    ]
    sizes = [f"batches of {size}" for size in arguments.batch_sizes]
    columns = ["loop, 1 core", f"loop, {cores()}", *sizes, "over 1 core", f"over {cores()}"]
    table = Table("seconds", *columns, title=f"{len(pictures)} pictures")
    for name, options in (("palette", {}), ("context", {"quality": 50})):
        files = save(pictures, options)
        tasks: dict[str, tuple[Callable[[], object], Callable[[int], object]]] = {
            "encode": (
                partial(save, pictures, options),
                lambda size: pillow_sdc.encode_batch(pictures, batch_size=size, **options),  # noqa: B023
            ),
            "decode": (partial(load, files), lambda size: pillow_sdc.decode_batch(files, batch_size=size)),  # noqa: B023
        }
        for task, (loop, batch) in tasks.items():
            medians = timed(loop, batch, arguments.batch_sizes, arguments.rounds)
            one_core, all_cores, *batches = medians
            ratios = f"{one_core / min(batches):.2f}", f"{all_cores / min(batches):.2f}"
            table.add_row(f"{name}, {task}", *(f"{median:.2f}" for median in medians), *ratios)
    Console().print(table)


def timed(
    loop: Callable[[], object], batch: Callable[[int], object], batch_sizes: list[int], rounds: int
) -> list[float]:
    """Return the median times of the loop on one core, of the loop on all, and of each size of batches."""
    every = cores()
    measurements = {"one core": partial(seconds, loop, 1), "all cores": partial(seconds, loop, every)}
    for size in batch_sizes:
        measurements[f"batches of {size}"] = partial(seconds, partial(batch, size), every)
    loop()  # what is imported and built at first use is so now
    return [statistics.median(values) for values in timing.in_turn(measurements, rounds).values()]


if __name__ == "__main__":
    main()
