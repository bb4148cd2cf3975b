"""Quality and time of saving an opened file again, beside encoding its pixels, as happens to copies of it.

    python benchmarks/resaving.py PICTURE [PICTURE ...]

Rounds are of open, load and save. PSNR is against the first file's own picture, in the mean of the pictures given;
times are medians for the first picture.
"""

import argparse
import io
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import timing
from PIL import Image
from rich.console import Console
from rich.table import Table
from timing import milliseconds

import pillow_sdc
from pillow_sdc.originals import Original

ROUNDS, SHOWN = 10, (1, 2, 3, 10)
TIMES = 9
COMMANDS = 3


def psnr(one: Image.Image, other: Image.Image) -> float:
    error = np.mean((np.asarray(one, float) - np.asarray(other, float)) ** 2)
    return float(10 * np.log10(255**2 / error)) if error else float("inf")


def rounds(data: bytes, again: Callable[[Image.Image], bytes]) -> list[tuple[int, float, bool]]:
    """Return the bytes of each round, its PSNR, and whether its file is that of the round before."""
    image = first = pillow_sdc.decode(data)
    results = []
    for _ in range(ROUNDS):
        before, data = data, again(image)
        image = pillow_sdc.decode(data)
        results.append((len(data), psnr(first, image), data == before))
    return results


def generations(files: list[bytes]) -> Table:
    table = Table("codec of the file", "save", "of", *(f"round {number}" for number in SHOWN), "equal files")
    ways: dict[str, Callable[[Image.Image], Image.Image]] = {
        "the picture": lambda image: image,
        "a copy": Image.Image.copy,
    }
    for options in ({}, {"quality": 40}):
        for name, way in ways.items():

            def again(image: Image.Image, way: Any = way, options: Any = options) -> bytes:
                return pillow_sdc.encode(way(image), **options)

            runs = [rounds(data, again) for data in files]
            cells = []
            for number in SHOWN:
                sizes, ratios, _ = zip(*(run[number - 1] for run in runs), strict=True)
                cells.append(f"{np.mean(sizes):,.0f} B, {np.mean(ratios):.2f} dB")
            equal = [number + 1 for number in range(ROUNDS) if all(run[number][2] for run in runs)]
            shown = f"rounds {equal[0]} to {equal[-1]}" if equal else "none"
            label = ", ".join(f"{key}={value}" for key, value in options.items()) or "no options"
            table.add_row(pillow_sdc.info(files[0]).codec, label, name, *cells, shown)
    return table


def encoding(files: dict[str, bytes], folder: Path) -> Table:
    """Time ``--quality 30`` of files and of the PNGs that they decode to, in a warm process and as a command."""
    table = Table("source", "in a warm process, ms", "times as fast", "as a command, ms", "times as fast")
    for name, data in files.items():
        source, png = folder / f"{name}.sdc", folder / f"{name}.png"
        source.write_bytes(data)
        pillow_sdc.decode(data).save(png)
        durations = {}
        for path in (png, source):
            command = [sys.executable, "-m", "pillow_sdc", "encode", str(path), "-o", str(folder / "out.sdc")]
            command += ["--quality", "30", "--force", "--quiet", "--model", "compact"]

            def run(command: list[str] = command) -> None:
                timing.run(command)

            def encode(path: Path = path) -> None:
                pillow_sdc.encode(path, quality=30)

            durations[path] = milliseconds(encode, TIMES), milliseconds(run, COMMANDS)
            shares = (f"{before / now:.1f}" for before, now in zip(durations[png], durations[path], strict=True))
            cells = [
                cell
                for pair in zip((f"{duration:.0f}" for duration in durations[path]), shares, strict=True)
                for cell in pair
            ]
            table.add_row(f"{name}, {path.suffix}", *cells)
    return table


def keeping(files: dict[str, bytes]) -> Table:
    """Measure what it costs a load to keep the payload and a hash of the pixels."""
    table = Table("file", "load, ms", "to keep, ms", "share of the time, %", "kept, bytes", "share of the pixels, %")
    for name, data in files.items():
        image = pillow_sdc.decode(data)
        content = image.unmodified().content  # type: ignore[attr-defined]
        samples, kept = image.tobytes(), len(content.payload) + len(content.alpha)
        loading = milliseconds(lambda data=data: pillow_sdc.decode(data), TIMES)  # type: ignore[misc]
        to_keep = milliseconds(lambda: Original().keep(content, samples), TIMES)  # noqa: B023 - called at once
        pixels = 4 * image.width * image.height
        cells = f"{loading:.1f}", f"{to_keep:.2f}", f"{100 * to_keep / loading:.2f}"
        table.add_row(name, *cells, f"{kept:,}", f"{100 * kept / pixels:.2f}")
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures", nargs="+", type=Path)
    arguments = parser.parse_args()
    pillow_sdc.configure(model="compact", device="cpu")
    pictures = [Image.open(path).convert("RGB") for path in arguments.pictures]
    console = Console(width=150)
    console.print(generations([pillow_sdc.encode(picture, quality=80) for picture in pictures]))
    options: dict[str, dict[str, Any]] = {"palette": {}, "context": {"quality": 80}, "uint8": {"codec": "uint8"}}
    files = {name: pillow_sdc.encode(pictures[0], **given) for name, given in options.items()}
    with tempfile.TemporaryDirectory() as folder:
        console.print(encoding(files, Path(folder)))
    alpha = pictures[0].copy()
    alpha.putalpha(pictures[-1].convert("L").resize(alpha.size))
    buffer = io.BytesIO()
    alpha.save(buffer, "SDC")
    console.print(keeping({**files, "palette, a photograph as alpha": buffer.getvalue()}))


if __name__ == "__main__":
    main()
