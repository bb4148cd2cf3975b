"""Training samples for PyTorch straight from ``.sdc`` files: latents, which take no model, or pixels.

files ─ SdcFiles ─▶ stored samples, by index ─ decode ─▶ samples ─ transform ─▶
shards ─ SdcShards: rank, worker ─▶ stored samples ─ shuffle buffer ─ decode ─▶ samples ─ transform ─▶

A sample is a dictionary, as in WebDataset:

- ``__key__``: what it is called: a file's path below the folder, without the suffix (the whole path if files were
  listed one by one); in a tar shard what its files' names have in common; in a Parquet file the number of its row.
- ``__url__``: the file or shard that it is from.
- ``latents``: float32 ``(4, ⌈H/8⌉, ⌈W/8⌉)``, SD-scaled, and ``noise_variance``: float32 ``()``, the mean square of what
  quantisation added to them; or
- ``pixels``: float32 ``(3, H, W)`` in [−1, 1], decoded by the settings that hold where the dataset is made; no alpha.
- What goes along in a shard: the other columns of a Parquet file, and the other files of a tar shard's sample, by their
  suffixes without the dot. Bytes called ``txt``, ``json`` or ``cls`` become a text, what the JSON says, a whole number.

``import pillow_sdc`` does not import this module, for it imports torch. Files are read by what the extra ``batch``
installs.
"""

import io
import json
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO, Any, Literal, NamedTuple, NoReturn, TypeVar, get_args

import numpy as np
import torch
from torch import distributed
from torch.utils.data import Dataset, IterableDataset, get_worker_info

from . import api, options
from .errors import CorruptFileError, NotSdcError, summary_of
from .format import container
from .format.container import check_signature
from .jobs.manifest import FOLDER as MANIFEST
from .jobs.pictures.opening import is_sdc
from .jobs.storage import parquet as parquet_shards
from .jobs.storage import tar as tar_shards
from .jobs.storage.members import Members, NamedMembers, extension_of
from .jobs.storage.samples import Sample
from .jobs.storage.stores import Store, found
from .pipeline import decoding
from .runtime.torch_state import isolated

__all__ = ["SdcFiles", "SdcShards"]

Source = str | os.PathLike[str] | Iterable[str | os.PathLike[str]]
"""A folder, a file or a pattern, by path or by a URL that fsspec knows; or files one by one, taken as they are."""

Content = Literal["latents", "pixels"]
OnError = Literal["raise", "skip"]
Transform = Callable[[dict[str, Any]], Any]
Item = TypeVar("Item")

SUFFIX = ".sdc"

CORRUPT = CorruptFileError, NotSdcError
"""What ``on_error`` is about. A file that is out of reach, or a model that is, is no fault of the sample."""

PARSERS: Mapping[str, Callable[[bytes], Any]] = {"txt": bytes.decode, "json": json.loads, "cls": int}
"""What makes of the files that go along what they hold, by the last part of their names."""

ROWS = 16
"""Of a Parquet file that are read at a time."""

_log = logging.getLogger("pillow_sdc")


class SdcFiles(Dataset[Any]):
    """A map-style dataset of ``.sdc`` files; an index takes its file alone, whatever their number.

    With ``on_error="skip"`` a batch of a ``DataLoader`` is smaller by the corrupt files among its own, and a warning
    names each. ``dataset[index]`` itself has nothing to give in their place, and raises.

    Args:
        source: A folder, a file or a pattern, by path or by a URL that fsspec knows; or an iterable of files, which are
            taken as they are. Of a folder's files those called ``.sdc`` are taken, in the order of their names.
        content: ``"latents"`` or ``"pixels"``.
        transform: Makes of a sample what is given in its place.
        on_error: What a corrupt file does: ``"raise"``, or ``"skip"`` with a warning on the logger ``pillow_sdc``.

    Raises:
        FileNotFoundError: There is no such folder or file, or nothing matches.
        OSError: The folder cannot be read.
        ValueError: None of its files is called ``.sdc``, or ``content`` or ``on_error`` is none of these.
    """

    def __init__(
        self,
        source: Source,
        *,
        content: Content = "latents",
        transform: Transform | None = None,
        on_error: OnError = "raise",
    ) -> None:
        self._prefix, self._paths = _listed(source, (SUFFIX,))
        self._decoder = _Decoder(content, transform, on_error)

    def __len__(self) -> int:
        """Return the number of files."""
        return len(self._paths)

    def __getitem__(self, index: int) -> Any:
        """Return a file's sample.

        Raises:
            IndexError: There are not so many.
            CorruptFileError: The file is damaged (also an ``OSError``).
            NotSdcError: It is no SDC file (also a ``SyntaxError``).
            OSError: It cannot be read, or the model is unavailable or failed.
        """
        stored = self._stored(index)
        try:
            return self._decoder.sample(stored)
        except CORRUPT as error:
            _raise_named(stored.name, error)

    def __getitems__(self, indices: Sequence[int]) -> list[Any]:
        """Return the samples of a batch, but for those that are skipped; ``DataLoader`` calls this.

        Raises:
            CorruptFileError: All of them are corrupt, or one is that is not skipped; else as above.
        """
        samples = list(self._decoder.samples(map(self._stored, indices)))
        if indices and not samples:
            raise CorruptFileError(f"nothing is left of a batch of {len(indices)}: all of its files were skipped")
        return samples

    def _stored(self, index: int) -> "_Stored":
        path = self._paths[index]
        url = self._prefix + path
        folder, name = _folder_and_name(url)
        return _Stored(url, path[: -len(SUFFIX)], Store(folder).read(name))


