"""Does one task: reads its pictures, converts and writes them, and returns a row of the manifest for each."""

import io
import itertools
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, Protocol, cast

from ..errors import BatchError, ModelUnavailableError, is_full, summary_of
from ..format.container import Header, check_signature, read_layout
from .manifest import UNFINISHED, ManifestRow, as_parquet, escaped, pending_path, pending_rows
from .pictures.opening import format_of, open_picture, reads
from .pictures.pixel_limit import pixel_limit
from .pictures.plugins import format_of_suffix, open_image
from .pictures.saving import picture_file
from .storage.samples import Sample, Shard, WriteShard, renamed_together
from .storage.writing import exists_already
from .tasks import Conversion, Packing, Task

if TYPE_CHECKING:
    from PIL import Image

    from ..pipeline.encoding import EncodedFile
    from .storage.stores import Store

Converted = Callable[[int, int], None]
"""Called in any thread when a picture is converted, with the bytes of its file and of the new one."""

PictureOf = Callable[["Item"], "tuple[Image.Image, Mapping[str, Any]]"]
"""Opens a picture, and returns it with the options of ``save`` that are for it alone."""

_logger = logging.getLogger("pillow_sdc")


class Files(Protocol):
    """Files by their paths, such as those of a store."""

    def url_of(self, path: str) -> str:
        """Return what the user would call a file."""

    def exists(self, path: str) -> bool:
        """Tell whether there is such a file."""

    def read(self, path: str) -> bytes:
        """Return a file's content.

        Raises:
            OSError: It cannot be read.
        """

    def write(self, path: str, data: bytes, *, overwrite: bool, through: str) -> None:
        """Write a file, as :meth:`.Store.write` does.

        Raises:
            FileExistsError: There is one, and it may not be overwritten.
            OSError: It cannot be written.
        """


@dataclass(eq=False)
class Item:
    """A picture that is being converted.

    Attributes:
        sample: What it is part of.
        name: What it is called in the sample.
        row: Its row of the manifest, with what is known.
        data: Its new file, until that is written.
    """

    sample: Sample
    name: str
    row: ManifestRow
    data: bytes | None = None

    def update(self, **facts: Any) -> None:
        """Add to the row what is known now."""
        self.row = replace(self.row, **facts)

    def read(self) -> bytes:
        """Return the picture's file."""
        data = self.sample.pictures[self.name]()
        self.update(source_bytes=len(data))
        return data


