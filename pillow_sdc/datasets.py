"""PyTorch datasets of ``.sdc`` files: latents, for which no model is needed, or pixels.

files ─ SdcFiles ─▶ stored samples, by index ─ decode ─▶ samples ─ transform ─▶
shards ─ SdcShards: rank, worker ─▶ stored samples ─ shuffle buffer ─ decode ─▶ samples ─ transform ─▶

A sample is a dictionary, as in WebDataset:

- ``__key__``: its name. For a file, the path below the folder without the suffix (the whole path if files were listed
  one by one); in a tar shard, the common part of its files' names; in a Parquet file, the number of its row.
- ``__url__``: the file or shard that contains it.
- ``latents``: float32 ``(4, ⌈H/8⌉, ⌈W/8⌉)``, SD-scaled, and ``noise_variance``: float32 ``()``, the mean square of what
  quantisation added to them; or
- ``pixels``: float32 ``(3, H, W)`` in [−1, 1], decoded with the settings at the time the dataset is created; no alpha.
- Its companions in a shard: the other columns of a Parquet file, or the other files of a tar shard's sample, by their
  suffixes without the dot. Bytes named ``txt``, ``json`` or ``cls`` are parsed: to a string, a JSON value, an integer.

``import pillow_sdc`` does not import this module, because it imports torch. It needs the extra ``batch``.
"""

import io
import json
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Literal, NamedTuple, NoReturn, TypeVar, get_args

import numpy as np
import torch
from torch import distributed
from torch.utils.data import Dataset, IterableDataset, get_worker_info

from . import api, options
from .errors import CorruptFileError, NotSdcError, summary_of
from .format import container
from .format.container import check_signature
from .jobs.pictures.opening import is_sdc
from .jobs.storage import parquet as parquet_shards
from .jobs.storage import tar as tar_shards
from .jobs.storage.members import Members, NamedMembers, extension_of
from .jobs.storage.samples import Sample
from .jobs.storage.stores import Store, find_source
from .pipeline import decoding
from .runtime.torch_state import isolated

__all__ = ["SdcFiles", "SdcShards"]

Paths = str | os.PathLike[str] | Iterable[str | os.PathLike[str]]
"""A folder, a file or a pattern, as a path or a URL that fsspec supports; or an iterable of files."""

Content = Literal["latents", "pixels"]
OnError = Literal["raise", "skip"]
Transform = Callable[[dict[str, Any]], Any]
Item = TypeVar("Item")

SUFFIX = ".sdc"

CORRUPT = CorruptFileError, NotSdcError
"""Errors that ``on_error`` applies to. An unreachable file or model is not a fault of the sample."""

PARSERS: Mapping[str, Callable[[bytes], Any]] = {"txt": bytes.decode, "json": json.loads, "cls": int}
"""Parsers of companions, by the last part of their names."""

ROWS = 16
"""Number of rows of a Parquet file read at a time."""

_log = logging.getLogger("pillow_sdc")


