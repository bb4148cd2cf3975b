"""``sdc decode``: ``.sdc`` files to pictures of other formats."""

import io
from pathlib import Path
from typing import IO, Annotated

import typer

from .arguments import (
    Debug,
    DenoiseSteps,
    Device,
    Dtype,
    DtypeOption,
    Force,
    Metadata,
    Model,
    Output,
    Quiet,
    configured,
    is_sdc,
)
from .messages import misuse
from .sources import STREAM, Source, find, is_folder, plan

EXAMPLES = """[bold]Examples[/]

[cyan]sdc decode photo.sdc[/]   writes photo.png

[cyan]sdc decode photo.sdc -o photo.webp[/]   the suffix says which format

[cyan]sdc decode archive/ -o pictures/ --format jpg[/]   every .sdc file in a folder and its sub-folders

[cyan]sdc decode photo.sdc --model CompVis/stable-diffusion-v1-4[/]   downloads the model if it is not here

[cyan]sdc decode - < photo.sdc > photo.png[/]   in a pipe"""


def decode(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="SOURCE",
            help="Files, folders, patterns, or [bold]-[/] for standard input.",
            show_default=False,
        ),
    ],
    output: Output = None,
    format_name: Annotated[
        str | None,
        typer.Option(
            "--format",
            metavar="FORMAT",
            help="Any that Pillow writes: png, jpg, webp ... [bold]png[/] unless given or told by the target's suffix.",
            show_default=False,
            rich_help_panel="Files",
        ),
    ] = None,
    metadata: Metadata = True,
    force: Force = False,
    model: Model = None,
    device: Device = None,
    dtype: DtypeOption = None,
    denoise_steps: DenoiseSteps = None,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Write .sdc files as PNG, or as any format that Pillow writes.

    Nothing is overwritten without [bold]--force[/], a file is written whole or not at all, and one that fails does not
    stop the others.
    """
    found = find(sources, is_sdc)
    if format_name is None and output not in (None, STREAM) and not is_folder(output, found):
        format_name = Path(output).suffix
        if not format_name:
            raise misuse(f"{output} has no suffix that says which format; add one, or write {output}/ for a folder")
    suffix = "." + (format_name or "png").lower().removeprefix(".")
    file_format = _format_of(suffix)
    jobs = plan(found, output, suffix)

    from .conversion import run

    def convert(file: IO[bytes], source: Source) -> bytes:
        return _decoded(file, file_format, keep_metadata=metadata)

    with configured(model=model, device=device, dtype=dtype and Dtype(dtype).value, denoise_steps=denoise_steps):
        run(jobs, convert, force=force, quiet=quiet, debug=debug)


def _format_of(suffix: str) -> str:
    """Return Pillow's name of the format that a suffix stands for."""
    from PIL import Image

    file_format = Image.registered_extensions().get(suffix)
    if file_format is None or file_format not in Image.SAVE or file_format == "SDC":
        raise misuse(f"{suffix.removeprefix('.')!r} is no format that Pillow writes; png, jpg, webp and tiff are some")
    return file_format


def _decoded(file: IO[bytes], file_format: str, *, keep_metadata: bool) -> bytes:
    from PIL import Image

    from ..container import accepts
    from ..errors import NotSdcError
    from . import metadata

    if not accepts(file.read(16)):
        raise NotSdcError("not an SDC file")
    file.seek(0)
    with Image.open(file, formats=["SDC"]) as image:
        image.load()
        if not keep_metadata:
            metadata.strip(image)
        buffer = io.BytesIO()
        image.save(buffer, file_format, **metadata.save_options_for(image, file_format))
        return buffer.getvalue()
