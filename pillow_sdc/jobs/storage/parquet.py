"""Parquet files with pictures in columns, as bytes or as Hugging Face's ``struct<bytes, path>``.

https://huggingface.co/docs/datasets/image_dataset
"""

import io
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from ...errors import CorruptFileError
from .samples import Sample, renamed

if TYPE_CHECKING:
    import pyarrow as pa

SUFFIXES = (".parquet",)

COLUMN = "image"
"""The column of pictures, where neither the user nor the table names another."""

BUFFERED = 1 << 25
"""Bytes of rows that are gathered before they are written, as a row group."""


@dataclass(frozen=True, eq=False)
class TableRow:
    """A row of a Parquet file, or none.

    Attributes:
        table: With this row alone.
        columns: Those that hold the row's pictures, by the pictures' names.
    """

    table: "pa.Table"
    columns: Mapping[str, str]


def read(file: IO[bytes], named: Sequence[str], count: int) -> Iterator[Sequence[Sample]]:
    """Read rows, so many at a time.

    A picture is called by the number of its row, such as ``3``, or ``3.left`` where several columns are named.

    Args:
        file: A seekable file.
        named: Columns of pictures; the table's own if there are none.
        count: How many rows at a time.

    Raises:
        OSError: The file is damaged or cannot be read.
        ValueError: There is no such column, or it is not clear which is meant.
    """
    from pyarrow import parquet

    with _damage_as_corrupt_file_error(), parquet.ParquetFile(file) as shard:
        columns = columns_of(shard.schema_arrow, named)
        schema = _nullable(shard.schema_arrow, columns)
        first = 0
        for batch in shard.iter_batches(batch_size=count):
            yield [_sample(batch.slice(i, 1), schema, first + i, columns) for i in range(batch.num_rows)]
            first += batch.num_rows


def no_rows(file: IO[bytes], named: Sequence[str]) -> Sample:
    """Return a sample without any rows, which gives a shard the columns of a file even if that has none either.

    Raises:
        OSError: The file is damaged or cannot be read.
        ValueError: There is no such column, or it is not clear which is meant.
    """
    from pyarrow import parquet

    with _damage_as_corrupt_file_error():
        schema = parquet.read_schema(file)
    return Sample("", {}, TableRow(_nullable(schema, columns_of(schema, named)).empty_table(), {}))


@contextmanager
def _damage_as_corrupt_file_error() -> Iterator[None]:
    """Raise pyarrow's errors about a damaged file as :class:`CorruptFileError`."""
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # it cannot be read
        raise CorruptFileError(f"damaged Parquet file: {error}") from error


def columns_of(schema: "pa.Schema", named: Sequence[str]) -> list[str]:
    """Return the columns that hold pictures: those that are named, or the one by the table's metadata, or ``image``.

    Raises:
        ValueError: There is no such column, or it is not clear which is meant.
    """
    usable = [field.name for field in schema if _holds_bytes(field.type)]
    for name in named:
        if name not in usable:
            raise ValueError(f"there is no column {name!r} of bytes; the columns are {', '.join(schema.names)}")
    if named:
        return list(dict.fromkeys(named))
    marked = _images_by_metadata(schema)
    images = [name for name in usable if name in marked]
    if len(images) > 1:
        raise ValueError(f"the columns {', '.join(images)} hold pictures; choose with --column, in Python column=")
    if images or COLUMN in usable:
        return images or [COLUMN]
    listed = ", ".join(usable) or "there are none"
    raise ValueError(
        f"it is not clear which column holds the pictures: of those of bytes ({listed}) none is called {COLUMN!r}, or "
        "an image by the table's metadata; name it with --column, in Python column="
    )


