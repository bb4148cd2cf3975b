"""One task, done: read, converted, written, and an account of it given."""

import io
import itertools
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import PurePosixPath
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self

from ..errors import BatchError, ModelUnavailableError, summary_of
from ..files import parquet_shards, tar_shards
from ..files.pictures import check_sdc, format_of, open_picture, picture_file
from ..files.samples import Sample, Shard, WriteShard, renamed
from ..files.stores import Store
from .manifest import UNFINISHED, Row, as_parquet, pending, pending_path
from .planning import TOGETHER
from .tasks import Conversion, Kind, Task

if TYPE_CHECKING:
    from PIL import Image

SHARDS: dict[Kind, WriteShard] = {Kind.TAR: tar_shards.TarShard, Kind.PARQUET: parquet_shards.ParquetShard}


@dataclass(eq=False)
class Item:
    """A picture on its way.

    Attributes:
        sample: What it is part of.
        name: What it is called in the sample.
        row: What is known of it so far.
        data: The file that it became, until that is written.
    """

    sample: Sample
    name: str
    row: Row
    data: bytes | None = None

    def note(self, **facts: Any) -> None:
        """Take down more of what is known."""
        self.row = replace(self.row, **facts)

    def read(self) -> bytes:
        """Return the picture's file."""
        data = self.sample.pictures[self.name]()
        self.note(source_bytes=len(data))
        return data


class Worker:
    """Does tasks from one store to another; models are loaded with the first picture."""

    def __init__(self, source: Store, target: Store, conversion: Conversion, *, threads: int | None = None) -> None:
        """Take the stores, what becomes of pictures, and how many threads do it, as :mod:`pillow_sdc.batch` says."""
        self._source, self._target, self._conversion = source, target, conversion
        self._threads = threads

    def do(self, task: Task) -> list[Row]:
        """Do a task and return what came of its pictures.

        A shard that cannot be read or written is one row, with the error; nothing of it is written then.

        Raises:
            ModelUnavailableError: The model is not here and cannot be had.
        """
        import pillow_sdc

        if task.to is not Kind.FILES and not self._conversion.overwrite and self._target.exists(task.target):
            return list(pending(self._target, task.target))  # of a worker that did not live to tell
        rows: list[Row] = []
        try:
            with pillow_sdc.configure(**self._conversion.settings), self._sink(task) as sink:
                for samples in self._samples(task):
                    rows += self._convert(samples, task, sink)
                sink.close(rows)
        except ModelUnavailableError:
            raise
        except Exception as error:
            failed = Row("", error=summary_of(error), finished=time.time())
            return [replace(failed, source=self._source.url_of(path)) for path in task.sources]
        if task.kind is not Kind.FILES and task.to is Kind.FILES and not any(row.error for row in rows):
            rows.append(Row(self._source.url_of(task.sources[0]), task.target, finished=time.time()))
        return rows

    def _samples(self, task: Task) -> Iterator[Sequence[Sample]]:
        if task.kind is Kind.FILES:
            files = iter(task.sources)
            while together := list(itertools.islice(files, TOGETHER)):
                yield [Sample(path, {path: partial(self._source.read, path)}) for path in together]
            return
        with self._source.opened(task.sources[0]) as file:
            if task.kind is Kind.TAR:
                yield from tar_shards.read(file, self._conversion.wants, TOGETHER)
            else:
                yield from parquet_shards.read(file, self._conversion.wants, TOGETHER, self._conversion.column)

    def _sink(self, task: Task) -> "_Sink":
        if task.to is Kind.FILES:
            return _Files(self._target, task.target, self._conversion)
        return _InShard(self._target, task, self._conversion)

    def _convert(self, samples: Sequence[Sample], task: Task, sink: "_Sink") -> list[Row]:
        items = [
            Item(sample, name, Row(self._url_of(task, sample, name))) for sample in samples for name in sample.pictures
        ]
        to_do = [item for item in items if not sink.find(item)]
        begun = time.perf_counter()
        try:
            self._each(to_do, sink)
        except BatchError as error:
            for index, reason in error.errors.items():
                to_do[index].note(error=summary_of(reason))
        finished, seconds = time.time(), (time.perf_counter() - begun) / max(1, len(to_do))
        for item in to_do:
            item.note(seconds=seconds)
        for sample in samples:
            sink.end(sample, [item for item in items if item.sample is sample])
        return [replace(item.row, finished=finished) for item in items]

    def _each(self, items: Sequence[Item], sink: "_Sink") -> None:
        from .. import batch, options
        from ..models import get_models

        conversion = self._conversion
        model = get_models(options.settings()).name

        def picture_of(item: Item) -> "tuple[Image.Image, Mapping[str, Any]]":
            image, metadata, _ = open_picture(io.BytesIO(item.read()), keep_metadata=conversion.keep_metadata)
            return image, metadata

        def take(item: Item, data: bytes) -> None:
            item.note(**facts(data), output_bytes=len(data), model=model)
            item.data = data
            sink.put(item)

        def source_of(item: Item) -> bytes:
            data = item.read()
            check_sdc(data)
            item.note(**facts(data))
            return data

        def take_picture(item: Item, image: "Image.Image") -> None:
            file_format = format_of(conversion.suffix)
            item.data = picture_file(image, file_format, keep_metadata=conversion.keep_metadata)
            item.note(output_bytes=len(item.data), model=model)
            sink.put(item)

        size, threads = conversion.batch_size, self._threads
        if conversion.decode:
            batch.decode_each(items, source_of, take_picture, batch_size=size, threads=threads)
        else:
            batch.encode_each(items, picture_of, take, batch_size=size, threads=threads, **conversion.save_options)

    def _url_of(self, task: Task, sample: Sample, name: str) -> str:
        if task.kind is Kind.FILES:
            return self._source.url_of(name)
        return f"{self._source.url_of(task.sources[0])}::{name if task.kind is Kind.TAR else sample.name}"


