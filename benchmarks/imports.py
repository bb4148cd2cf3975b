"""What ``import pillow_sdc`` costs over ``import PIL.Image`` alone, in fresh interpreters, and what ``open`` reads."""

import io
import os
import statistics
import sys
from functools import partial

import timing
from PIL import Image
from rich.console import Console
from rich.table import Table

import pillow_sdc
from pillow_sdc.format import container

RUNS = 41
PROGRAM = "import time; start = time.perf_counter(); import {}; print(time.perf_counter() - start)"


class CountingFile(io.BytesIO):
    """Counts the bytes that are read from it."""

    count = 0

    def read(self, size: int | None = -1) -> bytes:
        data = super().read(size)
        self.count += len(data)
        return data


def import_seconds(module: str) -> float:
    """Time the import in a fresh interpreter, as the interpreter itself sees it."""
    command = [sys.executable, "-c", PROGRAM.format(module)]
    environment = {**os.environ, "PILLOW_SDC_AUTOLOAD": "0"}
    return float(timing.run(command, environment=environment).output)


def main() -> None:
    names = ("PIL.Image", "pillow_sdc")
    for name in names:
        import_seconds(name)  # lets the interpreter write its caches
    times = timing.in_turn({name: partial(import_seconds, name) for name in names}, RUNS)
    pillow, ours = (statistics.median(times[name]) for name in names)
    table = Table("import", "median, ms", "ratio")
    table.add_row("PIL.Image", f"{1e3 * pillow:.1f}", "1")
    table.add_row("pillow_sdc (and with it PIL.Image)", f"{1e3 * ours:.1f}", f"{ours / pillow:.2f}")
    Console().print(table)

    pillow_sdc.register()
    for side, length in ((512, 4_800), (9_000, 1_300_000)):
        file = CountingFile(container.write(container.Header(side, side, "RGB", "palette"), bytes(length)))
        with Image.open(file, formats=["SDC"]):
            print(f"Image.open of {side}×{side} in {len(file.getvalue()):,} bytes: {file.count} bytes read")


if __name__ == "__main__":
    main()
