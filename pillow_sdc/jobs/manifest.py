"""The manifest: the result of each picture, in Parquet files in the target store; by these a run is resumed.

The folder is a dataset: ``pandas.read_parquet("TARGET/_manifest")`` reads it whole. Of several rows of one source the
last is the valid one.
"""

import io
import sys
import time
import uuid
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import PurePosixPath
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple, get_args, get_type_hints

from ..errors import CorruptFileError
from .storage.listing import MANIFEST

if TYPE_CHECKING:
    import pyarrow as pa

    from .storage.stores import Store

UNFINISHED = f"{MANIFEST}/_tmp"
"""The folder of files that are not yet whole."""
PENDING = f"{MANIFEST}/_pending"
"""The folder of rows of shards that are about to appear."""
OPTIONS = f"{MANIFEST}/_options"
"""The file of a run's options, there while it works or if it was cut off; then rows may be missing in the manifest."""

MAX_ROWS_UNWRITTEN, MAX_SECONDS_UNWRITTEN = 5_000, 60.0
"""The number of rows that are kept in memory, at most, and the seconds after which they are written."""


@dataclass(frozen=True)
class ManifestRow:
    """The result of one picture, or of a shard.

    Attributes:
        source: Where it was read: a file's path or URL, then, within a shard, ``::`` and its name there.
        output: Where it was written, below the target, and likewise; ``None`` if it failed. A shard has a row, too,
            with the new shard, or the folder of the files; and with an error if not all of it is there.
        width: The picture's width in pixels.
        height: The picture's height in pixels.
        source_bytes: The bytes of the file that was read.
        output_bytes: The bytes of the file that was written.
        bits_per_pixel: The bits of the SDC file for each pixel.
        codec: The name of the SDC file's codec.
        model: What encoded or decoded it; ``None`` if it was found done, or is an SDC file made from another.
        seconds: Its share of the time that its batch took; ``None`` if it was found done.
        error: What went wrong.
        finished: When, in seconds since 1970.
        remark: What of the picture was left out, since the new file cannot hold it; ``None`` if nothing was.
        options: Those that the file was made with, as for the command line, where they are not the defaults; ``None``
            if nobody knows, for it was there before.
    """

    source: str
    output: str | None = None
    width: int | None = None
    height: int | None = None
    source_bytes: int | None = None
    output_bytes: int | None = None
    bits_per_pixel: float | None = None
    codec: str | None = None
    model: str | None = None
    seconds: float | None = None
    error: str | None = None
    finished: float = 0.0
    remark: str | None = None
    options: str | None = None


class Account(NamedTuple):
    """What a manifest says, by sources.

    Attributes:
        done: Where each was written that is done.
        superseded: Where each was written that failed since, or of which not all is there.
        failed: Those that failed, or of which not all is there.
        options: With which options each was made, where that is known.
    """

    done: Mapping[str, str]
    superseded: Mapping[str, str]
    failed: Collection[str]
    options: Mapping[str, str] = MappingProxyType({})


