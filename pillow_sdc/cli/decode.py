"""``sdc decode``: ``.sdc`` files to pictures of other formats."""

from pathlib import Path
from typing import IO, Annotated, Any

import typer

from ..format.container import check_signature
from ..jobs.pictures.opening import format_of, is_sdc, is_written
from ..jobs.pictures.pixel_limit import pixel_limit
from ..progress import ProgressCallback
from .arguments import (
    Debug,
    DenoiseSteps,
    Device,
    Dtype,
    DtypeOption,
    Force,
    MaxPixels,
    Metadata,
    Model,
    Output,
    Quiet,
    configured,
)
from .messages import Failures, misuse, say
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
    max_pixels: MaxPixels = None,
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
    failures = Failures(debug)
    found = find(sources, is_sdc, failures, quiet=quiet)
    if format_name is None and output not in (None, STREAM) and not is_folder(output, found, is_written):
        format_name = Path(output).suffix
        if not format_name:
            raise misuse(f"{output} has no suffix that says which format; add one, or write {output}/ for a folder")
    suffix = "." + (format_name or "png").lower().removeprefix(".")
    file_format = _format_of(suffix)
    jobs = plan(found, output, suffix, is_written)

    from .conversion import run

    def convert(file: IO[bytes], source: Source, progress: ProgressCallback | None) -> bytes:
        return _decoded(file, source, file_format, progress, keep_metadata=metadata)

    settings = configured(model=model, device=device, dtype=dtype and Dtype(dtype).value, denoise_steps=denoise_steps)
    with settings, pixel_limit(max_pixels):
        run(jobs, convert, failures, force=force, quiet=quiet, debug=debug)


def _format_of(suffix: str) -> str:
    try:
        return format_of(suffix)
    except ValueError as error:
        raise misuse(str(error)) from None


def _decoded(
    file: IO[bytes], source: Source, file_format: str, progress: ProgressCallback | None, *, keep_metadata: bool
) -> bytes:
    from PIL import Image

    from ..jobs.pictures.saving import picture_file

    check_signature(file.read(16))
    file.seek(0)
    image: Any = Image.open(file, formats=["SDC"])
    with image:
        image.on_progress(progress)
        image.load()
        data, remark = picture_file(image, file_format, keep_metadata=keep_metadata)
    if remark is not None:
        say(remark, source)
    return data
