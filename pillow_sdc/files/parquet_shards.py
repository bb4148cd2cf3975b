"""Parquet files with pictures in a column, as bytes or as Hugging Face's ``struct<bytes, path>``.

https://huggingface.co/docs/datasets/image_dataset
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from ..errors import CorruptFileError
from .samples import Sample, Wanted, renamed

if TYPE_CHECKING:
    import pyarrow as pa

SUFFIXES = (".parquet",)

COLUMN = "image"
LIKELY_NAMES = (COLUMN, "img", "picture", "photo", "bytes", "image_bytes", "jpg", "jpeg", "png", "webp", "sdc")
"""Columns of bytes that are taken for pictures, the first that is there, unless one is named."""

BUFFERED = 1 << 25
"""Bytes of rows that are gathered before they are written, as a row group."""


def read(file: IO[bytes], wanted: Wanted, count: int, column: str | None = None) -> Iterator[Sequence[Sample]]:
    """Read rows, so many at a time.

    Args:
        file: A seekable file.
        wanted: Asked of nothing, for rows need not name their pictures' files.
        count: How many rows at a time.
        column: Of the pictures; the likeliest unless given.

    Raises:
        OSError: The file is damaged or cannot be read.
        ValueError: There is no such column, or none that is likely.
    """
    from pyarrow import parquet

    with _damage_told(), parquet.ParquetFile(file) as shard:
        name = column_of(shard.schema_arrow, column)
        first = 0
        for batch in shard.iter_batches(batch_size=count):
            yield [_sample(batch, i, first + i, name) for i in range(batch.num_rows)]
            first += batch.num_rows


def no_rows(file: IO[bytes]) -> Sample:
    """Return a sample without any rows, which gives a shard the columns of a file even if that has none either.

    Raises:
        OSError: The file is damaged or cannot be read.
    """
    from pyarrow import parquet

    with _damage_told():
        return Sample("", {}, parquet.read_schema(file).empty_table())


@contextmanager
def _damage_told() -> Iterator[None]:
    """Have all errors by which pyarrow says that a file is damaged be of one kind."""
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # it cannot be read
        raise CorruptFileError(f"damaged Parquet file: {error}") from error


def column_of(schema: "pa.Schema", named: str | None) -> str:
    """Return the column that holds pictures.

    Raises:
        ValueError: There is no such column, or none that is likely.
    """
    import pyarrow as pa

    if named is not None:
        if named not in schema.names or not _holds_bytes(schema.field(named).type):
            raise ValueError(f"there is no column {named!r} of bytes; the columns are {', '.join(schema.names)}")
        return named
    for field in schema:
        if pa.types.is_struct(field.type) and _holds_bytes(field.type):
            return str(field.name)
    for name in LIKELY_NAMES:
        if name in schema.names and _holds_bytes(schema.field(name).type):
            return name
    raise ValueError(f"none of the columns {', '.join(schema.names)} is likely to hold pictures; name one")


class ParquetShard:
    """A :class:`~.samples.Shard`. Of a row whose picture failed the picture is null; a file's gets no row."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._writer: Any = None
        self._rows: list[pa.Table] = []
        self._size = 0

    def add(self, sample: Sample, pictures: Mapping[str, bytes | None], suffix: str) -> Mapping[str, str]:
        """Append a row: that of another Parquet file with another picture, or, for a file's sample, a new one."""
        import pyarrow as pa

        names = {}
        row = sample.rest
        for column, data in pictures.items():
            name = sample.name
            if sample.rest is None:
                name = renamed(name, suffix)
                cell = None if data is None else {"bytes": data, "path": name}
                row = pa.Table.from_pylist([{COLUMN: cell}], _own_schema())
            else:
                row = _with_picture(row, column, data, suffix)
            if data is not None:
                names[column] = name
        if row is None or (sample.rest is None and not names):
            return names  # a file's picture failed, and there is no row that was there before
        self._rows.append(row)
        self._size += row.nbytes
        if self._size > BUFFERED:
            self._flush()
        return names

    def close(self) -> None:
        """Write what remains."""
        from pyarrow import parquet

        self._flush()
        if self._writer is None:
            parquet.write_table(_own_schema().empty_table(), self._path)
        else:
            self._writer.close()

    def _flush(self) -> None:
        import pyarrow as pa
        from pyarrow import parquet

        if not self._rows:
            return
        if self._writer is None:
            schema = self._rows[0].schema
            columns = [column.with_nullable(True) for column in schema]  # for pictures that failed
            self._writer = parquet.ParquetWriter(self._path, pa.schema(columns, schema.metadata))
        rows = [pa.Table.from_arrays(row.columns, schema=self._writer.schema) for row in self._rows]
        self._writer.write_table(pa.concat_tables(rows).combine_chunks())
        self._rows, self._size = [], 0


def _holds_bytes(kind: "pa.DataType") -> bool:
    import pyarrow as pa

    if pa.types.is_struct(kind):
        return any(field.name == "bytes" and _holds_bytes(field.type) for field in kind)
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _sample(batch: "pa.RecordBatch", index: int, row: int, column: str) -> Sample:
    import pyarrow as pa

    cell = batch.column(column)[index]
    if isinstance(cell, pa.StructScalar):
        cell = cell["bytes"] if cell.is_valid else None
    data = None if cell is None else cell.as_py()
    pictures = {} if data is None else {column: partial(bytes, data)}
    return Sample(str(row), pictures, pa.Table.from_batches([batch.slice(index, 1)]))


def _with_picture(row: "pa.Table", column: str, data: bytes | None, suffix: str) -> "pa.Table":
    import pyarrow as pa

    index = row.schema.get_field_index(column)
    field = row.schema.field(index)
    cell: Any = data
    if pa.types.is_struct(field.type) and data is not None:
        cell = {**row.column(index)[0].as_py(), "bytes": data}
        if cell.get("path"):
            cell["path"] = renamed(cell["path"], suffix)
    elif pa.types.is_struct(field.type):
        cell = None
    return row.set_column(index, field, [pa.array([cell], field.type)])


def _own_schema() -> "pa.Schema":
    """Return the schema of new rows, by which Hugging Face's datasets know that they hold pictures."""
    import pyarrow as pa

    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    about = {"info": {"features": {COLUMN: {"_type": "Image"}}}}
    return pa.schema([(COLUMN, kind)], metadata={"huggingface": json.dumps(about)})