class SdcShards(IterableDataset[Any]):
    """An iterable dataset of tar shards (WebDataset's layout) and Parquet files, such as ``sdc batch`` writes.

    The workers of a ``DataLoader`` and the ranks of a distributed training share the shards: each sample is given once
    an epoch, whatever their number. Where there are fewer shards than workers in all, some workers share a shard, and
    each passes by what is for the others. Ranks need not get equally many samples.

    With one seed, epoch, and number of workers and ranks, the order is the same in every run. Like PyTorch's
    ``DistributedSampler``, a dataset repeats its order until :meth:`set_epoch` is called.

    A sample that has no picture, as one of which ``sdc batch`` reports that it failed, is corrupt.

    Args:
        source: A folder, a file or a pattern, by path or by a URL that fsspec knows; or an iterable of files, which are
            taken as they are. Those are taken that are called ``.tar``, ``.tar.gz``, ``.tgz`` or ``.parquet``.
        content: ``"latents"`` or ``"pixels"``.
        column: Which column of a Parquet file holds the pictures; unless given, the one that is an image by the table's
            metadata, or is called ``image``. Of a tar shard's samples, the suffix of the picture's file, such as
            ``"sdc"``, ``"edited.sdc"`` or just ``"edited"``; the only SDC file's unless given.
        transform: Makes of a sample what is given in its place.
        shuffle_buffer: From how many samples the next is drawn at random; the shards come in random order, too. They
            wait as they are stored, in some kilobytes each. 0 gives all in the order in which it is stored.
        seed: Of that order; 0 or more.
        rank: Which part of ``world_size`` is to be given here. Unless both are given, ``torch.distributed`` is asked,
            and must be initialised before the dataset is made.
        world_size: Into how many parts the dataset is divided.
        on_error: What a corrupt sample does: ``"raise"``, or ``"skip"`` with a warning on the logger ``pillow_sdc``. Of
            a shard that is damaged itself the rest is skipped.

    Raises:
        FileNotFoundError: There is no such folder or file, or nothing matches.
        OSError: The folder cannot be read.
        ValueError: None of its files is called like a shard, or an argument makes no sense.
    """

    def __init__(
        self,
        source: Source,
        *,
        content: Content = "latents",
        column: str | None = None,
        transform: Transform | None = None,
        shuffle_buffer: int = 0,
        seed: int = 0,
        rank: int | None = None,
        world_size: int | None = None,
        on_error: OnError = "raise",
    ) -> None:
        if shuffle_buffer < 0 or seed < 0:
            raise ValueError(f"shuffle_buffer is {shuffle_buffer} and seed {seed}; both must be at least 0")
        prefix, paths = _listed(source, (*tar_shards.SUFFIXES, *parquet_shards.SUFFIXES))
        self._shards = [prefix + path for path in paths]
        self._decoder = _Decoder(content, transform, on_error)
        self._column, self._shuffle_buffer, self._seed = column, shuffle_buffer, seed
        self._place_is_given = rank is not None or world_size is not None
        self._rank, self._world_size = _place(rank, world_size) if self._place_is_given else _distributed() or (0, 1)
        with isolated():
            self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()  # type: ignore[no-untyped-call]
        """In shared memory, so that workers that stay from one epoch to the next learn of it."""

    def set_epoch(self, epoch: int) -> None:
        """Have the next iteration take another order: that of an epoch, 0 or more; 0 to begin with."""
        if epoch < 0:
            raise ValueError(f"epoch is {epoch}; it must be at least 0")
        self._epoch.fill_(epoch)

    def __iter__(self) -> Iterator[Any]:
        """Give the samples that are for this rank and worker.

        Raises:
            CorruptFileError: A sample or a shard is damaged (also an ``OSError``).
            NotSdcError: A picture is no SDC file (also a ``SyntaxError``).
            OSError: A shard cannot be read, or the model is unavailable or failed.
            ValueError: There is no such column, it is not clear which is meant, or one is called as what samples hold.
            RuntimeError: ``torch.distributed`` was initialised after the dataset was made.
        """
        if not self._place_is_given and _distributed() not in (None, (self._rank, self._world_size)):
            raise RuntimeError("make the dataset after torch.distributed is initialised, or give rank and world_size")
        worker = get_worker_info()
        worker_id, workers = (0, 1) if worker is None else (worker.id, worker.num_workers)
        part, parts = self._rank * workers + worker_id, self._world_size * workers
        shards, epoch = self._shards, int(self._epoch)
        if self._shuffle_buffer:
            order = np.random.default_rng((self._seed, epoch)).permutation(len(shards))
            shards = [shards[index] for index in order]
        stored = self._stored(_shares(shards, part, parts))
        if self._shuffle_buffer:
            stored = _shuffled(stored, self._shuffle_buffer, np.random.default_rng((self._seed, epoch, part)))
        return self._decoder.samples(stored)

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__ = state
        self._epoch.share_memory_()

    def _stored(self, shares: "Iterable[_Share]") -> "Iterator[_Stored]":
        for url, first, step in shares:
            folder, name = _folder_and_name(url)
            read = _read_tar if name.lower().endswith(tar_shards.SUFFIXES) else _read_parquet
            with Store(folder).opened(name) as file:
                samples = enumerate(read(file, url, self._column))
                try:
                    yield from (stored for number, stored in samples if number % step == first)
                except CorruptFileError as error:
                    self._decoder.pass_by(url, error)


