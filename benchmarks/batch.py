"""``encode_batch`` and ``decode_batch`` against a loop of ``save`` and ``open``, in one run, with the embedded model.

python benchmarks/batch.py FOLDER [--pictures N] [--batch-sizes 1 4]
"""

import argparse
import io
import itertools
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from PIL import Image
from rich.console import Console
from rich.table import Table

import pillow_sdc

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


def seconds(act: Callable[[], object]) -> float:
    start = time.perf_counter()
    act()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--pictures", type=int, default=64)
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[1, 4])
    arguments = parser.parse_args()
    pillow_sdc.configure(model="compact", device="cpu")
    paths = itertools.cycle(sorted(arguments.folder.glob("*.png")))
    pictures = [
        Image.open(path).convert("RGB").resize((SIDE, SIDE)) for path in itertools.islice(paths, arguments.pictures)
    ]
    console, table = (
        Console(),
        Table(f"{len(pictures)} pictures", "loop, s", *(f"batch of {n}, times as fast" for n in arguments.batch_sizes)),
    )
    for name, options in (("palette", {}), ("context", {"quality": 50})):
        files = save(pictures[:2], options)
        load(files)  # what is imported and built at first use is so now
        files = save(pictures, options)
        encoding, decoding = seconds(partial(save, pictures, options)), seconds(partial(load, files))
        encoded, decoded = [], []
        for size in arguments.batch_sizes:
            encoded.append(seconds(partial(pillow_sdc.encode_batch, pictures, batch_size=size, **options)))
            decoded.append(seconds(partial(pillow_sdc.decode_batch, files, batch_size=size)))
        table.add_row(f"{name}, encode", f"{encoding:.2f}", *(f"{encoding / span:.2f}" for span in encoded))
        table.add_row(f"{name}, decode", f"{decoding:.2f}", *(f"{decoding / span:.2f}" for span in decoded))
    console.print(table)


if __name__ == "__main__":
    main()
