"""A conversion, the same for a whole run, and its tasks: the files that one worker takes at a time."""

import itertools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import PurePath, PurePosixPath
from typing import Any

from .pictures.opening import is_picture, is_sdc
from .storage.members import Members, NamedMembers, Photograph

PICTURES_AT_A_TIME = 32
"""The number of pictures that a worker takes at a time, at most, unless the model's batches are large."""

WORKER_DIED = "its worker died, killed because memory ran out or by a crash"
"""The error of a file that no worker survives."""


class Packing(StrEnum):
    """How pictures are kept."""

    FILES = "files"
    TAR = "tar"
    PARQUET = "parquet"


@dataclass(frozen=True)
class Conversion:
    """How each picture is converted; the same for a whole run.

    Attributes:
        decode: Whether SDC files become pictures of another format, and not these SDC files.
        suffix: The suffix of new files, such as ``.sdc``.
        save_options: Those of ``Image.save`` for SDC.
        settings: Those of :func:`pillow_sdc.configure`.
        keep_metadata: Whether EXIF, colour profile, XMP and resolution are kept.
        overwrite: Whether what is there already is done again.
        columns: Which pictures of a shard: the names of a Parquet file's columns, or the extensions of a tar shard's
            members. Without any it is the photograph of each row or sample, or in decoding every SDC file of a sample.
        batch_size: The most pictures that the model takes at a time; ``None`` is the device's default.
        max_pixels: The most pixels of a picture; 0 is no limit, ``None`` is Pillow's.
        resumes: Whether what is there already is taken for done, if it is whole; else it is refused.
    """

    decode: bool
    suffix: str = ".sdc"
    save_options: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    keep_metadata: bool = True
    overwrite: bool = False
    columns: tuple[str, ...] = ()
    batch_size: int | None = None
    max_pixels: int | None = None
    resumes: bool = True

    @property
    def pictures_at_a_time(self) -> int:
        """How many pictures a worker takes at a time: enough for the model to have several batches."""
        return max(PICTURES_AT_A_TIME, 4 * (self.batch_size or 0))

    def resolved(self) -> "Conversion":
        """Return the conversion with all settings that hold here, for those that hold elsewhere may be others."""
        import pillow_sdc

        from ..models.kinds import path_of

        with pillow_sdc.configure(**self.settings) as settings:
            found = settings._asdict()
        for name in ("model", "vae"):
            if found[name] and (path := path_of(found[name])):
                found[name] = str(path.absolute())
        return replace(self, settings=found)

    def described(self) -> str:
        """Return the options that make files what they are, as for the command line; ``""`` if all are the defaults."""
        import pillow_sdc

        with pillow_sdc.configure(**self.settings) as settings:
            given = settings._asdict()
        defaults = pillow_sdc.Settings()._asdict()
        ignored = {"device", "compile", *(() if self.decode else ("denoise_steps",))}
        options = {name: value for name, value in given.items() if name not in ignored and value != defaults[name]}
        options |= {} if self.decode else self.save_options
        words = [f"--{name.replace('_', '-')} {value}" for name, value in sorted(options.items())]
        return " ".join([*words, *([] if self.keep_metadata else ["--strip"])])

    def wants(self, path: PurePath) -> bool:
        """Tell whether a file is one of the pictures to convert, by its name alone."""
        return is_sdc(path) or (not self.decode and is_picture(path))

    def members(self) -> Members:
        """Return the rule by which members of a tar shard are converted."""
        if self.columns:
            return NamedMembers(self.wants, self.columns)
        return Members(self.wants) if self.decode else Photograph(self.wants)


@dataclass(frozen=True)
class Task:
    """Files that one worker takes, and where they go.

    Attributes:
        sources: Paths in the source store.
        size: Their bytes.
        packing: How the sources are kept.
        to: How their results are kept.
        target: Path in the target store: of the shard that is written, or of the folder for what is in a shard.
        targets: Paths in the target store of what each source becomes, where files become files.
        superseded: Paths in the target store, as the manifest writes them, of earlier results of sources that failed
            since; these are replaced.
        missing: How many pictures the shard lacks that is replaced.
    """

    sources: tuple[str, ...]
    size: int
    packing: Packing
    to: Packing
    target: str = ""
    targets: tuple[str, ...] = ()
    superseded: frozenset[str] = frozenset()
    missing: int = 0

    def parts(self) -> list["Task"]:
        """Return the parts of a task that no worker survives; divided again, these end with one file each.

        What is packed is halved, for each part is a shard of its own: ``000000.tar`` becomes ``000000-0.tar`` and
        ``000000-1.tar``, and these ``000000-00.tar`` and so on.
        """
        count = len(self.sources)
        if count == 1:
            return [self]
        share, remainder = divmod(self.size, count)
        ends = range(count + 1) if self.to is Packing.FILES else (0, count // 2, count)
        parts = []
        for number, (start, end) in enumerate(itertools.pairwise(ends)):
            size = share * (end - start) + (0 if start else remainder)
            sources, targets = self.sources[start:end], self.targets[start:end]
            target = self._target_of(number)
            parts.append(replace(self, sources=sources, size=size, target=target, targets=targets))
        return parts

    def _target_of(self, part: int) -> str:
        if self.to is Packing.FILES:
            return self.target
        path = PurePosixPath(self.target)
        return str(path.with_stem(f"{path.stem}{'' if '-' in path.stem else '-'}{part}"))


def check_distinct(pairs: Iterable[tuple[str, str]], place: Callable[[str], str] = str) -> None:
    """Refuse sources of which two would become one file.

    Args:
        pairs: The source and the target of each.
        place: Returns what is the same for all ways to write a target.

    Raises:
        ValueError: There are such.
    """
    sources: dict[str, str] = {}
    for source, target in pairs:
        if (other := sources.setdefault(place(target), source)) is not source:
            raise ValueError(f"{other} and {source} would both become {target}; nothing was done")