class _Share(NamedTuple):
    """Every so many samples of a shard, from one of the first."""

    url: str
    first: int
    step: int


@dataclass(frozen=True, eq=False)
class _Stored:
    """A sample as it is stored.

    Attributes:
        url: Of the file or shard.
        key: What it is called.
        picture: The SDC file; ``None`` if there is none.
        companions: What goes along, by its name.
    """

    url: str
    key: str
    picture: bytes | None
    companions: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """What to call it before users."""
        return self.url if self.url.lower().endswith(SUFFIX) else f"{self.url}::{self.key}"


class _Decoder:
    """Makes of stored samples what users get, by the settings that hold where it is made."""

    def __init__(self, content: Content, transform: Transform | None, on_error: OnError) -> None:
        for name, value, known in (("content", content, Content), ("on_error", on_error, OnError)):
            if value not in get_args(known):
                raise ValueError(f"{name} is {value!r}; it must be one of {', '.join(get_args(known))}")
        self._content, self._transform, self._on_error = content, transform, on_error
        self._settings = options.settings()

    def samples(self, stored: Iterable[_Stored]) -> Iterator[Any]:
        """Give samples, without those that are corrupt if these are skipped."""
        for one in stored:
            try:
                sample = self.sample(one)
            except CORRUPT as error:
                self.pass_by(one.name, error)
            else:
                yield sample

    def sample(self, stored: _Stored) -> Any:
        """Return a sample.

        Raises:
            CorruptFileError: The picture, or what goes along with it, is damaged, or there is none.
            NotSdcError: The picture is no SDC file.
            ValueError: What goes along is called as something is that samples hold.
        """
        if stored.picture is None:
            raise CorruptFileError("there is no picture in it")
        check_signature(stored.picture)
        tensors = self._pixels(stored.picture) if self._content == "pixels" else _latents(stored.picture)
        sample = {"__key__": stored.key, "__url__": stored.url, **tensors}
        if taken := sorted(sample.keys() & stored.companions.keys()):
            raise ValueError(f"{stored.url} has a column {taken[0]!r}, which is what the samples call their own")
        sample |= {name: _parsed(name, value) for name, value in stored.companions.items()}
        return sample if self._transform is None else self._transform(sample)

    def pass_by(self, name: str, error: Exception) -> None:
        """Say what is skipped, or raise the error."""
        if self._on_error == "raise":
            _raise_named(name, error)
        _log.warning("skipped %s: %s", name, summary_of(error))

    def _pixels(self, picture: bytes) -> dict[str, torch.Tensor]:
        with options.configure(**self._settings._asdict()):
            samples = np.array(api.decode(picture).convert("RGB"))
        return {"pixels": torch.from_numpy(samples).permute(2, 0, 1).contiguous().float().div_(127.5).sub_(1)}


