"""``sdc encode``: pictures to ``.sdc`` files."""

from pathlib import Path
from typing import Annotated, Any

import typer

from ..jobs.pictures.opening import is_picture, is_sdc
from ..jobs.tasks import Conversion
from .arguments import (
    Debug,
    Device,
    Dtype,
    DtypeOption,
    Force,
    MaxPixels,
    Metadata,
    Model,
    Output,
    Quiet,
    Vae,
    configured,
)
from .codec_options import takes_codec_options
from .messages import Failures, misuse
from .sources import STREAM, find, is_folder, plan

EXAMPLES = """[bold]Examples[/]

[cyan]sdc encode photo.jpg[/]   writes photo.sdc, with the codec of the article

[cyan]sdc encode photo.jpg --quality 40 -o small.sdc[/]   the package's own codec: about half the bytes

[cyan]sdc encode photo.jpg --target-size 2k[/]   the best quality that fits into 2,000 bytes

[cyan]sdc encode holiday/ -o archive/[/]   every picture in a folder and its sub-folders

[cyan]sdc encode "holiday/**/*.jpg" -o archive/[/]   the same for a pattern

[cyan]curl -s URL | sdc encode - > photo.sdc[/]   in a pipe"""


@takes_codec_options
def encode(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="SOURCE",
            help="Files, folders, patterns, or [bold]-[/] for standard input.",
            show_default=False,
        ),
    ],
    output: Output = None,
    *,
    save_options: dict[str, Any],
    metadata: Metadata = True,
    max_pixels: MaxPixels = None,
    force: Force = False,
    model: Model = None,
    vae: Vae = None,
    device: Device = None,
    dtype: DtypeOption = None,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Write pictures as .sdc files.

    Anything that Pillow opens will do, with a plugin such as pillow-heif where one is installed; of a picture with
    several frames the first is taken, and of an .sdc file its latents, without decoding it. Nothing is overwritten
    without [bold]--force[/], a file is written whole or not at all, and one that fails does not stop the others.
    """
    failures = Failures(debug)
    conversion = Conversion(
        decode=False,
        save_options=save_options,
        keep_metadata=metadata,
        overwrite=force,
        max_pixels=max_pixels,
        resumes=False,
    )
    # Beside itself, an SDC file would become itself.
    found = find(sources, is_picture if output is None else conversion.wants, failures, quiet=quiet)
    if output not in (None, STREAM) and not is_folder(output, found, is_sdc) and not is_sdc(Path(output)):
        raise misuse(f"{output} does not end in .sdc; for a folder to be made, write {output}/")
    tasks = plan(found, output, ".sdc", is_sdc)
    from .conversion import run

    with configured(model=model, vae=vae, device=device, dtype=dtype and Dtype(dtype).value):
        run(tasks, conversion, failures.count, quiet=quiet, debug=debug)
