"""Cost of opening, verifying and reducing an ``.sdc`` file, beside WebP, AVIF and HEIF of the same picture.

    python benchmarks/opening.py [PICTURE]

``open`` is timed on a picture enlarged to 3000×2000, by path and from memory, and its bytes are counted in a file
object; thumbnails are made of that and of a smaller one, in this process and in fresh ones; ``verify`` is tried with
single bits flipped; memory is watched while a small file is opened, loaded and closed a thousand times by the embedded
model.
"""

import argparse
import inspect
import io
import statistics
import sys
import tempfile
from pathlib import Path

import numpy as np
import pillow_heif
import psutil
import timing
from PIL import Image
from rich.console import Console
from rich.progress import track
from rich.table import Table
from skimage.data import astronaut
from timing import milliseconds

import pillow_sdc

OPTIONS = {"SDC": {}, "WEBP": {"quality": 50}, "AVIF": {"quality": 50}, "HEIF": {"quality": 50}}

THUMBNAILS = 64, 128, 256
THUMBNAILS_OF = (512, 768), (3000, 2000)
THUMBNAIL_OPTIONS = {"SDC, palette": {}, "SDC, context": {"quality": 50}, "AVIF": {"quality": 50}}
COLD = """
import sys
from PIL import Image
with Image.open(sys.argv[1]) as image:
    image.thumbnail((int(sys.argv[2]),) * 2)
"""
PRINT_PEAK = f"{inspect.getsource(timing)}\nprint(peak_memory())"
WARM_RUNS, COLD_RUNS = 7, 5

FLIPS, CYCLES, WARM = 2000, 1000, 100


class CountingFile(io.BytesIO):
    count = 0

    def read(self, size: int | None = -1) -> bytes:
        data = super().read(size)
        self.count += len(data)
        return data

    def readinto(self, buffer: memoryview) -> int:
        length = super().readinto(buffer)
        self.count += length
        return length

    def getbuffer(self) -> memoryview:
        self.count += len(self.getvalue())
        return super().getbuffer()


def encoded(picture: Image.Image, file_format: str) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, file_format, **OPTIONS[file_format])
    return buffer.getvalue()


def opening(files: dict[str, bytes], folder: Path) -> Table:
    table = Table("3000×2000", "file, bytes", "open, ms", "over SDC's", "from memory, ms", "bytes read")
    durations = {}
    for file_format, data in files.items():
        path = folder / f"picture.{file_format.lower()}"
        path.write_bytes(data)

        def open_path(path: Path = path) -> None:
            Image.open(path).close()

        def open_memory(data: bytes = data) -> None:
            Image.open(io.BytesIO(data)).close()

        durations[file_format] = [milliseconds(act, 501) for act in (open_path, open_memory)]
    for file_format, (by_path, from_memory) in durations.items():
        fp = CountingFile(files[file_format])
        Image.open(fp)
        row = f"{by_path:.3f}", f"{by_path / durations['SDC'][0]:.2f}", f"{from_memory:.3f}", f"{fp.count:,}"
        table.add_row(file_format, f"{len(files[file_format]):,}", *row)
    return table


def thumbnails(picture: Image.Image, folder: Path) -> Table:
    """Return what thumbnails cost in a process that has made one before, and in fresh ones, from their start to end."""
    table = Table("thumbnails of", "file", *(f"{side} px: warm, ms / cold, ms / MB" for side in THUMBNAILS))
    for size in THUMBNAILS_OF:
        resized = picture.resize(size, Image.Resampling.LANCZOS)
        for name, options in THUMBNAIL_OPTIONS.items():
            suffix = name.partition(",")[0].lower()
            path = folder / f"thumbnails.{suffix}"
            resized.save(path, **options)
            cells = []
            for side in THUMBNAILS:

                def reduce(path: Path = path, side: int = side) -> None:
                    with Image.open(path) as image:
                        image.thumbnail((side, side))

                command = [sys.executable, "-c", COLD, str(path), str(side)]
                warm = milliseconds(reduce, WARM_RUNS)
                cold = statistics.median(timing.run(command).seconds for _ in range(COLD_RUNS))
                command[2] += PRINT_PEAK
                megabytes = statistics.median(float(timing.run(command).output) for _ in range(COLD_RUNS))
                cells.append(f"{warm:.1f} / {1e3 * cold:.0f} / {megabytes:.0f}")
            table.add_row("{}×{}".format(*size), name, *cells)
    return table


def flipped_bits_found(data: bytes, file_format: str) -> float:
    """Return the fraction of flipped bits, of a sample, at which opening or verifying raises."""
    random = np.random.default_rng(0)
    positions = random.choice(8 * len(data), min(FLIPS, 8 * len(data)), replace=False)
    found = 0
    for position in track(positions, file_format, transient=True):
        damaged = bytearray(data)
        damaged[position // 8] ^= 1 << position % 8
        try:
            Image.open(io.BytesIO(damaged), formats=[file_format]).verify()
        except Exception:  # whatever the peers raise
            found += 1
    return found / len(positions)


def memory_growth(data: bytes) -> tuple[float, float]:
    """Return resident MB after the first cycles, and how much the others add."""
    process, resident = psutil.Process(), []
    for _ in track(range(CYCLES + WARM), "open, load, close", transient=True):
        with Image.open(io.BytesIO(data)) as image:
            image.load()
        resident.append(process.memory_info().rss / 1e6)
    return resident[WARM - 1], resident[-1] - resident[WARM - 1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("picture", nargs="?", type=Path, help="else scikit-image's astronaut")
    arguments = parser.parse_args()
    pillow_heif.register_heif_opener()
    pillow_sdc.configure(model="compact", device="cpu")
    picture = Image.open(arguments.picture).convert("RGB") if arguments.picture else Image.fromarray(astronaut())
    console = Console()

    large = picture.resize((3000, 2000), Image.Resampling.LANCZOS)
    with tempfile.TemporaryDirectory() as folder:
        console.print(opening({file_format: encoded(large, file_format) for file_format in OPTIONS}, Path(folder)))
        console.print(thumbnails(picture, Path(folder)))

    table = Table("512×512", "flipped bits that open or verify finds, %")
    small = picture.resize((512, 512), Image.Resampling.LANCZOS)
    for file_format in OPTIONS:
        table.add_row(file_format, f"{100 * flipped_bits_found(encoded(small, file_format), file_format):.2f}")
    console.print(table)

    resident, growth = memory_growth(encoded(picture.resize((128, 128)), "SDC"))
    console.print(f"resident after {WARM} cycles: {resident:.1f} MB; {CYCLES} cycles later: {growth:+.2f} MB")


if __name__ == "__main__":
    main()
