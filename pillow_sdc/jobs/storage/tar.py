"""Tar files in WebDataset's layout: what belongs together lies together, under one name with several suffixes.

https://github.com/webdataset/webdataset
"""

import gzip
import io
import re
import tarfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, Any, Self

from ...errors import CorruptFileError
from .members import Members
from .samples import LONGEST_FILE, Sample, renamed_together

SUFFIXES = (".tar", ".tar.gz", ".tgz")

_GZIP = b"\x1f\x8b"
_METADATA = re.compile(r"__[^/]*__(/|$)")


def read(file: IO[bytes], members: Members, count: int) -> Iterator[Sequence[Sample]]:
    """Read samples, so many at a time.

    A member that WebDataset gives to no sample is one of its own here, without a name and without pictures.

    Args:
        file: A readable file.
        members: Tells which members are pictures to convert.
        count: How many samples at a time.

    Raises:
        OSError: The file is damaged or cannot be read, or a sample has two members of one name.
        ValueError: It is not clear which members are to be converted, or those that are named are not there.
    """
    is_compressed = file.read(len(_GZIP)) == _GZIP
    file.seek(0)
    content: Any = gzip.GzipFile(fileobj=file) if is_compressed else file
    try:
        with tarfile.open(fileobj=content, mode="r|", tarinfo=_Member) as archive:
            yield from _together(_samples(archive, members), count)
            _check_end(archive)
    except (tarfile.TarError, gzip.BadGzipFile, zlib.error) as error:
        raise CorruptFileError(f"damaged tar file: {error}") from error
    except EOFError as error:
        raise CorruptFileError(f"truncated tar file: {error}") from error


def key_of(name: str) -> str | None:
    """Return what the files of one sample have in common: the name up to the first dot of its last part.

    There is none, as in WebDataset, for hidden files, files without a dot, and what is in folders such as ``__meta__``.
    WebDataset itself takes hidden files in a folder for a sample that is called as the folder.
    """
    path = PurePosixPath(name)
    key, dot, _ = path.name.partition(".")
    if not key or not dot or _METADATA.match(str(path)):
        return None
    return str(path.with_name(key))


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
        names = renamed_together(pictures, sample.rest or {}, suffix)
        for name, data in {**(sample.rest or {}), **pictures}.items():
            member = tarfile.TarInfo(names.get(name, name))
            member.size = len(data or b"")
            self._archive.addfile(member, io.BytesIO(data or b""))
        return names

    def close(self) -> None:
        """Write the end of the file."""
        self._archive.close()


def _together(samples: Iterator[Sample], count: int) -> Iterator[Sequence[Sample]]:
    """Yield so many samples at a time; those before a damage, however many, too."""
    together: list[Sample] = []
    try:
        for sample in samples:
            together.append(sample)
            if len(together) == count:
                yield together
                together = []
    except (OSError, tarfile.TarError, EOFError, zlib.error):
        if together:
            yield together
        raise
    if together:
        yield together


class _Member(tarfile.TarInfo):
    """A member whose damage is not taken for the end of the file, as ``tarfile`` does from the second on."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        if len(buf) < tarfile.BLOCKSIZE:
            raise CorruptFileError("truncated tar file: it has no end")
        if not buf.strip(b"\0"):
            return super().frombuf(buf, encoding, errors)  # raises what says that this is the end
        try:
            member = super().frombuf(buf, encoding, errors)
        except tarfile.HeaderError as error:
            raise CorruptFileError(f"damaged tar file: {error}") from error
        _check_size(member)  # before a long name of this size, say, is read
        return member


def _check_size(member: tarfile.TarInfo) -> None:
    if member.size > LONGEST_FILE:
        raise CorruptFileError(f"{member.name} has {member.size:,} bytes, more than {LONGEST_FILE:,}")


def _check_end(archive: tarfile.TarFile) -> None:
    """Refuse what follows the end, such as members after a header that was lost."""
    stream: Any = archive.fileobj
    while block := stream.read(1 << 20):
        if block.strip(b"\0"):
            raise CorruptFileError("damaged tar file: more follows its end")


def _samples(archive: tarfile.TarFile, members: Members) -> Iterator[Sample]:
    current: str | None = None
    files: dict[str, bytes] = {}
    for member in archive:
        if not member.isreg():
            continue
        name, key, data = member.name, key_of(member.name), _content(archive, member)
        if key is None:
            yield Sample("", {}, {name: data})
            continue
        if current is not None and key != current:
            yield _sample(current, files, members)
            files = {}
        if name in files:
            raise CorruptFileError(f"the sample {key!r} has two members called {name}")
        current = key
        files[name] = data
    if current is not None:
        yield _sample(current, files, members)
    members.check()


def _sample(key: str, files: Mapping[str, bytes], members: Members) -> Sample:
    pictures = members.pictures(key, list(files))
    rest = {name: data for name, data in files.items() if name not in pictures}
    return Sample(key, {name: partial(bytes, files[name]) for name in pictures}, rest)


def _content(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    _check_size(member)  # again, for it may have been told apart from its header
    content = archive.extractfile(member)
    data = content.read() if content else b""
    if len(data) != member.size:
        raise CorruptFileError(f"truncated tar file: {member.name} has {len(data):,} of {member.size:,} bytes")
    return data
