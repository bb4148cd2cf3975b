"""What is to be done: how pictures are converted, and which files a worker takes at a time."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import PurePath
from typing import Any

from ..files.pictures import is_picture, is_sdc


class Kind(StrEnum):
    """How pictures are kept."""

    FILES = "files"
    TAR = "tar"
    PARQUET = "parquet"


@dataclass(frozen=True)
class Conversion:
    """What becomes of each picture; the same for a whole run.

    Attributes:
        decode: Whether SDC files become pictures of another format, and not these SDC files.
        suffix: Of the files that pictures become, such as ``.sdc``.
        save_options: Those of ``Image.save`` for SDC.
        settings: Those of :func:`pillow_sdc.configure`.
        keep_metadata: Whether EXIF, colour profile, XMP and resolution are kept.
        overwrite: Whether what is there already is done again.
        column: Of the pictures in Parquet files; the likeliest if ``None``.
        batch_size: The most pictures that the model takes at a time; ``None`` is the device's default.
    """

    decode: bool
    suffix: str = ".sdc"
    save_options: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    keep_metadata: bool = True
    overwrite: bool = False
    column: str | None = None
    batch_size: int | None = None

    def wants(self, path: PurePath) -> bool:
        """Tell whether a file is one of the pictures to convert."""
        return is_sdc(path) if self.decode else is_picture(path)


@dataclass(frozen=True)
class Task:
    """Files that one worker takes, and where they go.

    Attributes:
        sources: Paths in the source store.
        size: Their bytes.
        kind: Of the sources.
        to: Of what they become.
        target: Path in the target store: of the shard that is written, or of the folder for what is in a shard.
    """

    sources: tuple[str, ...]
    size: int
    kind: Kind
    to: Kind
    target: str = ""
