"""The figures of an evaluation for programs, as JSON and as CSV; keys and columns stay what they are."""

import csv
import dataclasses
import io
import json
import math
from typing import Any

import pillow_sdc

from .evaluation import CurvePoint, Evaluation, Result, Scores

VERSION = 1
"""Version of the keys; it increases when a key changes its meaning or is removed."""

SCORE_KEYS = tuple(field.name for field in dataclasses.fields(Scores))

PICTURE_KEYS = ("picture", "width", "height", "budget_bytes")
RENDITION_KEYS = ("codec", "label", "note", "file_bytes", "bits_per_pixel", "competes", "within_budget", *SCORE_KEYS)
CURVE_KEYS = ("codec", "label", "quality", "bits_per_pixel", *SCORE_KEYS)
COLUMNS = PICTURE_KEYS + RENDITION_KEYS


def to_json(evaluation: Evaluation) -> str:
    """Return everything but the pictures; what does not apply, and an infinite PSNR, is null."""
    document = {
        "version": VERSION,
        "pillow_sdc": pillow_sdc.__version__,
        "model": evaluation.model,
        "device": evaluation.device,
        "denoise_steps": evaluation.denoise_steps,
        "budget_rule": evaluation.budget_rule,
        "notes": list(evaluation.notes),
        "pictures": [
            {
                **dict(zip(PICTURE_KEYS, (picture.name, picture.width, picture.height, picture.budget), strict=True)),
                "renditions": [_rendition(result) for result in picture.results],
            }
            for picture in evaluation.pictures
        ],
        "means": [_rendition(result) for result in evaluation.means],
        "curve": [_point(point) for point in evaluation.curve],
    }
    return json.dumps(document, ensure_ascii=False, allow_nan=False, indent=1) + "\n"


def to_csv(evaluation: Evaluation) -> str:
    """Return a row for each rendition of each picture; what does not apply, and an infinite PSNR, is empty."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for picture in evaluation.pictures:
        about = zip(PICTURE_KEYS, (picture.name, picture.width, picture.height, picture.budget), strict=True)
        shared = dict(about)
        writer.writerows({**shared, **_rendition(result)} for result in picture.results)
    return text.getvalue()


def _rendition(result: Result) -> dict[str, Any]:
    values = (
        *(result.key, result.label, result.note, result.file_bytes, _rounded(result.bits_per_pixel)),
        *(result.competes, result.within_budget),
    )
    return dict(zip(RENDITION_KEYS, (*values, *_values(result.scores)), strict=True))


def _point(point: CurvePoint) -> dict[str, Any]:
    values = (point.key, point.label, point.quality, _rounded(point.bits_per_pixel), *_values(point.scores))
    return dict(zip(CURVE_KEYS, values, strict=True))


def _values(scores: Scores) -> list[float | None]:
    return [None if value is None else _rounded(value) for value in dataclasses.astuple(scores)]


def _rounded(value: float) -> float | None:
    return round(value, 6) if math.isfinite(value) else None