class ParquetShard:
    """A :class:`~.samples.Shard`. Of a row whose picture failed the picture is null; a file's gets no row."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._writer: Any = None
        self._rows: list[pa.Table] = []
        self._size = 0

    def add(self, sample: Sample, pictures: Mapping[str, bytes | None], suffix: str) -> Mapping[str, str]:
        """Append a row: that of another Parquet file with other pictures, or, for a file's sample, a new one."""
        import pyarrow as pa

        done = {name: data for name, data in pictures.items() if data is not None}
        if isinstance(sample.rest, TableRow):
            names = {name: name for name in done}
            table = sample.rest.table
            for name, data in pictures.items():
                table = _with_picture(table, sample.rest.columns[name], data, suffix)
        else:
            names = {name: renamed(name, suffix) for name in done}
            cells = [{"bytes": data, "path": names[name]} for name, data in done.items()]
            table = pa.Table.from_pylist([{COLUMN: cell} for cell in cells], _own_schema())
        self._rows.append(table)
        self._size += sum(column.nbytes for column in table.columns if not pa.types.is_dictionary(column.type))
        if self._size > BUFFERED:
            self._flush()
        return names

    def close(self) -> None:
        """Write what remains."""
        self._flush()
        if self._writer is None:
            self._writer = _writer(self._path, _own_schema())
        self._writer.close()

    def _flush(self) -> None:
        import pyarrow as pa

        if not self._rows:
            return
        if self._writer is None:
            self._writer = _writer(self._path, self._rows[0].schema)
        self._writer.write_table(pa.concat_tables(self._rows).combine_chunks())
        self._rows, self._size = [], 0


def _writer(path: Path, schema: "pa.Schema") -> Any:
    """Begin a file without statistics of bytes, of which nobody asks for the least, and which take as much as a row."""
    from pyarrow import parquet

    buffer = io.BytesIO()
    parquet.write_table(schema.empty_table(), buffer)
    stored = parquet.ParquetFile(buffer).schema
    leaves = [stored.column(index) for index in range(len(stored))]
    others = [leaf.path for leaf in leaves if (leaf.physical_type, leaf.logical_type.type) != ("BYTE_ARRAY", "NONE")]
    return parquet.ParquetWriter(path, schema, write_statistics=others)


def _images_by_metadata(schema: "pa.Schema") -> set[str]:
    """Return the columns that are images by the metadata that Hugging Face's datasets write, if there are any."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        return {name for name, kind in features.items() if isinstance(kind, Mapping) and kind.get("_type") == "Image"}
    except (AttributeError, KeyError, TypeError, ValueError):
        return set()


def _holds_bytes(kind: "pa.DataType") -> bool:
    import pyarrow as pa

    if pa.types.is_struct(kind):
        return any(field.name == "bytes" and _is_bytes(field.type) for field in kind)
    return _is_bytes(kind)


def _is_bytes(kind: "pa.DataType") -> bool:
    import pyarrow as pa

    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind))


def _nullable(schema: "pa.Schema", columns: Sequence[str]) -> "pa.Schema":
    """Return a schema that allows nulls in some columns, for pictures that fail."""
    import pyarrow as pa

    fields = [field.with_nullable(True) if field.name in columns else field for field in schema]
    return pa.schema(fields, schema.metadata)


def _sample(row: "pa.RecordBatch", schema: "pa.Schema", number: int, columns: Sequence[str]) -> Sample:
    import pyarrow as pa

    names = {column: str(number) if len(columns) == 1 else f"{number}.{column}" for column in columns}
    pictures = {}
    for column, name in names.items():
        cell = row.column(column)[0]
        if isinstance(cell, pa.StructScalar):
            cell = cell["bytes"] if cell.is_valid else None
        if (data := None if cell is None else cell.as_py()) is not None:
            pictures[name] = partial(bytes, data)
    table = pa.Table.from_arrays(row.columns, schema=schema)
    return Sample(str(number), pictures, TableRow(table, dict(zip(names.values(), names, strict=True))))


def _with_picture(table: "pa.Table", column: str, data: bytes | None, suffix: str) -> "pa.Table":
    import pyarrow as pa

    index = table.schema.get_field_index(column)
    field = table.schema.field(index)
    if data is None or not pa.types.is_struct(field.type):
        cell = pa.array([data], field.type)
    else:
        before = table.column(index).chunk(0)
        parts = {part.name: before.field(number) for number, part in enumerate(field.type)}
        parts["bytes"] = pa.array([data], parts["bytes"].type)
        if "path" in parts and (path := parts["path"][0].as_py()):
            parts["path"] = pa.array([renamed(path, suffix)], parts["path"].type)
        cell = pa.StructArray.from_arrays(list(parts.values()), fields=list(field.type))
    return table.set_column(index, field, [cell])


def _own_schema() -> "pa.Schema":
    """Return the schema of new rows, by which Hugging Face's datasets know that they hold pictures."""
    import pyarrow as pa

    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    about = {"info": {"features": {COLUMN: {"_type": "Image"}}}}
    return pa.schema([(COLUMN, kind)], metadata={"huggingface": json.dumps(about)})
