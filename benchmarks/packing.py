"""Storage of ``.sdc`` files one by one, in a tar shard and in a Parquet shard, as ``sdc batch`` packs them.

    python benchmarks/packing.py FOLDER [--pictures N]

Each picture of the folder is made square, of several sides, and encoded by the embedded model. Random bytes of the same
lengths, in turn, stand for so many files, since Parquet would store equal files once, and none can be compressed. A
file system gives each file whole blocks, nearly always of 4,096 bytes; tar gives each a header of 512 bytes and whole
blocks of 512.
"""

import argparse
import itertools
import random
import tempfile
from pathlib import Path
from typing import Any

from PIL import Image
from rich.console import Console
from rich.progress import track
from rich.table import Table

import pillow_sdc
from pillow_sdc.jobs.storage.parquet import ParquetShard
from pillow_sdc.jobs.storage.samples import Sample, WriteShard
from pillow_sdc.jobs.storage.tar import TarShard

SIDES = 96, 256, 512
CODECS: dict[str, dict[str, Any]] = {"`palette`": {}, "`quality=40`": {"quality": 40}}
BLOCK = 4096


def packed(files: list[bytes], write: WriteShard, path: Path) -> int:
    """Return the bytes of a shard of these files."""
    shard = write(path)
    for number, data in enumerate(files):
        name = f"{number:06}.png"
        shard.add(Sample(name, {name: lambda: b""}), {name: data}, ".sdc")
    shard.close()
    size = path.stat().st_size
    path.unlink()
    return size


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--pictures", type=int, default=1000)
    arguments = parser.parse_args()
    pillow_sdc.configure(model="compact", device="cpu")
    photos = [Image.open(path).convert("RGB") for path in sorted(arguments.folder.glob("*.png"))]
    heads = "bytes of each", "all", "in blocks of 4 kB", "tar", "over all", "Parquet", "over all"
    table = Table(f"{arguments.pictures:,} pictures", *heads)
    noise = random.Random(0)  # noqa: S311 - lengths alone count
    with tempfile.TemporaryDirectory() as folder:
        for side, (codec, options) in track(list(itertools.product(SIDES, CODECS.items())), transient=True):
            encoded = [pillow_sdc.encode(photo.resize((side, side)), **options) for photo in photos]
            lengths = itertools.islice(itertools.cycle(map(len, encoded)), arguments.pictures)
            files = [noise.randbytes(length) for length in lengths]
            size = sum(map(len, files))
            blocks = sum(-(-len(data) // BLOCK) * BLOCK for data in files)
            tar = packed(files, TarShard, Path(folder, "a.tar"))
            parquet = packed(files, ParquetShard, Path(folder, "a.parquet"))
            cells = f"{size / len(files):,.0f}", f"{size:,}", f"{blocks:,}"
            shares = f"{tar:,}", f"{tar / size:.2f}", f"{parquet:,}", f"{parquet / size:.2f}"
            table.add_row(f"{side}×{side}, {codec}", *cells, *shares)
    Console(width=160).print(table)


if __name__ == "__main__":
    main()