class SdcFiles(Dataset[Any]):
    """A map-style dataset of ``.sdc`` files; each index reads one file.

    With ``on_error="skip"`` a batch of a ``DataLoader`` lacks its corrupt files, and a warning names each. A corrupt
    file still raises in ``dataset[index]``, which has nothing to return in its place.

    Args:
        source: A folder, a file or a pattern, as a path or a URL that fsspec supports; or an iterable of files. A
            folder's files with the suffix ``.sdc`` are taken, sorted by name.
        content: ``"latents"`` or ``"pixels"``.
        transform: A function of a sample whose result replaces the sample.
        on_error: On a corrupt file ``"raise"``, or ``"skip"`` it with a warning on the logger ``pillow_sdc``.

    Raises:
        FileNotFoundError: There is no such folder or file, or nothing matches.
        OSError: The folder cannot be read.
        ValueError: No file has the suffix ``.sdc``, or ``content`` or ``on_error`` is not one of the values above.
    """

    def __init__(
        self,
        source: Paths,
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
            IndexError: The index is out of range.
            CorruptFileError: The file is damaged (also an ``OSError``).
            NotSdcError: The file is not an SDC file (also a ``SyntaxError``).
            OSError: It cannot be read, or the model is unavailable or failed.
        """
        stored = self._stored(index)
        try:
            return self._decoder.sample(stored)
        except CORRUPT as error:
            _raise_named(stored.name, error)

    def __getitems__(self, indices: Sequence[int]) -> list[Any]:
        """Return the samples of a batch without skipped ones; called by ``DataLoader``.

        Raises:
            CorruptFileError: A file is corrupt and not skipped, or all files of the batch were skipped.
            OSError, NotSdcError: As for :meth:`__getitem__`.
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

    The shards are split among the workers of a ``DataLoader`` and the ranks of a distributed training: each sample is
    yielded once an epoch, whatever their number. If there are fewer shards than workers in all, some workers read the
    same shard, and each skips the samples of the others. Ranks may get different numbers of samples.

    The order is determined by the seed, the epoch, and the number of workers and ranks. Like PyTorch's
    ``DistributedSampler``, a dataset repeats its order until :meth:`set_epoch` is called.

    A sample without a picture, such as one that failed in ``sdc batch``, counts as corrupt.

    Args:
        source: A folder, a file or a pattern, as a path or a URL that fsspec supports; or an iterable of files. A
            folder's files with the suffixes ``.tar``, ``.tar.gz``, ``.tgz`` and ``.parquet`` are taken.
        content: ``"latents"`` or ``"pixels"``.
        column: The column of a Parquet file with the pictures; by default the one that is an image according to the
            table's metadata, or is named ``image``. For a tar shard, the suffix of the pictures' files, such as
            ``"sdc"``, ``"edited.sdc"`` or just ``"edited"``; by default that of the only SDC file of the sample.
        transform: A function of a sample whose result replaces the sample.
        shuffle_buffer: Number of samples in the buffer from which the next one is drawn at random; the order of shards
            is then random too. The buffer holds undecoded samples of some kilobytes each. 0 keeps the stored order.
        seed: Seed of the random order; 0 or more.
        rank: The part of ``world_size`` that this dataset yields. By default both come from ``torch.distributed``,
            which must be initialised before the dataset is created.
        world_size: Number of parts into which the dataset is split.
        on_error: On a corrupt sample ``"raise"``, or ``"skip"`` it with a warning on the logger ``pillow_sdc``. If a
            shard itself is damaged, its remaining samples are skipped.

    Raises:
        FileNotFoundError: There is no such folder or file, or nothing matches.
        OSError: The folder cannot be read.
        ValueError: No file has the suffix of a shard, or an argument is invalid.
    """

    def __init__(
        self,
        source: Paths,
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
        """The epoch, in shared memory, so that persistent workers see changes."""

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch, 0 or more, that determines the order of the next iteration; initially 0."""
        if epoch < 0:
            raise ValueError(f"epoch is {epoch}; it must be at least 0")
        self._epoch.fill_(epoch)

    def __iter__(self) -> Iterator[Any]:
        """Yield the samples of this rank and worker.

        Raises:
            CorruptFileError: A sample or a shard is damaged (also an ``OSError``).
            NotSdcError: A picture is not an SDC file (also a ``SyntaxError``).
            OSError: A shard cannot be read, or the model is unavailable or failed.
            ValueError: The column is missing or ambiguous, or a column has the name of one of a sample's own fields.
            RuntimeError: ``torch.distributed`` was initialised after the dataset was created.
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
        stored = self._stored(_splits(shards, part, parts))
        if self._shuffle_buffer:
            stored = _shuffled(stored, self._shuffle_buffer, np.random.default_rng((self._seed, epoch, part)))
        return self._decoder.samples(stored)

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__ = state
        self._epoch.share_memory_()

    def _stored(self, splits: "Iterable[_Split]") -> "Iterator[_Stored]":
        for url, first, step in splits:
            folder, name = _folder_and_name(url)
            read = _read_tar if name.lower().endswith(tar_shards.SUFFIXES) else _read_parquet
            with Store(folder).open(name) as file:
                samples = enumerate(read(file, url, self._column))
                try:
                    yield from (stored for number, stored in samples if number % step == first)
                except CorruptFileError as error:
                    self._decoder.skip(url, error)


class _Split(NamedTuple):
    """The samples of a shard that one worker takes: every ``step``-th, starting with ``first``."""

    url: str
    first: int
    step: int


@dataclass(frozen=True, eq=False)
class _Stored:
    """A sample before decoding.

    Attributes:
        url: URL of the file or shard.
        key: Name of the sample.
        picture: Bytes of the SDC file; ``None`` if there is none.
        companions: The other data of the sample, by name.
    """

    url: str
    key: str
    picture: bytes | None
    companions: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The sample's name in messages."""
        return self.url if self.url.lower().endswith(SUFFIX) else f"{self.url}::{self.key}"


class _Decoder:
    """Decodes stored samples, with the settings at the time it is created."""

    def __init__(self, content: Content, transform: Transform | None, on_error: OnError) -> None:
        for name, value, known in (("content", content, Content), ("on_error", on_error, OnError)):
            if value not in get_args(known):
                raise ValueError(f"{name} is {value!r}; it must be one of {', '.join(get_args(known))}")
        self._content, self._transform, self._on_error = content, transform, on_error
        self._settings = options.settings()

    def samples(self, stored: Iterable[_Stored]) -> Iterator[Any]:
        """Yield decoded samples, without corrupt ones if they are skipped."""
        for one in stored:
            try:
                sample = self.sample(one)
            except CORRUPT as error:
                self.skip(one.name, error)
            else:
                yield sample

    def sample(self, stored: _Stored) -> Any:
        """Return a sample.

        Raises:
            CorruptFileError: The picture or a companion is damaged, or there is no picture.
            NotSdcError: The picture is not an SDC file.
            ValueError: A companion has the name of one of the sample's own fields.
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

    def skip(self, name: str, error: Exception) -> None:
        """Log a skipped sample, or raise the error."""
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
    """Yield items in an order drawn from a buffer."""
    buffer: list[Item] = []
    for item in items:
        if len(buffer) < size:
            buffer.append(item)
        else:
            drawn = int(rng.integers(size))
            yield buffer[drawn]
            buffer[drawn] = item
    yield from (buffer[index] for index in rng.permutation(len(buffer)))


def _splits(shards: Sequence[str], part: int, parts: int) -> list[_Split]:
    """Return one of several parts of the shards: whole shards, or part of one if there are more parts than shards."""
    if len(shards) >= parts:
        return [_Split(url, 0, 1) for url in shards[part::parts]]
    first, shard = divmod(part, len(shards))
    return [_Split(shards[shard], first, len(range(shard, parts, len(shards))))]


def _place(rank: int | None, world_size: int | None) -> tuple[int, int]:
    if rank is None or world_size is None or not 0 <= rank < world_size:
        raise ValueError(f"rank is {rank} and world_size {world_size}; both are needed, with 0 ≤ rank < world_size")
    return rank, world_size


def _distributed() -> tuple[int, int] | None:
    """Return this process's rank and the number of ranks, or ``None`` if the training is not distributed."""
    if not distributed.is_available() or not distributed.is_initialized():
        return None
    return distributed.get_rank(), distributed.get_world_size()


def _listed(source: Paths, suffixes: tuple[str, ...]) -> tuple[str, list[str]]:
    """Return the files of a source: the common prefix of their URLs, and the rest of each.

    Raises:
        ValueError: No file of a folder has one of the suffixes, or a listed file has another suffix.
    """
    if isinstance(source, str | os.PathLike):
        store, entries = find_source(os.fspath(source))
        paths = [path for path, _, passed_by in entries if path.lower().endswith(suffixes) and passed_by is None]
        if not paths:
            raise ValueError(f"no file in {source} is called {' or '.join(suffixes)}")
        return store.url_of(""), paths
    names = [os.fspath(name) for name in source]
    if others := [name for name in names if not name.lower().endswith(suffixes)]:
        raise ValueError(f"{others[0]} is not called {' or '.join(suffixes)}")
    if not names:
        raise ValueError("there are no files in the list")
    return "", [name if "://" in name else Path(name).absolute().as_posix() for name in names]


def _folder_and_name(url: str) -> tuple[str, str]:
    name = url.rpartition("/")[2]
    return url.removesuffix(name), name
