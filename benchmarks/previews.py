"""Time to read a small picture, or the latents, from an ``.sdc`` file without a model, by codec and size.

    python benchmarks/previews.py FOLDER [--photos N]

Photographs of the folder are enlarged to 0.4, 6 and 24 megapixels and encoded by the embedded model. ``read_preview``
and ``draft`` give an eighth of the size, ``draft`` also a quarter; ``verify`` checks every bit; ``read_latents`` is
what they have in common. Times are medians over the photographs, in one thread of this process, once with the compiled
kernel of the codec ``context`` and once, for the two smaller sizes, without.
"""

import argparse
import io
import statistics
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

from PIL import Image
from rich.console import Console
from rich.progress import track
from rich.table import Table
from threadpoolctl import threadpool_limits
from timing import seconds

import pillow_sdc
from pillow_sdc.format.context import kernel as context_kernel
from pillow_sdc.format.context.kernel import KernelSelection

SIZES = {"0.4": (768, 512), "6": (3000, 2000), "24": (6000, 4000)}
CODECS: dict[str, dict[str, Any]] = {"palette": {}, "context": {"quality": 40}}
WITHOUT_KERNEL = "0.4", "6"
ROUNDS = 5


def draft(data: bytes, scale: int) -> None:
    with Image.open(io.BytesIO(data)) as image:
        image.draft(None, tuple(length // scale for length in image.size))
        image.load()


def verify(data: bytes) -> None:
    with Image.open(io.BytesIO(data)) as image:
        image.verify()


ACTS: dict[str, Callable[[bytes], object]] = {
    "read_latents": pillow_sdc.read_latents,
    "read_preview": pillow_sdc.read_preview,
    "draft, ⅛": lambda data: draft(data, 8),
    "draft, ¼": lambda data: draft(data, 4),
    "verify": verify,
}


def milliseconds(act: Callable[[bytes], object], files: list[bytes]) -> float:
    """Return the median over rounds and files."""
    return 1e3 * statistics.median(seconds(partial(act, data)) for data in files * ROUNDS)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--photos", type=int, default=3)
    arguments = parser.parse_args()
    pillow_sdc.configure(model="compact", device="cpu")
    photos = [Image.open(path).convert("RGB") for path in sorted(arguments.folder.glob("*.png"))[: arguments.photos]]
    console, table = Console(width=140), Table("megapixels", "codec", "bytes", *(f"{act}, ms" for act in ACTS))
    rows = [(size, codec) for size in SIZES for codec in CODECS]
    for size, codec in track(rows, transient=True):
        files = [pillow_sdc.encode(photo.resize(SIZES[size]), **CODECS[codec]) for photo in photos]
        choices = [context_kernel.selection()]
        if codec == "context" and size in WITHOUT_KERNEL and choices[0].kernel:
            choices.append(KernelSelection(None, "Python"))
        for choice in choices:
            with mock.patch.object(context_kernel, "selection", return_value=choice), threadpool_limits(1):
                durations = [f"{milliseconds(act, files):,.1f}" for act in ACTS.values()]
            name = f"{codec} ({choice.reason.partition(':')[0]})" if codec == "context" else codec
            table.add_row(size, name, f"{statistics.mean(map(len, files)):,.0f}", *durations)
    console.print(table)


if __name__ == "__main__":
    main()
