"""Write the embedded model's card from the recipe, the record of its training, and measured figures.

    python -m training.card

The text is ``card.md``, with a table where it says ``{{name}}``. ``record.json`` is what ``training.reproduce`` has
written; the benchmarks ``compact.py`` and ``equal_bytes.py`` add their figures to it with ``--record``.
"""

import json
import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pillow_sdc.models.compact import WEIGHTS

from .networks import Decoder, Denoiser, Encoder
from .reproduce import RECIPE

TEXT, RECORD, CARD = (Path(__file__).with_name(name) for name in ("card.md", "record.json", "MODEL_CARD.md"))

NETWORKS = {
    "encoder": (Encoder, "pixels in [−1, 1]", "SD-scaled latents"),
    "decoder": (Decoder, "latents, variance of the noise in them", "pixels"),
    "denoiser": (Denoiser, "latents, variance of the noise in them", "that noise, at unit variance"),
}


def card() -> str:
    """Return the card."""
    record = json.loads(RECORD.read_text(encoding="utf-8"))
    recipe = tomllib.loads(RECIPE.read_text(encoding="utf-8"))
    tables = {
        "networks": networks(),
        "photographs": photographs(record["photographs"]),
        "stages": stages(recipe, record["stages"]),
        **{name: table(each["columns"], each["rows"]) for name, each in record["figures"].items()},
    }
    return re.sub(r"\{\{(.*?)\}\}", lambda place: tables[place[1]], TEXT.read_text(encoding="utf-8"))


def table(columns: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Return a table in Markdown."""
    columns = list(columns)
    lines = [columns, ["---"] * len(columns), *map(list, rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def networks() -> str:
    """Return what the networks are."""
    rows = []
    for name, (network, given, output) in NETWORKS.items():
        parameters = sum(part.numel() for part in network().parameters())
        size = (WEIGHTS / f"{name}.onnx").stat().st_size
        rows.append([name, given, output, f"{parameters:,}", f"{size / 1e6:.1f} MB"])
    return table(["network", "from", "to", "parameters", "file"], rows)


def photographs(record: Mapping[str, Any]) -> str:
    """Return how many photographs were trained on, and where they are from."""
    rows = [[repository, licence, str(files)] for repository, licence, files in record["sources"]]
    return table(["source", "licence, as stated there", "photographs"], rows)


def stages(recipe: Mapping[str, Mapping[str, Any]], record: Mapping[str, Mapping[str, float] | None]) -> str:
    """Return what was trained how, and what its log says at the end."""
    rows = []
    for name, stage in recipe.items():
        options = ", ".join(f"{key} {words(value)}" for key, value in stage.items() if key != "module")
        figures = record[name]
        said = (
            "weights of the first kind"
            if figures is None
            else ", ".join(f"{key.replace('_', ' ')} {value:,.4g}" for key, value in figures.items() if key != "step")
        )
        rows.append([name, f"`{stage['module']}`", options, said])
    return table(["stage", "module", "options", "at its end"], rows)


def words(value: Any) -> str:
    """Return an option's value as it is given on the command line."""
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


def main() -> None:
    CARD.write_text(card(), encoding="utf-8")


if __name__ == "__main__":
    main()
