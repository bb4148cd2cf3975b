"""How much faster this tree is than an older build of it, measured side by side in alternating runs.

The older build is checked out into a temporary folder (``git worktree``) and runs with the same packages. Each figure
is the median of its runs, of which each is a process of its own; programs take one thread unless said. A ratio below 1
is faster, smaller or more exact than before; "times" is its inverse.

python benchmarks/against_build.py REVISION FOLDER [--runs N] [--only ROW ...]
"""

import argparse
import contextlib
import inspect
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import timing
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parent.parent
TIMING = inspect.getsource(timing)

LATENTS = """
import json, os, sys
import numpy as np
try:
    from pillow_sdc.format.codecs import ContextCodec, PaletteCodec
except ImportError:  # an older build
    from pillow_sdc.latent_codecs import ContextCodec, PaletteCodec
latents = np.load(os.environ["BENCH_LATENTS"])
found = {}
"""

FRESH = """
import json, sys
from PIL import Image
picture = Image.open(sys.argv[1])
picture.load()
"""
PRINT_PEAK = f"{TIMING}\nprint(json.dumps({{'peak MiB': peak_memory()}}))"


@dataclass(frozen=True)
class Measurement:
    """A program that prints its figures as JSON, and whether its own wall time is one of them."""

    name: str
    program: str
    argument: str = ""
    threads: int = 1
    wall: bool = False
    runs: int | None = None


ROWS = (
    Measurement("fresh process, open and load", FRESH + PRINT_PEAK, "photo.sdc", wall=True),
    Measurement("the same of an AVIF file", FRESH + PRINT_PEAK, "photo.avif", wall=True),
    Measurement(
        "compact, 512×512",
        TIMING
        + """
import json
import numpy as np
from pillow_sdc.models import get_models
from pillow_sdc.options import Settings
compact = get_models(Settings(model="compact", device="cpu")).autoencoder
pixels = np.random.default_rng(0).normal(0, 0.4, (3, 512, 512)).clip(-1, 1).astype(np.float32)
latents = compact.encode(pixels)
encode, decode = milliseconds(lambda: compact.encode(pixels), 5), milliseconds(lambda: compact.decode(latents), 5)
print(json.dumps({"encode ms": encode, "decode ms": decode, "both ms": encode + decode}))
""",
    ),
    Measurement(
        "context, latents",
        TIMING
        + LATENTS
        + """
codec = ContextCodec(quality=40)
payload = codec.encode(latents[0])
found["encode 64×64 ms"] = milliseconds(lambda: codec.encode(latents[0]), 5)
small = milliseconds(lambda: ContextCodec.decode(payload, 64, 64), 5)
found["decode 64×64 ms"] = small
large = np.tile(latents[0], (1, 8, 8))
payload = codec.encode(large)
found["decode 512×512 over 64×64"] = milliseconds(lambda: ContextCodec.decode(payload, 512, 512), 1) / small
print(json.dumps(found))
""",
        runs=3,
    ),
    Measurement(
        "palette, latents 64×64",
        TIMING
        + LATENTS
        + """
errors, sizes = [], []
for one in latents:
    payload = PaletteCodec().encode(one)
    errors.append(float(np.mean((PaletteCodec.decode(payload, 64, 64).latents - one) ** 2)))
    sizes.append(len(payload))
found["encode ms"] = milliseconds(lambda: PaletteCodec().encode(latents[0]), 5)
print(json.dumps(found | {"MSE": sum(errors) / len(errors), "bytes": sum(sizes) / len(sizes)}))
""",
        runs=3,
    ),
    Measurement(
        "datasets.SdcFiles, latents, one worker",
        TIMING
        + """
import json, sys
from torch.utils.data import DataLoader
from pillow_sdc.datasets import SdcFiles
loader = DataLoader(SdcFiles(sys.argv[1]), batch_size=None, num_workers=1)
iterator = iter(loader)
next(iterator)
duration, count = timed(lambda: sum(1 for _ in iterator))
print(json.dumps({"ms a file": 1000 * duration / count}))
""",
        "archive",
    ),
    Measurement(
        "24 megapixels, quality 50, encode and decode, two cores",
        TIMING
        + """
import json, sys
from PIL import Image
import pillow_sdc
with Image.open(sys.argv[1]) as photo:
    large = photo.convert("RGB").resize((6000, 4000), Image.Resampling.BICUBIC)
duration = seconds(lambda: pillow_sdc.decode(pillow_sdc.encode(large, model="compact", quality=50)))
print(json.dumps({"s": duration}))
""",
        "photo.png",
        threads=2,
        runs=1,
    ),
    Measurement("sdc batch, encode, two workers", "", "pictures", threads=2, wall=True, runs=1),
    Measurement("sdc batch, decode, two workers", "", "archive", threads=2, wall=True, runs=1),
)


