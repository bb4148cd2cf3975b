"""``sdc compare``: photographs in SDC and in other formats at the same bytes, judged on one page."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..format.codecs import ContextCodec
from ..jobs.pictures.opening import is_picture
from ..jobs.pictures.pixel_limit import pixel_limit
from ..jobs.storage.writing import check_absent, write_whole
from .arguments import Debug, DenoiseSteps, Device, Force, MaxPixels, Model, Quiet, Vae, bytes_of, configured
from .codec_options import metavar_of, parser_of
from .messages import Failures, announce, misuse
from .sources import find, open_input

if TYPE_CHECKING:
    from pillow_sdc.report.photographs import Photograph

PAGE, SHEET, JSON, CSV = "index.html", "sheet.png", "metrics.json", "metrics.csv"
"""What a report's folder holds."""

EXAMPLES = """[bold]Examples[/]

[cyan]sdc compare photo.jpg -o report/[/]   at the bytes of the article's codec

[cyan]sdc compare holiday/ -o report/ --crop[/]   the middle 512×512 pixels of every picture, as in the article

[cyan]sdc compare photo.jpg -o report/ --target-size 2k --qualities none[/]   at 2,000 bytes, without plots"""

_PANEL = "What is compared"
_QUALITY = ContextCodec.options["quality"]


def compare(
    photos: Annotated[
        list[str],
        typer.Argument(metavar="PHOTO", help="Files, folders or patterns.", show_default=False),
    ],
    output: Annotated[
        Path,
        typer.Option("--output", "-o", metavar="FOLDER", help="Where the report goes.", show_default=False),
    ],
    quality: Annotated[
        int | None,
        typer.Option(
            parser=parser_of(_QUALITY),
            metavar=metavar_of(_QUALITY),
            help="Files may take the bytes that [bold]context[/] does at this quality.",
            show_default=False,
            rich_help_panel=_PANEL,
        ),
    ] = None,
    target_size: Annotated[
        int | None,
        typer.Option(
            parser=bytes_of,
            metavar="BYTES",
            help="Files may take so many bytes: 2000, 2k, 5kB.",
            show_default=False,
            rich_help_panel=_PANEL,
        ),
    ] = None,
    qualities: Annotated[
        str,
        typer.Option(
            metavar="LIST",
            help="Qualities of [bold]context[/] in the plots, with commas between; [bold]none[/] draws no plots.",
            rich_help_panel=_PANEL,
        ),
    ] = "10,30,50,70,90",
    crop: Annotated[
        bool,
        typer.Option("--crop", help="Judge the middle 512×512 pixels, as the article does.", rich_help_panel=_PANEL),
    ] = False,
    max_pixels: MaxPixels = None,
    force: Force = False,
    model: Model = None,
    vae: Vae = None,
    device: Device = None,
    denoise_steps: DenoiseSteps = None,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Compare SDC with JPEG, WebP, AVIF (also at half size), JPEG XL and HEIC at the same bytes.

    The report is a page that needs no network ([bold]index.html[/]), a contact sheet ([bold]sheet.png[/]), and all
    figures ([bold]metrics.json[/], [bold]metrics.csv[/]). Unless a quality or a size is given, files may take the
    bytes of the article's codec. A picture of 512×512 pixels takes about a minute, most of it for the plots.
    """
    if quality is not None and target_size is not None:
        raise misuse("--quality and --target-size exclude each other: the size decides what the quality is")
    curve = _parse_qualities(qualities)
    failures = Failures(debug)
    with failures.of():
        from ..runtime.libraries import imported

        imported("torch")  # which the metrics compute with; the next error would not say that it is broken
    failures.end()
    try:
        from pillow_sdc.report import evaluation, figures, html, metrics, sheet
        from pillow_sdc.report.renditions import RateTarget

        metrics.check_installed()
    except ImportError as error:
        raise misuse(f"{error.name or error} is not installed; install pillow-sdc[report]") from None

    with (
        failures.of(),
        pixel_limit(max_pixels),
        configured(model=model, vae=vae, device=device, denoise_steps=denoise_steps),
    ):
        _check_target(output, force)
        photographs = _read(photos, crop, failures, quiet)
        if not photographs:
            failures.end()
        steps = evaluation.count_steps(len(photographs), len(curve))
        with _progress(steps, quiet) as begin:
            result = evaluation.evaluate(photographs, RateTarget(quality, target_size), curve, begin)
        write_whole(output / PAGE, html.render(result).encode(), force)
        write_whole(output / SHEET, sheet.draw_sheet(result), force)
        write_whole(output / JSON, figures.to_json(result).encode(), force)
        write_whole(output / CSV, figures.to_csv(result).encode(), force)
        announce(output / PAGE)
    failures.end()


def _check_target(folder: Path, force: bool) -> None:
    """Refuse a folder that holds a report, unless it may be overwritten.

    Raises:
        OSError: It does, or it is no folder.
    """
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f"{folder} is no folder")
    for name in (PAGE, SHEET, JSON, CSV):
        check_absent(folder / name, force)


def _parse_qualities(text: str) -> list[int]:
    words = [word.strip() for word in text.split(",") if word.strip()]
    if [word.lower() for word in words] == ["none"]:
        return []
    try:
        qualities = sorted({int(word) for word in words})
    except ValueError:
        raise misuse(f"--qualities is {text!r}; it must be whole numbers with commas between, or none") from None
    lowest, highest = _QUALITY.range.lowest, _QUALITY.range.highest
    if qualities and not (qualities[0] >= lowest and qualities[-1] <= highest):
        raise misuse(f"--qualities is {text!r}; qualities are from {lowest} to {highest}")
    return qualities


def _read(names: list[str], crop: bool, failures: Failures, quiet: bool) -> "list[Photograph]":
    """Return the photographs that are named and can be read."""
    from pillow_sdc.report.photographs import CROP, crop_centre, read_photograph

    photographs = []
    for source in find(names, is_picture, failures, quiet=quiet):
        with failures.of(source), open_input(source) as file:
            photograph = read_photograph(file, str(source.below))
            photographs.append(crop_centre(photograph, CROP) if crop else photograph)
    return photographs


@contextmanager
def _progress(total: int, quiet: bool) -> Iterator[Callable[[str], None]]:
    """Show on standard error, if that is a terminal, how much is done.

    Yields:
        What to call with the name of each step when it begins.
    """
    if quiet or not sys.stderr.isatty():
        yield lambda what: None
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = BarColumn(24), MofNCompleteColumn(), TimeRemainingColumn(compact=True), TextColumn("{task.description}")
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=total)
        begun = 0

        def begin(what: str) -> None:
            nonlocal begun
            bar.update(task, completed=begun, description=escape(what))
            begun += 1

        yield begin
