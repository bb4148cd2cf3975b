"""Tar files in WebDataset's layout: what belongs together lies together, under one name with several suffixes.

https://github.com/webdataset/webdataset
"""

import io
import itertools
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO

from ..errors import CorruptFileError
from .samples import LONGEST_FILE, Sample, Wanted, renamed

SUFFIXES = (".tar", ".tar.gz", ".tgz")


def read(file: IO[bytes], wanted: Wanted, count: int) -> Iterator[Sequence[Sample]]:
    """Read samples, so many at a time; one after another, so that the file need not be seekable.

    Raises:
        OSError: The file is damaged or cannot be read.
    """
    try:
        with tarfile.open(fileobj=file, mode="r|*") as archive:
            samples = _samples(archive, wanted)
            while together := list(itertools.islice(samples, count)):
                yield together
    except tarfile.TarError as error:
        raise CorruptFileError(f"damaged tar file: {error}") from error
    except EOFError as error:
        raise CorruptFileError(f"truncated tar file: {error}") from error


def key_of(name: str) -> str:
    """Return what the files of one sample have in common: the name up to the first dot of its last part."""
    path = PurePosixPath(name)
    return str(path.with_name(path.name.partition(".")[0])) if path.name.partition(".")[0] else name


class TarShard:
    """A :class:`~.samples.Shard`; the same samples give the same bytes.

    A sample of which a picture failed is left out, for who reads the shard expects all of it.
    """

    def __init__(self, path: Path) -> None:
        self._archive = tarfile.open(path, "x", format=tarfile.PAX_FORMAT)  # noqa: SIM115 - closed by close()

    def add(self, sample: Sample, pictures: Mapping[str, bytes | None], suffix: str) -> Mapping[str, str]:
        """Append a sample's files, the pictures with their new suffix."""
        if any(data is None for data in pictures.values()):
            return {}
        names: dict[str, str] = {}
        for name in pictures:
            new = renamed(name, suffix)
            # Where two pictures of a sample differ in their suffixes alone, the second keeps its own before the new.
            names[name] = new if new not in names.values() else name + suffix
        for name, data in {**(sample.rest or {}), **pictures}.items():
            member = tarfile.TarInfo(names.get(name, name))
            member.size = len(data or b"")
            self._archive.addfile(member, io.BytesIO(data or b""))
        return names

    def close(self) -> None:
        """Write the end of the file."""
        self._archive.close()


def _samples(archive: tarfile.TarFile, wanted: Wanted) -> Iterator[Sample]:
    files = ((member.name, _content(archive, member)) for member in archive if member.isreg())
    for key, together in itertools.groupby(files, lambda file: key_of(file[0])):
        pictures, rest = {}, {}
        for name, data in together:
            if wanted(PurePosixPath(name)):
                pictures[name] = partial(bytes, data)
            else:
                rest[name] = data
        yield Sample(key, pictures, rest)


def _content(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    if member.size > LONGEST_FILE:
        raise CorruptFileError(f"{member.name} has {member.size:,} bytes, more than {LONGEST_FILE:,}")
    content = archive.extractfile(member)
    data = content.read() if content else b""
    if len(data) != member.size:
        raise CorruptFileError(f"truncated tar file: {member.name} has {len(data):,} of {member.size:,} bytes")
    return data