@contextlib.contextmanager
def build(revision: str) -> Iterator[Path]:
    """Give a checkout of a revision."""
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder, "build")
        git = ["git", "-C", str(ROOT), "worktree"]
        subprocess.run([*git, "add", "--detach", "--quiet", tree, revision], check=True)
        try:
            yield tree
        finally:
            subprocess.run([*git, "remove", "--force", tree], check=True)


def measure(tree: Path, row: Measurement, data: Path) -> dict[str, float]:
    """Run a row's program with a tree's package."""
    threads = {"OMP_NUM_THREADS": str(row.threads), "OPENBLAS_NUM_THREADS": str(row.threads)}
    environment = (
        os.environ
        | threads
        | {
            "PYTHONPATH": str(tree),
            "BENCH_LATENTS": str(data / "latents.npy"),
            "PILLOW_SDC_MODEL": "compact",
            "OMP_WAIT_POLICY": "PASSIVE",
            # Installed packages are compiled; so are both builds, by their first runs.
            "PYTHONDONTWRITEBYTECODE": "",
            "PYTHONPYCACHEPREFIX": str(data / "bytecode"),
        }
    )
    with tempfile.TemporaryDirectory() as target:
        command = [sys.executable, "-P", "-c", row.program, str(data / row.argument)]
        if not row.program:
            decode = ["--decode"] if row.argument == "archive" else []
            options = ["--workers", str(row.threads), "--quiet", *decode]
            command = [sys.executable, "-P", "-m", "pillow_sdc", "batch", str(data / row.argument), target, *options]
        finished = timing.run(command, environment=environment, folder=target)
    figures: dict[str, float] = json.loads(finished.output.splitlines()[-1]) if row.program else {}
    return figures | ({"wall s": finished.seconds} if row.wall else {})


def prepare(folder: Path, data: Path) -> None:
    """Write what the programs read, with this tree's package."""
    import numpy as np
    from PIL import Image

    import pillow_sdc

    paths = sorted(path for path in folder.iterdir() if path.suffix in (".png", ".jpg", ".webp"))
    photos = [Image.open(path).convert("RGB").resize((512, 512)) for path in paths[:16]]
    photos[0].save(data / "photo.png")
    photos[0].save(data / "photo.avif", quality=20)
    photos[0].save(data / "photo.sdc", quality=40, model="compact")
    np.save(data / "latents.npy", np.stack([pillow_sdc.encode_latents(photo) for photo in photos[:4]]))
    for name in ("pictures", "archive"):
        (data / name).mkdir()
    for number in range(64):
        photo = photos[number % len(photos)]
        photo.save(data / "pictures" / f"{number:02}.png")
        target = data / "archive" / f"{number:02}.sdc"
        if number < len(photos):
            photo.save(target, quality=40, model="compact")
        else:
            target.write_bytes((data / "archive" / f"{number % len(photos):02}.sdc").read_bytes())


def report(rows: Sequence[Measurement], before: Path, data: Path, runs: int) -> Table:
    table = Table("", "", "before", "now", "ratio", "times")
    for row in rows:
        results: dict[Path, list[dict[str, float]]] = {before: [], ROOT: []}
        for _ in range(row.runs or runs):
            for tree, found in results.items():
                found.append(measure(tree, row, data))
        name = row.name
        for figure in results[ROOT][0]:
            old, new = (statistics.median(found[figure] for found in results[tree]) for tree in (before, ROOT))
            table.add_row(name, figure, f"{old:.4g}", f"{new:.4g}", f"{new / old:.3f}", f"{old / new:.2f}")
            name = ""
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("revision", help="the older build's")
    parser.add_argument("folder", type=Path, help="photographs")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--only", nargs="+", metavar="ROW", help="rows whose names hold one of these")
    arguments = parser.parse_args()
    rows = [row for row in ROWS if not arguments.only or any(word in row.name for word in arguments.only)]
    with build(arguments.revision) as before, tempfile.TemporaryDirectory() as data:
        prepare(arguments.folder, Path(data))
        Console().print(report(rows, before, Path(data), arguments.runs))


if __name__ == "__main__":
    main()