def facts(data: bytes) -> dict[str, Any]:
    """Return what a manifest says of an SDC file.

    Raises:
        OSError: The file is damaged.
        SyntaxError: It is none.
    """
    import pillow_sdc

    about = pillow_sdc.info(data)
    return {
        "width": about.width,
        "height": about.height,
        "bits_per_pixel": about.bits_per_pixel,
        "codec": about.codec,
    }


class _Sink(Protocol):
    """Takes what pictures became. Whatever is not whole at the end of the block vanishes."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None: ...

    def find(self, item: Item) -> bool:
        """Tell whether a picture's output is there already, and take down what is known of it."""

    def put(self, item: Item) -> None:
        """Write a picture's file, if such are written one by one."""

    def end(self, sample: Sample, items: Sequence[Item]) -> None:
        """Finish a sample, of which these were the pictures."""

    def close(self, rows: Sequence[Row]) -> None:
        """Finish all."""


class _Files:
    """Writes each picture to a file of its own."""

    def __init__(self, store: Store, folder: str, conversion: Conversion) -> None:
        self._store, self._folder, self._conversion = store, folder, conversion

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def find(self, item: Item) -> bool:
        try:
            path = self._path_of(item)
            if self._conversion.overwrite or (there := self._store.entry(path)) is None:
                return False
            item.note(output=path, output_bytes=there.size)
            data = item.read() if self._conversion.decode else self._store.read(path)
            item.note(**facts(data))
        except Exception as error:
            reason = f"{path} is there, but {summary_of(error)}; remove it, or overwrite what is there"
            item.note(output=None, error=reason)
        return True

    def put(self, item: Item) -> None:
        path = self._path_of(item)
        self._write(path, item.data or b"")
        item.data = None
        item.note(output=path)

    def end(self, sample: Sample, items: Sequence[Item]) -> None:
        if isinstance(sample.rest, Mapping):
            for name, data in sample.rest.items():
                path = _joined(self._folder, name)
                if self._conversion.overwrite or not self._store.exists(path):
                    self._write(path, data)

    def close(self, rows: Sequence[Row]) -> None:
        pass

    def _path_of(self, item: Item) -> str:
        row_of_table = item.sample.rest is not None and not isinstance(item.sample.rest, Mapping)
        name = f"{int(item.sample.name):08}" if row_of_table else item.name
        return _joined(self._folder, renamed(name, self._conversion.suffix))

    def _write(self, path: str, data: bytes) -> None:
        self._store.write(path, data, overwrite=self._conversion.overwrite, through=UNFINISHED)


class _InShard:
    """Writes all pictures into one shard, which appears when it is whole."""

    def __init__(self, store: Store, task: Task, conversion: Conversion) -> None:
        self._store, self._path, self._conversion = store, task.target, conversion
        self._begin = SHARDS[task.to]
        self._packs = task.kind is Kind.FILES
        self._opened = ExitStack()

    def __enter__(self) -> Self:
        written = self._store.written(self._path, overwrite=self._conversion.overwrite, through=UNFINISHED)
        temporary, self._publish = self._opened.enter_context(written)
        self._shard: Shard = self._begin(temporary)
        self._open = True
        return self

    def __exit__(self, *error: object) -> None:
        with self._opened:
            if self._open:
                self._shard.close()

    def find(self, item: Item) -> bool:
        return False

    def put(self, item: Item) -> None:
        pass

    def end(self, sample: Sample, items: Sequence[Item]) -> None:
        names = self._shard.add(sample, {item.name: item.data for item in items}, self._conversion.suffix)
        for item in items:
            item.data = None
            if item.name in names:
                item.note(output=f"{self._path}::{names[item.name]}")
            elif item.row.error is None:
                item.note(error="left out, for another picture of its sample failed")

    def close(self, rows: Sequence[Row]) -> None:
        self._open = False
        self._shard.close()
        if self._packs and all(row.output is None for row in rows):
            return  # a shard of nothing
        # First what there is to say of it: should the worker die between both, the next run finds it.
        self._store.write(pending_path(self._path), as_parquet(rows), overwrite=True, through=UNFINISHED)
        self._publish()


def _joined(folder: str, name: str) -> str:
    """Return a path below a folder.

    Raises:
        ValueError: The name would lead out of it.
    """
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name or not path.parts:
        raise ValueError(f"{name!r} leads out of its folder")
    return str(folder / path)