class Manifest:
    """The manifest of a target store."""

    def __init__(self, store: "Store") -> None:
        self._store = store
        self._rows: list[ManifestRow] = []
        self._pending: list[str] = []
        self._written = time.monotonic()

    def account(self) -> Account:
        """Return what is done and what failed. An output belongs to the source that was written there last.

        Raises:
            OSError: The manifest is damaged or cannot be read.
        """
        import pyarrow as pa
        from pyarrow import parquet

        outputs: dict[str, str] = {}
        sources: dict[str, str] = {}
        failed: set[str] = set()
        options: dict[str, str] = {}
        for path in self._parts():
            try:
                with self._store.open(path) as file:
                    table = parquet.read_table(file, columns=["source", "output", "error", "options"])
            except pa.ArrowException as error:
                raise CorruptFileError(f"{self._store.url_of(path)} is damaged; remove it") from error
            for source, output, reason, made in zip(*(column.to_pylist() for column in table.columns), strict=True):
                if output is not None:
                    outputs[source] = output
                    sources[output] = source
                    options.pop(source, None)
                    if made is not None:
                        options[source] = sys.intern(made)
                if output is None or reason is not None:
                    failed.add(source)
                else:
                    failed.discard(source)
        done: dict[str, str] = {}
        superseded: dict[str, str] = {}
        for source, output in outputs.items():
            if sources[output] == source:
                (superseded if source in failed else done)[source] = output
        return Account(done, superseded, failed, options)

    def add(self, rows: Iterable[ManifestRow], shard: str | None = None) -> None:
        """Add rows, which are written before long; those of a new shard were kept beside it until then."""
        self._rows += rows
        if shard is not None:
            self._pending.append(pending_path(shard))
        if len(self._rows) >= MAX_ROWS_UNWRITTEN or time.monotonic() - self._written > MAX_SECONDS_UNWRITTEN:
            self.write()

    def write(self) -> None:
        """Write the rows that have not been.

        Raises:
            OSError: The store does not take them.
        """
        self._written = time.monotonic()
        if self._rows:
            path = f"{MANIFEST}/{time.time_ns():020}-{uuid.uuid4().hex[:8]}.parquet"
            self._store.write(path, as_parquet(self._rows), overwrite=False, through=UNFINISHED)
            self._rows = []
        for path in self._pending:
            self._store.remove(path)
        self._pending = []

    def options(self) -> str | None:
        """Return the options of the last run, if that was cut off, or of the one that is at work."""
        return self._store.read(OPTIONS).decode() if self._store.exists(OPTIONS) else None

    def begin(self, options: str) -> None:
        """Note the options of a run.

        Raises:
            OSError: The store does not take them.
        """
        self._store.write(OPTIONS, options.encode(), overwrite=True, through=UNFINISHED)

    def end(self) -> None:
        """Note that nothing of the run is missing in the manifest."""
        self._store.remove(OPTIONS)

    def recover(self) -> None:
        """Take over rows of shards that appeared just before a run was cut off, and remove what never became whole."""
        before = self.options()
        for entry in self._store.find(PENDING):
            rows = [replace(row, options=before) for row in read_rows(self._store.read(entry.path))]
            shard = PurePosixPath(entry.path).relative_to(PENDING).with_suffix("")
            if self._store.exists(str(shard)):
                self._rows += rows
        self.write()
        self._store.remove(PENDING)
        self._store.remove(UNFINISHED)

    def _parts(self) -> list[str]:
        paths = [entry.path for entry in self._store.find(MANIFEST)]
        return [path for path in paths if path.endswith(".parquet") and "/_" not in path]


def escaped(name: str) -> str:
    """Return a name, such as a file's, as it is in the manifest: with escapes for what UTF-8 cannot hold."""
    return name.encode("utf-8", "backslashreplace").decode()


def pending_rows(store: "Store", shard: str) -> Sequence[ManifestRow]:
    """Return the rows of a shard whose worker died before it returned them; none if there are none."""
    path = pending_path(shard)
    return read_rows(store.read(path)) if store.exists(path) else []


def pending_path(shard: str) -> str:
    """Return where the rows of a shard are until they are in the manifest."""
    return f"{PENDING}/{shard}.parquet"


def as_parquet(rows: Sequence[ManifestRow]) -> bytes:
    """Return rows as the bytes of a Parquet file; names and messages are in it as :func:`escaped` says."""
    import pyarrow as pa
    from pyarrow import parquet

    cells = [
        {name: escaped(cell) if isinstance(cell, str) else cell for name, cell in asdict(row).items()} for row in rows
    ]
    buffer = io.BytesIO()
    parquet.write_table(pa.Table.from_pylist(cells, _schema()), buffer)
    return buffer.getvalue()


def read_rows(data: bytes) -> list[ManifestRow]:
    """Return the rows that a Parquet file holds."""
    from pyarrow import parquet

    return [ManifestRow(**row) for row in parquet.read_table(io.BytesIO(data)).to_pylist()]


def _schema() -> "pa.Schema":
    import pyarrow as pa

    kinds: dict[Any, Any] = {int: pa.int64(), float: pa.float64(), str: pa.string()}
    return pa.schema(
        {name: kinds[next(iter(get_args(kind)), kind)] for name, kind in get_type_hints(ManifestRow).items()}
    )
