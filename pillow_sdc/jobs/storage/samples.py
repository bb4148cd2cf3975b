"""What a file or a shard holds, sample by sample."""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

Wanted = Callable[[PurePosixPath], bool]
"""Tells of a file's name whether it is that of a picture that is meant."""

LONGEST_FILE = 1 << 28
"""Bytes of the largest file within a shard that is read; more is taken for damage."""


@dataclass(frozen=True, eq=False)
class Sample:
    """What belongs together: a picture's file, the files of one key of a tar shard, a row of a Parquet file.

    Attributes:
        name: What it is called within its file or shard; empty for what belongs to no sample there.
        pictures: What reads each picture that is to be converted, by its name.
        rest: What goes along, as its kind of shard keeps it.
    """

    name: str
    pictures: Mapping[str, Callable[[], bytes]]
    rest: Any = field(default=None)


class Shard(Protocol):
    """A shard that is being written."""

    def add(self, sample: Sample, pictures: Mapping[str, bytes | None], suffix: str) -> Mapping[str, str]:
        """Append a sample.

        Args:
            sample: As it was read.
            pictures: The new files of its pictures, by the same names; ``None`` for those that failed.
            suffix: The suffix of the new files.

        Returns:
            What each picture is called now, of those that are in the shard.
        """

    def close(self) -> None:
        """Write what remains; the shard is whole then. The second time nothing happens."""


WriteShard = Callable[[Path], Shard]
"""Begins a shard."""


def renamed(name: str, suffix: str) -> str:
    """Return a file's name with another suffix."""
    return name.removesuffix(PurePosixPath(name).suffix) + suffix


def renamed_together(names: Iterable[str], others: Collection[str], suffix: str) -> dict[str, str]:
    """Return the names of a sample's pictures with another suffix, by those that they have.

    Where a name is taken, by a picture of which the suffix alone was different or by another file of the sample, a
    picture keeps its own suffix before the new one.
    """
    new: dict[str, str] = {}
    for name in names:
        one = renamed(name, suffix)
        while one in others or one in new.values():
            one = (name if one == renamed(name, suffix) else one) + suffix
        new[name] = one
    return new
