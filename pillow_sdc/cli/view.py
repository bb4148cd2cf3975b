"""``sdc view``: a file's latents as pictures."""

import io
from pathlib import Path
from typing import Annotated

import typer

from ..jobs.storage.writing import check_absent, write_whole
from .arguments import Debug, Force
from .messages import Failures, announce, misuse
from .sources import STREAM, InputFile, is_folder, open_input

EXAMPLES = """[bold]Examples[/]

[cyan]sdc view photo.sdc[/]   writes photo-latents.png

[cyan]sdc view photo.sdc -o sheet.png[/]

[cyan]sdc view photo.sdc -o sheets/[/]   a folder"""

_END = "-latents.png"


def view(
    file: Annotated[str, typer.Argument(metavar="FILE", help="An .sdc file.", show_default=False)],
    output: Annotated[
        str | None,
        typer.Option(
            "--output",
            "-o",
            metavar="TARGET",
            help=f"The PNG to write, or a folder for it; without it, beside the source, with {_END} to its name.",
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
    source = InputFile(None if file == STREAM else Path(file), Path(Path(file).name))
    target = _target_of(source, output)
    failures = Failures(debug)
    with failures.of(source):
        check_absent(target, force)
        from . import sheet

        buffer = io.BytesIO()
        with open_input(source) as stream:
            sheet.draw(stream, Path(file).name).save(buffer, "PNG", optimize=True)
        write_whole(target, buffer.getvalue(), force)
        announce(target)
    failures.end()


def _target_of(source: InputFile, output: str | None) -> Path:
    """Return where the sheet of a source goes.

    Raises:
        typer.Exit: It is not the name of a PNG, or the source has no name to be given to the sheet.
    """
    if output is not None and not is_folder(output, [source], _is_png):
        if not _is_png(Path(output)):
            raise misuse(f"{output} does not end in .png; for a folder to be made, write {output}/")
        return Path(output)
    if source.path is None or not source.has_name:
        raise misuse(f"{source} has no name; name the sheet with --output")
    return Path(source.path.parent if output is None else output, f"{source.path.stem}{_END}")


def _is_png(path: Path) -> bool:
    return path.suffix.lower() == ".png"