class Worker:
    """Does tasks from one store to another; models are loaded with the first picture."""

    def __init__(
        self,
        source: Files,
        target: Files,
        conversion: Conversion,
        *,
        threads: int | None = None,
        critical_section: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        """Set stores and conversion.

        Args:
            source: Where pictures are; a store, where some are in shards.
            target: Where they go; a store likewise.
            conversion: How they are converted.
            threads: How many do it, as :func:`pillow_sdc.encode_batch` says.
            critical_section: Gives a context, in any thread, in which a picture's file is written and reported.
        """
        self._source, self._target, self._conversion = source, target, conversion
        self._threads, self._critical_section = threads, critical_section

    def do(self, task: Task, converted: Converted = lambda source_bytes, output_bytes: None) -> list[ManifestRow]:
        """Do a task and return the rows of its pictures and, if it is a shard, of that.

        Of a shard that cannot be read to its end nothing is written, or, if its pictures become files, those before the
        damage. A shard replaces one that is there and lacks pictures, unless it lacks more.

        Args:
            task: What is to be done.
            converted: Called for each picture that is converted and, if it becomes a file of its own, written.

        Raises:
            ModelUnavailableError: The model is not here and cannot be had.
            OSError: The disk is full.
        """
        import pillow_sdc

        rows: list[ManifestRow] = []
        try:
            if task.to is not Packing.FILES and not self._replaces(task) and self._target.exists(task.target):
                return self._rows_of(task)
            limit = pixel_limit(self._conversion.max_pixels)
            with pillow_sdc.configure(**self._conversion.settings), limit, self._sink(task) as sink:
                for samples in self._samples(task):
                    rows += self._convert(samples, task, sink, converted)
                if task.packing is not Packing.FILES:
                    rows.append(self._row_of(task, [row for row in rows if row.error is not None]))
                sink.close(rows)
        except Exception as error:
            if ends_run(error):
                raise
            failed = ManifestRow("", error=summary_of(error), finished=time.time())
            there = rows if task.to is Packing.FILES else []
            return [*there, *(replace(failed, source=self._source.url_of(path)) for path in task.sources)]
        return rows

    def _replaces(self, task: Task) -> bool:
        return self._conversion.overwrite or escaped(task.target) in task.superseded

    def _row_of(self, task: Task, failed: Sequence[ManifestRow]) -> ManifestRow:
        """Return the row of a shard of which these pictures failed.

        Raises:
            OSError: It would replace one that lacks fewer.
        """
        if task.to is not Packing.FILES and not self._conversion.overwrite and 0 < task.missing < len(failed):
            raise OSError(
                f"{task.target} is kept as it is: it lacks {task.missing} of its pictures, and now {len(failed)} "
                f"failed, first {failed[0].source}: {failed[0].error}"
            )
        error = f"{len(failed)} of its pictures failed" if failed else None
        return ManifestRow(self._source.url_of(task.sources[0]), task.target, error=error, finished=time.time())

    def _rows_of(self, task: Task) -> list[ManifestRow]:
        """Return the rows of a shard that is there already, whose worker died before it returned them."""
        rows = pending_rows(cast("Store", self._target), task.target)
        if not rows:
            reason = "is there, and nothing says that it is of this source; remove it, or overwrite what is there"
            raise FileExistsError(f"{task.target} {reason}")
        return list(rows)

    def _samples(self, task: Task) -> Iterator[Sequence[Sample]]:
        count = self._conversion.pictures_at_a_time
        if task.packing is Packing.FILES:
            files = iter(task.sources)
            while together := list(itertools.islice(files, count)):
                yield [Sample(path, {path: partial(self._source.read, path)}) for path in together]
            return
        from .storage import parquet as parquet_shards  # not for files, for which commands are to be quick
        from .storage import tar as tar_shards

        with cast("Store", self._source).open(task.sources[0]) as file:
            if task.packing is Packing.TAR:
                yield from tar_shards.read(file, self._conversion.members(), count)
            else:
                yield [parquet_shards.no_rows(file, self._conversion.columns)]
                yield from parquet_shards.read(file, self._conversion.columns, count)

    @contextmanager
    def _sink(self, task: Task) -> "Iterator[_Sink]":
        """Yield the sink of a task; what is not whole at the end of the block is removed."""
        if task.to is Packing.FILES:
            yield _Files(self._target, task, self._conversion)
            return
        from .storage import parquet as parquet_shards
        from .storage import tar as tar_shards

        begin: WriteShard = tar_shards.TarShard if task.to is Packing.TAR else parquet_shards.ParquetShard
        overwrite = self._replaces(task)
        target = cast("Store", self._target)
        with target.written(task.target, overwrite=overwrite, through=UNFINISHED) as (temporary, publish):
            sink = _InShard(target, task, begin(temporary), self._conversion.suffix, publish)
            with closing(sink.shard):
                yield sink

    def _convert(self, samples: Sequence[Sample], task: Task, sink: "_Sink", converted: Converted) -> list[ManifestRow]:
        items = [
            Item(sample, name, ManifestRow(self._url_of(task, sample, name)))
            for sample in samples
            for name in sample.pictures
        ]
        to_do = [item for item in items if not sink.find(item)]
        begun = time.perf_counter()
        try:
            if to_do:
                self._each(to_do, sink, converted)
        except BatchError as error:
            for index, reason in error.errors.items():
                to_do[index].update(error=summary_of(reason))
                _logger.debug("%s", to_do[index].row.source, exc_info=reason)
        finished, seconds = time.time(), (time.perf_counter() - begun) / max(1, len(to_do))
        for item in to_do:
            item.update(seconds=seconds)
        rows = []
        for sample in samples:
            of_sample = [item for item in items if item.sample is sample]
            errors = sink.end(sample, of_sample)
            rows += [item.row for item in of_sample]
            rows += [ManifestRow(self._url_of(task, sample, name), error=error) for name, error in errors.items()]
        return [replace(row, finished=finished) for row in rows]

    def _each(self, items: Sequence[Item], sink: "_Sink", converted: Converted) -> None:
        conversion = self._conversion

        def put(item: Item, data: bytes, **facts: Any) -> None:
            item.data = data
            item.update(output_bytes=len(data), **facts)
            with self._critical_section():
                sink.put(item)
                converted(item.row.source_bytes or 0, len(data))

        def picture_of(item: Item) -> "tuple[Image.Image, Mapping[str, Any]]":
            opened = open_picture(io.BytesIO(item.read()), keep_metadata=conversion.keep_metadata)
            item.update(remark=opened.remark)
            return opened.image, opened.options

        def take(item: Item, file: "EncodedFile") -> None:
            put(item, file.data, model=file.model, **facts(file.header, len(file.data)))

        def source_of(item: Item) -> bytes:
            data = item.read()
            check_signature(data)
            item.update(**facts_of(data))
            return data

        def take_picture(item: Item, image: "Image.Image") -> None:
            file_format = format_of(conversion.suffix)
            data, remark = picture_file(image, file_format, keep_metadata=conversion.keep_metadata)
            put(item, data, model=image.info["sdc"]["model"], remark=remark)

        if conversion.decode:
            self._decode_each(items, source_of, take_picture)
        else:
            self._encode_each(items, picture_of, take)

    def _encode_each(
        self, items: Sequence[Item], picture_of: PictureOf, take: "Callable[[Item, EncodedFile], None]"
    ) -> None:
        """Encode the pictures of items.

        Raises:
            BatchError: Some failed.
        """
        from .. import api

        conversion = self._conversion
        size, threads = conversion.batch_size, self._threads
        api.encode_each(items, picture_of, take, batch_size=size, threads=threads, **conversion.save_options)

    def _decode_each(
        self, items: Sequence[Item], source_of: Callable[[Item], bytes], take: "Callable[[Item, Image.Image], None]"
    ) -> None:
        """Decode the files of items.

        Raises:
            BatchError: Some failed.
        """
        from .. import api

        api.decode_each(items, source_of, take, batch_size=self._conversion.batch_size, threads=self._threads)

    def _url_of(self, task: Task, sample: Sample, name: str) -> str:
        if task.packing is Packing.FILES:
            return self._source.url_of(name)
        return f"{self._source.url_of(task.sources[0])}::{name}"


def ends_run(error: BaseException) -> bool:
    """Tell whether an error would come again with every picture that follows."""
    return isinstance(error, ModelUnavailableError) or is_full(error)


def facts(header: Header, file_bytes: int) -> dict[str, Any]:
    """Return the cells of an SDC file in the manifest."""
    return {
        "width": header.width,
        "height": header.height,
        "bits_per_pixel": header.bits_per_pixel(file_bytes),
        "codec": header.codec,
    }


def facts_of(data: bytes) -> dict[str, Any]:
    """Return the cells of an SDC file that was there before.

    Raises:
        OSError: The file is damaged.
        SyntaxError: It is none.
    """
    layout = read_layout(io.BytesIO(data))
    return facts(layout.header, layout.size)


def check_whole(data: bytes, suffix: str) -> None:
    """Refuse a picture's file that is damaged, as far as that shows without decoding it, if Pillow reads such files.

    Raises:
        OSError: It is damaged, or no picture.
        SyntaxError: It is damaged.
    """
    if reads(format_of_suffix(suffix)):
        with open_image(io.BytesIO(data)) as image:
            image.verify()


class _Sink(Protocol):
    """Takes the results of pictures."""

    def find(self, item: Item) -> bool:
        """Tell whether there is nothing to do for a picture, as it is there already or cannot be; its row says why."""

    def put(self, item: Item) -> None:
        """Write a picture's file, if such are written one by one."""

    def end(self, sample: Sample, items: Sequence[Item]) -> Mapping[str, str]:
        """Finish a sample, of which these were the pictures, and return what went wrong with other files of it."""

    def close(self, rows: Sequence[ManifestRow]) -> None:
        """Finish all, of which these are the rows."""


class _Files:
    """Writes each picture to a file of its own."""

    def __init__(self, files: Files, task: Task, conversion: Conversion) -> None:
        self._files, self._folder, self._superseded, self._conversion = files, task.target, task.superseded, conversion
        self._targets = dict(zip(task.sources, task.targets, strict=False))  # a shard has none
        self._taken: set[str] = set()
        """What was written, or found, for one sample and is not for another."""

    def find(self, item: Item) -> bool:
        try:
            path = self._path_of(item)
            self._take(path)
            there = not self._replaces(path) and self._files.exists(path)
            if there and not self._conversion.resumes:  # so that no work is done for nothing
                raise exists_already(self._files.url_of(path))
        except (OSError, ValueError) as error:
            item.update(error=summary_of(error))
            return True
        if not there:
            return False
        try:
            data = self._files.read(path)
            check_whole(data, self._conversion.suffix)
        except Exception as error:
            item.update(error=f"{path} is there, but {summary_of(error)}; remove it, or overwrite what is there")
            return True
        try:
            item.update(**facts_of(item.read() if self._conversion.decode else data))
        except Exception as error:
            item.update(error=summary_of(error))
        else:
            item.update(output=path, output_bytes=len(data))
        return True

    def put(self, item: Item) -> None:
        path = self._path_of(item)
        self._write(path, item.data or b"")
        item.data = None
        item.update(output=path)

    def end(self, sample: Sample, items: Sequence[Item]) -> Mapping[str, str]:
        errors = {}
        for name, data in sample.rest.items() if isinstance(sample.rest, Mapping) else ():
            try:
                path = _joined(self._folder, name)
                self._take(path)
                if self._conversion.overwrite or not self._files.exists(path):
                    self._write(path, data)
            except (OSError, ValueError) as error:
                if is_full(error):
                    raise
                errors[name] = summary_of(error)
        return errors

    def close(self, rows: Sequence[ManifestRow]) -> None:
        pass

    def _path_of(self, item: Item) -> str:
        sample, suffix = item.sample, self._conversion.suffix
        if self._targets:
            return self._targets[item.name]
        from .storage import parquet as parquet_shards

        if isinstance(sample.rest, parquet_shards.TableRow):
            row, dot, column = item.name.partition(".")
            return _joined(self._folder, f"{int(row):08}{dot}{column}{suffix}")
        return _joined(self._folder, renamed_together(sample.pictures, sample.rest or {}, suffix)[item.name])

    def _take(self, path: str) -> None:
        if path in self._taken:
            raise ValueError(f"something else in this shard becomes {path} already")
        self._taken.add(path)

    def _replaces(self, path: str) -> bool:
        return self._conversion.overwrite or escaped(path) in self._superseded

    def _write(self, path: str, data: bytes) -> None:
        self._files.write(path, data, overwrite=self._replaces(path), through=UNFINISHED)


class _InShard:
    """Writes all pictures into one shard, which appears when it is whole."""

    def __init__(self, store: "Store", task: Task, shard: Shard, suffix: str, publish: Callable[[], None]) -> None:
        self.shard = shard
        self._store, self._path, self._suffix, self._publish = store, task.target, suffix, publish
        self._packs = task.packing is Packing.FILES

    def find(self, item: Item) -> bool:
        return False

    def put(self, item: Item) -> None:
        pass

    def end(self, sample: Sample, items: Sequence[Item]) -> Mapping[str, str]:
        names = self.shard.add(sample, {item.name: item.data for item in items}, self._suffix)
        for item in items:
            item.data = None
            if item.name in names:
                item.update(output=f"{self._path}::{names[item.name]}")
            elif item.row.error is None:
                item.update(error="left out, for another picture of its sample failed")
        return {}

    def close(self, rows: Sequence[ManifestRow]) -> None:
        self.shard.close()
        if self._packs and all(row.output is None for row in rows):
            return  # a shard of nothing
        if not self._packs and self._store.exists(self._path):  # if the worker dies now, nobody knows which is there
            rows = [replace(rows[-1], error="its worker died while it was replaced")]
        # First the account of it: should the worker die between both, the next run finds it.
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