def _latents(picture: bytes) -> dict[str, torch.Tensor]:
    file = io.BytesIO(picture)
    quantised = decoding.read_latents(file, container.read_layout(file))
    return {
        "latents": torch.from_numpy(quantised.latents),
        "noise_variance": torch.tensor(quantised.noise_variance, dtype=torch.float32, device="cpu"),
    }


def _parsed(name: str, value: Any) -> Any:
    parse = PARSERS.get(name.rpartition(".")[2])
    if parse is None or not isinstance(value, bytes):
        return value
    try:
        return parse(value)
    except ValueError as error:
        raise CorruptFileError(f"{name}: {error}") from error


def _raise_named(name: str, error: Exception) -> NoReturn:
    raise type(error)(f"{name}: {error}") from error


def _read_tar(file: IO[bytes], url: str, column: str | None) -> Iterator[_Stored]:
    members = Members(is_sdc) if column is None else NamedMembers(is_sdc, [column])
    for (sample,) in tar_shards.read(file, members, 1):
        if not sample.name:  # a member that belongs to no sample
            continue
        if len(sample.pictures) > 1:
            raise ValueError(f"{url} has several SDC files in a sample: {', '.join(sample.pictures)}; name a column")
        companions = {extension_of(name): data for name, data in sample.rest.items()}
        yield _Stored(url, sample.name, _picture_of(sample), companions)


def _read_parquet(file: IO[bytes], url: str, column: str | None) -> Iterator[_Stored]:
    for samples in parquet_shards.read(file, () if column is None else (column,), ROWS):
        for sample in samples:
            (companions,) = sample.rest.table.drop_columns(list(sample.rest.columns.values())).to_pylist()
            yield _Stored(url, sample.name, _picture_of(sample), companions)


def _picture_of(sample: Sample) -> bytes | None:
    return next((read() for read in sample.pictures.values()), None)


def _shuffled(items: Iterable[Item], size: int, rng: np.random.Generator) -> Iterator[Item]:
    """Give items in an order drawn from a buffer."""
    buffer: list[Item] = []
    for item in items:
        if len(buffer) < size:
            buffer.append(item)
        else:
            drawn = int(rng.integers(size))
            yield buffer[drawn]
            buffer[drawn] = item
    yield from (buffer[index] for index in rng.permutation(len(buffer)))


def _shares(shards: Sequence[str], part: int, parts: int) -> list[_Share]:
    """Return which part of the shards is one of so many; part k takes its own shards, or its share of one."""
    if len(shards) >= parts:
        return [_Share(url, 0, 1) for url in shards[part::parts]]
    first, shard = divmod(part, len(shards))
    return [_Share(shards[shard], first, len(range(shard, parts, len(shards))))]


def _place(rank: int | None, world_size: int | None) -> tuple[int, int]:
    if rank is None or world_size is None or not 0 <= rank < world_size:
        raise ValueError(f"rank is {rank} and world_size {world_size}; both are needed, with 0 ≤ rank < world_size")
    return rank, world_size


def _distributed() -> tuple[int, int] | None:
    """Return this process's rank and the number of ranks, if the training is distributed."""
    if not distributed.is_available() or not distributed.is_initialized():
        return None
    return distributed.get_rank(), distributed.get_world_size()


def _listed(source: Source, suffixes: tuple[str, ...]) -> tuple[str, list[str]]:
    """Return which files a user means: what their URLs have in common, and the rest of each.

    Raises:
        ValueError: None of them has one of the suffixes, or one that was listed has another.
    """
    if isinstance(source, str | os.PathLike):
        store, entries = found(os.fspath(source))
        paths = [path for path, _ in entries if path.lower().endswith(suffixes) and not _is_aside(path)]
        if not paths:
            raise ValueError(f"no file in {source} is called {' or '.join(suffixes)}")
        return store.url_of(""), paths
    names = [os.fspath(name) for name in source]
    if others := [name for name in names if not name.lower().endswith(suffixes)]:
        raise ValueError(f"{others[0]} is not called {' or '.join(suffixes)}")
    if not names:
        raise ValueError("there are no files in the list")
    return "", [name if "://" in name else Path(name).absolute().as_posix() for name in names]


def _is_aside(path: str) -> bool:
    """Tell whether a file is hidden, or the manifest of ``sdc batch``."""
    return any(part.startswith(".") or part == MANIFEST for part in PurePosixPath(path).parts)


def _folder_and_name(url: str) -> tuple[str, str]:
    name = url.rpartition("/")[2]
    return url.removesuffix(name), name
