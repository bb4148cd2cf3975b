"""``sdc thumbnail``: a small picture of a file, as file managers ask for it."""

import io
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from urllib.parse import unquote, urlsplit

import typer

from ..jobs.storage.writing import write_whole
from .arguments import Debug, whole_number
from .messages import Failures, misuse

if TYPE_CHECKING:
    from PIL import Image

EXAMPLES = """[bold]Examples[/]

[cyan]sdc thumbnail photo.sdc photo.png[/]

[cyan]sdc thumbnail -s 512 file:///home/me/photo.sdc /tmp/thumbnail.png[/]   as a file manager would"""

MAX_SIZE = 4096

_QUARTER = 4


def thumbnail(
    file: Annotated[
        str, typer.Argument(metavar="FILE", help="An .sdc file, or a file:// URI of one.", show_default=False)
    ],
    output: Annotated[str, typer.Argument(metavar="OUTPUT", help="The PNG to write.", show_default=False)],
    size: Annotated[
        int,
        typer.Option(
            "--size",
            "-s",
            parser=whole_number(1, MAX_SIZE),
            metavar="PIXELS",
            help="Width and height, at most.",
        ),
    ] = 256,
    debug: Debug = False,
) -> None:
    """Write a small PNG of an .sdc file, without any model.

    It comes from the latents, in the picture's own orientation, and is never larger than the picture. A file of its
    name is replaced. This is what [bold]sdc integrate[/] has file managers call.
    """
    path = _path_of(file)
    failures = Failures(debug)
    with failures.of(path):
        buffer = io.BytesIO()
        with path.open("rb") as stream:
            image = _small(stream, size)
        image.save(buffer, "PNG", icc_profile=image.info.get("icc_profile"))
        write_whole(Path(output), buffer.getvalue(), force=True)
    failures.end()


def _path_of(file: str) -> Path:
    """Return the path that a name or a ``file://`` URI stands for.

    Raises:
        typer.Exit: It is a URI of something else.
    """
    if "://" not in file:
        return Path(file)
    uri = urlsplit(file)
    if uri.scheme != "file" or uri.netloc not in ("", "localhost"):
        raise misuse(f"{file} is not on this machine")
    if os.name == "nt":
        from urllib.request import url2pathname

        return Path(url2pathname(uri.path))
    return Path(unquote(uri.path, errors="surrogateescape"))


def _small(stream: io.BufferedReader, size: int) -> "Image.Image":
    """Return a picture, reduced from the latents, that fits into a square.

    Raises:
        OSError: The file is not an SDC file, or damaged.
    """
    from PIL import Image, ImageOps

    import pillow_sdc
    from pillow_sdc.registration import FORMAT

    image: Image.Image = Image.open(stream, formats=[FORMAT])
    width, height = image.size
    scale = min(1.0, size / max(width, height))
    wanted = max(1, round(width * scale)), max(1, round(height * scale))
    drafted = image.draft(None, wanted) or image.draft(None, (width // _QUARTER, height // _QUARTER))
    box = drafted[1] if drafted else None
    if drafted is None:
        stream.seek(0)  # it is too small to be drafted
        image = pillow_sdc.read_preview(stream)
    return ImageOps.exif_transpose(image.resize(wanted, Image.Resampling.BICUBIC, box, reducing_gap=2.0))
