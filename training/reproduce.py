"""Train the embedded model stage by stage, and put it into the package when all stages are done.

    python -m training.reproduce PHOTOGRAPHS TEACHER [--runs FOLDER] [--given STAGE=SAFETENSORS ...] [--out FOLDER]

What is trained, in which order and how is in ``recipe.toml``. Each stage keeps its checkpoint, its log of figures
(``log.jsonl``) and what it printed (``output.log``) in a folder of its own under ``--runs``. Stopped and started again,
the command goes on where it was. ``--given`` takes finished weights in place of a stage. At the end the runs' folder
holds ``record.json`` too, from which ``training.card`` makes the model card.
"""

import argparse
import csv
import json
import subprocess
import sys
import tomllib
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import load_file

from pillow_sdc.models.compact import WEIGHTS
from pillow_sdc.models.compact.sessions import NETWORKS

from .export import export
from .photographs import SUFFIXES

RECIPE = Path(__file__).with_name("recipe.toml")
SOURCES = "SOURCES.tsv"
"""Name of the list in a folder of photographs, tab-separated with a heading: file, repository, path, licence."""

Stage = Mapping[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path, help="folder of photographs")
    parser.add_argument("teacher", type=Path, help="diffusers directory of an AutoencoderTiny of SD v1's latent space")
    parser.add_argument("--runs", type=Path, default=Path("checkpoints/reproduced"), help="folder for what is made")
    parser.add_argument("--recipe", type=Path, default=RECIPE, metavar="TOML")
    parser.add_argument("--given", type=given, nargs="+", default=[], metavar="STAGE=SAFETENSORS")
    parser.add_argument("--out", type=Path, default=WEIGHTS, help="folder for the networks in 8 bits")
    arguments, options = parser.parse_known_args()
    recipe: dict[str, Stage] = tomllib.loads(arguments.recipe.read_text(encoding="utf-8"))
    weights = arguments.runs / "weights"
    weights.mkdir(parents=True, exist_ok=True)
    for name, path in arguments.given:
        if name not in recipe:
            parser.error(f"--given {name}: the recipe has no such stage, but {', '.join(recipe)}")
        load_file(path)
        (weights / f"{name}.safetensors").write_bytes(path.read_bytes())
    for name, stage in recipe.items():
        if (weights / f"{name}.safetensors").exists():
            continue
        print(f"{name}: {stage['steps']:,} steps; figures in {arguments.runs / name / 'log.jsonl'}", flush=True)
        train(name, stage, arguments, options)
        export(arguments.runs / name, weights)
    packed = arguments.runs / "packed"
    packed.mkdir(exist_ok=True)
    for name in NETWORKS:
        (packed / f"{name}.safetensors").write_bytes((weights / f"{name}.safetensors").read_bytes())
    run("quantise", arguments.photos, arguments.teacher, packed, "--out", arguments.out)
    record = {
        "photographs": photographs(arguments.photos),
        "stages": {name: last_figures(arguments.runs / name) for name in recipe},
    }
    (arguments.runs / "record.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def given(text: str) -> tuple[str, Path]:
    """Return the stage and the file that ``STAGE=SAFETENSORS`` names."""
    stage, equals, path = text.partition("=")
    if not equals or not Path(path).is_file():
        raise argparse.ArgumentTypeError(f"{text!r} is not STAGE=SAFETENSORS with a file that is there")
    return stage, Path(path)


def train(name: str, stage: Stage, arguments: argparse.Namespace, options: list[str]) -> None:
    """Train one stage, to its end."""
    folder = arguments.runs / name
    folder.mkdir(parents=True, exist_ok=True)
    asked: list[str] = []
    for key, value in stage.items():
        if key in ("start", "encoder"):
            asked += [f"--{key}", str(arguments.runs / "weights" / f"{value}.safetensors")]
        elif key != "module":
            asked += [f"--{key}", *map(str, value if isinstance(value, list) else [value])]
    with (folder / "output.log").open("a") as log:
        run(stage["module"], arguments.photos, arguments.teacher, folder, *asked, *options, log=log)


def run(module: str, *words: object, log: Any = None) -> None:
    """Run a module of this package.

    Raises:
        SystemExit: It failed.
    """
    command = [sys.executable, "-m", f"training.{module}", *map(str, words)]
    if subprocess.run(command, stdout=log, stderr=log, check=False).returncode:  # noqa: S603 - our own modules
        raise SystemExit(f"{' '.join(command)} failed" + (f"; see {log.name}" if log else ""))


def photographs(folder: Path) -> dict[str, Any]:
    """Return the number of photographs in a folder and, if it has a list, their sources and licences."""
    count = sum(path.suffix in SUFFIXES for path in folder.iterdir())
    try:
        with (folder / SOURCES).open(encoding="utf-8", newline="") as file:
            rows = [tuple(row) for row in csv.reader(file, delimiter="\t")][1:]
    except FileNotFoundError:
        return {"count": count, "sources": []}
    sources = Counter((repository, licence) for _file, repository, _path, licence in rows)
    return {"count": count, "sources": [[*source, files] for source, files in sorted(sources.items())]}


def last_figures(run: Path) -> dict[str, float] | None:
    """Return the last line of a run's log, with the hours that all its steps took; ``None`` if weights were given."""
    if not run.exists():
        return None
    entries = [json.loads(line) for line in (run / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    steps = [0, *(entry["step"] for entry in entries)]
    seconds = sum(
        entry["seconds_per_step"] * (step - before)
        for entry, step, before in zip(entries, steps[1:], steps, strict=False)
    )
    last: dict[str, float] = {key: value for key, value in entries[-1].items() if key != "seconds_per_step"}
    return {**last, "hours": round(seconds / 3600, 2)}


if __name__ == "__main__":
    main()
