"""What a file or a shard holds, sample by sample."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO, Any, Protocol

Wanted = Callable[[PurePosixPath], bool]
"""Tells of a file's name whether it is that of a picture that is meant."""

LONGEST_FILE = 1 << 28
"""Bytes of the largest file within a shard that is read; more is taken for damage."""


@dataclass(frozen=True, eq=False)
class Sample:
    """What belongs together: a picture's file, the files of one key of a tar shard, a row of a Parquet file.

    Attributes:
        name: What it is called within its file or shard.
        pictures: What reads each picture, by its file's name, or in a Parquet file by its column's.
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
            pictures: What became of its pictures, by the same names; ``None`` for those that failed.
            suffix: That of the files which the pictures became.

        Returns:
            What each picture is called now, of those that are in the shard.
        """

    def close(self) -> None:
        """Write what remains; the shard is whole then."""


ReadShard = Callable[[IO[bytes], Wanted, int], Iterator[Sequence[Sample]]]
"""Reads a file's samples, so many at a time."""

WriteShard = Callable[[Path], Shard]
"""Begins a shard."""


def renamed(name: str, suffix: str) -> str:
    """Return a file's name with another suffix."""
    return str(PurePosixPath(name).with_suffix(suffix))


def as_json(value: object) -> bytes:
    """Return what can be said in JSON; bytes and what else cannot are left out."""
    return json.dumps(value, default=lambda other: None, ensure_ascii=False).encode()
