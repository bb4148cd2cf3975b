"""An evaluation as one HTML file that needs nothing else: pictures, plots, style and script are in it."""

import base64
import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import jinja2
from markupsafe import Markup
from PIL import Image

import pillow_sdc

from . import plots, ssimulacra2
from .detail import busiest
from .evaluation import METRICS, WINDOW, Evaluation, Metric, PictureResults, Result, best, value_of
from .findings import gains, losses, over_budget
from .metrics import Samples
from .plots import plots_of

_HERE = Path(__file__).parent


@dataclass(frozen=True)
class Cell:
    """A figure in a table.

    Attributes:
        label: Name of the figure, shown on narrow screens in place of the table's heading.
        text: The printed figure; empty if there is none.
        value: The number that rows are sorted by.
        is_best: Whether to mark it as the best of its column.
    """

    label: str
    text: str
    value: float | None
    is_best: bool = False


@dataclass(frozen=True)
class TableRow:
    """A rendition in a table."""

    result: Result
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Column:
    """A rendition in the viewer; ``source`` is the picture's data URI."""

    key: str
    label: str
    note: str
    source: str


@dataclass(frozen=True)
class View:
    """A photograph on the page.

    Attributes:
        results: Its figures.
        shown_width, shown_height: Size of what is shown of it.
        focus: Centre of the detail that is shown first, as fractions of width and height.
        columns: The original and its renditions.
        rows: Of the table.
        over_budget: A sentence, or nothing.
    """

    results: PictureResults
    shown_width: int
    shown_height: int
    focus: tuple[float, float]
    columns: tuple[Column, ...]
    rows: tuple[TableRow, ...]
    over_budget: str | None

    @property
    def is_part(self) -> bool:
        """Whether only the middle of the photograph is shown."""
        return (self.shown_width, self.shown_height) != (self.results.width, self.results.height)


def render(evaluation: Evaluation) -> str:
    """Return the page."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_HERE),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    script = (_HERE / "script.js").read_text("utf-8")
    metrics = [metric for metric in METRICS if any(value_of(mean, metric) is not None for mean in evaluation.means)]
    return environment.get_template("template.html.j2").render(
        evaluation=evaluation,
        version=pillow_sdc.__version__,
        metrics=metrics,
        window=WINDOW,
        smallest_for_ssimulacra2=ssimulacra2.SMALLEST,
        means=_rows(evaluation.means, metrics),
        losses=losses(evaluation.means),
        gains=gains(evaluation.means),
        over_budget=over_budget(evaluation.means),
        plots=plots_of(evaluation),
        drawing=plots,
        curve_metrics=[metric for metric in metrics if metric.key in plots.PLOTTED],
        value_of=value_of,
        views=[_view(picture, metrics) for picture in evaluation.pictures],
        style=Markup((_HERE / "style.css").read_text("utf-8")),  # noqa: S704 - our own file
        script=Markup(script),  # noqa: S704 - our own file
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )


def _view(picture: PictureResults, metrics: Sequence[Metric]) -> View:
    height, width = picture.shown.shape[:2]
    original = Column("original", "Original", f"{picture.width}×{picture.height} pixels", _data_uri(picture.shown))
    renditions = [
        Column(result.key, result.label, _note(result), _data_uri(result.shown))
        for result in picture.results
        if result.shown is not None
    ]
    return View(
        picture,
        width,
        height,
        busiest(picture.shown),
        (original, *renditions),
        tuple(_rows(picture.results, metrics)),
        over_budget(picture.results),
    )


def _rows(results: Sequence[Result], metrics: Sequence[Metric]) -> list[TableRow]:
    winners = {metric.key: best(results, metric) for metric in metrics}
    rows = []
    for result in results:
        cells = [
            Cell("Bytes", f"{result.file_bytes:,.0f}", result.file_bytes),
            Cell("bpp", f"{result.bits_per_pixel:.3f}", result.bits_per_pixel),
        ]
        for metric in metrics:
            value = value_of(result, metric)
            text = "" if value is None else metric.format(value)
            cells.append(Cell(metric.heading, text, value, winners[metric.key] is result))
        rows.append(TableRow(result, tuple(cells)))
    return rows


def _note(result: Result) -> str:
    return f"{result.file_bytes:,.0f} bytes, {result.note}"


def _data_uri(samples: Samples) -> str:
    """Return a picture as a lossless data URI."""
    file = io.BytesIO()
    Image.fromarray(samples).save(file, "WEBP", lossless=True, method=4, quality=50)
    return f"data:image/webp;base64,{base64.b64encode(file.getvalue()).decode()}"
