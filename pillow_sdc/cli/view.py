"""``sdc view``: a file's latents as pictures."""

import io
from pathlib import Path
from typing import Annotated

import typer

from ..files.writing import check_absent, write_whole
from .arguments import Debug, Force
from .messages import Failures, misuse
from .sources import STREAM, Source, opened

EXAMPLES = """[bold]Examples[/]

[cyan]sdc view photo.sdc[/]   writes photo-latents.png

[cyan]sdc view photo.sdc -o sheet.png[/]"""


def view(
    file: Annotated[str, typer.Argument(metavar="FILE", help="An .sdc file.", show_default=False)],
    output: Annotated[
        str | None,
        typer.Option(
            "--output",
            "-o",
            metavar="PNG",
            help="The picture to write; without it, the source's name with -latents.png.",
            show_default=False,
        ),
    ] = None,
    force: Force = False,
    debug: Debug = False,
) -> None:
    """Draw the latents of an .sdc file on one sheet, a PNG.

    It shows the four channels as one RGBA picture, each of them in grey, the preview that is computed from them without
    any model and, of palette files, the palette as swatches in the colours that the preview gives them.
    """
    source = Source(None if file == STREAM else Path(file), Path(Path(file).name))
    if output is None and source.path is None:
        raise misuse("standard input has no name; name the sheet with --output")
    target = Path(output) if output is not None else Path(file).with_name(f"{Path(file).stem}-latents.png")
    if target.suffix.lower() != ".png":
        raise misuse(f"{target} does not end in .png")
    failures = Failures(debug)
    with failures.of(source):
        check_absent(target, force)
        from . import sheet

        buffer = io.BytesIO()
        with opened(source) as stream:
            sheet.draw(stream, Path(file).name).save(buffer, "PNG", optimize=True)
        write_whole(target, buffer.getvalue(), force)
        typer.echo(target)
    failures.end()
